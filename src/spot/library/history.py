"""The record of past transfers: one JSON object a line, only ever appended to."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spot.errors import LibraryError, StorageError
from spot.storage.files import cannot_write, write_all


def line_of(record: Mapping[str, Any]) -> bytes:
    """One transfer as a line of the journal.

    Args:
        record: JSON values; at least `source`, `target` (names or digests) and `gain` (points over plain tuning);
            an `id` keeps it from being recorded twice.

    Raises:
        LibraryError: the record lacks one of the three, or is not JSON.
    """
    gain = record.get("gain")
    named = all(isinstance(record.get(name), str) for name in ("source", "target"))
    if not named or isinstance(gain, bool) or not isinstance(gain, int | float) or not math.isfinite(gain):
        raise LibraryError(
            f"a transfer is recorded with `source` and `target` (text) and `gain` (a number); found {dict(record)}"
        )
    try:
        return json.dumps(dict(record), sort_keys=True, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise LibraryError(f"the transfer {dict(record)} cannot be written as JSON: {error}.") from error


def append(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Append lines, which are on the disk when this returns; a torn last line is cut off first.

    Of records with one `id` the first is kept, be it there already. Call it only under a lock.

    Raises:
        LibraryError: a record is none, or a line that is there.
        StorageError: they cannot be written; the lines before are intact.
    """
    lines = [line_of(record) for record in records]
    known = {record["id"] for record in read(path) if "id" in record} if any("id" in one for one in records) else set()
    fresh = []
    for record, line in zip(records, lines, strict=True):
        if "id" not in record or record["id"] not in known:
            fresh.append(line)
            known.add(record.get("id"))
    content = b"".join(fresh)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            whole = path.read_bytes().rfind(b"\n") + 1  # bytes up to the end of the last whole line
            try:
                os.ftruncate(descriptor, whole)
                write_all(descriptor, content)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, whole)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(cannot_write(path, len(content), error)) from error


def read(path: Path) -> list[dict[str, Any]]:
    """All records, oldest first; a last line that a kill tore is left out, and no file is no records.

    Raises:
        LibraryError: a line is no record, or the file cannot be read.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LibraryError(f"cannot read {path}: {error.strerror or error}.") from error
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    return [_record(line, f"{path}: line {number}") for number, line in enumerate(lines, start=1)]


def _record(line: bytes, origin: str) -> dict[str, Any]:
    """One recorded transfer."""
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError("it is no JSON object")
    except ValueError as error:
        raise LibraryError(f"{origin} is no record of a transfer ({error}). Mend or delete the line.") from error
    return record
