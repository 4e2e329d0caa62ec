"""Write the tables of docs/results.md from docs/results.json: `python docs/make_results.py`.

The words of the page are written by hand; each table stands between two marks.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spot.rendering.tables import table_text

PAGE = Path(__file__).with_name("results.md")
VALUES = Path(__file__).with_name("results.json")

Runs = Mapping[str, Mapping[str, Any]]


def mean(values: Iterable[float]) -> float:
    """Over the seeds."""
    found = list(values)
    return sum(found) / len(found)


def prompts(runs: Runs) -> str:
    """Prompt tuning of each task against the frozen model."""
    rows = [
        (
            run["task"],
            ", ".join(run["metrics"]),
            run["rows"]["train"],
            run["rows"]["report"],
            run["frozen"],
            mean(run["scores"]),
            " ".join(f"{score:.1f}" for score in run["scores"]),
            run["steps"],
            max(run["tokens"]),
        )
        for name, run in runs.items()
        if name.startswith("prompts/")
    ]
    columns = ("task", "metrics", "train rows", "report rows", "frozen", "prompt", "each seed", "steps", "text tokens")
    return table_text(columns, rows)


def models(runs: Runs) -> str:
    """Full model tuning against prompt tuning, at equal rows and tokens."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for name, run in runs.items():
        if name.startswith("models/"):
            found.setdefault(run["task"], []).append(run)
    rows = []
    for task, parts in found.items():
        prompt = runs[f"prompts/{task.replace('/', '-')}"]
        scores = [part["scores"][0] for part in parts]
        rows.append(
            (
                task,
                prompt["frozen"],
                mean(prompt["scores"]),
                mean(scores),
                " ".join(f"{score:.1f}" for score in scores),
                mean(prompt["seconds"]),
                mean(part["seconds"][0] for part in parts),
            )
        )
    columns = ("task", "frozen", "prompt", "model", "each seed", "seconds of prompt", "seconds of model")
    return table_text(columns, rows)


def mixture(runs: Runs) -> str:
    """A mixture's prompt and each member's as starts of the targets."""
    rows = []
    for name, run in runs.items():
        if (found := re.fullmatch(r"mixture/(.+)-from-(.+)", name)) is not None:
            seeds = " ".join(f"{score:.1f}" for score in run["scores"])
            rows.append(
                (run["task"], found[2], run["frozen"], mean(run["scores"]), seeds, mean(run["selection"]), run["steps"])
            )
    return table_text(("target", "source", "frozen", "tuned", "each seed", "on selection rows", "steps"), rows)


def page(text: str, runs: Runs) -> str:
    """The page with its tables made anew."""
    for name, make in (("prompts", prompts), ("models", models), ("mixture", mixture)):
        if f"<!-- {name} -->" not in text:
            continue
        before, rest = text.split(f"<!-- {name} -->\n")
        text = f"{before}<!-- {name} -->\n{make(runs)}\n<!-- end -->" + rest.partition("<!-- end -->")[2]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), json.loads(VALUES.read_text())))
