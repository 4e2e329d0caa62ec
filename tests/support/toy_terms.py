"""Terms of baselines on toy rows whose words tell the label, of two classes or of three."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spot.baselines.arms import Terms
from spot.config import TransferConfig
from spot.models.backbone import Backbone
from spot.tasks.task import Example, Task
from tests.support.toy_runs import toy_config

LABELS = ("bad", "fine", "odd")
WORDS = {"bad": ("dull", "broken", "late"), "fine": ("bright", "whole", "early"), "odd": ("strange", "curly", "green")}
SETTINGS = ("embedding_model", "demonstrations", "lora_rank", "lora_rates", "lora_modules")


def toy_rows(*numbers: int, classes: int = 2) -> tuple[Example, ...]:
    """Rows that name their class by one of three words, among words that all rows have."""
    rows = []
    for number in range(*numbers):
        label = LABELS[number % classes]
        text = f"item {number:03d} is {WORDS[label][number // classes % 3]} and comes in a box"
        rows.append(Example(f"t{number}", f"sentence: {text}", (label,), texts=(text,)))
    return tuple(rows)


def toy_task(classes: int = 2, **settings: Any) -> Task:
    values = {"labels": LABELS[:classes], "metrics": ("accuracy",), **settings}
    return Task("words", lambda split: iter(()), ("train",), **values)


def toy_terms(
    backbone: Backbone,
    out: Path,
    *,
    classes: int = 2,
    task: Task | None = None,
    train: Sequence[Example] | None = None,
    selection: Sequence[Example] | None = None,
    **settings: Any,
) -> Terms:
    """24 rows that train and 12 that select, with the settings' defaults."""
    changed = {name: settings.pop(name) for name in SETTINGS if name in settings}
    defaults = TransferConfig(**changed)
    return Terms(
        task=task or toy_task(classes),
        train=toy_rows(24, classes=classes) if train is None else train,
        selection=toy_rows(100, 112, classes=classes) if selection is None else selection,
        backbone=backbone,
        config=toy_config(**settings),
        out=out,
        **{name: getattr(defaults, name) for name in SETTINGS},
    )


REPORT = toy_rows(200, 216)
