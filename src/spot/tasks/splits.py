"""Split the rows of a task: which of them train, which select and which are only reported."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from typing import Any

from spot.errors import TaskError
from spot.tasks.readers import some
from spot.tasks.task import Example, Task, place_key, text_key


@dataclass(frozen=True)
class Splits:
    """The rows that train, those that choose (steps, settings, sources) and those that are only reported."""

    train: Sequence[Example]
    selection: Sequence[Example]
    report: Sequence[Example]


class LazyRows(Sequence[Example]):
    """Rows that are read the first time that somebody asks for one, so that nothing can be learned from them before."""

    def __init__(self, read: Callable[[], tuple[Example, ...]]):
        """Keep `read` for later; it is called once."""
        self._read = read

    @cached_property
    def _rows(self) -> tuple[Example, ...]:
        return self._read()

    def __getitem__(self, index: Any) -> Any:
        """One row, or several as a tuple."""
        return self._rows[index]

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def __eq__(self, other: object) -> bool:
        """Whether the rows are the same."""
        return isinstance(other, Sequence) and self._rows == tuple(other)


def split_rows(
    task: Task, train_rows: int | None, select_rows: int | None, report_rows: int | None, seed: int
) -> Splits:
    """Decide which rows train, select and report; no text is in two of the three.

    Validation rows select and test rows report. Without a test split half of validation does, by hash; without
    a validation split a fifth of train selects; of a lone train split 60 % train, 20 % select and 20 % report.
    The seed only samples: the parts themselves are the same under every seed, so a row that selects under one
    seed never reports under another. A text that trains and selects, or reports in the same split, only does the
    latter. Rows of one group are never parted by a hash, and what selects or reports is sampled by whole groups, so
    that a metric over groups means the same on a sample. A test split is not opened before its rows are asked for;
    those whose text stands in another split are left out.

    Args:
        task: where the rows come from.
        train_rows: at most this many train, sampled without replacement; None for all. Rows that are not drawn are
            not kept in memory.
        select_rows: at most this many select, or the rows of one group where that alone is larger; None for all.
        report_rows: the same for what reports; 0 reports nothing and leaves a test split closed.
        seed: of the samples. A smaller sample is a part of a larger one with the same seed.

    Returns:
        The rows of each role in the order of their file.

    Raises:
        TaskError: there is no train split, or a role would be empty that needs rows; for a test split when its rows
            are asked for.
    """
    train, select, report = _parts(task)
    reported = {text_key(row) for row in report}
    select = [row for row in select if text_key(row) not in reported]
    held_out = reported | {text_key(row) for row in select}
    training = Counter()

    def trains() -> Iterator[Example]:
        for row in train():
            if text_key(row) not in held_out:
                training["rows"] += 1
                yield row

    limits = {"train": train_rows, "selection": select_rows, "report": report_rows}
    splits = Splits(
        train=_sample(trains(), train_rows, f"{seed}/train"),
        selection=_sample_groups(select, select_rows, f"{seed}/select"),
        report=_sample_groups(report, report_rows, f"{seed}/report"),
    )
    is_later = "test" in task.splits and report_rows != 0
    counts = {
        "train": str(training["rows"]),
        "selection": str(len(select)),
        "report": "later" if is_later else str(len(report)),
    }
    needed = {"train": splits.train, "selection": splits.selection, "report": splits.report}
    if is_later or report_rows == 0:
        del needed["report"]
    for role, rows in needed.items():
        if not rows:
            raise TaskError(_no_rows(task, role, limits, counts))
    if is_later:
        return replace(splits, report=LazyRows(lambda: _tested(task, limits, counts, f"{seed}/report")))
    return splits


def sample_rows(rows: Sequence[Example], limit: int, seed: int = 0) -> tuple[Example, ...]:
    """At most so many of some rows, drawn without replacement by whole groups, in their old order.

    Args:
        rows: such as those that report.
        limit: most of them.
        seed: of the draw; a smaller draw is a part of a larger one.
    """
    return _sample_groups(rows, limit, f"{seed}/report")


def _tested(task: Task, limits: Mapping[str, int | None], counts: Mapping[str, str], salt: str) -> tuple[Example, ...]:
    """The test rows that report: those whose text stands in no other split."""
    rows = list(task.load("test"))
    texts = {text_key(row) for row in rows}
    elsewhere = set()
    for split in task.splits:
        if split != "test":
            elsewhere |= {key for row in task.load(split) if (key := text_key(row)) in texts}
    rows = [row for row in rows if text_key(row) not in elsewhere]
    sample = _sample_groups(rows, limits["report"], salt)
    if not sample:
        raise TaskError(_no_rows(task, "report", limits, {**counts, "report": str(len(rows))}))
    return sample


def _no_rows(task: Task, role: str, limits: Mapping[str, int | None], counts: Mapping[str, str]) -> str:
    """The message for a role that would be empty."""
    listed = ", ".join(f"{count} for {name}" for name, count in counts.items())
    asked = "" if limits[role] is None else f" and {limits[role]} were asked for"
    return (
        f"{task.name} has no row left for {role}: found {listed}{asked}; each role needs at least one row of its "
        f"own text. Ask for at least 1 row, or give more rows (splits here: {', '.join(task.splits)})."
    )


def _parts(task: Task) -> tuple[Callable[[], Iterable[Example]], list[Example], list[Example]]:
    """A stream of all rows that may train, and those that may select and report, before equal texts are taken out.

    A test split stays closed: its rows are no part of this.
    """
    if "train" not in task.splits:
        raise TaskError(f"{task.name} has no train split; it has {some(task.splits)}. Give rows to train on.")
    if "validation" in task.splits:
        bounds = () if "test" in task.splits else (0.5,)
        select, *report = _carve(task.load("validation"), bounds)
        return lambda: task.load("train"), select, report[0] if report else []
    first, *rest = (0.8,) if "test" in task.splits else (0.6, 0.8)
    select, *report = _carve((row for row in task.load("train") if _share(row) >= first), rest)
    return lambda: (row for row in task.load("train") if _share(row) < first), select, report[0] if report else []


def _carve(rows: Iterable[Example], bounds: Sequence[float]) -> list[list[Example]]:
    """Cut rows into parts by a hash in [0, 1) of their group or text: row order and other rows don't matter."""
    parts: list[list[Example]] = [[] for _ in range(len(bounds) + 1)]
    for row in rows:
        parts[sum(_share(row) >= bound for bound in bounds)].append(row)
    return parts


