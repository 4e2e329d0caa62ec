"""Group the finished cells of a study by target and seed, and rank the sources of each group.

Cells of one target under one seed belong together: every choice is made among them.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spot.config import INSTEAD
from spot.errors import StudyError
from spot.retrieval.predictor import BASIS, Gain, expected
from spot.retrieval.search import Ranked
from spot.strategies.halving import best_so_far
from spot.study.records import Record


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetSeed:
    """The cells of one target and one seed that have a score.

    Attributes:
        target: name of the task.
        seed: of all its runs.
        plain: runs from scratch. First the one that gave the task embedding, then the other initial values, then
            further draws of the first; empty where the first is not finished or has no score.
        starts: how many of them are different initial values or learning rates.
        pairs: source -> run from its prompt; of several learning rates the best by selection rows, which counts the
            text tokens and parameters of all of them.
        combined: (`average` or `mixture`, k) -> run.
        instead: kind -> what one would pick instead of a prompt.
        models: tuned models; those tuned on a mixture before name it as their source.
        lacking: sources of the study without a record here.
    """

    target: str
    seed: int
    plain: tuple[Record, ...]
    starts: int
    pairs: Mapping[str, Record]
    combined: Mapping[tuple[str, int], Record]
    instead: Mapping[str, Record]
    models: tuple[Record, ...]
    lacking: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every arm that is settled from plain and pair cells can be settled here."""
        return bool(self.plain and self.pairs and not self.lacking)

    @property
    def steps(self) -> int:
        """Of a whole run; those that lost patience are shorter."""
        return max(run.steps for run in (*self.plain, *self.pairs.values()))


def group_records(records: Iterable[Record]) -> tuple[TargetSeed, ...]:
    """Group the records of a study by target, then seed.

    A source counts as the study's where any pair starts from it. In a seed in which the source's own run failed no
    pair is expected.

    Raises:
        StudyError: two records are of one cell, or one has a score and no curve.
    """
    records = tuple(records)
    _check_cells_differ(records)
    _check_curves(records)
    sources = sorted({record.sources[0] for record in records if record.kind == "pair"})
    lost = {(record.task, record.seed) for record in records if record.kind == "source" and is_failed(record)}
    by_group: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        if record.kind != "source":
            by_group.setdefault((record.task, record.seed), []).append(record)
    return tuple(
        _group(target, seed, members, [source for source in sources if (source, seed) not in lost])
        for (target, seed), members in sorted(by_group.items())
    )


def ranked_sources(group: TargetSeed, metric: str) -> list[Ranked]:
    """The sources of a group by similarity, the most similar first; equal ones by name.

    Raises:
        StudyError: a pair's record lacks the similarity.
    """
    if bare := sorted(source for source, pair in group.pairs.items() if metric not in pair.similarity):
        raise StudyError(
            f"the record of {bare[0]} on {group.target}, seed {group.seed}, has no similarity by {metric!r}; "
            "delete it, and `spot study run` makes it again."
        )
    sources = [Ranked(pair.digest, source, pair.similarity[metric]) for source, pair in group.pairs.items()]
    return sorted(sources, key=lambda source: (-source.similarity, source.task))


def learned_rankings(groups: Sequence[TargetSeed]) -> tuple[tuple[list[Ranked], ...], bool]:
    """The sources of each group as `learned` ranks them, which knows how they did on the other targets of its seed.

    Args:
        groups: complete ones. Of other targets the gains on selection rows are seen, of its own nothing.

    Returns:
        One ranking a group, the most promising source first, and whether any of them goes by more than similarity.

    Raises:
        StudyError: a pair's record lacks the similarity.
    """
    rankings, any_learned = [], False
    for group in groups:
        sources = ranked_sources(group, BASIS)
        others = [other for other in groups if other.seed == group.seed and other.target != group.target]
        expectation = expected(
            [gain for other in others for gain in _selection_gains(other)],
            {source.task: source.similarity for source in sources},
            {other.target: _cosine(group, other) for other in others},
        )
        any_learned = any_learned or not expectation.falls_back
        rankings.append(sorted(sources, key=lambda source: -expectation.scores[source.task]))
    return tuple(rankings), any_learned


def is_failed(record: Record) -> bool:
    """Whether a cell ended without a score; the source prompt of a task without report rows needs none."""
    return math.isnan(record.score) and (record.kind != "source" or bool(record.reason))


def selection_score(record: Record) -> float:
    """The best score of a run on selection rows, percent; what choices rest on."""
    return best_so_far(record.curve, record.steps)[0]


def plain_selection_score(group: TargetSeed) -> float:
    """Plain tuning's score on selection rows, percent: that of its better start."""
    return max(map(selection_score, group.plain[: group.starts]))


