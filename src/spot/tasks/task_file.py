"""A user's own task: a TOML file that names files with rows and says how a row becomes text and a label.

Rows are CSV, TSV or JSON lines, each also as `.gz`, or Arrow (IPC stream or file, Feather). The rows are read
through once when the task is loaded, so that every mistake in them shows before any model is. A test file stays closed
until its rows are reported; `spot tasks check` reads it.
"""

import codecs
import json
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from spot.errors import TaskError, did_you_mean
from spot.metrics.scores import problems
from spot.reading import DECODES, ENDS, Reading, parse_template
from spot.tasks.readers import ROW_FORMATS, Rows, cannot_read, read_rows, row_format, some, text_field
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
MAY_BE_EMPTY = ("cue", "separator")  # word for word, also where that is nothing
TEXT_COLUMNS = ("text", "sentence")
MOST_LABELS = 200  # more different values than this are open answers, not labels

_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")


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
    end: str
    decode: str
    label: str
    answer: str
    labels: dict[str, str]
    metrics: tuple[str, ...]
    positive: str
    encoding: str
    quotes: bool


def load_task(path: Path) -> Task:
    """The task that a task file describes, every row of it checked but those that it tests on.

    Args:
        path: a TOML file; paths in it are relative to its folder.

    Raises:
        TaskError: the task file or its rows cannot be used; mistakes in the task file are all named at once.
    """
    spec = read_task_file(path)
    labels = _shown_labels(spec) if spec.label and not spec.labels else spec.labels
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
    words = reading.words
    metrics = spec.metrics or (("accuracy",) if words else ("exact_match", "token_f1"))
    for split, file in spec.rows.items():
        if split == "test" and len(spec.rows) > 1:
            continue
        counts = Counter(row.answers[0] for row in _examples(spec, reading, split))
        if not counts:
            raise TaskError(f"{file} has columns but no rows: expected at least one row below the header.")
        if words and len(counts) == 1 and split == next(iter(spec.rows)):
            raise TaskError(
                f"{file}: all {sum(counts.values())} rows have the label {next(iter(counts))!r}; expected at least "
                "two different labels, as one class leaves nothing to learn. Add rows of another class."
            )
    if found := problems(metrics, words, spec.positive):
        raise TaskError(f"{path}: {'; '.join(found)}.")
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


def raw_rows(path: Path, split: str) -> Rows:
    """The rows of one split of a task file, as its file of rows has them, with their numbers."""
    spec = read_task_file(path)
    check_split(spec.name, split, spec.rows)
    return read_rows(spec.rows[split], spec.encoding, spec.quotes)


def read_task_file(path: Path) -> TaskFile:
    """Read and check a task file without its rows.

    Raises:
        TaskError: it is missing, no TOML, or wrong; all its mistakes in one message.
    """
    try:
        found = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise TaskError(cannot_read(path, error).replace("a file with rows", "a task file")) from error
    except ValueError as error:
        hint = f"`spot tasks init {path}` writes one for these rows" if row_format(path) in ROW_FORMATS else "mend it"
        raise TaskError(f"{path} is not a task file in TOML ({error}): {hint}.") from error
    mistakes = _wrong_keys(found)
    spec = TaskFile(
        path=path,
        name=found.get("name", "unnamed"),
        title=found.get("title", ""),
        rows=_row_files(path.parent, found.get("rows", {}), mistakes),
        template=_template(found.get("input", ""), mistakes),
        cue=found.get("cue"),
        separator=found.get("separator"),
        end=_choice("end", found.get("end", "auto"), ENDS, mistakes),
        decode=_choice("decode", found.get("decode", "rank"), DECODES, mistakes),
        label="" if "answer" in found else found.get("label", "label"),
        answer=found.get("answer", ""),
        labels=_label_words(found.get("labels", {}), mistakes),
        metrics=tuple(map(str, found.get("metrics", ()))),
        positive=found.get("positive", ""),
        encoding=_codec(found.get("encoding", "utf-8"), mistakes),
        quotes=found.get("quotes", True),
    )
    if not _NAME.fullmatch(spec.name):
        mistakes.append(f"name is {spec.name!r}, expected letters, digits and . _ - /, such as 'my/reviews'")
    if spec.answer and ("label" in found or "labels" in found):
        mistakes.append("answer stands beside label or labels: answer is for open answers, drop one of the two")
    words = () if spec.answer else tuple(dict.fromkeys(spec.labels.values()))
    # Two labels stand for those that the rows will show, the positive one among them.
    shown = () if spec.answer else (spec.positive, " ")
    mistakes += problems(spec.metrics, words or shown, spec.positive)
    if mistakes:
        raise TaskError("\n  - ".join([f"{path} cannot be used:", *mistakes]))
    return spec


