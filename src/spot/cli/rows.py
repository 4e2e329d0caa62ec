"""Rows to predict, read from a file or a pipe and brought to the form that a task's prompt was trained on."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spot.errors import TaskError
from spot.tasks.columns import TEXT_COLUMNS
from spot.tasks.data_set import Row, named
from spot.tasks.readers import ROW_FORMATS, open_text, read_rows, row_format, some, text_field
from spot.tasks.registry import TABLE
from spot.tasks.task import Example
from spot.tasks.task_file import read_task_file

READY = "inputs"  # a field of this name is what the model reads, word for word
PLAIN = "text"  # a plain line is a row with this one field
_LINE_END = re.compile(r"\r?\n")  # form feeds, U+2028 and the like stand inside a text

Pieces = tuple[tuple[str, str], ...]  # (text before, field), the last field empty


def read(source: str, task: str | None, prefix: bool = False) -> list[Example]:
    """The rows of a file, or of stdin where `source` is `-`, without answers.

    Args:
        source: JSON lines, CSV, TSV or Arrow by its ending; else lines of JSON where the first one begins with a
            brace, and lines of plain text otherwise.
        task: the name or file of the task, which gives the form; without one the rows must bring their whole input.
        prefix: whether a known task's name stands in front, as its prompt was trained.

    Raises:
        TaskError: the file is missing, empty or damaged, or a row lacks a field.
    """
    path = Path("/dev/stdin") if source == "-" else Path(source).expanduser()
    pieces = None if task is None or task in TABLE else read_task_file(Path(task)).pieces
    if row_format(path) in ROW_FORMATS:
        rows = list(read_rows(path))
    else:
        with open_text(path) as stream:
            lines = _LINE_END.split(stream.read())
        if not lines[-1]:
            lines.pop()
        rows = [(number, _row(line, lines[0], f"{source}, line {number}")) for number, line in enumerate(lines, 1)]
    if not rows:
        raise TaskError(f"{source} holds no rows: expected at least one to predict.")
    examples = []
    for number, row in rows:
        place = f"{source}, row {number}"
        known = task in TABLE and READY not in row
        inputs = _formed(row, str(task), prefix, place) if known else _inputs(row, pieces, place)
        examples.append(Example(str(number), inputs, ()))
    return examples


def _formed(row: Mapping[str, Any], task: str, prefix: bool, place: str) -> str:
    """What the model reads for one row of a known task; a plain line may stand for its sentence."""
    form = TABLE[task].form
    plain = [dict.fromkeys(TEXT_COLUMNS, row[PLAIN])] if row.keys() == {PLAIN} else []
    text, refusal = None, None
    for fields in (dict(row), *plain):
        try:
            text = next(iter(form(Row(place, fields, answered=False), False)), None)
            refusal = None
            break
        except TaskError as error:
            refusal = refusal or error
    if refusal is not None:
        raise TaskError(f"{refusal} {task} needs it; or give the whole input in a field {READY!r}.") from refusal
    if text is None:
        raise TaskError(f"{place} makes no input of {task}: its text is blank. Fill it or leave the row out.")
    return named(task, TABLE[task], text.inputs) if prefix else text.inputs


def _row(line: str, first: str, place: str) -> dict[str, Any]:
    """One line as a row: JSON where the first line looks like it."""
    if not first.startswith("{"):
        return {PLAIN: line}
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{place}: not JSON as the first line is ({error}); expected one object a line.") from error
    if not isinstance(row, dict):
        raise TaskError(f"{place}: found {line[:40]!r}, expected a JSON object.")
    return row


def _inputs(row: Mapping[str, Any], pieces: Pieces | None, place: str) -> str:
    """What the model reads for one row."""
    if READY in row:
        return text_field(dict(row), READY, place)
    if pieces is None:
        raise TaskError(
            f"{place} has {some(row)}, but the prompt's task is not known here, so its form is not: name its task file "
            f"with --task FILE, or give the whole input in a field {READY!r}."
        )
    if not pieces:
        column = next((name for name in TEXT_COLUMNS if name in row), next(iter(row), PLAIN))
        pieces = (("sentence: ", column), ("", ""))
    fields = [field for _, field in pieces if field]
    missing = [field for field in fields if field not in row]
    if len(fields) == 1 and missing and PLAIN in row:
        pieces, missing = ((pieces[0][0], PLAIN), *pieces[1:]), []
    if missing:
        raise TaskError(
            f"{place} has no field {some(missing)}; this task reads {some(fields)}, and the row has {some(row)}. "
            f"Rename the fields, or give the whole input in a field {READY!r}."
        )
    return "".join(before + (text_field(dict(row), field, place) if field else "") for before, field in pieces)
