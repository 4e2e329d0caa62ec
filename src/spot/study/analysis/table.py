"""The table of a transfer study: the scores of targets tuned from each source and from none, and what they say.

Scores are in percent. Each source needs a score on each target, so that all means are over the same targets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spot.errors import TaskError, did_you_mean
from spot.metrics.scores import relative_error_reduction
from spot.tasks.readers import read_rows, some, text_field

BASELINE = "BASELINE"  # stands as the source of plain tuning
COLUMNS = ("source", "target", "mean")
LARGE = 10  # percent of the baseline's error; a larger reduction is listed
EQUAL = 1e-9  # points; what differs by less is the rounding of floats, not a result


@dataclass(frozen=True, eq=False)
class StudyTable:
    """The scores of S sources on T targets.

    Attributes:
        sources: by mean score, highest first, then by name.
        targets: by name.
        baseline: [T] scores of plain tuning, below 100.
        means: [S, T] scores after transfer.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    baseline: NDArray[np.float64]
    means: NDArray[np.float64]

    @property
    def rer(self) -> NDArray[np.float64]:
        """The relative error reduction of each cell, [S, T], in percent."""
        return np.vectorize(relative_error_reduction, otypes=[np.float64])(self.means, self.baseline)


@dataclass(frozen=True)
class Gain:
    """By which share of the baseline's error a source lowers it on a target, in percent."""

    source: str
    target: str
    rer: float


@dataclass(frozen=True)
class BestSources:
    """The sources with the best score on a target (more than one where they tie), that score and its gain."""

    target: str
    sources: tuple[str, ...]
    baseline: float
    mean: float
    rer: float


@dataclass(frozen=True)
class TableSummary:
    """What a table says; means in percent, sources by mean score, highest first.

    Attributes:
        cells: pairs of a source and a target.
        improved, worsened, tied: cells above, below and equal to the baseline; a worsened one is a negative transfer.
        above_10: gains of more than 10 %, highest first.
        source_means, source_rer: source -> its mean score and its mean relative error reduction.
        source_worsened: source -> how many targets it makes worse.
        baseline_mean: of plain tuning over the targets.
        mean: of all cells, which is what a source picked at random gives on average.
        always_best: the source to take if every target starts from the same: it has the best mean.
        oracle_mean: of the best source of each target. Both are picked by the very scores that are averaged.
        best_sources: one for each target, by its name.
    """

    cells: int
    improved: int
    worsened: int
    tied: int
    above_10: tuple[Gain, ...]
    source_means: dict[str, float]
    source_rer: dict[str, float]
    source_worsened: dict[str, int]
    baseline_mean: float
    mean: float
    always_best: str
    oracle_mean: float
    best_sources: tuple[BestSources, ...]


def read_table(path: Path) -> StudyTable:
    """Read the rows of a table: columns source, target and mean; further ones, such as std, are passed over.

    Args:
        path: CSV, or another format of rows.

    Raises:
        TaskError: the file cannot be read or has no rows, a row lacks a column, a name is blank, a score is no
            percentage, two rows give one cell, or `study_table` refuses the scores.
    """
    scores: dict[tuple[str, str], float] = {}
    rows: dict[tuple[str, str], int] = {}
    for number, row in read_rows(path):
        cell, score = _cell(row, f"{path}, row {number}")
        if cell in rows:
            both = f"rows {rows[cell]} and {number} both hold source {cell[0]!r} on target {cell[1]!r}"
            raise TaskError(f"{path}: {both}. Keep one of them, with the mean over all seeds.")
        rows[cell], scores[cell] = number, score
    if not scores:
        raise TaskError(f"{path} holds a header and no rows: expected one row for each source and target.")
    if max(scores.values()) <= 1:
        raise TaskError(f"{path}: no mean is above 1, so these are shares; expected percent. Multiply them by 100.")
    return study_table(scores, str(path))


