"""How the answer cue of causal models was chosen: several cues on several tasks, without a prompt and after 30 steps.

    python recipes/cue.py --data DIR [--frozen] > cue.md

Scores are on 100 selection rows a task, so that no report row chooses a form.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from spot.collator import collator_for
from spot.config import TuneConfig
from spot.evaluation.scoring import evaluate_rows
from spot.models.backbone import Backbone
from spot.tasks import registry
from spot.tasks.splits import Splits, split_rows
from spot.training.run import Member, prepare_run
from spot.training.tuning import tune_runs

CUES = ("\nAnswer:", "\nLabel:", " =>", "\n", "")
FROZEN = ("glue/sst2", "trec", "ag_news", "tweet_eval/emotion", "superglue/copa")
TUNED = ("trec", "ag_news")
CONFIG = TuneConfig(
    task="trec", steps=30, batch_size=8, learning_rate=0.01, select_rows=100, report_rows=1, eval_every=30
)


def main() -> None:
    """Measure every cue and print one row of the table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--frozen", action="store_true", help="tune nothing")
    given = parser.parse_args()
    data, to_tune = given.data, () if given.frozen else TUNED
    backbone = Backbone.load()
    nothing = torch.zeros(0, backbone.id.width)
    tasks = {name: registry.get(name, data) for name in dict.fromkeys((*FROZEN, *to_tune))}
    rows = {name: split_rows(task, None, CONFIG.select_rows, 1, 0) for name, task in tasks.items()}
    columns = ("cue", *FROZEN, "mean", *(f"{name}, tuned" for name in to_tune))
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for cue in CUES:
        cued = {name: replace(task, reading=replace(task.reading, cue=cue)) for name, task in tasks.items()}
        frozen = []
        for name in FROZEN:
            collator = collator_for(backbone, cued[name])
            evaluation = evaluate_rows(backbone, nothing, cued[name], collator, rows[name].selection)
            frozen.append(evaluation.primary)
        tuned = []
        for name in to_tune:
            unseen = Splits(rows[name].train, rows[name].selection, ())
            with tempfile.TemporaryDirectory() as folder:
                config = CONFIG.model_copy(update={"task": name})
                run = prepare_run(config, (Member(cued[name], unseen),), backbone)
                result = tune_runs([run], backbone, Path(folder))[0].result
            tuned.append(result.curve[-1].score)
        mean = sum(frozen) / len(frozen)
        print(f"| {cue!r} | " + " | ".join(f"{score:.1f}" for score in (*frozen, mean, *tuned)) + " |", flush=True)


if __name__ == "__main__":
    main()