def _wrong_keys(found: dict[str, Any]) -> list[str]:
    """Mistakes in the keys of a task file; a value of the wrong kind is taken out of it."""
    mistakes = [f"unknown key {key!r}; {did_you_mean(key, KEYS)}" for key in found if key not in KEYS]
    mistakes += [f"no key {key!r}, which every task file has" for key in ("name", "rows") if key not in found]
    kinds = {"labels": (dict, list), "rows": (str, dict), "metrics": (list,), "quotes": (bool,)}
    wanted = {dict: "a table", list: "a list of texts", str: "text", bool: "true or false"}
    for key in [key for key in KEYS if key in found]:
        allowed = kinds.get(key, (str,))
        if not isinstance(found[key], allowed):
            expected = " or ".join(wanted[kind] for kind in allowed)
            mistakes.append(f"{key} is {found.pop(key)!r}, expected {expected}")
        elif found[key] in ("", [], {}) and key not in MAY_BE_EMPTY:
            mistakes.append(f"{key} is empty: write a value or leave the key out")
            del found[key]
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
    path = spec.rows[split]
    words = dict(reading.labels)
    for number, row in read_rows(path, spec.encoding, spec.quotes):
        place = f"{path}, row {number}"
        values = {column: _cell(row, column, place, spec) for column in reading.fields}
        if not any(text.strip() for text in values.values()):
            raise TaskError(f"{place}: no text in {some(values)}. Leave the row out.")
        if spec.answer:
            answer = _cell(row, spec.answer, place, spec).strip()
            if not answer:
                raise TaskError(f"{place}: blank answer in column {spec.answer!r}. Fill it or leave the row out.")
        else:
            answer = _word(_cell(row, spec.label, place, spec, plain=True).strip(), words, place, spec)
        texts = tuple(values[column] for _, column in reading.pieces if column)
        yield Example(f"{split}/{number}", reading.render(values), (answer,), texts=texts)


def _cell(row: dict[str, Any], column: str, place: str, spec: TaskFile, plain: bool = False) -> str:
    """One text of a row; with `plain` numbers and truth values are text too, as JSON spells them."""
    if column not in row:
        near = did_you_mean(column, row)
        raise TaskError(
            f"{place} has no column {column!r}, which {spec.path} asks for; its columns: {some(row)}"
            f"{'; ' + near if near.endswith('?') else '. Name another column, or give other rows.'}"
        )
    if plain and isinstance(row[column], int | float):
        return json.dumps(row[column])
    return text_field(row, column, place)


def label_order(value: str) -> tuple[bool, int, str]:
    """The key that label values are sorted by: whole numbers by size, before words."""
    return (not value.isdecimal(), len(value) if value.isdecimal() else 0, value)


def _word(value: str, labels: dict[str, str], place: str, spec: TaskFile) -> str:
    """The label word for a value in the rows."""
    if value not in labels:
        found = f"unknown label {value!r}" if value else "blank label"
        raise TaskError(
            f"{place}: {found} in column {spec.label!r}; known: {some(labels)}. Mend the row, or list the label under "
            f"labels in {spec.path}."
        )
    return labels[value]


def _shown_labels(spec: TaskFile) -> dict[str, str]:
    """The label values in the first split, sorted, where the task file lists none."""
    split, path = next(iter(spec.rows.items()))
    rows = read_rows(path, spec.encoding, spec.quotes)
    values = {_cell(row, spec.label, f"{path}, row {number}", spec, plain=True).strip() for number, row in rows} - {""}
    if len(values) > MOST_LABELS:
        raise TaskError(
            f"{path}: column {spec.label!r} holds {len(values)} different values in {split}, more than {MOST_LABELS}: "
            f'no labels. For open answers write answer = "{spec.label}" in {spec.path}, or list the labels.'
        )
    return {value: value for value in sorted(values, key=label_order)}


def _default_template(spec: TaskFile) -> str:
    """The template where the task file has none: of a column with a usual name, or of the only other one."""
    path = next(iter(spec.rows.values()))
    number, row = next(iter(read_rows(path, spec.encoding, spec.quotes)), (0, None))
    if row is None:
        raise TaskError(f"{path} has columns but no rows: expected at least one row below the header.")
    others = [column for column in row if column not in (spec.label, spec.answer)]
    candidates = [column for column in TEXT_COLUMNS if column in others][:1] or others
    if len(candidates) != 1 or set("{}") & set(candidates[0]):
        raise TaskError(
            f"{path}, row {number}: which column holds the text? Its columns: {some(row)}. Name it in {spec.path}, for "
            'example input = "sentence: {COLUMN}".'
        )
    return f"sentence: {{{candidates[0]}}}"


def _template(template: str, mistakes: list[str]) -> str:
    """A template that can be used, or nothing."""
    try:
        if template:
            parse_template(template)
        return template
    except TaskError as error:
        mistakes.append(f"input {str(error).removeprefix('the template ').rstrip('.')}")
        return ""


def _choice(key: str, value: str, choices: Sequence[str], mistakes: list[str]) -> str:
    """One of a few words."""
    if value not in choices:
        mistakes.append(f"{key} is {value!r}; {did_you_mean(value, choices)}")
        return choices[0]
    return value


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
    """Value in the rows -> label word."""
    words: Iterable[Any] = labels.values() if isinstance(labels, dict) else labels
    wrong = [word for word in words if not isinstance(word, str) or not word.strip()]
    if wrong:
        mistakes.append(f"labels holds {some(wrong)}, expected words in quotation marks")
        return {}
    named = dict(labels) if isinstance(labels, dict) else {word: word for word in labels}
    if labels and len(set(named.values())) < 2:
        mistakes.append(f"labels has the one word {next(iter(named.values()))!r}, expected at least two")
    return named


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
