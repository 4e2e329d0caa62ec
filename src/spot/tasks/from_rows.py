"""Read rows that are in memory: a data frame, mappings, columns, an Arrow table or a data set of `datasets`.

Neither pandas nor datasets is imported here: their objects are told by the module of their type, and read by their own
methods.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from os import PathLike
from typing import Any, Literal, TypedDict

from spot.errors import TaskError, did_you_mean
from spot.metrics.scores import problems
from spot.reading import Reading
from spot.tasks.columns import (
    Columns,
    Fields,
    Text,
    check_apart,
    check_classes,
    default_metrics,
    default_template,
    instruction_mistakes,
    label_mistakes,
    name_mistakes,
    row_texts,
    shown_labels,
    spelled,
    template_of,
)
from spot.tasks.readers import some

OWNER = "Task.from_rows"  # for messages
LIBRARIES = ("pandas", "pyarrow", "datasets")
EXPECTED = (
    "a pandas DataFrame, a list of dicts, a dict of columns, a pyarrow Table, a datasets.Dataset or DatasetDict, or a "
    "dict of train, validation and test with one of these each"
)

# What pandas makes of missing values where a column is turned into text.
SPELLED_MISSING = ("nan", "<NA>", "NaT")

Labels = Mapping[Any, str]  # value in the rows -> label word


class Settings(TypedDict, total=False):
    """What may also be said of a task.

    Attributes:
        title: one line for people.
        metrics: names from `spot.metrics.scores.METRICS`.
        positive: the label word that F1 is of.
        instruction: what is asked of a row, in plain words; no part of what a model reads of it.
        cue, separator, decode, end, chat, system: as in `spot.reading.Reading`.
    """

    title: str
    metrics: str | Sequence[str]
    positive: str
    instruction: str
    cue: str | None
    separator: str | None
    decode: Literal["rank", "generate"]
    end: Literal["auto", "always", "never"]
    chat: bool
    system: str


@dataclass(frozen=True)
class Table:
    """The rows of one split.

    Attributes:
        rows: column -> value of each.
        classes: column -> the names of its numbers, where the rows bring them along.
    """

    rows: Sequence[Fields]
    classes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a task takes of rows in memory.

    Attributes:
        texts: split -> the text of each row.
        reading: how they were made.
        metrics: names from `spot.metrics.scores.METRICS`.
        revision: sixteen hex digits over the texts and how they were made.
    """

    texts: Mapping[str, tuple[Text, ...]]
    reading: Reading
    metrics: tuple[str, ...]
    revision: str


def read_contents(
    rows: Any,
    splits: Sequence[str],
    *,
    text: str | Sequence[str],
    template: str,
    label: str,
    answer: str,
    labels: Labels | None,
    settings: Settings,
) -> Contents:
    """Make texts of rows in memory, each one checked.

    Args:
        rows: see `Task.from_rows`, as are the others.
        splits: their names, in order; rows without one are of the first.
        text: the columns with text.
        template: how they become the input, instead of `text`.
        label: the column with the label.
        answer: the column with the open answer, instead of `label`.
        labels: value in the rows -> label word.
        settings: of metrics and reading.

    Raises:
        TaskError: the rows or what is said of them cannot be used.
    """
    if unknown := sorted(set(settings) - set(Settings.__annotations__)):
        names = ("text", "template", "label", "answer", "labels", "name", *Settings.__annotations__)
        raise TaskError(f"{OWNER}: unknown keyword {unknown[0]!r}; {did_you_mean(unknown[0], names)}")
    for name, kind, expected in (
        ("instruction", str, "text"),
        ("system", str, "text"),
        ("chat", bool, "True or False"),
    ):
        if name in settings and not isinstance(settings[name], kind):
            raise TaskError(f"{OWNER}: {name} is {settings[name]!r:.60}, expected {expected}.")
    if mistakes := instruction_mistakes(settings.get("instruction", "")):
        raise TaskError(f"{OWNER}: {mistakes[0]}.")
    if answer and (label or labels):
        raise TaskError(f"{OWNER}: answer stands beside label or labels. It is for open answers: drop one of the two.")
    template = _template(text, template)
    columns = Columns(
        label="" if answer else label or "label", answer=answer, owner=OWNER, text_example='text="COLUMN"'
    )
    tables = {split: _table(rows, split) for split, rows in _splits(rows, splits).items()}
    tables = {split: _answered(table, split, columns, labels or ()) for split, table in tables.items()}
    first, table = next(iter(tables.items()))
    numbered = {split: list(enumerate(table.rows, start=1)) for split, table in tables.items()}
    if columns.answer:
        words: Mapping[str, str] = {}
    elif labels is not None:
        words = _label_words(labels, table.classes.get(columns.label, ()))
    elif names := table.classes.get(columns.label):
        words = {name: name for name in names}
    else:
        words = shown_labels(numbered[first], first, columns)
    reading = Reading(
        template=template or default_template(table.rows[0], f"{first}, row 1", columns),
        labels=tuple(words.items()),
        cue=settings.get("cue"),
        separator=settings.get("separator"),
        decode=settings.get("decode", "rank"),
        end=settings.get("end", "auto"),
        chat=settings.get("chat", False),
        system=settings.get("system", ""),
    )
    check_apart(reading, columns)
    texts = {
        split: tuple(text for _, text in row_texts(rows, split, columns, reading)) for split, rows in numbered.items()
    }
    if reading.words:
        check_classes(Counter(text.answers[0] for text in texts[first]), first)
    metrics = settings.get("metrics", ())
    metrics = (metrics,) if isinstance(metrics, str) else tuple(metrics) or default_metrics(reading.words)
    if mistakes := problems(metrics, reading.words, settings.get("positive", "")):
        raise TaskError(f"{OWNER}: {'; '.join(mistakes)}")
    revision = _revision(texts, reading, settings.get("positive", ""))
    return Contents(texts=texts, reading=reading, metrics=metrics, revision=revision)


