"""Read and write `result.json`: what each run of a folder came to, and the learning curve on the way."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, with_config

from spot.errors import RunError
from spot.storage.run_dir import RunDir
from spot.storage.values import STRICT, read_value

Amount = Literal["tokens", "seconds"]  # what a run takes: text tokens, time
Percent = Annotated[float, Field(ge=-100.001, le=100.001)]  # correlations go below zero, and a mean may be rounded up
Count = Annotated[int, Field(ge=0, le=2**53)]  # whole numbers beyond are not exact in every reader of JSON
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Nats = Annotated[float, Field(ge=-1, le=1e12)]  # rounding takes the loss of a sure answer just below zero


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

    step: Count
    score: Percent
    nats: Nats | None = None
    tokens: Count = 0
    seconds: Seconds = 0.0


def _rising(curve: tuple[CurvePoint, ...]) -> tuple[CurvePoint, ...]:
    """A curve whose points stand in the order in which they were made."""
    for earlier, later in pairwise(curve):
        if later.step <= earlier.step or later.tokens < earlier.tokens or later.seconds < earlier.seconds:
            raise ValueError(f"should rise in steps, tokens and seconds, and does not at step {later.step}")
    return curve


Curve = Annotated[tuple[CurvePoint, ...], AfterValidator(_rising)]


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
    scores: Mapping[str, Percent]
    frozen_scores: Mapping[str, Percent] = field(default_factory=dict)
    selection: Mapping[str, Percent] = field(default_factory=dict)
    step: Count
    steps: Count
    tokens: Count
    seconds: Seconds
    curve: Annotated[Curve, Field(min_length=1)]
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


def read_results(folder: RunDir, digests: Sequence[str] | None = None) -> tuple[RunResult, ...] | None:
    """The results of a folder's runs; None where they are not finished.

    Args:
        folder: of the runs.
        digests: of the runs, in their order; left out where they are not known.

    Raises:
        RunError: `result.json` is damaged, or of other runs.
    """
    content = folder.result()
    if content is None:
        return None
    place = str(folder.path / "result.json")
    try:
        results = read_value(_ResultFile, content, place, RunError).runs
        for number, result in enumerate(results):
            if result.step not in (point.step for point in result.curve) or result.curve[-1].step > result.steps:
                raise RunError(f"{place}: the steps of run {number} are not those of its curve.")
        if digests is not None and [result.digest for result in results] != list(digests):
            listed = ", ".join(result.digest for result in results)
            raise RunError(f"{place} is of the runs {listed[:100]!r}; expected {', '.join(digests)}.")
    except RunError as error:
        raise RunError(f"{error} Delete it to let the run finish again.") from error
    return results


def amount_at(curve: Sequence[CurvePoint], step: int, name: Amount = "tokens") -> float:
    """What a run has taken by a step; between two points of its curve in proportion to steps."""
    return float(np.interp(step, [point.step for point in curve], [getattr(point, name) for point in curve]))


def mean_amount(results: Sequence[RunResult], name: Amount) -> float:
    """What runs have taken, mean over them."""
    return float(np.mean([getattr(result, name) for result in results]))


def mean_best_score(results: Sequence[RunResult]) -> float:
    """The best selection score of each run, mean over them, percent."""
    return float(np.mean([result.best_score for result in results]))
