"""Sample the rows of every step: endless shuffled epochs, cut into pools whose rows are sorted by length.

Rows of similar length need little padding, and the batches of a pool come in random order. A longer sample begins with
the shorter one, so that a run can resume in the middle.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from spot.collator import packed
from spot.config import TuneConfig
from spot.errors import TaskError

POOL = 16  # batches that are sorted by length together: little padding, much shuffling

Draw = tuple[int, int]  # number of a run's member, and of a train row of it
Item = TypeVar("Item")


def sample_draws(config: TuneConfig, lengths: Sequence[Sequence[int]], rates: Sequence[float]) -> list[list[Draw]]:
    """Which rows each step of a run takes; equal draws are one object.

    Args:
        config: of the run.
        lengths: tokens of each member's train rows.
        rates: of the members; only their proportions matter.

    Raises:
        TaskError: a member of a mixture has no rows.
    """
    if len(lengths) > 1:
        return sample_mixture_batches(lengths, rates, config.batch_size, config.steps, config.seed)
    if config.batch_tokens is not None:
        batches = sample_token_batches(lengths[0], config.batch_tokens, config.steps, config.seed)
    else:
        batches = sample_batches(lengths[0], config.batch_size, config.steps, config.seed)
    draws = [(0, row) for row in range(len(lengths[0]))]
    return [[draws[row] for row in batch] for batch in batches]


def sample_batches(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> list[list[int]]:
    """Rows of one task, as many a step as a batch has. A pool holds at most one epoch.

    Args:
        lengths: tokens of each row.
        batch_size: rows a step.
        steps: number of batches.
        seed: the sample depends on nothing else.

    Returns:
        `steps` lists of `batch_size` row numbers.
    """
    random = np.random.default_rng(seed)
    # A pool of several epochs would bring the copies of a row side by side.
    pool_rows = batch_size * min(POOL, max(1, len(lengths) // batch_size))
    pools = (
        _equal_batches(sorted(rows, key=lengths.__getitem__), batch_size)
        for rows in _pools(len(lengths), pool_rows, random)
    )
    return _shuffled(pools, steps, random)


def sample_token_batches(lengths: Sequence[int], tokens: int, steps: int, seed: int) -> list[list[int]]:
    """As `sample_batches`, with as many rows a step as `tokens` padded input tokens hold, and at least one.

    Args:
        lengths: tokens of each row.
        tokens: longest row times rows, of each step.
        steps: number of batches.
        seed: the sample depends on nothing else.
    """
    random = np.random.default_rng(seed)
    mean = max(1, round(sum(lengths) / len(lengths)))
    pool_rows = min(POOL * max(1, tokens // mean), len(lengths))
    pools = (packed(rows, lengths, tokens) for rows in _pools(len(lengths), pool_rows, random))
    return _shuffled(pools, steps, random)


def sample_mixture_batches(
    lengths: Sequence[Sequence[int]], rates: Sequence[float], batch_size: int, steps: int, seed: int
) -> list[list[Draw]]:
    """Members drawn by rate, each one's rows in endless shuffled epochs of its own.

    A pool holds at most an epoch of any member. In every pool a member has its share of the rows to within one row,
    and at the end of every pool no row of it has been drawn more than once more than another.

    Args:
        lengths: tokens of each member's rows.
        rates: of the members; only their proportions matter.
        batch_size: rows a step.
        steps: number of batches.
        seed: the sample depends on nothing else.

    Returns:
        `steps` lists of `batch_size` draws.

    Raises:
        TaskError: a member has no rows.
    """
    counts = [len(rows) for rows in lengths]
    if not all(counts):
        raise TaskError(f"the members of a mixture have {counts} train rows; expected at least one row each")
    random = np.random.default_rng(seed)
    total = sum(rates)
    shares = [rate / total for rate in rates]
    streams = [
        _epochs(member, count, generator)
        for member, (count, generator) in enumerate(zip(counts, random.spawn(len(counts)), strict=True))
    ]
    return _shuffled(_mixture_pools(lengths, shares, streams, batch_size, random), steps, random)


def pool_batches(shares: Sequence[float], counts: Sequence[int], batch_size: int) -> int:
    """Batches of a pool of a mixture: one of several epochs of a member would bring copies of a row side by side.

    Args:
        shares: of the members, in sum 1.
        counts: rows of each member.
        batch_size: rows a step.
    """
    epoch = min(count / share for count, share in zip(counts, shares, strict=True))
    return min(POOL, max(1, int(epoch) // batch_size))


def _shuffled(pools: Iterator[list[list[Item]]], steps: int, random: np.random.Generator) -> list[list[Item]]:
    """The first `steps` batches of endless pools, the batches of each pool in random order."""
    batches: list[list[Item]] = []
    while len(batches) < steps:
        pool = next(pools)
        batches.extend(pool[number] for number in random.permutation(len(pool)))
    return batches[:steps]


def _pools(count: int, pool_rows: int, random: np.random.Generator) -> Iterator[list[int]]:
    """The rows of endless shuffled epochs, `pool_rows` at a time."""
    order: list[int] = []
    while True:
        while len(order) < pool_rows:
            order.extend(random.permutation(count).tolist())
        yield order[:pool_rows]
        order = order[pool_rows:]


def _mixture_pools(
    lengths: Sequence[Sequence[int]],
    shares: Sequence[float],
    streams: Sequence[Iterator[Draw]],
    batch_size: int,
    random: np.random.Generator,
) -> Iterator[list[list[Draw]]]:
    """Endless pools of a mixture's draws, sorted by length and cut into batches."""
    edges = np.cumsum(shares)
    pool_rows = batch_size * pool_batches(shares, [len(rows) for rows in lengths], batch_size)
    while True:
        points = (np.arange(pool_rows) + random.random()) / pool_rows
        members = np.searchsorted(edges[:-1], points, side="right")
        draws = [next(streams[member]) for member in random.permutation(members).tolist()]
        yield _equal_batches(sorted(draws, key=lambda draw: lengths[draw[0]][draw[1]]), batch_size)


def _epochs(member: int, count: int, random: np.random.Generator) -> Iterator[Draw]:
    """One member's rows, shuffled anew each time that all have been drawn; equal draws are one object."""
    draws = [(member, row) for row in range(count)]
    while True:
        for row in random.permutation(count).tolist():
            yield draws[row]


def _equal_batches(items: Sequence[Item], batch_size: int) -> list[list[Item]]:
    """Items in their order, cut into batches of one size."""
    return [list(items[start : start + batch_size]) for start in range(0, len(items), batch_size)]
