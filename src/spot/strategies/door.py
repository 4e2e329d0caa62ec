"""Start a task from the right prompt of a library, and say whether that helped: `transfer`."""

from os import PathLike
from pathlib import Path
from typing import Any

from spot.config import REPORT_ROWS, SELECT_ROWS, TransferConfig, check_count, check_kind, make_config
from spot.errors import TaskError
from spot.evaluation.predictions import Progress
from spot.library.library import PACKAGED, Library, open_library
from spot.models.backbone import Backbone
from spot.strategies.report import TransferReport
from spot.strategies.transfers import transfer_rows
from spot.tasks import registry
from spot.tasks.splits import LazyRows, Splits, split_rows
from spot.tasks.task import Task
from spot.training.door import check_call


def transfer(
    task: Task | str,
    backbone: Backbone | str,
    *,
    library: Library | Path | str = PACKAGED,
    rows: Splits | None = None,
    train_rows: int | None = None,
    select_rows: int = SELECT_ROWS,
    report_rows: int | None = None,
    rows_seed: int = 0,
    data: Path | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> TransferReport:
    """Tune a task from scratch and from the library at equal steps, and compare on rows that chose nothing.

    What is known on the way, such as the ranking and each arm's score on selection rows, goes to the log at once
    (`logging`, level INFO, below `spot.strategies`).

    Args:
        task: the target, or the name of a known task, or the path of a task file.
        backbone: the library's backbone, or its name.
        library: source prompts, by a folder or `packaged`; remembers what was found.
        rows: which rows train, select and report; left out: as `split_rows` decides by the four arguments below.
        train_rows: rows to train on; None for all.
        select_rows: rows that make every choice.
        report_rows: most rows of the reported scores, which choose nothing; None for 400, or fewer where the budget
            holds no more.
        rows_seed: of the choice of rows.
        data: where the rows of known data sets are.
        out: folder of all runs; in the user's cache when left out.
        progress: called after every step.
        settings: of `TransferConfig`, by name, such as `strategy="race"` or `instead=("tfidf", "probe")`.

    Returns:
        The report: `prompt`, `verdict`, `advice`, `arms`, `save`.

    Raises:
        ConfigError: an argument is of another kind, a setting is unknown or out of its bounds, or the library or the
            budget does not hold the strategy.
        MissingExtra: an arm of `instead` needs a package that is not installed.
        LibraryError: no prompt of the library can start this task, or their keys cannot be compared.
        RunError: every plain run or every candidate diverged.
        TaskError: the task is unknown, has too few rows, or a source has seen all that select or report.
    """
    check_call(rows=rows, data=data, out=out, progress=progress)
    check_kind("task", task, (Task, str), "a task (Task.from_rows makes one), or the name of one")
    check_kind("library", library, (Library, str, PathLike), "a library, or its folder")
    for name, count in (("train_rows", train_rows), ("select_rows", select_rows), ("report_rows", report_rows)):
        check_count(name, count, 1, or_none=name != "select_rows")
    check_count("rows_seed", rows_seed, 0)
    if rows is not None and not isinstance(rows.report, LazyRows) and not rows.report:
        raise TaskError("rows.report is empty; expected rows that chose nothing: a transfer reports on them")
    config = make_config(TransferConfig, {**settings, **({} if report_rows is None else {"report_rows": report_rows})})
    opened = library if isinstance(library, Library) else open_library(library)
    opened.require_recipe()
    data = None if data is None else Path(data)
    target = task if isinstance(task, Task) else registry.get(task, data)
    splits = (
        rows if rows is not None else split_rows(target, train_rows, select_rows, report_rows or REPORT_ROWS, rows_seed)
    )
    folder = Path(out) if out is not None else None
    model = Backbone.of(backbone)
    return transfer_rows(target, splits, model, opened, config, out=folder, progress=progress, data=data)
