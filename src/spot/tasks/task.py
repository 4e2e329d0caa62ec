"""What a task is: rows of text with label words, and which of them train, select and report."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any, Unpack

from spot.errors import TaskError, did_you_mean
from spot.reading import Reading
from spot.storage.text import copy_key, letters
from spot.tasks.columns import Text
from spot.tasks.from_rows import Labels, Settings, check_name, read_contents

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
        sentinels: special tokens that the form itself put into inputs and answers; any other special token that a
            text spells is text.
    """

    id: str
    inputs: str
    answers: tuple[str, ...]
    group: str = ""
    texts: tuple[str, ...] = ()
    sentinels: tuple[str, ...] = ()


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
        size: official number of train examples, see `data_set.DataSet`; None where unknown.
        kind: form of the answers: `label`, `number` or `text`.
        hidden_labels: splits that can be read but hold no answers: predictions of them are handed in.
        reading: how a row becomes text, and what may be answered.
        positive: the label that F1 is of; empty where none is named, None where it is the last one, as in benchmarks.
        instruction: what is asked of a row, in plain words; a prompt may start so, but no model reads it with a row.
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
    instruction: str = ""

    def __post_init__(self) -> None:
        """The reading names the labels too, so that it can stand by itself in a prompt file."""
        object.__setattr__(self, "reading", self.reading.of_labels(self.labels))

    @classmethod
    def from_rows(
        cls,
        rows: Any,
        *,
        text: str | Sequence[str] = "",
        label: str = "",
        answer: str = "",
        labels: Labels | None = None,
        template: str = "",
        name: str = "rows",
        **settings: Unpack[Settings],
    ) -> "Task":
        """A task of rows in memory, every row checked; later changes to the rows do not reach it.

        Args:
            rows: a pandas DataFrame, a list of dicts, a dict of columns, a pyarrow Table or a `datasets.Dataset`; or a
                `DatasetDict` (its splits train, validation and test) or a dict of these splits with one of the others
                each. Rows without a split are split as those of a task file with one file.
            text: the column with text, or several: `text=("premise", "hypothesis")` makes `premise: .. hypothesis: ..`
                of them, one alone makes `sentence: ..`. Without it and a template: the column `text` or `sentence`, or
                the only one beside the label.
            label: the column with the label: texts, numbers, truth values or the `ClassLabel` of `datasets`, whose
                names are the words; `label` where neither this nor `answer` is given.
            answer: the column with an open answer, instead of a label.
            labels: value of a label -> the word that is answered; without it each value is its own word, and the values
                are those of the first split.
            template: how a row becomes text, such as `"review: {title} | {body}"`, instead of `text`.
            name: of the task.
            **settings: `title`, `metrics`, `positive` (the label that F1 is of), `instruction` (what is asked of a
                row), and `cue`, `separator`, `decode`, `end`, `chat` and `system` of `Reading`.

        Raises:
            TaskError: the rows are of no known kind, or there are none; a column is missing; a row has no text, or no
                label, or several or an unknown one; all rows have one label; or what is said of them is contradictory.
        """
        check_name(name)
        contents = read_contents(
            rows, SPLITS, text=text, template=template, label=label, answer=answer, labels=labels, settings=settings
        )
        return cls(
            name,
            partial(_load, name, contents.texts),
            tuple(contents.texts),
            contents.reading.words,
            contents.metrics,
            revision=contents.revision,
            title=settings.get("title", ""),
            kind="label" if contents.reading.words else "text",
            reading=contents.reading,
            positive=settings.get("positive", ""),
            instruction=settings.get("instruction", ""),
        )


def _load(name: str, texts: Mapping[str, Sequence[Text]], split: str) -> Iterator[Example]:
    """Stream the rows of a split that are in memory."""
    check_split(name, split, texts)
    for number, text in enumerate(texts[split], start=1):
        yield Example(f"{split}/{number}", text.inputs, text.answers, texts=text.texts)


def text_key(example: Example) -> str:
    """What two rows share when their texts are copies of each other, see `copy_key`."""
    return "\x1f".join(map(copy_key, example.texts or (example.inputs,)))


def place_key(example: Example) -> str:
    """What decides the part of a split that a row falls into; it must never change, or all parts would."""
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
