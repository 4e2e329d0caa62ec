"""What a prompt does to rows: predictions by ranking the labels or by generation, and their scores."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spot.collator import Collator, Row, by_length
from spot.metrics.scores import bootstrap_interval, invalid, primary, score
from spot.models.backbone import Backbone
from spot.tasks.task import Example, Task

Progress = Callable[[int, int], None]  # (parts done, parts in all)

TOKENS = 2048  # padded input tokens of one forward pass: enough to keep the processor's matrix products busy
RANK, GENERATE = "rank", "generate"  # how a label is found
LIKELIHOOD = "likelihood"  # the metric of unlabelled text, read from the loss


@dataclass(frozen=True)
class Prediction:
    """What the model answers to one row.

    Attributes:
        text: the answer: a label word, or generated text.
        log_probabilities: of every label, nats, in the task's order; empty for generated text. Of unlabelled text one
            number: the mean over the tokens of its target.
        labels: the label words that were ranked; none for generated text.
    """

    text: str
    log_probabilities: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each label among the labels; empty for generated text."""
        if not self.labels:
            return {}
        shares = np.exp(np.array(self.log_probabilities) - np.logaddexp.reduce(self.log_probabilities))
        return dict(zip(self.labels, shares.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """`label` and `probabilities` where labels were ranked, else `text`."""
        return {"label": self.text, "probabilities": self.probabilities} if self.labels else {"text": self.text}


@dataclass(frozen=True)
class Evaluation:
    """Scores of one prompt on one set of rows.

    Attributes:
        scores: metric -> percent.
        correct: for each row whether the prediction is among the accepted answers; of unlabelled text the geometric
            mean of its tokens' probabilities.
        predictions: for each row.
        nats: mean negative log-probability of the right label among the labels, or of a token of unlabelled text; nan
            for open answers.
        invalid: predictions that are no label, each of which counts as wrong; ranking the labels makes none.
    """

    scores: dict[str, float]
    correct: tuple[float, ...]
    predictions: tuple[Prediction, ...]
    nats: float
    invalid: int = 0

    @property
    def primary(self) -> float:
        """The mean of the scores, percent (paper, footnote 5)."""
        return primary(self.scores)

    @property
    def is_constant(self) -> bool:
        """Whether every row gets the same answer; unlabelled text gets none."""
        answers = {prediction.text for prediction in self.predictions}
        return len(answers) == 1 < len(self.predictions) and LIKELIHOOD not in self.scores


def predict(
    backbone: Backbone,
    prompt: Tensor,
    collator: Collator,
    rows: Sequence[Row],
    progress: Progress | None = None,
    decode: str | None = None,
) -> list[Prediction]:
    """Answer every row, in the rows' order.

    Args:
        backbone: the frozen model.
        prompt: [P, D]; P = 0 is the model without a prompt.
        collator: of the rows' task; ranks its labels, or generates where it has none.
        rows: encoded by the same collator.
        progress: called after every batch.
        decode: `rank` the labels, or `generate` the answer, which may be no label; left out: as the reading says.
    """
    return predict_each(backbone, prompt[None], collator, rows, progress, decode)[0]


@torch.no_grad()
def predict_each(
    backbone: Backbone,
    prompts: Tensor,
    collator: Collator,
    rows: Sequence[Row],
    progress: Progress | None = None,
    decode: str | None = None,
) -> list[list[Prediction]]:
    """Answer every row with each of R prompts [R, P, D], all of them in one batch; R lists in the rows' order."""
    count = len(prompts)
    by_row: list[dict[int, Prediction]] = [{} for _ in range(count)]
    prefix = backbone.prefix(prompts)
    for numbers in by_length(rows, max(1, TOKENS // count)):
        picked = [rows[number] for number in numbers]
        index = [prompt for prompt in range(count) for _ in numbers]
        batch = collator.batch(picked * count, index)
        if collator.labels and (decode or collator.reading.decode) == RANK:
            scores = backbone.score(batch, prefix, collator.choices).tolist()
            best = [max(range(len(row)), key=row.__getitem__) for row in scores]
            answers = [
                Prediction(collator.labels[i], tuple(row), collator.labels) for i, row in zip(best, scores, strict=True)
            ]
        else:
            most = max(map(len, collator.choices), default=collator.max_target_tokens)
            texts = backbone.generate(batch, prefix, most)
            answers = [Prediction(collator.answer_in(text)) for text in texts]
        for prompt, number, answer in zip(index, numbers * count, answers, strict=True):
            by_row[prompt][number] = answer
        if progress is not None:
            progress(len(by_row[0]), len(rows))
    return [[answers[number] for number in range(len(rows))] for answers in by_row]


def vote(ballots: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    """The answer that most prompts give to each row (Lester et al. 2021, section 6).

    A tie goes to the answer with the larger mean log-probability, or of generated texts to the first one.

    Args:
        ballots: R lists of predictions, as `predict_each` makes them.

    Returns:
        One prediction a row; its log-probabilities are the means over the prompts.
    """
    decided = []
    for row in zip(*ballots, strict=True):
        count = Counter(prediction.text for prediction in row)
        most = max(count.values())
        tied = [prediction for prediction in row if count[prediction.text] == most]
        means = tuple(np.mean([prediction.log_probabilities for prediction in row], axis=0).tolist())
        # Every vote for a label names the place of its own largest log-probability.
        place = {prediction.text: int(np.argmax(prediction.log_probabilities)) for prediction in tied if means}
        best = max(tied, key=lambda prediction: means[place[prediction.text]]) if means else tied[0]
        decided.append(Prediction(best.text, means, best.labels))
    return decided


@torch.no_grad()
def likelihoods(
    backbone: Backbone, prompt: Tensor, collator: Collator, rows: Sequence[Row], progress: Progress | None = None
) -> list[Prediction]:
    """Mean log-probability of each row's target tokens; the answers themselves are not generated."""
    by_row: dict[int, Prediction] = {}
    prefix = backbone.prefix(prompt[None])
    for numbers in by_length(rows, TOKENS // 4):
        picked = [rows[number] for number in numbers]
        losses = backbone.loss(collator.batch(picked), prefix).tolist()
        for number, row, nats in zip(numbers, picked, losses, strict=True):
            by_row[number] = Prediction("", (-nats / len(row.target_ids),))
        if progress is not None:
            progress(len(by_row), len(rows))
    return [by_row[number] for number in range(len(rows))]


def evaluate(
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
    """
    rows = collator.encode(examples) if rows is None else rows
    if task.metrics == (LIKELIHOOD,):
        predictions = likelihoods(backbone, prompt, collator, rows, progress)
        logs = [prediction.log_probabilities[0] for prediction in predictions]
        shares = tuple(math.exp(value) for value in logs)
        return Evaluation({LIKELIHOOD: 100 * float(np.mean(shares))}, shares, tuple(predictions), -float(np.mean(logs)))
    return scored(task, examples, predict(backbone, prompt, collator, rows, progress, decode))


def scored(task: Task, examples: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
    """Score predictions that are there, one an example, with the task's own metrics."""
    answers = [example.answers for example in examples]
    texts = [prediction.text for prediction in predictions]
    groups = [example.group for example in examples]
    scores = score(task.metrics, answers, texts, groups, task.labels, positive=task.positive)
    correct = tuple(text in accepted for text, accepted in zip(texts, answers, strict=True))
    nats = _nats(predictions, answers, task.labels)
    return Evaluation(scores, correct, tuple(predictions), nats, invalid(texts, task.labels))


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
        texts = [evaluation.predictions[row].text for _, row in pairs]
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


def _nats(predictions: Sequence[Prediction], answers: Sequence[tuple[str, ...]], labels: Sequence[str]) -> float:
    if not labels or not predictions or not predictions[0].log_probabilities:
        return float("nan")
    logs = np.array([prediction.log_probabilities for prediction in predictions])
    right = [labels.index(accepted[0]) for accepted in answers]
    return float(np.mean(np.logaddexp.reduce(logs, axis=1) - logs[np.arange(len(right)), right]))
