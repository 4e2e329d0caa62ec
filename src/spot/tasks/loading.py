"""Load a known data set as a task: its examples, and its rows as their file has them."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from spot.reading import Reading
from spot.tasks.data_set import DataSet, RawRow, sentinels_of, with_name
from spot.tasks.origins import answered_splits, read_split
from spot.tasks.task import Example, Task, check_split


def task_of(name: str, data_set: DataSet, data: Path | None = None, prefix: bool = False) -> Task:
    """The task of a data set; nothing is read before one of its splits is.

    Args:
        name: of the task.
        data_set: of a table.
        data: where the rows are, see `origins.read_split`.
        prefix: put the task's name in front of each input, as T5 does.
    """
    splits = answered_splits(data_set, data)
    load = partial(_load, name, data_set, data, prefix)
    hidden_labels = tuple(split for split in data_set.hidden_labels if split not in splits)
    plain, with_prefix = data_set.revisions
    return Task(
        name,
        load,
        splits,
        data_set.labels,
        data_set.metrics,
        revision=with_prefix if prefix else plain,
        title=data_set.title,
        size=data_set.size,
        kind=data_set.kind,
        hidden_labels=hidden_labels,
        reading=Reading(form=name, task_prefix=prefix),
        instruction=data_set.instruction,
    )


def data_set_rows(
    name: str, data_set: DataSet, data: Path | None, split: str
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of one split as its file has them, with the numbers that their examples are named by."""
    return ((number, fields) for number, (_, fields) in enumerate(read_split(name, data_set, data, split), start=1))


def _load(name: str, data_set: DataSet, data: Path | None, prefix: bool, split: str) -> Iterator[Example]:
    """Stream one split of a known data set; a row that makes several examples numbers them."""
    check_split(name, split, (*data_set.splits, *data_set.hidden_labels))
    answered = split in answered_splits(data_set, data)
    for number, (place, fields) in enumerate(read_split(name, data_set, data, split), start=1):
        for part, text in enumerate(data_set.form(RawRow(place, fields, answered), split == "train"), start=1):
            yield Example(
                f"{split}/{number}" if part == 1 else f"{split}/{number}.{part}",
                with_name(text.inputs, name, data_set) if prefix else text.inputs,
                text.answers if answered else (),
                text.group,
                text.texts,
                sentinels_of(text) if data_set.has_sentinels else (),
            )
