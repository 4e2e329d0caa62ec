"""Report how a model answers each class: confusion matrix, and precision, recall and F1 of every label.

The numbers are counted by `class_report`; `confusion_table`, `class_table` and `class_sections` show them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spot.errors import TaskError
from spot.metrics.predicted_rows import Answers, answer_class
from spot.metrics.scores import score_title
from spot.rendering.html import Section
from spot.rendering.tables import Table
from spot.storage.values import plain
from spot.tasks.readers import some

FEWEST_ROWS = 5  # of a class, below which one row moves its recall by more than 20 points
FEW_ROWS = 30  # of all classes, below which one row moves accuracy by more than 3 points
MOST_CLASSES = 10  # of a matrix that a terminal of 80 columns can hold; of more, the most confused pairs are shown
MOST_PAIRS = 12
WIDEST = 80  # characters of a matrix; one whose headings are wider has numbers for headings
CORNER = "answer / predicted"  # above the answers, beside the predictions
NO_LABEL = "no label"  # heading of the invalid answers


@dataclass(frozen=True)
class ClassScores:
    """How a model answers one class.

    Attributes:
        label: the label word.
        precision: share of the rows with this prediction that have this answer, percent; 0 where none has it.
        recall: share of the rows with this answer that have this prediction, percent; 0 where none has it.
        f1: harmonic mean of the two, percent. An invalid answer is a prediction of no class.
        support: rows with this answer.
        predicted: rows with this prediction.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class Confusion:
    """How often which class is answered with which: a confusion matrix.

    Attributes:
        labels: the C label words.
        counts: [C, C + 1], rows of the data by answer and prediction; the last column holds the invalid answers.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ClassReport:
    """How a model answers the classes of a task.

    Attributes:
        confusion: which class is answered with which.
        classes: the scores of every label, in the task's order.
        macro_f1: mean F1, percent, of the labels that occur among the answers or the predictions.
        accuracy: share of the rows with an accepted prediction, percent.
        invalid: predictions that are no label.
        rows: how many rows there are.
    """

    confusion: Confusion
    classes: tuple[ClassScores, ...]
    macro_f1: float
    accuracy: float
    invalid: int
    rows: int

    @property
    def majority(self) -> tuple[str, float]:
        """The answer that most rows have, and the accuracy, percent, of always giving it."""
        most = max(self.classes, key=lambda scores: scores.support)
        return most.label, 100 * most.support / self.rows

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why these numbers say less than they seem to: sentences without a full stop."""
        answered = [scores for scores in self.classes if scores.support]
        label, always = self.majority
        sentences = []
        if unpredicted := [scores for scores in answered if not scores.predicted]:
            labels, rows = some(scores.label for scores in unpredicted), sum(scores.support for scores in unpredicted)
            sentences.append(f"never answers {labels}, the right answer of {rows} of the {self.rows} rows")
        if len(answered) == 1:
            sentences.append(f"all {self.rows} rows have the answer {answered[0].label!r}: no other class is measured")
        elif small := [scores.label for scores in self.classes if scores.support < FEWEST_ROWS]:
            sentences.append(f"fewer than {FEWEST_ROWS} rows have the answer {some(small)}: too few to judge by")
        if len(answered) > 1 and self.accuracy <= always:
            sentences.append(
                f"accuracy {self.accuracy:.1f} is no better than always answering {label!r}, which has {always:.1f}"
            )
        if self.rows < FEW_ROWS:
            points = 100 / self.rows
            sentences.append(f"{self.rows} rows are few: one row more or less moves accuracy by {points:.0f} points")
        return tuple(sentences)

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        label, always = self.majority
        majority = {"label": label, "accuracy": always}
        return {**plain(self), "majority": majority, "warnings": list(self.warnings)}


def class_report(labels: Sequence[str], answers: Answers, predictions: Sequence[str]) -> ClassReport:
    """Count which class is answered with which, and score every class.

    A row with several accepted answers counts for the one that was predicted, else for the first.

    Args:
        labels: the task's label words.
        answers: the accepted answers of each row, all of them labels.
        predictions: one a row; one that is no label is an invalid answer.

    Raises:
        TaskError: there are no labels or no rows, or an answer is no label.
    """
    if not labels or not answers:
        missing = "rows" if labels else "labels"
        raise TaskError(f"no classes to report: found no {missing}, expected a task with labels and rows with answers.")
    place = {label: number for number, label in enumerate(labels)}
    counts = [[0] * (len(labels) + 1) for _ in labels]
    for number, (accepted, prediction) in enumerate(zip(answers, predictions, strict=True), start=1):
        label = answer_class(accepted, prediction) if accepted else ""
        if label not in place:
            raise TaskError(
                f"row {number}: found the answers {some(accepted) or 'none'}, expected labels of the task, which are "
                f"{some(labels)}. Mend the row or name its label."
            )
        counts[place[label]][place.get(prediction, len(labels))] += 1
    confusion = Confusion(tuple(labels), tuple(map(tuple, counts)))
    classes = tuple(_class_scores(confusion, number) for number in range(len(labels)))
    present = [scores.f1 for scores in classes if scores.support or scores.predicted]
    return ClassReport(
        confusion=confusion,
        classes=classes,
        macro_f1=sum(present) / len(present),
        accuracy=100 * sum(counts[number][number] for number in range(len(labels))) / len(answers),
        invalid=sum(row[-1] for row in counts),
        rows=len(answers),
    )


