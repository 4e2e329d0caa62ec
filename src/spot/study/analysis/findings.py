"""Work out what the records of a study say: arms with intervals, comparisons, pairs, and how much of it is there.

Scores are percent on report rows, gains points over plain tuning, the better start of the same target and seed by
selection rows. Intervals are 95 % bootstraps over targets and seeds: targets are drawn anew, then the seeds of each
target that was drawn. Cells that ended without a score, as diverged ones do, are counted and count nowhere else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spot.config import INSTEAD
from spot.errors import StudyError
from spot.metrics.scores import relative_error_reduction
from spot.study.analysis.arms import PLAIN_ARM, ArmResults, check_choice, from_scratch, generic_arms, settle_arms
from spot.study.analysis.groups import TargetSeed, group_records, is_failed, selection_score
from spot.study.analysis.pairs import (
    Correlation,
    RankerQuality,
    TaskMap,
    Transfer,
    correlations,
    interval_over_targets,
    ranker_qualities,
    table_summaries,
    task_map,
    transfers_of,
)
from spot.study.analysis.table import TableSummary
from spot.study.records import Record

# Where nothing is the matter, five runs agree in sign by chance in one case of 16, six in one of 32.
FEWEST_RUNS = 6
# Standard errors that the best arm of a target must be above a constant answer, or nothing was learned there: of forty
# arms that know nothing one is so far above in one case of twenty.
ABOVE_CONSTANT = 3.0
# Arms that similarity guides, and a sceptic doubts.
GUIDED = ("best", "race", "average", "mixture", "learned_best", "learned_race")
RIVALS = ("always", "random", *INSTEAD, "hindsight", "oracle", "model", "mixture_model")

Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CellCount:
    """How many cells of a kind there are: finished ones, those of them without a score, and those still missing."""

    finished: int
    failed: int
    missing: int | None = None  # None where the records alone cannot tell


@dataclass(frozen=True, kw_only=True)
class FailedCell:
    """A cell that ended without a score, and why."""

    kind: str
    target: str
    source: str
    seed: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class TargetFindings:
    """What is there of one target.

    Attributes:
        name: of the task.
        seeds: in which every cell of plain tuning and of pairs is there; the arms are compared on these.
        pairs: that have a score.
        missing: pairs without a record, over the seeds that have one.
        rows: `train`, `select`, `report` and `overlap`, as its records have them.
        starts: initial value -> seeds in which plain tuning was better from it.
        draws: of rows; one that all seeds share leaves what another would add out of the intervals.
        constant: score of always giving the answer that does best on the train rows, percent on report rows; None where
            no record says.
        over_constant: standard errors that the best arm is above that on selection rows; None where no record says.
        mixed: whether records of one draw were measured on different rows.
    """

    name: str
    seeds: int
    pairs: int
    missing: int
    rows: Mapping[str, int]
    starts: Mapping[str, int]
    draws: int
    constant: float | None
    over_constant: float | None
    mixed: bool

    @property
    def is_learned(self) -> bool:
        """Whether some arm is above a constant answer by more than noise, as far as records say."""
        return self.over_constant is None or self.over_constant > ABOVE_CONSTANT


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """One arm over all targets.

    Attributes:
        arm, kind, k: as in `spot.study.analysis.arms.ArmResults`.
        targets, runs: targets, and pairs of target and seed, that it could be settled for.
        score: mean over targets of the mean over seeds.
        deviation: of the seeds' means over targets (n - 1); None where fewer than two seeds have all targets.
        interval: of the score.
        gain, gain_interval: on top of plain tuning.
        rer: mean over targets of the relative error reduction; None where no plain tuning has an error to reduce.
        rer_deviation: over seeds, as `deviation`.
        cost: text tokens trained on the target, as a multiple of one plain run's; None where they are not known.
        tuned, shipped: parameters, losers among those tuned; means over the runs.
        tuned_share, shipped_share: percent of the frozen model's parameters; None where those are not known.
    """

    arm: str
    kind: str
    k: int
    targets: int
    runs: int
    score: float
    deviation: float | None
    interval: tuple[float, float]
    gain: float
    gain_interval: tuple[float, float]
    rer: float | None
    rer_deviation: float | None
    cost: float | None
    tuned: int
    shipped: int
    tuned_share: float | None
    shipped_share: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm against another on the targets and seeds that both have.

    Attributes:
        arm, against: their names.
        role: of the second: its kind, or `equal_cost`: plain tuning, best of as many runs as the first arm pays for.
        difference: points, positive where the first is better.
        interval: of the difference.
        runs: pairs of target and seed.
        better: `yes` or `no` where the interval lies on one side of 0, else `undecided`; always that below
            `FEWEST_RUNS`.
    """

    arm: str
    against: str
    role: str
    difference: float
    interval: tuple[float, float]
    runs: int
    better: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Findings:
    """All that a report says.

    Attributes:
        metric: which similarity ranks.
        seeds: that records name.
        counts: kind of cell -> how many; `failures`: those without a score.
        targets: by name.
        transfers: every pair that is there.
        arms: a sceptic's, then the strategies; `generic`: one source for all targets, by gain.
        comparisons: each guided arm against its rivals.
        learned_arms, learned_comparisons: the same over the targets on which some arm is above a constant answer;
            empty where that is all of them, or none.
        correlations: similarity against gain, target by target.
        rankings: of the sources by each metric.
        tasks: how alike they are; None where no two can be compared.
        summaries: of the transfers to each target, as `spot study replay` counts.
        backbone: parameters of the frozen model; None where no record tells.
    """

    metric: str
    seeds: tuple[int, ...]
    counts: Mapping[str, CellCount]
    failures: tuple[FailedCell, ...]
    targets: tuple[TargetFindings, ...]
    transfers: tuple[Transfer, ...]
    arms: tuple[ArmSummary, ...]
    generic: tuple[ArmSummary, ...]
    comparisons: tuple[Comparison, ...]
    learned_arms: tuple[ArmSummary, ...]
    learned_comparisons: tuple[Comparison, ...]
    correlations: tuple[Correlation, ...]
    rankings: tuple[RankerQuality, ...]
    tasks: TaskMap | None
    summaries: tuple[TableSummary, ...]
    backbone: int | None


