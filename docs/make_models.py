"""Measure every family of models and write docs/models.md: `python docs/make_models.py`, some minutes on one core.

`--out FILE` keeps one JSON line a family, and an interrupted measurement goes on behind the last of them. `--only NAME`
measures some families, prints their lines and writes no page.
"""

import argparse
import contextlib
import importlib.metadata
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers.utils import logging as transformers_logging

from tests.support.families import FAMILIES, NOT_TRIED
from tests.support.zoo import CHECKS, measure

PAGE = Path(__file__).with_name("models.md")
GROUPS = {
    "causal": "causal models",
    "seq2seq": "sequence-to-sequence models",
    "decoder": "decoders of sequence-to-sequence families, alone",
    "vision": "models for pictures and text",
    "variant": "variants of the above",
}
HEAD = """# Models: every family of transformers, measured

Of each family that transformers {transformers} loads as a language model, a tiny one with random weights is saved,
loaded by `Backbone.load`, and held against the model alone: plain transformers, one row, no pads, no kept states.
Compared are the loss and the gradient of a prompt, padded rows against each of them alone, scores of labels of one to
three tokens with and without a prompt, generated words, rows and prompts longer than every window, gradient
checkpointing, runs that were stopped and taken up again, prompts that PEFT loads, the vectors that prompts start from,
and a row that is too long. **exact**: no relative difference above 2e-4 in any of them. **refused**: one message says
why.

A family that is exact is not thereby tried with the weights of its makers: attention, positions, caches and scales are
the family's, the numbers are not.

- **prompt**: `shared` where what the layers keep of a prompt is computed once for all rows; else why each row reads it.
- **reads otherwise**: other fast ways that are not exact for the family, and what is done instead.
- **refuses**: what the family cannot do here, and says so.

This page is made by `python docs/make_models.py` (torch {torch}, PEFT {peft}).
"""


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


def group_of(name: str) -> str:
    """Which of `GROUPS` an entry belongs to."""
    return "variant" if "@" in name else FAMILIES[name].kind


def page(lines: Sequence[dict[str, Any]]) -> str:
    """The whole page."""
    versions = {name: importlib.metadata.version(name).split("+")[0] for name in ("transformers", "torch", "peft")}
    verdicts = list(dict.fromkeys(("exact", "refused", *(line["verdict"] for line in lines))))
    counts = Counter((group_of(line["family"]), line["verdict"]) for line in lines)
    parts = [HEAD.format(**versions), _row("entries", "tried", *verdicts), _row(*["---"] * (2 + len(verdicts)))]
    for group, title in GROUPS.items():
        numbers = [counts[group, verdict] for verdict in verdicts]
        parts.append(_row(title, sum(numbers), *numbers))
    totals = Counter(line["verdict"] for line in lines)
    parts += [_row("all", len(lines), *(totals[verdict] for verdict in verdicts)), ""]
    for group, title in GROUPS.items():
        parts += [f"## {title[0].upper()}{title[1:]}", ""]
        parts += [_row("family", "result", "prompt", "reads otherwise", "refuses"), _row(*["---"] * 5)]
        parts += [_described(line) for line in lines if group_of(line["family"]) == group]
        parts.append("")
    parts += ["## Not tried", "", _row("family", "why"), _row("---", "---")]
    parts += [_row(f"`{name}`", reason) for name, reason in sorted(NOT_TRIED.items())]
    return "\n".join(parts) + "\n"


def _described(line: dict[str, Any]) -> str:
    """The row of one entry."""
    if not line["checks"]:
        return _row(f"`{line['family']}`", line["verdict"], "", "", line["words"])
    shared = [reason for reason in line["reasons"] if "a prompt is read once a row" in reason]
    others = [reason for reason in line["reasons"] if reason not in shared]
    prompt = "shared" if line["shares"] else "before each row" if line["kind"] == "seq2seq" else "; ".join(shared)
    refused = dict.fromkeys(detail for verdict, detail in line["checks"].values() if verdict == "refused")
    unloadable = [f"PEFT: {detail}" for verdict, detail in [line["checks"].get("j", ("", ""))] if verdict == "untried"]
    return _row(f"`{line['family']}`", line["verdict"], prompt, "; ".join(others), "; ".join([*refused, *unloadable]))


def _row(*cells: object) -> str:
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file with one JSON line a family; measured ones are not repeated")
    parser.add_argument("--only", nargs="+", choices=list(FAMILIES), metavar="NAME", help="families to measure")
    parser.add_argument("--checks", nargs="+", choices=list(CHECKS), default=list(CHECKS), help="letters of checks")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("spot").propagate = False
    logging.getLogger("spot").addHandler(logging.NullHandler())
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SPOT_CACHE"] = cache  # what an earlier measurement found out about a model is not looked at
        _measure(arguments)


def _measure(arguments: argparse.Namespace) -> None:
    lines = read_lines(arguments.out) if arguments.out else {}
    for name in arguments.only or FAMILIES:
        if name in lines:
            continue
        lines[name] = measured(name, arguments.checks)
        if arguments.only:
            print(json.dumps(lines[name], ensure_ascii=False, indent=1))
        if arguments.out:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(lines[name], ensure_ascii=False) + "\n")
        print(f"{len(lines)} of {len(FAMILIES)}: {name}: {lines[name]['verdict']}", file=sys.stderr)
    print(dict(Counter(line["verdict"] for line in lines.values())))
    if not arguments.only:
        PAGE.write_text(page([lines[name] for name in FAMILIES]), encoding="utf-8")


if __name__ == "__main__":
    main()
