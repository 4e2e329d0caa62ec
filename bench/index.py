"""Search among many prompts: exactly among 50,000, and among a million with the optional index.

    python bench/index.py --million --compare --json > docs/bench/index.json

The keys are drawn, as no one has so many. `real` ones are like a library's: each is a task, whose direction is normal
with the mean and the covariance of the library's summaries, and noise of one seed. Few prompts span few directions;
all others get the variance that a mean of P tokens has there if tokens scatter around their mean as the library's do.
The noise has no direction of its own and is as large as makes the cosine of two seeds of one task SEED_COSINE.
`random` keys are equally likely in every direction: nothing is near anything, which is an index's worst case.
Targets are `new` tasks, or `known` ones: another seed of a task that is among the keys.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from spot.errors import ConfigError, SpotError
from spot.library.library import open_library, resolve
from spot.prompts.prompt import SoftPrompt
from spot.retrieval import ann
from spot.retrieval.search import Ranked, Sources, search, summary, task_embedding

EXACT, MILLION = 50_000, 1_000_000
TARGETS = 100  # of each kind
REPEATS = 21  # searches, of which the median is reported
K = 5
BLOCK = 50_000  # keys that are drawn at a time
SEED_COSINE = 0.89  # mean of what --seeds gives for four tasks by the library's recipe, see docs/log.md
BAR = 20.0  # ms of an exact search among EXACT
COMPARED = ("IVF894,Flat", "IVF894,SQ8", "HNSW32,SQ8")  # by --compare; 894 = 4 sqrt(EXACT)


@dataclass(frozen=True, eq=False)
class Directions:
    """Normal vectors that tasks are drawn from, by their mean [D] and a root of their covariance [R, D]."""

    centre: np.ndarray
    root: np.ndarray

    def draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Unit vectors, float32 [count, D]."""
        numbers = random.standard_normal((count, len(self.root)), dtype=np.float32)
        return unit(self.centre + numbers @ self.root)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows [N, D] of length 1, float32."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def directions(prompts: Sequence[SoftPrompt]) -> Directions:
    """The distribution of the summaries (metric `mean`) of these prompts, see the module's docstring."""
    embeddings = [task_embedding(prompt.key, prompt.start) for prompt in prompts if prompt.key is not None]
    if len(embeddings) < 2:
        raise ConfigError(f"the library holds {len(embeddings)} prompts with a key; expected two at least.")
    summaries = np.concatenate([summary(one, "mean") for one in embeddings])
    centre = summaries.mean(axis=0)
    parts = [(summaries - centre) / (len(summaries) - 1) ** 0.5]
    for one in embeddings:
        mean = one.mean(axis=0)
        tokens = len(one)
        parts.append((one - mean) / np.linalg.norm(mean) / (tokens * max(1, tokens - 1) * len(embeddings)) ** 0.5)
    return Directions(centre.astype(np.float32), np.concatenate(parts).astype(np.float32))


def evenly(width: int) -> Directions:
    """Every direction alike."""
    return Directions(np.zeros(width, np.float32), np.eye(width, dtype=np.float32))


def seeded(tasks: np.ndarray, cosine: float, random: np.random.Generator) -> np.ndarray:
    """Each task's key [N, D] from one seed: two of them have this cosine on average."""
    count, width = tasks.shape
    noise = random.standard_normal((count, width), dtype=np.float32)
    return unit(tasks + noise * np.float32(((1 / cosine - 1) / width) ** 0.5))


