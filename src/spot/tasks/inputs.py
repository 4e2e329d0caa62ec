"""Read rows that are to be answered: from a file, a pipe or values, by the fields that a prompt was trained on."""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spot.errors import TaskError
from spot.reading import Reading
from spot.tasks.binary_rows import is_data_folder
from spot.tasks.columns import TEXT_COLUMNS, Text
from spot.tasks.data_set import RawRow, sentinels_of, with_name
from spot.tasks.detection import Seen, see
from spot.tasks.dialects import TRIED
from spot.tasks.encodings import see_encoding
from spot.tasks.formats import (
    ENDINGS,
    FORMATS,
    PACKED,
    UNSAID,
    FileFormat,
    Source,
    check_form,
    recognise,
    standard_input,
)
from spot.tasks.from_rows import items_of
from spot.tasks.readers import read_rows, some, text_field, text_lines
from spot.tasks.registry import TABLE
from spot.tasks.task import Example

log = logging.getLogger(__name__)

LINE = "text"  # a plain line is a row with this one field
LINES = "txt"
STDIN = "-"

Fields = Mapping[str, Any]


def read_inputs(source: str, reading: Reading, given: FileFormat = UNSAID) -> list[Example]:
    """The rows of a file, or of standard input where `source` is `-`, without answers.

    Args:
        source: a file in a format that task files may name, or `.txt`: a text a line.
        reading: how rows become text. Its fields tell a header; what it says of quotation marks and of an encoding
            that is not UTF-8 holds for a file that does not show another.
        given: what is said of the file; the rest is seen in it. Standard input needs a format.

    Raises:
        TaskError: the file is missing, empty, damaged or of no known format, or a row lacks a field.
    """
    is_pipe = source == STDIN
    check_form(given)
    if is_pipe and not given.format:
        raise TaskError(f"standard input has no name that says what it holds: give --format, one of {some(FORMATS)}.")
    place = _standard_input() if is_pipe else Source(Path(source).expanduser())
    content = None if is_pipe or is_data_folder(place.path) else recognise(place, given)
    if content is not None and not content.is_known:
        raise TaskError(
            f"{source}: no known format of rows; expected {', '.join(ENDINGS)} (texts also packed: {', '.join(PACKED)}"
            "). Name it so, or give its --format."
        )
    seen, rows = _rows(place, reading, given)
    if not seen.is_usual:
        log.warning("%s: %s", place, "; ".join(seen.words))
    examples = list(inputs_of(((f"{place}, row {number}", row) for number, row in rows), reading))
    if not examples:
        raise TaskError(f"{place} holds no rows: expected at least one to answer.")
    return examples


def _standard_input() -> Source:
    """All of standard input."""
    try:
        with os.fdopen(os.dup(0), "rb") as stream:
            return standard_input(stream)
    except OSError as error:
        raise TaskError(f"cannot read standard input: {error.strerror or error}. Give a file with --input.") from error


def _rows(source: Source, reading: Reading, given: FileFormat) -> tuple[Seen, Iterable[tuple[int, str | Fields]]]:
    """How a file is read, and its rows: fields, or texts where a line is one."""
    # What training was told of its files holds for those that do not show another.
    if not given.encoding and reading.encoding != "utf-8":
        with contextlib.suppress(TaskError):
            shown = see_encoding(source, given, guess=True)
            given = replace(given, encoding=reading.encoding if shown.sample else shown.name)
        given = replace(given, encoding=given.encoding or reading.encoding)
    if given.quotes is None and not reading.quotes:
        given = replace(given, quotes="")
    seen = see(source, given, reading.fields, plain=True)
    if seen.form.format != LINES:
        return seen, read_rows(source, seen.form)
    lines = text_lines(source, seen.form)
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        return seen, ()
    named = [field for field in reading.fields if field in _cells(first[1])]
    if not named:
        return seen, text_lines(source, seen.form)
    if len(_cells(first[1])) > 1 and not given.format:
        seen = see(source, replace(given, format="csv"), reading.fields)
        return replace(seen, is_usual=False), read_rows(source, seen.form)
    if first[1].strip() == named[0] and not given.format:
        log.warning("%s: its first line, %r, is taken for the name of the column and not for a text", source, named[0])
        return seen, lines
    log.warning("%s: its first line holds %s, a name of a column, and is answered like a text", source, named[0])
    return seen, text_lines(source, seen.form)


def _cells(line: str) -> list[str]:
    """The cells of a line by the delimiter that it has most of."""
    mark = max(TRIED, key=line.count)
    return [cell.strip().strip('"') for cell in line.strip().split(mark)]


