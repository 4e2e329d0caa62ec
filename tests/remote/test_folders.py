"""A shared folder: whole files, no links, nothing that blocks."""

import os
from pathlib import Path

import pytest

from spot.errors import SharingError, StorageError
from spot.remote.address import Address
from spot.remote.folders import FolderStore


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(Address("file", str(tmp_path / "shared")))


def test_files_come_back_and_are_listed_with_their_sizes(store: FolderStore, tmp_path: Path):
    assert store.read("index.json", 10) is None and store.sizes("prompts") == {}
    store.write({"prompts/a.bin": b"abc", "index.json": b"{}"}, "")
    (tmp_path / "shared" / "prompts" / "folder").mkdir()
    (tmp_path / "shared" / "prompts" / "link").symlink_to("a.bin")
    assert store.read("prompts/a.bin", 3) == b"abc" and store.sizes("prompts") == {"a.bin": 3}


def test_a_larger_file_is_refused_before_it_is_read(store: FolderStore, tmp_path: Path):
    store.write({"index.json": b""}, "")
    os.truncate(tmp_path / "shared" / "index.json", 60_000_000_000)
    with pytest.raises(SharingError, match="expected at most 10"):
        store.read("index.json", 10)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "linked folder"])
def test_what_is_no_regular_file_of_this_folder_is_refused(kind: str, store: FolderStore, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.bin").write_bytes(b"secret")
    folder = tmp_path / "shared"
    (folder / "prompts").mkdir(parents=True)
    path = folder / "prompts" / "a.bin"
    if kind == "link":
        path.symlink_to(outside / "a.bin")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        (folder / "prompts").rmdir()
        (folder / "prompts").symlink_to(outside)
        with pytest.raises(SharingError, match="is a link"):
            store.sizes("prompts")
        with pytest.raises(StorageError, match="is a link"):
            store.write({"prompts/a.bin": b"new"}, "")
        assert (outside / "a.bin").read_bytes() == b"secret"
    with pytest.raises(SharingError, match=r"file://.*: cannot read|is a link|it is a"):
        store.read("prompts/a.bin", 100)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_folder_without_rights_is_said(store: FolderStore, tmp_path: Path):
    store.write({"prompts/a.bin": b"abc"}, "")
    (tmp_path / "shared" / "prompts").chmod(0)
    for act in (lambda: store.read("prompts/a.bin", 9), lambda: store.sizes("prompts")):
        with pytest.raises(SharingError, match="Permission denied"):
            act()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        FolderStore(Address("file", str(tmp_path / "file" / "shared"))).write({"a": b"b"}, "")
