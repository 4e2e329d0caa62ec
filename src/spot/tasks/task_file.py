"""Read a user's own task: a TOML file that names files with rows and says how a row becomes text and a label.

Rows are tables of text, JSON, Excel, Parquet or Arrow, see `formats`; what the task file does not say of a file is seen
in it. The rows are read through when the task is loaded, so that every mistake in them shows before any model is. A
test file stays closed until its rows are reported; `spot tasks check` reads it.
"""

import logging
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from spot.errors import TaskError, did_you_mean
from spot.metrics.scores import problems
from spot.reading import DECODES, ENDS, Reading, chat_mistakes, parse_template
from spot.tasks.binary_rows import class_names, is_data_folder, saved_splits
from spot.tasks.columns import (
    MISSING,
    Columns,
    Fields,
    check_apart,
    check_classes,
    default_metrics,
    default_template,
    instruction_mistakes,
    label_mistakes,
    left_out,
    name_mistakes,
    named,
    row_texts,
    shown_labels,
    with_missing,
)
from spot.tasks.detection import Seen, see
from spot.tasks.formats import (
    MAX_RATIO,
    MAX_ROW,
    FileFormat,
    Source,
    cannot_read,
    codec_name,
    ending_format,
    form_mistakes,
    open_plain,
)
from spot.tasks.readers import Rows, read_rows
from spot.tasks.task import SPLITS, Example, Task, check_split

KEYS = (
    "name",
    "title",
    "instruction",
    "rows",
    "input",
    "cue",
    "separator",
    "end",
    "chat",
    "system",
    "decode",
    "label",
    "labels",
    "answer",
    "metrics",
    "positive",
    "missing",
    "format",
    "encoding",
    "delimiter",
    "quotes",
    "skip_space",
    "header",
    "sheet",
    "max_row",
    "max_ratio",
)
Word = TypeVar("Word", bound=str)

MAY_BE_EMPTY = ("cue", "separator", "missing")  # word for word, also where that is nothing
MAX_FILE = 10 << 20  # bytes of a task file

# The lines of an instruction, in each of the ways that TOML writes a text, with the comment behind it.
_TEXTS = (r'"{3}(?:[^\\]|\\.)*?"{3,5}', r"'{3}.*?'{3,5}", r'"(?:[^"\\\n]|\\.)*"', r"'[^'\n]*'")
_INSTRUCTION = re.compile(
    rf"""^[ \t]*(["']?)instruction\1[ \t]*=[ \t]*(?:{"|".join(_TEXTS)})[ \t]*(?:\#[^\n]*)?(?:\r?\n|\Z)""",
    re.MULTILINE | re.DOTALL,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TaskFile:
    """A task file as its user wrote it.

    Attributes:
        path: of the task file.
        name: of the task.
        title: one line for people.
        instruction: what is asked of a row, in plain words; empty where nothing is said.
        rows: split -> file.
        template: the input's, with columns in braces; empty for the default.
        cue, separator: as in `Reading`; None for the default.
        end, decode, chat, system: as in `Reading`.
        label: the column with the label, empty for open answers.
        answer: the column with the open answer, empty for labels.
        labels: value in the rows -> label word; empty for the values that the first split shows.
        metrics: names from `spot.metrics.scores.METRICS`; empty for the default.
        positive: the label word that F1 is of; empty where none is named.
        missing: values of the label, in small letters, by which a row has none.
        form: how the files of rows are read, as far as it is said.
        seen: split -> how its file is read, where that was looked at already.
    """

    path: Path
    name: str
    title: str
    instruction: str
    rows: dict[str, Path]
    template: str
    cue: str | None
    separator: str | None
    end: Literal["auto", "always", "never"]
    decode: Literal["rank", "generate"]
    chat: bool
    system: str
    label: str
    answer: str
    labels: dict[str, str]
    metrics: tuple[str, ...]
    positive: str
    missing: frozenset[str]
    form: FileFormat
    seen: dict[str, Seen] = field(default_factory=dict)

    @property
    def columns(self) -> Columns:
        """The columns that hold what is answered."""
        return Columns(
            label=self.label,
            answer=self.answer,
            owner=str(self.path),
            text_example='input = "sentence: {COLUMN}"',
            missing=self.missing,
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
    opened = {split: file for split, file in spec.rows.items() if split != "test" or len(spec.rows) == 1}
    spec = replace(spec, seen={split: _see(spec, split) for split in opened})
    for split, seen in spec.seen.items():
        if not seen.is_usual:
            log.warning("%s: %s", opened[split], "; ".join(seen.words))
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
        chat=spec.chat,
        system=spec.system,
        encoding=spec.seen[first].form.encoding or "utf-8",
        quotes=spec.seen[first].form.quotes != "",
    )
    check_apart(reading, spec.columns)
    words = reading.words
    metrics = spec.metrics or default_metrics(words)
    for split, file in opened.items():
        unlabelled: Counter[str] = Counter()
        counts = Counter(row.answers[0] for row in _examples(spec, reading, split, unlabelled))
        if unlabelled:
            log.warning("%s: %s", file, left_out(unlabelled, counts.total(), spec.columns))
        if not counts:
            raise TaskError(_no_rows(file, unlabelled, spec.columns))
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
        instruction=spec.instruction,
    )


