"""Average the pairs of a study over seeds: which source helped which target, and whether similarity knew it.

Everything is averaged over the seeds in which a pair and the plain tuning of its target are finished.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import pearsonr, spearmanr

from spot.errors import StudyError
from spot.metrics.scores import nested_bootstrap_interval, relative_error_reduction
from spot.retrieval.embeddings import SIMILARITIES
from spot.retrieval.predictor import BASIS, LEARNED, RECORD, Expectation, Gain, expected, recorded
from spot.strategies.halving import best_so_far
from spot.study.analysis.arms import from_scratch
from spot.study.analysis.groups import TargetSeed, plain_selection_score, selection_score
from spot.study.analysis.table import BASELINE, EQUAL, StudyTable, TableSummary, study_table, summarise
from spot.study.records import Record

RESAMPLES = 2000  # means that a bootstrap draws
FEWEST_SOURCES = 3  # of a correlation: two points are always on a line
TOP = 3
TUNED = "selection rows"  # the ranking by what every tuned run has on them
EARLY = 4  # a ranking looks at every run after one part in so many of its steps
TIE_DECIMALS = 9  # what agrees so far is a tie


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One source on one target.

    Attributes:
        source, target: names of tasks.
        seeds: how many were averaged.
        mean: percent on report rows.
        deviation: over the seeds (n - 1); None for one seed.
        baseline: plain tuning, the better start of each of the same seeds.
        gain: mean less baseline, points.
        rer: relative error reduction, percent; None where the baseline is 100.
        worse: seeds in which the transfer is below plain tuning.
        selection_gain: the gain on selection rows, points; what may be learned from.
        early: the score on selection rows after `early_step` steps of the transfer's, percent.
        early_step: the last evaluated step in the first quarter of a run.
        as_is: the source prompt without tuning; None where it was not measured.
        similarity: metric -> of source and target.
    """

    source: str
    target: str
    seeds: int
    mean: float
    deviation: float | None
    baseline: float
    gain: float
    rer: float | None
    worse: int
    selection_gain: float
    early: float
    early_step: int
    as_is: float | None
    similarity: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Similarity against gain over the sources of one target.

    Attributes:
        target: name of the task.
        sources: how many points.
        pearson, p: and the two-sided probability of one so far from 0 by chance; None where it is not defined.
        spearman: of the ranks.
        why: the reason for a None, in words.
    """

    target: str
    sources: int
    pearson: float | None = None
    p: float | None = None
    spearman: float | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class RankerQuality:
    """How well a metric ranks the sources.

    Attributes:
        metric: one of `SIMILARITIES`; `learned` from these and the selection gains of the other targets; `record`,
            from these gains alone; `N steps from every source`; or as a yardstick `TUNED`, from the target's own
            selection gains after tuning from every source to the end.
        spearman: between similarities and gains on report rows, mean over targets.
        interval: its 95 % bootstrap interval over targets.
        regret: points on report rows that the first source is below the best one, mean over targets; sources that are
            equal count as their mean.
        top3: share of the targets whose best source is among the first three; None where all have no more than three.
        targets: that count.
        left_out: targets whose gains or similarities are all equal, or that have fewer than three sources.
        falls_back: targets on which `learned` or `record` knew too little and ranked as `mean`.
    """

    metric: str
    spearman: float
    interval: tuple[float, float]
    regret: float
    top3: float | None
    targets: int
    left_out: int
    falls_back: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskMap:
    """How alike the N tasks of a study are.

    Attributes:
        names: in the order of the records; a target that is also a source says so.
        targets: which of them are targets.
        cosines: float64 [N, N] of the average tokens of task embeddings, averaged over seeds.
        tree: float64 [N - 1, 4], average linkage of 1 - cosine as scipy has it; empty for one task.
        order: the leaves of the tree, neighbours beside each other.
        left_out: tasks that share a seed with too few others.
    """

    names: tuple[str, ...]
    targets: tuple[bool, ...]
    cosines: np.ndarray
    tree: np.ndarray
    order: tuple[int, ...]
    left_out: tuple[str, ...]


def interval_over_targets(scores: Sequence[float] | np.ndarray, targets: Sequence[str]) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean over targets of means over seeds: targets are drawn, then seeds of each.

    Args:
        scores: [N], one a target and seed.
        targets: [N], of which target each is.

    Returns:
        The two ends, in the unit of the scores.
    """
    return nested_bootstrap_interval(scores, targets, resamples=RESAMPLES)