def analyse(records: Sequence[Record], strategies: Sequence[str], ks: Sequence[int], metric: str) -> Findings:
    """Work out a study.

    Args:
        records: of its cells, in any order; some may be missing.
        strategies: of `spot.strategies.plans`.
        ks: numbers of sources for them.
        metric: which similarity ranks.

    Raises:
        StudyError: no cell is finished, two records are of one cell, or a strategy, k or metric is unknown.
    """
    check_choice(strategies, ks, metric)
    if not any(not math.isnan(record.score) for record in records):
        raise StudyError(
            f"{len(records)} records, none of a cell that finished with a score: there is nothing to report; "
            "run `spot study run` first, and look at `spot study status`."
        )
    # The order of files says nothing, so it must change nothing.
    records = sorted(records, key=lambda record: record.digest)
    groups = group_records(records)
    complete = [group for group in groups if group.complete]
    backbone = _backbone_parameters(records)
    arms = settle_arms(complete, strategies, ks, metric)
    plain = next((scores_of(arm) for arm in arms if arm.kind == PLAIN_ARM), np.zeros(0))
    summaries = tuple(_summary(arm, complete, plain, backbone) for arm in arms)
    generic = [_summary(arm, complete, plain, backbone) for arm in generic_arms(complete)]
    targets = tuple(_target(name, groups) for name in sorted({group.target for group in groups}))
    learned = {target.name for target in targets if target.is_learned}
    within = [at for at, group in enumerate(complete) if group.target in learned]
    some = [complete[at] for at in within if len(within) < len(complete)]
    arms_of_some = [replace(arm, results=tuple(arm.results[at] for at in within)) for arm in arms if some]
    arms_of_some = [arm for arm in arms_of_some if any(arm.results)]
    summaries_of_some = tuple(_summary(arm, some, plain[within], backbone) for arm in arms_of_some)
    tasks = task_map(records)
    transfers = transfers_of(groups)
    return Findings(
        metric=metric,
        seeds=tuple(sorted({record.seed for record in records})),
        counts=_counts(records, groups),
        failures=tuple(_failed_cell(record) for record in records if is_failed(record)),
        targets=targets,
        transfers=transfers,
        arms=summaries,
        generic=tuple(sorted(generic, key=lambda arm: -arm.gain)),
        comparisons=_comparisons(arms, summaries, complete),
        learned_arms=summaries_of_some,
        learned_comparisons=_comparisons(arms_of_some, summaries_of_some, some),
        correlations=correlations(transfers, metric),
        rankings=ranker_qualities(transfers, tasks),
        tasks=tasks,
        summaries=table_summaries(transfers),
        backbone=backbone,
    )


def scores_of(arm: ArmResults) -> Scores:
    """The score of an arm in each group, NaN where it has none."""
    return np.array([math.nan if result is None else result.score for result in arm.results])


