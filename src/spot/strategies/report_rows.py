"""Answer the rows of a target once: what a prompt or a tuned model answers is kept in the transfer's folder.

report-rows/<digest>.json         one prompt or model on one set of rows
selection-rows/<digest>.json      the same of rows that select
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import AllowInfNan, with_config
from torch import Tensor

from spot.collator import collator_for
from spot.errors import RunError, StorageError
from spot.evaluation.predictions import Prediction
from spot.evaluation.scoring import Evaluation, evaluate_rows
from spot.models.backbone import Backbone
from spot.storage.files import remove_leftovers, write_whole
from spot.storage.opening import read_bounded
from spot.storage.values import STRICT, plain, read_value
from spot.strategies.target import TargetRuns
from spot.tasks.task import Example, data_digest

_LARGEST = 500_000_000  # bytes: a million answers of a paragraph


@with_config(STRICT)
@dataclass(frozen=True)
class _Answers:
    """The content of a file.

    Attributes:
        scores: metric -> percent.
        correct: as in `Evaluation`: for each row whether the answer is right, or its probability.
        predictions: the answers.
        nats: as in `Evaluation`; None where it is no number.
    """

    scores: Mapping[str, float]
    correct: tuple[bool | float, ...]
    predictions: tuple[str, ...]
    nats: Annotated[float | None, AllowInfNan(True)]  # older files have NaN for None


def evaluate_report(target: TargetRuns, prompt: Tensor, model: Path | None = None) -> Evaluation:
    """Evaluate on the report rows, which are opened here, or read what was found before.

    Args:
        target: with its report rows.
        prompt: [P, D].
        model: folder of a tuned model that takes the backbone's place.

    Raises:
        RunError: a file is damaged.
    """
    return _evaluated(target, target.splits.report, "report-rows", prompt, model)


def evaluate_selection(target: TargetRuns, prompt: Tensor, rows: Sequence[Example] | None = None) -> Evaluation:
    """Evaluate a prompt on the selection rows, or read what was found before.

    Args:
        target: without its report rows.
        prompt: [P, D].
        rows: some of the selection rows; left out: all.

    Raises:
        RunError: a file is damaged.
    """
    return _evaluated(target, target.splits.selection if rows is None else rows, "selection-rows", prompt)


def _evaluated(
    target: TargetRuns, rows: Sequence[Example], folder: str, prompt: Tensor, model: Path | None = None
) -> Evaluation:
    """What a prompt or a model says to some rows, kept in a folder below the transfer's."""
    tuned = model.parent.name if model else ""
    content = prompt.numpy().tobytes() + (tuned + data_digest(rows)).encode()
    path = target.out / folder / f"{sha256(content).hexdigest()[:16]}.json"
    if (evaluation := _read(path, target.out)) is not None:
        return evaluation
    backbone = target.backbone if model is None else Backbone.load(str(model))
    reading = target.task.reading.with_limits(target.config)
    collator = collator_for(backbone, target.task, length=target.config.length, reading=reading)
    evaluation = evaluate_rows(backbone, prompt, target.task, collator, rows, progress=target.progress)
    answers = _Answers(
        scores=evaluation.scores,
        correct=evaluation.correct,
        predictions=tuple(prediction.text for prediction in evaluation.predictions),
        nats=evaluation.nats,
    )
    write_whole(path, json.dumps(plain(answers), allow_nan=False).encode(), target.out)
    remove_leftovers(path.parent, target.out)
    return evaluation


def _read(path: Path, inside: Path) -> Evaluation | None:
    """What a file keeps; None where there is none."""
    try:
        content = read_bounded(path, _LARGEST, inside)
    except StorageError as error:
        raise RunError(f"{error} Delete it to have it made again.") from error
    if content is None:
        return None
    try:
        answers = read_value(_Answers, content, str(path), RunError, most_bytes=_LARGEST, may_be_nan=True)
    except RunError as error:
        raise RunError(f"{error} Delete it to have these rows answered again.") from error
    return Evaluation(
        scores=dict(answers.scores),
        correct=answers.correct,
        predictions=tuple(Prediction(text) for text in answers.predictions),
        nats=math.nan if answers.nats is None else answers.nats,
    )