def inputs_of(rows: Iterable[tuple[str, str | Fields]], reading: Reading) -> Iterator[Example]:
    """Rows as examples without answers, in their order; fields that nothing reads are passed over, which is said once.

    Args:
        rows: with the place of each for messages: its fields, or its text where one field is all that is read.
        reading: how they become text.

    Raises:
        TaskError: nothing is known of how rows are read, or a row lacks a field, holds no text in it, or is blank.
    """
    if not reading.template and reading.form not in TABLE:
        unknown = f" (its task {reading.form!r} is not known here)" if reading.form else ""
        raise TaskError(
            f"the prompt does not say which fields it reads{unknown}: name the file of its task (--task FILE), or say "
            "how a row becomes text (--template 'sentence: {text}')."
        )
    is_said = False
    for number, (place, row) in enumerate(rows, start=1):
        text, spare = _by_template(place, row, reading) if reading.template else _by_form(place, row, reading)
        if spare and not is_said:
            log.warning("%s: the fields %s are passed over; read are %s", place, some(spare), some(reading.fields))
            is_said = True
        has_sentinels = not reading.template and TABLE[reading.form].has_sentinels
        sentinels = sentinels_of(text) if has_sentinels else ()
        yield Example(str(number), text.inputs, (), texts=text.texts, sentinels=sentinels)


def rows_of(values: Any) -> list[tuple[str, str | Fields]]:
    """Texts, mappings or a table as rows, each with its place.

    Args:
        values: a sequence of texts or of mappings; a pandas DataFrame, a pyarrow Table or a `datasets.Dataset`.

    Raises:
        TaskError: it is something else, or holds no rows.
    """
    if isinstance(values, str | bytes | Mapping):
        kind = "text" if isinstance(values, str | bytes) else "mapping"
        raise TaskError(f"one {kind} was given: expected a list of texts or of mappings; put it into a list.")
    try:
        items = list(items_of(values, "the rows"))
    except TypeError as error:
        raise TaskError(f"found {values!r:.60}, expected a list of texts or of mappings, or a table.") from error
    if not items:
        raise TaskError("no rows were given: expected at least one to answer.")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, str | Mapping):
            raise TaskError(f"row {number} is {item!r:.60}, expected a text or a mapping of fields.")
    return [(f"row {number}", item) for number, item in enumerate(items, start=1)]


def _by_template(place: str, row: str | Fields, reading: Reading) -> tuple[Text, Sequence[str]]:
    """What a template makes of a row, without an answer, and the fields that it does not read."""
    if isinstance(row, str):
        if len(reading.fields) != 1:
            raise TaskError(
                f"{place} is one text, and the prompt reads {len(reading.fields)} fields, {some(reading.fields)}: give "
                "rows with these fields."
            )
        row = {reading.fields[0]: row}
    if missing := [field for field in reading.fields if field not in row]:
        raise TaskError(
            f"{place} has no field {some(missing)}; the prompt reads {some(reading.fields)}, and the row has "
            f"{some(row)}. Rename the fields as they were in training."
        )
    values = {field: text_field(dict(row), field, place) for field in reading.fields}
    if not any(text.strip() for text in values.values()):
        raise TaskError(f"{place}: no text in {some(values)}. Fill it or leave the row out.")
    texts = tuple(values[field] for _, field in reading.pieces if field)
    return Text(reading.render(values), (), texts=texts), [field for field in row if field not in values]


def _by_form(place: str, row: str | Fields, reading: Reading) -> tuple[Text, Sequence[str]]:
    """What a known data set's form makes of a row; a plain text may stand for its sentence."""
    name = reading.form
    attempts: list[Fields] = [dict.fromkeys(TEXT_COLUMNS, row)] if isinstance(row, str) else [row]
    if not isinstance(row, str) and row.keys() == {LINE}:
        attempts.append(dict.fromkeys(TEXT_COLUMNS, row[LINE]))
    refusal = None
    for fields in attempts:
        try:
            text = next(iter(TABLE[name].form(RawRow(place, fields, answered=False), False)), None)
        except TaskError as error:
            refusal = refusal or error
            continue
        if text is None:
            raise TaskError(f"{place} makes no input of {name}: its text is blank. Fill it or leave the row out.")
        inputs = with_name(text.inputs, name, TABLE[name]) if reading.task_prefix else text.inputs
        return replace(text, inputs=inputs, answers=()), ()
    raise TaskError(f"{refusal} The prompt's task {name} reads it.") from refusal