def compare(arm: ArmResults, against: ArmResults, role: str, groups: Sequence[TargetSeed]) -> Comparison | None:
    """One arm against another.

    Args:
        arm: the first.
        against: the second.
        role: of the second, see `Comparison`.
        groups: of their results.

    Returns:
        None where they share no group.
    """
    differences = scores_of(arm) - scores_of(against)
    shared = ~np.isnan(differences)
    if not shared.any():
        return None
    targets = [group.target for group, is_shared in zip(groups, shared, strict=True) if is_shared]
    low, high = interval_over_targets(differences[shared], targets)
    better = "yes" if low > 0 else "no" if high < 0 else "undecided"
    return Comparison(
        arm=arm.name,
        against=against.name,
        role=role,
        difference=_mean_of_targets(differences[shared], targets),
        interval=(low, high),
        runs=len(targets),
        better=better if len(targets) >= FEWEST_RUNS else "undecided",
    )


def _comparisons(
    arms: Sequence[ArmResults], summaries: Sequence[ArmSummary], groups: Sequence[TargetSeed]
) -> tuple[Comparison, ...]:
    """Each guided arm against plain tuning, plain tuning at equal cost, and the other rivals."""
    comparisons = []
    for arm, summary in zip(arms, summaries, strict=True):
        if arm.kind in GUIDED:
            rivals = [(rival.kind, rival) for rival in arms if rival.kind in (PLAIN_ARM, *RIVALS)]
            rivals.insert(1, ("equal_cost", arms[_equal_cost(summary, summaries)]))
            comparisons += [compare(arm, rival, role, groups) for role, rival in rivals]
    return tuple(comparison for comparison in comparisons if comparison is not None)


def _equal_cost(summary: ArmSummary, summaries: Sequence[ArmSummary]) -> int:
    """Which plain tuning costs as much as an arm: the cheapest that costs no less, else the dearest there is."""
    costs = {at: arm.cost or 0.0 for at, arm in enumerate(summaries) if arm.kind in ("none", PLAIN_ARM, "restarts")}
    enough = [at for at, cost in costs.items() if cost >= round(summary.cost or 0.0, 2)]
    return min(enough, key=costs.__getitem__) if enough else max(costs, key=costs.__getitem__)


def _summary(arm: ArmResults, groups: Sequence[TargetSeed], plain: Scores, backbone: int | None) -> ArmSummary:
    """One arm over the groups that it is settled in.

    Args:
        arm: of all groups.
        groups: complete ones.
        plain: score of plain tuning in each group.
        backbone: parameters of the frozen model.
    """
    settled = [at for at, result in enumerate(arm.results) if result is not None]
    results = [result for result in arm.results if result is not None]
    targets, seeds = [groups[at].target for at in settled], [groups[at].seed for at in settled]
    scores, plain = np.array([result.score for result in results]), plain[settled]
    cost = _mean_of_targets([result.cost for result in results], targets)
    tuned = _mean_of_targets([result.tuned for result in results], targets)
    shipped = _mean_of_targets([result.shipped for result in results], targets)
    by_seed = [[at for at, seed in enumerate(seeds) if seed == wanted] for wanted in sorted(set(seeds))]
    by_seed = [part for part in by_seed if len(part) == len(set(targets))]
    return ArmSummary(
        arm=arm.name,
        kind=arm.kind,
        k=arm.k,
        targets=len(set(targets)),
        runs=len(results),
        score=_mean_of_targets(scores, targets),
        deviation=_deviation([float(scores[part].mean()) for part in by_seed]),
        interval=interval_over_targets(scores, targets),
        gain=_mean_of_targets(scores - plain, targets),
        gain_interval=interval_over_targets(scores - plain, targets),
        rer=_error_reduction(scores, plain, targets),
        rer_deviation=_deviation(
            [_error_reduction(scores[part], plain[part], [targets[at] for at in part]) for part in by_seed]
        ),
        cost=None if math.isnan(cost) else cost,
        tuned=round(tuned),
        shipped=round(shipped),
        tuned_share=100 * tuned / backbone if backbone else None,
        shipped_share=100 * shipped / backbone if backbone else None,
    )


def _mean_of_targets(scores: Sequence[float] | Scores, targets: Sequence[str]) -> float:
    """The mean over targets of the mean over seeds."""
    array, names = np.asarray(scores, np.float64), np.asarray(targets)
    return float(np.mean([array[names == name].mean() for name in sorted(set(targets))]))


