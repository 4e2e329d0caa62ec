"""Blocks: the finished cells of one target under one seed, which belong together, and how their sources are ranked."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spot.errors import StudyError
from spot.retrieval import predictor as learned
from spot.retrieval.search import Ranked
from spot.strategies.plans import standing
from spot.study.records import Record

BASIS = "mean"  # the similarity that `learned` starts from


@dataclass(frozen=True, eq=False)
class Block:
    """The cells of one target and one seed that have a score.

    Attributes:
        target: name of the task.
        seed: of all its runs.
        plain: runs from scratch. First the one that gave the task embedding, then the other initial values, then
            further draws of the first; empty where the first is not finished or has no score.
        starts: how many of them are different initial values.
        pairs: source -> run from its prompt.
        combined: (`average` or `mixture`, k) -> run.
        models: tuned models; those tuned on a mixture before name it as their source.
        lacking: sources of the study without a record here.
    """

    target: str
    seed: int
    plain: tuple[Record, ...]
    starts: int
    pairs: Mapping[str, Record]
    combined: Mapping[tuple[str, int], Record]
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


def blocks(records: Iterable[Record]) -> tuple[Block, ...]:
    """Sort the records of a study by target, then seed.

    A source counts as the study's where any pair starts from it. In a seed in which the source's own run failed no
    pair is expected.

    Raises:
        StudyError: two records are of one cell, or one has a score and no curve.
    """
    records = tuple(records)
    _check_once(records)
    if bare := [one.digest for one in records if one.kind in ("plain", "pair") and not failed(one) and not one.curve]:
        raise StudyError(
            f"record {bare[0]} has a score and no curve on selection rows, so that nothing can be chosen "
            "by it; delete it, and `spot study run` makes it again."
        )
    sources = sorted({record.sources[0] for record in records if record.kind == "pair"})
    lost = {(one.task, one.seed) for one in records if one.kind == "source" and failed(one)}
    found: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        if record.kind != "source":
            found.setdefault((record.task, record.seed), []).append(record)
    made = []
    for (target, seed), own in sorted(found.items()):
        finished = [record for record in own if not math.isnan(record.score)]
        plain, starts = _plain([record for record in own if record.kind == "plain"])
        there = {record.sources[0] for record in own if record.kind == "pair"}
        made.append(
            Block(
                target,
                seed,
                plain,
                starts,
                {record.sources[0]: record for record in finished if record.kind == "pair"},
                {(record.kind, record.k): record for record in finished if record.kind in ("average", "mixture")},
                tuple(record for record in finished if record.kind == "model"),
                tuple(name for name in sources if name not in {target, *there} and (name, seed) not in lost),
            )
        )
    return tuple(made)


def ranking(block: Block, metric: str) -> list[Ranked]:
    """The sources of a block by similarity, the most similar first; equal ones by name.

    Raises:
        StudyError: a pair's record lacks the similarity.
    """
    if bare := sorted(source for source, pair in block.pairs.items() if metric not in pair.similarity):
        raise StudyError(
            f"the record of {bare[0]} on {block.target}, seed {block.seed}, has no similarity by {metric!r}; "
            "delete it, and `spot study run` makes it again."
        )
    found = [Ranked(pair.digest, source, pair.similarity[metric]) for source, pair in block.pairs.items()]
    return sorted(found, key=lambda one: (-one.similarity, one.task))


def by_experience(found: Sequence[Block]) -> tuple[tuple[list[Ranked], ...], bool]:
    """The sources of each block as `learned` ranks them, which knows how they did on the other targets of its seed.

    Args:
        found: complete blocks. Of other targets the gains on selection rows are seen, of its own nothing.

    Returns:
        One ranking a block, the most promising source first, and whether any of them goes by more than similarity.

    Raises:
        StudyError: a pair's record lacks the similarity.
    """
    made, knows = [], False
    for block in found:
        ranked, own = ranking(block, BASIS), _direction(block)
        others = [one for one in found if one.seed == block.seed and one.target != block.target]
        near = [0.0 if own is None or at is None else float(own @ at) for at in map(_direction, others)]
        gains = np.full((len(others), len(ranked)), np.nan)
        for row, other in enumerate(others):
            for column, source in enumerate(ranked):
                if (pair := other.pairs.get(source.task)) is not None:
                    gains[row, column] = selection(pair) - plain_selection(other)
        predictor = learned.fit(gains)
        knows = knows or not predictor.falls_back
        scores = learned.predict(predictor, np.array([one.similarity for one in ranked]), np.array(near))
        made.append([ranked[at] for at in np.argsort(-scores, kind="stable")])
    return tuple(made), knows


def failed(record: Record) -> bool:
    """Whether a cell ended without a score; the source prompt of a task without report rows needs none."""
    return math.isnan(record.score) and (record.kind != "source" or bool(record.reason))


def selection(record: Record) -> float:
    """The best score of a run on selection rows, percent; what choices rest on."""
    return standing(record.curve, record.steps)[0]


def plain_selection(block: Block) -> float:
    """Plain tuning's score on selection rows, percent: that of its better start."""
    return max(map(selection, block.plain[: block.starts]))


def _check_once(records: Sequence[Record]) -> None:
    """Refuse two records of one cell: the older one is of other settings."""
    cells = [
        (
            one.kind,
            one.task,
            one.sources if one.kind in ("pair", "model") else (),
            one.start,
            one.init_seed,
            one.seed,
            one.k,
        )
        for one in records
    ]
    twice = [cell for cell, count in Counter(cells).items() if count > 1]
    if twice:
        first, second = [one.digest for one, cell in zip(records, cells, strict=True) if cell == twice[0]][:2]
        kind, task, sources, start, _, seed, _ = twice[0]
        what = " ".join([kind, *([f"from {sources[0]}"] if sources else []), *([start] if start else [])])
        raise StudyError(
            f"records {first} and {second} are both of one cell ({what} on {task}, seed {seed}), made with different "
            "settings or rows; expected one of each cell: delete the older one."
        )


def _plain(records: Sequence[Record]) -> tuple[tuple[Record, ...], int]:
    """Runs from scratch in the order of `Block.plain`, and how many initial values there are among them."""
    ordered = sorted(
        records, key=lambda one: ("mean" not in one.embedding, one.init_seed, one.start != "vocabulary", one.start)
    )
    if not ordered or math.isnan(ordered[0].score):
        return (), 0
    first = ordered[0]
    others = [one for one in ordered[1:] if not math.isnan(one.score)]
    starts = [first, *(one for one in others if one.start != first.start and not one.init_seed)]
    draws = [one for one in others if one not in starts]
    return (*starts, *sorted(draws, key=lambda one: one.start != first.start)), len(starts)


def _direction(block: Block) -> np.ndarray | None:
    """The average token of the target's task embedding, of length 1; None where there is none that has a direction."""
    row = np.asarray(block.plain[0].embedding.get(BASIS, ()), np.float64)
    length = np.linalg.norm(row)
    return row / length if np.isfinite(length) and length > 0 else None
