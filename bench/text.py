"""Time from a file of rows to token ids: 60,000 SST-2 rows read, put into their form and tokenised.

    python bench/text.py --data DIR --json > docs/bench/text.json

The tokenizer is the embedded backbone's; its weights stay on disk. The bar is 10 seconds on 2 cores.
"""

import argparse
import json
import os
import resource
import sys
import time
from itertools import islice
from pathlib import Path

from spot.collator import Collator
from spot.models import embedded
from spot.models.checkpoints import locate
from spot.models.loading import read_tokenizer
from spot.tasks import registry

TASK = "glue/sst2"
ROWS = 60_000
BAR = 10.0  # seconds


def measure(data: Path) -> dict[str, float]:
    """Read, form and tokenise the rows once, in one process.

    Args:
        data: the folder that holds the data sets.

    Returns:
        `rows`, `seconds`, `rows_per_second`, `peak_bytes` of the whole process, and `bar_seconds`.
    """
    tokenizer = read_tokenizer(locate(embedded.NAME))
    task = registry.get(TASK, data)
    collator = Collator(tokenizer, "causal", task.reading)
    start = time.perf_counter()
    rows = collator.encode(list(islice(task.load("train"), ROWS)))
    seconds = time.perf_counter() - start
    if len(rows) < ROWS:
        raise SystemExit(f"{TASK} in {data} has {len(rows)} train rows; expected at least {ROWS}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "rows": len(rows),
        "seconds": round(seconds, 3),
        "rows_per_second": round(len(rows) / seconds),
        "peak_bytes": peak,
        "bar_seconds": BAR,
    }


def main() -> None:
    """Measure and print; exits with 1 where it took longer than the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SPOT_DATA"), help="folder with the data sets")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give the data folder with --data DIR or SPOT_DATA; it holds sst2/train.jsonl.gz")
    found = measure(Path(arguments.data))
    print(json.dumps(found) if arguments.json else "\n".join(f"{key:16} {value}" for key, value in found.items()))
    if found["seconds"] > BAR:
        sys.exit(1)


if __name__ == "__main__":
    main()
