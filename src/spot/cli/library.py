"""`spot library`: the prompts that new tasks may start from."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spot.cli.completion import library_tasks
from spot.cli.options import (
    PACKAGED,
    Data,
    Json,
    LibraryName,
    PromptName,
    Quantise,
    Settings,
    example,
    load_backbone,
    overrides,
    read_prompt,
)
from spot.cli.output import emit, note, progress, scores, table

if TYPE_CHECKING:
    from rich.table import Table

    from spot.building.door import BuildOutcome
    from spot.building.plan import BuildPlan

app = typer.Typer(help="Keep prompts of one frozen model that can be compared with each other.", no_args_is_help=True)

Reference = Annotated[
    str, typer.Argument(metavar="NAME", help="A digest, the beginning of one, or a task.", autocompletion=library_tasks)
]
PROBLEMS = 2  # exit code where files of a library are damaged


@app.command("list", epilog=example("spot library list --library packaged"))
def list_prompts(library: LibraryName = PACKAGED, as_json: Json = False) -> None:
    """List the prompts of a library, with their scores beside those of the frozen model without a prompt."""
    from spot.library.library import open_library

    entries = open_library(library).entries()
    value = [
        {
            "prompt": entry.digest,
            "task": entry.task,
            "path": str(entry.path),
            "scores": dict(entry.scores),
            "frozen_scores": dict(entry.frozen_scores),
            "step": entry.step,
            "length": entry.length,
            "backbone": entry.backbone.name,
        }
        for entry in entries
    ]
    rows = [
        (entry.digest, entry.task, scores(entry.scores), scores(entry.frozen_scores), entry.step, entry.length)
        for entry in entries
    ]
    emit(value, as_json, table(("prompt", "task", "scores", "without prompt", "step", "tokens"), rows))


@app.command(epilog=example("spot library show glue/sst2 --library packaged"))
def show(name: Reference, library: LibraryName = PACKAGED, as_json: Json = False) -> None:
    """Show everything that a prompt says of itself; its arrays are checked and not shown."""
    from spot.library.library import open_library
    from spot.prompts.prompt import header

    opened = open_library(library)
    digest = opened.get(name).digest
    path = next(entry.path for entry in opened.entries() if entry.digest == digest)
    value = {**header(path, opened.path), "path": str(path)}
    emit(value, as_json, *(f"{key:<14}{json.dumps(field)}" for key, field in value.items()))


@app.command(epilog=example("spot library create --library my_prompts"))
def create(
    library: Annotated[str, typer.Option(metavar="DIR", help="A new or empty folder.")], as_json: Json = False
) -> None:
    """Make an empty library."""
    from spot.library.library import Library

    created = Library.create(library)
    count = len(created.entries())
    emit({"library": str(created.path), "prompts": count}, as_json, f"{created.path}: a library of {count} prompts")


@app.command(epilog=example("spot library add runs/reviews --library my_prompts"))
def add(prompt: PromptName, library: LibraryName, as_json: Json = False) -> None:
    """Add a prompt, if its key can be compared with those that are there; a missing library is made."""
    from spot.library.entries import check_belongs
    from spot.library.library import Library, open_library
    from spot.remote.address import is_address
    from spot.storage.opening import exists

    new = read_prompt(prompt)
    if library != PACKAGED and not is_address(library) and not exists(library):
        check_belongs(new, None, library)  # before the folder is there: a refusal leaves nothing behind
        Library.create(library)
    opened = open_library(library)
    entry = opened.add(new)
    value = {"prompt": entry.digest, "task": entry.task, "path": str(entry.path), "scores": dict(entry.scores)}
    emit(value, as_json, f"added {entry.digest} ({entry.task}): {entry.path}")


@app.command(epilog=example("spot library remove reviews --library my_prompts"))
def remove(name: Reference, library: LibraryName, as_json: Json = False) -> None:
    """Remove one prompt, damaged or not."""
    from spot.library.library import open_library

    digest = open_library(library).remove(name)
    emit({"removed": digest}, as_json, f"removed {digest}")


@app.command(epilog=example("spot library reindex --library my_prompts"))
def reindex(
    library: LibraryName,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Give prompts of this model, made with an older version, the fingerprint of today."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build the library's cache (index.sqlite) again from the prompt files, which are the truth.

    Prompts that are upgraded with --backbone get new digests.
    """
    from spot.library.library import open_library

    opened = open_library(library)
    if backbone is None:
        count = opened.reindex()
    else:
        from spot.models.checkpoints import locate

        count = opened.reindex(locate(backbone).id)
    emit({"prompts": count}, as_json, f"{count} prompts")


@app.command(epilog=example("spot library verify --library packaged"))
def verify(library: LibraryName = PACKAGED, as_json: Json = False) -> None:
    """Read every byte of every prompt, what the index says of it, and the records of transfers, and say what is wrong.

    The exit code is 2 where something is.
    """
    from spot.library.library import open_library
    from spot.retrieval.search import SUMMARIES

    opened = open_library(library)
    problems = opened.verify(SUMMARIES)
    good = f"{len(opened.entries())} prompts, every byte as it was written"
    emit({"prompts": len(opened.entries()), "problems": problems}, as_json, *(problems or [good]))
    if problems:
        raise typer.Exit(PROBLEMS)


