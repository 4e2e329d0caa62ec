"""How the tests kill a run: at random moments, and again, until it has ended by itself."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spot.storage.run_dir import RunDir


def run_killed(command: Sequence[str], folder: Path, whole: Path, times: int) -> None:
    """Run a command that writes the run of `folder`, killed with SIGKILL at random moments of its work.

    How far a run is is read from its log, so that a fast machine is killed as often as a slow one.

    Args:
        command: starts the run, or goes on with it.
        folder: of the run.
        whole: folder of the same run that was left alone.
        times: how often it is killed.
    """
    random = np.random.default_rng(time.time_ns())
    moments = np.sort(random.uniform(0.0, 0.75, times)) * (whole / "log.jsonl").stat().st_size  # bytes of log
    log = folder / "log.jsonl"
    for moment in moments:
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
            while child.poll() is None and (not log.exists() or log.stat().st_size <= moment):
                time.sleep(0.001)
            time.sleep(float(random.uniform(0.0, 0.02)))
            child.kill()
        assert RunDir(folder).result() is None, "the run ended before it was killed"
    subprocess.run(command, check=True, capture_output=True)
