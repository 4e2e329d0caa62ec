"""Record past transfers and read them back: one JSON object a line, only ever appended to.

A library keeps its own history, `transfers.jsonl`. What comes from a library that cannot be written, such as the one
that ships, is kept in the user's cache, `experience.jsonl`: records name sources by their digests, so that one file
serves all libraries.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, with_config

from spot.errors import LibraryError, StorageError
from spot.library.entries import Entry
from spot.prompts.prompt import Count
from spot.storage.files import cache_dir, write_whole
from spot.storage.jsonl import append_lines, read_lines
from spot.storage.values import STRICT, read_value

Name = Annotated[str, Field(max_length=10_000)]  # letters; a record is a line among thousands
Points = Annotated[float, Field(ge=-1000, le=1000)]  # between two scores in percent, some of which may be negative
_LONGEST = 4_000_000  # bytes of a record: two summaries of a width of 100,000 take a fourth of it


def encode_summary(row: np.ndarray) -> str:
    """A summary [D] as records hold it: float32, little-endian, in base64."""
    return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode()


def decode_summary(text: str) -> np.ndarray:
    """A summary [D] from a record, float32.

    Raises:
        ValueError: it is none.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4")


def _finite_summary(text: str) -> str:
    """Refuse what is no summary, or one with NaN or infinity in it."""
    try:
        row = decode_summary(text)
    except ValueError as error:
        raise ValueError(f"should be float32 numbers in base64 ({error})") from error
    if row.size and not row.any():
        raise ValueError("should be float32 numbers in base64 that are not all zero")
    if not (row.size and np.isfinite(row).all()):
        raise ValueError(f"should be finite float32 numbers in base64; {np.isfinite(row).sum()} of {row.size} are")
    return text


@with_config(STRICT)
@dataclass(frozen=True)
class TransferRecord:
    """What one source came to on one target; it rests on selection rows alone, and so may lead to later choices.

    Attributes:
        source: digest of the prompt.
        target: name of the task.
        gain: over plain tuning, points on selection rows, mean over the seeds.
        id: digest of all that decides the gain; records with one id count once.
        source_task: that the prompt was tuned for.
        steps: optimiser steps on the target.
        rows: train rows of the target.
        seeds: runs that the gain is the mean of.
        embedding: similarity -> summary of the target's task embedding, see `encode_summary`. It may stand in one of a
            target's records for all of them.
    """

    source: Name
    target: Name
    gain: Points
    id: Name | None = None
    source_task: Name | None = None
    steps: Count | None = None
    rows: Count | None = None
    seeds: Count | None = None
    embedding: Mapping[str, Annotated[str, AfterValidator(_finite_summary)]] | None = None


def line_of(record: TransferRecord) -> bytes:
    """A record as a line of the history, without the fields that it lacks; equal records give equal bytes.

    Raises:
        LibraryError: naming each field that holds something else than it should.
    """
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    values = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    place = f"the transfer from {record.source!r} to {record.target!r} cannot be recorded"
    try:
        text = json.dumps({name: value for name, value in values.items() if value is not None}, sort_keys=True)
    except TypeError as error:
        raise LibraryError(f"{place}: {error}.") from error
    read_value(TransferRecord, text, place, LibraryError, most_bytes=_LONGEST)
    return f"{text}\n".encode()


def append(path: Path, records: Sequence[TransferRecord], inside: Path | None = None) -> None:
    """Append records, which are on the disk when this returns; a torn last line is cut off first.

    Of records with one `id` the first is kept, be it there already. Call it only under a lock.

    Args:
        path: the history of a library, or that of the user.
        records: what to append.
        inside: the library, which may be a stranger's: no link in it is followed.

    Raises:
        LibraryError: a record cannot be written, or a line that is there is none.
        StorageError: they cannot be written; the lines before are intact.
    """
    lines = [line_of(record) for record in records]
    ids = {record.id for record in read(path, inside=inside)}
    fresh = []
    for record, line in zip(records, lines, strict=True):
        if record.id is None or record.id not in ids:
            fresh.append(line)
            ids.add(record.id)
    append_lines(path, fresh, inside)


def read(path: Path, entries: Sequence[Entry] = (), inside: Path | None = None) -> list[TransferRecord]:
    """All records, oldest first; a last line that a kill tore is left out, and no file is no records.

    Args:
        path: the history of a library, or that of the user.
        entries: prompts of a library; the summaries in records of them must have the width of their backbone.
        inside: the library, which may be a stranger's: no link in it is followed.

    Raises:
        LibraryError: the file cannot be read, or naming the first line that is no record and each field that is wrong.
    """
    widths = _widths(entries)
    return [_record(line, place, widths) for place, line in _lines(path, inside)]


def parse(content: bytes, place: str) -> tuple[list[TransferRecord], list[str]]:
    """The records in the content of a history, and what is wrong with its other lines.

    Args:
        content: lines, from anywhere.
        place: where they come from, for messages.
    """
    records, wrong = [], []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(_record(line, f"{place}: line {number}", {}))
        except LibraryError as error:
            wrong.append(str(error))
    return records, wrong


def rename_sources(path: Path, renamed: Mapping[str, str], inside: Path | None = None) -> None:
    """Give records the new digests of prompts that were written anew. Call it only under a lock.

    Raises:
        LibraryError: a line is no record.
        StorageError: the file cannot be written; it is as before.
    """
    records = read(path, inside=inside) if renamed else []
    if any(record.source in renamed for record in records):
        moved = [replace(record, source=renamed.get(record.source, record.source)) for record in records]
        write_whole(path, b"".join(map(line_of, moved)), inside)


def problems(path: Path, entries: Sequence[Entry] = (), inside: Path | None = None) -> list[str]:
    """Why `read` refuses the file, one problem a line of it; none where it does not."""
    widths, messages = _widths(entries), []
    try:
        lines = _lines(path, inside)
    except LibraryError as error:
        return [str(error)]
    for place, line in lines:
        try:
            _record(line, place, widths)
        except LibraryError as error:
            messages.append(str(error))
    return messages


def user_history() -> Path:
    """The file for what libraries that cannot be written do not keep themselves."""
    return cache_dir() / "experience.jsonl"


def _widths(entries: Sequence[Entry]) -> dict[str, int]:
    """The width of each prompt's backbone, by digest."""
    return {entry.digest: entry.backbone.width for entry in entries}


def _lines(path: Path, inside: Path | None) -> Iterator[tuple[str, bytes]]:
    """Each line and where it stands, for messages.

    Raises:
        LibraryError: the file cannot be read.
    """
    try:
        lines = read_lines(path, inside)
    except StorageError as error:
        raise LibraryError(str(error)) from error
    return ((f"{path}: line {number}", line) for number, line in enumerate(lines, start=1))


def _record(line: bytes, place: str, widths: Mapping[str, int]) -> TransferRecord:
    """One line of a history."""
    try:
        what = f"{place} is no record of a transfer"
        record = read_value(TransferRecord, line, what, LibraryError, most_bytes=_LONGEST)
    except LibraryError as error:
        raise LibraryError(f"{error} Mend or delete the line.") from error
    for name, text in (record.embedding or {}).items():
        width = len(decode_summary(text))
        if width != (expected := widths.get(record.source, width)):
            raise LibraryError(
                f"{place} is no record of a transfer: the field 'embedding.{name}' holds {width} numbers, and the "
                f"backbone of the source {record.source} has width {expected}; expected that many. Mend or delete the "
                "line."
            )
    return record
