"""Audit the rows of a task: count labels, blank and repeated texts, and texts that splits share."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from spot.tasks.faults import tellers
from spot.tasks.task import Task, text_key


@dataclass(frozen=True, kw_only=True)
class SplitCheck:
    """What the rows of one split look like.

    Attributes:
        split: its name.
        rows: how many there are.
        labels: label word -> rows; empty for open answers.
        blank: rows with a blank text field.
        duplicates: rows whose texts an earlier row of the split has, but for case, spacing and sentence marks.
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


def check_task(task: Task) -> tuple[SplitCheck, ...]:
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


def faults_of(task: Task) -> list[str]:
    """What the input tells of the answer, a sentence a column; nothing of known tasks and of open answers.

    Raises:
        TaskError: the rows cannot be read.
    """
    fields = [field for _, field in task.reading.pieces if field]
    if not fields or not task.labels:
        return []
    words = {word: value for value, word in task.reading.labels}
    reasons: dict[str, str] = {}
    for split in task.splits:
        rows = list(task.load(split))
        columns = {field: [row.texts[place] for row in rows] for place, field in enumerate(fields)}
        told = tellers(columns, [row.answers[0] for row in rows], words)
        # Of a few texts, each of them often, one must go with the other: toy rows are not wrong for it.
        reasons |= {field: reason for field, reason in told.items() if len(fields) > 1 or " goes " not in reason}
    return [f"the input reads {field!r}, and {reason}" for field, reason in reasons.items()]