def check_name(name: str) -> None:
    """Refuse what is no name of a task.

    Raises:
        TaskError: it is none.
    """
    if mistakes := name_mistakes(name):
        raise TaskError(f"{OWNER}: {mistakes[0]}.")


def _template(text: str | Sequence[str], template: str) -> str:
    """The template, also where columns are named instead; empty where nothing is."""
    columns = (text,) if isinstance(text, str) else tuple(text)
    if text and template:
        raise TaskError(f"{OWNER}: both text ({text!r}) and a template ({template!r}) are given: expected one.")
    if not text:
        return template
    if wrong := [column for column in columns if not isinstance(column, str) or not column]:
        raise TaskError(f"{OWNER}: text holds {some(wrong)}, expected the name of a column, or several.")
    if braced := [column for column in columns if set("{}") & set(column)]:
        raise TaskError(f"{OWNER}: no template can name the column {some(braced)}. Rename it, without braces.")
    return template_of(columns)


def _splits(rows: Any, splits: Sequence[str]) -> dict[str, Any]:
    """Split -> rows, in the order of the splits."""
    if not isinstance(rows, Mapping):
        return {splits[0]: rows}
    is_dataset_dict = _library(rows) == "datasets"
    if not is_dataset_dict and not any(map(_is_table, rows.values())):
        return {splits[0]: rows}
    unknown = [split for split in rows if split not in splits]
    tables = {split: rows[split] for split in splits if split in rows}
    if unknown and not (is_dataset_dict and tables):
        raise TaskError(f"{OWNER}: unknown split {unknown[0]!r}, expected {some(splits)}. Rename it, or leave it out.")
    if not tables:
        raise TaskError(f"{OWNER}: found no split, expected one of {some(splits)} at least.")
    return tables


def _is_table(value: object) -> bool:
    """Whether a value holds rows rather than the cells of a column."""
    if isinstance(value, list | tuple):
        return bool(value) and isinstance(value[0], Mapping)
    return isinstance(value, Mapping) or (_library(value) != "" and _has_columns(value))


def _library(value: object) -> str:
    """The library of a value's type, or of a type that it extends; empty for others."""
    roots = (base.__module__.partition(".")[0] for base in type(value).__mro__)
    return next((root for root in roots if root in LIBRARIES), "")


def _has_columns(value: Any) -> bool:
    """Whether a value of one of the libraries is a table: its columns alone are none."""
    return any(hasattr(value, name) for name in ("columns", "schema", "column_names"))


def items_of(rows: Any, place: str) -> Iterable[Any]:
    """The rows of a table of pandas, pyarrow or datasets, or of a dict of columns; of anything else what it holds.

    Args:
        rows: holds them.
        place: what they are, for messages.

    Raises:
        TaskError: columns share a name or are not equally long.
    """
    library = _library(rows) if _has_columns(rows) else ""
    if library == "pandas":
        _check_doubled([str(column) for column in rows.columns], place)
        return rows.to_dict(orient="records")
    if library == "pyarrow":
        _check_doubled(rows.schema.names, place)
        return rows.to_pylist()
    if library == "datasets":
        return rows.with_format(None)
    if isinstance(rows, Mapping):
        return _transposed(rows, place)
    return rows.to_pylist() if hasattr(rows, "to_pylist") else rows


def _table(rows: Any, split: str) -> Table:
    """The rows of a split, whatever holds them."""
    holds_rows = _has_columns(rows) if _library(rows) else isinstance(rows, Iterable)
    if not holds_rows or isinstance(rows, str | bytes | PathLike):
        raise _wrong_kind(rows)
    features: Mapping[str, Any] = rows.features or {} if _library(rows) == "datasets" else {}
    items = list(items_of(rows, split))
    if not items:
        raise TaskError(f"{split} holds no rows: expected at least one in {OWNER}. Leave an empty split out.")
    for number, row in enumerate(items, start=1):
        if not isinstance(row, Mapping):
            raise TaskError(f"{split}, row {number}: found {row!r:.60}, expected a dict: column -> value.")
    return Table(items, {column: tuple(kind.names) for column, kind in features.items() if hasattr(kind, "names")})


