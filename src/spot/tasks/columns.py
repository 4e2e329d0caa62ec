"""Make text and answer of the columns of a row: one way for task files and for rows in memory."""

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spot.errors import TaskError, did_you_mean
from spot.reading import Reading
from spot.storage.text import printable
from spot.tasks.readers import shown, some, text_field

TEXT_COLUMNS = ("text", "sentence")
MOST_INSTRUCTION = 2000  # characters, some 500 tokens: longer than any prompt that is tuned here
MOST_LABELS = 200  # more different values than this are open answers, not labels
# Spellings of no label at all, as pandas, R, spreadsheets and databases write it; case is passed over.
MISSING = ("", "nan", "n/a", "na", "#n/a", "<na>", "nat", "null", "none")

ONE_LABEL = (
    "A row has one label: make a task of each label, with yes or no as its answer, or keep the rows that have one, as "
    "text."
)

_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
_LIST = re.compile(r"\s*\[.*\]\s*", re.DOTALL)

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Text:
    """What is made of a row: an example but for its id.

    Attributes:
        inputs: what the model reads.
        answers: the accepted answers, the first one is trained on.
        group: rows of one group stand together; empty for no group.
        texts: the raw text fields, for finding equal rows.
    """

    inputs: str
    answers: tuple[str, ...]
    group: str = ""
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The column that holds what is answered, and who names it.

    Attributes:
        label: the column with the label; empty for open answers.
        answer: the column with the open answer; empty for labels.
        owner: who names the columns, for messages: a task file's path, or `Task.from_rows`.
        text_example: how the owner may name the column with the text, for messages.
        missing: values of the label, in small letters, by which a row has none; empty where every row must have one.
    """

    label: str
    answer: str
    owner: str
    text_example: str
    missing: frozenset[str] = frozenset()


def row_texts(
    rows: Iterable[tuple[int, Fields]],
    place: str,
    columns: Columns,
    reading: Reading,
    unlabelled: Counter[str] | None = None,
) -> Iterator[tuple[int, Text]]:
    """Stream rows as texts, each one checked; rows without a label are left out.

    Args:
        rows: with their numbers from 1.
        place: where they come from, for messages.
        columns: hold the answers.
        reading: its template and labels.
        unlabelled: counts the rows that are left out, by what stands in the label's place.

    Yields:
        The row's number and its text.

    Raises:
        TaskError: a row lacks a column, has no text, or has no answer or one that is no label.
    """
    words = dict(reading.labels)
    for number, row, nothing in with_missing(rows, columns, words):
        where = f"{place}, row {number}"
        if nothing is not None:
            if unlabelled is not None:
                unlabelled[nothing] += 1
            continue
        values = {column: _cell(row, column, where, columns) for column in reading.fields}
        if not any(text.strip() for text in values.values()):
            raise TaskError(f"{where}: no text in {some(values)}. Leave the row out.")
        if columns.answer:
            answer = _cell(row, columns.answer, where, columns).strip()
            if not answer:
                raise TaskError(f"{where}: blank answer in column {columns.answer!r}. Fill it or leave the row out.")
        else:
            answer = _word(label_value(row, where, columns), words, where, columns)
        texts = tuple(values[column] for _, column in reading.pieces if column)
        yield number, Text(reading.render(values), (answer,), texts=texts)


def label_value(row: Fields, where: str, columns: Columns) -> str:
    """The value in the label's column as text; numbers and truth values as JSON spells them.

    Raises:
        TaskError: the row lacks the column, or it holds something else.
    """
    value = row.get(columns.label)
    if isinstance(value, int | float):
        return spelled(value)
    if isinstance(value, list | tuple | dict | set):
        raise TaskError(f"{where}: column {columns.label!r} holds {shown(value)}, expected one label. {ONE_LABEL}")
    return _cell(row, columns.label, where, columns).strip()


def no_label(row: Fields, columns: Columns, words: Collection[str] = ()) -> str | None:
    """What stands in the label's place where a row has none, such as `nan`; None where it has one.

    Args:
        row: its fields.
        columns: the label's, and which values are none.
        words: values that are labels, whatever they look like.
    """
    if not columns.missing or columns.label not in row or not columns.label:
        return None
    value = row[columns.label]
    if value is None:
        return "null"
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if not isinstance(value, str) or value.strip() in words:
        return None
    return value.strip() or "blank" if value.strip().casefold() in columns.missing else None


def left_out(unlabelled: Counter[str], others: int, columns: Columns) -> str:
    """What to say of rows without a label.

    Args:
        unlabelled: what stands in the label's place -> rows.
        others: rows that have one.
        columns: the label's.
    """
    listed = ", ".join(f"{value!r} {count}" for value, count in unlabelled.most_common(10))
    return (
        f"{unlabelled.total()} of {unlabelled.total() + others} rows have no label in column {columns.label!r} ("
        f"{listed}) and are left out; where such a value is a label, list it under labels in "
        f'{columns.owner}, or say which are none: missing = [""]'
    )


def with_missing(
    rows: Iterable[tuple[int, Fields]], columns: Columns, words: Collection[str] = ()
) -> Iterator[tuple[int, Fields, str | None]]:
    """Rows with what stands in the label's place where they have none.

    A row of JSON that lacks the column has no label where one before it has the column; the first row must have it, as
    another name may be meant.

    Args:
        rows: with their numbers.
        columns: the label's, and which values are none.
        words: values that are labels, whatever they look like.
    """
    is_there = False
    for number, row in rows:
        if is_there and columns.missing and columns.label and columns.label not in row:
            yield number, row, "absent"
            continue
        is_there = is_there or columns.label in row
        yield number, row, no_label(row, columns, words)


def several_labels(values: Collection[str]) -> str:
    """A value that holds several labels of those that stand by themselves elsewhere, or a list; empty without one.

    Args:
        values: all that the label's column holds.
    """
    for value in values:
        if _LIST.fullmatch(value):
            return value
        for mark in ("|", ";", ","):
            parts = [part.strip() for part in value.split(mark)]
            if len(parts) > 1 and len(set(parts)) == len(parts) and all(part in values for part in parts):
                return value
    return ""


def spelled(value: str | float) -> str:
    """A label's value as text: numbers and truth values as JSON spells them."""
    if isinstance(value, str):
        return value.strip()
    try:
        return json.dumps(value)
    except ValueError as error:  # a whole number of more than 4,300 digits
        raise TaskError(f"a label is {shown(value)}: expected text or a number. Mend the row.") from error


