"""Rank the prompts of a library for a new task, by similarity or by what past transfers showed.

The history of a library is its own, `transfers.jsonl`, and beside it what transfers from libraries that cannot be
written left in the user's cache, `experience.jsonl`.
"""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, with_config

from spot.errors import ConfigError, LibraryError, StorageError, did_you_mean
from spot.library import history
from spot.library.history import TransferRecord
from spot.library.library import PACKAGED, Library, open_library, resolve
from spot.prompts.prompt import SoftPrompt
from spot.retrieval.embeddings import SIMILARITIES, embedding_of, summary
from spot.retrieval.predictor import BASIS, FEWEST_RESULTS, LEARNED, RECORD, Gain, expected, proven, recorded
from spot.retrieval.search import Ranked, candidates, check_k, from_library, nearest
from spot.storage.files import lock, remove_leftovers, write_whole
from spot.storage.opening import read_bounded
from spot.storage.strict_json import MOST_BYTES
from spot.storage.values import STRICT, read_value

log = logging.getLogger(__name__)

RANK_BY = (*SIMILARITIES, LEARNED, RECORD)


@dataclass(frozen=True)
class Ranking:
    """Sources for a new task, best first.

    Attributes:
        sources: with their similarities; those of `mean` where past transfers rank.
        rank_by: what ranks them: `mean` where past transfers were to rank and the history is too small.
        expected: of each source, what past transfers lead to expect, see `predictor`; of `learned` and `record` only.
        results: of past transfers that were known, be they enough or not; of `learned` and `record` only.
        why: of a ranking that the history chose: the reason in words.
    """

    sources: tuple[Ranked, ...]
    rank_by: str
    expected: tuple[float, ...] = ()
    results: int = field(default=0, compare=False)
    why: str = field(default="", compare=False)

    def to_json(self) -> list[dict[str, Any]]:
        """The sources as plain values."""
        rows = [
            {"prompt": source.prompt, "task": source.task, "similarity": source.similarity} for source in self.sources
        ]
        if not self.expected:
            return rows
        return [{**row, "expected": value} for row, value in zip(rows, self.expected, strict=True)]


def retrieve(
    prompt: SoftPrompt | Path | str,
    library: Library | Path | str = PACKAGED,
    *,
    k: int = 5,
    rank_by: str = "mean",
    without: Collection[str] = (),
) -> Ranking:
    """The k prompts of a library to start a new task from, by similarity or by what past transfers showed.

    Args:
        prompt: of the new task, with a key by the library's recipe; a path, or `packaged:TASK`.
        library: where to look, or its folder, or `packaged`; prompts of other backbones in it are passed over.
        k: how many to return.
        rank_by: one of `RANK_BY`; `learned` (similarity and past gains) and `record` (past gains alone) are `mean`,
            with a warning, where the history is too small.
        without: names of tasks to leave out, such as the prompt's own; what was learned from them is left out too.

    Returns:
        k sources; equal ones are in the order of their digests.

    Raises:
        ConfigError: `rank_by` is unknown, or k is not between 1 and the number of candidates.
        LibraryError: there is no such library, no prompt in it fits the backbone, the prompt's key was made by another
            recipe, or a line of the history is no record.
        PromptError: a prompt has no key or cannot be read.
    """
    check_rank_by(rank_by)
    target = prompt if isinstance(prompt, SoftPrompt) else resolve(str(prompt))
    opened = library if isinstance(library, Library) else open_library(library)
    if rank_by in SIMILARITIES:
        return Ranking(tuple(nearest(target, opened, rank_by, k, without)), rank_by)
    ranking = rank_by_history(target, opened, k=k, rank_by=rank_by, without=without)
    if ranking.rank_by != rank_by:
        log.warning(
            "%d results of past transfers from these sources are known, and `%s` takes %d: ranked by `%s`",
            ranking.results,
            rank_by,
            FEWEST_RESULTS,
            ranking.rank_by,
        )
    return ranking


def check_rank_by(rank_by: str) -> None:
    """Refuse what is not one of `RANK_BY`.

    Raises:
        ConfigError: naming it and the known ones.
    """
    if rank_by not in RANK_BY:
        raise ConfigError(f"cannot rank by {rank_by!r}: {did_you_mean(rank_by, RANK_BY)}")


