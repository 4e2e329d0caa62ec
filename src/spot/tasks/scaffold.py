"""Write a task file for a file of rows, with guessed columns, labels and template, and what was seen of the file."""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spot.errors import TaskError
from spot.storage.files import write_whole
from spot.tasks.binary_rows import class_names, is_data_folder, saved_splits
from spot.tasks.columns import (
    MISSING,
    MOST_LABELS,
    ONE_LABEL,
    TEXT_COLUMNS,
    Columns,
    check_classes,
    label_order,
    left_out,
    named,
    no_label,
    several_labels,
    template_of,
)
from spot.tasks.detection import Seen, see
from spot.tasks.faults import no_text, tellers, wordy
from spot.tasks.formats import MAX_RATIO, MAX_ROW, PACKED, UNSAID, FileFormat, check_form, ending_format
from spot.tasks.instructions import proposed_sentence
from spot.tasks.readers import is_conversation, read_rows, shown, some

LABEL_COLUMNS = (
    "label",
    "labels",
    "class",
    "category",
    "target",
    "sentiment",
    "intent",
    "topic",
    "answer",
    "targets",
    "completion",
    "output",
)
SPLITS = ("train", "validation", "test")  # of saved rows, by the names that tasks have for them
MOST_WORDS = 40  # characters of a label word that another column gives


@dataclass(frozen=True)
class _Rows:
    """The rows of a file by column.

    Attributes:
        path: of the file, for messages.
        columns: name -> its value in each row.
        seen: how the file is read.
    """

    path: Path
    columns: dict[str, list[Any]]
    seen: Seen


def init(rows_path: Path, out: Path, given: FileFormat = UNSAID) -> str:
    """Write a commented task file for a file of rows, with guessed columns, labels and template.

    Args:
        rows_path: rows in any format that a task file may name.
        out: the task file to write; the rows are named relative to its folder.
        given: what is said of the file of rows.

    Returns:
        What was written.

    Raises:
        TaskError: the rows cannot be read, have no text or several labels a row, or there is a file already.
        StorageError: the file cannot be written.
    """
    check_form(given)
    if os.path.lexists(out):
        raise TaskError(f"{out} exists already and is left as it is. Choose another path, or move it away.")
    splits = saved_splits(rows_path)
    if splits and "train" not in splits:
        raise TaskError(f"{rows_path} holds the splits {some(splits)}: name the folder of the one to train on.")
    rows = _read(rows_path / "train" if splits else rows_path, given)
    label = _guess_label(rows)
    text = _commented(rows_path, out, rows, label, [split for split in SPLITS if split in splits])
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TaskError(
            f"{rows_path} has {text[error.start : error.end]!r}, half a letter, in the name of a column or in a label, "
            "which no task file can hold: expected whole letters. Mend the rows."
        ) from error
    write_whole(out, data)
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


def usual_path(rows: Path) -> Path:
    """Where the task file of a file of rows is written if nobody says: beside it, with the ending `.toml`."""
    name = rows.name
    for ending in PACKED:
        name = name.removesuffix(ending)
    return rows.with_name(f"{Path(name).stem if ending_format(rows) else name}.toml")


def _read(path: Path, given: FileFormat) -> _Rows:
    """All rows of a file by column; a row that lacks one holds nothing there."""
    seen = see(path, given, guess=True)
    columns: dict[str, list[Any]] = {}
    for count, (_, row) in enumerate(read_rows(path, seen.form)):
        for column, value in row.items():
            if column not in columns:
                columns[column] = [None] * count
            columns[column].append(value)
        for values in columns.values():
            if len(values) == count:
                values.append(None)
    if not columns:
        raise TaskError(f"{path} has columns but no rows: expected at least one row below the header.")
    _check_columns(path, columns)
    for column, names in class_names(path, seen.form, seen.form.format).items():
        columns[column] = [named(value, names) for value in columns.get(column, ())]
    return _Rows(path, columns, seen)


def _check_columns(path: Path, columns: dict[str, list[Any]]) -> None:
    """Refuse an only row that holds whole columns, or all rows."""
    values = [cells[0] for cells in columns.values() if len(cells) == 1]
    if len(values) < len(columns):
        return
    lists = {len(value) for value in values if isinstance(value, list | dict)}
    is_columns = len(values) > 1 and len(lists) == 1 and all(isinstance(value, list | dict) for value in values)
    is_nested = any(isinstance(value, list) and value and isinstance(value[0], dict) for value in values)
    if is_columns or (is_nested and not any(map(is_conversation, values))):
        what = "a list or object for each column" if is_columns else "a list of rows inside an object"
        raise TaskError(
            f"{path} holds one object with {what}: expected one object a row, in an array or one a line. With pandas: "
            'frame.to_json("rows.jsonl", orient="records", lines=True).'
        )


