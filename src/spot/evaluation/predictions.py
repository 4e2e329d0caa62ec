"""Predict the answers of encoded rows, by ranking the labels or by generation, and let prompts vote."""

import math
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
        text: the answer: a label word, or generated text; empty where there is none.
        log_probabilities: of every label, nats, in the task's order; empty for generated text. Of unlabelled text one
            number: the mean over the tokens of its target.
        labels: the label words that were ranked; none for generated text.
        is_answered: whether there is an answer; none where the model's numbers are not finite.
    """

    text: str
    log_probabilities: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    is_answered: bool = True

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each label among the labels; empty for generated text, and where there is no answer."""
        if not self.labels or not self.is_answered:
            return {}
        shares = np.exp(np.array(self.log_probabilities) - np.logaddexp.reduce(self.log_probabilities))
        return dict(zip(self.labels, shares.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """`label` and `probabilities` where labels were ranked, else `text`; None for each where there is no answer."""
        answer = self.text if self.is_answered else None
        if not self.labels:
            return {"text": answer}
        return {"label": answer, "probabilities": self.probabilities if self.is_answered else None}


def unanswered(predictions: Sequence[Prediction]) -> int:
    """How many rows have no answer, because the model's numbers are not finite."""
    return sum(not prediction.is_answered for prediction in predictions)


def no_answer(predictions: Sequence[Prediction], backbone: Backbone) -> str:
    """What to say of rows without an answer: how many, why, and what to do; empty where all have one."""
    if not (count := unanswered(predictions)):
        return ""
    return f"{count} of {len(predictions)} rows have no answer: {not_finite(backbone)}"


def not_finite(backbone: Backbone) -> str:
    """That a model's numbers are not finite in the precision of its weights, and what to do."""
    precision = str(backbone.model.dtype).removeprefix("torch.")
    wider = {"float16": "bfloat16 or float32", "bfloat16": "float32"}.get(precision)
    cure = f"set SPOT_DTYPE={wider}, or give" if wider else "give"
    return f"the model's numbers are not finite in {precision}; {cure} a prompt or a start of smaller numbers"


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
            answers = [ranked(collator.labels, row) for row in scores]
        else:
            most = max(map(len, collator.choices), default=collator.max_target_tokens)
            texts = backbone.generate(batch, prefix, most, collator.answer_end)
            answers = [
                Prediction("", is_answered=False) if text is None else Prediction(collator.answer_in(text))
                for text in texts
            ]
        for prompt, number, answer in zip(index, numbers * count, answers, strict=True):
            by_row[prompt][number] = answer
        if progress is not None:
            progress(len(by_row[0]), len(rows))
    return [[answers[number] for number in range(len(rows))] for answers in by_row]


def vote(ballots: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    """The answer that most prompts give to each row (Lester et al. 2021, section 6).

    A tie goes to the answer with the larger mean log-probability, or of generated texts to the first one. A prompt
    without an answer to a row has no vote on it.

    Args:
        ballots: R lists of predictions, as `predict_each` makes them.

    Returns:
        One prediction a row; its log-probabilities are the means over the prompts.
    """
    decided = []
    for votes in zip(*ballots, strict=True):
        row = [prediction for prediction in votes if prediction.is_answered]
        if not row:
            decided.append(votes[0])
            continue
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
            by_row[number] = Prediction("", (-nats / len(row.target_ids),), is_answered=math.isfinite(nats))
        if progress is not None:
            progress(len(by_row), len(rows))
    return [by_row[number] for number in range(len(rows))]


def ranked(labels: tuple[str, ...], scores: Sequence[float]) -> Prediction:
    """The label with the largest score; none where a score is no finite number, which compares with nothing."""
    if not all(map(math.isfinite, scores)):
        return Prediction("", tuple(scores), labels, is_answered=False)
    return Prediction(labels[max(range(len(scores)), key=scores.__getitem__)], tuple(scores), labels)
