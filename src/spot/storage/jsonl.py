"""Append lines to a file, one record each, and read them back; a last line that a kill tore was never written."""

import os
from collections.abc import Sequence
from pathlib import Path

from spot.errors import StorageError
from spot.storage.files import cannot_write, write_all

_BLOCK = 65_536  # bytes that are read at a time in search of the last line's end


def append_lines(path: Path, lines: Sequence[bytes]) -> None:
    """Append lines, which are on the disk when this returns; a torn last line is cut off first.

    Args:
        path: the file, made where it is missing. Call this only under a lock.
        lines: each with its line end.

    Raises:
        StorageError: they cannot be written; the file ends with the line before.
    """
    content = b"".join(lines)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            end = _end_of_lines(descriptor)
            try:
                os.ftruncate(descriptor, end)
                write_all(descriptor, content)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(cannot_write(path, len(content), error)) from error


def read_lines(path: Path) -> list[bytes]:
    """All whole lines, without their line ends; a file that is not there has none.

    Raises:
        StorageError: the file cannot be read.
    """
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror or error}. Choose a file that you may read, or move this one away."
        ) from error


def _end_of_lines(descriptor: int) -> int:
    """Bytes up to the end of the last whole line."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        begin = max(0, end - _BLOCK)
        newline = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0
