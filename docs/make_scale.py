"""Write the tables of docs/scale.md: what shapes of models take, and what a study of the paper would cost.

    python docs/make_scale.py

Nothing is loaded and nothing is downloaded; every step is counted on tensors without numbers. It takes minutes.
"""

import json
import subprocess
import sys
from pathlib import Path

import torch

from spot.models.checkpoints import architecture_named
from spot.models.estimate import Estimate, Way, Work, estimates
from spot.models.speed import GPUS

PAGE = Path(__file__).parent / "scale.md"
STUDY = Path(__file__).parent.parent / "recipes" / "paper" / "study26.toml"
NAMES = ("t5-small", "t5-base", "t5-large", "t5-xl", "t5-xxl", "llama-8b", "llama-70b")
WORK = Work(length=100, rows=32, at_once=8, input_tokens=128, target_tokens=8)
WAYS = (Way(), Way(checkpoints=True), Way("8bit", True), Way("4bit", True))
SHOWN = ("A100 80 GB", "H100 SXM")
BEGIN, END = "<!-- made by docs/make_scale.py -->", "<!-- end -->"
GB = 1e9


def main() -> None:
    """Write the part of the page between its marks."""
    found = {}
    for name in NAMES:
        found[name] = estimates(architecture_named(name), WORK, torch.bfloat16, WAYS)
        print(name, found[name][Way()], file=sys.stderr, flush=True)
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{_memory(found)}\n\n{_cost(found)}\n\n{END}{after}")


def _memory(found: dict[str, dict[Way, Estimate]]) -> str:
    """GB of each shape in each way."""
    head = ("shape", "parameters", *(f"{way}, GB" for way in WAYS))
    rows = [
        (name, f"{ways[Way()].parameters / 1e9:.2f} B", *(f"{ways[way].memory / GB:.1f}" for way in WAYS))
        for name, ways in found.items()
    ]
    return (
        f"Memory of a step in bfloat16, {WORK.length} prompt, {WORK.input_tokens} input, {WORK.target_tokens} answer "
        f"tokens, {WORK.at_once} rows at once, the program itself not counted:\n\n{_table(head, rows)}"
    )


def _cost(found: dict[str, dict[Way, Estimate]]) -> str:
    """Hours of a study on GPUs."""
    printed = subprocess.run(
        [sys.executable, "-m", "spot", "study", "plan", str(STUDY), "--json"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    steps = sum(kind["steps"] for kind in json.loads(printed)["kinds"].values())
    head = ("shape", *(f"{gpu}: step, ms" for gpu in SHOWN), *(f"{gpu}: study, GPU hours" for gpu in SHOWN))
    rows = []
    for name, ways in found.items():
        seconds = [ways[Way()].seconds(GPUS[gpu], 1) for gpu in SHOWN]
        rows.append(
            (name, *(f"{1000 * each:.0f}" for each in seconds), *(f"{each * steps / 3600:,.0f}" for each in seconds))
        )
    return (
        f"**Estimates**, nothing of this was run: a step of {WORK.rows} such rows, and the study of 26 tasks of the "
        f"paper (`recipes/paper/study26.toml`: {steps:,} steps, evaluations not counted) if all its rows were so long. Where the "
        "weights are more than the GPU holds, as many GPUs one behind the other take as long:\n\n" + _table(head, rows)
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
