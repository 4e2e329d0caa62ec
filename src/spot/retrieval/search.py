"""Find the prompts whose tasks are most like a new one: among prompts at hand, or in a library.

The search is exact: among 100,000 prompts of width 576 it takes some twenty milliseconds, and to open their folder
takes seconds (bench/search.py).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from spot.errors import ConfigError, LibraryError
from spot.library.entries import Entry, differing_settings
from spot.library.library import Library, Summarise
from spot.prompts.prompt import SoftPrompt
from spot.retrieval.embeddings import RECORDED, check_similarity, check_widths, embedding_of, summary, summary_of

_DECIMALS = 9  # similarities that agree so far are ties; float32 summaries are good for about 8
_BLOCK = 512  # prompts whose tokens `max` holds in memory at a time


def _single_row(prompt: SoftPrompt, kind: str) -> np.ndarray:
    """The summary [D] of a prompt, of a similarity that has one row of each."""
    return summary_of(prompt, kind)[0]


# What the library's cache holds of each prompt, by name: the one row that a similarity needs.
SUMMARIES: Mapping[str, Summarise] = {kind: partial(_single_row, kind=kind) for kind in RECORDED}


@dataclass(frozen=True)
class Ranked:
    """One source in a ranking."""

    prompt: str  # digest
    task: str
    similarity: float  # at most 1 for `mean` and `max`; `token` is far smaller: compare it only with itself
    path: Path | None = None  # of the prompt file; None for a prompt that is in no library


@dataclass(frozen=True, eq=False)
class Sources:
    """Prompts made ready for searches by one similarity; many targets can be searched among them.

    Attributes:
        similarity: one of `SIMILARITIES`.
        prompts: N digests.
        tasks: N names.
        paths: N prompt files, or None where there is none.
        rows: float32 [sum of R, D], the summaries one after another.
        first: [N], where each summary begins in `rows`.
    """

    similarity: str
    prompts: tuple[str, ...]
    tasks: tuple[str, ...]
    paths: tuple[Path | None, ...]
    rows: np.ndarray
    first: np.ndarray


def rank(target: np.ndarray, sources: Sequence[SoftPrompt], similarity: str = "mean", k: int = 5) -> list[Ranked]:
    """The k prompts whose tasks are most like the target's, best first.

    Args:
        target: [P, D], a task embedding.
        sources: prompts with a key.
        similarity: one of `SIMILARITIES`.
        k: how many to return.

    Returns:
        k entries; equal similarities are in the order of their digests.

    Raises:
        ConfigError: the similarity is unknown, or k is not between 1 and the number of sources.
        PromptError: a source has no key or another width, or as `summary`.
    """
    check_similarity(similarity)
    check_k(k, len(sources), "the list of prompts")
    return search(target, from_prompts(sources, similarity), k)


def nearest(
    target: SoftPrompt, library: Library, similarity: str = "mean", k: int = 5, without: Collection[str] = ()
) -> list[Ranked]:
    """The k prompts of a library whose tasks are most like the target's, best first.

    Args:
        target: a prompt of the new task, with a key by the library's recipe.
        library: where to look; prompts of other backbones in it are passed over.
        similarity: one of `SIMILARITIES`.
        k: how many to return.
        without: names of tasks to leave out, such as the target's own.

    Returns:
        k entries; equal similarities are in the order of their digests.

    Raises:
        ConfigError: the similarity is unknown, or k is not between 1 and the number of candidates.
        LibraryError: no prompt fits the target's backbone, or its key was made by another recipe.
        PromptError: a prompt has no key or cannot be read.
    """
    check_similarity(similarity)
    embedding = embedding_of(target)
    entries = candidates(target, library, without)
    check_k(k, len(entries), str(library.path))
    best: list[Ranked] = []
    for sources in from_library(library, entries, similarity):
        block = search(embedding, sources, min(k, len(sources.prompts)))
        best = sorted([*best, *block], key=lambda source: (-source.similarity, source.prompt))[:k]
    return best


def candidates(target: SoftPrompt, library: Library, without: Collection[str] = ()) -> list[Entry]:
    """The prompts of a library that can be compared with a target: one at least.

    Raises:
        LibraryError: no prompt fits the target's backbone, or its key was made by another recipe.
    """
    fitting = library.entries(target.backbone)
    entries = [entry for entry in fitting if entry.task not in without]
    if not entries:
        raise LibraryError(
            f"{library.path}: none of the {len(library.entries())} prompts fits {target.backbone}"
            + (f" and is of another task than {', '.join(sorted(without))}" if fitting else "")
            + ". Choose a library of this backbone, or add prompts with `spot library add`."
        )
    for entry in entries:
        if entry.key_recipe != target.key_recipe:
            raise LibraryError(
                f"the key of {target.task!r} cannot be compared with that of {entry.task!r} in {library.path}: "
                f"{differing_settings(target.key_recipe, entry.key_recipe)}. Tune the target by the library's "
                "recipe."
            )
    return entries


def search(target: np.ndarray, sources: Sources, k: int) -> list[Ranked]:
    """The k nearest of prepared sources, best first; ties are in the order of their digests.

    Args:
        target: [P, D], a task embedding.
        sources: from `from_prompts` or `from_library`.
        k: at most the number of sources.

    Raises:
        ConfigError: k is not between 1 and the number of sources.
        PromptError: the widths differ, or as `summary`.
    """
    check_k(k, len(sources.prompts), "the list of sources")
    target_rows = summary(target, sources.similarity)
    check_widths(target_rows, sources.rows)
    positions = _positions(target_rows, sources, k)
    # In float64, so that equal summaries give equal similarities wherever they stand in the matrix.
    similarities = np.round(_similarities(target_rows, *_rows_of(sources, positions)), _DECIMALS)
    digests = np.array([sources.prompts[position] for position in positions])
    order = np.lexsort((digests, -similarities))[:k]
    return [
        Ranked(sources.prompts[position], sources.tasks[position], float(similarity), sources.paths[position])
        for position, similarity in zip(positions[order], similarities[order], strict=True)
    ]


def from_prompts(prompts: Sequence[SoftPrompt], similarity: str) -> Sources:
    """Make prompts ready for searches by one similarity.

    Raises:
        ConfigError: the similarity is unknown.
        PromptError: a prompt has no key, the widths differ, or as `summary`.
    """
    check_similarity(similarity)
    summaries = [summary_of(prompt, similarity) for prompt in prompts]
    for other in summaries[1:]:
        check_widths(summaries[0], other)
    lengths = [len(rows) for rows in summaries]
    return Sources(
        similarity=similarity,
        prompts=tuple(prompt.digest for prompt in prompts),
        tasks=tuple(prompt.task for prompt in prompts),
        paths=(None,) * len(prompts),
        rows=np.concatenate(summaries) if summaries else np.zeros((0, 0), np.float32),
        first=np.cumsum([0, *lengths], dtype=np.intp)[:-1],
    )


def from_library(library: Library, entries: Sequence[Entry], similarity: str) -> Iterator[Sources]:
    """Make a library's prompts ready for searches by one similarity.

    The one row that `mean` and `token` need of each prompt is kept in the library's cache; `max` reads the files.

    Args:
        library: which holds the entries.
        entries: the prompts to search among, of one width.
        similarity: one of `SIMILARITIES`.

    Yields:
        All of them at once for `mean` and `token`, blocks of them for `max`.

    Raises:
        ConfigError: the similarity is unknown.
        PromptError: a prompt cannot be read, has no key, or as `summary`.
    """
    check_similarity(similarity)
    size = _BLOCK if similarity == "max" else max(1, len(entries))
    for begin in range(0, len(entries), size):
        block = entries[begin : begin + size]
        if similarity == "max":
            sources = from_prompts([library.get(entry.digest) for entry in block], similarity)
            rows, first = sources.rows, sources.first
        else:
            rows = library.summaries(similarity, block, SUMMARIES[similarity])
            first = np.arange(len(block))
        yield Sources(
            similarity=similarity,
            prompts=tuple(entry.digest for entry in block),
            tasks=tuple(entry.task for entry in block),
            paths=tuple(entry.path for entry in block),
            rows=rows,
            first=first,
        )


def check_k(k: int, size: int, place: str) -> None:
    """Refuse to return fewer prompts than asked for.

    Args:
        k: how many are asked for.
        size: how many there are.
        place: where they are, for the message.

    Raises:
        ConfigError: naming both numbers.
    """
    if not 1 <= k <= size:
        raise ConfigError(
            f"k is {k}, but {place} holds {size} candidate{'s' if size != 1 else ''}. "
            + (f"Choose k from 1 to {size}." if size else "Add prompts with `spot library add`.")
        )


def _positions(target_rows: np.ndarray, sources: Sources, k: int) -> np.ndarray:
    """Positions of all sources that can be among the k nearest, ties included, by products in float32.

    A product of two rows of length at most 1 is wrong by at most half of `slack`, so the k-th best of these and what
    is further below it than `slack` can't change places.
    """
    similarities = _similarities(target_rows.astype(np.float32), sources.rows, sources.first)
    slack = (target_rows.shape[1] + 8) * float(np.finfo(np.float32).eps) + 10.0**-_DECIMALS
    return np.flatnonzero(similarities >= np.partition(similarities, -k)[-k] - slack)


def _rows_of(sources: Sources, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The summaries, float64 [sum of R, D], of some sources, and where each begins."""
    begins, last = sources.first[positions], len(sources.first) - 1
    ends = np.where(positions < last, sources.first[np.minimum(positions + 1, last)], len(sources.rows))
    lengths = ends - begins
    first = np.cumsum(lengths) - lengths
    steps = np.arange(lengths.sum()) - np.repeat(first, lengths)
    return sources.rows[np.repeat(begins, lengths) + steps].astype(np.float64), first


def _similarities(target_rows: np.ndarray, rows: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Of each source [N], the average over the target's rows [R, D] of the best product with the source's rows."""
    best = np.maximum.reduceat(target_rows @ rows.T, first, axis=1)  # [R of the target, N]
    return best.mean(axis=0, dtype=np.float64)