def _guess_label(rows: _Rows) -> str:
    """The column with a usual name, or the one with the fewest values, or the last."""
    columns = rows.columns
    names = {column.strip().lower(): column for column in columns}
    if usual := [names[name] for name in LABEL_COLUMNS if name in names]:
        return usual[0]
    _check_conversations(rows)
    different = {column: len(set(map(shown, values))) for column, values in columns.items()}
    few = [column for column, count in different.items() if 2 <= count <= max(2, len(columns[column]) // 2)]
    return min(few, key=lambda column: different[column], default=list(columns)[-1])


def _check_conversations(rows: _Rows) -> None:
    """Refuse rows that are conversations: they have no column with a text, and none with an answer."""
    for column, values in rows.columns.items():
        if any(map(is_conversation, values[:10])):
            raise TaskError(
                f"{rows.path}: column {column!r} holds conversations, such as {shown(values[0])}, and a task reads "
                "text and answer from columns of their own. Write them so, one turn a row: "
                '{"question": "what the user wrote", "reply": "what is answered"}.'
            )


def _labels(rows: _Rows, label: str, columns: Columns) -> list[str | None]:
    """The label of each row as text, or None where it has none."""
    labels: list[str | None] = []
    for number, value in enumerate(rows.columns[label], start=1):
        if no_label({label: value}, columns) is not None:
            labels.append(None)
        elif isinstance(value, str):
            labels.append(value.strip())
        elif isinstance(value, int | float) and not (isinstance(value, int) and abs(value) >= 10**18):
            labels.append(json.dumps(value))
        else:
            many = isinstance(value, list | tuple | dict | set)
            mend = ONE_LABEL if many else "Write the labels as text."
            raise TaskError(
                f"{rows.path}, row {number}: column {label!r} holds {shown(value)}, expected one text, number or truth "
                f"value. {mend}"
            )
    values = {value for value in labels if value is not None}
    if len(values) <= MOST_LABELS and (several := several_labels(values)):
        raise TaskError(f"{rows.path}: column {label!r} holds {several!r}, several labels in one. {ONE_LABEL}")
    return labels


def _guess_texts(
    rows: _Rows, label: str, labels: Sequence[str | None]
) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """The columns with text, why each other one is left out, and the words that a column has for the labels."""
    reasons: dict[str, str] = {}
    others = {column: values for column, values in rows.columns.items() if column != label}
    kept = [number for number, value in enumerate(labels) if value is not None]
    spelled = {
        column: ["" if values[number] is None else _spelled(values[number]) for number in kept]
        for column, values in others.items()
    }
    told = tellers(spelled, [value for value in labels if value is not None])
    words = _words(told, spelled, labels)
    for column, values in others.items():
        if set("{}") & set(column):
            reasons[column] = "no template can name it"
        elif reason := no_text(column, values):
            reasons[column] = reason
        elif reason := told.get(column):
            reasons[column] = f"{reason}, so the model would be told the answer"
    texts = [column for column in others if column not in reasons]
    if not texts and (sole := _sole_text(reasons, told, others)):
        del reasons[sole]
        texts = [sole]
    if not texts:
        mend = "Give rows that hold text."
        if len(rows.columns) == 1:
            mend += " Where another mark parts its cells, say --delimiter."
        whys = "".join(f"; {column!r}: {reason}" for column, reason in reasons.items())
        raise TaskError(f"{rows.path}: no column with text; its columns: {some(rows.columns)}{whys}. {mend}")
    if any(wordy(others[column]) for column in texts):
        for column in [column for column in texts if not wordy(others[column])]:
            reasons[column] = "it has a word a row, where other columns have texts"
    else:
        varied = [column for column in texts if len(set(others[column])) * 4 > len(others[column])]
        for column in [column for column in texts if varied and column not in varied]:
            reasons[column] = "it holds the same few values again and again"
    return [column for column in texts if column not in reasons], reasons, words


def _sole_text(reasons: dict[str, str], told: dict[str, str], others: dict[str, list[Any]]) -> str:
    """A column that is called text, where the few texts of toy rows go along with the labels."""
    named_so = [column for column in told if column in TEXT_COLUMNS and " goes " in reasons.get(column, "")]
    return named_so[0] if len(named_so) == 1 and not no_text(named_so[0], others[named_so[0]]) else ""


def _words(told: dict[str, str], columns: dict[str, list[str]], labels: Sequence[str | None]) -> dict[str, str]:
    """Label -> its word in a column that names the labels, where the labels themselves are numbers."""
    values = [value for value in labels if value is not None]
    if not all(re.fullmatch(r"\d+(\.0)?", value) for value in values):
        return {}
    for column, reason in told.items():
        words = dict(zip(values, columns[column], strict=True))
        is_named = "in other words" in reason and re.search("label|class|text|name|category", column.lower())
        if is_named and all(
            word.strip() and len(word) <= MOST_WORDS and not word[0].isdigit() for word in words.values()
        ):
            return {value: word.strip() for value, word in words.items()}
    return {}


def _spelled(value: object) -> str:
    """A value as text, to be compared with labels."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and math.isnan(value):
        return ""
    return json.dumps(value) if isinstance(value, int | float) and abs(value) < 10**18 else shown(value)


def _commented(path: Path, out: Path, rows: _Rows, label: str, splits: Sequence[str]) -> str:
    """The text of a new task file."""
    place = _in_letters(path, out)
    columns = Columns(label=label, answer="", owner=str(out), text_example="", missing=frozenset(MISSING))
    labels = _labels(rows, label, columns)
    if not any(value is not None for value in labels):
        raise TaskError(f"{path}: no row has a label in column {label!r}. Give rows with labels.")
    texts, reasons, words = _guess_texts(rows, label, labels)
    check_classes(Counter(value for value in labels if value is not None), str(path))
    values = sorted({value for value in labels if value is not None}, key=label_order)
    name = re.sub(r"\W+", "_", Path(place).name.split(".")[0]).strip("_") or "task"
    asked = () if len(values) > MOST_LABELS else tuple(dict.fromkeys(words.get(value, value) for value in values))
    files = ", ".join(f"{split} = {_quoted(os.path.join(place, split))}" for split in splits)
    lines = [
        "# A task: which rows, what the model reads, which words it answers with.",
        f"# Columns of the rows: {', '.join(map(_quoted, rows.columns))}.",
        f"name = {_quoted(name)}",
        "",
        "# One file is parted by itself into rows that train, select and report. Or name files:",
        '# rows = { train = "train.csv", validation = "validation.csv", test = "test.csv" }',
        f"rows = {{ {files} }}" if files else f"rows = {_quoted(place)}",
        "",
        *(f"# The file: {_comment(words)}." for words in rows.seen.words),
        *_settings(rows),
        "",
        "# What the model reads; a column's name in braces stands for its text.",
        *(f"# Left out: {_quoted(column)}, as {_comment(reason)}." for column, reason in reasons.items()),
        *_blank_texts(rows, texts),
        f"input = {_quoted(template_of(texts))}",
        "",
        "# What is asked of a row, in plain words, for prompts that start from them: a guess, and yours may be better.",
        f"instruction = {_quoted(proposed_sentence(template_of(texts), asked))}",
        "",
    ]
    if len(values) > MOST_LABELS:
        return "\n".join([*lines, "# The column with the answer, any text.", f"answer = {_quoted(label)}", ""])
    unlabelled = Counter(
        nothing for value in rows.columns[label] if (nothing := no_label({label: value}, columns)) is not None
    )
    lines += [
        "# The column with the label.",
        *([f"# {_comment(left_out(unlabelled, len(labels) - unlabelled.total(), columns))}."] if unlabelled else []),
        f"label = {_quoted(label)}",
        "",
        "# A value of that column = the word that the model answers with; plain words of its language work best.",
        "[labels]",
        *(f"{_quoted(value)} = {_quoted(words.get(value, value))}" for value in values),
        "",
    ]
    return "\n".join(lines)


def _settings(rows: _Rows) -> list[str]:
    """What was seen of a file, as lines of a task file: all that its name does not say."""
    form = rows.seen.form
    if is_data_folder(rows.path):
        return []
    settings: list[tuple[str, str]] = []
    if form.format != ending_format(rows.path):
        settings.append(("format", _quoted(form.format)))
    if form.format in ("csv", "tsv", "jsonl", "json", "txt"):
        settings.append(("encoding", _quoted(form.encoding)))
    if form.format in ("csv", "tsv"):
        quotes = {'"': "true", "": "false"}.get(form.quotes or "", _quoted(form.quotes or ""))
        settings += [("delimiter", _quoted(form.delimiter)), ("quotes", quotes)]
        if form.skip_space:
            settings.append(("skip_space", "true"))
    if form.format in ("csv", "tsv", "xlsx"):
        settings.append(("header", "true" if form.header else "false"))
    if form.sheet:
        settings.append(("sheet", _quoted(form.sheet)))
    settings += [
        (name, str(value))
        for name, value, usual in (("max_row", form.max_row, MAX_ROW), ("max_ratio", form.max_ratio, MAX_RATIO))
        if value != usual
    ]
    return [f"{name} = {value}" for name, value in settings]


def _blank_texts(rows: _Rows, texts: Sequence[str]) -> list[str]:
    """Comments on rows without text, which the task file will be refused for."""
    missing = {column: sum(not isinstance(value, str) for value in rows.columns[column]) for column in texts}
    lines = [
        f"# {count} rows have no text in {_quoted(column)}: fill it in or leave them out, as a row needs text."
        for column, count in missing.items()
        if count
    ]
    values = zip(*(rows.columns[column] for column in texts), strict=True)
    blank = sum(all(isinstance(text, str) and not text.strip() for text in row) for row in values)
    return [*lines, *([f"# {blank} rows are blank: leave them out, as a row needs text."] if blank else [])]


def _comment(text: str) -> str:
    """Text on one line of a TOML comment, where control characters may not stand."""
    return re.sub(r"[\x00-\x08\x0a-\x1f\x7f]+", " ", text)


def _quoted(text: str) -> str:
    """A TOML string; JSON's escapes are TOML's but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
