"""Ten short runs on one task that change one setting at a time: how the recipe of the shipped library was found.

    python recipes/search.py --data DIR --out DIR > search.md

Every run trains on 20,000 text tokens of TREC question types and is scored on 250 validation rows. Finished runs are
only read, so an interrupted search goes on where it stopped.
"""

import argparse
import json
from pathlib import Path

from spot.config import TuneConfig
from spot.models.backbone import Backbone
from spot.tasks import registry
from spot.tasks.splits import split_rows
from spot.training.run import Member, prepare_run
from spot.training.tuning import tune_runs

TOKENS = 20_000
BASE = TuneConfig(
    task="trec",
    length=20,
    batch_size=8,
    optimiser="adamw",
    learning_rate=0.005,
    init="vocabulary",
    select_rows=250,
    report_rows=250,
)
GANGS = (  # runs of one length and optimiser share their batches
    (
        {},
        {"learning_rate": 0.002},
        {"learning_rate": 0.01},
        {"learning_rate": 0.02},
        {"init": "classes"},
        {"init": "uniform"},
    ),
    ({"length": 10},),
    ({"length": 50},),
    ({"length": 100},),
    ({"optimiser": "adafactor", "learning_rate": 0.01},),
)


def main() -> None:
    """Run the search and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with trec/train.jsonl and validation.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    arguments = parser.parse_args()
    task = registry.get(BASE.task, arguments.data)
    rows = split_rows(task, BASE.train_rows, BASE.select_rows, BASE.report_rows, BASE.rows_seed)
    backbone = Backbone.load()
    lengths = [len(backbone.tokenizer(row.inputs)["input_ids"]) + 3 for row in rows.train]
    steps = round(TOKENS / (BASE.batch_size * sum(lengths) / len(lengths)))
    print("| change | start | after a third | best | step | nats | text tokens | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for number, gang in enumerate(GANGS):
        configs = [BASE.model_copy(update={**change, "steps": steps, "eval_every": steps // 3}) for change in gang]
        folder = arguments.out / f"gang-{number}"
        runs = [prepare_run(config, (Member(task, rows),), backbone) for config in configs]
        for change, tuned in zip(gang, tune_runs(runs, backbone, folder), strict=True):
            result = tuned.result
            name = ", ".join(f"{key} {value}" for key, value in change.items()) or "base"
            curve = result.curve
            best = result.best_score
            print(
                f"| {name} | {curve[0].score:.1f} | {curve[1].score:.1f} | {best:.1f} | {result.step} | "
                f"{min(point.nats for point in curve):.3f} | {result.tokens} | {result.seconds:.0f} |",
                flush=True,
            )
    print(f"\nbase: {json.dumps(BASE.model_copy(update={'steps': steps}).model_dump())}")


if __name__ == "__main__":
    main()
