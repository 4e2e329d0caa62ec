"""Tune a prompt, or the model itself, for a task: `tune` and `tune_model`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any

from spot.config import TuneConfig, check_kind, make_config
from spot.errors import ConfigError, LibraryError, TaskError
from spot.evaluation.predictions import Progress
from spot.library.library import PACKAGED, Library, open_library
from spot.models.backbone import Backbone
from spot.prompts.prompt import KeyRecipe, SoftPrompt
from spot.storage.files import cache_dir
from spot.tasks.splits import Splits, split_rows
from spot.tasks.task import Task
from spot.training.model_tuning import tune_model_run
from spot.training.run import Member, Run, members_of, prepare_run
from spot.training.tuning import tune_runs


def tune(
    task: Task | str,
    backbone: Backbone | str,
    *,
    rows: Splits | None = None,
    library: Library | Path | str | None = PACKAGED,
    source: SoftPrompt | None = None,
    data: Path | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> SoftPrompt:
    """Tune a prompt for a task, or go on where a killed process left it; what is finished is only read.

    Args:
        task: or the name of a known task or mixture, or the path of a task file.
        backbone: the frozen model, or its name.
        rows: which rows train, select and report; left out: as `split_rows` decides by the settings.
        library: whose recipe the settings come from that are left out, so that the prompt has a key that can be
            compared with those of its prompts. The one that ships is passed over where it is of another backbone, or
            where the run ends before its key step; None for the documented defaults.
        source: a prompt to start from.
        data: where the rows of known data sets are.
        out: the run's folder; in the user's cache when left out.
        progress: called after every step.
        settings: of `TuneConfig`, by name, such as `steps=60`.

    Returns:
        The best checkpoint by selection score, with its scores on the report rows.

    Raises:
        ConfigError: a setting is unknown or out of its bounds; all of them are named.
        LibraryError: the library has no recipe.
        PromptError: the source belongs to another backbone.
        RunError: the folder holds another run, or training diverged.
        TaskError: the task is unknown, or has too few rows.
    """
    check_call(rows=rows, data=data, out=out, progress=progress)
    check_kind("library", library, (Library, str, PathLike, NoneType), "a library, its folder, or None")
    check_kind("source", source, (SoftPrompt, NoneType), "a SoftPrompt, or None")
    name = _name(task)
    make_config(TuneConfig, {"task": name, **settings})  # mistakes are said before the model is loaded
    backbone = Backbone.of(backbone, settings.get("quantise"), settings.get("precision"))
    config = tune_config(name, _recipe(library, backbone, settings), settings)
    if config.method == "model":
        raise ConfigError("method is 'model', which trains no prompt: call spot.tune_model, or leave method out")
    run = prepared(config, task, backbone, rows=rows, source=source, data=data)
    return tune_runs([run], backbone, _folder(out, run), progress)[0].prompt


def tune_model(
    task: Task | str,
    backbone: Backbone | str,
    *,
    rows: Splits | None = None,
    data: Path | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Path:
    """Tune all weights of a copy of the model (paper, appendix C), the baseline; the backbone stays as it is.

    Arguments and errors are those of `tune`.

    Returns:
        The folder of the tuned model, which `Backbone.load` takes.
    """
    check_call(rows=rows, data=data, out=out, progress=progress)
    config = tune_config(_name(task), None, {**settings, "method": "model"})
    backbone = Backbone.of(backbone)
    run = prepared(config, task, backbone, rows=rows, data=data)
    return tune_model_run(run, backbone, _folder(out, run), progress).path


def check_call(*, rows: object, data: object, out: object, progress: object) -> None:
    """Refuse what several public calls take where it is of another kind.

    Raises:
        ConfigError: naming the argument, what it is and what was expected.
        TaskError: rows are given and none of them train, or none of them select.
    """
    check_kind("rows", rows, (Splits, NoneType), "spot.Splits, or None")
    check_kind("data", data, (str, PathLike, NoneType), "the path of a folder, or None")
    check_kind("out", out, (str, PathLike, NoneType), "the path of a folder, or None")
    if progress is not None and not callable(progress):
        raise ConfigError(f"progress is {progress!r:.60}; expected a function of two numbers, or None")
    if isinstance(rows, Splits):
        for role, part in (("train", rows.train), ("selection", rows.selection), ("report", rows.report)):
            check_kind(f"rows.{role}", part, (Sequence,), "a sequence of examples")
            if role != "report" and not part:
                raise TaskError(f"rows.{role} is empty; expected at least one example")


def tune_config(task: str, recipe: KeyRecipe | None, settings: Mapping[str, Any]) -> TuneConfig:
    """The configuration of a run: what is given, then what a library's recipe says, then the defaults.

    Raises:
        ConfigError: a setting is unknown or out of its bounds, or the run ends before the recipe's key step.
    """
    values: dict[str, Any] = {"task": task}
    if recipe is not None:
        values |= {**asdict(recipe), "key_step": recipe.step, "steps": max(recipe.step, _default("steps"))}
        del values["step"]
        steps = settings.get("steps", values["steps"])
        if isinstance(steps, int) and steps < recipe.step:
            raise ConfigError(
                f"steps = {steps} ends before the library's key step {recipe.step}, where the task embedding is read; "
                f"expected at least {recipe.step}"
            )
    return make_config(TuneConfig, {**values, **settings})


def prepared(
    config: TuneConfig,
    task: Task | str,
    backbone: Backbone,
    *,
    rows: Splits | None = None,
    source: SoftPrompt | None = None,
    data: Path | None = None,
) -> Run:
    """A run that is ready to train: its rows are split and its start is resolved.

    Raises:
        ConfigError: a model is to be tuned from a prompt, or rows are given for a mixture.
        PromptError: the source belongs to another backbone.
        TaskError: the task is unknown, or has too few rows.
    """
    if isinstance(task, Task):
        if task.reading.form and task.reading.task_prefix != config.task_prefix:
            raise ConfigError(
                f"task_prefix is {config.task_prefix}, and the task {task.name} is read with "
                f"prefix={task.reading.task_prefix}: give the same to spot.tasks.get"
            )
        limits = (config.train_rows, config.select_rows, config.report_rows, config.rows_seed)
        members, name = (Member(task, rows if rows is not None else split_rows(task, *limits)),), ""
    else:
        members, name = members_of(config, None if data is None else Path(data))
        if rows is not None and len(members) > 1:
            raise ConfigError(f"{name} is a mixture, whose rows come from its tasks: leave rows out")
        if rows is not None:
            members = tuple(Member(member.task, rows) for member in members)
    return prepare_run(config, members, backbone, source, name)


def _name(task: Task | str) -> str:
    if not isinstance(task, str | Task):
        raise TaskError(
            f"found {type(task).__name__} for a task; expected a Task (Task.from_rows makes one), or a name"
        )
    return task if isinstance(task, str) else task.name


def _default(name: str) -> Any:
    return TuneConfig.model_fields[name].default


def _folder(out: Path | str | None, run: Run) -> Path:
    return Path(out) if out is not None else cache_dir() / "runs" / run.digest


def _recipe(library: Library | Path | str | None, backbone: Backbone, settings: Mapping[str, Any]) -> KeyRecipe | None:
    """The key recipe of a library; None where none is named, or where the one that ships does not serve here."""
    if library is None:
        return None
    opened = library if isinstance(library, Library) else open_library(library)
    if library == PACKAGED:
        recipe = opened.key_recipe
        steps = settings.get("steps", _default("steps"))
        is_short = recipe is not None and isinstance(steps, int) and steps < recipe.step
        return None if is_short or not opened.entries(backbone.id) else recipe
    recipe = opened.require_recipe()
    if not opened.entries(backbone.id):
        raise LibraryError(
            f"no prompt of the library {opened.path} is of the backbone {backbone.id}, so its recipe says nothing: "
            "expected a library of this backbone. Name another, or library=None for the documented defaults."
        )
    return recipe
