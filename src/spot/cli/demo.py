"""`spot demo`: the main job from end to end."""

from pathlib import Path
from typing import Annotated

import typer

from spot.cli.options import PACKAGED, Json, example, load_backbone, open_sources
from spot.cli.output import emit, note, table
from spot.cli.transfer import ranked
from spot.cli.watching import watching
from spot.errors import LibraryError

app = typer.Typer()


@app.command(epilog=example("spot demo --out demo"))
def demo(
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another candidate of the report's rule.  [default: its choice]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of report, rows and runs.  [default: in the cache]")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Three seeds, both plain starts and task embeddings; ten minutes or more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find the right prompt for a new task in the library that ships here, start from it, and report the gain.

    Takes about four minutes on two cores; started again, it goes on where it was, and a second time it is quick.
    """
    from spot.demo import CONFIG, FULL, TARGET, check_data, run
    from spot.strategies.report import ARM_COLUMNS, arm_rows

    check_data(target or TARGET)
    library = open_sources(PACKAGED)
    if library.backbone is None:
        raise LibraryError(f"the library that ships here is empty ({library.path}): install spot-transfer again")
    model = load_backbone(library.backbone, dtype="auto")
    note(f"{model.id.name}: {model.parameters:,} parameters, of which 0 train")
    with watching("a new task from a known prompt") as step:
        report, page = run(
            model, library, target=target or TARGET, config=FULL if full else CONFIG, out=out, progress=step
        )
    emit(
        {**report.to_json(), "report": str(page)},
        as_json,
        *([report.reason, ""] if report.reason else []),
        ranked(report),
        "",
        table(ARM_COLUMNS, arm_rows(report)),
        "",
        report.verdict,
        f"report: {page}",
    )
