"""The nearest of very many summaries, approximately: an optional index by faiss for libraries of a million prompts.

The rows are sorted into clusters, and a search reads the clusters that are nearest to the target; in the index a number
takes one byte. What it finds are candidates: `retrieval.search` scores them exactly, from the rows themselves.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from spot.errors import MissingExtra, PromptError

INSTALL = "pip install 'spot-transfer[index]'"
FEWEST = 20_000  # rows that are worth clusters; of fewer, all are read
PROBES = 64  # clusters that a search reads
_PER_CLUSTER = 40  # rows that each cluster's centre is learned from
_BLOCK = 65_536  # rows that are handed over at a time


@dataclass(frozen=True, eq=False)
class Nearest:
    """An index over N vectors of width D; it is never changed, so any number of threads may search it.

    Attributes:
        index: faiss's own.
        count: N.
        width: D.
        clusters: 0 where every row is read.
    """

    index: Any
    count: int
    width: int
    clusters: int


def build(rows: np.ndarray, clusters: int | None = None, seed: int = 0) -> Nearest:
    """Make an index over summaries.

    Args:
        rows: float32 [N, D], of length at most 1, such as `retrieval.Sources.rows` of the metric `mean`; they are
            copied block by block, so they may lie in a file that is mapped into memory.
        clusters: how many; 4 sqrt(N) for None, and none for fewer than `FEWEST` rows.
        seed: of the rows that the clusters are learned from.

    Raises:
        MissingExtra: faiss is not installed.
        PromptError: no rows, or NaN or infinity in them.
    """
    faiss = _faiss()
    if rows.ndim != 2 or 0 in rows.shape:
        raise PromptError(f"the summaries are {list(rows.shape)}; expected [N, D], N rows of width D.")
    count, width = rows.shape
    if clusters is None:
        clusters = round(4 * count**0.5) if count >= FEWEST else 0
    if clusters:
        index = faiss.index_factory(width, f"IVF{clusters},SQ8", faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = seed
        some = np.random.default_rng(seed).permutation(count)[: _PER_CLUSTER * clusters]
        index.train(_block(rows, np.sort(some)))
    else:
        index = faiss.IndexFlatIP(width)
    for begin in range(0, count, _BLOCK):
        index.add(_block(rows, slice(begin, begin + _BLOCK)))
    return Nearest(index, count, width, clusters)


def find(near: Nearest, targets: np.ndarray, k: int, probes: int = PROBES) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose products with each target are largest, as far as the index sees them.

    Args:
        near: from `build`.
        targets: [Q, D], Q summaries.
        k: how many, at most N.
        probes: clusters that are read; more find more and take longer. It is doubled until k rows are found.

    Returns:
        Positions int64 [Q, k] in the rows, best first, and their approximate products float32 [Q, k].

    Raises:
        PromptError: the widths differ, or NaN or infinity in a target.
    """
    if targets.ndim != 2 or targets.shape[1] != near.width:
        raise PromptError(
            f"the targets are {list(targets.shape)} and the index holds summaries of width {near.width}: expected "
            f"[Q, {near.width}]. Build the index from the library that is searched."
        )
    targets, k = _block(targets, slice(None)), min(k, near.count)
    while True:
        options = {"params": _faiss().SearchParametersIVF(nprobe=probes)} if near.clusters else {}
        products, positions = near.index.search(targets, k, **options)
        if positions.min(initial=0) >= 0 or probes >= near.clusters:
            return positions, products
        probes *= 2


def _block(rows: np.ndarray, which: np.ndarray | slice) -> np.ndarray:
    """Some of the rows as faiss takes them, float32 and one after another."""
    block = np.ascontiguousarray(rows[which], dtype=np.float32)
    if wrong := int(np.count_nonzero(~np.isfinite(block))):
        raise PromptError(f"the summaries have {wrong} numbers NaN or infinite; expected finite numbers.")
    return block


def _faiss() -> Any:
    """The package, which is optional."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtra(f"an index of summaries needs faiss, which is not installed; run: {INSTALL}") from error
    return faiss
