"""`spot tasks`: the known tasks, and task files of one's own."""

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spot.cli.options import Data, Json, TaskName, example
from spot.cli.output import emit, table

if TYPE_CHECKING:
    from spot.tasks.base import Task

app = typer.Typer(help="List, show and check tasks; write a task file for rows of your own.", no_args_is_help=True)


def _plain(task: "Task") -> dict[str, Any]:
    """A task as plain values."""
    names = ("name", "title", "splits", "labels", "metrics", "revision")
    return {name: getattr(task, name) for name in names}


@app.command("list", epilog=example("spot tasks list"))
def list_tasks(as_json: Json = False) -> None:
    """List the tasks that are known by name."""
    from spot.tasks import registry

    known = [registry.get(name) for name in registry.names()]
    rows = [(task.name, len(task.labels) or None, ", ".join(task.metrics), task.title) for task in known]
    emit([_plain(task) for task in known], as_json, table(("task", "labels", "metrics", "what it is"), rows))


@app.command(epilog=example("spot tasks show reviews.toml -n 2"))
def show(
    task: TaskName,
    rows: Annotated[int, typer.Option("-n", "--rows", min=0, help="How many rows of each split to show.")] = 2,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show a task: its labels, splits and metrics, and its first rows as the model reads them."""
    from spot.tasks import registry

    found = registry.get(task, data)
    examples = {split: list(islice(found.load(split), rows)) for split in found.splits} if rows else {}
    value = {**_plain(found), "examples": {split: [asdict(row) for row in part] for split, part in examples.items()}}
    facts = [
        f"{found.name}: {found.title or 'no title'}",
        f"labels   {', '.join(found.labels) or 'none: open answers'}",
        f"metrics  {', '.join(found.metrics)}",
        f"splits   {', '.join(found.splits)}",
    ]
    shown = [(row.id, " | ".join(row.answers), row.inputs) for part in examples.values() for row in part]
    emit(value, as_json, *facts, *([table(("row", "answer", "input"), shown)] if shown else []))


@app.command(epilog=example("spot tasks check reviews.toml"))
def check(task: TaskName, data: Data = None, as_json: Json = False) -> None:
    """Read every row of a task and count labels, blank and repeated texts, and texts that splits share."""
    from spot.tasks import registry

    found = registry.get(task, data)
    checked = registry.check(found)
    columns = ("split", "rows", "blank", "repeated", "contradicting", "in other splits", "longest", "labels")
    rows = [
        (
            part.split, part.rows, part.blank, part.duplicates, part.conflicts, sum(part.shared.values()), part.longest,
            ", ".join(f"{label} {count}" for label, count in part.labels.items()) or None,
        )
        for part in checked
    ]  # fmt: skip
    value = {"task": found.name, "splits": [asdict(part) for part in checked]}
    emit(value, as_json, f"{found.name}: every row can be read; lengths are in characters", table(columns, rows))


@app.command(epilog=example("spot tasks init reviews.csv --out reviews.toml"))
def init(
    rows: Annotated[Path, typer.Argument(metavar="ROWS", help="CSV, TSV, JSON lines (each also .gz) or Arrow.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The task file; without it ROWS with .toml.")] = None,
    as_json: Json = False,
) -> None:
    """Write a commented task file for a file of rows, with guessed columns, labels and template."""
    from spot.tasks import files

    path = out or Path(str(rows).removesuffix(".gz")).with_suffix(".toml")
    text = files.init(rows, path)
    lines = (text, f"wrote {path}: look it through, then run", f"  spot tasks check {path}")
    emit({"path": str(path), "text": text}, as_json, *lines)
