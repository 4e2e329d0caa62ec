"""Few-shot figures of docs/results.md: the frozen model, prompt tuning and model tuning on the paper's tasks.

    python recipes/results.py --data DIR --out DIR prompts superglue/cb glue/rte   # tasks of the table, default all
    python recipes/results.py --data DIR --out DIR models                          # full model tuning
    python recipes/results.py --data DIR --out DIR mixture                         # a mixture against its best member
    python recipes/results.py --data DIR --out DIR table > docs/results.json && python docs/make_results.py

Every run takes at most TOKENS text tokens. Finished runs are only read, and an interrupted one goes on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from spot.config import TuneConfig
from spot.models.backbone import Backbone
from spot.prompts.prompt import SoftPrompt
from spot.storage.run_dir import RunDir
from spot.tasks import registry
from spot.tasks.splits import Splits, split_rows
from spot.training.model_tuning import tune_model_run
from spot.training.result import read_results
from spot.training.run import Member, mixed, prepare_run
from spot.training.tuning import tune_runs

TOKENS = 15_000  # text tokens of a run
TASKS = (
    "glue/sst2",
    "glue/cola",
    "glue/mrpc",
    "glue/qqp",
    "glue/rte",
    "glue/stsb",
    "superglue/cb",
    "superglue/copa",
    "superglue/wic",
    "cr",
)
MODELS = ("superglue/cb", "superglue/copa")
MEMBERS = ("glue/sst2", "glue/cola", "glue/mrpc", "glue/qqp", "glue/rte")  # labelled members of GLUE of the table above
TARGETS = {"cr": 24, "superglue/cb": 8}  # that the mixture and its members start, with their steps
CONFIG = TuneConfig(
    task="-",
    length=40,
    batch_size=8,
    learning_rate=0.005,
    train_rows=500,
    select_rows=100,
    report_rows=500,
    max_input_tokens=96,
)
SEEDS = 2


def rows_of(name: str, data: Path) -> tuple[Any, Splits]:
    """A task and its rows."""
    task = registry.get(name, data)
    return task, split_rows(task, CONFIG.train_rows, CONFIG.select_rows, CONFIG.report_rows, CONFIG.rows_seed)


def config_of(name: str, found: Splits, backbone: Backbone, **settings: Any) -> TuneConfig:
    """As many steps as TOKENS allow, scored five times."""
    ids = backbone.tokenizer([row.inputs for row in found.train])["input_ids"]
    mean = np.mean([min(len(row) + 3, CONFIG.max_input_tokens) for row in ids])
    steps = int(TOKENS / (CONFIG.batch_size * mean))
    return CONFIG.model_copy(update={"task": name, "steps": steps, "eval_every": max(1, steps // 4), **settings})


def gang(
    name: str, data: Path, backbone: Backbone, out: Path, source: SoftPrompt | None = None, **settings: Any
) -> list[SoftPrompt]:
    """The prompts of one task with every seed."""
    task, found = rows_of(name, data)
    base = config_of(name, found, backbone, **settings)
    configs = [base.model_copy(update={"seed": seed}) for seed in range(SEEDS)]
    runs = [prepare_run(config, (Member(task, found),), backbone, source) for config in configs]
    return [tuned.prompt for tuned in tune_runs(runs, backbone, out)]


def prompts(names: list[str], data: Path, out: Path, backbone: Backbone) -> None:
    """Prompt tuning of each task, all seeds as one gang."""
    for name in names or TASKS:
        gang(name, data, backbone, out / "prompts" / name.replace("/", "-"))
        print(name, "done", flush=True)


def models(names: list[str], data: Path, out: Path, backbone: Backbone) -> None:
    """Full model tuning at the rows and tokens of the prompts."""
    for name in names or MODELS:
        task, found = rows_of(name, data)
        for seed in range(SEEDS):
            config = config_of(name, found, backbone, method="model", learning_rate=1e-5, seed=seed)
            folder = out / "models" / f"{name.replace('/', '-')}-{seed}"
            tune_model_run(prepare_run(config, (Member(task, found),), backbone), backbone, folder)
            print(name, seed, "done", flush=True)


def mixture(_names: list[str], data: Path, out: Path, backbone: Backbone) -> None:
    """A mixture's prompt and each member's as sources of TARGETS, all with the same tokens."""
    members = mixed([rows_of(name, data) for name in MEMBERS], CONFIG)
    every = Splits([row for member in members for row in member.splits.train], (), ())
    run = prepare_run(config_of("mixture", every, backbone), members, backbone, name="mixture:five of GLUE")
    sources = {"mixture": tune_runs([run], backbone, out / "mixture" / "source")[0].prompt}
    for name in MEMBERS:
        sources[name] = gang(name, data, backbone, out / "prompts" / name.replace("/", "-"))[0]
    for target, steps in TARGETS.items():
        for name, source in sources.items():
            folder = out / "mixture" / f"{target}-from-{name}".replace("/", "-")
            gang(target, data, backbone, folder, source, steps=steps, eval_every=8)
            print(target, "from", name, "done", flush=True)


def table(out: Path, data: Path) -> dict[str, dict[str, Any]]:
    """Folder of a run -> frozen score, score of each seed, selection score, steps and tokens; what is finished."""
    found = {}
    counts: dict[str, dict[str, int]] = {}
    for path in sorted(out.glob("*/*/result.json")):
        runs = read_results(RunDir(path.parent)) or ()
        task = runs[0].task
        if task in TASKS and task not in counts:
            rows = rows_of(task, data)[1]
            counts[task] = {"train": len(rows.train), "select": len(rows.selection), "report": len(rows.report)}
        found[str(path.parent.relative_to(out))] = {
            "task": task,
            "rows": counts.get(task, {}),
            "metrics": list(runs[0].scores),
            "frozen": round(float(np.mean(list(runs[0].frozen_scores.values()))), 2),
            "scores": [round(float(np.mean(list(run.scores.values()))), 2) for run in runs],
            "selection": [round(float(np.mean(list(run.selection.values()))), 2) for run in runs],
            "steps": runs[0].steps,
            "tokens": [run.tokens for run in runs],
            "seconds": [run.seconds for run in runs],
        }
    return found


def main() -> None:
    """Run one part, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("part", choices=("prompts", "models", "mixture", "table"))
    parser.add_argument("tasks", nargs="*")
    given = parser.parse_args()
    if given.part == "table":
        print(json.dumps(table(given.out, given.data), indent=1))
        return
    parts = {"prompts": prompts, "models": models, "mixture": mixture}
    parts[given.part](given.tasks, given.data, given.out, Backbone.load())


if __name__ == "__main__":
    main()
