"""Tune a source prompt on a mixture: the tasks of the nearest sources and the target together (SPoT section 3.3)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ConfigDict, with_config

from spot.config import TuneConfig
from spot.errors import PromptError, TaskError
from spot.library.library import Library
from spot.prompts.overlap import Sketch, build, seen
from spot.prompts.prompt import SoftPrompt
from spot.storage.values import read_value
from spot.strategies.plans import Start
from spot.strategies.target import TargetRuns
from spot.tasks import mixtures, registry
from spot.tasks.splits import Splits, split_rows
from spot.tasks.task import Task
from spot.training.result import RunResult
from spot.training.run import mixed, prepare_run


@dataclass(frozen=True)
class TunedMixture:
    """A prompt that was tuned on a mixture, where a target may start.

    Attributes:
        prompt: the last checkpoint.
        result: of its run.
        sketch: of what the sources' rows hold; report rows with such a text are left out.
    """

    prompt: SoftPrompt
    result: RunResult
    sketch: Sketch


def check_rows(tasks: Sequence[str], k: int, data: Path | None) -> None:
    """Refuse a mixture before anything is trained where the rows of fewer than k of the sources' tasks are at hand.

    Raises:
        TaskError: naming each that is missing.
    """
    missing = []
    for name in tasks:
        try:
            next(iter(registry.get(name, data).load("train")), None)
        except TaskError as error:
            missing.append(f"{name} ({error})")
    if len(tasks) - len(missing) < k:
        raise _not_at_hand(missing, len(tasks))


def tune_source_mixture(
    target: TargetRuns, start: Start, library: Library, steps: int, data: Path | None
) -> TunedMixture:
    """Tune one prompt on the tasks of a mixture; its last checkpoint is the source prompt (SPoT section 3.3).

    Args:
        target: whose report rows are not looked at.
        start: names the sources.
        library: their prompts, whose settings say which rows they had.
        steps: of the mixture's run.
        data: where the rows of known data sets are.

    Raises:
        TaskError: the rows of a source's task are not at hand; each is named.
    """
    parts = _source_rows(target, start, library, data)
    sketch = build(text for _, splits in parts for row in splits.train for text in row.texts)
    members = mixed([*parts, (target.task, target.member.splits)], TuneConfig(task=target.task.name))
    config = target.unkeyed_config.model_copy(update={"steps": steps, "eval_every": steps})
    name = mixtures.PREFIX + "+".join(member.task.name for member in members)
    run = replace(prepare_run(config, members, target.backbone, name=name), keep="last")
    [tuned] = target.tune(f"mixture-{run.digest[:8]}", [run])
    return TunedMixture(tuned.prompt, tuned.result, sketch)


@with_config(ConfigDict(strict=True))
@dataclass(frozen=True)
class _RowSettings:
    """What the settings of a prompt say of the rows that it had; the other settings are passed over."""

    train_rows: int | None = None
    select_rows: int = 100
    rows_seed: int = 0
    task_prefix: bool = False


def _source_rows(target: TargetRuns, start: Start, library: Library, data: Path | None) -> list[tuple[Task, Splits]]:
    """The tasks of a mixture's sources with the rows that these had, less those that a selection row of the target has.

    Raises:
        TaskError: the rows of a source's task are not at hand; each is named.
    """
    selection = build(text for row in target.splits.selection for text in row.texts)
    parts, missing = [], []
    for name, digest in dict(zip(start.tasks, start.prompts, strict=True)).items():
        settings = _row_settings(library.get(digest))
        try:
            task = registry.get(name, data, settings.task_prefix)
            splits = split_rows(task, settings.train_rows, settings.select_rows, 0, settings.rows_seed)
        except TaskError as error:
            missing.append(f"{name} ({error})")
            continue
        selects = seen(selection, [row.texts for row in splits.train])
        train = tuple(row for row, is_selected in zip(splits.train, selects, strict=True) if not is_selected)
        parts.append((task, replace(splits, train=train)))
    if missing:
        raise _not_at_hand(missing, len(set(start.tasks)))
    return parts


def _row_settings(prompt: SoftPrompt) -> _RowSettings:
    """What the settings of a prompt say of the rows that it had.

    Raises:
        PromptError: a setting is none.
    """
    text = json.dumps(dict(prompt.config))
    return read_value(
        _RowSettings, text, f"the settings in the prompt of {prompt.task!r}, {prompt.digest}", PromptError
    )


def _not_at_hand(missing: Sequence[str], count: int) -> TaskError:
    """The error for a mixture whose tasks' rows are missing; each comes with its reason."""
    return TaskError(
        f"a mixture trains on the rows of its sources' tasks, and those of {len(missing)} of {count} are not at hand: "
        f"{'; '.join(missing)}. Name the data folder that has them (--data DIR), or take the strategy best, average or "
        "race, which need the prompts alone."
    )
