"""Write the tables of docs/scale.md: what shapes of models take, and what a study of the paper would cost.

    python docs/make_scale.py

Nothing is loaded and nothing is downloaded; every step is counted on tensors without numbers. It takes minutes.
"""

import json
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from spot.models.estimate import Estimate, Way, Work, estimates
from spot.models.loading import Architecture, architectures_of
from spot.models.shapes import SHAPES
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
        found[name] = _whole(name)
        print(name, found[name][Way()], file=sys.stderr, flush=True)
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{_memory(found)}\n\n{_cost(found)}\n\n{END}{after}")


def _whole(name: str) -> dict[Way, Estimate]:
    """What a shape takes, drawn out from two and four of its layers: all of them are alike, and so it takes seconds."""
    config = SHAPES[name]()
    layers = config.num_hidden_layers
    few, more = (estimates(_cut(name, count), WORK, torch.bfloat16, WAYS) for count in (2, 4))
    return {way: _drawn(few[way], more[way], (layers - 2) / 2) for way in WAYS}


def _cut(name: str, layers: int) -> Architecture:
    """A shape with fewer layers."""
    config = SHAPES[name]()
    for key in ("num_layers", "num_decoder_layers", "num_hidden_layers"):
        if hasattr(config, key):
            setattr(config, key, layers)
    return architectures_of(config, name)[0]


def _drawn(few: Any, more: Any, times: float) -> Any:
    """Numbers of an estimate, as many times further as from `few` to `more`."""
    if is_dataclass(few):
        pairs = {entry.name: (getattr(few, entry.name), getattr(more, entry.name)) for entry in fields(few)}
        return type(few)(**{name: _drawn(*pair, times) for name, pair in pairs.items()})
    return round(few + (more - few) * times)


def _memory(found: dict[str, dict[Way, Estimate]]) -> str:
    """GB of each shape in each way."""
    head = ("shape", "parameters", *(f"{way}, GB" for way in WAYS))
    rows = [
        (name, f"{ways[Way()].parameters / 1e9:.2f} B", *(f"{ways[way].memory / GB:.1f}" for way in WAYS))
        for name, ways in found.items()
    ]
    return (
        f"Memory of a step in bfloat16, {WORK.length} prompt, {WORK.input_tokens} input and {WORK.target_tokens} "
        f"answer tokens, {WORK.at_once} rows at once, the program itself not counted:\n\n{_table(head, rows)}"
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
        f"paper (`recipes/paper/study26.toml`: {steps:,} steps, evaluations not counted) if all its rows were so long. "
        "Where the weights are more than a GPU holds, several one behind the other take as long:\n\n"
        f"{_table(head, rows)}"
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
