"""Read files of rows as streams: tables, JSON, workbooks, Parquet and Arrow, with the row's number in every message."""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from spot.errors import TaskError
from spot.tasks.binary_rows import arrow_rows, is_data_folder, workbook_rows
from spot.tasks.dialects import DELIMITERS, Dialect, column_names, is_blank, records, sep_line
from spot.tasks.formats import BINARY, UNSAID, FileFormat, Source, bounded_lines, open_text, recognise, too_long

Rows = Iterator[tuple[int, dict[str, Any]]]

_ENOUGH = 10  # names listed in full in a message
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLOCK = 1 << 16  # characters of a JSON array that are read at once
_BLANK = " \t\r\n"  # what JSON passes over


def some(names: Iterable[object]) -> str:
    """The first ten names for a message, quoted, and how many more there are."""
    shown = [repr(name) for name in names]
    more = f" and {len(shown) - _ENOUGH} more" if len(shown) > _ENOUGH else ""
    return ", ".join(shown[:_ENOUGH]) + more


def json_rows(place: Path | Source, form: FileFormat = UNSAID) -> Rows:
    """Stream the rows of a JSON-lines file; blank lines are passed over.

    Args:
        place: the file, plain or packed.
        form: its encoding and bounds.

    Yields:
        The line number from 1 and the row.

    Raises:
        TaskError: the file is missing, empty, damaged or in another encoding, or a line holds no JSON object.
    """
    is_empty = True
    with open_text(place, form) as text:
        for number, line in enumerate(bounded_lines(text, place, form.max_row), start=1):
            if line.isspace():
                continue
            try:
                row = _DECODER.decode(line.strip(_BLANK))
            except (ValueError, RecursionError) as error:
                message = (
                    f"{place}, line {number}: not JSON ({error}); expected one JSON object a line. Objects over "
                    "several lines are read in an array: [{..}, {..}]."
                )
                raise TaskError(message) from error
            if not isinstance(row, dict):
                raise TaskError(f"{place}, line {number}: found {line.strip()[:40]!r}, expected a JSON object.")
            is_empty = False
            yield number, row
    if is_empty:
        raise TaskError(f"{place} is empty: expected one JSON object a line. Give a file that holds rows.")


def read_rows(place: Path | Source, form: FileFormat = UNSAID) -> Rows:
    """Stream the rows of a file.

    Args:
        place: the file, or a folder that `datasets` has saved.
        form: how it is read. What is left out has a default: the format that the content shows, UTF-8, the delimiter
            of the format, cells between double quotation marks, a header. `spot.tasks.detection` sees what fits.

    Yields:
        The row's number from 1, the header not counted (the line number in JSON lines), and its columns.

    Raises:
        TaskError: the file is missing, empty, damaged, in another encoding or in no known format, or it leads beyond
            a bound.
    """
    source = Source.of(place)
    if source.data is None and is_data_folder(source.path):
        return arrow_rows(source, form)
    kind = recognise(source, form).format
    if kind == "jsonl":
        return json_rows(source, form)
    if kind == "json":
        return _array_rows(source, form)
    if kind == "xlsx":
        return named_rows(source, workbook_rows(source, form), form.header is not False)
    if kind in BINARY:
        return arrow_rows(source, form, kind)
    if kind == "txt":
        return ((number, {"text": line}) for number, line in text_lines(source, form))
    return _table_rows(source, form, kind)


def text_lines(place: Path | Source, form: FileFormat = UNSAID) -> Iterator[tuple[int, str]]:
    """The lines of a plain text with their numbers.

    Raises:
        TaskError: the file is missing, damaged or in another encoding, or a line is too long.
    """
    with open_text(place, form) as text:
        for number, line in enumerate(bounded_lines(text, place, form.max_row), start=1):
            yield number, line.rstrip("\r\n")


def named_rows(place: Path | Source, rows: Iterable[Sequence[str]], has_header: bool) -> Rows:
    """Rows of cells by the names of their columns.

    Args:
        place: the file, for messages.
        rows: of equally many cells; the first one names the columns, unless there is no header.
        has_header: whether there is.

    Raises:
        TaskError: there is none, or columns share a name.
    """
    stream = iter(rows)
    first = next(stream, None)
    if first is None:
        raise TaskError(f"{place} is empty: expected a header and rows. Give a file that holds rows.")
    names = column_names(first if has_header else [""] * len(first))
    check_header(place, names)
    if not has_header:
        yield 1, dict(zip(names, first, strict=True))
    for number, cells in enumerate(stream, start=1 if has_header else 2):
        if has_header and number == 1 and len(cells) > 1 and _is_rule(cells):
            raise TaskError(
                f"{place} is a table of Markdown: expected rows, such as CSV. Leave out the line of dashes."
            )
        if has_header and len(cells) > 1 and cells == first:
            raise TaskError(
                f"{place}, row {number}: the header stands here again, as where files were put together. Leave it "
                "out, or say that there is none: header = false in the task file, --no-header of a command."
            )
        yield number, dict(zip(names, cells, strict=True))


def _is_rule(cells: Sequence[str]) -> bool:
    """Whether a row is the line under the header of a table in Markdown."""
    return any("--" in cell for cell in cells) and all(re.fullmatch(r"\s*:?-{2,}:?\s*|\s*", cell) for cell in cells)


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
        raise TaskError(f"{place}: field {field!r} holds {shown(value)}, expected text. {_mend(value)}")
    if _SURROGATE.search(value):
        raise TaskError(f"{place}: field {field!r} holds half a surrogate pair, which is no text. Mend the row.")
    return value


