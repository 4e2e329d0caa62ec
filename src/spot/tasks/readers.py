"""Files of rows: JSON lines, CSV, TSV and Arrow, read as streams, with the row's number in every message."""

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from spot.errors import TaskError

ROW_FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".arrow", ".feather", ".ipc")

Rows = Iterator[tuple[int, dict[str, Any]]]

_ENOUGH = 10  # names listed in full in a message
_LINE_END = re.compile(r"\r?\n")  # form feeds, U+2028 and the like stand inside a text
_SURROGATE = re.compile("[\ud800-\udfff]")


def some(names: Iterable[object]) -> str:
    """The first ten names for a message, quoted, and how many more there are."""
    shown = [repr(name) for name in names]
    more = f" and {len(shown) - _ENOUGH} more" if len(shown) > _ENOUGH else ""
    return ", ".join(shown[:_ENOUGH]) + more


def json_rows(path: Path, encoding: str = "utf-8") -> Rows:
    """Stream the rows of a JSON-lines file; blank lines are passed over.

    Args:
        path: the file, `.gz` or plain.
        encoding: of its text.

    Yields:
        The line number from 1 and the row.

    Raises:
        TaskError: the file is missing, empty, damaged or in another encoding, or a line holds no JSON object.
    """
    is_empty = True
    with open_text(path, encoding) as lines:
        for number, line in enumerate(lines, start=1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                message = f"{path}, line {number}: not JSON ({error}); expected one JSON object a line."
                raise TaskError(message) from error
            if not isinstance(row, dict):
                raise TaskError(f"{path}, line {number}: found {line.strip()[:40]!r}, expected a JSON object.")
            is_empty = False
            yield number, row
    if is_empty:
        raise TaskError(f"{path} is empty: expected one JSON object a line. Give a file that holds rows.")


def read_rows(path: Path, encoding: str = "utf-8", quotes: bool = True, kind: str = "") -> Rows:
    """Stream the rows of a file in the format that its name ends in.

    Args:
        path: the file.
        encoding: of its text.
        quotes: whether a quotation mark encloses cells of CSV and TSV, or is text like any other.
        kind: one of `ROW_FORMATS`, where the name does not say it.

    Yields:
        The row's number from 1, the header not counted (the line number in JSON lines), and its columns.

    Raises:
        TaskError: the file is missing, empty, damaged, in another encoding or in no known format.
    """
    kind = kind or row_format(path)
    if kind in (".jsonl", ".ndjson"):
        return json_rows(path, encoding)
    if kind == ".json":
        return _array_rows(path, encoding)
    if kind in (".csv", ".tsv"):
        return _table_rows(path, encoding, "," if kind == ".csv" else "\t", quotes)
    if kind in ROW_FORMATS and path.suffix.lower() != ".gz":
        return _arrow_rows(path)
    raise TaskError(f"{path}: no known format of rows; expected {', '.join(ROW_FORMATS)} (texts also with .gz).")


def text_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """The lines of a plain text with their numbers.

    Raises:
        TaskError: the file is missing, damaged or in another encoding.
    """
    with open_text(path, encoding) as stream:
        lines = _LINE_END.split(stream.read())
    if not lines[-1]:
        lines.pop()
    yield from enumerate(lines, start=1)


def is_utf8(path: Path) -> bool:
    """Whether a file is UTF-8 text to its end, `.gz` or plain; one that cannot be read is taken for it."""
    try:
        with open_text(path) as text:
            while text.read(1 << 20):
                pass
    except TaskError as error:
        return not isinstance(error.__cause__, UnicodeError)
    return True


def row_format(path: Path) -> str:
    """The last part of a file's name, such as `.csv`, without `.gz`."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def text_field(row: Mapping[str, Any], field: str, place: str) -> str:
    """One text of a row.

    Args:
        row: field names and values.
        field: the name wanted.
        place: the file and the row, for messages.

    Raises:
        TaskError: the field is missing, holds something else than text, or half a surrogate pair.
    """
    if field not in row:
        raise TaskError(f"{place} has no field {field!r}; it has {some(row)}.")
    value = row[field]
    if not isinstance(value, str):
        raise TaskError(f"{place}: field {field!r} holds {value!r:.60}, expected text. Mend the row or leave it out.")
    if _SURROGATE.search(value):
        raise TaskError(f"{place}: field {field!r} holds half a surrogate pair, which is no text. Mend the row.")
    return value


@contextmanager
def open_text(path: Path, encoding: str = "utf-8") -> Iterator[TextIO]:
    r"""Open rows for reading, `.gz` or plain, line ends as they are; a byte-order mark is passed over.

    Yields:
        The stream of text.

    Raises:
        TaskError: the file cannot be read, is damaged or is not in this encoding.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as binary:
            codec = "utf-8-sig" if encoding == "utf-8" else encoding
            with io.TextIOWrapper(binary, codec, newline="") as text:
                yield text
    except UnicodeError as error:
        raise TaskError(_not_in_encoding(path, encoding)) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TaskError(f"{path} is damaged: {error}. It ends in .gz; make or fetch the file again.") from error
    except OSError as error:
        raise TaskError(cannot_read(path, error)) from error


def cannot_read(path: Path, error: OSError) -> str:
    """The message for a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist: expected a file with rows. Check the path."
    return f"cannot read {path}: {error.strerror or error}. Give a file that you may read."


def _array_rows(path: Path, encoding: str) -> Rows:
    """The rows of a JSON array of objects, or of JSON lines under the name `.json`."""
    with open_text(path, encoding) as stream:
        text = stream.read()
    if text.lstrip().startswith("{"):
        yield from json_rows(path, encoding)
        return
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{path} is not JSON ({error}); expected an array of objects, or one object a line.") from error
    if not isinstance(rows, list) or not rows:
        raise TaskError(f"{path} holds {text.strip()[:40]!r}; expected an array of objects, or one object a line.")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise TaskError(f"{path}, row {number}: found {row!r:.40}, expected a JSON object.")
        yield number, row


def _table_rows(path: Path, encoding: str, delimiter: str, quotes: bool) -> Rows:
    """Stream CSV or TSV under a header; blank lines are passed over."""
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    with open_text(path, encoding) as lines:
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            records = filter(None, reader)
            header = next(records, None)
            if header is None:
                raise TaskError(f"{path} is empty: expected a header and rows. Give a file that holds rows.")
            _check_header(path, header)
            for number, cells in enumerate(records, start=1):
                if len(cells) != len(header):
                    raise TaskError(
                        f"{path}, row {number} (line {reader.line_num}): found {len(cells)} cells, the header has "
                        f"{len(header)}. Mend the row; a cell that holds a {'comma' if delimiter == ',' else 'tab'} "
                        "needs quotation marks around it."
                    )
                yield number, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise TaskError(
                f"{path}, line {reader.line_num}: {error}. A quotation mark inside a quoted cell is written twice; "
                "where marks are plain text, write quotes = false in the task file."
            ) from error


def _arrow_rows(path: Path) -> Rows:
    """Stream an Arrow IPC file or stream, a batch at a time."""
    import pyarrow

    try:
        if not path.stat().st_size:
            raise TaskError(f"{path} is empty: expected Arrow rows. Give a file that holds rows.")
        with pyarrow.memory_map(str(path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            reader = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
            _check_header(path, reader.schema.names)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
            number = 0
            for batch in batches:
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise TaskError(
            f"{path} is no Arrow IPC file or stream, or is damaged: {error}. Write the rows again, such as in JSONL."
        ) from error
    except OSError as error:
        raise TaskError(cannot_read(path, error)) from error


def _check_header(path: Path, header: list[str]) -> None:
    """Refuse columns that share a name."""
    if doubled := [name for name, count in Counter(header).items() if count > 1]:
        raise TaskError(f"{path}: column {some(doubled)} stands in the header more than once. Rename the columns.")


def _not_in_encoding(path: Path, encoding: str) -> str:
    """Say where a file stops being text in its encoding; reads it again, as this ends the command anyway."""
    data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    where = ""
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f": byte 0x{data[error.start]:02x} at offset {error.start}, line {line}"
    except UnicodeError as error:
        where = f": {error}"
    return (
        f"{path} is not {encoding} text{where}. Save it as UTF-8, or name its encoding in the task file, for example "
        'encoding = "cp1252".'
    )
