"""Write a task file for a file of rows, with guessed columns, labels and template."""

import json
import os
import re
from pathlib import Path
from typing import Any

from spot.errors import TaskError
from spot.storage.files import write_whole
from spot.tasks.columns import MOST_LABELS, label_order, template_of
from spot.tasks.readers import read_rows, some

LABEL_COLUMNS = ("label", "labels", "class", "category", "target", "sentiment", "intent", "topic", "answer")

_NUMBER = re.compile(r"\s*[-+]?[\d.,]*\s*")


def init(rows_path: Path, out: Path) -> str:
    """Write a commented task file for a file of rows, with guessed columns, labels and template.

    Args:
        rows_path: rows in any format that a task file may name.
        out: the task file to write; the rows are named relative to its folder.

    Returns:
        What was written.

    Raises:
        TaskError: the rows cannot be read or have no text, or there is a file already.
        StorageError: the file cannot be written.
    """
    if out.exists():
        raise TaskError(f"{out} exists already and is left as it is. Choose another path, or move it away.")
    columns: dict[str, list[Any]] = {}
    for _, row in read_rows(rows_path):
        for column, value in row.items():
            columns.setdefault(column, []).append(value)
    if not columns:
        raise TaskError(f"{rows_path} has columns but no rows: expected at least one row below the header.")
    label = _guess_label(columns)
    text = _commented(_in_letters(rows_path, out), columns, label, _guess_texts(rows_path, columns, label))
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise TaskError(
            f"{rows_path} has {error.object[error.start : error.end]!r}, half a letter, in the name of a column or in "
            "a label, which no task file can hold: expected whole letters. Mend the rows."
        ) from error
    write_whole(out, content)
    return text


def _in_letters(rows_path: Path, out: Path) -> str:
    """The path of the rows beside the task file, as letters whatever this process takes names of files for.

    Raises:
        TaskError: its bytes are no letters.
    """
    path = os.path.relpath(rows_path, out.parent)
    try:
        return os.fsencode(path).decode()
    except UnicodeError as error:
        raise TaskError(
            f"the path {path!r} has bytes that are no UTF-8, and a task file holds letters alone. Rename the file."
        ) from error


def _guess_label(columns: dict[str, list[Any]]) -> str:
    """The column with a usual name, or the one with the fewest values, or the last."""
    named = {column.lower(): column for column in columns}
    if usual := [named[name] for name in LABEL_COLUMNS if name in named]:
        return usual[0]
    different = {column: len(set(map(str, values))) for column, values in columns.items()}
    few = [column for column, count in different.items() if 2 <= count <= max(2, len(columns[column]) // 2)]
    return min(few, key=lambda column: different[column], default=list(columns)[-1])


def _guess_texts(path: Path, columns: dict[str, list[Any]], label: str) -> list[str]:
    """The columns with text: no numbers, not the same few values again and again."""
    texts = [
        column
        for column, values in columns.items()
        if column != label
        and not set("{}") & set(column)
        and all(isinstance(value, str) for value in values)
        and not all(_NUMBER.fullmatch(value) for value in values)
    ]
    varied = [column for column in texts if len(set(columns[column])) * 4 > len(columns[column])]
    if not texts:
        raise TaskError(f"{path}: no column with text; its columns: {some(columns)}. Give rows that hold text.")
    return varied or texts


def _commented(rows: str, columns: dict[str, list[Any]], label: str, texts: list[str]) -> str:
    """The text of a new task file."""
    name = re.sub(r"\W+", "_", Path(rows).name.split(".")[0]).strip("_") or "task"
    spelled = (value if isinstance(value, str) else json.dumps(value) for value in columns[label] if value is not None)
    values = sorted({value.strip() for value in spelled} - {""}, key=label_order)
    lines = [
        "# A task: which rows, what the model reads, which words it answers with.",
        f"# Columns of the rows: {', '.join(map(_quoted, columns))}.",
        f"name = {_quoted(name)}",
        "",
        "# One file is parted by itself into rows that train, select and report. Or name files:",
        '# rows = { train = "train.csv", validation = "validation.csv", test = "test.csv" }',
        f"rows = {_quoted(rows)}",
        "",
        "# What the model reads; a column's name in braces stands for its text.",
        f"input = {_quoted(template_of(texts))}",
        "",
    ]
    if len(values) > MOST_LABELS:
        return "\n".join([*lines, "# The column with the answer, any text.", f"answer = {_quoted(label)}", ""])
    lines += [
        "# The column with the label.",
        f"label = {_quoted(label)}",
        "",
        "# A value of that column = the word that the model answers with; plain words of its language work best.",
        "[labels]",
        *(f"{_quoted(value)} = {_quoted(value)}" for value in values),
        "",
    ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A TOML string; JSON's escapes are TOML's but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
