"""What the records of a study say, as numbers: arms with intervals, comparisons, pairs, and how much of it is there.

Scores are percent on report rows, gains points over plain tuning, the better start of the same target and seed by
selection rows. Intervals are 95 % bootstraps over targets and seeds: targets are drawn anew, then the seeds of each
target that was drawn. Cells that ended without a score, as diverged ones do, are counted and count nowhere else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spot.errors import StudyError
from spot.metrics.scores import relative_error_reduction
from spot.study.analysis.arms import BASELINE, Arm, arms, check, from_scratch, generic
from spot.study.analysis.groups import Block, blocks, failed
from spot.study.analysis.pairs import (
    Correlation,
    Ranking,
    TaskMap,
    Transfer,
    bootstrap,
    correlations,
    rankings,
    summaries,
    task_map,
    transfers,
)
from spot.study.analysis.table import TableSummary
from spot.study.records import Record

# Where nothing is the matter, five runs agree in sign by chance in one case of 16, six in one of 32.
FEWEST_RUNS = 6
# Arms that similarity guides, and a sceptic doubts.
GUIDED = ("best", "race", "average", "mixture", "learned_best", "learned_race")
RIVALS = ("always", "random", "hindsight", "oracle", "model", "mixture_model")

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Count:
    """How many cells of a kind there are: finished ones, those of them without a score, and those still missing."""

    finished: int
    failed: int
    missing: int | None = None  # None where the records alone cannot tell


@dataclass(frozen=True)
class Failure:
    """A cell that ended without a score, and why."""

    kind: str
    target: str
    source: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Target:
    """What is there of one target.

    Attributes:
        name: of the task.
        seeds: in which every cell of plain tuning and of pairs is there; the arms are compared on these.
        pairs: that have a score.
        missing: pairs without a record, over the seeds that have one.
        rows: `train`, `select`, `report` and `overlap`, as its records have them.
        starts: initial value -> seeds in which plain tuning was better from it.
        mixed: whether its records were measured on different rows.
    """

    name: str
    seeds: int
    pairs: int
    missing: int
    rows: Mapping[str, int]
    starts: Mapping[str, int]
    mixed: bool


@dataclass(frozen=True)
class Standing:
    """One arm over all targets.

    Attributes:
        arm, kind, k: as in `spot.study.analysis.arms.Arm`.
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


@dataclass(frozen=True)
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


