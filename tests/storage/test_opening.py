"""Files that a stranger may have put there: what is no regular file, too large, or behind a link is refused at once."""

import os
import socket
from pathlib import Path

import pytest

from spot.errors import StorageError
from spot.storage.opening import exists, open_descriptor, open_folder, read_bounded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stranger's folder beside a file of the user's."""
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "file").write_bytes(b"precious")
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "file").write_bytes(b"theirs")
    return tmp_path / "folder"


def test_a_regular_file_is_read(folder: Path):
    for inside in (None, folder, folder / "below", folder.parent):
        assert read_bounded(folder / "below" / "file", 6, inside) == b"theirs"
        assert read_bounded(folder / "below" / "none", 6, inside) is None
    assert read_bounded(folder / "none" / "none", 6, folder) is None


def test_size_is_looked_at_before_anything_is_read(folder: Path):
    """F8: a sparse file of 60 GB costs nothing."""
    with (folder / "large").open("wb") as file:
        file.truncate(60_000_000_000)
    with pytest.raises(StorageError, match=r"large holds 60,000,000,000 bytes or more; expected at most 1,000"):
        read_bounded(folder / "large", 1_000)
    with pytest.raises(StorageError, match=r"holds 6 bytes or more; expected at most 5"):
        read_bounded(folder / "below" / "file", 5)


def test_a_file_that_claims_no_size_is_bounded_too():
    """Files of /proc have size 0 and content."""
    assert read_bounded("/proc/self/stat", 100_000)
    with pytest.raises(StorageError, match="holds 6 bytes or more; expected at most 5"):
        read_bounded("/proc/self/stat", 5)


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "named"])
@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a folder", "a device"])
def test_what_is_no_regular_file_is_refused_at_once(folder: Path, kind: str, inside: bool):
    """F8: none of these is waited for."""
    path, root = folder / "odd", folder if inside else None
    match kind:
        case "a FIFO":
            os.mkfifo(path)
        case "a socket":
            with socket.socket(socket.AF_UNIX) as server:
                os.chdir(folder)
                server.bind("odd")
        case "a folder":
            path.mkdir()
        case _:
            path, root = Path("/dev/zero"), Path("/dev") if inside else None
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT):
        with pytest.raises(StorageError, match=f"{path.name}: it is {kind}, expected a regular file"):
            os.close(open_descriptor(path, flags, root))
    with pytest.raises(StorageError, match=f"{path.name}: it is {kind}, expected a regular file"):
        read_bounded(path, 100, root)


@pytest.mark.parametrize("target", ["precious", "none", "folder/below/file", "folder/link"])
def test_a_link_inside_is_refused_wherever_it_leads(folder: Path, target: str):
    """F3: out of the folder, nowhere, within it, to itself."""
    (folder / "link").symlink_to(folder.parent / target)
    for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT):
        with pytest.raises(StorageError, match=r"folder/link is a link, .*Put the file or folder itself there"):
            os.close(open_descriptor(folder / "link", flags, folder))
    assert (folder.parent / "precious").read_bytes() == b"precious"
    assert not (folder.parent / "none").exists()


@pytest.mark.parametrize("target", ["home", "none", "folder/below", "precious"])
def test_a_folder_inside_that_is_a_link_is_refused(folder: Path, target: str):
    (folder / "link").symlink_to(folder.parent / target)
    for path in (folder / "link" / "file", folder / "link" / "deeper" / "file"):
        with pytest.raises(StorageError, match=r"folder/link is a link"):
            read_bounded(path, 100, folder)
        with pytest.raises(StorageError, match=r"folder/link is a link"):
            os.close(open_folder(path.parent, folder, make=True))
    assert not (folder.parent / "none").exists()
    assert sorted(path.name for path in (folder.parent / "home").iterdir()) == ["file"]


def test_the_way_to_a_folder_may_hold_links(folder: Path):
    """A user's own ~/data -> /mnt/data, and a library that is itself reached by a link."""
    (folder.parent / "data").symlink_to(folder.parent)
    (folder.parent / "library").symlink_to(folder)
    for root in (folder.parent / "data" / "folder", folder.parent / "library"):
        assert read_bounded(root / "below" / "file", 6, root) == b"theirs"
    (folder / "link").symlink_to("below/file")
    assert read_bounded(folder / "link", 6) == b"theirs"  # its user named it


def test_relative_paths_and_the_folder_itself(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    for inside in (".", ""):
        assert read_bounded("below/file", 6, inside) == b"theirs"
    os.close(open_folder(folder, folder))
    with pytest.raises(AssertionError):
        open_folder(folder / "below" / ".." / ".." / "home", folder)


@pytest.mark.parametrize("name", ["x" * 256, "\0", "\ud800", "below/file/deeper"])
def test_impossible_names_are_refused(folder: Path, name: str):
    """F20: whatever the system refuses is a message."""
    for inside in (None, folder):
        with pytest.raises(StorageError, match="cannot read"):
            read_bounded(folder / name, 100, inside)


def test_whether_a_path_leads_to_something(folder: Path):
    """F20: `Path.exists` raises where a name is too long."""
    assert exists(folder) and exists(folder / "below" / "file")
    assert not exists(folder / "none") and not exists(folder / "below" / "file" / "deeper")
    for name in ("x" * 256, "y/" * 3_000, "\0"):
        with pytest.raises(StorageError, match="cannot read"):
            exists(folder / name)