def _wrong_kind(rows: object) -> TaskError:
    """The refusal of something that holds no rows."""
    file = isinstance(rows, str | PathLike)
    what = f"the text {str(rows)!r:.60}" if file else f"a value of type {type(rows).__name__}"
    mend = " For a file of rows write a task file (`spot tasks init ROWS`) and give that." if file else ""
    return TaskError(f"{OWNER}: found {what}, expected {EXPECTED}.{mend}")


def _check_doubled(columns: Sequence[str], place: str) -> None:
    """Refuse columns that share a name."""
    if doubled := [column for column, count in Counter(columns).items() if count > 1]:
        raise TaskError(f"{place}: more than one column is called {some(doubled)}. Rename the columns.")


def _transposed(columns: Mapping[Any, Any], place: str) -> list[Fields]:
    """Rows of a dict of columns."""
    values: dict[Any, list[Any]] = {}
    for column, cells in columns.items():
        if isinstance(cells, str | bytes) or not hasattr(cells, "__iter__"):
            raise TaskError(
                f"{place}: column {column!r} is {cells!r:.60}, expected a list with a value a row. Put a single row "
                "into a list."
            )
        values[column] = cells.to_pylist() if hasattr(cells, "to_pylist") else list(cells)
    lengths = {column: len(cells) for column, cells in values.items()}
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{column!r} {length}" for column, length in lengths.items())
        raise TaskError(f"{place}: the columns are not equally long ({counted}); expected a value a row in each.")
    return [dict(zip(values, cells, strict=True)) for cells in zip(*values.values(), strict=True)]


def _answered(table: Table, split: str, columns: Columns, known: Iterable[Any]) -> Table:
    """A table whose rows all have an answer, as text, number or truth value.

    Args:
        table: of the split.
        split: for messages.
        columns: hold the answers.
        known: values that are labels, whatever they look like.
    """
    column = columns.label or columns.answer
    what, expected = ("label", "one text or number") if columns.label else ("answer", "one text")
    names = table.classes.get(column, ())
    rows, missing, lists = [], [], []
    for number, row in enumerate(table.rows, start=1):
        value = _plain(row[column]) if column in row else "?"
        is_spelled = bool(columns.label) and isinstance(value, str) and value in SPELLED_MISSING and value not in known
        if _is_missing(value) or is_spelled:
            missing.append(number)
        elif isinstance(value, list | tuple | set | dict) or getattr(value, "ndim", 0):
            lists.append((number, value))
        value = _named(value, names)
        rows.append({**row, column: value} if column in row else row)
    if missing:
        raise TaskError(
            f"{split}: {len(missing)} of {len(rows)} rows have no {what} in column {column!r}, the first is row "
            f"{missing[0]}. Fill it in or leave these rows out."
        )
    if lists:
        number, value = lists[0]
        raise TaskError(
            f"{split}, row {number}: column {column!r} holds {value!r:.60}, expected {expected}: a row has one {what}."
        )
    return Table(rows, table.classes)


def _plain(value: Any) -> Any:
    """A scalar of numpy as Python has it."""
    return value.item() if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0 else value


def _named(value: Any, names: Sequence[str]) -> Any:
    """The name of a class where the value is its number; other values are left as they are."""
    return names[value] if type(value) is int and 0 <= value < len(names) else value


def _is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, no number, pandas' NA and NaT, or blank text."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return not value.strip() if isinstance(value, str) else isinstance(value, float) and value != value


def _label_words(labels: Any, names: Sequence[str]) -> dict[str, str]:
    """Value in the rows, as text -> label word; the numbers of named classes stand for their names."""
    if not isinstance(labels, Mapping):
        raise TaskError(
            f"{OWNER}: labels is {labels!r:.60}, expected a dict: value in the rows -> word that is answered, such as "
            '{0: "negative", 1: "positive"}.'
        )
    if mistakes := label_mistakes(labels.values()) or ([] if labels else ["labels is empty"]):
        raise TaskError(f"{OWNER}: {mistakes[0]}. Leave labels out to take those of the rows.")
    words: dict[str, str] = {}
    for value, word in labels.items():
        value = _plain(value)
        if not isinstance(value, str | int | float):
            raise TaskError(f"{OWNER}: labels has the value {value!r:.60}, expected text or a number.")
        spelling = spelled(_named(value, names))
        if spelling in words:
            raise TaskError(f"{OWNER}: the label {spelling!r} is named more than once in labels; name each once.")
        words[spelling] = word
    return words


def _revision(texts: Mapping[str, tuple[Text, ...]], reading: Reading, positive: str) -> str:
    """Sixteen hex digits over the texts of rows, how they were made and what F1 is of."""
    form = [reading.template, reading.cue, reading.separator, reading.labels, reading.decode, reading.end, positive]
    form += [reading.chat, reading.system] if reading.chat else []
    digest = blake2b(json.dumps(form).encode(), digest_size=8)
    for split, rows in texts.items():
        digest.update(f"\0{split}\0".encode())
        for row in rows:
            digest.update(json.dumps([row.inputs, row.answers, row.texts]).encode() + b"\n")
    return digest.hexdigest()
