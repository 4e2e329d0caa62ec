"""Measure the arms of a transfer on the same report rows, and compare them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from spot.baselines.arms import Fitted
from spot.config import PROBE_BEHIND
from spot.evaluation.classes import class_report
from spot.evaluation.scoring import Evaluation, interval
from spot.retrieval.ranking import Ranking
from spot.strategies.arms import Arm, ArmPoint, CandidateSummary, Difference, by_selection
from spot.strategies.report import TransferReport
from spot.strategies.report_rows import evaluate_report, evaluate_selection
from spot.strategies.target import TargetRuns
from spot.training.model_tuning import tune_model_run
from spot.training.result import RunResult, mean_amount, mean_best_score


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
        setting: as in `Arm`.
    """

    arm: str
    source: str | None = None
    prompts: tuple[Tensor, ...]
    results: tuple[RunResult, ...] = ()
    folder: str | None = None
    models: tuple[Path, ...] = ()
    tokens: float = 0.0
    files: tuple[Path, ...] = ()
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class StrategySummary:
    """What a report says of a strategy; fields as in `TransferReport`."""

    strategy: str
    ranking: Ranking = field(default_factory=lambda: Ranking((), ""))
    k: int = 0
    reason: str = ""
    candidates: tuple[CandidateSummary, ...] = ()
    is_plain: bool = False
    far: str = ""


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
        bytes=_shipped(prepared, parameters),
        beside=("nothing" if prepared.models else f"the frozen model {target.backbone.id.name}"),
        setting=prepared.setting,
        evaluations=evaluations,
        files=prepared.files,
    )
    if not prepared.results:
        return replace(arm, selection=evaluate_selection(target, prepared.prompts[0]).primary)
    return replace(
        arm,
        steps=target.config.steps,
        seconds=mean_amount(prepared.results, "seconds"),
        selection=mean_best_score(prepared.results),
        curve=_mean_curve(prepared.results),
    )


def measure_baseline(target: TargetRuns, fitted: Sequence[Fitted]) -> Arm:
    """Let an arm that is no prompt answer the report rows.

    Args:
        target: with its report rows, which are opened here.
        fitted: one a seed; a single one where no seed matters.
    """
    report = target.splits.report
    answered = [arm.on(report) for arm in fitted]
    evaluations = tuple(baseline.evaluation(target.task, report) for baseline in answered)
    first = answered[0].learned
    return Arm(
        arm=first.name,
        source=str(first.setting["prompt"]) if first.name == PROBE_BEHIND else None,
        score=float(np.mean([evaluation.primary for evaluation in evaluations])),
        interval=interval(evaluations, target.task, report),
        steps=first.steps,
        seconds=float(np.mean([baseline.learned.seconds for baseline in answered])),
        scores=tuple(evaluation.primary for evaluation in evaluations),
        selection=float(np.mean([baseline.learned.selection for baseline in answered])),
        parameters=first.parameters,
        shipped=first.parameters,
        tokens=round(np.mean([baseline.learned.tokens for baseline in answered])),
        bytes=first.shipped,
        beside=first.beside,
        setting=first.described,
        evaluations=evaluations,
    )


def compare(
    target: TargetRuns,
    arms: Sequence[Arm],
    strategy: StrategySummary,
    *,
    plain_tokens: float,
    left_out: int,
    not_run: Mapping[str, str] | None = None,
) -> TransferReport:
    """Compare measured arms; every choice here rests on selection scores.

    Args:
        target: what the arms share.
        arms: at least one of plain tuning.
        strategy: what the report says of it.
        plain_tokens: text tokens of one plain run, which costs are multiples of.
        left_out: report rows that a source had seen.
        not_run: arm -> why it could not run.
    """
    task, splits = target.task, target.splits
    plain = max((arm for arm in arms if arm.arm.startswith("plain")), key=lambda arm: arm.selection)
    goal = plain.curve[-1].score
    arms = tuple(replace(_reached(arm, goal), relative_cost=arm.tokens / max(1.0, plain_tokens)) for arm in arms)
    chosen = by_selection(arm for arm in arms if arm.folder)[0]
    spot = next((arm for arm in arms if arm.arm == "spot"), None)
    gain = None if spot is None else difference(target, spot, plain)
    # What a race kept of its own plain run is that run, and no arm beside it.
    lead, rivalry, over_constant = _differences(
        target, [arm for arm in arms if not (strategy.is_plain and arm.arm == "spot")]
    )
    best = [max(point.scores[seed] for point in chosen.curve) for seed in range(len(chosen.files))]
    seed = best.index(max(best))
    answers = [row.answers for row in splits.report]
    predictions = [prediction.text for prediction in chosen.evaluations[seed].predictions]
    return TransferReport(
        target=task.name,
        arms=arms,
        chosen=chosen.arm,
        gain=None if gain is None else gain.points,
        gain_interval=None if gain is None else gain.interval,
        left_out=left_out,
        rows={"train": len(splits.train), "select": len(splits.selection), "report": len(splits.report)},
        run=target.out,
        prompt_file=chosen.files[seed],
        strategy=strategy.strategy,
        ranking=strategy.ranking.sources,
        rank_by=strategy.ranking.rank_by,
        expected=strategy.ranking.expected,
        k=strategy.k,
        reason=strategy.reason,
        candidates=strategy.candidates,
        classes=class_report(task.labels, answers, predictions) if task.labels else None,
        lead=lead,
        rivalry=rivalry,
        over_constant=over_constant,
        not_run=not_run or {},
        is_plain=strategy.is_plain,
        is_alike=gain is not None and gain.alike,
        far=strategy.far,
        examples=tuple(splits.report),
    )


def difference(target: TargetRuns, arm: Arm, against: Arm) -> Difference:
    """How far one measured arm is above another on the report rows; one without seeds is paired with every seed."""
    seeds = max(len(arm.evaluations), len(against.evaluations))
    higher, lower = (_each_seed(part.evaluations, seeds) for part in (arm, against))
    pairs = zip(higher, lower, strict=True)
    return Difference(
        arm=arm.arm,
        against=against.arm,
        points=arm.score - against.score,
        interval=interval(higher, target.task, target.splits.report, lower),
        alike=all(_texts(left) == _texts(right) for left, right in pairs),
    )


def _differences(
    target: TargetRuns, arms: Sequence[Arm]
) -> tuple[Difference | None, Difference | None, dict[str, Difference]]:
    """As `lead`, `rivalry` and `over_constant` of a report."""
    order = by_selection(arms)
    lead = difference(target, order[0], order[1]) if len(order) > 1 else None
    rivals = [arm for arm in order if not arm.is_prompt and arm.arm != "constant"]
    prompts = [arm for arm in order if arm.is_prompt]
    rivalry = difference(target, rivals[0], prompts[0]) if rivals and prompts else None
    constant = next((arm for arm in arms if arm.arm == "constant"), None)
    if constant is None:
        return lead, rivalry, {}
    return lead, rivalry, {arm.arm: difference(target, arm, constant) for arm in arms if arm is not constant}


def _each_seed(evaluations: Sequence[Evaluation], seeds: int) -> tuple[Evaluation, ...]:
    """One evaluation a seed, of an arm that may have a single one for all of them."""
    return tuple(evaluations) if len(evaluations) == seeds else (evaluations[0],) * seeds


def _texts(evaluation: Evaluation) -> list[str]:
    return [prediction.text for prediction in evaluation.predictions]


def _shipped(prepared: PreparedArm, parameters: int) -> int:
    """Bytes to ship for the task: the prompt's file, else its numbers as float32."""
    return prepared.files[0].stat().st_size if prepared.files else 4 * parameters


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
