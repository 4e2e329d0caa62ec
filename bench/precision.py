"""Score prompts in float32, in bfloat16 and on packed weights, on the same rows, and print JSON.

    python bench/precision.py --data DIR --rows 300

Each prompt of the library was trained in float32. Rows are the first of the validation split, which taught nothing.
A score is the mean of the task's metrics, percent; `others` are the rows that get another answer than in float32. A
line for each task is printed when it is measured, all of them together at the end.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import spot
from spot.library.library import open_library
from spot.models.backbone import Backbone

WAYS: dict[str, dict[str, str]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "8bit": {"dtype": "float32", "quantise": "8bit"},
    "4bit": {"dtype": "float32", "quantise": "4bit"},
}


def main() -> None:
    """Measure all ways on all prompts, by turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--library", default="packaged")
    parser.add_argument("--data", type=Path, help="folder with the data sets")
    parser.add_argument("--rows", type=int, default=300, help="of each task")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(WAYS)}; the first is compared with")
    given = parser.parse_args()
    ways = given.ways.split(",")
    backbones = {way: Backbone.load(given.backbone, **WAYS[way]) for way in ways}
    library = open_library(given.library)
    lines = []
    for entry in library.entries():
        scores = {way: scored(library.get(entry.digest), backbones[way], entry.task, given) for way in ways}
        usual = scores[ways[0]].pop("answers")
        for way in ways[1:]:
            scores[way]["others"] = sum(a != b for a, b in zip(usual, scores[way].pop("answers"), strict=True))
        lines.append({"task": entry.task, **scores})
        print(json.dumps(lines[-1]), file=sys.stderr, flush=True)
    differences = {way: [line[way]["score"] - line[ways[0]]["score"] for line in lines] for way in ways[1:]}
    summary = {
        way: {
            "mean difference": sum(parts) / len(parts),
            "largest": max(parts, key=abs),
            "others": sum(line[way]["others"] for line in lines),
            "times as fast": sum(line[ways[0]]["seconds"] for line in lines)
            / sum(line[way]["seconds"] for line in lines),
        }
        for way, parts in differences.items()
    }
    rows = sum(line[ways[0]]["rows"] for line in lines)
    print(json.dumps({"rows": rows, "summary": summary, "tasks": lines}, indent=1))


def scored(prompt: spot.SoftPrompt, backbone: Backbone, task: str, given: argparse.Namespace) -> dict[str, Any]:
    """The score, seconds and answers of one prompt in one way."""
    began = time.perf_counter()
    report = spot.evaluate(prompt, backbone, task, rows=given.rows, data=given.data)
    return {
        "rows": report.rows,
        "score": sum(report.scores.values()) / len(report.scores),
        "seconds": time.perf_counter() - began,
        "answers": [prediction.text for prediction in report.predictions],
    }


if __name__ == "__main__":
    main()
