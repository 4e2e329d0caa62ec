"""`spot study`: studies of transfer from every source to every target."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from spot.cli.options import Json, example
from spot.cli.output import PIPE_WIDTH, emit, table

if TYPE_CHECKING:
    from rich.table import Table

    from spot.study_table import StudyTable, Summary

app = typer.Typer(help="Count what transfer gave, over every source and target.", no_args_is_help=True)


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
    from spot.study_table import read_table, summarise

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