def rank_by_history(
    target: SoftPrompt, library: Library, *, k: int, rank_by: str = "", without: Collection[str] = ()
) -> Ranking:
    """The k prompts of a library that past transfers lead to expect most of; by `mean` where these are too few.

    Args and errors are those of `retrieve`; without a `rank_by` it is what has proven best on the history, see
    `predictor.proven`. The target's own past never counts.
    """
    entries = candidates(target, library, without)
    check_k(k, len(entries), str(library.path))
    sources = nearest(target, library, BASIS, len(entries), without)
    records = [record for record in history_of(library) if record.target not in {target.task, *without}]
    rows = ((record.target, _summary(record, target.width)) for record in records)
    places = {name: row for name, row in rows if row is not None}  # as the last record has it
    gains = [Gain(record.source, record.target, record.gain, (record.steps, record.rows)) for record in records]
    why = ""
    if not rank_by:
        [block] = from_library(library, entries, BASIS)
        of_sources = dict(zip(block.prompts, block.rows.astype(np.float64), strict=True))
        to_sources = {name: _products(row, of_sources) for name, row in places.items()}
        proof = proven(gains, to_sources, {name: _products(row, places) for name, row in places.items()})
        rank_by, why = proof.rank_by, proof.why
    to_target = {source.prompt: source.similarity for source in sources}
    if rank_by == RECORD:
        expectation = recorded(gains, list(to_target))
    else:
        expectation = expected(gains, to_target, _products(summary(embedding_of(target), BASIS)[0], places))
    if expectation.falls_back or rank_by == BASIS:
        return Ranking(tuple(sources[:k]), BASIS, results=expectation.results, why=why)
    best = sorted(sources, key=lambda source: (-expectation.scores[source.prompt], source.prompt))[:k]
    scores = tuple(expectation.scores[source.prompt] for source in best)
    return Ranking(tuple(best), rank_by, scores, expectation.results, why)


def _products(row: np.ndarray, others: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The similarity by `BASIS` of a task, given by its summary [D], to others."""
    return {name: float(row @ other) for name, other in others.items()}


@with_config(STRICT)
@dataclass(frozen=True)
class _StoredSource:
    """One source of a ranking that is kept."""

    prompt: str
    task: str
    similarity: Annotated[float, Field(ge=-1.001, le=1.001)]
    expected: Annotated[float, Field(ge=-1e6, le=1e6)] | None = None


@with_config(STRICT)
@dataclass(frozen=True)
class _StoredRanking:
    """A ranking that is kept."""

    metric: Literal["mean", "token", "max", "learned", "record"]
    sources: tuple[_StoredSource, ...]
    why: str = ""


def write_ranking(path: Path, ranking: Ranking) -> None:
    """Keep a ranking, so that what is learned meanwhile does not change work that has begun.

    What killed writers left beside it is deleted.

    Raises:
        StorageError: it cannot be written.
    """
    value = {"metric": ranking.rank_by, "sources": ranking.to_json(), **({"why": ranking.why} if ranking.why else {})}
    write_whole(path, json.dumps(value).encode(), path.parent)
    remove_leftovers(path.parent)


def read_ranking(path: Path, prompts: Collection[str]) -> Ranking | None:
    """A ranking that was kept; None where there is none, it is damaged, or it is of other sources.

    Args:
        path: the file that keeps it.
        prompts: digests of the sources as they are now.
    """
    try:
        content = read_bounded(path, MOST_BYTES, path.parent)
        if content is None:
            return None
        stored = read_value(_StoredRanking, content, str(path), LibraryError)
    except (StorageError, LibraryError) as error:
        log.debug("%s: %s", path, error)
        return None
    expected = tuple(source.expected for source in stored.sources if source.expected is not None)
    names = [source.prompt for source in stored.sources]
    if sorted(names) != sorted(prompts) or len(expected) not in (0, len(names)):
        return None
    sources = tuple(Ranked(source.prompt, source.task, source.similarity) for source in stored.sources)
    return Ranking(sources, stored.metric, expected, why=stored.why)


def history_of(library: Library) -> list[TransferRecord]:
    """What is known of transfers from a library's prompts: its own history, then that in the user's cache.

    Raises:
        LibraryError: a line is no record, or holds a summary of another width than its source.
    """
    records = [*library.transfers(), *history.read(history.user_history(), library.entries())]
    named = {record.id: record for record in records if record.id is not None}
    return [*(record for record in records if record.id is None), *named.values()]


def remember(library: Library, records: Sequence[TransferRecord]) -> None:
    """Keep records of transfers, those with a known `id` once; where nothing can be written, say so and go on."""
    path = history.user_history()
    try:
        if library.record_transfers(records):
            return
    except (LibraryError, StorageError) as error:
        log.warning("%s What this transfer showed is kept in %s instead.", error, path)
    try:
        with lock(path):
            history.append(path, records)
    except (LibraryError, StorageError) as error:
        log.warning("what this transfer showed is not kept for later ones: %s", error)


def _summary(record: TransferRecord, width: int) -> np.ndarray | None:
    """The recorded target's summary [D]; None where the record has none of this width."""
    if record.embedding is None or BASIS not in record.embedding:
        return None
    row = history.decode_summary(record.embedding[BASIS]).astype(np.float64)
    return row if row.shape == (width,) else None
