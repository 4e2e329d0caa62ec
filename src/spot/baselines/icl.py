"""Show the frozen model some training rows with their answers before each row: nothing is trained.

A demonstration is a row as training lays it out, with its answer and an empty line behind it; they stand in the place
of a prompt, so that a causal model reads them once for all rows.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from spot.baselines.arms import Fitted, Learned, Rank, Terms, Unsuitable, check_answers, selection_rank
from spot.collator import Collator, collator_for
from spot.evaluation.predictions import RANK, Prediction, predict_rows
from spot.tasks.splits import Splits
from spot.tasks.task import Example
from spot.training.run import Member, demonstration_ids

DRAWS = 3  # sets of demonstrations that the selection rows choose from
CONTENT_FREE = ("N/A", "[MASK]", "")  # in the place of a row's texts (Zhao et al. 2021, section 4)


@dataclass(frozen=True)
class _Shown:
    """One set of demonstrations.

    Attributes:
        draw: which of the `DRAWS`.
        count: how many stand there.
        prompt: [P, D], the vectors of their tokens.
        collator: of rows behind them.
        bias: log-probability of each label for a row without content, nats; what calibration takes away.
    """

    draw: int
    count: int
    prompt: Tensor
    collator: Collator
    bias: tuple[float, ...] = ()

    @property
    def plain(self) -> "_Shown":
        """The same without calibration."""
        return replace(self, bias=())


def fit_icl(terms: Terms) -> Fitted:
    """Draw demonstrations, in turn from each label, and let the selection rows choose a draw, calibrated or not.

    Raises:
        Unsuitable: the rows have no answers, or not one demonstration leaves room for a row.
    """
    check_answers("icl", terms.task)
    began = time.perf_counter()
    candidates: list[tuple[Rank, _Shown]] = []
    for draw in range(DRAWS):
        shown = _shown(terms, draw)
        answers = _answers(terms, shown.plain, terms.selection)
        candidates.append((selection_rank(terms, answers), shown.plain))
        if shown.bias:
            candidates.append((selection_rank(terms, _calibrated(answers, shown.bias)), shown))
    rank, best = max(candidates, key=lambda candidate: candidate[0])
    learned = Learned(
        name="icl",
        setting={"demonstrations": best.count, "draw": best.draw, "calibrated": "yes" if best.bias else "no"},
        selection=rank[0],
        seconds=time.perf_counter() - began,
        parameters=0,
        shipped=4 * len(best.prompt),
        beside=f"the frozen model {terms.backbone.id.name}, which reads {len(best.prompt)} tokens more",
    )
    return Fitted(learned, lambda rows: _calibrated(_answers(terms, best, rows), best.bias))


def _shown(terms: Terms, draw: int) -> _Shown:
    """A draw of demonstrations: as many as leave room for a row.

    Raises:
        Unsuitable: that is not even one.
    """
    backbone = terms.backbone
    reading = terms.task.reading.with_limits(terms.config)
    member = Member(terms.task, Splits(terms.train, terms.selection, ()))
    config = terms.config.model_copy(update={"init_seed": draw})
    drawn = demonstration_ids(config, (member,), backbone, terms.demonstrations)
    alone = collator_for(backbone, terms.task, reading=reading)
    answer = max((len(choice) for choice in alone.choices), default=reading.max_target_tokens)
    most = math.inf if (end := backbone.max_positions) is None else end - reading.max_input_tokens - answer
    kept: list[tuple[int, ...]] = []
    for row in drawn:
        if sum(map(len, kept)) + len(row) <= most:
            kept.append(row)
    if not kept:
        raise Unsuitable(
            f"icl: no demonstration fits: {backbone.id.name} has {end} positions, of which a row with its answer takes "
            f"up to {reading.max_input_tokens + answer} (max_input_tokens, max_target_tokens)"
        )
    prompt = backbone.embeddings()[[token for row in kept for token in row]]
    collator = collator_for(backbone, terms.task, length=len(prompt), reading=reading)
    shown = _Shown(draw, len(kept), prompt, collator)
    return replace(shown, bias=_bias(terms, shown))


def _answers(terms: Terms, shown: _Shown, rows: Sequence[Example]) -> list[Prediction]:
    """What the model says to rows behind the demonstrations."""
    encoded = shown.collator.encode(rows)
    return predict_rows(terms.backbone, shown.prompt, shown.collator, encoded, terms.progress)


def _bias(terms: Terms, shown: _Shown) -> tuple[float, ...]:
    """The mean probability of each label for rows without content, as logarithms; none where no labels are ranked."""
    if not shown.collator.labels or shown.collator.reading.decode != RANK:
        return ()
    rows = [_without_content(terms.train[0], word) for word in CONTENT_FREE]
    answers = [prediction for prediction in _answers(terms, shown, rows) if prediction.is_answered]
    if not answers:
        return ()
    logs = np.array([prediction.log_probabilities for prediction in answers])
    shares = np.exp(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True)).mean(axis=0)
    return tuple(np.log(np.maximum(shares, 1e-12)).tolist())


def _without_content(row: Example, word: str) -> Example:
    """A row with a word in the place of each of its texts."""
    inputs = row.inputs
    for text in sorted(filter(None, row.texts), key=len, reverse=True):
        inputs = inputs.replace(text, word)
    is_whole = inputs == row.inputs
    return replace(row, inputs=word if is_whole else inputs, texts=(), sentinels=())


def _calibrated(answers: Sequence[Prediction], bias: Sequence[float]) -> list[Prediction]:
    """Answers from which what the model says to nothing is taken away (Zhao et al. 2021, equation 1)."""
    if not bias:
        return list(answers)
    calibrated = []
    for prediction in answers:
        if not prediction.is_answered:
            calibrated.append(prediction)
            continue
        logs = np.array(prediction.log_probabilities) - bias
        logs -= np.logaddexp.reduce(logs)
        calibrated.append(Prediction(prediction.labels[int(logs.argmax())], tuple(logs.tolist()), prediction.labels))
    return calibrated