def transfers_of(groups: Sequence[TargetSeed]) -> tuple[Transfer, ...]:
    """Every pair that has a finished seed, by target and source."""
    runs: dict[tuple[str, str], list[_PairRun]] = {}
    for group in groups:
        if group.plain:
            plain = from_scratch(group, group.starts).score
            plain_selection = plain_selection_score(group)
            for source, record in group.pairs.items():
                run = _PairRun(record, plain=plain, plain_selection=plain_selection)
                runs.setdefault((group.target, source), []).append(run)
    return tuple(_transfer(source, target, by_seed) for (target, source), by_seed in sorted(runs.items()))


def pair_table(transfers: Sequence[Transfer], place: str = "the study") -> StudyTable:
    """The table of a study, as `spot study replay` reads it from a file.

    A transfer stands in it as its gain on top of plain tuning over all seeds of the target, so that a pair that lacks
    a seed is compared within its own.

    Args:
        transfers: of the study.
        place: what messages call the table.

    Raises:
        TaskError: a target's plain tuning has no error, or not every source has a score on every target.
    """
    plain = _plain_scores(transfers)
    scores = {(BASELINE, target): score for target, score in plain.items()}
    scores |= {(transfer.source, transfer.target): plain[transfer.target] + transfer.gain for transfer in transfers}
    return study_table(scores, place)


def table_summaries(transfers: Sequence[Transfer]) -> tuple[TableSummary, ...]:
    """What `spot.study.analysis.table` counts, for each target whose plain tuning has an error to reduce.

    Target by target, because a task that is source and target has no cell of its own.
    """
    with_error = {target for target, score in _plain_scores(transfers).items() if score < 100}
    by_target = _by_target(transfers)
    return tuple(summarise(pair_table(by_target[target])) for target in sorted(with_error))


def correlation(target: str, similarities: Sequence[float], gains: Sequence[float]) -> Correlation:
    """Similarity against gain on one target; constant numbers have no correlation, which is said and no warning."""
    ours, theirs = np.round(similarities, TIE_DECIMALS), np.round(gains, TIE_DECIMALS)
    sources = len(ours)
    if sources < FEWEST_SOURCES:
        return Correlation(target=target, sources=sources, why=f"fewer than {FEWEST_SOURCES} sources")
    for values, name in ((ours, "similarities"), (theirs, "gains")):
        if not np.ptp(values):
            return Correlation(target=target, sources=sources, why=f"all {name} are equal")
    pearson, p = np.array(pearsonr(ours, theirs)).tolist()
    spearman, _ = np.array(spearmanr(ours, theirs)).tolist()
    return Correlation(target=target, sources=sources, pearson=pearson, p=p, spearman=spearman)


def correlations(transfers: Sequence[Transfer], metric: str) -> tuple[Correlation, ...]:
    """Similarity against gain, target by target."""
    return tuple(
        correlation(target, [pair.similarity[metric] for pair in pairs], [pair.gain for pair in pairs])
        for target, pairs in _by_target(transfers).items()
        if all(metric in pair.similarity for pair in pairs)
    )


def ranker_qualities(transfers: Sequence[Transfer], tasks: TaskMap | None) -> tuple[RankerQuality, ...]:
    """How well each metric ranks, what the selection gains of other targets would have added, and a target's own.

    Args:
        transfers: of the study.
        tasks: gives the similarities among targets that `learned` needs; it is left out without.

    Returns:
        Those metrics that rank at least one target.
    """
    by_target = _by_target(transfers)
    scores: dict[str, dict[str, list[float]]] = {  # metric -> target -> one a source
        metric: {target: [pair.similarity[metric] for pair in pairs] for target, pairs in by_target.items()}
        for metric in SIMILARITIES
        if all(metric in pair.similarity for pair in transfers)
    }
    fallen = {}
    by_history = {LEARNED: _expectations(by_target, tasks) if tasks is not None and BASIS in scores else {}}
    by_history[RECORD] = _records(by_target)
    for name, expectations in by_history.items():
        fallen[name] = sum(expectation.falls_back for expectation in expectations.values())
        scores[name] = {
            target: [expectation.scores[pair.source] for pair in by_target[target]]
            if not expectation.falls_back
            else scores[BASIS][target]
            for target, expectation in expectations.items()
            if not expectation.falls_back or BASIS in scores
        }
    steps = {pair.early_step for pair in transfers}
    if len(steps) == 1 and steps != {0}:
        scores[f"{steps.pop()} steps from every source"] = {
            target: [pair.early for pair in pairs] for target, pairs in by_target.items()
        }
    scores[TUNED] = {target: [pair.selection_gain for pair in pairs] for target, pairs in by_target.items()}
    qualities = [
        _ranker_quality(metric, by_target, of_targets, fallen.get(metric, 0)) for metric, of_targets in scores.items()
    ]
    return tuple(quality for quality in qualities if quality is not None)


