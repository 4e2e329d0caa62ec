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
    with pytest.raises(StorageError, match=r"cannot read .*: Is a directory\. Choose a file"):
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
