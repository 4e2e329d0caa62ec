"""Read a user's own task: a TOML file that names files with rows and says how a row becomes text and a label.

Rows are CSV, TSV or JSON lines, each also as `.gz`, or Arrow (IPC stream or file, Feather). The rows are read
through once when the task is loaded, so that every mistake in them shows before any model is. A test file stays closed
until its rows are reported; `spot tasks check` reads it.
"""

import codecs
import os
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, TypeVar

from spot.errors import TaskError, did_you_mean
from spot.metrics.scores import problems
from spot.reading import DECODES, ENDS, Reading, parse_template
from spot.tasks.columns import (
    Columns,
    check_apart,
    check_classes,
    default_metrics,
    default_template,
    label_mistakes,
    name_mistakes,
    row_texts,
    shown_labels,
)
from spot.tasks.readers import ROW_FORMATS, Rows, cannot_read, read_rows, row_format
from spot.tasks.task import SPLITS, Example, Task, check_split

KEYS = (
    "name",
    "title",
    "rows",
    "input",
    "cue",
    "separator",
    "end",
    "decode",
    "label",
    "labels",
    "answer",
    "metrics",
    "positive",
    "encoding",
    "quotes",
)
Word = TypeVar("Word", bound=str)

MAY_BE_EMPTY = ("cue", "separator")  # word for word, also where that is nothing


@dataclass(frozen=True, kw_only=True)
class TaskFile:
    """A task file as its user wrote it.

    Attributes:
        path: of the task file.
        name: of the task.
        title: one line for people.
        rows: split -> file.
        template: the input's, with columns in braces; empty for the default.
        cue, separator: as in `Reading`; None for the default.
        end, decode: as in `Reading`.
        label: the column with the label, empty for open answers.
        answer: the column with the open answer, empty for labels.
        labels: value in the rows -> label word; empty for the values that the first split shows.
        metrics: names from `spot.metrics.scores.METRICS`; empty for the default.
        positive: the label word that F1 is of; empty where none is named.
        encoding: of the rows.
        quotes: whether a quotation mark encloses cells of CSV and TSV or is text like any other.
    """

    path: Path
    name: str
    title: str
    rows: dict[str, Path]
    template: str
    cue: str | None
    separator: str | None
    end: Literal["auto", "always", "never"]
    decode: Literal["rank", "generate"]
    label: str
    answer: str
    labels: dict[str, str]
    metrics: tuple[str, ...]
    positive: str
    encoding: str
    quotes: bool

    @property
    def columns(self) -> Columns:
        """The columns that hold what is answered."""
        return Columns(
            label=self.label, answer=self.answer, owner=str(self.path), text_example='input = "sentence: {COLUMN}"'
        )


def load_task(path: Path) -> Task:
    """The task that a task file describes, every row of it checked but those that it tests on.

    Args:
        path: a TOML file; paths in it are relative to its folder.

    Raises:
        TaskError: the task file or its rows cannot be used; mistakes in the task file are all named at once.
    """
    spec = read_task_file(path)
    first, first_file = next(iter(spec.rows.items()))
    labels = spec.labels
    if spec.label and not labels:
        labels = shown_labels(_rows(spec, first), str(first_file), spec.columns)
    reading = Reading(
        template=spec.template or _default_template(spec),
        cue=spec.cue,
        separator=spec.separator,
        labels=tuple(labels.items()),
        decode=spec.decode,
        end=spec.end,
        encoding=spec.encoding,
        quotes=spec.quotes,
    )
    check_apart(reading, spec.columns)
    words = reading.words
    metrics = spec.metrics or default_metrics(words)
    for split, file in spec.rows.items():
        if split == "test" and len(spec.rows) > 1:
            continue
        counts = Counter(row.answers[0] for row in _examples(spec, reading, split))
        if not counts:
            raise TaskError(f"{file} has columns but no rows: expected at least one row below the header.")
        if words and split == first:
            check_classes(counts, str(file))
    if mistakes := problems(metrics, words, spec.positive):
        raise TaskError(f"{path}: {'; '.join(mistakes)}.")
    load = partial(_examples, spec, reading)
    kind = "label" if words else "text"
    return Task(
        spec.name,
        load,
        tuple(spec.rows),
        words,
        metrics,
        revision=_revision(spec),
        title=spec.title,
        kind=kind,
        reading=reading,
        positive=spec.positive,
    )


def file_rows(path: Path, split: str) -> Rows:
    """The rows of one split of a task file, as its file of rows has them, with their numbers."""
    spec = read_task_file(path)
    check_split(spec.name, split, spec.rows)
    return _rows(spec, split)


def read_task_file(path: Path) -> TaskFile:
    """Read and check a task file without its rows.

    Raises:
        TaskError: it is missing, no TOML, or wrong; all its mistakes in one message.
    """
    try:
        keys = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise TaskError(cannot_read(path, error).replace("a file with rows", "a task file")) from error
    except ValueError as error:
        hint = f"`spot tasks init {path}` writes one for these rows" if row_format(path) in ROW_FORMATS else "mend it"
        raise TaskError(f"{path} is not a task file in TOML ({error}): {hint}.") from error
    mistakes = _wrong_keys(keys)
    spec = TaskFile(
        path=path,
        name=keys.get("name", "unnamed"),
        title=keys.get("title", ""),
        rows=_row_files(path.parent, keys.get("rows", {}), mistakes),
        template=_template(keys.get("input", ""), mistakes),
        cue=keys.get("cue"),
        separator=keys.get("separator"),
        end=_choice("end", keys.get("end", "auto"), ENDS, mistakes),
        decode=_choice("decode", keys.get("decode", "rank"), DECODES, mistakes),
        label="" if "answer" in keys else keys.get("label", "label"),
        answer=keys.get("answer", ""),
        labels=_label_words(keys.get("labels", {}), mistakes),
        metrics=tuple(map(str, keys.get("metrics", ()))),
        positive=keys.get("positive", ""),
        encoding=_codec(keys.get("encoding", "utf-8"), mistakes),
        quotes=keys.get("quotes", True),
    )
    mistakes += name_mistakes(spec.name)
    if spec.answer and ("label" in keys or "labels" in keys):
        mistakes.append("answer stands beside label or labels: answer is for open answers, drop one of the two")
    words = () if spec.answer else tuple(dict.fromkeys(spec.labels.values()))
    # Two labels stand for those that the rows will show, the positive one among them.
    shown = () if spec.answer else (spec.positive, " ")
    mistakes += problems(spec.metrics, words or shown, spec.positive)
    if mistakes:
        raise TaskError("\n  - ".join([f"{path} cannot be used:", *mistakes]))
    return spec