def task_map(records: Sequence[Record]) -> TaskMap | None:
    """The similarities of all tasks that have an embedding, averaged over the seeds that two of them share.

    Returns:
        None where no two tasks can be compared.

    Raises:
        StudyError: embeddings differ in width.
    """
    directions = _directions(records)
    keys = sorted(directions, key=lambda key: (key[0] == "plain", key[1]))
    cosines = np.full((len(keys), len(keys)), np.nan)
    np.fill_diagonal(cosines, 1.0)
    for (row, first), (column, second) in combinations(enumerate(keys), 2):
        shared = directions[first].keys() & directions[second].keys()
        if shared:
            mean = np.mean([directions[first][seed] @ directions[second][seed] for seed in sorted(shared)])
            cosines[row, column] = cosines[column, row] = min(1.0, mean)
    shown = list(range(len(keys)))
    while np.isnan(part := cosines[np.ix_(shown, shown)]).any():
        shown.pop(int(np.isnan(part).sum(axis=1).argmax()))
    if len(shown) < 2:
        return None
    tree = linkage(squareform(np.clip(1 - part, 0, None), checks=False), "average", optimal_ordering=True)
    sources = {task for kind, task in keys if kind == "source"}
    names = [f"{task} (target)" if kind == "plain" and task in sources else task for kind, task in keys]
    return TaskMap(
        names=tuple(names[at] for at in shown),
        targets=tuple(keys[at][0] == "plain" for at in shown),
        cosines=part,
        tree=tree,
        order=tuple(leaves_list(tree).tolist()),
        left_out=tuple(name for at, name in enumerate(names) if at not in shown),
    )


@dataclass(frozen=True)
class _PairRun:
    """A pair under one seed.

    Attributes:
        record: of the pair.
        plain: plain tuning's score on report rows, percent.
        plain_selection: on selection rows.
    """

    record: Record
    plain: float
    plain_selection: float


def _transfer(source: str, target: str, runs: Sequence[_PairRun]) -> Transfer:
    """One pair over the seeds that it has."""
    scores = np.array([run.record.score for run in runs])
    plain = np.array([run.plain for run in runs])
    selection = np.array([selection_score(run.record) for run in runs])
    plain_selection = np.array([run.plain_selection for run in runs])
    mean, baseline = float(scores.mean()), float(plain.mean())
    as_is = [run.record.as_is for run in runs if run.record.as_is is not None]
    metrics = [metric for metric in SIMILARITIES if all(metric in run.record.similarity for run in runs)]
    quarter = max(run.record.steps for run in runs) / EARLY
    step = max((point.step for run in runs for point in run.record.curve if point.step <= quarter), default=0)
    return Transfer(
        source=source,
        target=target,
        seeds=len(runs),
        mean=mean,
        deviation=float(scores.std(ddof=1)) if len(runs) > 1 else None,
        baseline=baseline,
        gain=float((scores - plain).mean()),
        rer=None if baseline >= 100 else relative_error_reduction(mean, baseline),
        worse=int((scores < plain - EQUAL).sum()),
        selection_gain=float(np.mean(selection - plain_selection)),
        early=float(np.mean([best_so_far(run.record.curve, step)[0] for run in runs])),
        early_step=step,
        as_is=float(np.mean(as_is)) if as_is else None,
        similarity={metric: float(np.mean([run.record.similarity[metric] for run in runs])) for metric in metrics},
    )


