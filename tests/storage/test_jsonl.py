"""Lines that are appended: on the disk or not there, and never torn."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.errors import StorageError
from spot.storage import jsonl
from spot.storage.jsonl import append_lines, read_lines

contents = st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b" ")), max_size=5)


@given(contents, contents, st.binary(max_size=9).map(lambda rest: rest.replace(b"\n", b" ")), st.integers(1, 9))
def test_lines_are_read_as_they_were_appended(tmp_path_factory, first, second, torn, block):
    path = tmp_path_factory.mktemp("jsonl") / "lines"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "_BLOCK", block)
        append_lines(path, [line + b"\n" for line in first])
        path.write_bytes(path.read_bytes() + torn)
        assert read_lines(path) == first
        append_lines(path, [line + b"\n" for line in second])
    assert read_lines(path) == [*first, *second]
    assert path.read_bytes() == b"".join(line + b"\n" for line in (*first, *second))


def test_no_file_is_no_lines(tmp_path: Path):
    assert read_lines(tmp_path / "lines") == []
    with pytest.raises(StorageError, match=r"cannot read .*: it is a folder, expected a regular file\. Choose a file"):
        read_lines(tmp_path)
    with pytest.raises(StorageError, match=r"cannot write .*No such file or directory"):
        append_lines(tmp_path / "none" / "lines", [b"a\n"])


def test_a_full_disk_takes_back_what_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, write = tmp_path / "lines", os.write
    append_lines(path, [b"first\n"])

    def nearly_full(descriptor: int, data: bytes) -> int:
        if len(data) < 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, bytes(data[:5]))

    monkeypatch.setattr(os, "write", nearly_full)
    with pytest.raises(StorageError, match=r"cannot write .*lines \(8 bytes\): No space left on device"):
        append_lines(path, [b"second \n"])
    assert path.read_bytes() == b"first\n"


def test_lines_are_not_appended_through_a_link(tmp_path: Path):
    """F3: a journal in a stranger's folder that is a link to a file of the user."""
    precious, folder = tmp_path / "precious", tmp_path / "folder"
    precious.write_bytes(b"a torn line")
    folder.mkdir()
    (folder / "lines").symlink_to(precious)
    with pytest.raises(StorageError, match=r"lines is a link"):
        append_lines(folder / "lines", [b"a\n"], inside=folder)
    with pytest.raises(StorageError, match=r"lines is a link"):
        read_lines(folder / "lines", inside=folder)
    assert precious.read_bytes() == b"a torn line"


def test_a_fifo_is_no_file_of_lines(tmp_path: Path):
    """F8: neither reading nor appending waits for the other end."""
    os.mkfifo(tmp_path / "lines")
    with pytest.raises(StorageError, match="a FIFO, expected a regular file"):
        read_lines(tmp_path / "lines")
    with pytest.raises(StorageError, match="a FIFO, expected a regular file"):
        append_lines(tmp_path / "lines", [b"a\n"])


def test_a_file_of_lines_has_a_bound(tmp_path: Path):
    with (tmp_path / "lines").open("wb") as file:
        file.truncate(60_000_000_000)
    with pytest.raises(StorageError, match="holds 60,000,000,000 bytes"):
        read_lines(tmp_path / "lines")


def test_another_name_of_the_file_keeps_what_it_holds(tmp_path: Path):
    """Of the kind of F3: a journal that is a hard link to a file of the user, whose last line has no end."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"first\na torn line")
    (tmp_path / "lines").hardlink_to(precious)
    append_lines(tmp_path / "lines", [b"new\n"], inside=tmp_path)
    append_lines(tmp_path / "lines", [b"newer\n"], inside=tmp_path)
    assert read_lines(tmp_path / "lines") == [b"first", b"new", b"newer"]
    assert precious.read_bytes() == b"first\na torn line"