@app.command(
    epilog=example(
        "spot library build starter --backbone google/t5-base-lm-adapt --library my_library --data DIR --plan",
        "spot library build recipe.toml --backbone models/mine --library my_library --budget 2h",
        "spot library build --add reviews.toml --library my_library",
    )
)
def build(
    library: Annotated[Path, typer.Option(metavar="DIR", help="A new folder, or one that was built before.")],
    recipe: Annotated[
        str, typer.Argument(metavar="[RECIPE]", help="A TOML file, or a recipe that ships: starter, paper.")
    ] = "starter",
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="embedded, a Hugging Face id or a folder.  [default: that of the library]"),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="A time such as 2h, or text tokens; sources beyond it are left out."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what it takes in tokens, time, memory and disk, and train nothing.")
    ] = False,
    add: Annotated[
        str | None, typer.Option(metavar="TASK", help="Train one more source, by the library's own recipe.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Work on this Ray cluster; auto: the one of this machine.")
    ] = None,
    quantise: Quantise = None,
    settings: Settings = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a library for a model of your own: find settings that learn there, train sources by them, check, describe.

    Settings race on a task or two. The one that wins must beat the frozen model and a constant answer on rows that
    chose nothing, else the model is said to learn nothing here, the exit code is 2 and no library is made. A build that
    was interrupted goes on when the same command is given again.
    """
    from spot.building.door import build_library, check_addition, check_library, plan_addition, plan_library
    from spot.building.plan import parse_budget
    from spot.building.recipe import read_recipe
    from spot.building.records import recipe_of
    from spot.errors import ConfigError
    from spot.study.executors import executor_named

    if budget is not None:
        parse_budget(budget)
    if add is not None:
        record = check_addition(add, library, backbone)
        name = backbone or record.backbone
        bits = recipe_of(record, library).quantise
        if quantise not in (None, bits):
            raise ConfigError(f"--quantise is {quantise}, and the library was built with {bits}; leave it out")
        model = load_backbone(name, bits)
        with progress("measuring a few steps"):
            planned = plan_addition(add, library, backbone=model, data=data, name=name).within(budget)
    else:
        wanted = read_recipe(recipe, [*(settings or ()), *overrides(quantise=quantise)])
        name = backbone or ""
        if not name:
            raise ConfigError("no model is named; give --backbone NAME: embedded, a Hugging Face id or a folder")
        check_library(wanted, library, name)
        model = load_backbone(name, wanted.quantise)
        with progress("measuring a few steps"):
            planned = plan_library(wanted, model, library, data=data, budget=budget, name=name)
    if plan:
        emit(planned.to_json(), as_json, *_planned(planned), _parts(planned))
        return
    for line in _planned(planned):
        note(line)
    executor = executor_named("serial", address)
    held = None if address else model
    with progress(f"building {library}") as step:
        outcome = build_library(planned, library, backbone=held, executor=executor, say=note, progress=step)
    emit(outcome.to_json(), as_json, *_built(outcome))
    if outcome.record is None:
        raise typer.Exit(PROBLEMS)


def _planned(plan: "BuildPlan") -> list[str]:
    """A plan for people, in lines."""
    total = plan.total
    lines = [f"recipe {plan.recipe.name} on {plan.identity}: {len(plan.sources)} sources"]
    if not plan.calibrated:
        lines.append(
            f"calibration: {len(plan.settings)} settings race on {' and '.join(task.title for task in plan.calibrate)}"
        )
    lines += [f"passed over: {name}: {reason}" for name, reason in plan.missing.items()]
    if plan.left_out:
        lines.append(f"beyond the budget: {', '.join(plan.left_out)}")
    lines.append(
        f"about {total.tokens:,} text tokens, {total.seconds / 60:.0f} minutes here, "
        f"{plan.measured.memory / 2**30:.1f} GiB of memory, {plan.disk / 1e6:,.0f} MB of disk"
    )
    return lines


def _parts(plan: "BuildPlan") -> "Table":
    """What each part of a plan takes."""
    parts = [] if plan.calibrated else [("calibration", None, plan.calibration)]
    parts += [(task.title, task.steps, plan.amount_of(task)) for task in plan.sources]
    parts += [] if not plan.check.tokens else [("second seeds", plan.recipe.key_step, plan.check)]
    rows = [(name, steps, amount.tokens, amount.seconds / 60) for name, steps, amount in parts]
    return table(("part", "steps", "text tokens", "minutes"), rows)


def _built(outcome: "BuildOutcome") -> list["str | Table"]:
    """What came of a build, for people."""
    from spot.building.card import nearness_sentences

    trials = [
        (str(trial.setting), trial.start, trial.score, trial.steps, trial.tokens, trial.ended)
        for trial in outcome.trials
    ]
    checks = [
        (check.task, check.frozen, check.constant, check.tuned, f"{check.low:+.1f} to {check.high:+.1f}", check.rows)
        for check in outcome.checks
    ]
    shown: list[str | Table] = [
        table(("setting", "at the start", "best", "steps", "text tokens", "ended"), trials),
        "\nthe best setting on rows that chose nothing, with the interval of its gain over the better of frozen and "
        "constant",
        table(("task", "frozen", "constant", "tuned", "gain", "rows"), checks),
    ]
    record = outcome.record
    if record is None:
        return [
            *shown,
            f"\n{outcome.plan.identity.name} learns nothing here: of {len(outcome.trials)} settings the best does not "
            "beat the frozen model and a constant answer by more than chance on any task. No library was made. Give "
            "the recipe other rates, starts or lengths, more calibration_steps, or tasks that this model can do.",
        ]
    from spot.library.library import Library

    rows = [
        (entry.task, scores(entry.frozen_scores), scores(entry.scores)) for entry in Library(outcome.library).entries()
    ]
    return [
        *shown,
        f"\nsetting: {record.setting}",
        table(("source", "frozen", "prompt"), rows),
        *nearness_sentences(record.nearness, outcome.plan.recipe.key_step),
        *(f"no prompt of {name}: {reason}" for name, reason in outcome.failed.items()),
        f"library: {outcome.library}, with a card in README.md",
    ]