def keys(of: Directions, count: int, cosine: float, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw keys, and targets to search among them.

    Returns:
        float32 [count, D], and kind of target -> float32 [TARGETS, D].
    """
    random = np.random.default_rng(seed)
    rows = np.empty((count, len(of.centre)), np.float32)
    known = of.draw(TARGETS, random)
    rows[:TARGETS] = seeded(known, cosine, random)
    for begin in range(TARGETS, count, BLOCK):
        block = rows[begin : begin + BLOCK]
        block[:] = seeded(of.draw(len(block), random), cosine, random)
    new = of.draw(TARGETS, random)
    return rows, {"known": seeded(known, cosine, random), "new": seeded(new, cosine, random)}


def seed_cosine(prompts: Sequence[SoftPrompt]) -> float:
    """The mean cosine of summaries over all pairs of prompts, which are seeds of one task with one start."""
    rows = np.concatenate([summary(task_embedding(one.key, one.start), "mean") for one in prompts])
    return float((rows @ rows.T)[np.triu_indices(len(rows), 1)].mean())


def sources_of(rows: np.ndarray) -> Sources:
    """Keys as prompts of a library that need no files."""
    names = tuple(f"{number:016x}" for number in range(len(rows)))
    return Sources("mean", names, names, (None,) * len(rows), rows, np.arange(len(rows)))


def milliseconds(work: Callable[[int], object], times: int = REPEATS, name: str = "ms") -> dict[str, float]:
    """Medians over several calls, each with its number, after one that does not count.

    Returns:
        `ms` on the wall, and `cpu_ms` of this process, which tells more where other work runs beside it.
    """
    wall, cpu = [], []
    for number in range(times + 1):
        began, before = time.perf_counter(), time.process_time()
        work(number)
        wall.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.process_time() - before))
    return {name: statistics.median(wall[1:]), f"cpu_{name}": statistics.median(cpu[1:])}


def recall(found: Sequence[Sequence[Ranked]], exact: Sequence[Sequence[Ranked]], k: int) -> float:
    """The share of the k best that are found among k."""
    pairs = zip(found, exact, strict=True)
    return statistics.mean(len({a.prompt for a in ours[:k]} & {b.prompt for b in best[:k]}) / k for ours, best in pairs)


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def exactly(rows: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Time of an exact search."""
    sources = sources_of(rows)
    return {"keys": len(rows), **milliseconds(lambda number: search(targets[number][None], sources, K))}


def with_index(rows: np.ndarray, targets: dict[str, np.ndarray]) -> dict[str, Any]:
    """Build the index, and compare what searches with it find with what exact ones do."""
    before, began, used = resident(), time.perf_counter(), time.process_time()
    near = ann.build(rows)
    result: dict[str, Any] = {
        "keys": len(rows),
        "clusters": near.clusters,
        "probes": ann.PROBES,
        "build_seconds": time.perf_counter() - began,
        "build_cpu_seconds": time.process_time() - used,
        "index_bytes": resident() - before,
        "keys_bytes": rows.nbytes,
    }
    sources = sources_of(rows)
    one = targets["new"][: REPEATS + 1, None]
    result |= milliseconds(lambda number: search(one[number], sources, K, near))
    result |= milliseconds(lambda number: search(one[number], sources, K), 7, "exact_ms")
    for kind, rest in targets.items():
        exact = [search(target[None], sources, K) for target in rest]
        found = [search(target[None], sources, K, near) for target in rest]
        result[kind] = {
            "recall_at_1": recall(found, exact, 1),
            "recall_at_5": recall(found, exact, K),
            "best": statistics.mean(best[0].similarity for best in exact),
            "best_found": statistics.mean(ours[0].similarity for ours in found),
        }
    return result


def compare(rows: np.ndarray, targets: np.ndarray) -> dict[str, dict[str, float]]:
    """Kinds of index on the same keys: the effort of a search against the share of the best K that it finds first."""
    import faiss

    exact = np.argsort(-(targets @ rows.T), axis=1)[:, :K]
    result = {}
    for name in COMPARED:
        began = time.process_time()
        index = faiss.index_factory(rows.shape[1], name, faiss.METRIC_INNER_PRODUCT)
        if name.startswith("HNSW"):
            index.hnsw.efConstruction = 80
        index.train(rows)
        index.add(rows)
        built = time.process_time() - began
        for effort in (16, 64, 256):
            options = (
                faiss.SearchParametersHNSW(efSearch=effort)
                if name.startswith("HNSW")
                else faiss.SearchParametersIVF(nprobe=effort)
            )
            spent = milliseconds(partial(_search, index, targets, options))
            found = index.search(targets, 8 * K, params=options)[1]
            share = np.mean([len(set(a) & set(b)) / K for a, b in zip(found.tolist(), exact.tolist(), strict=True)])
            result[f"{name} {effort}"] = {"build_cpu_seconds": built, **spent, "recall_at_5": float(share)}
            log(f"{name} {effort}", result[f"{name} {effort}"])
    return result


def _search(index: Any, targets: np.ndarray, options: Any, number: int) -> None:
    """One search for one of the targets."""
    index.search(targets[number][None], 8 * K, params=options)


def measure(library: str, cosine: float, million: bool, compared: bool) -> dict[str, Any]:
    """All figures, by kind of keys."""
    opened = open_library(library)
    real = directions([opened.get(entry.digest) for entry in opened.entries()])
    result: dict[str, Any] = {"seed_cosine": cosine, "width": len(real.centre), "bar_ms": BAR}
    for name, of in (("real", real), ("random", evenly(len(real.centre)))):
        rows, targets = keys(of, MILLION if million else EXACT, cosine)
        result[name] = {"exact": exactly(rows[:EXACT], targets["new"])}
        log(f"{name}, exact", result[name]["exact"])
        if million:
            result[name]["million"] = with_index(rows, targets)
            log(f"{name}, a million", result[name]["million"])
        if compared:
            result[name]["compared"] = compare(rows[:EXACT], targets["new"])
        del rows
    return result


def log(name: str, part: dict[str, Any]) -> None:
    """A finished part, for whoever waits."""
    print(name, json.dumps(part), file=sys.stderr, flush=True)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON document")
    parser.add_argument("--library", default="packaged", metavar="DIR", help="whose keys the real ones are like")
    parser.add_argument("--million", action="store_true", help="also build and search the index (4 GB of memory)")
    parser.add_argument("--compare", action="store_true", help=f"also compare kinds of index on {EXACT:,} keys")
    parser.add_argument("--seed-cosine", type=float, default=SEED_COSINE, metavar="C", help="of two seeds of a task")
    parser.add_argument("--seeds", nargs="+", metavar="PROMPT", help="measure it on these prompts, seeds of one task")
    arguments = parser.parse_args()
    began = time.perf_counter()
    try:
        cosine = seed_cosine([resolve(one) for one in arguments.seeds]) if arguments.seeds else arguments.seed_cosine
        result = measure(arguments.library, cosine, arguments.million, arguments.compare)
    except SpotError as error:
        parser.error(str(error))
    result["load_average"] = os.getloadavg()[2]  # of the last fifteen minutes: what else the machine does
    result["threads"] = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    result["wall_seconds"] = time.perf_counter() - began
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result["versions"] = {name: metadata.version(name) for name in ("numpy", "faiss-cpu")}
    print(json.dumps(result, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
