"""Describe a known data set: an entry of a table, and the function that makes text of its rows.

Forms are T5's without the task's name in front; with it where a task is asked for by `prefix`. Where the rows come
from is `spot.tasks.origins`' business.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spot.errors import TaskError
from spot.tasks.columns import Text
from spot.tasks.readers import some, text_field


@dataclass(frozen=True)
class RawRow:
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
        return text_field(self.fields, field, self.place)

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of texts.

        Raises:
            TaskError: the field is missing, is no list, or holds something else than texts.
        """
        values = self._value(field)
        if not isinstance(values, list | tuple):
            raise TaskError(f"{self.place}: field {field!r} holds {values!r:.60}, expected a list of texts; mend it.")
        return tuple(text_field({field: value}, field, self.place) for value in values)

    def inner(self, field: str) -> "RawRow":
        """A field that holds fields of its own."""
        value = self._value(field)
        if not isinstance(value, dict):
            raise TaskError(f"{self.place}: field {field!r} holds {value!r:.60}, expected fields of its own; mend it.")
        return RawRow(f"{self.place}, {field}", value, self.answered)

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


THREE_WAY = ("entailment", "neutral", "contradiction")
POLARITY = ("negative", "positive")
DUPLICATE = ("not_duplicate", "duplicate")
SIMILARITIES = tuple(f"{step / 5:.1f}" for step in range(26))  # from 0.0 to 5.0, as T5 writes them
FOLLOWS = "Does the hypothesis follow from the premise? Say entailment if it does, else not_entailment."
FOLLOWS_THREE_WAY = (
    "Does the hypothesis follow from the premise? Say entailment if it does, contradiction if it cannot be true, and "
    "neutral otherwise."
)
SAME_QUESTION = "Do the two questions ask the same? Say duplicate if they do, else not_duplicate."
ALIKE = "Say how alike the two sentences are in meaning, from 0.0 for not at all to 5.0 for the same."
SENTINEL = re.compile(r"<extra_id_\d+>")  # stands for a span that was taken out (T5)
ALL_SPLITS = ("train", "validation", "test")

Form = Callable[[RawRow, bool], Iterable[Text]]  # (row, whether it trains) -> none, one or several examples


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """How the rows of one data set become examples.

    Attributes:
        title: one line for people.
        instruction: what is asked of a row, in plain words of ours, with the label words as they are answered.
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
        has_sentinels: whether the form takes spans out of a text and leaves sentinels, which are special tokens.
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
    has_sentinels: bool = False
    instruction: str = ""


def either(words: Sequence[str]) -> str:
    """Words as an instruction lists them: `negative, neutral or positive`."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def sentinels_of(text: Text) -> tuple[str, ...]:
    """The sentinels that a form put into a text: those that the raw text does not spell itself."""
    return tuple(mark for mark in SENTINEL.findall(text.inputs) if not any(mark in raw for raw in text.texts))


def keyed(*pairs: tuple[str, str]) -> str:
    """T5's form of several texts: `premise: It rains. hypothesis: It is wet.`."""
    return " ".join(f"{key}: {text}" for key, text in pairs)


def rated_pair(field: str) -> Form:
    """T5's form of STS-B: a pair and its mean rating, rounded to the nearest fifth (ties to the even one).

    Ratings are numbers from 0 to 5, written as `SIMILARITIES`.

    Args:
        field: holds the rating.
    """

    def form(row: RawRow, train: bool) -> Iterator[Text]:
        pair = row.text("sentence1"), row.text("sentence2")
        rating = row.fields.get(field) if row.answered else 0
        if isinstance(rating, bool) or not isinstance(rating, int | float) or not 0 <= rating <= 5:
            raise TaskError(
                f"{row.place}: field {field!r} holds {rating!r:.60}, expected a number from 0 to 5; mend it."
            )
        inputs = keyed(("sentence1", pair[0]), ("sentence2", pair[1]))
        yield Text(inputs, (SIMILARITIES[round(rating * 5)],), texts=pair)

    return form


def with_name(inputs: str, task: str, data_set: DataSet) -> str:
    """Inputs with the task's name in front, as T5 writes them."""
    return (f"{task.rpartition('/')[2]} " if data_set.name is None else data_set.name) + inputs
