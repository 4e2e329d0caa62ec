"""Which source will help a new task, from similarities and from what past transfers showed.

Two things are known of a source s and a new target t: how alike their tasks are, and how prompts did on other
targets. Both are brought to standard deviations, and one weight serves both:

    z(u)    = similarity of t and task u, less the candidates' mean, over their standard deviation
    w(u)    = exp(z(u))                                     1 for a task of average similarity
    r(u, s) = result of s on target u, standardised over the sources that were tried on u
    track   = sum over u of w(u) r(u, s) / (1 + sum over u of w(u)), over the targets u that s was tried on
    score   = w(s) / 2 + track

The first term is the similarity in a form that lets the nearest sources stand out; alone it ranks as the similarity
does. The second is the source's track record, in which targets like the new one count most. The 1 below the line is a
target of average similarity and average result: it draws the record of a source that was rarely tried towards 0.
Nothing is fitted besides means and standard deviations: slopes that were learned by ridge regression ranked worse
than these equal ones on both public matrices.

The record alone, without any similarity, is `recorded`: what a source gained on average. Which of the two foretells
more differs from library to library, so that `proven` asks the library's own record.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spot.errors import LibraryError

LEARNED, RECORD = "learned", "record"  # rankings by what past transfers showed: with similarity, and without
BASIS = "mean"  # the similarity that the numbers below were chosen with, and that expectations start from
# `NEARNESS` and the scale of the exponent are round numbers near the best of both public matrices together; chosen on
# one matrix alone, the gain over `mean` on the other is +0.07 and +0.08, where these give +0.11 on the two.
NEARNESS = 0.5  # standard deviations of result that a source of average similarity gets for it
PRIOR = 1.0  # weight of the imaginary average target
FEWEST_SOURCES = 3  # on a target: the results of two are always +1 and -1, whatever they were
# Below this many results the similarity ranks alone. Drawn from the public matrices at random, 3 targets with all their
# sources (about 42 results) raise the mean Spearman by 0.06 and 1 (14) by 0.02; 5 sources on each of 8 targets
# (40) raise it by 0.03, and on fewer targets they change it by -0.014 to +0.007, which is nothing.
FEWEST_RESULTS = 40
FEWEST_TARGETS = 6  # on fewer, five rankings of equal worth agree by chance too often
_FAR = 100.0  # standard deviations; keeps exp() in range


@dataclass(frozen=True)
class Gain:
    """What a source did on a past target.

    Attributes:
        source: name or digest.
        target: name.
        points: over plain tuning, or a score in any unit, more is better; compared within a target and setting alone.
        setting: what else must agree for results to be compared, such as steps and rows.
    """

    source: str
    target: str
    points: float
    setting: Hashable = None


@dataclass(frozen=True)
class Expectation:
    """How well sources can be expected to do on a new target, next to each other.

    Attributes:
        scores: source -> more is better, in standard deviations of result but not centred.
        results: how many past results they rest on.
    """

    scores: Mapping[str, float]
    results: int

    @property
    def falls_back(self) -> bool:
        """Whether these are too few, so that the order of the scores is that of the similarities."""
        return self.results < FEWEST_RESULTS


def expected(gains: Sequence[Gain], to_sources: Mapping[str, float], to_targets: Mapping[str, float]) -> Expectation:
    """What the other targets say of each source.

    Only what stands in both mappings is learned from: leave out what must not be known, such as the new target's own
    past. Several gains of one source on one target in one setting, such as seeds, are averaged; each setting of a
    target counts as a target of its own.

    Args:
        gains: of past transfers.
        to_sources: source -> its similarity to the new target; the sources that are wanted, one at least.
        to_targets: target of the past -> its similarity to the new target, by the same measure.

    Raises:
        LibraryError: no sources, or a gain that is infinite, or a similarity that is no finite number.
    """
    targets, results = _table(gains, to_sources, to_targets)
    predictor = fit(results)
    similarities = np.array(list(to_sources.values()), np.float64)
    scores = predict(predictor, similarities, np.array([to_targets[target] for target in targets], np.float64))
    return Expectation(dict(zip(to_sources, scores.tolist(), strict=True)), predictor.results)


def recorded(gains: Sequence[Gain], sources: Collection[str]) -> Expectation:
    """What each source gained on past targets on average, next to the others that were tried there.

        score = sum over u of (gain of s on target u - mean gain on u) / (1 + number of targets that s was tried on)

    The 1 below the line is an imaginary target on which the source was average: it draws the record of a source that
    was rarely tried towards 0. An empirical Bayes weight in its place ranks no better on four matrices (docs/log.md).

    Args:
        gains: of past transfers; leave out the new target's own.
        sources: that are wanted.

    Returns:
        Scores in points; targets with fewer than `FEWEST_SOURCES` of the sources say nothing.

    Raises:
        LibraryError: a gain is infinite.
    """
    _, results = _table(gains, sources, {gain.target for gain in gains})
    predictor = fit(results)
    tried = ~np.isnan(predictor.z_scores)
    counts = np.maximum(1, tried.sum(axis=1, keepdims=True))
    means = np.where(tried, results, 0).sum(axis=1, keepdims=True) / counts
    scores = np.where(tried, results - means, 0).sum(axis=0) / (PRIOR + tried.sum(axis=0))
    return Expectation(dict(zip(sources, scores.tolist(), strict=True)), predictor.results)


@dataclass(frozen=True)
class Proof:
    """Which ranking has proven best on a record of past transfers.

    Attributes:
        rank_by: `mean`, `learned` or `record`.
        regrets: points that the first source by each ranking was below the best one, mean over the targets, each left
            out of the record in turn; empty where there are too few.
        targets: how many that is.
    """

    rank_by: str
    regrets: Mapping[str, float]
    targets: int

    @property
    def why(self) -> str:
        """The reason in words."""
        if not self.regrets:
            return f"Past transfers to {self.targets} targets are too few to say what ranks best: {FEWEST_TARGETS} are."
        listed = ", ".join(f"{name} {regret:.1f}" for name, regret in self.regrets.items())
        kept = "" if self.rank_by != LEARNED else ", and none is lower by more than two standard errors"
        return (
            f"Sources are ranked by `{self.rank_by}`: over {self.targets} past targets, each left out in turn, "
            f"the first source lost, in points, {listed}{kept}."
        )


def proven(
    gains: Sequence[Gain], to_sources: Mapping[str, Mapping[str, float]], to_targets: Mapping[str, Mapping[str, float]]
) -> Proof:
    """Which ranking would have lost least on past targets, each left out in turn.

    `learned` is kept unless another loses less by more than two standard errors of the paired difference: to take
    whatever lost least lost more than that on three matrices of four (docs/log.md).

    Args:
        gains: of past transfers.
        to_sources: target of the past -> source -> similarity.
        to_targets: target of the past -> another one -> similarity.

    Returns:
        `learned` where too few targets have three sources or more in one setting.
    """
    lost: dict[str, list[float]] = {name: [] for name in (LEARNED, BASIS, RECORD)}
    for target, near in to_sources.items():
        own = [gain for gain in gains if gain.target == target and gain.source in near]
        settings = Counter(gain.setting for gain in own)
        points = {gain.source: gain.points for gain in own if gain.setting == settings.most_common(1)[0][0]}
        if len(points) < FEWEST_SOURCES or len(set(points.values())) == 1:
            continue
        others = [gain for gain in gains if gain.target != target]
        wanted = {source: near[source] for source in points}
        learned, record = expected(others, wanted, to_targets[target]), recorded(others, list(points))
        for name, scores in ((LEARNED, learned.scores), (BASIS, wanted), (RECORD, record.scores)):
            lost[name].append(max(points.values()) - points[max(sorted(scores), key=scores.__getitem__)])
    targets = len(lost[LEARNED])
    if targets < FEWEST_TARGETS:
        return Proof(LEARNED, {}, targets)
    best = LEARNED
    for name in (BASIS, RECORD):
        saved = np.array(lost[LEARNED]) - np.array(lost[name])
        if saved.mean() > 2 * saved.std(ddof=1) / np.sqrt(targets) and sum(lost[name]) < sum(lost[best]):
            best = name
    return Proof(best, {name: float(np.mean(several)) for name, several in lost.items()}, targets)


@dataclass(frozen=True, eq=False)
class Predictor:
    """What past transfers showed; made by `fit`.

    Attributes:
        z_scores: float64 [T, N], the result of source n on target t in standard deviations within the target; NaN
            where it was not tried or the target says nothing: fewer than `FEWEST_SOURCES` results, or all equal.
    """

    z_scores: np.ndarray

    @property
    def results(self) -> int:
        """How many results there are to learn from."""
        return int(np.count_nonzero(~np.isnan(self.z_scores)))

    @property
    def falls_back(self) -> bool:
        """Whether these are too few, so that `predict` ranks by similarity alone."""
        return self.results < FEWEST_RESULTS


def fit(results: np.ndarray) -> Predictor:
    """Learn from a record of past transfers.

    Args:
        results: [T, N], how source n did on target t: a gain or a score in any unit, more is better, compared within
            a row only; NaN where it was not tried. Leave out what must not be known, such as a target's own prompt.

    Raises:
        LibraryError: it is no table, or holds an infinite number.
    """
    table = np.asarray(results, dtype=np.float64)
    if table.ndim != 2:
        raise LibraryError(f"the record of transfers is {list(table.shape)}; expected [T, N], targets by sources.")
    if np.isinf(table).any():
        raise LibraryError("the record of transfers holds an infinite result; expected numbers, or NaN where untried.")
    z_scores = np.full(table.shape, np.nan)
    for row, row_z_scores in zip(table, z_scores, strict=True):
        tried = np.flatnonzero(~np.isnan(row))
        if len(tried) >= FEWEST_SOURCES and np.ptp(row[tried]) > 0:
            row_z_scores[tried] = (row[tried] - row[tried].mean()) / row[tried].std()
    return Predictor(z_scores)


def predict(predictor: Predictor, to_sources: np.ndarray, to_targets: np.ndarray) -> np.ndarray:
    """How well each source can be expected to do on a new target, next to the others.

    Args:
        predictor: from `fit`.
        to_sources: [N], the new target's similarity to each source; at least one.
        to_targets: [T], its similarity to each target of the record, by the same measure.

    Returns:
        float64 [N], more is better, in standard deviations of result but not centred. Where the record
        is too small (`Predictor.falls_back`) the order is that of `to_sources`.

    Raises:
        LibraryError: the lengths disagree with the record's, or a similarity is NaN or infinite.
    """
    to_sources, to_targets = np.asarray(to_sources, np.float64), np.asarray(to_targets, np.float64)
    targets, sources = predictor.z_scores.shape
    if not sources or to_sources.shape != (sources,) or to_targets.shape != (targets,):
        raise LibraryError(
            f"similarities to sources {list(to_sources.shape)} and to targets {list(to_targets.shape)} do not fit a "
            f"record of {sources} sources and {targets} targets; expected one number for each, and at least one source."
        )
    if not (np.isfinite(to_sources).all() and np.isfinite(to_targets).all()):
        raise LibraryError("a similarity is NaN or infinite; expected finite numbers. Check the prompts' keys.")
    mean, spread = to_sources.mean(), to_sources.std()
    if np.ptp(to_sources) == 0:
        nearness, weight = np.ones(sources), np.ones(targets)
    else:
        nearness, weight = (np.exp(np.clip((x - mean) / spread, -_FAR, _FAR)) for x in (to_sources, to_targets))
    if predictor.falls_back:
        return NEARNESS * nearness
    tried = ~np.isnan(predictor.z_scores)
    track = weight @ np.where(tried, predictor.z_scores, 0) / (PRIOR + weight @ tried)
    return NEARNESS * nearness + track


def _table(
    gains: Sequence[Gain], sources: Collection[str], targets: Collection[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Past transfers as the table that `fit` takes.

    Returns:
        The target of each row, in order of first appearance, and float64 [T, N], NaN where a source was not tried.
    """
    column = {source: number for number, source in enumerate(sources)}
    rows: dict[tuple[str, Hashable], dict[int, list[float]]] = {}
    for gain in gains:
        if gain.source in column and gain.target in targets:
            row = rows.setdefault((gain.target, gain.setting), {})
            row.setdefault(column[gain.source], []).append(gain.points)
    results = np.full((len(rows), len(column)), np.nan)
    for row, by_column in zip(results, rows.values(), strict=True):
        for number, points in by_column.items():
            row[number] = sum(points) / len(points)
    return tuple(target for target, _ in rows), results