def shown(value: object) -> str:
    """A value of a row for a message; one that cannot spell itself is called by its kind."""
    try:
        return f"{value!r:.60}"
    except (ValueError, OverflowError, RecursionError):  # a whole number of thousands of digits, deep lists
        return f"a value of the kind {type(value).__name__}"


def is_conversation(value: object) -> bool:
    """Whether a value is a list of messages, as data for chats have."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(part, dict) and ({"role", "content"} <= part.keys() or {"from", "value"} <= part.keys())
            for part in value
        )
    )


def check_header(place: Path | Source, header: Sequence[str]) -> None:
    """Refuse columns that share a name.

    Raises:
        TaskError: some do.
    """
    if doubled := [name for name, count in Counter(header).items() if count > 1]:
        raise TaskError(f"{place}: column {some(doubled)} stands in the header more than once. Rename the columns.")


def _mend(value: object) -> str:
    """What to do about a value that is no text."""
    if is_conversation(value):
        return (
            "A conversation is no text: write what is asked and what is answered into columns of their own, such as "
            '{"question": "..", "reply": ".."}, and name these.'
        )
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "Fill it in or leave the row out."
    return "Mend the row or leave it out."


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a key that stands twice nobody could say which value counts."""
    row = dict(pairs)
    if len(row) < len(pairs):
        doubled = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {doubled!r} stands in one object more than once")
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _array_rows(source: Source, form: FileFormat) -> Rows:
    """Stream the rows of a JSON array of objects, one object at a time."""
    expected = "expected an array of objects, or one object a line"
    with open_text(source, form) as stream:
        rest = _Text(stream)
        if not rest.skip("["):
            raise TaskError(f"{source} holds {rest.text[:40]!r}; {expected}.")
        number = 0
        while True:
            rest.fill()
            if rest.text.startswith("]"):
                break
            if number and not rest.skip(","):
                raise TaskError(f"{source} is not JSON (no comma behind row {number}); {expected}.")
            rest.fill()
            number += 1
            if not rest.text:
                raise TaskError(f"{source} is not JSON (it ends before its array does); {expected}.")
            if not rest.text.startswith("{"):
                beginning = rest.text[:40].partition(",")[0].strip("] \r\n")
                raise TaskError(f"{source}, row {number}: found {beginning}, expected a JSON object.")
            yield number, rest.take_object(f"{source}, row {number}", form.max_row)
        rest.text = rest.text[1:]
        rest.fill()
        if rest.text:
            raise TaskError(f"{source} is not JSON (more stands behind its array: {rest.text[:40]!r}); {expected}.")
        if not number:
            raise TaskError(f"{source} holds '[]'; {expected}. Give a file that holds rows.")


class _Text:
    """The part of a long text that was read and not yet used."""

    def __init__(self, stream: TextIO):
        self.text = ""
        self._stream = stream

    def fill(self) -> None:
        """Pass over blanks, and read on where nothing is left."""
        self.text = self.text.lstrip(_BLANK)
        while not self.text and (block := self._stream.read(_BLOCK)):
            self.text = block.lstrip(_BLANK)

    def skip(self, mark: str) -> bool:
        """Pass over a character, where it is the next one."""
        self.fill()
        if is_there := self.text.startswith(mark):
            self.text = self.text[1:]
        return is_there

    def take_object(self, where: str, limit: int) -> dict[str, Any]:
        """The object that comes next."""
        wanted = _BLOCK
        while True:
            try:
                row, end = _DECODER.raw_decode(self.text)
                if end > limit:
                    raise TaskError(too_long(where, limit))
                self.text = self.text[end:]
                return row
            except (ValueError, RecursionError) as error:
                block = self._stream.read(wanted) if isinstance(error, json.JSONDecodeError) else ""
                if len(self.text) + len(block) > 2 * limit + _BLOCK:
                    raise TaskError(too_long(where, limit)) from error
                if not block:
                    message = f"{where} is not JSON ({error}); expected an array of objects, or one object a line."
                    raise TaskError(message) from error
                self.text += block
                wanted = len(self.text)


def _table_rows(source: Source, form: FileFormat, kind: str) -> Rows:
    """Stream a table of text; blank lines are passed over."""
    delimiter = form.delimiter or ("\t" if kind == "tsv" else ",")
    dialect = Dialect(delimiter, '"' if form.quotes is None else form.quotes, bool(form.skip_space))
    return named_rows(source, _table_cells(source, form, dialect), form.header is not False)


def _table_cells(source: Source, form: FileFormat, dialect: Dialect) -> Iterator[list[str]]:
    """Stream the cells of a table, equally many in each row."""
    name = DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))
    number, line, columns = 0, 0, 0
    with open_text(source, form) as text:
        try:
            for line, cells, own in records(text_of(text, form), dialect, form.max_row, str(source)):
                if (line == 1 and sep_line(own[0]) == dialect.delimiter) or is_blank(cells, columns):
                    continue
                columns = columns or len(cells)
                if len(cells) != columns:
                    first = "the header" if form.header is not False else "the first row"
                    raise TaskError(
                        f"{source}, row {number} (line {line}): found {len(cells)} cells, {first} has {columns}. Mend "
                        f"the row; a cell that holds a {name} needs quotation marks around it. Where another mark "
                        'parts the cells, say delimiter = ";" in the task file, --delimiter of a command.'
                    )
                yield cells
                number += 1
        except csv.Error as error:
            raise TaskError(
                f"{source}, {error}. A quotation mark inside a quoted cell is written twice, and no "
                "backslash before it counts; "
                "where marks are plain text, write quotes = false in the task file, --no-quotes of a command."
            ) from error


def text_of(text: TextIO, form: FileFormat) -> Iterator[str]:
    """The lines of a text, none of them beyond what one row may have; who counts rows says where it broke off."""
    while line := text.readline(form.max_row + 1):
        yield line
