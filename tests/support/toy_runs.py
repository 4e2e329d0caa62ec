"""Toy tasks whose rows tell the label, runs of them on tiny models, and what stops or breaks a run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spot.config import TuneConfig
from spot.errors import TaskError
from spot.library.library import Library
from spot.models.backbone import Backbone
from spot.models.batch import Batch
from spot.prompts.prompt import SoftPrompt
from spot.tasks.splits import LazyRows, Splits
from spot.tasks.task import Example, Task
from spot.training.loop import Rule
from spot.training.run import Member, Run, prepare_run

LABELS = ("no", "yes")
BURST = 1e6  # a learning rate, or a start, that no run survives where large prompts break the loss


def named(name: str) -> Task:
    """A task of two labels without rows of its own."""
    return Task(name, lambda split: iter(()), ("train",), LABELS, ("accuracy",))


def example(number: int) -> Example:
    text = f"row {number:03d} of the table is {('bad', 'fine')[number % 2]}"
    return Example(str(number), f"sentence: {text}", (LABELS[number % 2],), texts=(text,))


def word_rows(word: str, *numbers: int) -> tuple[Example, ...]:
    """Rows of a task that is named by a word, which stands in each of them."""
    texts = [f"a {word} row with the number {number:04d}" for number in range(*numbers)]
    labels = [LABELS[number % 2] for number in range(*numbers)]
    return tuple(Example(text, text, (label,), texts=(text,)) for text, label in zip(texts, labels, strict=True))


def word_splits(word: str) -> Splits:
    return Splits(word_rows(word, 0, 24), word_rows(word, 100, 112), word_rows(word, 200, 216))


TASK = named("toy")
SPLITS = Splits(*(tuple(example(n) for n in range(*part)) for part in ((0, 32), (100, 108), (200, 212))))
OTHER = Task("other", lambda split: iter(()), ("train",), ("good", "poor", "odd"), ("accuracy",))
OTHER_SPLITS = Splits(
    *(
        tuple(
            Example(f"o{n}", f"item: number {n} " * (1 + n % 3), (OTHER.labels[n % 3],), texts=(f"number {n}",))
            for n in range(*part)
        )
        for part in ((0, 20), (100, 109), (200, 209))
    )
)


def toy_config(**settings: Any) -> TuneConfig:
    base = {
        "task": "toy",
        "backbone": "tiny",
        "steps": 6,
        "length": 3,
        "batch_size": 4,
        "learning_rate": 0.05,
        "eval_every": 2,
        "checkpoint_every": 2,
    }
    return TuneConfig(**{**base, **settings})


def toy_run(backbone: Backbone, **settings: Any) -> Run:
    return prepare_run(toy_config(**settings), (Member(TASK, SPLITS),), backbone)


def toy_gang(backbone: Backbone, **settings: Any) -> list[Run]:
    """Three runs that differ in seed, learning rate and start."""
    settings = {"steps": 8, "checkpoint_every": 3, **settings}
    return [
        toy_run(backbone, seed=0, **settings),
        toy_run(backbone, seed=1, **{"learning_rate": 0.02, **settings}),
        toy_run(backbone, seed=2, **{"init": "classes", **settings}),
    ]


STOPS = {0: 4, 2: 6}  # run of the gang -> the step at which `RULE` stops it
RULE = Rule("stops", lambda results, step: [number for number, at in STOPS.items() if at <= step])


def source_config(task: str, backbone: object, **settings: Any) -> TuneConfig:
    """Of a source prompt that takes a moment, with a key."""
    base = {"task": task, "backbone": str(backbone), "steps": 4, "key_step": 3, "checkpoint_every": 20}
    return toy_config(**{**base, **settings})


def unreadable_report(run: Run) -> Run:
    """The run with report rows that cannot be read."""

    def broken() -> tuple[Example, ...]:
        raise TaskError("test.csv, row 3: no text")

    [member] = run.members
    return replace(run, members=(replace(member, splits=replace(member.splits, report=LazyRows(broken))),))


def library_of(prompts: Sequence[SoftPrompt], folder: Path) -> Library:
    """A library that remembers nothing so far."""
    library = Library.create(folder)
    for prompt in prompts:
        library.add(prompt)
    return library


class Stopped(BaseException):
    """What ends a run at once, as a kill would."""


def stopping_at(at: int) -> Callable[[int, int], None]:
    """A progress function that stops a run after a step."""

    def stopping(step: int, _: int) -> None:
        if step == at:
            raise Stopped

    return stopping


def break_large_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a row is no number where its prompt is very large, as it is in models without a last norm."""
    loss = Backbone.loss

    def broken(self: Backbone, batch: Batch, prompts: Tensor) -> Tensor:
        large = prompts.detach().abs().amax(dim=(1, 2)) > BURST / 10
        factor = torch.where(large, float("nan"), 1.0)[batch.prompt_index]
        return loss(self, batch, prompts) * factor

    monkeypatch.setattr(Backbone, "loss", broken)
