"""Folders of runs as training leaves them, written in a moment, for the commands that look through a cache."""

import os
import time
from pathlib import Path

from spot.storage.run_dir import RunDir
from spot.training.result import CurvePoint, RunResult, write_results


def write_run(
    folder: Path, *, digest: str = "12ab", rate: float = 0.1, score: float = 80.0, finished: bool = True
) -> Path:
    """A run of the task `reviews`, of 4 steps, whose best score is given; days old in the order of the calls."""
    with RunDir(folder) as run:
        run.create(f'task = "reviews.toml"\nbackbone = "/models/tiny"\nsteps = 4\nlearning_rate = {rate}\n', digest)
        points = [CurvePoint(step=step, score=score * (1 + step) / 5, tokens=10 * step) for step in (0, 2, 4)]
        for point in points if finished else points[:2]:
            run.log({"task": "reviews", "seed": 0, "step": point.step, "score": point.score, "tokens": point.tokens})
        if finished:
            scores = {"accuracy": score - 1}
            result = RunResult(
                task="reviews",
                digest=digest,
                scores=scores,
                frozen_scores={"accuracy": 50.0},
                step=4,
                steps=4,
                tokens=40,
                seconds=1.5,
                curve=tuple(points),
                diagnosis=("it looks odd",),
                reported="rows",
            )
            write_results(run, [result])
    (folder / "run.lock").write_text("999999999")  # of a process that is gone
    return folder


def grow_old(path: Path, days: float) -> None:
    """Have all that lies at a path be as old as this."""
    then = time.time() - 86400 * days
    for file in (path, *path.rglob("*")):
        os.utime(file, (then, then), follow_symlinks=False)