def study_table(scores: Mapping[tuple[str, str], float], place: str) -> StudyTable:
    """Arrange the scores of a study.

    Args:
        scores: (source, target) -> percent; the source `BASELINE` is plain tuning.
        place: what messages call the table.

    Raises:
        TaskError: there is no source, a cell or a baseline is missing, or a baseline has no error.
    """
    names = {source for source, _ in scores}
    targets = tuple(sorted({target for _, target in scores}))
    sources = sorted(names - {BASELINE})
    if not sources or BASELINE not in names:
        raise TaskError(f"{place} has source {some(sorted(names))}: expected {BASELINE} (plain tuning) and others.")
    if bare := [target for target in targets if (BASELINE, target) not in scores]:
        raise TaskError(f"{place} has no {BASELINE} row for target {some(bare)}. Add the score of plain tuning.")
    if solved := [target for target in targets if scores[BASELINE, target] >= 100]:
        raise TaskError(f"{place}: {BASELINE} is 100 on target {some(solved)}: no error to reduce. Leave it out.")
    wanted = [(source, target) for source in sources for target in targets]
    if missing := [f"{source} > {target}" for source, target in wanted if (source, target) not in scores]:
        raise TaskError(
            f"{place} lacks {len(missing)} of {len(wanted)} cells (source > target): {some(missing)}. Means over "
            "different targets can't be compared: add these rows, or leave the source or the target out."
        )
    rows = [[scores[source, target] for target in targets] for source in [BASELINE, *sources]]
    baseline, means = np.split(np.array(rows, dtype=np.float64), [1])
    order = np.argsort(-means.mean(axis=1).round(9), kind="stable")
    return StudyTable(tuple(sources[row] for row in order), targets, baseline[0], means[order])


def summarise(table: StudyTable) -> TableSummary:
    """Count, average and rank the cells of a table."""
    gained, rer = table.means - table.baseline, table.rer
    improved, worsened = gained > EQUAL, gained < -EQUAL
    places = np.argwhere(rer > LARGE + EQUAL).tolist()
    large = [Gain(table.sources[row], table.targets[column], float(rer[row, column])) for row, column in places]
    return TableSummary(
        cells=gained.size,
        improved=int(improved.sum()),
        worsened=int(worsened.sum()),
        tied=int((~improved & ~worsened).sum()),
        above_10=tuple(sorted(large, key=lambda gain: (-round(gain.rer, 9), gain.source, gain.target))),
        source_means=dict(zip(table.sources, table.means.mean(axis=1).tolist(), strict=True)),
        source_rer=dict(zip(table.sources, rer.mean(axis=1).tolist(), strict=True)),
        source_worsened=dict(zip(table.sources, worsened.sum(axis=1).tolist(), strict=True)),
        baseline_mean=float(table.baseline.mean()),
        mean=float(table.means.mean()),
        always_best=table.sources[0],
        oracle_mean=float(table.means.max(axis=0).mean()),
        best_sources=tuple(_best(table, column) for column in range(len(table.targets))),
    )


def _best(table: StudyTable, column: int) -> BestSources:
    """The best score on one target, and who has it."""
    means = table.means[:, column].tolist()
    baseline, best = float(table.baseline[column]), max(means)
    sources = sorted(source for source, mean in zip(table.sources, means, strict=True) if best - mean < EQUAL)
    return BestSources(table.targets[column], tuple(sources), baseline, best, relative_error_reduction(best, baseline))


def _cell(row: dict[str, Any], place: str) -> tuple[tuple[str, str], float]:
    """The source and target of one row, and its score."""
    for column in COLUMNS:
        if column not in row:
            raise TaskError(f"{place} lacks column {column!r} of {some(COLUMNS)}; {did_you_mean(column, row)}")
    source, target = (text_field(row, column, place).strip() for column in COLUMNS[:2])
    if not source or not target:
        raise TaskError(f"{place}: source {source!r}, target {target!r}: a blank is no name. Fill it in.")
    try:
        score = float(row["mean"])
    except (TypeError, ValueError):
        score = float("nan")
    if not 0 <= score <= 100:
        raise TaskError(f"{place}: mean holds {row['mean']!r:.60}, expected a number from 0 to 100. Mend the row.")
    return (source, target), score
