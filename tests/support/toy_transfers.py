"""Settings of toy transfers, and what tests look up in their reports and folders."""

import json
from pathlib import Path
from typing import Any

from spot.config import TransferConfig
from spot.storage.run_dir import RunDir
from spot.strategies.arms import Arm
from spot.strategies.report import TransferReport
from spot.training.result import RunResult, read_results

STEPS = 8
CONFIG = TransferConfig(steps=STEPS, seeds=1, eval_every=2)
WORDS = ("red", "green", "blue")  # tasks of the sources


def arm(report: TransferReport, name: str) -> Arm:
    return next(entry for entry in report.arms if entry.arm == name)


def tokens_by(result: RunResult, step: int) -> float:
    return next(point.tokens for point in result.curve if point.step == step)


def results_in(folder: Path) -> tuple[RunResult, ...]:
    """The results of a finished run's folder."""
    results = read_results(RunDir(folder))
    assert results is not None, f"{folder} is not finished"
    return results


def timeless(report: TransferReport) -> Any:
    """The report as JSON, without what depends on the clock or the folder."""
    value = json.loads(json.dumps(report.to_json()))
    for entry in value["arms"]:
        del entry["seconds"], entry["seconds_to_plain"]
        for point in entry["curve"]:
            del point["seconds"]
    return {key: part for key, part in value.items() if key not in ("run", "prompt")}
