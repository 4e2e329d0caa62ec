"""Compare runs: the settings in which they differ, beside what they came to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spot.errors import RunError
from spot.runs.gangs import Gang, read_gang
from spot.runs.listing import gang_folders
from spot.runs.showing import run_folder

Value = str | float | int | None


@dataclass(frozen=True, kw_only=True)
class ComparedRuns:
    """Runs side by side.

    Attributes:
        runs: names, those of their folders; of a gang below a transfer with that of the transfer.
        settings: setting -> its value in each run, in their order, where not all have the same; None where a run has
            no such setting.
        outcomes: measure -> its value in each run; None where it is not known.
    """

    runs: tuple[str, ...]
    settings: Mapping[str, tuple[Value, ...]]
    outcomes: Mapping[str, tuple[Value, ...]]


def compare_runs(names: Sequence[str]) -> ComparedRuns:
    """Put runs side by side; of a transfer each of its gangs is one.

    Args:
        names: two or more, or a single transfer, as `show_run` takes them.

    Raises:
        RunError: there is no such run, one is damaged, or there is only one.
    """
    gangs: dict[str, Gang] = {}
    for name in names:
        path = run_folder(name)
        for folder in gang_folders(path):
            gangs[_title(path, folder)] = read_gang(folder)
    if len(gangs) < 2:
        raise RunError(f"{len(gangs)} run in {', '.join(names)}: expected two or more to compare. Name another.")
    settings = [_settings(gang) for gang in gangs.values()]
    keys = list(dict.fromkeys(key for each in settings for key in each))
    values = {key: tuple(each.get(key) for each in settings) for key in keys}
    return ComparedRuns(
        runs=tuple(gangs),
        settings={key: row for key, row in values.items() if len(set(map(repr, row))) > 1},
        outcomes=_outcomes(list(gangs.values())),
    )


def _title(path: Path, folder: Path) -> str:
    return path.name if folder == path else f"{path.name}/{folder.relative_to(path)}"


def _settings(gang: Gang) -> dict[str, Value]:
    """The settings of a gang; one in which its runs differ has all their values, with commas between."""
    keys = list(dict.fromkeys(key for part in gang.settings for key in part))
    shown: dict[str, Value] = {}
    for key in keys:
        values = list(dict.fromkeys(_plain(part.get(key)) for part in gang.settings))
        shown[key] = values[0] if len(values) == 1 else ", ".join(map(str, values))
    return shown


def _plain(value: Any) -> Value:
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def _outcomes(gangs: Sequence[Gang]) -> dict[str, tuple[Value, ...]]:
    """What each gang came to."""
    metrics = list(dict.fromkeys(metric for gang in gangs for metric in gang.scores))
    return {
        "state": tuple(gang.state for gang in gangs),
        "selection": tuple(gang.selection for gang in gangs),
        **{metric: tuple(gang.scores.get(metric) for gang in gangs) for metric in metrics},
        **{f"{metric}, no prompt": tuple(gang.frozen_scores.get(metric) for gang in gangs) for metric in metrics},
        "step": tuple(gang.step for gang in gangs),
        "tokens": tuple(round(gang.tokens) for gang in gangs),
        "seconds": tuple(round(gang.seconds, 1) for gang in gangs),
        "diagnosis": tuple("; ".join(gang.diagnosis) or None for gang in gangs),
    }
