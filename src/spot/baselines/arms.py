"""Say what every arm is given, and what it comes to: terms, a fitted arm, and its answers."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import with_config

from spot.config import TuneConfig
from spot.errors import TaskError
from spot.evaluation.predictions import Prediction, Progress
from spot.evaluation.scoring import LIKELIHOOD, Evaluation, score_predictions
from spot.models.backbone import Backbone
from spot.storage.values import STRICT
from spot.tasks.task import Example, Task

Setting = str | int | float  # a value of a chosen setting


class Unsuitable(TaskError):
    """An arm cannot answer this task, or cannot learn from these rows; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What all arms of one comparison are given.

    Attributes:
        task: what to answer.
        train: the rows to learn from.
        selection: the rows that make every choice.
        backbone: the frozen model; arms without one leave it alone.
        config: of plain prompt tuning: limits of the reading, steps, batch size, seed.
        out: folder of what is kept of the model's work, so that it is done once.
        embedding_model: as the setting; None for the model that a package carries.
        demonstrations: as the setting.
        lora_rank: as the setting.
        lora_rates: as the setting.
        lora_modules: as the setting.
        progress: called with parts done and in all.
    """

    task: Task
    train: Sequence[Example]
    selection: Sequence[Example]
    backbone: Backbone
    config: TuneConfig
    out: Path
    embedding_model: str | None
    demonstrations: int
    lora_rank: int
    lora_rates: tuple[float, ...]
    lora_modules: tuple[str, ...]
    progress: Progress | None = field(default=None, repr=False)


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class Learned:
    """What an arm chose and what that took.

    Attributes:
        name: of `spot.config.INSTEAD`.
        setting: what the selection rows chose, such as `{"C": 10.0}`.
        selection: score on the selection rows, percent; what choices rest on.
        seconds: of fitting, with all that was tried.
        parameters: numbers that were trained and are kept.
        shipped: bytes to ship for the task.
        beside: what these bytes need where they answer, in words.
        steps: optimiser steps, of an arm that takes any.
        tokens: text tokens trained, those of losers included.
    """

    name: str
    setting: Mapping[str, Setting]
    selection: float
    seconds: float
    parameters: int
    shipped: int
    beside: str
    steps: int = 0
    tokens: int = 0

    @property
    def described(self) -> str:
        """The setting in words, such as `C = 10.0`."""
        return ", ".join(f"{name} = {value}" for name, value in sorted(self.setting.items()))


@with_config(STRICT)
@dataclass(frozen=True)
class Baseline:
    """What an arm came to on rows that chose nothing.

    Attributes:
        learned: what it chose.
        predictions: one a row.
    """

    learned: Learned
    predictions: tuple[Prediction, ...]

    def evaluation(self, task: Task, rows: Sequence[Example]) -> Evaluation:
        """The scores of the predictions on the rows that they answer."""
        return score_predictions(task, rows, self.predictions)

    def fitted(self) -> "Fitted":
        """The arm that gave these answers, which gives no others."""
        return Fitted(self.learned, lambda _: self.predictions)


@dataclass(frozen=True)
class Fitted:
    """An arm that has chosen and learned, and has seen no other row so far.

    Attributes:
        learned: what it chose.
        answer: from rows to one prediction each.
    """

    learned: Learned
    answer: Callable[[Sequence[Example]], Sequence[Prediction]] = field(repr=False, compare=False)

    def on(self, rows: Sequence[Example]) -> Baseline:
        """Answer rows that chose nothing."""
        return Baseline(self.learned, tuple(self.answer(rows)))


Rank = tuple[float, float]  # of a choice: its selection score, percent, then its mean loss in nats, sign turned


def selection_rank(terms: Terms, predictions: Sequence[Prediction]) -> Rank:
    """How good answers to the selection rows are, as checkpoints of prompts are compared: score, then loss."""
    scored = score_predictions(terms.task, terms.selection, predictions)
    return scored.primary, -scored.nats if math.isfinite(scored.nats) else -math.inf


def check_answers(name: str, task: Task) -> None:
    """Refuse a task whose rows have no answers to compare.

    Raises:
        Unsuitable: the task is unlabelled text.
    """
    if task.metrics == (LIKELIHOOD,):
        raise Unsuitable(f"{name}: the rows of {task.name} are unlabelled text, which nothing can be the answer to")


def check_labels(name: str, terms: Terms) -> None:
    """Refuse a task without labels, and rows of one class, which nothing can be learned from.

    Raises:
        Unsuitable: saying so.
    """
    check_answers(name, terms.task)
    if not terms.task.labels:
        raise Unsuitable(f"{name}: {terms.task.name} has open answers, and a classifier chooses between labels")
    present = {row.answers[0] for row in terms.train}
    if len(present) == 1:
        raise Unsuitable(
            f"{name}: all {len(terms.train)} training rows have the answer {present.pop()!r}, so there is nothing to "
            "tell apart"
        )
