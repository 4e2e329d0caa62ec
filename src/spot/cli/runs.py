"""`spot runs`: what the cache holds, what a run came to, how runs differ, and what may go."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spot.cli.completion import run_names
from spot.cli.options import Json, example
from spot.cli.output import emit, note, scores, table
from spot.rendering.tables import size_text

if TYPE_CHECKING:
    from rich.table import Table

    from spot.runs.gangs import Gang
    from spot.runs.listing import CacheEntry

app = typer.Typer(help="Look through the runs in the cache, compare them, and remove some.", no_args_is_help=True)

SHOWN_POINTS = 12  # of a curve, for people


RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="The beginning of its name, or the path of its folder.", autocompletion=run_names
    ),
]


@app.command("list", epilog=example("spot runs list"))
def list_runs(as_json: Json = False) -> None:
    """List what is in the cache, runs first, the latest first.

    The score is the best on selection rows, percent. Every run can be made again by the command that made it.
    """
    from spot.runs.listing import list_cache

    entries = list_cache()
    runs = [entry for entry in entries if entry.is_run]
    rows = [
        (
            entry.name,
            entry.kind,
            entry.task or "-",
            _short(entry.backbone),
            _steps(entry.step, entry.steps),
            entry.selection,
            entry.changed[:16].replace("T", " "),
            entry.state,
            size_text(entry.bytes),
        )
        for entry in runs
    ]
    stores = [
        (entry.name, size_text(entry.bytes), "yes" if entry.may_go else "no", entry.reason or entry.note)
        for entry in entries
        if not entry.is_run
    ]
    columns = ("run", "kind", "task", "backbone", "step", "selection", "changed, UTC", "state", "on disk")
    emit(
        [_entry_json(entry) for entry in entries],
        as_json,
        *([table(columns, rows)] if rows else ["no run is in the cache"]),
        *(f"damaged: {entry.name}: {entry.reason}" for entry in runs if entry.reason),
        *(["", table(("also in the cache", "on disk", "may go", "then"), stores)] if stores else []),
        "",
        f"{size_text(sum(entry.bytes for entry in entries))} in all; `spot runs remove` makes room",
    )


@app.command(epilog=example("spot runs show runs/reviews"))
def show(run: RunName, as_json: Json = False) -> None:
    """Show the settings, curve, scores, diagnosis and files of a run, or of all runs of a transfer."""
    from spot.runs.showing import show_run

    shown = show_run(run)
    parts: list[Any] = [f"{shown.path}"]
    for place, gang in shown.gangs.items():
        parts += ["", *_gang(place, gang)]
    parts += [f"damaged: {place}: {reason}" for place, reason in shown.damaged.items()]
    parts += ["", table(("file", "size"), [(name, size_text(size)) for name, size in shown.files.items()])]
    emit(shown.to_json(), as_json, *parts)


@app.command(epilog=example("spot runs compare runs/reviews ./transfer"))
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Two runs or more, or a transfer, as for show.", autocompletion=run_names
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show the settings in which runs differ, beside what they came to; of a transfer each run is one."""
    from dataclasses import asdict

    from spot.runs.comparison import compare_runs

    compared = compare_runs(runs)
    emit(
        asdict(compared),
        as_json,
        table(("setting", *compared.runs), [(key, *row) for key, row in compared.settings.items()])
        if compared.settings
        else "all settings are the same",
        "",
        table(("outcome", *compared.runs), [(key, *row) for key, row in compared.outcomes.items()]),
    )


@app.command(epilog=example("spot runs remove --unfinished --older 30d"))
def remove(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN...", help="Runs, or what else `list` says may go.", autocompletion=run_names),
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Runs that stopped before their end, diverged or are damaged.")
    ] = False,
    older: Annotated[
        str | None, typer.Option(metavar="AGE", help="Runs that last changed longer ago: 30d, 12h or 2w.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing; without it and a terminal nothing is removed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove runs and other things from the cache; says first what would go and how much that is.

    What another process works on stays, and so does everything outside the cache.
    """
    from spot.runs.removal import chosen_entries, remove_entries

    entries = chosen_entries(runs or (), unfinished=unfinished, older=older)
    size = size_text(sum(entry.bytes for entry in entries))
    rows = [
        (entry.name, entry.kind, entry.task or "-", entry.state or "-", size_text(entry.bytes)) for entry in entries
    ]
    what = table(("would go", "kind", "task", "state", "on disk"), rows)
    if entries and not yes and not as_json:
        emit(None, False, what)
        yes = sys.stdin.isatty() and typer.confirm(f"Remove {len(entries)} with {size}?", err=True)
    elif not as_json:
        emit(None, False, *([what] if entries else []))
    removed = remove_entries(entries) if yes else ()
    emit(
        {"chosen": [_entry_json(entry) for entry in entries], "removed": [str(entry.path) for entry in removed]},
        as_json,
        f"removed {len(removed)}, {size}" if removed else "nothing was removed",
    )
    if entries and not yes:
        note(f"{len(entries)} with {size} would go: give --yes to remove them")


def _gang(place: str, gang: "Gang") -> "list[str | Table]":
    """One gang for people."""
    title = "" if place == "." else f"{place}: "
    lines: list[str | Table] = [
        f"{title}{gang.task or '-'}, {gang.state}, step {_steps(gang.step, gang.steps)}, {gang.tokens:,.0f} text "
        f"tokens, {gang.seconds:.1f} s",
        f"scores: {scores(gang.scores)}  (without a prompt: {scores(gang.frozen_scores)}); "
        f"best on selection rows: {'-' if gang.selection is None else f'{gang.selection:.1f}'}",
        *(f"diagnosis: {line}" for line in gang.diagnosis),
    ]
    steps = sorted({step for curve in gang.curves for step, _ in curve})
    every = max(1, -(-len(steps) // SHOWN_POINTS))
    kept = [step for number, step in enumerate(steps) if number % every == 0 or number == len(steps) - 1]
    curves = [dict(curve) for curve in gang.curves]
    if curves:
        names = [f"run {number}" for number in range(len(curves))] if len(curves) > 1 else ["selection"]
        lines.append(table(("step", *names), [(step, *(curve.get(step) for curve in curves)) for step in kept]))
    for number, settings in enumerate(gang.settings):
        label = f"settings of run {number}: " if len(gang.settings) > 1 else "settings: "
        if number and len(gang.settings) > 1:
            settings = {key: value for key, value in settings.items() if value != gang.settings[0].get(key)}
            label = f"run {number} has: "
        lines.append(label + ", ".join(f"{key} = {value}" for key, value in settings.items()))
    return lines


def _entry_json(entry: "CacheEntry") -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(entry), "path": str(entry.path), "gangs": [str(path) for path in entry.gangs]}


def _steps(step: int, steps: int) -> str:
    return f"{step} of {steps}" if steps > step else str(step)


def _short(backbone: str) -> str:
    """A backbone for people: the last part of a path."""
    return Path(backbone).name if backbone.startswith(("/", "~", ".")) else backbone or "-"
