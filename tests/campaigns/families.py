"""Hold tiny models of many families against plain transformers: `python -m tests.campaigns.families --trials 300`.

A trial is a family of the table, with every check. It fails where the result is another than docs/models.md says, which
`docs/make_models.py` measures.
"""

import argparse
import contextlib
import io
import logging
import os
import random
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from transformers.utils import logging as transformers_logging

from tests.support.families import FAMILIES
from tests.support.zoo import measure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
ROW = re.compile(r"^\| `([^`]+)` \| (\w+) \|", re.MULTILINE)


def expected() -> dict[str, str]:
    """Family -> the result on the page of models."""
    return {name: verdict for name, verdict in ROW.findall(PAGE.read_text(encoding="utf-8")) if name in FAMILIES}


def trial(name: str) -> str:
    """Measure one family: what went wrong, or nothing."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stderr(io.StringIO()):
        measurement = measure(FAMILIES[name], Path(scratch))
    wanted = expected().get(name, "on no row of docs/models.md")
    return "" if measurement.verdict == wanted else f"{name}: expected {wanted}, measured {measurement}"


def run(trials: int, seed: int) -> Iterator[str]:
    """What went wrong in so many families, drawn by a seed; all of them where there are no more."""
    before = os.environ.get("SPOT_CACHE")
    with tempfile.TemporaryDirectory() as cache, warnings.catch_warnings():
        os.environ["SPOT_CACHE"] = cache  # what was found out about a model before is not looked at
        warnings.simplefilter("ignore")
        try:
            for name in random.Random(seed).sample(sorted(FAMILIES), min(trials, len(FAMILIES))):
                if problem := trial(name):
                    yield problem
        finally:
            del os.environ["SPOT_CACHE"]
            if before is not None:
                os.environ["SPOT_CACHE"] = before


def main() -> None:
    """Run the campaign from the command line: each failure is one line; exit code 1 where there is one."""
    parser = argparse.ArgumentParser(description="Hold tiny models of many families against plain transformers.")
    parser.add_argument("--trials", type=int, default=len(FAMILIES), help="families")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    began, count = time.monotonic(), 0
    for problem in run(options.trials, options.seed):
        count += 1
        print(problem, flush=True)
    print(f"families: {count} failures, {time.monotonic() - began:.0f} s", file=sys.stderr)
    raise SystemExit(count > 0)


if __name__ == "__main__":
    main()
