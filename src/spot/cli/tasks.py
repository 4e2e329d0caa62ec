"""`spot tasks`: the known tasks, and task files of one's own."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spot.cli.options import (
    Data,
    Delimiter,
    Encoding,
    FileKind,
    HasHeader,
    Json,
    MaxRatio,
    MaxRow,
    Quotes,
    Sheet,
    TaskName,
    example,
    file_format,
)
from spot.cli.output import emit, progress, table
from spot.errors import TaskError
from spot.storage.text import printable

if TYPE_CHECKING:
    from spot.tasks.task import Task

CountingBackbone = Annotated[
    str | None,
    typer.Option("--backbone", metavar="NAME", help="Count tokens as this model does: embedded, a folder or a hub id."),
]
Prefix = Annotated[bool, typer.Option("--prefix", help="Put the task's name in front of each input, as T5 does.")]

app = typer.Typer(help="List, show and check tasks; write a task file for rows of your own.", no_args_is_help=True)


def _plain(task: "Task") -> dict[str, Any]:
    """A task as plain values."""
    names = ("name", "title", "splits", "labels", "metrics", "revision", "instruction")
    return {name: getattr(task, name) for name in names}


@app.command("list", epilog=example("spot tasks list"))
def list_tasks(as_json: Json = False) -> None:
    """List the tasks that are known by name."""
    from spot.tasks import registry

    tasks = [registry.get(name) for name in registry.names()]
    rows = [(task.name, len(task.labels) or None, ", ".join(task.metrics), task.title) for task in tasks]
    emit([_plain(task) for task in tasks], as_json, table(("task", "labels", "metrics", "what it is"), rows))


@app.command(epilog=example("spot tasks show reviews.toml -n 2", "spot tasks show reviews.toml --backbone embedded"))
def show(
    task: TaskName,
    rows: Annotated[int, typer.Option("-n", "--rows", min=0, help="How many rows of each split to show.")] = 2,
    backbone: CountingBackbone = None,
    prefix: Prefix = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show a task: its labels, splits and metrics, and its first rows: raw, as the model reads them, and its answers.

    With --backbone the tokens of inputs and targets are counted.
    """
    from spot.tasks import registry

    chosen = registry.get(task, data, prefix)
    examples = {split: [] for split in chosen.splits if rows}
    shown = [
        (split, raw, row) for split in examples for raw, row in islice(registry.paired(task, data, split, prefix), rows)
    ]
    for split, raw, row in shown:
        examples[split].append({**asdict(row), "raw": raw})
    if backbone is not None and shown:
        from spot.collator import collator_named

        encoded = iter(collator_named(backbone, chosen).encode([row for *_, row in shown]))
        for value in (value for part in examples.values() for value in part):
            row = next(encoded)
            value["input_tokens"], value["target_tokens"] = len(row.input_ids), len(row.target_ids)
    value = {**_plain(chosen), "examples": examples}
    facts = [
        f"{chosen.name}: {chosen.title or 'no title'}",
        f"labels   {', '.join(chosen.labels) or 'none: open answers'}",
        f"asked    {printable(chosen.instruction) or 'nothing is said: no instruction'}",
        f"metrics  {', '.join(chosen.metrics)}",
        f"splits   {', '.join(chosen.splits)}",
    ]
    emit(value, as_json, *facts, *(_block(example) for part in examples.values() for example in part))


def _block(value: Mapping[str, Any]) -> str:
    """One example for people."""
    counts = ("input_tokens", "target_tokens")
    tokens = [f"tokens   {value[counts[0]]} in, {value[counts[1]]} out"] if counts[0] in value else []
    answers = [f"answer   {answer}" for answer in value["answers"]]
    raw = json.dumps(value["raw"], ensure_ascii=False)
    return "\n".join(["", value["id"], f"raw      {raw}", f"input    {value['inputs']}", *answers, *tokens])


