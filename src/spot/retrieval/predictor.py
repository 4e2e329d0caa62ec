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
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spot.errors import LibraryError
from spot.library.history import TransferRecord

# This and the scale of the exponent are round numbers near the best of both public matrices together; chosen on
# one matrix alone, the gain over `mean` on the other is +0.07 and +0.08, where these give +0.11 on the two.
NEARNESS = 0.5  # standard deviations of result that a source of average similarity gets for it
PRIOR = 1.0  # weight of the imaginary average target
FEWEST_SOURCES = 3  # on a target: the results of two are always +1 and -1, whatever they were
# Below this many results the similarity ranks alone. Drawn from the public matrices at random, 3 targets with all their
# sources (about 42 results) raise the mean Spearman by 0.06 and 1 (14) by 0.02; 5 sources on each of 8 targets
# (40) raise it by 0.03, and on fewer targets they change it by -0.014 to +0.007, which is nothing.
FEWEST_RESULTS = 40
_FAR = 100.0  # standard deviations; keeps exp() in range


@dataclass(frozen=True, eq=False)
class Predictor:
    """What past transfers showed; made by `fit`.

    Attributes:
        standing: float64 [T, N], the result of source n on target t in standard deviations within the target; NaN
            where it is not known or the target was left out.
        left_out: how many targets say nothing: fewer than `FEWEST_SOURCES` results, or all of them equal.
    """

    standing: np.ndarray
    left_out: int

    @property
    def results(self) -> int:
        """How many results there are to learn from."""
        return int(np.count_nonzero(~np.isnan(self.standing)))

    @property
    def falls_back(self) -> bool:
        """Whether the record is too small, so that `predict` ranks by similarity alone."""
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
    standing = np.full(table.shape, np.nan)
    left_out = 0
    for row, out in zip(table, standing, strict=True):
        known = np.flatnonzero(~np.isnan(row))
        if len(known) < FEWEST_SOURCES or np.ptp(row[known]) == 0:
            left_out += 1
        else:
            out[known] = (row[known] - row[known].mean()) / row[known].std()
    return Predictor(standing, left_out)


def predict(predictor: Predictor, to_sources: np.ndarray, to_targets: np.ndarray) -> np.ndarray:
    """How well each source can be expected to do on a new target, next to the others.

    Args:
        predictor: from `fit`.
        to_sources: [N], the new target's similarity to each source, by one metric; at least one.
        to_targets: [T], its similarity to each target of the record, by the same metric.

    Returns:
        float64 [N], more is better, in standard deviations of result but not centred. Where the record
        is too small (`Predictor.falls_back`) the order is that of `to_sources`.

    Raises:
        LibraryError: the lengths disagree with the record's, or a similarity is NaN or infinite.
    """
    to_sources, to_targets = np.asarray(to_sources, np.float64), np.asarray(to_targets, np.float64)
    targets, sources = predictor.standing.shape
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
    known = ~np.isnan(predictor.standing)
    track = weight @ np.where(known, predictor.standing, 0) / (PRIOR + weight @ known)
    return NEARNESS * nearness + track


def table(records: Sequence[TransferRecord], sources: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Past transfers as the table that `fit` takes.

    Gains are compared only where the same target was tuned for as many steps on as many rows: each such setting is a
    row of its own. Several gains of one source in one setting, such as seeds, are averaged.

    Args:
        records: finished transfers.
        sources: the N candidates, named as in the records; transfers from others are passed over.

    Returns:
        The target of each row, in order of first appearance, and float64 [T, N], NaN where it was not tried.
    """
    column = {name: number for number, name in enumerate(sources)}
    found: dict[tuple[str, int | None, int | None], dict[int, list[float]]] = {}
    for record in records:
        if record.source in column:
            setting = (record.target, record.steps, record.rows)
            found.setdefault(setting, {}).setdefault(column[record.source], []).append(record.gain)
    results = np.full((len(found), len(column)), np.nan)
    for row, gains in enumerate(found.values()):
        for number, values in gains.items():
            results[row, number] = sum(values) / len(values)
    return tuple(target for target, _, _ in found), results
