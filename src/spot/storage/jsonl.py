"""Append lines to a file, one record each, and read them back; a last line that a kill tore was never written."""

import os
from collections.abc import Sequence
from pathlib import Path

from spot.errors import StorageError
from spot.storage.files import cannot_write, write_all, write_whole
from spot.storage.opening import open_descriptor, read_bounded

MOST_BYTES = 1_000_000_000  # of a whole file: a record of a transfer is some 300 to 10,000
_BLOCK = 65_536  # bytes that are read at a time in search of the last line's end


def append_lines(path: Path, lines: Sequence[bytes], inside: Path | None = None) -> None:
    """Append lines, which are on the disk when this returns; a torn last line is cut off first.

    Args:
        path: the file, made where it is missing. Call this only under a lock.
        lines: each with its line end.
        inside: the folder, maybe a stranger's, that the file belongs to: no link below it is followed.

    Raises:
        StorageError: they cannot be written, or the path is a link or no regular file; the file ends with the line
            before.
    """
    content = b"".join(lines)
    try:
        descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, inside)
        try:
            end = _end_of_lines(descriptor)
            if os.fstat(descriptor).st_nlink > 1:  # its other name may be a user's file: a copy takes the place of this
                write_whole(path, (read_bounded(path, MOST_BYTES, inside) or b"")[:end] + content, inside)
                return
            try:
                os.ftruncate(descriptor, end)
                write_all(descriptor, content)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise StorageError(cannot_write(path, len(content), error)) from error


def read_lines(path: Path, inside: Path | None = None, most_bytes: int = MOST_BYTES) -> list[bytes]:
    """All whole lines, without their line ends; a file that is not there has none.

    Args:
        path: the file.
        inside: the folder, maybe a stranger's, that the file belongs to: no link below it is followed.
        most_bytes: a larger file is refused before it is read.

    Raises:
        StorageError: the file cannot be read, or as `read_bounded`.
    """
    return (read_bounded(path, most_bytes, inside) or b"").split(b"\n")[:-1]


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
