"""`spot study`: studies of transfer from every source to every target."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from spot.cli.options import Data, Json, LibraryName, Settings, example
from spot.cli.output import PIPE_WIDTH, emit, progress, table
from spot.errors import ConfigError, LibraryError, StudyError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

    from spot.study.analysis.table import StudyTable, Summary
    from spot.study.cells import StudyPlan

EXECUTORS = ("serial", "ray")

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="The study's TOML file.")]

app = typer.Typer(help="Tune from every source to every target, and count what transfer gave.", no_args_is_help=True)


def _read(study: Path, settings: list[str] | None) -> "StudyPlan":
    """The study of a file and its cells."""
    from spot.study import cells
    from spot.study import config as files

    return cells.plan(files.look_up(files.read_study(study, settings or [])))


@contextmanager
def _hushed(name: str) -> Iterator[None]:
    """Keep the warnings of one module back: what it says of one run is too much for thousands."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@app.command(epilog=example("spot study plan study.toml", "spot study plan study.toml --data DIR --probe"))
def plan(
    study: StudyFile,
    data: Data = None,
    probe: Annotated[
        bool | None, typer.Option("--probe/--no-probe", help="Time 20 steps.  [default: where the backbone is here]")
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Show the cells of a study, and about how many tokens, how much time and disk those left to do will take.

    The cells need neither rows nor the backbone; what cannot be told without them is said to be unknown.
    """
    made = _read(study, settings)

    from spot.study import estimates, scheduler

    found = scheduler.finished(made)
    with progress(f"estimating {made.study.config.name}"):
        guess = estimates.estimate(made, found, data, probe)
    value = estimates.overview(made, found, guess)
    emit(
        value,
        as_json,
        f"{value['name']}: {value['sources']} sources, {value['embeddings']} target embeddings, "
        f"{value['transfers']} transfers; records: {value['records']}",
        table(
            ("kind", "cells", "finished", "gangs to do", "steps to do"),
            [(kind, *counts.values()) for kind, counts in value["kinds"].items()],
        ),
        f"to do: {estimates.words(guess)}",
        *guess.unknown,
    )


@app.command(epilog=example("spot study run study.toml", "spot study run study.toml --executor ray --address auto"))
def run(
    study: StudyFile,
    executor: Annotated[
        str, typer.Option(metavar="serial|ray", help="This process, or a cluster, with the extra `study`.")
    ] = "serial",
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A running Ray cluster; implies ray.  [default: this machine]"),
    ] = None,
    data: Data = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Finish the cells that have no record yet.

    Stopped in any way, the same command goes on: finished cells are skipped, and runs go on from their checkpoints.
    Commit the folder of records, and the study counts as finished elsewhere. Exit code 2 where a cell was given up.
    """
    if executor not in EXECUTORS:
        raise ConfigError(f"--executor is {executor!r}: {did_you_mean(executor, EXECUTORS)}")
    plan = _read(study, settings)

    from functools import partial

    from spot.study import executors, scheduler, worker

    does = executors.serial if executor == "serial" and address is None else executors.ray(address)
    config = plan.study.config
    checkpointing = bool(config.target.get("gradient_checkpointing", False))
    with progress(f"study {config.name}") as step, _hushed("spot.training.tuning"):
        setup = partial(worker.load, config.backbone, checkpointing)
        found = scheduler.run(plan, does, setup, worker.work, data=data, progress=step)
    emit(
        {**asdict(found), "records": str(plan.records)},
        as_json,
        f"{found.finished} of {found.cells} cells are finished, {found.new} of them now; records: {plan.records}",
        *(f"no score: {title}: {reason}" for title, reason in found.diverged.items()),
    )
    if found.failed:
        lines = "".join(f"\n  {title}: {reason}" for title, reason in found.failed.items())
        raise StudyError(f"{len(found.failed)} gangs could not be tuned; the same command tries them again:{lines}")


@app.command(epilog=example("spot study status study.toml"))
def status(study: StudyFile, settings: Settings = None, as_json: Json = False) -> None:
    """Say how far a study is, also while another terminal runs it; nothing but records and logs is read."""
    plan = _read(study, settings)

    from spot.study import scheduler

    counts, begun = scheduler.status(plan)
    rows = [(kind, *asdict(count).values()) for kind, count in counts.items()]
    work = [(one.title, f"{one.step} of {one.steps}", f"{one.idle:.0f} s ago") for one in begun]
    emit(
        {
            "name": plan.study.config.name,
            "records": str(plan.records),
            "kinds": {kind: asdict(count) for kind, count in counts.items()},
            "running": [asdict(one) for one in begun],
        },
        as_json,
        table(("kind", "cells", "finished", "failed", "running", "missing"), rows),
        *(["", table(("running", "step", "last sign"), work)] if work else []),
    )


@app.command(epilog=example("spot study report study.toml --out report"))
def report(
    study: StudyFile,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write.  [default: `report` beside the records]")
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Write the report of a study from its records: HTML, Markdown, CSV and pictures."""
    plan = _read(study, settings)

    from spot.study import scheduler
    from spot.study.report import page

    config = plan.study.config
    folder = out or plan.folder / "report"
    records = list(scheduler.finished(plan).values())
    if not records:
        raise StudyError(
            f"{plan.records} holds no finished cell of {config.name} ({len(plan.cells)} are planned): expected the "
            f"records of some. Run `spot study run {study}`."
        )
    value = page.write(config.name, records, folder, strategies=config.strategies, ks=config.k, metric=config.metric)
    emit(value, as_json, f"{len(records)} of {len(plan.cells)} cells; report: {folder / 'report.html'}")


@app.command(epilog=example("spot study teach study.toml --library my_prompts"))
def teach(study: StudyFile, library: LibraryName, settings: Settings = None, as_json: Json = False) -> None:
    """Let a library remember what a study's pairs showed, so that `learned` and `auto` go by it.

    Counted are pairs that started from one of the library's prompts, by their selection rows; each is kept once.
    """
    plan = _read(study, settings)

    from spot.library.library import open_library
    from spot.study import scheduler
    from spot.study.teaching import lessons

    opened = open_library(library)
    found = lessons(plan, list(scheduler.finished(plan).values()), {entry.digest for entry in opened.entries()})
    if not found:
        raise StudyError(
            f"no finished pair of {plan.records} started from a prompt of {opened.path}: expected the "
            "library that the study's sources are in, or that its prompts were added to."
        )
    known = len(opened.transfers())
    if not opened.record_transfers(found):
        raise LibraryError(f"{opened.path} cannot be written: copy it, and teach the copy.")
    value = {"library": str(opened.path), "transfers": len(found), "new": len(opened.transfers()) - known}
    emit(
        value,
        as_json,
        f"{opened.path} knows {len(found)} transfers of {plan.study.config.name}, {value['new']} of them new",
    )


@app.command(epilog=example("spot study replay results.csv"))
def replay(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE",
            help="CSV with the columns source, target and mean (percent), and a source BASELINE for plain tuning.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Work out a finished table of results: relative error reductions, best sources, negative transfers.

    Each source must have a score on each target, and each target one of BASELINE. Further columns, such as std, are
    passed over.
    """
    from spot.study.analysis.table import read_table, summarise

    found = read_table(results)
    said = summarise(found)
    always = f"always {said.always_best} {said.source_means[said.always_best]:.1f}"
    best = table(
        ("target", "baseline", "best", "reduction", "best source"),
        ((one.target, one.baseline, one.mean, one.rer, ", ".join(one.sources)) for one in said.best_sources),
    )
    emit(
        asdict(said),
        as_json,
        f"{said.cells} cells: {said.improved} improved, {said.worsened} worsened, {said.tied} tied; "
        f"{len(said.above_10)} reduce the error by more than 10 %",
        f"mean score: plain tuning {said.baseline_mean:.1f}, any source {said.mean:.1f}, "
        f"{always}, the best source of each target {said.oracle_mean:.1f}",
        "\neach source: mean score, targets made worse, relative error reduction (percent) over all and each target",
        *_gains(found, said, get_terminal_size((PIPE_WIDTH, 0)).columns),
        "\nthe best source of each target, and its relative error reduction in percent",
        best,
    )


def _gains(found: "StudyTable", said: "Summary", width: int) -> Iterator["Table"]:
    """The sources by mean score; more than one table where the targets are too many for the terminal's width."""
    room = width - max(map(len, found.sources)) - len("  mean  worse  -100.0  ")
    count = max(1, room // (2 + max(len("-100.0"), *map(len, found.targets))))
    rer = found.rer.tolist()
    for first in range(0, len(found.targets), count):
        some = slice(first, first + count)
        rows = (
            (source, said.source_means[source], said.source_worsened[source], said.source_rer[source], *row[some])
            for source, row in zip(found.sources, rer, strict=True)
        )
        yield table(("source", "mean", "worse", "all", *found.targets[some]), rows)
