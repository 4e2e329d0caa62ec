"""Hold rows with their accepted answers and predictions, which is what every metric scores."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Answers = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class PredictedRows:
    """Rows that are answered.

    Attributes:
        answers: the accepted answers of each row.
        predictions: one a row.
        groups: one a row, empty for no group.
        labels: the label words, empty for open answers.
        positive: the label that a score of one class is of; empty where there is none.
    """

    answers: Answers
    predictions: Sequence[str]
    groups: Sequence[str] = ()
    labels: Sequence[str] = ()
    positive: str = ""

    def pairs(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """The accepted answers and the prediction of each row."""
        return zip(self.answers, self.predictions, strict=True)

    def classes(self) -> list[str]:
        """The class of each row, see `answer_class`."""
        return [answer_class(accepted, text) for accepted, text in self.pairs()]


Metric = Callable[[PredictedRows], dict[str, float]]  # named scores in percent


def answer_class(accepted: Sequence[str], prediction: str) -> str:
    """The class that a row counts for: the accepted answer that was predicted, else the first accepted one."""
    return prediction if prediction in accepted else accepted[0]