def _group(target: str, seed: int, records: Sequence[Record], sources: Sequence[str]) -> TargetSeed:
    """The group of all records of one target and seed; a pair is expected from each of the sources but its own."""
    scored = [record for record in records if not math.isnan(record.score)]
    plain, starts = _plain_runs([record for record in records if record.kind == "plain"])
    there = {record.sources[0] for record in records if record.kind == "pair"}
    best = _best_rates(scored)
    return TargetSeed(
        target=target,
        seed=seed,
        plain=plain,
        starts=starts,
        pairs={cell[1]: run for cell, run in best.items() if cell[0] == "pair"},
        combined={(cell[0], cell[2]): run for cell, run in best.items() if cell[0] != "pair"},
        instead={record.kind: record for record in scored if record.kind in INSTEAD},
        models=tuple(record for record in scored if record.kind == "model"),
        lacking=tuple(source for source in sources if source not in {target, *there}),
    )


def _best_rates(records: Sequence[Record]) -> dict[tuple[str, str, int], Record]:
    """Of the transfers that differ in their learning rate alone the best by selection rows, at the cost of all.

    Returns:
        (kind, source of a pair, k) -> run.
    """
    by_cell: dict[tuple[str, str, int], list[Record]] = {}
    for record in sorted(records, key=lambda record: record.rate):
        if record.kind in ("pair", "average", "mixture"):
            source = record.sources[0] if record.kind == "pair" else ""
            by_cell.setdefault((record.kind, source, record.k), []).append(record)
    return {cell: _at_the_cost_of_all(runs) for cell, runs in by_cell.items()}


def _at_the_cost_of_all(runs: Sequence[Record]) -> Record:
    """The best run by selection rows, with the text tokens and parameters of all, which walk side by side."""
    best = max(runs, key=lambda run: selection_score(run) if run.curve else -math.inf)
    if len(runs) == 1:
        return best
    tokens = sum(run.tokens for run in runs)
    share = tokens / best.tokens if best.tokens else 1.0
    curve = tuple(replace(point, tokens=round(share * point.tokens)) for point in best.curve)
    return replace(best, curve=curve, tokens=tokens, tuned=sum(run.tuned for run in runs))


def _check_cells_differ(records: Sequence[Record]) -> None:
    """Refuse two records of one cell: the older one is of other settings."""
    cells = [
        (
            record.kind,
            record.task,
            record.sources if record.kind in ("pair", "model") else (),
            record.start,
            record.init_seed,
            record.seed,
            record.k,
            record.rate,
        )
        for record in records
    ]
    twice = [cell for cell, count in Counter(cells).items() if count > 1]
    if twice:
        first, second = [record.digest for record, cell in zip(records, cells, strict=True) if cell == twice[0]][:2]
        kind, task, sources, start, _, seed, _, _ = twice[0]
        what = " ".join([kind, *([f"from {sources[0]}"] if sources else []), *([start] if start else [])])
        raise StudyError(
            f"records {first} and {second} are both of one cell ({what} on {task}, seed {seed}), made with different "
            "settings or rows; expected one of each cell: delete the older one."
        )


def _check_curves(records: Sequence[Record]) -> None:
    """Refuse a run that nothing can be chosen by."""
    for record in records:
        if record.kind in ("plain", "pair") and not is_failed(record) and not record.curve:
            raise StudyError(
                f"record {record.digest} has a score and no curve on selection rows, so that nothing can be chosen "
                "by it; delete it, and `spot study run` makes it again."
            )


def _plain_runs(records: Sequence[Record]) -> tuple[tuple[Record, ...], int]:
    """Runs from scratch in the order of `TargetSeed.plain`, and how many initial values there are among them."""
    ordered = sorted(
        records,
        key=lambda record: (
            "mean" not in record.embedding,
            record.init_seed,
            record.start != "vocabulary",
            record.start,
            record.rate,
        ),
    )
    if not ordered or math.isnan(ordered[0].score):
        return (), 0
    first = ordered[0]
    others = [record for record in ordered[1:] if not math.isnan(record.score)]
    starts = [first, *(record for record in others if not record.init_seed)]
    draws = [record for record in others if record not in starts]
    return (*starts, *sorted(draws, key=lambda record: record.start != first.start)), len(starts)


def _selection_gains(group: TargetSeed) -> list[Gain]:
    """What each source gained over plain tuning on the target's selection rows."""
    plain = plain_selection_score(group)
    return [Gain(source, group.target, selection_score(pair) - plain) for source, pair in group.pairs.items()]


def _cosine(group: TargetSeed, other: TargetSeed) -> float:
    """How alike the tasks of two groups are by their embeddings; 0 where one of these has no direction."""
    ours, theirs = _direction(group), _direction(other)
    return 0.0 if ours is None or theirs is None else float(ours @ theirs)


def _direction(group: TargetSeed) -> np.ndarray | None:
    """The average token of the target's task embedding, of length 1; None where there is none that has a direction."""
    row = np.asarray(group.plain[0].embedding.get(BASIS, ()), np.float64)
    length = np.linalg.norm(row)
    return row / length if np.isfinite(length) and length > 0 else None
