"""Which known tasks resemble a new one: task embeddings, three similarities, and the search for the best k.

Every metric first brings a task embedding [P, D] to a summary [R, D]: one row for `mean` and `token`, all P tokens
for `max`. One formula then serves all three: the average over the target's rows of the best product with a row of
the source. So a library is summarised once, and a search is one matrix product.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spot.errors import ConfigError, LibraryError, PromptError, did_you_mean
from spot.library.entries import Entry, differing_settings
from spot.library.library import Library
from spot.prompts.prompt import SoftPrompt

METRICS = ("mean", "token", "max")
_DECIMALS = 9  # similarities that agree so far are ties; float32 summaries are good for about 8
_BLOCK = 512  # prompts whose tokens `max` holds in memory at a time


@dataclass(frozen=True)
class Ranked:
    """One source in a ranking."""

    prompt: str  # digest
    task: str
    similarity: float  # at most 1 for `mean` and `max`; `token` is far smaller: compare it only with itself
    path: Path | None = None  # of the prompt file; None for a prompt that is in no library


@dataclass(frozen=True, eq=False)
class Sources:
    """Prompts made ready for searches with one metric; many targets can be searched among them.

    Attributes:
        metric: one of `METRICS`.
        prompts: N digests.
        tasks: N names.
        paths: N prompt files, or None where there is none.
        rows: float32 [sum of R, D], the summaries one after another.
        first: [N], where each summary begins in `rows`.
    """

    metric: str
    prompts: tuple[str, ...]
    tasks: tuple[str, ...]
    paths: tuple[Path | None, ...]
    rows: np.ndarray
    first: np.ndarray


def task_embedding(key: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """What a run has learned by its key step: the key less the start, or the key alone where none is known.

    Keys themselves mostly show where a run began, and not what it was about.

    Args:
        key: [P, D], the prompt at the key step.
        start: [P, D], the initial value of the same run.

    Returns:
        float64 [P, D].

    Raises:
        PromptError: a wrong shape, NaN or infinity, or a key that is its start.
    """
    key = _checked(key, "the key")
    if start is None:
        return key
    start = _checked(start, "the start", may_be_zero=True)
    if start.shape != key.shape:
        raise PromptError(f"the key is {list(key.shape)} and its start {list(start.shape)}; expected two of one shape.")
    if np.array_equal(key, start):
        raise PromptError(
            "the key equals its start, so the run has learned nothing by its key step: take a later key step, "
            "or tune with a higher learning rate."
        )
    return key - start


def summary(embedding: np.ndarray, metric: str) -> np.ndarray:
    """What a metric needs to know of a task embedding.

    Args:
        embedding: [P, D].
        metric: `mean`: the average token, scaled to length 1; `token`: the average of the tokens, each scaled to
            length 1; `max`: these tokens themselves.

    Returns:
        float64 [1, D] for `mean` and `token`, [P, D] for `max`.

    Raises:
        ConfigError: the metric is unknown.
        PromptError: a wrong shape, NaN or infinity, or a token (`mean`: an average) of zeros, which has no direction.
    """
    check_metric(metric)
    embedding = _checked(embedding, "the task embedding")
    if metric == "mean":
        return _unit(embedding.mean(axis=0, keepdims=True), "the average token")
    tokens = _unit(embedding, "token {}")
    return tokens.mean(axis=0, keepdims=True) if metric == "token" else tokens


def similarity(target: np.ndarray, source: np.ndarray, metric: str = "mean") -> float:
    """How alike two task embeddings are; no metric depends on the order of the tokens.

    Args:
        target: [P, D].
        source: [Q, D]; its length may differ from the target's.
        metric: `mean`: cosine of the average tokens; `token`: average cosine over all P x Q pairs of tokens;
            `max`: average over the target's tokens of the cosine with the nearest source token.

    Returns:
        The similarity; only `max` depends on which of the two is the target.

    Raises:
        ConfigError: the metric is unknown.
        PromptError: the widths differ, or as `summary`.
    """
    ours, theirs = summary(target, metric), summary(source, metric)
    _check_widths(ours, theirs)
    return float((ours @ theirs.T).max(axis=1).mean())


def rank(target: np.ndarray, sources: Sequence[SoftPrompt], metric: str = "mean", k: int = 5) -> list[Ranked]:
    """The k prompts whose tasks are most like the target's, best first.

    Args:
        target: [P, D], a task embedding.
        sources: prompts with a key.
        metric: one of `METRICS`.
        k: how many to return.

    Returns:
        k entries; equal similarities are in the order of their digests.

    Raises:
        ConfigError: the metric is unknown, or k is not between 1 and the number of sources.
        PromptError: a source has no key or another width, or as `summary`.
    """
    check_metric(metric)
    check_k(k, len(sources), "the list of prompts")
    return search(target, from_prompts(sources, metric), k)


def retrieve(
    target: SoftPrompt, library: Library, metric: str = "mean", k: int = 5, without: Collection[str] = ()
) -> list[Ranked]:
    """The k prompts of a library to start a new task from, best first.

    Args:
        target: a prompt of the new task, with a key by the library's recipe.
        library: where to look; prompts of other backbones in it are passed over.
        metric: one of `METRICS`.
        k: how many to return.
        without: names of tasks to leave out, such as the target's own.

    Returns:
        k entries; equal similarities are in the order of their digests.

    Raises:
        ConfigError: the metric is unknown, or k is not between 1 and the number of candidates.
        LibraryError: no prompt fits the target's backbone, or its key was made by another recipe.
        PromptError: a prompt has no key or cannot be read.
    """
    check_metric(metric)
    embedding = _embedding_of(target)
    fitting = library.entries(target.backbone)
    entries = [entry for entry in fitting if entry.task not in without]
    if not entries:
        raise LibraryError(
            f"{library.path}: none of the {len(library.entries())} prompts fits {target.backbone}"
            + (f" and is of another task than {', '.join(sorted(without))}" if fitting else "")
            + ". Choose a library of this backbone, or add prompts with `spot library add`."
        )
    check_k(k, len(entries), str(library.path))
    for entry in entries:
        if entry.key_recipe != target.key_recipe:
            raise LibraryError(
                f"the key of {target.task!r} cannot be compared with that of {entry.task!r} in {library.path}: "
                f"{differing_settings(target.key_recipe, entry.key_recipe)}. Tune the target by the library's "
                "recipe."
            )
    found: list[Ranked] = []
    for sources in from_library(library, entries, metric):
        best = search(embedding, sources, min(k, len(sources.prompts)))
        found = sorted([*found, *best], key=lambda one: (-one.similarity, one.prompt))[:k]
    return found


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
    ours = summary(target, sources.metric)
    _check_widths(ours, sources.rows)
    some = _candidates(ours, sources, k)
    # In float64, so that equal summaries give equal similarities wherever they stand in the matrix.
    similarities = np.round(_similarities(ours, *_rows_of(sources, some)), _DECIMALS)
    order = np.lexsort(([sources.prompts[i] for i in some], -similarities))[:k]
    return [
        Ranked(sources.prompts[i], sources.tasks[i], float(similarity), sources.paths[i])
        for i, similarity in zip(some[order], similarities[order], strict=True)
    ]


def from_prompts(prompts: Sequence[SoftPrompt], metric: str) -> Sources:
    """Make prompts ready for searches with one metric.

    Raises:
        ConfigError: the metric is unknown.
        PromptError: a prompt has no key, the widths differ, or as `summary`.
    """
    check_metric(metric)
    summaries = [_summary_of(prompt, metric) for prompt in prompts]
    for other in summaries[1:]:
        _check_widths(summaries[0], other)
    lengths = [len(rows) for rows in summaries]
    return Sources(
        metric=metric,
        prompts=tuple(prompt.digest for prompt in prompts),
        tasks=tuple(prompt.task for prompt in prompts),
        paths=(None,) * len(prompts),
        rows=np.concatenate(summaries) if summaries else np.zeros((0, 0), np.float32),
        first=np.cumsum([0, *lengths], dtype=np.intp)[:-1],
    )


def from_library(library: Library, entries: Sequence[Entry], metric: str) -> Iterator[Sources]:
    """Make a library's prompts ready for searches with one metric.

    The one row that `mean` and `token` need of each prompt is kept in the library's index; `max` reads the files.

    Args:
        library: which holds the entries.
        entries: the prompts to search among, of one width.
        metric: one of `METRICS`.

    Yields:
        All of them at once for `mean` and `token`, blocks of them for `max`.

    Raises:
        ConfigError: the metric is unknown.
        PromptError: a prompt cannot be read, has no key, or as `summary`.
    """
    check_metric(metric)
    size = _BLOCK if metric == "max" else max(1, len(entries))
    for begin in range(0, len(entries), size):
        block = entries[begin : begin + size]
        if metric == "max":
            prompts = [library.get(entry.digest) for entry in block]
            rows, first = (made := from_prompts(prompts, metric)).rows, made.first
        else:
            rows = library.summaries(metric, block, lambda prompt: _summary_of(prompt, metric)[0])
            first = np.arange(len(block))
        digests, tasks, paths = zip(*((one.digest, one.task, one.path) for one in block), strict=True)
        yield Sources(metric, digests, tasks, paths, rows, first)


def check_metric(metric: str) -> None:
    """Refuse a metric that is not one of `METRICS`.

    Raises:
        ConfigError: naming it and the known ones.
    """
    if metric not in METRICS:
        raise ConfigError(f"unknown metric {metric!r}: {did_you_mean(metric, METRICS)}")


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


def _candidates(ours: np.ndarray, sources: Sources, k: int) -> np.ndarray:
    """Positions of all sources that can be among the k nearest, ties included, by products in float32.

    A product of two rows of length at most 1 is wrong by at most half of `slack`, so the k-th best of these and what
    is further below it than `slack` can't change places.
    """
    nearest = _similarities(ours.astype(np.float32), sources.rows, sources.first)
    slack = (ours.shape[1] + 8) * float(np.finfo(np.float32).eps) + 10.0**-_DECIMALS
    return np.flatnonzero(nearest >= np.partition(nearest, -k)[-k] - slack)


def _rows_of(sources: Sources, some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The summaries, float64 [sum of R, D], of some sources, and where each begins."""
    begins, last = sources.first[some], len(sources.first) - 1
    ends = np.where(some < last, sources.first[np.minimum(some + 1, last)], len(sources.rows))
    lengths = ends - begins
    first = np.cumsum(lengths) - lengths
    steps = np.arange(lengths.sum()) - np.repeat(first, lengths)
    return sources.rows[np.repeat(begins, lengths) + steps].astype(np.float64), first


