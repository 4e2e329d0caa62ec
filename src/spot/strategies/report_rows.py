"""Answer the rows of a target once: what a prompt or a tuned model answers is kept in the transfer's folder.

report-rows/<digest>.json         one prompt or model on one set of rows
selection-rows/<digest>.json      the same of rows that select
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
        log_probabilities: of the task's labels, one tuple a row, nats to four digits; empty for a row without an
            answer, and left out for open answers. Older files lack them.
    """

    scores: Mapping[str, float]
    correct: tuple[bool | float, ...]
    predictions: tuple[str, ...]
    nats: Annotated[float | None, AllowInfNan(True)]  # older files have NaN for None
    log_probabilities: tuple[tuple[float, ...], ...] = ()

    def evaluation(self, labels: tuple[str, ...]) -> Evaluation:
        """What is kept, as it is used."""
        texts, logs = self.predictions, self.log_probabilities
        predictions = [Prediction(text) for text in texts]
        if logs:
            predictions = [
                Prediction(text, log, labels, is_answered=bool(log)) for text, log in zip(texts, logs, strict=True)
            ]
        nats = math.nan if self.nats is None else self.nats
        return Evaluation(dict(self.scores), correct=self.correct, predictions=tuple(predictions), nats=nats)


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
    labels = target.task.labels
    if (answers := _read(path, target.out, len(labels))) is not None:
        return answers.evaluation(labels)
    backbone = target.backbone if model is None else Backbone.load(str(model))
    reading = target.task.reading.with_limits(target.config)
    collator = collator_for(backbone, target.task, length=target.config.length, reading=reading)
    evaluation = evaluate_rows(backbone, prompt, target.task, collator, rows, progress=target.progress)
    answers = _Answers(
        scores=evaluation.scores,
        correct=evaluation.correct,
        predictions=tuple(prediction.text for prediction in evaluation.predictions),
        nats=evaluation.nats,
        log_probabilities=_logs(evaluation.predictions),
    )
    value = plain(answers)
    if not answers.log_probabilities:
        del value["log_probabilities"]
    write_whole(path, json.dumps(value, allow_nan=False).encode(), target.out)
    remove_leftovers(path.parent, target.out)
    if not answers.log_probabilities:
        return evaluation
    return replace(evaluation, predictions=answers.evaluation(labels).predictions)  # as a later run reads them


def _logs(predictions: Sequence[Prediction]) -> tuple[tuple[float, ...], ...]:
    """The log-probabilities of ranked labels as a file keeps them; none where no labels were ranked."""
    if not any(prediction.probabilities for prediction in predictions):
        return ()
    return tuple(
        tuple(round(nats, 4) for nats in prediction.log_probabilities) if prediction.is_answered else ()
        for prediction in predictions
    )


def _read(path: Path, inside: Path, labels: int) -> _Answers | None:
    """What a file keeps of a task with so many labels; None where there is none."""
    try:
        content = read_bounded(path, _LARGEST, inside)
    except StorageError as error:
        raise RunError(f"{error} Delete it to have it made again.") from error
    if content is None:
        return None
    try:
        answers = read_value(_Answers, content, str(path), RunError, most_bytes=_LARGEST, may_be_nan=True)
        sizes = {len(log) for log in answers.log_probabilities} - {0, labels}
        if sizes or len(answers.log_probabilities) not in (0, len(answers.predictions)):
            raise RunError(f"{path}: the log-probabilities are not one a label of each row.")
    except RunError as error:
        raise RunError(f"{error} Delete it to have these rows answered again.") from error
    return answers
