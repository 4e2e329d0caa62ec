"""Places for shared libraries on this machine: fixtures that the tests of several rooms import."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import hub_server

# What huggingface_hub itself does where hf_xet is not installed.
_IGNORED = "ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning"
_HUB_MARKS = (pytest.mark.enable_socket, pytest.mark.filterwarnings(_IGNORED))
KINDS = ("file", "memory", pytest.param("s3", marks=pytest.mark.enable_socket), pytest.param("hf", marks=_HUB_MARKS))


def on_hub(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that talks to the hub on this machine."""
    for mark in _HUB_MARKS:
        test = mark(test)
    return test


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, socket_enabled: None) -> Iterator[hub_server.Hub]:
    """A hub on this machine, whose client is logged in as somebody who may write."""
    from huggingface_hub import constants

    with hub_server.serve() as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        pattern = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", pattern)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setenv("HF_TOKEN", hub_server.WRITER)
        yield server
        import huggingface_hub.utils

        huggingface_hub.utils.close_session()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, socket_enabled: None) -> Iterator[str]:
    """The name of an empty bucket of S3 on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import s3fs

    name = f"bucket-{uuid.uuid4().hex}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
    yield name
    server.stop()


@pytest.fixture
def place_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """A function from a kind of place to the address of an empty one."""

    def make(kind: str) -> str:
        if kind == "s3":
            return f"s3://{request.getfixturevalue('bucket')}/team/prompts"
        if kind == "hf":
            request.getfixturevalue("hub")
            return "hf://team/prompts"
        return f"memory://{uuid.uuid4().hex}/prompts" if kind == "memory" else f"file://{tmp_path}/shared"

    return make
