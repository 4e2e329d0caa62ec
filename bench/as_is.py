"""Compare ways to rank sources on the finished pairs of a study, without training.

    python bench/as_is.py studies/smollm2

A pair's first point on its learning curve, at step 0, is what the source's prompt says of the target's selection rows
as it is. Every ranker chooses by selection rows or task embeddings alone; what it chose is scored on report rows. The
interval of a difference is a bootstrap over targets, of which there are few.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from spot.study.records import read_records

RESAMPLES = 10_000


def measured(folder: Path) -> dict[str, Any]:
    """Each ranker's mean score of the first source and of the best of three by selection rows, and its rank order.

    Args:
        folder: of a study's records, with `cells` in it.
    """
    values: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in read_records(folder / "cells"):
        if record.kind != "pair" or record.score != record.score:
            continue
        pair, start = (record.task, record.sources[0]), record.curve[0]
        values["score"][pair].append(record.score)
        values["selection"][pair].append(max(point.score for point in record.curve))
        values["as is, by loss"][pair].append(-np.inf if start.nats is None else -start.nats)
        values["as is, by score"][pair].append(start.score)
        values["similarity"][pair].append(record.similarity["mean"])
    tables = {name: _table(pairs) for name, pairs in values.items()}
    score, selection = tables.pop("score"), tables.pop("selection")
    chosen = {name: [_first(row) for row in table] for name, table in tables.items()}
    rows = np.arange(len(score))
    results: dict[str, Any] = {
        "targets": len(score),
        "sources": score.shape[1],
        "any source": float(score.mean()),
        "best source in hindsight": float(score.max(axis=1).mean()),
    }
    against = score[rows, chosen["similarity"]]
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(score), (RESAMPLES, len(score)))
    for name, table in tables.items():
        first = score[rows, chosen[name]]
        three = np.argsort(-table, axis=1, kind="stable")[:, :3]
        best = [row[np.argmax(selection[number, row])] for number, row in enumerate(three)]
        gains = (first - against)[draws].mean(axis=1)
        orders = [spearmanr(table[number], score[number]).statistic for number in rows if np.ptp(table[number]) > 0]
        results[name] = {
            "first": float(first.mean()),
            "best of 3": float(score[rows, best].mean()),
            "first, over similarity": float((first - against).mean()),
            "interval": [float(bound) for bound in np.quantile(gains, (0.025, 0.975))],
            "spearman": float(np.mean(orders)),
        }
    return results


def _table(pairs: Mapping[tuple[str, str], list[float]]) -> np.ndarray:
    """Means over the seeds [target, source], both in the order of their names."""
    targets, sources = (sorted({pair[place] for pair in pairs}) for place in (0, 1))
    return np.array([[float(np.mean(pairs[target, source])) for source in sources] for target in targets])


def _first(row: np.ndarray) -> int:
    return int(np.argmax(row))


def main() -> None:
    """Print what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a study's records")
    print(json.dumps(measured(parser.parse_args().study), indent=1))


if __name__ == "__main__":
    main()
