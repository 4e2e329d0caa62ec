"""Task files, runs and a library that commands made of them, on a tiny model."""

import csv
from dataclasses import dataclass
from pathlib import Path

from spot.cli.app import main

SETTINGS = ("batch_size=4", "eval_every=2", "key_step=3", "learning_rate=0.05")
FAST = ["--steps", "4", "--length", "3", *(word for setting in SETTINGS for word in ("--set", setting))]
LABELS = {"mood": ("up", "down"), "answer": ("yes", "no"), "animal": ("cat", "dog")}
WORDS = {"up": "good", "down": "bad", "yes": "sure", "no": "never", "cat": "meow", "dog": "woof"}


def write_task(folder: Path, name: str, labels: tuple[str, str], rows: int = 30) -> Path:
    """A task file with CSV rows whose words tell the label."""
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for number in range(rows):
            label = labels[number % 2]
            writer.writerow((f"{name} {number} {WORDS[label]}", label))
    path = folder / f"{name}.toml"
    path.write_text(f'name = "{name}"\nrows = "{name}.csv"\ninput = "sentence: {{text}}"\nlabel = "label"\n')
    return path


def write_recipe(folder: Path, recipe: str, rows: int) -> Path:
    """The file of a library's recipe, with all tasks of `LABELS` beside it."""
    for name, labels in LABELS.items():
        write_task(folder, name, labels, rows=rows)
    path = folder / "toy.toml"
    path.write_text(recipe)
    return path


@dataclass(frozen=True)
class TunedTasks:
    """A folder with three task files, a run of each and a library of two of them; `mood` is in none."""

    folder: Path
    backbone: Path

    @property
    def model(self) -> list[str]:
        """Options that name the backbone."""
        return ["--backbone", str(self.backbone)]

    def task(self, name: str = "mood") -> Path:
        """A task file."""
        return self.folder / f"{name}.toml"

    def run(self, name: str = "mood") -> Path:
        """The folder of a task's run."""
        return self.folder / f"run-{name}"

    @property
    def library(self) -> Path:
        """The folder of the library, with `answer` and `animal`."""
        return self.folder / "library"


def tune_tasks(folder: Path, backbone: Path) -> TunedTasks:
    """Write the tasks, tune a prompt on each, and put two of them into the library, all by commands."""
    tuned = TunedTasks(folder, backbone)
    commands: list[list[object]] = []
    for name, labels in LABELS.items():
        task = write_task(folder, name, labels)
        commands.append(["tune", task, *tuned.model, *FAST, "--out", tuned.run(name)])
    commands += [["library", "add", tuned.run(name), "--library", tuned.library] for name in ("answer", "animal")]
    for words in commands:
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            assert not stop.code, words
    return tuned