def _error_reduction(scores: Scores, plain: Scores, targets: Sequence[str]) -> float | None:
    """The mean over targets of the relative error reduction of their means, where plain tuning has an error."""
    names = np.asarray(targets)
    pairs = [(scores[names == name].mean(), plain[names == name].mean()) for name in sorted(set(targets))]
    reductions = [relative_error_reduction(float(score), float(base)) for score, base in pairs if base < 100]
    return float(np.mean(reductions)) if reductions else None


def _deviation(means: Sequence[float | None]) -> float | None:
    """The standard deviation of one mean a seed."""
    defined = [mean for mean in means if mean is not None]
    return float(np.std(defined, ddof=1)) if len(defined) > 1 else None


def _failed_cell(record: Record) -> FailedCell:
    """A cell that has a record and no score."""
    return FailedCell(
        kind=record.kind,
        target=record.task,
        source=" + ".join(record.sources),
        seed=record.seed,
        reason=record.reason or "the run diverged",
    )


def _over_constant(groups: Sequence[TargetSeed]) -> float | None:
    """How far the best arm of a target is above a constant answer on selection rows, in standard errors.

    The error is that of a difference of two shares near the constant answer's score, from the rows of all draws. An
    arm's score is the mean over the seeds that have it.

    Returns:
        None where no group knows the constant answer.
    """
    groups = [group for group in groups if "constant" in group.instead]
    if not groups:
        return None
    constant = float(np.mean([selection_score(group.instead["constant"]) for group in groups]))
    arms: dict[tuple[object, ...], list[float]] = {}
    rows: dict[int, int] = {}  # seed of the draw -> selection rows
    for group in groups:
        combined = [*group.combined.values(), *group.models, *group.instead.values()]
        for run in (*group.plain, *group.pairs.values(), *combined):
            arms.setdefault((run.kind, run.start, run.init_seed, run.k, run.sources), []).append(selection_score(run))
            rows[run.rows_seed] = run.rows.get("select", 0)
    share = min(max(constant / 100, 0.05), 0.95)
    error = 100 * math.sqrt(2 * share * (1 - share) / max(1, sum(rows.values())))
    return (max(float(np.mean(scores)) for scores in arms.values()) - constant) / error


def _target(name: str, groups: Sequence[TargetSeed]) -> TargetFindings:
    """What is there of one target."""
    seeds = [group for group in groups if group.target == name]
    runs = [record for group in seeds for record in (*group.plain, *group.pairs.values())]
    data: dict[int, set[str]] = {}  # seed of the rows -> digests of the report rows
    for record in runs:
        data.setdefault(record.rows_seed, set()).update([record.data] if record.data else [])
    starts: dict[str, int] = {}
    for group in seeds:
        if group.complete:
            start = from_scratch(group, group.starts).start
            starts[start] = starts.get(start, 0) + 1
    rows = next((record.rows for record in runs), {})
    constants = [group.instead["constant"].score for group in seeds if "constant" in group.instead]
    return TargetFindings(
        name=name,
        seeds=sum(group.complete for group in seeds),
        pairs=sum(len(group.pairs) for group in seeds),
        missing=sum(len(group.lacking) for group in seeds),
        rows=dict(rows),
        starts=starts,
        draws=len(data),
        constant=float(np.mean(constants)) if constants else None,
        over_constant=_over_constant([group for group in seeds if group.complete]),
        mixed=any(len(digests) > 1 for digests in data.values()),
    )


def _counts(records: Sequence[Record], groups: Sequence[TargetSeed]) -> dict[str, CellCount]:
    """How many cells of each kind there are; every source, target and seed that is named at all makes a pair."""
    missing = sum(len(group.lacking) for group in groups)
    seeds, targets = {group.seed for group in groups}, {group.target for group in groups}
    sources = {record.sources[0] for record in records if record.kind == "pair"}
    for target in targets:
        missing += len(sources - {target}) * (len(seeds) - sum(group.target == target for group in groups))
    kinds = {record.kind for record in records} | {"pair"}
    return {
        kind: CellCount(
            finished=sum(record.kind == kind for record in records),
            failed=sum(record.kind == kind and is_failed(record) for record in records),
            missing=missing if kind == "pair" else None,
        )
        for kind in ("source", "plain", "pair", "average", "mixture", "model", *INSTEAD)
        if kind in kinds
    }


def _backbone_parameters(records: Sequence[Record]) -> int | None:
    """The parameters of the frozen model: those of a run that tuned them all, or as a run's settings have them."""
    parameters = [record.tuned for record in records if record.kind == "model"]
    parameters += [record.backbone_parameters for record in records]
    return max(parameters, default=0) or None
