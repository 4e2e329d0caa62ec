"""`spot transfer`: tune a new task from the right prompt, and show whether that helped."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spot.cli.options import (
    PACKAGED,
    BackboneName,
    ConfigFile,
    Data,
    Json,
    LibraryName,
    Quantise,
    SelectRows,
    Settings,
    TaskName,
    Track,
    TrainRows,
    example,
    load_backbone,
    open_sources,
    overrides,
    setting,
    tracking,
)
from spot.cli.output import emit, table
from spot.cli.watching import watching
from spot.config import REPORT_ROWS, SELECT_ROWS, TransferConfig, load_config
from spot.errors import ConfigError
from spot.rendering.tables import cell_text

if TYPE_CHECKING:
    from rich.table import Table

    from spot.strategies.report import CandidateSummary, TransferReport

app = typer.Typer()


def _refuse_metric(name: str | None) -> None:
    """Say what the option is called.

    Raises:
        ConfigError: always where the option is given.
    """
    if name is not None:
        raise ConfigError(f"there is no option --metric: it is called --rank-by, as in --rank-by {name}")


OldRankBy = Annotated[
    str | None, typer.Option("--metric", hidden=True, callback=_refuse_metric, help="It is called --rank-by.")
]


def optional(key: str, metavar: str, *names: str) -> Any:
    """An option for a setting that has no value where it is left out; its meaning says what happens then."""
    meaning = str(TransferConfig.model_fields[key].description)
    return typer.Option(*names, metavar=metavar, help=f"{meaning[:1].upper()}{meaning[1:]}.")


@app.command(
    epilog=example("spot transfer reviews.toml --library packaged --train-rows 100 --steps 36 --seeds 3 --out transfer")
)
def transfer(
    task: TaskName,
    library: LibraryName = PACKAGED,
    strategy: Annotated[
        str | None, setting(TransferConfig, "strategy", "best|average|mixture|race|oracle|none|auto")
    ] = None,
    rank_by: Annotated[str | None, setting(TransferConfig, "rank_by", "mean|token|max|learned|record|as_is")] = None,
    metric: OldRankBy = None,
    k: Annotated[str | None, optional("k", "K", "-k")] = None,
    budget: Annotated[str | None, setting(TransferConfig, "budget", "TIME|FACTOR")] = None,
    restarts: Annotated[str | None, setting(TransferConfig, "restarts", "N")] = None,
    steps: Annotated[str | None, setting(TransferConfig, "steps", "N")] = None,
    seeds: Annotated[str | None, setting(TransferConfig, "seeds", "S")] = None,
    instead: Annotated[str | None, optional("instead", "ARMS", "--with")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    train_rows: TrainRows = None,
    select_rows: SelectRows = SELECT_ROWS,
    report_rows: Annotated[str | None, optional("report_rows", "N")] = None,
    data: Data = None,
    backbone: BackboneName = None,
    quantise: Quantise = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of all runs.  [default: in the cache]")
    ] = None,
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Tune a task from scratch and from the nearest prompts of a library, at equal steps, and compare them.

    Scores are percent on rows that chose nothing, with 95 % intervals; `selection` is the score on the rows that make
    every choice. The cost of an arm is what it took to train for the task in all, candidates that lost and the search
    included, as a multiple of one plain run. With --with, arms that one would pick instead of a prompt learn from the
    same rows. What is known is shown as it comes: what the library's prompts do as they are, then each arm. An
    interrupted transfer goes on when the same command is given again. What each source gained is remembered for
    --rank-by learned: in the library, or in the user's cache where that cannot be written.
    """
    from spot.tasks import registry
    from spot.tasks.splits import split_rows

    given = overrides(
        strategy=strategy,
        rank_by=rank_by,
        k=k,
        budget=budget,
        restarts=restarts,
        steps=steps,
        seeds=seeds,
        instead=instead,
        report_rows=report_rows,
    )
    resolved = load_config(TransferConfig, config, [*(settings or []), *given])
    opened = open_sources(library)
    target = registry.get(task, data)
    rows = split_rows(target, train_rows, select_rows, resolved.report_rows or REPORT_ROWS, 0)

    from spot.strategies.door import transfer as transfer_task

    model_id = opened.backbone
    assert model_id is not None, "`open_sources` refuses such a library"
    model = load_backbone(backbone or model_id, quantise)
    given_settings = {name: getattr(resolved, name) for name in resolved.model_fields_set}
    with watching(f"transfer to {target.name}") as step, tracking(track) as tracks:
        report = transfer_task(
            target, model, library=opened, rows=rows, data=data, out=out, progress=step, **given_settings
        )
        tracks.arms(report)
    emit(report.to_json(), as_json, *_shown(report))


def _shown(report: "TransferReport") -> "list[str | Table]":
    """A report for people."""
    from spot.rendering.tables import size_text

    columns = (
        "arm",
        "selection",
        "score",
        "95 % interval",
        "steps",
        "seconds",
        "cost",
        "parameters",
        "to ship",
        "chosen",
    )
    rows = [
        (
            arm.name,
            arm.selection,
            arm.score,
            f"{cell_text(arm.interval[0])} to {cell_text(arm.interval[1])}",
            arm.steps,
            arm.seconds,
            f"{arm.relative_cost:.2f}x",
            arm.parameters,
            size_text(arm.bytes),
            arm.setting or None,
        )
        for arm in report.arms
    ]
    chosen = next(arm for arm in report.arms if arm.arm == report.chosen)
    strategy = f"{report.strategy}, k = {report.k}" if report.k else report.strategy
    return [
        *([report.reason, ""] if report.reason else []),
        *([ranked(report), ""] if report.ranking else []),
        *([_candidates(report.candidates), ""] if len(report.candidates) > 1 else []),
        table(columns, rows),
        "",
        report.verdict,
        *report.warnings,
        *(f"not run: {reason}" for reason in report.not_run.values()),
        f"strategy: {strategy}",
        f"prompt that selection rows prefer: {chosen.name}",
        f"prompt: {report.prompt_file}",
        f"runs: {report.run}",
        report.advice,
    ]


def _candidates(candidates: "Sequence[CandidateSummary]") -> "Table":
    """The candidates of a strategy as a table."""
    rows = [(entry.source, entry.steps, entry.selection, entry.tokens, entry.ended) for entry in candidates]
    return table(("candidate", "steps", "selection score", "text tokens", "ended"), rows)


def ranked(report: "TransferReport") -> "Table":
    """A ranking as a table, with what past transfers lead to expect where they ranked."""
    value = "right answer's probability" if report.rank_by == "as_is" else "similarity"
    rows = [[source.task, f"{source.similarity:.3f}"] for source in report.ranking]
    if not report.expected:
        return table(("source", value), rows)
    return table(
        ("source", value, "expected"),
        [[*row, f"{value:+.2f}"] for row, value in zip(rows, report.expected, strict=True)],
    )
