"""Read and write `result.json`: what each run of a folder came to, and the learning curve on the way."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
from pydantic import with_config

from spot.errors import RunError
from spot.storage.run_dir import RunDir
from spot.storage.values import STRICT, read_value

Amount = Literal["tokens", "seconds"]  # what a run takes: text tokens, time


@with_config(STRICT)
@dataclass(frozen=True)
class CurvePoint:
    """One evaluation on the selection rows.

    Attributes:
        step: after which it was made; 0 is the start.
        score: percent.
        nats: mean negative log-probability of the right answer; None where the task has none.
        tokens: text tokens trained so far.
        seconds: of training so far.
    """

    step: int
    score: float
    nats: float | None = None
    tokens: int = 0
    seconds: float = 0.0


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one run came to.

    Attributes:
        task: its name; of a mixture the mixture's.
        digest: of the run.
        scores: metric -> percent, on report rows where the run has any, else on selection rows.
        frozen_scores: the same without a prompt; empty until report rows are scored.
        selection: metric -> percent on selection rows, at `step`.
        step: of the checkpoint that is kept.
        steps: taken.
        tokens: text tokens trained.
        seconds: of training.
        curve: its evaluations on selection rows.
        diagnosis: what looks wrong with it, in words.
        diverged: why it had to stop; None where it did not.
        dropped: whether the rule of its gang stopped it.
        reported: digest of the report rows that `scores` are of; empty where none are scored.
    """

    task: str
    digest: str
    scores: Mapping[str, float]
    frozen_scores: Mapping[str, float] = field(default_factory=dict)
    selection: Mapping[str, float] = field(default_factory=dict)
    step: int
    steps: int
    tokens: int
    seconds: float
    curve: tuple[CurvePoint, ...]
    diagnosis: tuple[str, ...] = ()
    diverged: str | None = None
    dropped: bool = False
    reported: str = ""

    @property
    def best_score(self) -> float:
        """The best score on selection rows, percent."""
        return max(point.score for point in self.curve)


@with_config(STRICT)
@dataclass(frozen=True)
class _ResultFile:
    """The content of a `result.json`, one result a run."""

    runs: tuple[RunResult, ...]


def write_results(folder: RunDir, results: Sequence[RunResult]) -> None:
    """Write the results of a folder's runs, which says that they are finished.

    Raises:
        RunError: a score or a loss is no number.
        StorageError: the file cannot be written.
    """
    runs = [asdict(result) for result in results]
    for run in runs:
        if not run["reported"]:
            del run["reported"]
    try:
        text = json.dumps({"runs": runs}, indent=2, allow_nan=False)
    except ValueError as error:
        raise RunError(f"the result of {folder.path} cannot be written as JSON: {error}.") from error
    folder.finish(f"{text}\n".encode())


def read_results(folder: RunDir) -> tuple[RunResult, ...] | None:
    """The results of a folder's runs; None where they are not finished.

    Raises:
        RunError: `result.json` is damaged.
    """
    content = folder.result()
    if content is None:
        return None
    path = folder.path / "result.json"
    try:
        return read_value(_ResultFile, content, str(path), RunError).runs
    except RunError as error:
        raise RunError(f"{error} Delete it to let the run finish again.") from error


def amount_at(curve: Sequence[CurvePoint], step: int, name: Amount = "tokens") -> float:
    """What a run has taken by a step; between two points of its curve in proportion to steps."""
    return float(np.interp(step, [point.step for point in curve], [getattr(point, name) for point in curve]))


def mean_amount(results: Sequence[RunResult], name: Amount) -> float:
    """What runs have taken, mean over them."""
    return float(np.mean([getattr(result, name) for result in results]))


def mean_best_score(results: Sequence[RunResult]) -> float:
    """The best selection score of each run, mean over them, percent."""
    return float(np.mean([result.best_score for result in results]))
