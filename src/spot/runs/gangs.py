"""Read the folder of a gang, finished or not: settings, learning curve, scores, and what looks wrong with it."""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spot.errors import RunError, StorageError
from spot.storage.opening import read_bounded
from spot.storage.run_dir import MOST_BYTES, RunDir
from spot.training.result import RunResult, read_results

FILES = ("config.toml", "log.jsonl", "checkpoint", "result.json")  # of a gang's folder, any of which tells it

State = str  # `finished`, `diverged`, `running`, `stopped`, `damaged`
Point = tuple[int, float]  # (step, percent)


@dataclass(frozen=True, kw_only=True)
class Gang:
    """What the folder of a gang says: one run, or several that trained together.

    Attributes:
        state: `finished`; `diverged`, in every run; `running`, by a process of this machine; or `stopped`.
        task: title of its task.
        settings: of each run.
        step: the last that was evaluated.
        steps: in all.
        selection: mean over the runs of their best scores on selection rows, percent; None before the first.
        scores: metric -> percent on the rows that chose nothing, mean over the runs; empty where none are scored.
        frozen_scores: the same without a prompt.
        tokens: text tokens trained, mean over the runs.
        seconds: of training, mean over the runs.
        curves: the curve of each run.
        diagnosis: what looks wrong, in words.
    """

    state: State
    task: str
    settings: tuple[Mapping[str, Any], ...]
    step: int = 0
    steps: int = 0
    selection: float | None = None
    scores: Mapping[str, float]
    frozen_scores: Mapping[str, float]
    tokens: float = 0.0
    seconds: float = 0.0
    curves: tuple[tuple[Point, ...], ...] = ()
    diagnosis: tuple[str, ...] = ()

    @property
    def backbone(self) -> str:
        """The frozen model's name."""
        return str(self.settings[0].get("backbone", "")) if self.settings else ""


def read_gang(folder: Path) -> Gang:
    """Read the folder of a gang; nothing in it changes.

    Raises:
        RunError: a file of it is damaged, or is none that a run wrote.
    """
    place = RunDir(folder)
    if place.digest() is None:
        raise RunError(
            f"{folder} has no config.toml that says of which run it is: a run that was begun, or half removed."
        )
    settings = read_settings(folder)
    results = read_results(place)
    if results is None:
        return _unfinished(folder, settings, place.read_log())
    reported = [result for result in results if result.reported]
    return Gang(
        state="diverged" if all(result.diverged for result in results) else "finished",
        task=results[0].task,
        settings=settings,
        step=max(result.curve[-1].step for result in results),
        steps=max(result.steps for result in results),
        selection=float(np.mean([result.best_score for result in results])),
        scores=_means([result.scores for result in reported]),
        frozen_scores=_means([result.frozen_scores for result in reported]),
        tokens=float(np.mean([result.tokens for result in results])),
        seconds=float(np.mean([result.seconds for result in results])),
        curves=tuple(tuple((point.step, point.score) for point in result.curve) for result in results),
        diagnosis=_diagnosis(results),
    )


def read_settings(folder: Path) -> tuple[dict[str, Any], ...]:
    """The settings of each run of a gang, as its `config.toml` has them.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / "config.toml"
    try:
        text = (read_bounded(path, MOST_BYTES, folder) or b"").decode()
        # A run's settings are keys without tables, and an empty line stands between two runs.
        return tuple(tomllib.loads(part) for part in text.split("\n\n") if part.strip())
    except StorageError as error:
        raise RunError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}. Remove the run and repeat it.") from error


def _unfinished(folder: Path, settings: tuple[dict[str, Any], ...], lines: Sequence[Mapping[str, Any]]) -> Gang:
    """What is known of a gang without a result, from its log."""
    curves = logged_curves(lines)
    spent: dict[str, dict[tuple[str, object], float]] = {"tokens": {}, "seconds": {}}
    for run, _, line in _evaluations(lines):
        for name, amounts in spent.items():
            amount = line.get(name)
            amounts[run] = float(amount) if isinstance(amount, int | float) else 0.0
    best = [max(score for _, score in curve) for curve in curves.values()]
    return Gang(
        state="running" if is_held(folder) else "stopped",
        task=next(iter(curves), (str(settings[0].get("task", "")) if settings else "", None))[0],
        settings=settings,
        step=max((curve[-1][0] for curve in curves.values()), default=0),
        steps=max((part["steps"] for part in settings if isinstance(part.get("steps"), int)), default=0),
        selection=float(np.mean(best)) if best else None,
        scores={},
        frozen_scores={},
        tokens=_mean(spent["tokens"].values()),
        seconds=_mean(spent["seconds"].values()),
        curves=tuple(tuple(curve) for curve in curves.values()),
    )


def logged_curves(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[str, object], list[Point]]:
    """The curves of runs that are not finished, by task and seed.

    Args:
        lines: of the log of their folder.
    """
    curves: dict[tuple[str, object], list[Point]] = {}
    for run, point, _ in _evaluations(lines):
        curves.setdefault(run, []).append(point)
    return curves


def _evaluations(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[tuple[str, object], Point, Mapping[str, Any]]]:
    """The lines of a log that are evaluations: task and seed of the run, step and score, and the line itself."""
    for line in lines:
        step, score = line.get("step"), line.get("score")
        if isinstance(step, int) and isinstance(score, int | float) and not isinstance(score, bool):
            yield (str(line.get("task", "")), line.get("seed")), (step, float(score)), line


def is_held(folder: Path) -> bool:
    """Whether the process that last took a folder for writing is still there, by the number in its lock file.

    Nothing is locked to find out: a run that begins at that very moment would be refused.
    """
    try:
        content = read_bounded(folder / "run.lock", 20, folder) or b""
        os.kill(int(content), 0)
    except (StorageError, ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return int(content) > 0


def _means(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric that all have."""
    shared = [name for name in parts[0] if all(name in part for part in parts)] if parts else []
    return {name: float(np.mean([part[name] for part in parts])) for name in shared}


def _mean(values: Any) -> float:
    numbers = list(values)
    return float(np.mean(numbers)) if numbers else 0.0


def _diagnosis(results: Sequence[RunResult]) -> tuple[str, ...]:
    """What looks wrong with any of the runs, each sentence once."""
    lines = [line for result in results for line in (*result.diagnosis, *filter(None, [result.diverged]))]
    return tuple(dict.fromkeys(lines))
