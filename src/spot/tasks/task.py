"""What a task is: rows of text with label words, and which of them train, select and report."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from spot.errors import TaskError, did_you_mean
from spot.reading import Reading
from spot.storage.text import letters

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Example:
    """One row, all text.

    Attributes:
        id: names the row inside its task, such as `train/12`.
        inputs: what the model reads, in the form `sentence: ...`.
        answers: the accepted answers, the first one is trained on; a label word where the task has labels.
        group: rows of one group stand together, such as all questions on one passage; empty for no group.
        texts: the raw text fields, for finding equal rows.
    """

    id: str
    inputs: str
    answers: tuple[str, ...]
    group: str = ""
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A named task over text.

    Attributes:
        name: such as `glue/sst2`.
        load: reads one split, as a stream of rows; refuses a split that is not in `splits`.
        splits: some of train, validation, test.
        labels: the label words; empty for open answers.
        metrics: names from `spot.metrics.scores.METRICS`.
        revision: changes when the rows or their form change; empty where unknown.
        title: one line for people.
        size: official number of train examples, see `data_sets.DataSet`; None where unknown.
        kind: form of the answers: `label`, `number` or `text`.
        hidden_labels: splits that can be read but hold no answers: predictions of them are handed in.
        reading: how a row becomes text, and what may be answered.
        positive: the label that F1 is of; empty where none is named, None where it is the last one, as in benchmarks.
    """

    name: str
    load: Callable[[str], Iterator[Example]]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    revision: str = ""
    title: str = ""
    size: int | None = None
    kind: str = "label"
    hidden_labels: tuple[str, ...] = ()
    reading: Reading = field(default_factory=Reading)
    positive: str | None = None

    def __post_init__(self) -> None:
        """The reading names the labels too, so that it can stand by itself in a prompt file."""
        object.__setattr__(self, "reading", self.reading.of_labels(self.labels))


def text_key(example: Example) -> str:
    """What two rows share when their texts are equal but for spacing, case and punctuation.

    A text without letters and digits, such as `:-)`, is told by its other characters.
    """
    return "\x1f".join(letters(text) or " ".join(text.split()) for text in example.texts or (example.inputs,))


def data_digest(examples: Iterable[Example]) -> str:
    """Sixteen hex digits over what the rows say, in their order: inputs, answers, groups; ids don't count."""
    digest = blake2b(digest_size=8)
    for row in examples:
        digest.update(json.dumps([row.inputs, row.answers, row.group]).encode() + b"\n")
    return digest.hexdigest()


def check_split(name: str, split: str, splits: Collection[str]) -> None:
    """Refuse a split that a task does not have.

    Raises:
        TaskError: the split is unknown; names those there are.
    """
    if split not in splits:
        raise TaskError(f"{name} has no split {split!r}; {did_you_mean(split, splits)}")
