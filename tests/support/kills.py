"""How the tests kill a run: at random moments, and again, until it has ended by itself.

The processes are forked from one that has done the slow imports, so that each of them costs its own work alone.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from spot.storage.run_dir import RunDir

ROOT = Path(__file__).resolve().parents[2]
# Reads a folder a line, forks a process that works on it, tells its number and, when it has ended, its exit code.
PARENT = """
import os, sys
exec(sys.argv[1])
for line in sys.stdin:
    child = os.fork()
    if not child:
        work(line.rstrip("\\n"), *sys.argv[2:])
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def parent_of(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that has run `code`, which imports what is needed and defines `work(folder, *arguments)`."""
    command = [sys.executable, "-c", PARENT, code, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as parent:
        yield parent
        assert parent.stdin is not None
        parent.stdin.close()


def answer(parent: subprocess.Popen[str]) -> int:
    """The next number that the parent tells."""
    assert parent.stdout is not None
    return int(parent.stdout.readline())


def begin(parent: subprocess.Popen[str], folder: Path) -> int:
    """Have a process forked that works on a folder; its number."""
    assert parent.stdin is not None
    parent.stdin.write(f"{folder}\n")
    parent.stdin.flush()
    return answer(parent)


def run_killed(parent: subprocess.Popen[str], folder: Path, whole: Path, times: int) -> None:
    """Have two folders worked on: `whole` undisturbed, `folder` killed with SIGKILL at random moments of the work.

    How far a run is is read from its log, so that a fast machine is killed as often as a slow one.

    Args:
        parent: forks the processes.
        folder: of the run that is killed.
        whole: of the same run that is left alone.
        times: how often it is killed.
    """
    begin(parent, whole)
    assert answer(parent) == 0
    random = np.random.default_rng(time.time_ns())
    moments = np.sort(random.uniform(0.0, 0.75, times)) * (whole / "log.jsonl").stat().st_size  # bytes of log
    log = folder / "log.jsonl"
    for moment in moments:
        child = psutil.Process(begin(parent, folder))
        while child.is_running() and (not log.exists() or log.stat().st_size <= moment):
            time.sleep(0.001)
        time.sleep(float(random.uniform(0.0, 0.02)))
        child.kill()
        assert answer(parent) == -9, "the run ended before it was killed"
        assert RunDir(folder).result() is None
    begin(parent, folder)
    assert answer(parent) == 0
