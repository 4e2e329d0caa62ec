"""`spot transfer`: tune a new task from the right prompt, and show whether that helped."""

from pathlib import Path
from typing import Annotated, Any

import typer

from spot.cli.options import (
    PACKAGED,
    BackboneName,
    ConfigFile,
    Data,
    Json,
    LibraryName,
    ReportRows,
    SelectRows,
    Settings,
    TaskName,
    TrainRows,
    example,
    open_sources,
    overrides,
    setting,
)
from spot.cli.output import cell, emit, progress, table
from spot.config import TransferConfig, load_config

app = typer.Typer()


@app.command(
    epilog=example("spot transfer reviews.toml --library packaged --train-rows 100 --steps 36 --seeds 3 --out transfer")
)
def transfer(
    task: TaskName,
    library: LibraryName = PACKAGED,
    strategy: Annotated[str | None, setting(TransferConfig, "strategy", "best|average|none")] = None,
    metric: Annotated[str | None, setting(TransferConfig, "metric", "mean|token|max")] = None,
    k: Annotated[str | None, setting(TransferConfig, "k", "K", "-k")] = None,
    steps: Annotated[str | None, setting(TransferConfig, "steps", "N")] = None,
    seeds: Annotated[str | None, setting(TransferConfig, "seeds", "S")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    train_rows: TrainRows = None,
    select_rows: SelectRows = 100,
    report_rows: ReportRows = 400,
    data: Data = None,
    backbone: BackboneName = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of all runs.  [default: in the cache]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tune a task from scratch and from the nearest prompts of a library, at equal steps, and compare them.

    Scores are percent on rows that chose nothing, with 95 % intervals. An interrupted transfer goes on when the same
    command is given again.
    """
    from spot.tasks import registry
    from spot.tasks.base import roles

    given = overrides(strategy=strategy, metric=metric, k=k, steps=steps, seeds=seeds)
    resolved = load_config(TransferConfig, config, [*(settings or []), *given])
    opened = open_sources(library)
    found = registry.get(task, data)
    rows = roles(found, train_rows, select_rows, report_rows, 0)

    from spot import transfer as transfers
    from spot.backbone import Backbone

    name = backbone or opened.backbone.name
    with progress(f"loading {name}"):
        model = Backbone.load(name)
    with progress(f"tuning {found.name} from scratch and from the library") as step:
        report = transfers.transfer(found, rows, model, opened, resolved, out=out, progress=step)
    emit(report.to_json(), as_json, *_shown(report))


def _shown(report: Any) -> list[Any]:
    """A report for people."""
    columns = ("arm", "source", "score", "95 % interval", "steps", "seconds")
    rows = [
        (arm.arm, arm.source, arm.score, f"{cell(arm.interval[0])} to {cell(arm.interval[1])}", arm.steps, arm.seconds)
        for arm in report.arms
    ]
    ranking = [(one.task, f"{one.similarity:.3f}") for one in report.ranking]
    return [
        *([table(("source", "similarity"), ranking), ""] if ranking else []),
        table(columns, rows),
        "",
        report.verdict,
        f"chosen by selection rows: {report.chosen}",
        f"prompt: {report.prompt or 'none: the chosen arm trains nothing'}",
        f"runs: {report.run}",
    ]