def file_rows(path: Path, split: str) -> Iterator[tuple[int, Fields]]:
    """The rows of one split of a task file that have a label, as its file has them, with their numbers."""
    spec = read_task_file(path)
    check_split(spec.name, split, spec.rows)
    rows = with_missing(_rows(spec, split), spec.columns, spec.labels)
    return ((number, row) for number, row, nothing in rows if nothing is None)


def read_words(path: Path) -> list[str]:
    """How the files of a task are read and which rows are left out, in words, those that are tested on among them.

    Raises:
        TaskError: the task file or its rows cannot be read.
    """
    spec = read_task_file(path)
    words = []
    for split, file in spec.rows.items():
        seen = _see(spec, split)
        words.append(f"{file}: {'; '.join(seen.words)}")
        rows = _rows(replace(spec, seen={split: seen}), split)
        values = [nothing for *_, nothing in with_missing(rows, spec.columns, spec.labels)]
        if unlabelled := Counter(value for value in values if value is not None):
            words.append(f"{file}: {left_out(unlabelled, len(values) - unlabelled.total(), spec.columns)}")
    return words


def read_task_file(path: Path) -> TaskFile:
    """Read and check a task file without its rows.

    Raises:
        TaskError: it is missing, no TOML, or wrong; all its mistakes in one message.
    """
    try:
        with open_plain(Source(path)) as file:
            text = file.read(MAX_FILE + 1)
        if len(text) > MAX_FILE:
            raise ValueError(f"more than {MAX_FILE:,} bytes")
        keys = tomllib.loads(text.decode("utf-8"))
    except TaskError as error:
        raise TaskError(
            str(error).replace("regular file with rows", "task file").replace("file with rows", "task file")
        ) from error
    except OSError as error:
        raise TaskError(cannot_read(path, error).replace("a file with rows", "a task file")) from error
    except (ValueError, RecursionError) as error:
        hint = f"`spot tasks init {path}` writes one for these rows" if ending_format(path) else "mend it"
        raise TaskError(f"{path} is not a task file in TOML ({error}): {hint}.") from error
    mistakes = _wrong_keys(keys)
    spec = TaskFile(
        path=path,
        name=keys.get("name", "unnamed"),
        title=keys.get("title", ""),
        instruction=keys.get("instruction", ""),
        rows=_row_files(path.parent, keys.get("rows", {}), mistakes),
        template=_template(keys.get("input", ""), mistakes),
        cue=keys.get("cue"),
        separator=keys.get("separator"),
        end=_choice("end", keys.get("end", "auto"), ENDS, mistakes),
        decode=_choice("decode", keys.get("decode", "rank"), DECODES, mistakes),
        chat=keys.get("chat", False),
        system=keys.get("system", ""),
        label="" if "answer" in keys else keys.get("label", "label"),
        answer=keys.get("answer", ""),
        labels=_label_words(keys.get("labels", {}), mistakes),
        metrics=tuple(map(str, keys.get("metrics", ()))),
        positive=keys.get("positive", ""),
        missing=_missing(keys.get("missing", MISSING), mistakes),
        form=_form(keys, mistakes),
    )
    mistakes += name_mistakes(spec.name) + instruction_mistakes(spec.instruction)
    mistakes += chat_mistakes(spec.chat, spec.cue, spec.system)
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
    kinds = {
        "labels": (dict, list),
        "rows": (str, dict),
        "metrics": (list,),
        "missing": (list,),
        "quotes": (bool, str),
        "chat": (bool,),
        "skip_space": (bool,),
        "header": (bool,),
        "max_row": (int,),
        "max_ratio": (int,),
    }
    descriptions = {dict: "a table", list: "a list of texts", str: "text", bool: "true or false", int: "a whole number"}
    for key in [key for key in KEYS if key in keys]:
        allowed = kinds.get(key, (str,))
        if not isinstance(keys[key], allowed) or (isinstance(keys[key], bool) and bool not in allowed):
            expected = " or ".join(descriptions[kind] for kind in allowed)
            mistakes.append(f"{key} is {keys.pop(key)!r}, expected {expected}")
        elif keys[key] in ("", [], {}) and key not in MAY_BE_EMPTY:
            mistakes.append(f"{key} is empty: write a value or leave the key out")
            del keys[key]
    return mistakes


