"""Compare the arms of a transfer on the same report rows, and say in a report whether the transfer helped."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from spot.evaluation.evaluation import Evaluation, interval
from spot.retrieval.ranking import Ranking
from spot.retrieval.search import Ranked
from spot.strategies.plans import Kind
from spot.strategies.report_rows import evaluate_report
from spot.strategies.target import TargetRuns
from spot.training.model_tuning import tune_model_run
from spot.training.result import RunResult, mean_amount, mean_best_score


@dataclass(frozen=True)
class ArmPoint:
    """One evaluation of an arm's runs on the selection rows.

    Attributes:
        step: after which it was made.
        score: percent, mean over the seeds.
        scores: percent, one a seed.
        seconds: of training to get there, mean over the seeds.
    """

    step: int
    score: float
    scores: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to answer the target's rows, measured on the report rows.

    Attributes:
        arm: `frozen`, `source`, `plain:vocabulary`, `plain:classes`, `spot` or `model`.
        source: task names of the prompts that it starts from.
        score: percent, mean over seeds.
        interval: 95 % bootstrap interval of the score over rows and seeds, percent.
        steps: optimiser steps on the target.
        seconds: of training on the target, mean over seeds.
        scores: percent, one a seed.
        selection: mean score on the selection rows, percent; what choices rest on.
        curve: evaluations on the selection rows.
        steps_to_plain: first evaluated step whose mean selection score reaches plain tuning's last; None if none does.
        seconds_to_plain: training seconds up to that step.
        parameters: trained, P x D, or those of the model.
        folder: of the arm's runs, below the transfer's; None where nothing was tuned.
        shipped: parameters that are kept for the task.
        tokens: text tokens trained for the target, mean over seeds: this run, what it took to find its start, and
            the candidates that lost.
        relative_cost: `tokens` as a multiple of one plain run's.
        evaluations: on the report rows, one a seed.
        files: prompt files, one a seed.
    """

    arm: str
    source: str | None
    score: float
    interval: tuple[float, float]
    steps: int = 0
    seconds: float = 0.0
    scores: tuple[float, ...] = ()
    selection: float = float("nan")
    curve: tuple[ArmPoint, ...] = ()
    steps_to_plain: int | None = None
    seconds_to_plain: float | None = None
    parameters: int = 0
    folder: str | None = None
    shipped: int = 0
    tokens: int = 0
    relative_cost: float = 0.0
    evaluations: tuple[Evaluation, ...] = field(default=(), repr=False, compare=False)
    files: tuple[Path, ...] = field(default=(), repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The arm as plain values, without what it answered."""
        values = asdict(replace(self, evaluations=(), files=()))
        del values["evaluations"], values["files"]
        return {key: None if value != value else value for key, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class PreparedArm:
    """An arm that is ready to be measured; no report row has been read so far.

    Attributes:
        arm: as in `Arm`, and so are `source`, `folder` and `files`.
        source: where it starts.
        prompts: [P, D], one a seed.
        results: of the runs that made them, one a seed; empty where nothing was tuned.
        folder: of the runs.
        models: folders of tuned models that take the backbone's place, one a seed.
        tokens: as in `Arm`.
        files: of the prompts.
    """

    arm: str
    source: str | None = None
    prompts: tuple[Tensor, ...]
    results: tuple[RunResult, ...] = ()
    folder: str | None = None
    models: tuple[Path, ...] = ()
    tokens: float = 0.0
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CandidateSummary:
    """One candidate of a strategy, as a report shows it.

    Attributes:
        source: tasks of the prompts that it started from, or `scratch`.
        kind: of its start, as in `Start`.
        steps: taken.
        selection: score on selection rows, percent.
        tokens: text tokens trained.
        ended: `kept`, `lost`, `dropped` at a rung, or why it diverged.
    """

    source: str
    kind: Kind
    steps: int
    selection: float
    tokens: int
    ended: str


@dataclass(frozen=True, kw_only=True)
class StrategySummary:
    """What a report says of a strategy; fields as in `TransferReport`."""

    strategy: str
    ranking: Ranking = field(default_factory=lambda: Ranking((), ""))
    k: int = 0
    reason: str = ""
    candidates: tuple[CandidateSummary, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """What a transfer found.

    Attributes:
        target: task name.
        arms: measured on the same report rows.
        chosen: the tuned prompt's arm that the selection rows prefer; a tuned model is a baseline and never chosen.
        gain: score of `spot` less that of the better plain arm, points; None for `none`.
        gain_interval: 95 % paired bootstrap interval of the gain, points.
        left_out: report rows that a source had seen.
        rows: number of train, selection and report rows.
        run: folder with everything.
        prompt: file of the chosen arm's prompt, that of the seed with the best selection score.
        strategy: that was carried out; the one that `auto` picked.
        ranking: sources, best first; empty for `none`.
        rank_by: what ranked the sources.
        expected: of each source of the ranking, what past transfers lead to expect; empty where they did not rank.
        k: sources that were used.
        reason: of `auto`: what it picked and why, in two sentences; empty otherwise.
        candidates: of the strategy.
    """

    target: str
    arms: tuple[Arm, ...]
    chosen: str
    gain: float | None
    gain_interval: tuple[float, float] | None
    left_out: int
    rows: Mapping[str, int]
    run: Path
    prompt: Path
    strategy: str
    ranking: tuple[Ranked, ...] = ()
    rank_by: str = ""
    expected: tuple[float, ...] = ()
    k: int = 0
    reason: str = ""
    candidates: tuple[CandidateSummary, ...] = ()

    @property
    def verdict(self) -> str:
        """Whether the transfer helped, in a sentence that follows the interval."""
        if self.gain is None or self.gain_interval is None:
            return "No source was used: this is plain prompt tuning."
        spot = next(arm for arm in self.arms if arm.arm == "spot")
        low, high = self.gain_interval
        change = f"{self.gain:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}) against plain prompt tuning"
        if any(candidate.ended == "kept" and candidate.kind == "scratch" for candidate in self.candidates):
            return f"No source was kept: a start from scratch did best on selection rows. It gives {change}."
        if low > 0:
            return f"Starting from {spot.source} helped: {change}."
        if high < 0:
            return f"Starting from {spot.source} HURT: {change}. Use plain prompt tuning."
        return f"SPoT did not win clearly: starting from {spot.source} gives {change}; the interval includes zero."

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "target": self.target,
            "strategy": self.strategy,
            "k": self.k,
            "rank_by": self.rank_by or None,
            "reason": self.reason or None,
            "arms": [arm.to_json() for arm in self.arms],
            "chosen": self.chosen,
            "run": str(self.run),
            "prompt": str(self.prompt),
            "verdict": self.verdict,
            "gain": self.gain,
            "gain_interval": self.gain_interval,
            "left_out": self.left_out,
            "rows": dict(self.rows),
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "ranking": Ranking(self.ranking, self.rank_by, self.expected).to_json(),
        }


def tune_model_arm(target: TargetRuns, learning_rate: float) -> PreparedArm:
    """Full model tuning at equal steps, one copy of the model a seed (paper, appendix C)."""
    changes = {"method": "model", "learning_rate": learning_rate, "weight_decay": 0.0, "key_step": None}
    run = target.prepare(target.config.model_copy(update=changes))
    tuned = [
        tune_model_run(seeded, target.backbone, target.out / f"model-{seed}", target.progress)
        for seed, seeded in enumerate(target.with_seeds(run))
    ]
    results = tuple(entry.result for entry in tuned)
    return PreparedArm(
        arm="model",
        prompts=(run.start,) * target.seeds,
        results=results,
        models=tuple(entry.path for entry in tuned),
        tokens=mean_amount(results, "tokens"),
    )


def measure(target: TargetRuns, prepared: PreparedArm) -> Arm:
    """Score an arm on the report rows, which are opened here, and summarise the runs that made it."""
    models = prepared.models or (None,) * len(prepared.prompts)
    pairs = zip(prepared.prompts, models, strict=True)
    evaluations = tuple(evaluate_report(target, prompt, model) for prompt, model in pairs)
    scores = tuple(evaluation.primary for evaluation in evaluations)
    parameters = target.backbone.parameters if prepared.models else prepared.prompts[0].numel()
    arm = Arm(
        arm=prepared.arm,
        source=prepared.source,
        score=float(np.mean(scores)),
        interval=interval(evaluations, target.task, target.splits.report),
        scores=scores,
        parameters=parameters,
        shipped=parameters,
        folder=prepared.folder,
        tokens=round(prepared.tokens),
        evaluations=evaluations,
        files=prepared.files,
    )
    if not prepared.results:
        return arm
    return replace(
        arm,
        steps=target.config.steps,
        seconds=mean_amount(prepared.results, "seconds"),
        selection=mean_best_score(prepared.results),
        curve=_mean_curve(prepared.results),
    )


def compare(
    target: TargetRuns, arms: Sequence[Arm], strategy: StrategySummary, *, plain_tokens: float, left_out: int
) -> TransferReport:
    """Compare measured arms; every choice here rests on selection scores.

    Args:
        target: what the arms share.
        arms: at least one of plain tuning.
        strategy: what the report says of it.
        plain_tokens: text tokens of one plain run, which costs are multiples of.
        left_out: report rows that a source had seen.
    """
    task, splits = target.task, target.splits
    plain = max((arm for arm in arms if arm.arm.startswith("plain")), key=lambda arm: arm.selection)
    goal = plain.curve[-1].score
    arms = tuple(replace(_reached(arm, goal), relative_cost=arm.tokens / max(1.0, plain_tokens)) for arm in arms)
    chosen = max((arm for arm in arms if arm.folder), key=lambda arm: arm.selection)
    spot = next((arm for arm in arms if arm.arm == "spot"), None)
    gain = bounds = None
    if spot is not None:
        gain = spot.score - plain.score
        bounds = interval(spot.evaluations, task, splits.report, plain.evaluations)
    best = [max(point.scores[seed] for point in chosen.curve) for seed in range(len(chosen.files))]
    return TransferReport(
        target=task.name,
        arms=arms,
        chosen=chosen.arm,
        gain=gain,
        gain_interval=bounds,
        left_out=left_out,
        rows={"train": len(splits.train), "select": len(splits.selection), "report": len(splits.report)},
        run=target.out,
        prompt=chosen.files[best.index(max(best))],
        strategy=strategy.strategy,
        ranking=strategy.ranking.sources,
        rank_by=strategy.ranking.rank_by,
        expected=strategy.ranking.expected,
        k=strategy.k,
        reason=strategy.reason,
        candidates=strategy.candidates,
    )


def _mean_curve(results: Sequence[RunResult]) -> tuple[ArmPoint, ...]:
    """The learning curves of an arm's runs, which are evaluated at the same steps, as one."""
    return tuple(
        ArmPoint(
            step=points[0].step,
            score=float(np.mean([point.score for point in points])),
            scores=tuple(point.score for point in points),
            seconds=float(np.mean([point.seconds for point in points])),
        )
        for points in zip(*(result.curve for result in results), strict=True)
    )


def _reached(arm: Arm, goal: float) -> Arm:
    """The arm with the point at which its mean selection score first reached `goal`."""
    point = next((point for point in arm.curve if point.score >= goal), None)
    if point is None:
        return arm
    return replace(arm, steps_to_plain=point.step, seconds_to_plain=point.seconds)