def _similarities(ours: np.ndarray, rows: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Of each source [N], the average over the target's rows [R, D] of the best product with the source's rows."""
    best = np.maximum.reduceat(ours @ rows.T, first, axis=1)  # [R of the target, N]
    return best.mean(axis=0, dtype=np.float64)


def _embedding_of(prompt: SoftPrompt) -> np.ndarray:
    """The task embedding [P, D] of a prompt that has a key."""
    name = f"prompt {prompt.digest} of task {prompt.task!r}"
    if prompt.key is None:
        raise PromptError(
            f"{name} has no key, which a task embedding is read from. Tune it with a key step that the run reaches."
        )
    try:
        return task_embedding(prompt.key, prompt.start)
    except PromptError as error:
        raise PromptError(f"{name}: {error}") from error


def _summary_of(prompt: SoftPrompt, metric: str) -> np.ndarray:
    """The summary, float32 [R, D], of a prompt's task embedding."""
    embedding = _embedding_of(prompt)
    try:
        return summary(embedding, metric).astype(np.float32)
    except PromptError as error:
        raise PromptError(f"prompt {prompt.digest} of task {prompt.task!r}: {error}") from error


def _checked(array: np.ndarray, name: str, may_be_zero: bool = False) -> np.ndarray:
    """A float64 [P, D] array of finite numbers, refused where it is none or all zeros."""
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise PromptError(f"{name} is {list(array.shape)}; expected [P, D], P tokens of width D.")
    wrong = int(np.count_nonzero(~np.isfinite(array)))
    if wrong:
        raise PromptError(
            f"{name} has {wrong} of {array.size} numbers NaN or infinite; expected finite numbers. "
            "Tune the prompt again with a lower learning rate."
        )
    if not (may_be_zero or array.any()):
        raise PromptError(f"{name} is all zeros, so it has no direction to compare. Tune the prompt again.")
    return array


def _unit(rows: np.ndarray, name: str) -> np.ndarray:
    """The rows [R, D] scaled to length 1, refused where one has no direction; `name` takes its number."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not largest.all():
        which = name.format(int(np.argmin(largest)))
        raise PromptError(
            f"{which} of the task embedding is all zeros, so it has no direction to compare. Take a later key "
            "step, or tune the prompt again."
        )
    rows = rows / largest  # the squares of very large or very small numbers leave the range of floats
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _check_widths(target: np.ndarray, source: np.ndarray) -> None:
    """Refuse to compare prompts of two models."""
    if target.shape[1] != source.shape[1]:
        raise PromptError(
            f"one task embedding has width {target.shape[1]} and the other {source.shape[1]}: they belong to "
            "different backbones and cannot be compared. Choose a library of the target's backbone."
        )
