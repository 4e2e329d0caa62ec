"""Measure every family of models and write docs/models.md: `python docs/make_models.py`, some minutes on one core.

`--out FILE` keeps one JSON line a family, and an interrupted measurement goes on behind the last one; `--only NAME ...`
measures some families, prints them and writes no page.
"""

import argparse
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
import transformers

from tests.support.families import FAMILIES, NOT_TRIED
from tests.support.zoo import CHECKS, WORST, measure

PAGE = Path(__file__).with_name("models.md")


def measured(name: str, checks: Sequence[str]) -> dict[str, Any]:
    """What came of one family, as one JSON object; whatever happens is in it."""
    start = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stderr(io.StringIO()):
            result = measure(FAMILIES[name], Path(scratch), checks)
    except Exception as error:
        line = traceback.format_exception_only(error)[-1].strip()
        return {"family": name, "kind": "", "verdict": "untried", "words": f"the harness: {line}", "checks": {}}
    return {
        "family": name,
        "kind": result.kind,
        "shares": result.shares,
        "reasons": result.reasons,
        "verdict": result.verdict,
        "words": result.loading.detail,
        "checks": {letter: [part.verdict, part.detail] for letter, part in result.checks.items()},
        "seconds": round(time.perf_counter() - start, 2),
    }


def read_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Family -> its line, of a measurement that may have been interrupted."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {entry["family"]: entry for entry in map(json.loads, lines) if entry["family"] in FAMILIES}


def page(lines: Sequence[dict[str, Any]]) -> str:
    """The whole page."""
    raise NotImplementedError


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file with one JSON line a family; measured ones are not repeated")
    parser.add_argument("--only", nargs="+", choices=list(FAMILIES), metavar="NAME", help="families to measure")
    parser.add_argument("--checks", nargs="+", choices=list(CHECKS), default=list(CHECKS), help="letters of checks")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("spot").propagate = False
    torch.set_num_threads(1)
    lines = read_lines(arguments.out) if arguments.out else {}
    for name in arguments.only or FAMILIES:
        if name in lines:
            continue
        lines[name] = measured(name, arguments.checks)
        line = json.dumps(lines[name], ensure_ascii=False)
        if arguments.only:
            print(json.dumps(lines[name], ensure_ascii=False, indent=1))
        if arguments.out:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        print(f"{len(lines)} of {len(FAMILIES)}: {name}: {lines[name]['verdict']}", file=sys.stderr)
    print(dict(Counter(line["verdict"] for line in lines.values())))


if __name__ == "__main__":
    main()
