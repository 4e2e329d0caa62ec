"""What fsspec reaches: memory, S3 on this machine, a web server on this machine."""

import functools
import http.server
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from spot.errors import MissingExtra, SharingError, Unreachable
from spot.remote.address import parse
from spot.remote.file_systems import FileSystemStore, file_system_store
from spot.remote.opening import open_store


class Files(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; some names have a status of their own."""

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if name == "silent":
            time.sleep(1)
            self.close_connection = True
        elif name in ("403", "500"):
            self.send_error(int(name))
        elif name in ("endless", "trickle"):
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * (100_000 if name == "endless" else 1))
                    time.sleep(0 if name == "endless" else 0.02)
            except OSError:
                self.close_connection = True
        else:
            super().do_GET()


@pytest.fixture
def web(tmp_path: Path, socket_enabled: None) -> Iterator[str]:
    """The address of a web server; its folder is `web`."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(Files, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def check_files(store: FileSystemStore) -> None:
    assert store.read("index.json", 10) is None and store.sizes("prompts") == {}
    store.write({"prompts/a.bin": b"abc", "prompts/b.bin": b"", "index.json": b"{}"}, "")
    assert store.read("prompts/a.bin", 3) == b"abc" and store.sizes("prompts") == {"a.bin": 3, "b.bin": 0}
    store.write({"prompts/a.bin": b"longer"}, "")
    assert store.read("prompts/a.bin", 10) == b"longer" and store.sizes("prompts") == {"a.bin": 6, "b.bin": 0}
    with pytest.raises(SharingError, match="holds more than the 5 bytes"):
        store.read("prompts/a.bin", 5)


def test_files_come_back_from_memory():
    check_files(file_system_store(parse(f"memory://{uuid.uuid4().hex}")))


def test_files_come_back_from_any_file_system_of_fsspec(tmp_path: Path):
    local = fsspec.filesystem("file", auto_mkdir=True)
    check_files(FileSystemStore(parse(f"file://{tmp_path}/x"), local))


@pytest.mark.enable_socket
def test_files_come_back_from_s3(bucket: str):
    check_files(file_system_store(parse(f"s3://{bucket}/team")))


@pytest.mark.enable_socket
def test_a_writer_sees_what_others_wrote_meanwhile(bucket: str):
    ours, theirs = (file_system_store(parse(f"s3://{bucket}/team")) for _ in range(2))
    assert ours.sizes("prompts") == {}
    theirs.write({"prompts/a.bin": b"abc"}, "")
    assert ours.sizes("prompts") == {"a.bin": 3}


@pytest.mark.enable_socket
def test_a_missing_bucket_is_said(bucket: str):
    store = open_store("s3://no-such-bucket/team")
    assert store.read("index.json", 10) is None
    with pytest.raises(SharingError, match=r"there is no bucket 'no-such-bucket'. Make it first"):
        store.write({"index.json": b"{}"}, "")


@pytest.mark.enable_socket
def test_an_s3_without_rights_or_credentials_is_said(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(SharingError, match=r"no right to write .*AWS_PROFILE"):
        open_store(f"s3://{bucket}/team").write({"a": b"b"}, "")


@pytest.mark.enable_socket
def test_a_web_server_is_read_and_never_written(web: str, tmp_path: Path):
    store = open_store(f"{web}/team")
    (tmp_path / "web" / "team").mkdir()
    (tmp_path / "web" / "team" / "index.json").write_bytes(b"{}")
    assert store.read("index.json", 10) == b"{}" and store.read("other", 10) is None
    assert store.sizes("manifests") is None
    with pytest.raises(SharingError, match=r"can only be read. Push to the store that stands behind it"):
        store.write({"a": b"b"}, "")


@pytest.mark.enable_socket
@pytest.mark.parametrize(
    ("name", "kind", "named"),
    [
        ("403", SharingError, "no right to read 403"),
        ("500", Unreachable, "cannot be reached"),
        ("silent", Unreachable, "cannot be reached"),
        ("endless", SharingError, "holds more than the 1,000 bytes"),
        ("trickle", Unreachable, "comes at less than 1,000 bytes a second"),
    ],
)
def test_answers_of_a_web_server_are_said(
    web: str, name: str, kind: type[Exception], named: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spot.remote.file_systems._PATIENCE", 0.3)
    with pytest.raises(kind, match=named):
        open_store(f"{web}/team").read(name, 1000)


@pytest.mark.enable_socket
def test_a_web_server_that_is_gone_is_unreachable():
    with pytest.raises(Unreachable, match=r"cannot be reached to read index.json"):
        open_store("http://127.0.0.1:9/team").read("index.json", 10)


@pytest.mark.parametrize(
    ("address", "lacks", "line"),
    [
        ("s3://bucket/x", "s3fs", r"s3:// needs s3fs.*pip install 'spot-transfer\[remote\]'"),
        ("gs://bucket/x", "gcsfs", r"gs:// needs gcsfs.*pip install gcsfs"),
        ("memory://x", "fsspec", r"memory:// needs fsspec.*spot-transfer\[remote\]"),
        ("https://host/x", "aiohttp", r"https:// needs aiohttp.*spot-transfer\[remote\]"),
        ("hf://team/x", "huggingface_hub", r"hf:// needs huggingface_hub.*spot-transfer\[remote\]"),
    ],
)
def test_a_missing_package_is_said(address: str, lacks: str, line: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, lacks, None)
    with pytest.raises(MissingExtra, match=line):
        open_store(address)
