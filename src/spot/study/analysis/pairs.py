"""What the pairs of a study say: which source helped which target, and whether similarity knew it.

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
from spot.metrics.scores import relative_error_reduction
from spot.retrieval import predictor as learned
from spot.retrieval.embeddings import SIMILARITIES
from spot.study.analysis.arms import from_scratch
from spot.study.analysis.groups import BASIS, Block, plain_selection, selection
from spot.study.analysis.table import BASELINE, EQUAL, StudyTable, TableSummary, study_table, summarise
from spot.study.records import Record

RESAMPLES = 2000  # means that a bootstrap draws
FEWEST_SOURCES = 3  # of a correlation: two points are always on a line
TOP = 3
TUNED = "selection rows"  # the ranking by what every tuned run has on them
_DECIMALS = 9  # what agrees so far is a tie


@dataclass(frozen=True)
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
    as_is: float | None
    similarity: dict[str, float]


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Ranking:
    """How well a metric ranks the sources.

    Attributes:
        metric: one of `SIMILARITIES`, `learned` from the selection gains of the other targets, or as a yardstick
            `TUNED`, from the target's own after tuning from every source.
        spearman: between similarities and gains on report rows, mean over targets.
        interval: its 95 % bootstrap interval over targets.
        top3: share of the targets whose best source is among the first three; None where all have no more than three.
        targets: that count.
        left_out: targets whose gains or similarities are all equal, or that have fewer than three sources.
        falls_back: targets on which `learned` knew too little and ranked as `mean`.
    """

    metric: str
    spearman: float
    interval: tuple[float, float]
    top3: float | None
    targets: int
    left_out: int
    falls_back: int = 0


@dataclass(frozen=True, eq=False)
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


def bootstrap(
    scores: Sequence[float], targets: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % bootstrap interval (percentiles) of a mean over targets of means over seeds.

    Args:
        scores: [N], one a target and seed.
        targets: [N], of which target each is.
        resamples: means that are drawn.
        seed: of the draws.

    Returns:
        The two ends, in the unit of the scores.
    """
    names = np.asarray(targets)
    groups = [np.asarray(scores, np.float64)[names == name] for name in sorted(set(targets))]
    random = np.random.default_rng(seed)
    drawn = random.integers(len(groups), size=(resamples, len(groups)))
    means = np.empty(drawn.shape)
    for number, group in enumerate(groups):
        at = drawn == number
        # A target that is drawn twice draws its seeds twice.
        means[at] = group[random.integers(len(group), size=(int(at.sum()), len(group)))].mean(axis=1)
    low, high = np.percentile(means.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def transfers(found: Sequence[Block]) -> tuple[Transfer, ...]:
    """Every pair that has a finished seed, by target and source."""
    seeds: dict[tuple[str, str], list[tuple[Record, float, float]]] = {}
    for block in found:
        if block.plain:
            base = from_scratch(block, block.starts).score
            chosen = plain_selection(block)
            for source, pair in block.pairs.items():
                seeds.setdefault((block.target, source), []).append((pair, base, chosen))
    return tuple(_transfer(source, target, own) for (target, source), own in sorted(seeds.items()))


def table(found: Sequence[Transfer], place: str = "the study") -> StudyTable:
    """The table of a study, as `spot study replay` reads it from a file.

    A transfer stands in it as its gain on top of plain tuning over all seeds of the target, so that a pair that lacks
    a seed is compared within its own.

    Raises:
        TaskError: a target's plain tuning has no error, or not every source has a score on every target.
    """
    plain = _plain(found)
    scores = {(BASELINE, target): score for target, score in plain.items()}
    return study_table({**scores, **{(one.source, one.target): plain[one.target] + one.gain for one in found}}, place)


def summaries(found: Sequence[Transfer]) -> tuple[TableSummary, ...]:
    """What `spot.study.analysis.table` counts, for each target whose plain tuning has an error to reduce.

    Target by target, because a task that is source and target has no cell of its own.
    """
    with_error = {target for target, score in _plain(found).items() if score < 100}
    return tuple(summarise(table([one for one in found if one.target == target])) for target in sorted(with_error))


def correlation(target: str, similarities: Sequence[float], gains: Sequence[float]) -> Correlation:
    """Similarity against gain on one target; constant numbers have no correlation, which is said and no warning."""
    ours, theirs = np.round(similarities, _DECIMALS), np.round(gains, _DECIMALS)
    if len(ours) < FEWEST_SOURCES:
        return Correlation(target, len(ours), why=f"fewer than {FEWEST_SOURCES} sources")
    for values, name in ((ours, "similarities"), (theirs, "gains")):
        if not np.ptp(values):
            return Correlation(target, len(ours), why=f"all {name} are equal")
    pearson = pearsonr(ours, theirs)
    return Correlation(
        target, len(ours), float(pearson.statistic), float(pearson.pvalue), float(spearmanr(ours, theirs).statistic)
    )


def correlations(found: Sequence[Transfer], metric: str) -> tuple[Correlation, ...]:
    """Similarity against gain, target by target."""
    return tuple(
        correlation(target, [one.similarity[metric] for one in own], [one.gain for one in own])
        for target, own in _by_target(found).items()
        if all(metric in one.similarity for one in own)
    )


def rankings(found: Sequence[Transfer], tasks: TaskMap | None) -> tuple[Ranking, ...]:
    """How well each metric ranks, what the selection gains of other targets would have added, and a target's own.

    Args:
        found: pairs.
        tasks: gives the similarities among targets that `learned` needs; it is left out without.

    Returns:
        Those metrics that rank at least one target.
    """
    by_target = _by_target(found)
    expected: dict[str, dict[str, list[float]]] = {
        metric: {target: [one.similarity[metric] for one in own] for target, own in by_target.items()}
        for metric in SIMILARITIES
        if all(metric in one.similarity for one in found)
    }
    fallen = 0
    if tasks is not None and BASIS in expected:
        learning = {target: _learned(target, by_target, tasks) for target in by_target}
        expected["learned"] = {target: scores for target, (scores, _) in learning.items() if scores}
        fallen = sum(falls_back for scores, falls_back in learning.values() if scores)
    expected[TUNED] = {target: [one.selection_gain for one in own] for target, own in by_target.items()}
    made = [_ranking(metric, by_target, own, fallen if metric == "learned" else 0) for metric, own in expected.items()]
    return tuple(one for one in made if one is not None)


def task_map(records: Sequence[Record]) -> TaskMap | None:
    """The similarities of all tasks that have an embedding, averaged over the seeds that two of them share.

    Returns:
        None where no two tasks can be compared.

    Raises:
        StudyError: embeddings differ in width.
    """
    nodes: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    for one in records:
        if one.kind in ("source", "plain") and "mean" in one.embedding:
            row = np.asarray(one.embedding["mean"], np.float64)
            if np.isfinite(row).all() and (length := np.linalg.norm(row)) > 0:
                # A source prompt that was there before, of no steps here, serves all seeds.
                own = [one.seed] if one.steps or one.kind == "plain" else {other.seed for other in records}
                nodes.setdefault((one.kind, one.task), {}).update(dict.fromkeys(own, row / length))
    widths = {row.size for own in nodes.values() for row in own.values()}
    if len(widths) > 1:
        raise StudyError(
            f"task embeddings of {' and '.join(map(str, sorted(widths)))} numbers can't be compared; expected those "
            "of one frozen model: delete the records of the other."
        )
    keys = sorted(nodes, key=lambda key: (key[0] == "plain", key[1]))
    cosines = np.full((len(keys), len(keys)), np.nan)
    np.fill_diagonal(cosines, 1.0)
    for (row, one), (column, other) in combinations(enumerate(keys), 2):
        shared = nodes[one].keys() & nodes[other].keys()
        if shared:
            mean = np.mean([nodes[one][seed] @ nodes[other][seed] for seed in sorted(shared)])
            cosines[row, column] = cosines[column, row] = min(1.0, mean)
    kept = list(range(len(keys)))
    while np.isnan(part := cosines[np.ix_(kept, kept)]).any():
        kept.pop(int(np.isnan(part).sum(axis=1).argmax()))
    if len(kept) < 2:
        return None
    tree = linkage(squareform(np.clip(1 - part, 0, None), checks=False), "average", optimal_ordering=True)
    both = {task for kind, task in keys if kind == "source"}
    names = [f"{task} (target)" if kind == "plain" and task in both else task for kind, task in keys]
    return TaskMap(
        tuple(names[at] for at in kept),
        tuple(keys[at][0] == "plain" for at in kept),
        part,
        tree,
        tuple(leaves_list(tree).tolist()),
        tuple(name for at, name in enumerate(names) if at not in kept),
    )


def _transfer(source: str, target: str, own: Sequence[tuple[Record, float, float]]) -> Transfer:
    """One pair from its records and, for each seed, plain tuning's score on report rows and on selection rows."""
    scores, base, chosen = (np.array(values) for values in zip(*((one.score, b, c) for one, b, c in own), strict=True))
    mean, baseline = float(scores.mean()), float(base.mean())
    as_is = [one.as_is for one, _, _ in own if one.as_is is not None]
    metrics = [metric for metric in SIMILARITIES if all(metric in one.similarity for one, _, _ in own)]
    return Transfer(
        source,
        target,
        len(own),
        mean,
        float(scores.std(ddof=1)) if len(own) > 1 else None,
        baseline,
        float((scores - base).mean()),
        None if baseline >= 100 else relative_error_reduction(mean, baseline),
        int((scores < base - EQUAL).sum()),
        float(np.mean([selection(one) for one, _, _ in own] - chosen)),
        float(np.mean(as_is)) if as_is else None,
        {metric: float(np.mean([one.similarity[metric] for one, _, _ in own])) for metric in metrics},
    )


def _plain(found: Sequence[Transfer]) -> dict[str, float]:
    """Plain tuning of each target, from the pair that has most seeds."""
    return {target: max(own, key=lambda one: one.seeds).baseline for target, own in _by_target(found).items()}


def _by_target(found: Sequence[Transfer]) -> dict[str, list[Transfer]]:
    made: dict[str, list[Transfer]] = {}
    for one in found:
        made.setdefault(one.target, []).append(one)
    return made


def _learned(target: str, by_target: dict[str, list[Transfer]], tasks: TaskMap) -> tuple[list[float], bool]:
    """What the other targets' selection gains say of each source, and whether they are too few to say anything.

    Returns:
        One number a source, in the order of `by_target`; empty where the map lacks the target.
    """
    place = {name.removesuffix(" (target)"): at for at, name in enumerate(tasks.names) if tasks.targets[at]}
    if target not in place:
        return [], True
    column = {one.source: number for number, one in enumerate(by_target[target])}
    others = [name for name in by_target if name != target and name in place]
    gains = np.full((len(others), len(column)), np.nan)
    for row, name in enumerate(others):
        for one in by_target[name]:
            if one.source in column:
                gains[row, column[one.source]] = one.selection_gain
    to_targets = tasks.cosines[place[target], [place[name] for name in others]]
    predictor = learned.fit(gains)
    to_sources = np.array([one.similarity[BASIS] for one in by_target[target]])
    return learned.predict(predictor, to_sources, to_targets).tolist(), predictor.falls_back


def _ranking(
    metric: str, by_target: dict[str, list[Transfer]], expected: dict[str, list[float]], fallen: int
) -> Ranking | None:
    """Compare what a metric expects of the sources with the gains on report rows."""
    ranks, ranked, hits = [], [], []
    for target, scores in expected.items():
        gains = np.round([one.gain for one in by_target[target]], _DECIMALS)
        found = correlation(target, scores, gains.tolist()).spearman
        if found is not None:
            ranks.append(found)
            ranked.append(target)
            order = np.argsort(-np.round(scores, _DECIMALS), kind="stable")
            if len(order) > TOP:
                hits.append(gains[order[:TOP]].max() == gains.max())
    if not ranks:
        return None
    return Ranking(
        metric,
        float(np.mean(ranks)),
        bootstrap(ranks, ranked),
        float(np.mean(hits)) if hits else None,
        len(ranks),
        len(by_target) - len(ranks),
        fallen,
    )