def _form(keys: dict[str, Any], mistakes: list[str]) -> FileFormat:
    """What a task file says of how its rows are read."""
    quotes = keys.get("quotes")
    form = FileFormat(
        format=keys.get("format", ""),
        encoding=keys.get("encoding", ""),
        delimiter=keys.get("delimiter", ""),
        quotes=quotes if quotes is None or isinstance(quotes, str) else '"' if quotes else "",
        skip_space=keys.get("skip_space"),
        header=keys.get("header"),
        sheet=keys.get("sheet", ""),
        max_row=keys.get("max_row", MAX_ROW),
        max_ratio=keys.get("max_ratio", MAX_RATIO),
    )
    mistakes += form_mistakes(form)
    return replace(form, encoding=codec_name(form.encoding))


def _missing(values: Sequence[Any], mistakes: list[str]) -> frozenset[str]:
    """Spellings of no label."""
    if wrong := [value for value in values if not isinstance(value, str)]:
        mistakes.append(f"missing holds {wrong[0]!r}, expected texts in quotation marks")
    return frozenset(value.strip().casefold() for value in values if isinstance(value, str))


def _examples(
    spec: TaskFile, reading: Reading, split: str, unlabelled: Counter[str] | None = None
) -> Iterator[Example]:
    """Stream the rows of a split as examples, each one checked."""
    check_split(spec.name, split, spec.rows)
    for number, text in row_texts(_rows(spec, split), str(spec.rows[split]), spec.columns, reading, unlabelled):
        yield Example(f"{split}/{number}", text.inputs, text.answers, texts=text.texts)


def _see(spec: TaskFile, split: str) -> Seen:
    """How the file of a split is read."""
    if split in spec.seen:
        return spec.seen[split]
    fields = [name for _, name in parse_template(spec.template) if name] if spec.template else []
    return see(spec.rows[split], spec.form, [*fields, spec.label or spec.answer])


def _rows(spec: TaskFile, split: str) -> Rows:
    """Stream the rows of a split as their file has them, classes by the names that the file has for their numbers."""
    form = _see(spec, split).form
    rows = read_rows(spec.rows[split], form)
    names = class_names(spec.rows[split], form, form.format).get(spec.label, ())
    # Who lists the numbers as labels has names of his own for them.
    if not names or any(str(number) in spec.labels for number in range(len(names))):
        return rows
    return (
        (number, {**row, spec.label: named(row[spec.label], names)} if spec.label in row else row)
        for number, row in rows
    )


def _no_rows(file: Path, unlabelled: Counter[str], columns: Columns) -> str:
    """The message for a file that gives no example."""
    if unlabelled:
        return f"{file}: {left_out(unlabelled, 0, columns)}. Give rows with labels."
    return f"{file} has columns but no rows: expected at least one row below the header."


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
    if isinstance(rows, str) and (splits := _saved_splits(folder / os.path.expanduser(rows), mistakes)):
        named = {split: os.path.join(rows, split) for split in splits if split in SPLITS}
        if "train" not in named:
            mistakes.append(
                f"rows holds the splits {', '.join(splits)}, expected train; name them: rows = {{ train = .. }}"
            )
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


def _saved_splits(path: Path, mistakes: list[str]) -> tuple[str, ...]:
    """The splits of a folder that a `DatasetDict` was saved in; none of anything else."""
    try:
        return saved_splits(path)
    except TaskError as error:
        mistakes.append(str(error))
        return ()


def _label_words(labels: dict[str, Any] | list[Any], mistakes: list[str]) -> dict[str, str]:
    """Value in the rows -> label word; of a list each word is its own value."""
    wrong = label_mistakes(labels.values() if isinstance(labels, dict) else labels)
    mistakes += wrong
    if wrong:
        return {}
    return dict(labels) if isinstance(labels, dict) else {word: word for word in labels}


def _without_instruction(content: bytes) -> bytes:
    """A task file as it would be without the lines of its instruction."""
    text = content.decode("utf-8")
    keys = {key: value for key, value in tomllib.loads(text).items() if key != "instruction"}
    for match in islice(_INSTRUCTION.finditer(text), 10):
        rest = text[: match.start()] + text[match.end() :]
        with suppress(ValueError):
            if tomllib.loads(rest) == keys:  # else these lines stand inside the text of another key
                return rest.encode("utf-8")
    return content


def _revision(spec: TaskFile) -> str:
    """Sixteen hex digits over the bytes of the task file and of its rows; a test file must only be there.

    The instruction does not count: it changes nothing of the rows.
    """
    digest = blake2b(_without_instruction(spec.path.read_bytes()), digest_size=8)
    for split, file in spec.rows.items():
        digest.update(f"\0{split}\0".encode())
        for part in sorted(file.iterdir()) if is_data_folder(file) else [file]:
            if part != file and part.is_dir():
                continue
            with open_plain(Source(part)) as rows:
                try:
                    while (split != "test" or len(spec.rows) == 1) and (block := rows.read(1 << 20)):
                        digest.update(block)
                except OSError as error:
                    raise TaskError(cannot_read(file, error)) from error
    return digest.hexdigest()