def named(value: object, names: Sequence[str]) -> object:
    """The name of a class where the value is its number, nothing where it is -1, as of rows without a label.

    Args:
        value: of a row.
        names: of the classes, by their numbers.
    """
    if type(value) is not int or not -1 <= value < len(names):
        return value
    return names[value] if value >= 0 else None


def check_apart(reading: Reading, columns: Columns) -> None:
    """Refuse a template that reads the answer.

    Raises:
        TaskError: the column of the label or the answer stands in the template.
    """
    told = columns.label or columns.answer
    if told in reading.fields:
        raise TaskError(
            f"{columns.owner}: the input {reading.template!r} reads {told!r}, which holds the answer, so the model "
            "would be told it: expected other columns. Take it out of the input."
        )


def shown_labels(rows: Iterable[tuple[int, Fields]], place: str, columns: Columns) -> dict[str, str]:
    """The label values that rows show, sorted, where nobody lists them: each is its own label word.

    Raises:
        TaskError: there are more than MOST_LABELS, or a row has no value.
    """
    values = {
        label_value(row, f"{place}, row {number}", columns)
        for number, row, nothing in with_missing(rows, columns)
        if nothing is None
    } - {""}
    if several := several_labels(values):
        raise TaskError(
            f"{place}: column {columns.label!r} holds {several!r}, several labels in one. {ONE_LABEL} Where it is one "
            f"label, list the labels in {columns.owner}."
        )
    if len(values) > MOST_LABELS:
        raise TaskError(
            f"{place}: column {columns.label!r} holds {len(values)} different values, more than {MOST_LABELS}: no "
            f'labels. For open answers write answer = "{columns.label}" in {columns.owner}, or list the labels.'
        )
    return {value: value for value in sorted(values, key=label_order)}