@app.command(epilog=example("spot tasks stats reviews.toml", "spot tasks stats reviews.toml --max-input-tokens 64"))
def stats(
    task: TaskName,
    backbone: CountingBackbone = None,
    limit: Annotated[
        int | None, typer.Option("--max-input-tokens", min=1, help="Inputs beyond this many tokens would be cut.")
    ] = None,
    prefix: Prefix = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Count the rows, labels and tokens of every split, and the share of the inputs that would be cut."""
    from spot.tasks import registry

    chosen = registry.get(task, data, prefix)
    limit = limit or chosen.reading.max_input_tokens
    with progress(f"counting {chosen.name}"):
        from spot.collator import collator_named, split_lengths

        collator = collator_named(backbone or "embedded", chosen, limit)
        counted = [split_lengths(chosen, split, collator) for split in chosen.splits]
    columns = (
        "split",
        "rows",
        "input tokens: 5 %",
        "50 %",
        "95 %",
        "most",
        "target tokens: most",
        f"over {limit}, %",
        "labels",
    )
    rows = [
        (
            part.split,
            part.rows,
            *map(round, part.inputs),
            round(part.targets[-1]),
            part.cut,
            ", ".join(f"{label} {count}" for label, count in part.labels.items()) or None,
        )
        for part in counted
    ]
    value = {"task": chosen.name, "max_input_tokens": limit, "splits": [asdict(part) for part in counted]}
    emit(value, as_json, table(columns, rows))


@app.command(epilog=example("spot tasks check reviews.toml"))
def check(task: TaskName, data: Data = None, as_json: Json = False) -> None:
    """Read every row of a task and count labels, blank and repeated texts, and texts that splits share.

    How its files are read is said, and which rows have no label. It ends with 2 where the input tells the answer.
    """
    from spot.tasks import registry
    from spot.tasks.checks import check_task, faults_of

    chosen = registry.get(task, data)
    checked = check_task(chosen)
    faults = faults_of(chosen)
    words = registry.read_words(task)
    columns = ("split", "rows", "blank", "repeated", "contradicting", "in other splits", "longest", "labels")
    rows = [
        (
            part.split,
            part.rows,
            part.blank,
            part.duplicates,
            part.conflicts,
            sum(part.shared.values()),
            part.longest,
            ", ".join(f"{label} {count}" for label, count in part.labels.items()) or None,
        )
        for part in checked
    ]
    value = {"task": chosen.name, "splits": [asdict(part) for part in checked], "files": words, "faults": faults}
    head = f"{chosen.name}: every row can be read; lengths are in characters"
    emit(value, as_json, *words, head, table(columns, rows))
    if faults:
        raise TaskError(f"{task}: {'; '.join(faults)}. Take it out of the input.")


@app.command(epilog=example("spot tasks init reviews.csv --out reviews.toml"))
def init(
    rows: Annotated[
        Path,
        typer.Argument(
            metavar="ROWS",
            help="CSV, TSV, JSON, Excel, Parquet or Arrow, also packed (.gz .bz2 .xz .zst .zip), or a saved data set.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The task file; without it ROWS with .toml.")] = None,
    kind: FileKind = "",
    encoding: Encoding = "",
    delimiter: Delimiter = "",
    quotes: Quotes = None,
    header: HasHeader = None,
    sheet: Sheet = "",
    max_row: MaxRow = None,
    max_ratio: MaxRatio = None,
    as_json: Json = False,
) -> None:
    """Write a commented task file for a file of rows, with guessed columns, labels and template.

    How the file is read is seen in all of it and written down: encoding, delimiter, quotation marks, header.
    """
    from spot.tasks import scaffold

    path = out or scaffold.usual_path(rows)
    given = file_format(kind, encoding, delimiter, quotes, header, sheet, max_row, max_ratio)
    text = scaffold.init(rows, path, given)
    lines = (text, f"wrote {path}: look it through, then run", f"  spot tasks check {path}")
    emit({"path": str(path), "text": text}, as_json, *lines)
