"""What a known data set is: a row of a table, and the function that makes text of its rows.

Forms are T5's without the task's name in front; with it where a task is asked for by `prefix`. Where the rows come
from is `spot.tasks.origins`' business.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from spot.errors import TaskError
from spot.reading import Reading
from spot.tasks import origins
from spot.tasks.readers import some, text_field
from spot.tasks.task import Example, Task, check_split


@dataclass(frozen=True)
class Row:
    """One row of a data set as its file has it.

    Attributes:
        place: the file and the row, for messages.
        fields: field -> value.
        answered: whether the row must hold its answer; of a row to be predicted a form may give any.
    """

    place: str
    fields: Mapping[str, Any]
    answered: bool = True

    def text(self, field: str) -> str:
        """One text.

        Raises:
            TaskError: the field is missing or holds no text.
        """
        return text_field(dict(self.fields), field, self.place)

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of texts.

        Raises:
            TaskError: the field is missing, is no list, or holds something else than texts.
        """
        values = self._value(field)
        if not isinstance(values, list | tuple):
            raise TaskError(f"{self.place}: field {field!r} holds {values!r:.60}, expected a list of texts; mend it.")
        return tuple(text_field({field: value}, field, self.place) for value in values)

    def inner(self, field: str) -> "Row":
        """A field that holds fields of its own."""
        value = self._value(field)
        if not isinstance(value, dict):
            raise TaskError(f"{self.place}: field {field!r} holds {value!r:.60}, expected fields of its own; mend it.")
        return Row(f"{self.place}, {field}", value, self.answered)

    def word(self, field: str, words: tuple[str, ...]) -> str:
        """The label word that a number stands for; in a row to be predicted the first one.

        Raises:
            TaskError: the field is missing or holds another value.
        """
        if not self.answered:
            return words[0]
        value = self._value(field)
        if type(value) is not int or not 0 <= value < len(words):
            raise TaskError(
                f"{self.place}: field {field!r} is no label of this data set (found {value!r:.60}, expected a number "
                f"from 0 to {len(words) - 1}). Are these its rows, with the hub's field names and label numbers?"
            )
        return words[value]

    def answer(self, field: str) -> str:
        """The text of an open answer; blank in a row to be predicted."""
        return self.text(field) if self.answered else ""

    def _value(self, field: str) -> Any:
        if field not in self.fields:
            raise TaskError(f"{self.place} has no field {field!r}; it has {some(self.fields)}.")
        return self.fields[field]


@dataclass(frozen=True)
class Text:
    """What a form makes of a row: an example but for its id."""

    inputs: str
    answers: tuple[str, ...]
    group: str = ""
    texts: tuple[str, ...] = ()


THREE_WAY = ("entailment", "neutral", "contradiction")
POLARITY = ("negative", "positive")
DUPLICATE = ("not_duplicate", "duplicate")
SIMILARITIES = tuple(f"{step / 5:.1f}" for step in range(26))  # from 0.0 to 5.0, as T5 writes them
ALL_SPLITS = ("train", "validation", "test")

Form = Callable[[Row, bool], Iterable[Text]]  # (row, whether it trains) -> none, one or several examples


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """How the rows of one data set become examples.

    Attributes:
        title: one line for people.
        form: row and whether it trains -> its texts.
        revisions: a word that stands for the examples that the set makes, and one for those with the task's name in
            front. Records of studies name them, so both get a new word (any that the set has not had) whenever its
            text, answers, label words or files change, and keep their word otherwise.
        folder: under a data folder; the name with `_` for `/` where empty.
        hub: `name` or `name:configuration` on the Hugging Face hub; empty where no copy loads without its own code.
        labels: the label words; empty for open answers.
        metrics: names from `spot.metrics.scores.METRICS`.
        splits: of the data folder, with answers.
        hub_splits: split -> its name on the hub, where they are not the data folder's.
        hidden_labels: splits whose answers are not public: they are handed in.
        paper: `arXiv:` or `ACL:` id.
        licence: as generally stated for the set.
        size: official number of train examples, which mixtures go by: of ReCoRD one an answer, of WSC the true rows
            alone; of C4 the number of its documents; None where unknown.
        kind: form of the answers: `label`, `number` or `text`.
        name: in front of the inputs with `prefix`; None for the last part of the task's name and a blank.
    """

    title: str
    form: Form
    revisions: tuple[str, str]
    folder: str = ""
    hub: str = ""
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("accuracy",)
    splits: tuple[str, ...] = ("train", "validation")
    hub_splits: Mapping[str, str] = field(default_factory=dict)
    hidden_labels: tuple[str, ...] = ()
    paper: str = ""
    licence: str = "unknown"
    size: int | None = None
    kind: str = "label"
    name: str | None = None


