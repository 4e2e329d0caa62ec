"""The memory of past transfers, and the ranking of sources for a new task that rests on it.

A library keeps its own record, `transfers.jsonl`. What comes from a library that cannot be written, such as the one
that ships, is kept in the user's cache, `experience.jsonl`, and read beside the library's own: records name sources by
their digests, so one file serves all libraries. A record rests on selection rows alone, so that a choice that it leads
to later rests on them too.
"""

import json
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spot.errors import ConfigError, LibraryError, StorageError, did_you_mean
from spot.library import history
from spot.library.history import TransferRecord, encode_summary
from spot.library.library import Library
from spot.prompts.prompt import SoftPrompt
from spot.retrieval import search
from spot.retrieval.predictor import BASIS, FEWEST_RESULTS, Gain, expected
from spot.retrieval.search import Ranked, retrieve, summary, task_embedding
from spot.storage.files import lock, write_whole

log = logging.getLogger(__name__)

LEARNED = "learned"
METRICS = (*search.METRICS, LEARNED)
KEPT = ("mean", "token")  # summaries of a target that its records hold, one of them at least


@dataclass(frozen=True)
class Ranking:
    """Sources for a new task, best first.

    Attributes:
        sources: with their similarities; those of `mean` where past transfers rank.
        metric: that ranks them: `mean` where `learned` was asked for and the record is too small.
        expected: of each source, what past transfers lead to expect, see `predictor.expected`; of `learned` only.
    """

    sources: tuple[Ranked, ...]
    metric: str
    expected: tuple[float, ...] = ()

    def to_json(self) -> list[dict[str, Any]]:
        """The sources as plain values."""
        rows = [{"prompt": one.prompt, "task": one.task, "similarity": one.similarity} for one in self.sources]
        if not self.expected:
            return rows
        return [{**row, "expected": value} for row, value in zip(rows, self.expected, strict=True)]


def check_metric(metric: str) -> None:
    """Refuse a metric that is not one of `METRICS`.

    Raises:
        ConfigError: naming it and the known ones.
    """
    if metric not in METRICS:
        raise ConfigError(f"unknown metric {metric!r}: {did_you_mean(metric, METRICS)}")


def rank(target: SoftPrompt, library: Library, metric: str, k: int, without: Collection[str] = ()) -> Ranking:
    """The k prompts of a library to start a new task from, by similarity or by what past transfers showed.

    Args:
        target: a prompt of the new task, with a key by the library's recipe.
        library: where to look.
        metric: one of `METRICS`; `learned` is `mean`, with a warning, where the record is too small.
        k: how many to return.
        without: names of tasks to leave out, such as the target's own; what was learned from them is left out too.

    Raises:
        ConfigError, LibraryError, PromptError: as `retrieval.retrieve`; a line of the record is none.
    """
    check_metric(metric)
    if metric == LEARNED:
        found, results = by_experience(target, library, k, without)
        if found is not None:
            return found
        log.warning(
            "%d results of past transfers from these sources are known, and `%s` takes %d: ranked by `%s`",
            results,
            LEARNED,
            FEWEST_RESULTS,
            BASIS,
        )
        metric = BASIS
    return Ranking(tuple(retrieve(target, library, metric, k, without)), metric)


def by_experience(
    target: SoftPrompt, library: Library, k: int, without: Collection[str] = ()
) -> tuple[Ranking | None, int]:
    """The ranking by what past transfers showed, and on how many results it rests; None where they are too few.

    Arguments and errors are those of `rank`. The target's own past never counts.
    """
    count = sum(entry.task not in without for entry in library.entries(target.backbone))
    sources = retrieve(target, library, BASIS, max(k, count), without)
    records = [record for record in read(library) if record.target not in {target.task, *without}]
    ours = summary(task_embedding(target.key, target.start), BASIS)[0]
    rows = ((record.target, _summary(record, target.value.shape[1])) for record in records)
    to_targets = {name: float(ours @ row) for name, row in rows if row is not None}  # as the last record has it
    gains = [Gain(record.source, record.target, record.gain, (record.steps, record.rows)) for record in records]
    expectation = expected(gains, {source.prompt: source.similarity for source in sources}, to_targets)
    if expectation.falls_back:
        return None, expectation.results
    best = sorted(sources, key=lambda source: (-expectation.scores[source.prompt], source.prompt))[:k]
    ranking = Ranking(tuple(best), LEARNED, tuple(expectation.scores[source.prompt] for source in best))
    return ranking, expectation.results


def kept(path: Path, prompts: Collection[str], make: Callable[[], Ranking]) -> Ranking:
    """A ranking that is made once and kept, so that what is learned meanwhile does not change work that has begun.

    Args:
        path: the file that keeps it.
        prompts: digests of the sources as they are now; where the file holds others the ranking is made anew.
        make: ranks them.

    Raises:
        StorageError: it cannot be written; and whatever `make` raises.
    """
    try:
        known = json.loads(path.read_bytes())
        sources = tuple(Ranked(one["prompt"], one["task"], one["similarity"]) for one in known["sources"])
        expected = tuple(one["expected"] for one in known["sources"] if "expected" in one)
        found = Ranking(sources, known["metric"], expected)
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found is None or {one.prompt for one in found.sources} != set(prompts):
        found = make()
        write_whole(path, json.dumps({"metric": found.metric, "sources": found.to_json()}).encode())
    return found


def single_rows(prompt: SoftPrompt) -> dict[str, np.ndarray]:
    """The summaries of a prompt's task embedding that are single rows: metric -> float32 [D]."""
    embedding = task_embedding(prompt.key, prompt.start)
    return {metric: summary(embedding, metric)[0].astype(np.float32) for metric in KEPT}


def summaries(target: SoftPrompt) -> dict[str, str]:
    """The target's summaries as its records hold them."""
    return {metric: encode_summary(row) for metric, row in single_rows(target).items()}


def read(library: Library) -> list[TransferRecord]:
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