def label_order(value: str) -> tuple[bool, int, str]:
    """The key that label values are sorted by: whole numbers by size, before words."""
    return (not value.isdecimal(), len(value) if value.isdecimal() else 0, value)


def label_mistakes(words: Iterable[object]) -> list[str]:
    """What is wrong with the label words that somebody lists."""
    words = list(words)
    if wrong := [word for word in words if not isinstance(word, str) or not word.strip()]:
        return [f"labels holds {some(wrong)}, expected words in quotation marks"]
    if words and len(set(words)) < 2:
        return [f"labels has the one word {words[0]!r}, expected at least two"]
    return []


def name_mistakes(name: str) -> list[str]:
    """What is wrong with the name of a task."""
    if _NAME.fullmatch(name):
        return []
    return [f"name is {name!r}, expected letters, digits and . _ - /, such as 'my/reviews'"]


def instruction_mistakes(instruction: str) -> list[str]:
    """What is wrong with an instruction, which is printable text of one line or more; nothing of an empty one."""
    if not instruction:
        return []
    if not instruction.strip():
        return ["instruction is blank, expected words; write them or leave it out"]
    if len(instruction) > MOST_INSTRUCTION:
        return [
            f"instruction has {len(instruction):,} characters, expected at most {MOST_INSTRUCTION:,}; say in a "
            "sentence what is asked of a row"
        ]
    if (shown := printable(instruction, lines=True)) != instruction:
        return [f"instruction is {printable(shown):.60s}, expected printable text; take the control characters out"]
    return []


def template_of(columns: Sequence[str]) -> str:
    """The template of columns whose form nobody says: `sentence: {review}`, or `premise: {premise} hypothesis: ..`."""
    return " ".join(f"{'sentence' if len(columns) == 1 else column}: {{{column}}}" for column in columns)


def default_template(row: Fields, where: str, columns: Columns) -> str:
    """The template where nobody names a column: of the one with a usual name, or of the only other one.

    Raises:
        TaskError: no column has a usual name and there are several, or none.
    """
    others = [column for column in row if column not in (columns.label, columns.answer)]
    candidates = [column for column in TEXT_COLUMNS if column in others][:1] or others
    if len(candidates) != 1 or set("{}") & set(candidates[0]):
        raise TaskError(
            f"{where}: which column holds the text? Its columns: {some(row)}. Name it in {columns.owner}, for example "
            f"{columns.text_example}."
        )
    return template_of(candidates)


def default_metrics(words: Sequence[str]) -> tuple[str, ...]:
    """The metrics where nobody names them: of a task with these label words, or of open answers."""
    return ("accuracy",) if words else ("exact_match", "token_f1")


def check_classes(counts: Counter[str], place: str) -> None:
    """Refuse rows that all have one label.

    Args:
        counts: rows of each label.
        place: where the rows come from, for messages.

    Raises:
        TaskError: there is one label.
    """
    if len(counts) == 1:
        raise TaskError(
            f"{place}: all {counts.total()} rows have the label {next(iter(counts))!r}; expected at least two "
            "different labels, as one class leaves nothing to learn. Add rows of another class."
        )


def _cell(row: Fields, column: str, where: str, columns: Columns) -> str:
    """One text of a row."""
    if column not in row:
        near = did_you_mean(column, map(str, row))
        raise TaskError(
            f"{where} has no column {column!r}, which {columns.owner} asks for; its columns: {some(row)}"
            f"{'; ' + near if near.endswith('?') else '. Name another column, or give other rows.'}"
        )
    return text_field(row, column, where)


def _word(value: str, words: Mapping[str, str], where: str, columns: Columns) -> str:
    """The label word for a value in the rows."""
    if value not in words:
        problem = f"unknown label {value!r}" if value else "blank label"
        raise TaskError(
            f"{where}: {problem} in column {columns.label!r}; known: {some(words)}. Mend the row, or list the label "
            f"under labels in {columns.owner}."
        )
    return words[value]