def _plain_scores(transfers: Sequence[Transfer]) -> dict[str, float]:
    """Plain tuning of each target, from the pair that has most seeds."""
    by_target = _by_target(transfers)
    return {target: max(pairs, key=lambda pair: pair.seeds).baseline for target, pairs in by_target.items()}


def _by_target(transfers: Sequence[Transfer]) -> dict[str, list[Transfer]]:
    """Target -> its pairs."""
    by_target: dict[str, list[Transfer]] = {}
    for transfer in transfers:
        by_target.setdefault(transfer.target, []).append(transfer)
    return by_target


def _directions(records: Sequence[Record]) -> dict[tuple[str, str], dict[int, np.ndarray]]:
    """The average tokens of task embeddings as rows of length 1: (`source` or `plain`, task) -> seed -> [D].

    Raises:
        StudyError: embeddings differ in width.
    """
    directions: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    for record in records:
        if record.kind in ("source", "plain") and "mean" in record.embedding:
            row = np.asarray(record.embedding["mean"], np.float64)
            if np.isfinite(row).all() and (length := np.linalg.norm(row)) > 0:
                # A source prompt that was there before, of no steps here, serves all seeds.
                serves_all = record.kind == "source" and not record.steps
                seeds = {other.seed for other in records} if serves_all else {record.seed}
                directions.setdefault((record.kind, record.task), {}).update(dict.fromkeys(seeds, row / length))
    widths = {row.size for by_seed in directions.values() for row in by_seed.values()}
    if len(widths) > 1:
        raise StudyError(
            f"task embeddings of {' and '.join(map(str, sorted(widths)))} numbers can't be compared; expected those "
            "of one frozen model: delete the records of the other."
        )
    return directions


def _expectations(by_target: dict[str, list[Transfer]], tasks: TaskMap) -> dict[str, Expectation]:
    """What the selection gains on the other targets say of the sources of each target that is on the map."""
    place = {name.removesuffix(" (target)"): at for at, name in enumerate(tasks.names) if tasks.targets[at]}
    gains = [Gain(pair.source, target, pair.selection_gain) for target, pairs in by_target.items() for pair in pairs]
    return {
        target: expected(
            gains,
            {pair.source: pair.similarity[BASIS] for pair in pairs},
            {other: float(tasks.cosines[place[target], place[other]]) for other in place if other != target},
        )
        for target, pairs in by_target.items()
        if target in place
    }


def _records(by_target: dict[str, list[Transfer]]) -> dict[str, Expectation]:
    """What the other targets say of the sources of each target, whatever they are."""
    gains = [Gain(pair.source, target, pair.selection_gain) for target, pairs in by_target.items() for pair in pairs]
    return {
        target: recorded([gain for gain in gains if gain.target != target], [pair.source for pair in pairs])
        for target, pairs in by_target.items()
    }


def _ranker_quality(
    metric: str, by_target: dict[str, list[Transfer]], scores: dict[str, list[float]], fallen: int
) -> RankerQuality | None:
    """Compare what a metric says of the sources with the gains on report rows.

    Args:
        metric: its name.
        by_target: target -> its pairs.
        scores: target -> what the metric says of each of these; targets that it cannot rank are not among them.
        fallen: targets on which it fell back.
    """
    ranks, ranked, hits, lost = [], [], [], []
    for target, of_sources in scores.items():
        gains = np.round([pair.gain for pair in by_target[target]], TIE_DECIMALS)
        spearman = correlation(target, of_sources, gains.tolist()).spearman
        if spearman is not None:
            ranks.append(spearman)
            ranked.append(target)
            rounded = np.round(of_sources, TIE_DECIMALS)
            lost.append(gains.max() - gains[rounded == rounded.max()].mean())
            order = np.argsort(-rounded, kind="stable")
            if len(order) > TOP:
                hits.append(gains[order[:TOP]].max() == gains.max())
    if not ranks:
        return None
    return RankerQuality(
        metric=metric,
        spearman=float(np.mean(ranks)),
        interval=interval_over_targets(ranks, ranked),
        regret=float(np.mean(lost)),
        top3=float(np.mean(hits)) if hits else None,
        targets=len(ranks),
        left_out=len(by_target) - len(ranks),
        falls_back=fallen,
    )