def keyed(*pairs: tuple[str, str]) -> str:
    """T5's form of several texts: `premise: It rains. hypothesis: It is wet.`."""
    return " ".join(f"{key}: {text}" for key, text in pairs)


def rated(field: str) -> Form:
    """T5's form of STS-B: a pair and its mean rating, rounded to the nearest fifth (ties to the even one).

    Ratings are numbers from 0 to 5, written as `SIMILARITIES`.

    Args:
        field: holds the rating.
    """

    def form(row: Row, train: bool) -> Iterator[Text]:
        pair = row.text("sentence1"), row.text("sentence2")
        rating = row.fields.get(field) if row.answered else 0
        if type(rating) not in (int, float) or not 0 <= rating <= 5:
            raise TaskError(
                f"{row.place}: field {field!r} holds {rating!r:.60}, expected a number from 0 to 5; mend it."
            )
        inputs = keyed(("sentence1", pair[0]), ("sentence2", pair[1]))
        yield Text(inputs, (SIMILARITIES[round(rating * 5)],), texts=pair)

    return form


def task_of(name: str, row: DataSet, data: Path | None = None, prefix: bool = False) -> Task:
    """The task of a data set; nothing is read before one of its splits is.

    Args:
        name: of the task.
        row: of a table.
        data: where the rows are, see `sources.rows`.
        prefix: put the task's name in front of each input, as T5 does.
    """
    splits = origins.splits(row, data)
    load = partial(_load, name, row, data, prefix)
    hidden_labels = tuple(split for split in row.hidden_labels if split not in splits)
    plain, with_prefix = row.revisions
    return Task(
        name,
        load,
        splits,
        row.labels,
        row.metrics,
        revision=with_prefix if prefix else plain,
        title=row.title,
        size=row.size,
        kind=row.kind,
        hidden_labels=hidden_labels,
        reading=Reading(form=name, task_prefix=prefix),
    )


def raw(name: str, row: DataSet, data: Path | None, split: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of one split as its file has them, with the numbers that their examples are named by."""
    return ((number, fields) for number, (_, fields) in enumerate(origins.rows(name, row, data, split), start=1))


def _load(name: str, row: DataSet, data: Path | None, prefix: bool, split: str) -> Iterator[Example]:
    """Stream one split of a known data set; a row that makes several examples numbers them."""
    check_split(name, split, (*row.splits, *row.hidden_labels))
    answered = split in origins.splits(row, data)
    for number, (place, fields) in enumerate(origins.rows(name, row, data, split), start=1):
        for part, text in enumerate(row.form(Row(place, fields, answered), split == "train"), start=1):
            yield Example(
                f"{split}/{number}" if part == 1 else f"{split}/{number}.{part}",
                named(name, row, text.inputs) if prefix else text.inputs,
                text.answers if answered else (),
                text.group,
                text.texts,
            )


def named(name: str, row: DataSet, inputs: str) -> str:
    """Inputs with the task's name in front, as T5 writes them."""
    return (f"{name.rpartition('/')[2]} " if row.name is None else row.name) + inputs