def _wrong_keys(keys: dict[str, Any]) -> list[str]:
    """Mistakes in the keys of a task file; a value of the wrong kind is taken out of it."""
    mistakes = [f"unknown key {key!r}; {did_you_mean(key, KEYS)}" for key in keys if key not in KEYS]
    mistakes += [f"no key {key!r}, which every task file has" for key in ("name", "rows") if key not in keys]
    kinds = {"labels": (dict, list), "rows": (str, dict), "metrics": (list,), "quotes": (bool,)}
    descriptions = {dict: "a table", list: "a list of texts", str: "text", bool: "true or false"}
    for key in [key for key in KEYS if key in keys]:
        allowed = kinds.get(key, (str,))
        if not isinstance(keys[key], allowed):
            expected = " or ".join(descriptions[kind] for kind in allowed)
            mistakes.append(f"{key} is {keys.pop(key)!r}, expected {expected}")
        elif keys[key] in ("", [], {}) and key not in MAY_BE_EMPTY:
            mistakes.append(f"{key} is empty: write a value or leave the key out")
            del keys[key]
    return mistakes


def _codec(encoding: str, mistakes: list[str]) -> str:
    """Python's name for an encoding of text."""
    try:
        "a".encode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, ValueError):
        mistakes.append(f"no encoding {encoding!r} of text; common ones: utf-8, utf-16, cp1252, latin-1")
        return encoding


def _examples(spec: TaskFile, reading: Reading, split: str) -> Iterator[Example]:
    """Stream the rows of a split as examples, each one checked."""
    check_split(spec.name, split, spec.rows)
    for number, text in row_texts(_rows(spec, split), str(spec.rows[split]), spec.columns, reading):
        yield Example(f"{split}/{number}", text.inputs, text.answers, texts=text.texts)


def _rows(spec: TaskFile, split: str) -> Rows:
    """Stream the rows of a split as their file has them."""
    return read_rows(spec.rows[split], spec.encoding, spec.quotes)


def _default_template(spec: TaskFile) -> str:
    """The template where the task file has none."""
    split, path = next(iter(spec.rows.items()))
    for number, row in _rows(spec, split):
        return default_template(row, f"{path}, row {number}", spec.columns)
    raise TaskError(f"{path} has columns but no rows: expected at least one row below the header.")


def _template(template: str, mistakes: list[str]) -> str:
    """A template that can be used, or nothing."""
    try:
        if template:
            parse_template(template)
        return template
    except TaskError as error:
        mistakes.append(f"input {str(error).removeprefix('the template ').rstrip('.')}")
        return ""


def _choice(key: str, value: str, choices: Sequence[Word], mistakes: list[str]) -> Word:
    """One of a few words."""
    for choice in choices:
        if choice == value:
            return choice
    mistakes.append(f"{key} is {value!r}; {did_you_mean(value, choices)}")
    return choices[0]


def _row_files(folder: Path, rows: str | dict[str, Any], mistakes: list[str]) -> dict[str, Path]:
    """Split -> file, in the order train, validation, test."""
    named = {"train": rows} if isinstance(rows, str) else rows
    for split, file in named.items():
        if split not in SPLITS:
            mistakes.append(f"rows has an unknown split {split!r}; {did_you_mean(split, SPLITS)}")
        if not isinstance(file, str) or not file or "\0" in file:
            mistakes.append(f"rows: {split} is {file!r}, expected the path of a file")
    files = {
        split: folder / os.path.expanduser(named[split])
        for split in SPLITS
        if isinstance(named.get(split), str) and named[split]
    }
    for split, file in files.items():
        if (first := next(other for other in files if files[other] == file)) != split:
            mistakes.append(f"rows: {first} and {split} are the same file {file}; name it once, it is split by itself")
    return files


def _label_words(labels: dict[str, Any] | list[Any], mistakes: list[str]) -> dict[str, str]:
    """Value in the rows -> label word; of a list each word is its own value."""
    wrong = label_mistakes(labels.values() if isinstance(labels, dict) else labels)
    mistakes += wrong
    if wrong:
        return {}
    return dict(labels) if isinstance(labels, dict) else {word: word for word in labels}


def _revision(spec: TaskFile) -> str:
    """Sixteen hex digits over the bytes of the task file and of its rows; a test file must only be there."""
    digest = blake2b(spec.path.read_bytes(), digest_size=8)
    for split, file in spec.rows.items():
        digest.update(f"\0{split}\0".encode())
        try:
            with file.open("rb") as rows:
                while (split != "test" or len(spec.rows) == 1) and (block := rows.read(1 << 20)):
                    digest.update(block)
        except OSError as error:
            raise TaskError(cannot_read(file, error)) from error
    return digest.hexdigest()
