"""Predict the answers of encoded rows, by ranking the labels or by generation, and let prompts vote."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spot.collator import Collator, Row, by_length
from spot.models.backbone import Backbone

Progress = Callable[[int, int], None]  # (parts done, parts in all)

TOKENS = 2048  # padded input tokens of one forward pass: enough to keep the processor's matrix products busy
RANK = "rank"  # how a label is found; else its text is generated


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


def predict_rows(
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
    return predict_with_each(backbone, prompt[None], collator, rows, progress, decode)[0]


@torch.no_grad()
def predict_with_each(
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
            texts = backbone.generate(batch, prefix, most, collator.answer_end)
            answers = [Prediction(collator.answer_in(text or "")) for text in texts]
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