@dataclass(frozen=True, eq=False)
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
        correlations: similarity against gain, target by target.
        rankings: of the sources by each metric.
        tasks: how alike they are; None where no two can be compared.
        summaries: of the transfers to each target, as `spot study replay` counts.
        backbone: parameters of the frozen model; None where no record tells.
    """

    metric: str
    seeds: tuple[int, ...]
    counts: Mapping[str, Count]
    failures: tuple[Failure, ...]
    targets: tuple[Target, ...]
    transfers: tuple[Transfer, ...]
    arms: tuple[Standing, ...]
    generic: tuple[Standing, ...]
    comparisons: tuple[Comparison, ...]
    correlations: tuple[Correlation, ...]
    rankings: tuple[Ranking, ...]
    tasks: TaskMap | None
    summaries: tuple[TableSummary, ...]
    backbone: int | None


def find(records: Sequence[Record], strategies: Sequence[str], ks: Sequence[int], metric: str) -> Findings:
    """Work out a study.

    Args:
        records: of its cells, in any order; some may be missing.
        strategies: of `spot.strategies.plans`.
        ks: numbers of sources for them.
        metric: which similarity ranks.

    Raises:
        StudyError: no cell is finished, two records are of one cell, or a strategy, k or metric is unknown.
    """
    check(strategies, ks, metric)
    if not any(not math.isnan(record.score) for record in records):
        raise StudyError(
            f"{len(records)} records, none of a cell that finished with a score: there is nothing to report; "
            "run `spot study run` first, and look at `spot study status`."
        )
    # The order of files says nothing, so it must change nothing.
    records = sorted(records, key=lambda one: one.digest)
    found = blocks(records)
    whole = [block for block in found if block.complete]
    size = _backbone(records)
    tasks = task_map(records)
    settled, generic_arms = arms(whole, strategies, ks, metric), generic(whole)
    base = next((values(arm) for arm in settled if arm.kind == BASELINE), np.zeros(0))
    standings = tuple(_standing(arm, whole, base, size) for arm in settled)
    pairs = transfers(found)
    return Findings(
        metric,
        tuple(sorted({record.seed for record in records})),
        _counts(records, found),
        tuple(
            Failure(one.kind, one.task, " + ".join(one.sources), one.seed, one.reason or "the run diverged")
            for one in records
            if failed(one)
        ),
        tuple(_target(name, found) for name in sorted({block.target for block in found})),
        pairs,
        standings,
        tuple(sorted((_standing(arm, whole, base, size) for arm in generic_arms), key=lambda one: -one.gain)),
        _comparisons(settled, standings, whole),
        correlations(pairs, metric),
        rankings(pairs, tasks),
        tasks,
        summaries(pairs),
        size,
    )


def values(arm: Arm) -> Values:
    """The score of an arm in each block, NaN where it has none."""
    return np.array([math.nan if one is None else one.score for one in arm.results])


def compare(arm: Arm, against: Arm, role: str, whole: Sequence[Block]) -> Comparison | None:
    """One arm against another; None where they share no block."""
    differences = values(arm) - values(against)
    there = ~np.isnan(differences)
    if not there.any():
        return None
    targets = [block.target for block, is_there in zip(whole, there, strict=True) if is_there]
    low, high = bootstrap(differences[there], targets)
    runs = len(targets)
    better = "yes" if low > 0 else "no" if high < 0 else "undecided"
    return Comparison(
        arm.name,
        against.name,
        role,
        _mean(differences[there], targets),
        (low, high),
        runs,
        better if runs >= FEWEST_RUNS else "undecided",
    )


def _comparisons(
    settled: Sequence[Arm], standings: Sequence[Standing], whole: Sequence[Block]
) -> tuple[Comparison, ...]:
    """Each guided arm against plain tuning, plain tuning at equal cost, and the other rivals."""
    made = []
    for arm, standing in zip(settled, standings, strict=True):
        if arm.kind in GUIDED:
            rivals = [(other.kind, other) for other in settled if other.kind in (BASELINE, *RIVALS)]
            rivals.insert(1, ("equal_cost", settled[_equal_cost(standing, standings)]))
            made += [compare(arm, other, role, whole) for role, other in rivals]
    return tuple(one for one in made if one is not None)


def _equal_cost(standing: Standing, standings: Sequence[Standing]) -> int:
    """Which plain tuning costs as much as an arm: the cheapest that costs no less, else the dearest there is."""
    costs = {at: one.cost or 0.0 for at, one in enumerate(standings) if one.kind in ("none", BASELINE, "restarts")}
    enough = [at for at, cost in costs.items() if cost >= round(standing.cost or 0.0, 2)]
    return min(enough, key=costs.__getitem__) if enough else max(costs, key=costs.__getitem__)


def _standing(arm: Arm, whole: Sequence[Block], base: Values, size: int | None) -> Standing:
    """One arm over the blocks that it has."""
    own = [(block, result, plain) for block, result, plain in zip(whole, arm.results, base, strict=True) if result]
    targets, seeds = [block.target for block, _, _ in own], [block.seed for block, _, _ in own]
    scores, plain = np.array([result.score for _, result, _ in own]), np.array([score for _, _, score in own])
    cost = _mean([result.cost for _, result, _ in own], targets)
    tuned, shipped = (_mean([getattr(one, name) for _, one, _ in own], targets) for name in ("tuned", "shipped"))
    per_seed = [[number for number, one in enumerate(seeds) if one == seed] for seed in sorted(set(seeds))]
    per_seed = [part for part in per_seed if len(part) == len(set(targets))]
    return Standing(
        arm.name,
        arm.kind,
        arm.k,
        len(set(targets)),
        len(own),
        _mean(scores, targets),
        _deviation([float(scores[part].mean()) for part in per_seed]),
        bootstrap(scores, targets),
        _mean(scores - plain, targets),
        bootstrap(scores - plain, targets),
        _rer(scores, plain, targets),
        _deviation([_rer(scores[part], plain[part], [targets[at] for at in part]) for part in per_seed]),
        None if math.isnan(cost) else cost,
        round(tuned),
        round(shipped),
        100 * tuned / size if size else None,
        100 * shipped / size if size else None,
    )


def _mean(scores: Sequence[float] | Values, targets: Sequence[str]) -> float:
    """The mean over targets of the mean over seeds."""
    array, names = np.asarray(scores, np.float64), np.asarray(targets)
    return float(np.mean([array[names == name].mean() for name in sorted(set(targets))]))


def _rer(scores: Values, plain: Values, targets: Sequence[str]) -> float | None:
    """The mean over targets of the relative error reduction of their means, where plain tuning has an error."""
    names = np.asarray(targets)
    pairs = [(scores[names == name].mean(), plain[names == name].mean()) for name in sorted(set(targets))]
    found = [relative_error_reduction(float(score), float(base)) for score, base in pairs if base < 100]
    return float(np.mean(found)) if found else None


def _deviation(means: Sequence[float | None]) -> float | None:
    """The standard deviation of one mean a seed."""
    known = [mean for mean in means if mean is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def _target(name: str, found: Sequence[Block]) -> Target:
    """What is there of one target."""
    own = [block for block in found if block.target == name]
    records = [record for block in own for record in (*block.plain, *block.pairs.values())]
    starts: dict[str, int] = {}
    for block in own:
        if block.complete:
            kept = from_scratch(block, block.starts).kept
            starts[kept] = starts.get(kept, 0) + 1
    # Rows are drawn anew for a seed, so they must agree within one only.
    mixed = any(len({one.data for one in (*block.plain, *block.pairs.values()) if one.data}) > 1 for block in own)
    rows = dict(records[0].rows) if records else {}
    pairs, missing = (sum(map(len, parts)) for parts in zip(*((one.pairs, one.lacking) for one in own), strict=True))
    return Target(name, sum(block.complete for block in own), pairs, missing, rows, starts, mixed)


def _counts(records: Sequence[Record], found: Sequence[Block]) -> dict[str, Count]:
    """How many cells of each kind there are; every source, target and seed that is named at all makes a pair."""
    missing = sum(len(block.lacking) for block in found)
    seeds, targets = {block.seed for block in found}, {block.target for block in found}
    sources = {record.sources[0] for record in records if record.kind == "pair"}
    for target in targets:
        missing += len(sources - {target}) * (len(seeds) - sum(block.target == target for block in found))
    kinds = {record.kind: None for record in records} | {"pair": None}
    return {
        kind: Count(
            sum(record.kind == kind for record in records),
            sum(record.kind == kind and failed(record) for record in records),
            missing if kind == "pair" else None,
        )
        for kind in ("source", "plain", "pair", "average", "mixture", "model")
        if kind in kinds
    }


def _backbone(records: Sequence[Record]) -> int | None:
    """The parameters of the frozen model: those of a run that tuned them all, or as a run's settings have them."""
    known = [record.tuned for record in records if record.kind == "model"]
    known += [int(record.config["backbone_parameters"]) for record in records if "backbone_parameters" in record.config]
    return max(known, default=0) or None
