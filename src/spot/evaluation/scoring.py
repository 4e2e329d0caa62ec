"""Score predictions on rows with a task's metrics, and put intervals on scores."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from spot.collator import Collator, Row
from spot.errors import BackboneError
from spot.evaluation.predictions import Prediction, Progress, likelihoods, no_answer, predict_rows, unanswered
from spot.metrics.scores import bootstrap_interval, invalid, primary, score
from spot.models.backbone import Backbone
from spot.tasks.task import Example, Task

log = logging.getLogger(__name__)

NOTHING = "\0"  # stands for the answer of a row without one: no accepted answer, and no form of one, is this
LIKELIHOOD = "likelihood"  # the metric of unlabelled text, read from the loss


class NoAnswers(BackboneError):
    """No row has an answer, because the model's numbers are not finite."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of one prompt on one set of rows.

    Attributes:
        scores: metric -> percent.
        correct: for each row whether the prediction is among the accepted answers; of unlabelled text the geometric
            mean of its tokens' probabilities.
        predictions: for each row.
        nats: mean negative log-probability of the right label among the labels, or of a token of unlabelled text, over
            the rows with an answer; nan for open answers.
        invalid: predictions that are no label, each of which counts as wrong; ranking the labels makes none.
        unanswered: rows without an answer, because the model's numbers are not finite; each counts as wrong.
    """

    scores: dict[str, float]
    correct: tuple[float, ...]
    predictions: tuple[Prediction, ...]
    nats: float
    invalid: int = 0
    unanswered: int = 0

    @property
    def primary(self) -> float:
        """The mean of the scores, percent (paper, footnote 5)."""
        return primary(self.scores)

    @property
    def is_constant(self) -> bool:
        """Whether every row gets the same answer; unlabelled text gets none."""
        answers = [prediction.text for prediction in self.predictions if prediction.is_answered]
        return len(set(answers)) == 1 < len(answers) and LIKELIHOOD not in self.scores


def evaluate_rows(
    backbone: Backbone,
    prompt: Tensor,
    task: Task,
    collator: Collator,
    examples: Sequence[Example],
    rows: Sequence[Row] | None = None,
    progress: Progress | None = None,
    decode: str | None = None,
) -> Evaluation:
    """Score a prompt on examples with the task's own metrics.

    Args:
        backbone: the frozen model.
        prompt: [P, D].
        task: gives metrics and labels.
        collator: of this task and backbone.
        examples: at least one, each with an answer.
        rows: the same examples encoded, where the caller has them.
        progress: called after every batch.
        decode: `rank` the labels, or `generate` the answer freely; left out: as the reading says.

    Raises:
        NoAnswers: no row has an answer, because the model's numbers are not finite.
    """
    rows = collator.encode(examples) if rows is None else rows
    if task.metrics == (LIKELIHOOD,):
        predictions = likelihoods(backbone, prompt, collator, rows, progress)
        check_answered(predictions, backbone)
        logs = [prediction.log_probabilities[0] for prediction in predictions if prediction.is_answered]
        shares = tuple(math.exp(part.log_probabilities[0]) if part.is_answered else 0.0 for part in predictions)
        return Evaluation(
            scores={LIKELIHOOD: 100 * float(np.mean(shares))},
            correct=shares,
            predictions=tuple(predictions),
            nats=-float(np.mean(logs)),
            unanswered=unanswered(predictions),
        )
    predictions = predict_rows(backbone, prompt, collator, rows, progress, decode)
    check_answered(predictions, backbone)
    return score_predictions(task, examples, predictions)


def check_answered(predictions: Sequence[Prediction], backbone: Backbone) -> None:
    """Say how many rows have no answer.

    Raises:
        NoAnswers: none has one, so that there is nothing to score.
    """
    sentence = no_answer(predictions, backbone)
    if sentence and unanswered(predictions) == len(predictions):
        raise NoAnswers(f"{sentence}.")
    if sentence:
        log.warning("%s; each of them counts as wrong", sentence)


def score_predictions(task: Task, examples: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
    """Score predictions that are there, one an example, with the task's own metrics; no answer is a wrong one."""
    answers = [example.answers for example in examples]
    texts = list(map(_answer, predictions))
    groups = [example.group for example in examples]
    scores = score(task.metrics, answers, texts, groups, task.labels, positive=task.positive)
    correct = tuple(text in accepted for text, accepted in zip(texts, answers, strict=True))
    nats = _nats(predictions, answers, task.labels)
    lost = unanswered(predictions)
    wrong = invalid(texts, task.labels) - (lost if task.labels else 0)
    return Evaluation(scores, correct, tuple(predictions), nats, wrong, lost)


def interval(
    evaluations: Sequence[Evaluation],
    task: Task,
    examples: Sequence[Example],
    against: Sequence[Evaluation] = (),
    resamples: int = 1000,
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a score over rows and seeds, or of the difference of two scores on the same rows.

    Args:
        evaluations: one a seed, all on `examples`.
        task: gives the metrics; accuracy and likelihood are resampled directly, others computed anew on every draw, in
            which whole groups of rows are drawn.
        examples: the rows.
        against: as many evaluations to subtract, seed by seed; none for a plain interval.
        resamples: draws; a metric that must be computed anew gets a fifth of them.

    Returns:
        The two ends, in percent (points for a difference).
    """
    if task.metrics in (("accuracy",), (LIKELIHOOD,)):
        correct = np.array([evaluation.correct for evaluation in evaluations], dtype=float)
        less = np.array([evaluation.correct for evaluation in against], dtype=float) if against else 0.0
        return bootstrap_interval(correct - less, resamples)
    random = np.random.default_rng(0)
    members: dict[str | int, list[int]] = {}
    for row, example in enumerate(examples):
        members.setdefault(example.group or row, []).append(row)
    units = list(members.values())

    def drawn(evaluation: Evaluation, picked: np.ndarray) -> float:
        # A group that is drawn twice is two groups.
        pairs = [(number, row) for number, unit in enumerate(picked) for row in units[unit]]
        texts = [_answer(evaluation.predictions[row]) for _, row in pairs]
        answers = [examples[row].answers for _, row in pairs]
        groups = [examples[row].group and f"{number}/{examples[row].group}" for number, row in pairs]
        return primary(score(task.metrics, answers, texts, groups, task.labels, positive=task.positive))

    values = []
    for _ in range(resamples // 5):
        picked = random.integers(len(units), size=len(units))
        seeds = random.integers(len(evaluations), size=len(evaluations))
        draw = [drawn(evaluations[seed], picked) - (drawn(against[seed], picked) if against else 0.0) for seed in seeds]
        values.append(np.mean(draw))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _answer(prediction: Prediction) -> str:
    """The text that metrics compare."""
    return prediction.text if prediction.is_answered else NOTHING


def _nats(predictions: Sequence[Prediction], answers: Sequence[tuple[str, ...]], labels: Sequence[str]) -> float:
    pairs = [pair for pair in zip(predictions, answers, strict=True) if pair[0].is_answered]
    if not labels or not pairs or not pairs[0][0].log_probabilities:
        return float("nan")
    logs = np.array([prediction.log_probabilities for prediction, _ in pairs])
    right = [labels.index(accepted[0]) for _, accepted in pairs]
    return float(np.mean(np.logaddexp.reduce(logs, axis=1) - logs[np.arange(len(right)), right]))
