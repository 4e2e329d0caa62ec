"""A repository of the hub, which a stand-in on this machine keeps."""

from pathlib import Path

import pytest

from spot.errors import NotShared, SharingError, Unreachable
from spot.remote.address import parse
from spot.remote.hub import client, commit, download, hub_store, make_repository
from spot.remote.opening import open_store
from spot.remote.store import Raced
from tests.support import hub_server
from tests.support.shared_places import on_hub

ADDRESS = parse("hf://team/prompts")


@on_hub
def test_files_come_back_and_are_listed_with_their_sizes(hub):
    store = open_store("hf://team/prompts", make=True)
    assert store.read("index.json", 10) is None and store.sizes("prompts") == {}
    files = {f"prompts/{number}.safetensors": b"x" * number for number in range(1, 8)}
    store.write({**files, "index.json": b"{}"}, "Add some")
    again = open_store("hf://team/prompts")
    assert again.sizes("prompts") == {f"{number}.safetensors": number for number in range(1, 8)}
    assert again.read("prompts/5.safetensors", 5) == b"xxxxx"
    assert hub.repositories["team/prompts"].messages == ["initial commit", "Add some"]
    with pytest.raises(SharingError, match="holds more than the 4 bytes"):
        again.read("prompts/5.safetensors", 4)


@on_hub
def test_a_store_stays_at_the_commit_that_it_was_opened_at(hub):
    store = open_store("hf://team/prompts", make=True)
    before = open_store("hf://team/prompts")
    store.write({"index.json": b"new"}, "One")
    assert before.read("index.json", 10) is None
    assert open_store(f"hf://team/prompts@{before.head}").read("index.json", 10) is None
    with pytest.raises(Raced):
        before.write({"index.json": b"other"}, "Two")
    assert open_store("hf://team/prompts").read("index.json", 10) == b"new"


@on_hub
def test_many_files_go_in_several_commits_that_follow_each_other(hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spot.remote.hub._BATCH", 2)
    store = open_store("hf://team/prompts", make=True)
    store.write({f"{number}.txt": b"x" for number in range(5)}, "Some")
    assert len(hub.repositories["team/prompts"].commits) == 4
    assert len(open_store("hf://team/prompts").sizes("x")) == 0


@on_hub
def test_who_may_not_is_told_what_to_do(hub, monkeypatch: pytest.MonkeyPatch):
    open_store("hf://team/prompts", make=True, private=True)
    monkeypatch.setenv("HF_TOKEN", hub_server.READER)
    store = open_store("hf://team/prompts")
    with pytest.raises(SharingError, match=r"no right to write to the repository .*hf auth login"):
        store.write({"a": b"b"}, "x")
    with pytest.raises(SharingError, match=r"no right to make the repository .*hf auth login"):
        open_store("hf://other/prompts", make=True)
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    with pytest.raises(NotShared, match=r"no such repository, or it is private .*HF_TOKEN"):
        open_store("hf://team/prompts")


@on_hub
def test_what_is_not_there_is_said(hub):
    with pytest.raises(NotShared, match="no such repository"):
        open_store("hf://team/prompts")
    open_store("hf://team/prompts", make=True)
    with pytest.raises(SharingError, match=r"has no revision 'v9'. Name a branch, a tag or a commit"):
        open_store("hf://team/prompts@v9")
    hub.gated = True
    with pytest.raises(SharingError, match="lets in whoever asks on its page first"):
        open_store("hf://team/prompts")


@on_hub
def test_a_hub_that_fails_or_is_gone_is_unreachable(hub, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    hub.status = 500
    with pytest.raises(Unreachable, match="cannot be reached to open the repository"):
        open_store("hf://team/prompts")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="cannot be reached to open the repository"):
        open_store("hf://team/prompts")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Unreachable, match="offline mode is enabled"):
        open_store("hf://team/prompts")


@on_hub
def test_a_file_is_downloaded_into_the_hubs_cache(hub, tmp_path: Path):
    api = client(ADDRESS)
    make_repository(api, ADDRESS, None)
    oid = commit(api, ADDRESS, {"a.txt": b"abc"}, "x")
    path = download(api, ADDRESS, "a.txt", local_only=False)
    assert path is not None and path.read_bytes() == b"abc" and path.is_relative_to(tmp_path / "hub-cache")
    assert download(api, ADDRESS, "b.txt", local_only=False) is None
    asked = len(hub.asked)
    assert download(api, ADDRESS, "a.txt", local_only=True) == path and len(hub.asked) == asked
    assert hub_store(ADDRESS, api).head == oid
    with pytest.raises(Unreachable):
        download(api, parse("hf://team/other"), "a.txt", local_only=True)
