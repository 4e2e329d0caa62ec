"""`spot bug`: a file for a report of a fault, without anybody's data."""

from pathlib import Path
from typing import Annotated

import typer

from spot.cli.completion import run_names
from spot.cli.options import Json, example
from spot.cli.output import emit

app = typer.Typer()


@app.command(epilog=example("spot bug", "spot bug runs/reviews --out fault.json"))
def bug(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="A run whose settings and diagnosis go along.  [default: none]",
            autocompletion=run_names,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")] = Path("spot-bug.json"),
    as_json: Json = False,
) -> None:
    """Write a file with versions, device and settings, to send along with a report of a fault.

    No text, path, host, user or token is in it, and no name that you gave to a task, a file or a model; of variables
    of the environment the names, and values that are words of spot.
    """
    from dataclasses import asdict

    from spot.bug import bug_report, write_report

    report = bug_report(run)
    write_report(report, out)
    told = "versions, extras, device, settings of the environment, backbones" + (", the run's settings" if run else "")
    emit(asdict(report), as_json, f"wrote {out}: {told}", "Nothing was sent. Read it before you send it along.")