def _share(row: Example) -> float:
    """A hash of the row's group or text as a number in [0, 1)."""
    return int.from_bytes(_hash(row.group or place_key(row))) / 2**64


def _sample(rows: Iterable[Example], limit: int | None, salt: str) -> tuple[Example, ...]:
    """Draw rows without replacement: those with the smallest salted hashes of their ids, in their old order."""
    if limit is None:
        return tuple(rows)
    ranked = heapq.nsmallest(limit, enumerate(rows), key=lambda numbered: _hash(f"{salt}/{numbered[1].id}"))
    return tuple(row for _, row in sorted(ranked, key=lambda numbered: numbered[0]))


def _sample_groups(rows: Sequence[Example], limit: int | None, salt: str) -> tuple[Example, ...]:
    """Draw whole groups without replacement while they fit, and at least one; a row without a group is its own.

    They are those with the smallest salted hashes of their names; the rows stay in their old order.
    """
    if limit is None:
        return tuple(rows)
    ranks = [_hash(f"{salt}/{row.group or row.id}") for row in rows]
    sizes = Counter(ranks)
    order = sorted(sizes)
    fitting = sum(total <= limit for total in accumulate(sizes[rank] for rank in order))
    taken = set(order[: fitting or min(limit, 1)])
    return tuple(row for row, rank in zip(rows, ranks, strict=True) if rank in taken)


def _hash(text: str) -> bytes:
    """Eight bytes that are the same on every machine, unlike Python's own hash."""
    return blake2b(text.encode(), digest_size=8).digest()
