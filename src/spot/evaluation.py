"""What a prompt does to rows: predictions by ranking the labels or by generation, and their scores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spot.backbone import Backbone
from spot.batching import Collator, Row, by_length
from spot.metrics import bootstrap_interval, primary, score
from spot.tasks.base import Example, Task

TOKENS = 2048  # padded input tokens of one forward pass: enough to keep the processor's matrix products busy
MAX_NEW_TOKENS = 64  # longest generated answer, in tokens


@dataclass(frozen=True)
class Prediction:
    """What the model answers to one row.

    Attributes:
        text: the answer: a label word, or generated text.
        log_probabilities: of every label, nats, in the task's order; empty for generated text.
    """

    text: str
    log_probabilities: tuple[float, ...] = ()

    def probabilities(self, labels: Sequence[str]) -> dict[str, float]:
        """Probability of each label among the labels."""
        if not self.log_probabilities:
            return {}
        shares = np.exp(np.array(self.log_probabilities) - np.logaddexp.reduce(self.log_probabilities))
        return dict(zip(labels, shares.tolist(), strict=True))


@dataclass(frozen=True)
class Evaluation:
    """Scores of one prompt on one set of rows.

    Attributes:
        scores: metric -> percent.
        correct: for each row whether the prediction is among the accepted answers.
        predictions: for each row.
        nats: mean negative log-probability of the right label among the labels; nan for open answers.
    """

    scores: dict[str, float]
    correct: tuple[bool, ...]
    predictions: tuple[Prediction, ...]
    nats: float

    @property
    def primary(self) -> float:
        """The mean of the scores, percent (paper, footnote 5)."""
        return primary(self.scores)


def predict(backbone: Backbone, prompt: Tensor, collator: Collator, rows: Sequence[Row]) -> list[Prediction]:
    """Answer every row, in the rows' order.

    Args:
        backbone: the frozen model.
        prompt: [P, D]; P = 0 is the model without a prompt.
        collator: of the rows' task; ranks its labels, or generates where it has none.
        rows: encoded by the same collator.
    """
    found: list[Prediction | None] = [None] * len(rows)
    for numbers, answers in _answers(backbone, prompt, collator, rows):
        for number, answer in zip(numbers, answers, strict=True):
            found[number] = answer
    return [answer for answer in found if answer is not None]


@torch.no_grad()
def _answers(
    backbone: Backbone, prompt: Tensor, collator: Collator, rows: Sequence[Row]
) -> Iterator[tuple[list[int], list[Prediction]]]:
    """Yield row numbers and their predictions, batch by batch; the prompt's prefix is computed once."""
    prefix = backbone.prefix(prompt[None])
    for numbers in by_length(rows, TOKENS):
        batch = collator.batch([rows[number] for number in numbers])
        if collator.labels:
            scores = backbone.score(batch, prefix, collator.choices).tolist()
            best = [max(range(len(row)), key=row.__getitem__) for row in scores]
            yield numbers, [Prediction(collator.labels[i], tuple(row)) for i, row in zip(best, scores, strict=True)]
        else:
            yield numbers, [Prediction(text.strip()) for text in backbone.generate(batch, prefix, MAX_NEW_TOKENS)]


def evaluate(
    backbone: Backbone, prompt: Tensor, task: Task, collator: Collator, examples: Sequence[Example],
    rows: Sequence[Row] | None = None,
) -> Evaluation:  # fmt: skip
    """Score a prompt on examples with the task's own metrics.

    Args:
        backbone: the frozen model.
        prompt: [P, D].
        task: gives metrics and labels.
        collator: of this task and backbone.
        examples: at least one, each with an answer.
        rows: the same examples encoded, where the caller has them.
    """
    rows = collator.encode(examples) if rows is None else rows
    predictions = predict(backbone, prompt, collator, rows)
    answers = [example.answers for example in examples]
    texts = [prediction.text for prediction in predictions]
    groups = [example.group for example in examples]
    scores = score(task.metrics, answers, texts, groups, task.labels)
    correct = tuple(text in accepted for text, accepted in zip(texts, answers, strict=True))
    return Evaluation(scores, correct, tuple(predictions), _nats(predictions, answers, task.labels))


def interval(
    found: Sequence[Evaluation], task: Task, examples: Sequence[Example], against: Sequence[Evaluation] = (),
    resamples: int = 1000,
) -> tuple[float, float]:  # fmt: skip
    """The 95 % bootstrap interval of a score over rows and seeds, or of the difference of two scores on the same rows.

    Args:
        found: one evaluation a seed, all on `examples`.
        task: gives the metrics; accuracy is resampled directly, other metrics are computed anew on every draw.
        examples: the rows.
        against: as many evaluations to subtract, seed by seed; none for a plain interval.
        resamples: draws; a metric that must be computed anew gets a fifth of them.

    Returns:
        The two ends, in percent (points for a difference).
    """
    if task.metrics == ("accuracy",):
        correct = np.array([evaluation.correct for evaluation in found], dtype=float)
        less = np.array([evaluation.correct for evaluation in against], dtype=float) if against else 0.0
        return bootstrap_interval(correct - less, resamples)
    random = np.random.default_rng(0)

    def drawn(evaluation: Evaluation, rows: np.ndarray) -> float:
        texts = [evaluation.predictions[row].text for row in rows]
        picked = [examples[row] for row in rows]
        answers, groups = [example.answers for example in picked], [example.group for example in picked]
        return primary(score(task.metrics, answers, texts, groups, task.labels))

    values = []
    for _ in range(resamples // 5):
        rows = random.integers(len(examples), size=len(examples))
        seeds = random.integers(len(found), size=len(found))
        draw = [drawn(found[seed], rows) - (drawn(against[seed], rows) if against else 0.0) for seed in seeds]
        values.append(np.mean(draw))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _nats(predictions: Sequence[Prediction], answers: Sequence[tuple[str, ...]], labels: Sequence[str]) -> float:
    if not labels or not predictions:
        return float("nan")
    logs = np.array([prediction.log_probabilities for prediction in predictions])
    right = [labels.index(accepted[0]) for accepted in answers]
    return float(np.mean(np.logaddexp.reduce(logs, axis=1) - logs[np.arange(len(right)), right]))
