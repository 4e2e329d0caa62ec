"""`spot study`: studies of transfer from every source to every target."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from spot.cli.options import Data, Json, LibraryName, Settings, Track, example, tracking
from spot.cli.output import PIPE_WIDTH, emit, progress, table
from spot.errors import ConfigError, StudyError

if TYPE_CHECKING:
    from rich.table import Table

    from spot.study.analysis.table import StudyTable, TableSummary

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="The study's TOML file.")]

app = typer.Typer(help="Tune from every source to every target, and count what transfer gave.", no_args_is_help=True)


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
    from spot.study.cells import finished, read_plan

    planned = read_plan(study, settings or ())

    from spot.study import estimates

    records = finished(planned)
    with progress(f"estimating {planned.study.config.name}"):
        estimate = estimates.estimate(planned, records, data, probe)
    value = estimates.overview(planned, records, estimate)
    emit(
        value,
        as_json,
        f"{value['name']}: {value['sources']} sources, {value['embeddings']} target embeddings, "
        f"{value['transfers']} transfers; records: {value['records']}",
        table(
            ("kind", "cells", "finished", "gangs to do", "steps to do"),
            [(kind, *counts.values()) for kind, counts in value["kinds"].items()],
        ),
        f"to do: {estimates.in_words(estimate)}",
        *estimate.unknown,
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
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Finish the cells that have no record yet.

    Stopped in any way, the same command goes on: finished cells are skipped, and runs go on from their checkpoints.
    Commit the folder of records, and the study counts as finished elsewhere. Exit code 2 where a cell was given up.
    """
    from spot.study.cells import read_plan
    from spot.study.executors import executor_named

    if track and (executor != "serial" or address is not None):
        raise ConfigError("--track follows the runs of this process, and a cluster has others: leave one of them out")
    planned = read_plan(study, settings or ())
    workers = executor_named(executor, address)

    from spot.study.running import run_study

    with progress(f"study {planned.study.config.name}") as step, tracking(track):
        outcome = run_study(planned, workers, data=data, progress=step)
    emit(
        {**asdict(outcome), "records": str(planned.records)},
        as_json,
        f"{outcome.finished} of {outcome.cells} cells are finished, {outcome.new} of them now; "
        f"records: {planned.records}",
        *(f"no score: {title}: {reason}" for title, reason in outcome.diverged.items()),
    )
    if outcome.failed:
        lines = "".join(f"\n  {title}: {reason}" for title, reason in outcome.failed.items())
        raise StudyError(f"{len(outcome.failed)} gangs could not be tuned; the same command tries them again:{lines}")


@app.command(epilog=example("spot study status study.toml"))
def status(study: StudyFile, settings: Settings = None, as_json: Json = False) -> None:
    """Say how far a study is, also while another terminal runs it; nothing but records and logs is read."""
    from spot.study.cells import read_plan
    from spot.study.status import study_status

    planned = read_plan(study, settings or ())
    so_far = study_status(planned)
    rows = [(kind, *asdict(count).values()) for kind, count in so_far.kinds.items()]
    work = [(gang.title, f"{gang.step} of {gang.steps}", f"{gang.idle:.0f} s ago") for gang in so_far.running]
    emit(
        {"name": planned.study.config.name, "records": str(planned.records), **asdict(so_far)},
        as_json,
        table(("kind", "cells", "finished", "failed", "running", "missing"), rows),
        *(["", table(("running", "step", "last sign"), work)] if work else []),
        *(f"no record: {reason}" for reason in so_far.wrong.values()),
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
    from spot.study.cells import read_plan

    planned = read_plan(study, settings or ())

    from spot.study.report.page import report_study

    written = report_study(planned, out)
    emit(written.value, as_json, f"{written.records} of {len(planned.cells)} cells; report: {written.path}")


@app.command(epilog=example("spot study teach study.toml --library my_prompts"))
def teach(study: StudyFile, library: LibraryName, settings: Settings = None, as_json: Json = False) -> None:
    """Let a library remember what a study's pairs showed, so that `learned` and `auto` go by it.

    Counted are pairs that started from one of the library's prompts, by their selection rows; each is kept once.
    """
    from spot.library.library import open_library
    from spot.study import teaching
    from spot.study.cells import read_plan

    planned = read_plan(study, settings or ())
    pupil = open_library(library)
    taught = teaching.teach(planned, pupil)
    emit(
        {"library": str(pupil.path), **asdict(taught)},
        as_json,
        f"{pupil.path} knows {taught.transfers} transfers of {planned.study.config.name}, {taught.new} of them new",
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

    scores = read_table(results)
    summary = summarise(scores)
    always = f"always {summary.always_best} {summary.source_means[summary.always_best]:.1f}"
    best = table(
        ("target", "baseline", "best", "reduction", "best source"),
        ((best.target, best.baseline, best.mean, best.rer, ", ".join(best.sources)) for best in summary.best_sources),
    )
    emit(
        asdict(summary),
        as_json,
        f"{summary.cells} cells: {summary.improved} improved, {summary.worsened} worsened, {summary.tied} tied; "
        f"{len(summary.above_10)} reduce the error by more than 10 %",
        f"mean score: plain tuning {summary.baseline_mean:.1f}, any source {summary.mean:.1f}, "
        f"{always}, the best source of each target {summary.oracle_mean:.1f}",
        "\neach source: mean score, targets made worse, relative error reduction (percent) over all and each target",
        *_gain_tables(scores, summary, get_terminal_size((PIPE_WIDTH, 0)).columns),
        "\nthe best source of each target, and its relative error reduction in percent",
        best,
    )


def _gain_tables(scores: "StudyTable", summary: "TableSummary", width: int) -> Iterator["Table"]:
    """The sources by mean score; more than one table where the targets are too many for the terminal's width."""
    room = width - max(map(len, scores.sources)) - len("  mean  worse  -100.0  ")
    count = max(1, room // (2 + max(len("-100.0"), *map(len, scores.targets))))
    reductions = scores.rer.tolist()
    for first in range(0, len(scores.targets), count):
        shown = slice(first, first + count)
        rows = (
            (
                source,
                summary.source_means[source],
                summary.source_worsened[source],
                summary.source_rer[source],
                *row[shown],
            )
            for source, row in zip(scores.sources, reductions, strict=True)
        )
        yield table(("source", "mean", "worse", "all", *scores.targets[shown]), rows)
