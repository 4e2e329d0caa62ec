"""Time an exact search: among keys in memory, and by `nearest` in a library folder of as many prompts.

    OMP_NUM_THREADS=1 python bench/search.py --folders --json

The keys are drawn, as no one has so many; time does not depend on their directions. A prompt of the folders has one
token, so that a hundred thousand of them fit on a disk. `first` reads every prompt file, later searches the library's
cache; `open` is what a new process does, `again` what one does that has searched the library before.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np

from spot.library.library import Library
from spot.prompts.prompt import BackboneId, KeyRecipe, SoftPrompt, save
from spot.retrieval.search import Sources, nearest, search

COUNTS = (1_000, 10_000, 100_000)
WIDTH = 576  # of the embedded backbone
REPEATS = 21  # searches in memory, of which the median is reported
OPENINGS = 3  # of a folder
K = 5
BACKBONE = BackboneId("drawn", "causal", WIDTH, 1, "0" * 32)
RECIPE = KeyRecipe(40, 1, "vocabulary", 0, "adamw", 0.005, 0.0, 16, 96)


def keys(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors, float32 [count, D], equally likely in every direction."""
    rows = np.random.default_rng(seed).standard_normal((count, WIDTH), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def prompt(row: np.ndarray, task: str) -> SoftPrompt:
    """A prompt of one token with this task embedding [D]."""
    start = np.zeros((1, WIDTH), np.float32)
    return SoftPrompt(value=start, key=row[None], start=start, backbone=BACKBONE, task=task, step=40, key_recipe=RECIPE)


def milliseconds(work: Callable[[], object], times: int) -> dict[str, float]:
    """Medians over several calls: `ms` on the wall, and `cpu_ms` of this process, where other work runs beside it."""
    wall, cpu = [], []
    for _ in range(times):
        began, before = time.perf_counter(), time.process_time()
        work()
        wall.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.process_time() - before))
    return {"ms": statistics.median(wall), "cpu_ms": statistics.median(cpu)}


def in_memory(rows: np.ndarray) -> dict[str, float]:
    """One search among prepared keys."""
    names = tuple(f"{number:016x}" for number in range(len(rows)))
    sources = Sources("mean", names, names, (None,) * len(rows), rows, np.arange(len(rows)))
    target = keys(1, seed=1)
    search(target, sources, K)  # the first call also warms up
    return milliseconds(lambda: search(target, sources, K), REPEATS)


def in_folder(rows: np.ndarray, folder: Path) -> dict[str, dict[str, float]]:
    """One search of a folder of prompts."""
    library = Library.create(folder)
    for number, row in enumerate(rows):
        drawn = prompt(row, f"task{number}")
        save(drawn, folder / "prompts" / f"{drawn.digest}.safetensors")
    target = prompt(keys(1, seed=1)[0], "new")
    return {
        "first": milliseconds(lambda: nearest(target, Library(folder), k=K), 1),
        "open": milliseconds(lambda: nearest(target, Library(folder), k=K), OPENINGS),
        "again": milliseconds(lambda: nearest(target, library, k=K), OPENINGS),
    }


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON document")
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, metavar="N", help="sizes of the library")
    parser.add_argument("--folders", action="store_true", help="also write and search folders (2 GB, minutes)")
    arguments = parser.parse_args()
    sizes = {}
    for count in arguments.counts:
        rows = keys(count)
        sizes[count] = {"search": in_memory(rows)}
        if arguments.folders:
            with tempfile.TemporaryDirectory() as folder:
                sizes[count] |= in_folder(rows, Path(folder) / "library")
    result = {
        "width": WIDTH,
        "prompts": sizes,
        "load_average": os.getloadavg()[2],  # of the last fifteen minutes: what else the machine does
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "numpy": metadata.version("numpy"),
    }
    print(json.dumps(result, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
