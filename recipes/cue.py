r"""How the form of a causal model's input was chosen: cues and the chat form on several tasks, frozen and tuned.

    python recipes/cue.py --data DIR [--tasks trec,cr] [--forms '\nAnswer:;chat'] [--steps 32] [--seeds 0,1] > cue.md

Each score is shown on the selection rows, by which a form may be chosen, and on the report rows, which choose nothing.
Without `--steps` nothing is tuned, and only the frozen model is asked. What is asked in the form `chat, asked` is the
instruction of the task, in the system's turn.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from spot.collator import collator_for
from spot.config import TuneConfig
from spot.evaluation.scoring import evaluate_rows
from spot.models.backbone import Backbone
from spot.reading import Reading
from spot.tasks import registry
from spot.tasks.splits import Splits, split_rows
from spot.tasks.task import Task
from spot.training.run import Member, prepare_run
from spot.training.tuning import tune_runs

FORMS: dict[str, Callable[[Task], Reading]] = {
    **{
        repr(cue).strip("'"): lambda task, cue=cue: replace(task.reading, cue=cue)
        for cue in ("\nAnswer:", "\nLabel:", " =>", "\n", "")
    },
    "chat": lambda task: replace(task.reading, chat=True),
    "chat, asked": lambda task: replace(task.reading, chat=True, system=task.instruction),
}
TASKS = ("cr", "mpqa", "trec", "tweet_eval/sentiment")
CONFIG = TuneConfig(
    task="trec", steps=32, length=40, batch_size=16, learning_rate=0.02, train_rows=256, select_rows=100, eval_every=8
)


def main() -> None:
    """Measure each form on each task and print one row of the table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--tasks", default=",".join(TASKS), help="names with commas between them")
    parser.add_argument("--forms", default=";".join(FORMS), help="names of forms with semicolons between them")
    parser.add_argument("--steps", type=int, default=0, help="steps of tuning; 0: the frozen model alone")
    parser.add_argument("--rate", type=float, default=CONFIG.learning_rate, help="learning rate")
    parser.add_argument("--seeds", default="0", help="seeds with commas between them: of order and draw of the rows")
    parser.add_argument("--report", type=int, default=300, help="report rows a task")
    given = parser.parse_args()
    backbone = Backbone.load()
    print("| task | form | seed | steps | selection | report | tokens of an input | seconds |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in given.tasks.split(","):
        for form in given.forms.split(";"):
            for seed in map(int, given.seeds.split(",")):
                task = registry.get(name, given.data)
                task = replace(task, reading=FORMS[form](task))
                rows = split_rows(task, CONFIG.train_rows, CONFIG.select_rows, given.report, seed)
                began = time.monotonic()
                config = CONFIG.model_copy(
                    update={"task": name, "seed": seed, "steps": given.steps, "learning_rate": given.rate}
                )
                prompt = tuned(task, rows, config, backbone) if given.steps else torch.zeros(0, backbone.id.width)
                collator = collator_for(backbone, task, length=len(prompt))
                parts = (rows.selection, list(rows.report))
                scores = [evaluate_rows(backbone, prompt, task, collator, part).primary for part in parts]
                sizes = [len(row.input_ids) for row in collator.encode(parts[1])]
                cells = (name, f"`{form}`", seed, given.steps, *(f"{score:.1f}" for score in scores))
                more = (f"{sum(sizes) / len(sizes):.0f}", f"{time.monotonic() - began:.0f}")
                print("| " + " | ".join(map(str, (*cells, *more))) + " |", flush=True)


def tuned(task: Task, rows: Splits, config: TuneConfig, backbone: Backbone) -> torch.Tensor:
    """The prompt [P, D] of one run, at its best step by the selection rows."""
    with tempfile.TemporaryDirectory() as folder:
        run = prepare_run(config, (Member(task, Splits(rows.train, rows.selection, ())),), backbone)
        return torch.from_numpy(tune_runs([run], backbone, Path(folder))[0].prompt.value)


if __name__ == "__main__":
    main()