def titled_scores(scores: Mapping[str, float], report: ClassReport, positive: str = "") -> dict[str, float]:
    """A task's scores as people read them, with accuracy, macro F1 and the F1 of its positive class beside them.

    Args:
        scores: of the task's own metrics, percent; what they hold is not said twice.
        report: of the same rows.
        positive: the label that f1 is of; empty where the task names none.
    """
    titled = {score_title(name, positive): percent for name, percent in scores.items()}
    beside = {"accuracy": report.accuracy}
    beside |= {score_title("f1", positive): part.f1 for part in report.classes if part.label == positive}
    beside["macro_f1"] = report.macro_f1
    return titled | {name: percent for name, percent in beside.items() if name not in titled}


def class_table(report: ClassReport) -> Table:
    """The scores of every class, in the task's order."""
    return {
        "columns": ("class", "precision (%)", "recall (%)", "F1 (%)", "rows", "predicted"),
        "rows": [
            (scores.label, scores.precision, scores.recall, scores.f1, scores.support, scores.predicted)
            for scores in report.classes
        ],
    }


def confusion_table(report: ClassReport) -> Table:
    """The confusion matrix, a line an answer; of more than ten classes the pairs that are confused most often.

    Invalid answers have a column where there are any. Where the headings would be wide they are the numbers of the
    classes, which stand before their names in the first column.
    """
    labels, counts = report.confusion.labels, report.confusion.counts
    if len(labels) > MOST_CLASSES:
        return _confused_pairs(report.confusion)
    extra = [NO_LABEL] if report.invalid else []
    numbers = [str(number) for number in range(1, len(labels) + 1)]
    first = max(map(len, (CORNER, *labels)))
    if first + sum(len(heading) + 3 for heading in (*labels, *extra)) <= WIDEST:
        lines, headings = labels, labels
    else:
        lines, headings = [f"{number} {label}" for number, label in zip(numbers, labels, strict=True)], numbers
    cells = [row if extra else row[:-1] for row in counts]
    return {
        "columns": (CORNER, *headings, *extra),
        "rows": [(line, *row) for line, row in zip(lines, cells, strict=True)],
    }


def class_sections(report: ClassReport, subject: str = "the model") -> tuple[Section, Section]:
    """The class report as two sections of a page: the scores of every class, and what is taken for what.

    Args:
        report: of some rows.
        subject: who answered them, such as `the chosen prompt`.
    """
    invalid = f", and {report.invalid} invalid answers" if report.invalid else ""
    label, always = report.majority
    text = f"Accuracy {report.accuracy:.1f} %, macro F1 {report.macro_f1:.1f} % on {report.rows} rows{invalid}."
    text += f" Always answering {label!r} has accuracy {always:.1f} %."
    if report.warnings:
        text += f"\n\nRead this with care: {'; '.join(report.warnings)}."
    if len(report.classes) > MOST_CLASSES:
        meaning = f"The pairs that are confused most often, {MOST_PAIRS} at most."
    else:
        meaning = "Numbers of rows. A line of the table is a right answer, a column what was predicted."
    matrix: Section = {"heading": "Which class is taken for which", "text": meaning, "table": confusion_table(report)}
    if len(report.classes) <= MOST_CLASSES:
        matrix["shades"] = _shades(report)
    return ({"heading": f"How {subject} answers each class", "text": text, "table": class_table(report)}, matrix)


def _shades(report: ClassReport) -> list[list[float]]:
    """How much each cell of a matrix is filled: half of its share of the line, so that it can be read."""
    return [[count / max(1, sum(counts)) / 2 for count in counts] for counts in report.confusion.counts]


def _confused_pairs(confusion: Confusion) -> Table:
    """The pairs of an answer and another prediction that most rows have, the most frequent first."""
    names = (*confusion.labels, NO_LABEL)
    pairs = [
        (label, names[column], count, 100 * count / sum(counts))
        for row, (label, counts) in enumerate(zip(confusion.labels, confusion.counts, strict=True))
        for column, count in enumerate(counts)
        if count and column != row
    ]
    pairs.sort(key=lambda pair: -pair[2])
    return {"columns": ("answer", "predicted", "rows", "of the answer's rows (%)"), "rows": pairs[:MOST_PAIRS]}


def _class_scores(confusion: Confusion, number: int) -> ClassScores:
    """The scores of the class in one row and column of the matrix."""
    hits = confusion.counts[number][number]
    support = sum(confusion.counts[number])
    predicted = sum(row[number] for row in confusion.counts)
    return ClassScores(
        label=confusion.labels[number],
        precision=100 * hits / predicted if predicted else 0.0,
        recall=100 * hits / support if support else 0.0,
        f1=200 * hits / (support + predicted) if support + predicted else 0.0,
        support=support,
        predicted=predicted,
    )
