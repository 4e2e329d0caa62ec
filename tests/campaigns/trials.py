"""Run trials of a campaign: what leaves a reader or a command is watched, and so are its time and the user's files."""

import argparse
import contextlib
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from spot.cli.app import main as spot
from spot.errors import SpotError

SECONDS = 10  # that one act may take


@dataclass(frozen=True)
class Failure:
    """What went wrong in a trial; campaign, seed and trial make it again."""

    trial: int
    mutation: str
    act: str
    what: str


@dataclass(frozen=True)
class Outcome:
    """What an act came to.

    Attributes:
        value: what it returned; None where it refused.
        refusal: the message of a refusal, or None.
        fault: what should never happen: an exception that is not ours, or too long a time.
    """

    value: object = None
    refusal: str | None = None
    fault: str | None = None


class TooLong(BaseException):
    """An act takes longer than `SECONDS`; no handler for exceptions catches it."""


def watch(act: Callable[[], object]) -> Outcome:
    """Do something that may refuse with an error of ours and nothing else, in time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # warnings are not what is looked for
            return Outcome(value=act())
    except SpotError as error:
        return Outcome(refusal=str(error))
    except TooLong:
        return Outcome(fault=f"more than {SECONDS} s: {traceback.format_exc(limit=-3)}")
    except BaseException:
        return Outcome(fault=traceback.format_exc(limit=-4))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def command(*words: object) -> Outcome:
    """One command in this process; exit codes are 0 and 2, and nothing that it prints is a control character."""
    out, err = io.StringIO(), io.StringIO()

    def act() -> str:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                spot([str(word) for word in words])
            except SystemExit as stop:
                if stop.code not in (0, None, 2):
                    raise RuntimeError(f"exit code {stop.code}: {err.getvalue()}") from stop
        printed = out.getvalue() + err.getvalue()
        if any((ord(letter) < 32 and letter not in "\n\t") or letter in "\x7f\x9b\u202e" for letter in printed):
            raise RuntimeError(f"control characters are printed: {printed!r:.300}")
        printed.encode()
        return out.getvalue()

    return watch(act)


@contextlib.contextmanager
def quiet_cache() -> Iterator[Path]:
    """A folder for everything, with a cache of its own, in whose `precious` are files that no trial may change."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = os.environ.get("SPOT_CACHE")
        os.environ["SPOT_CACHE"] = str(folder / "cache")
        try:
            yield folder
        finally:
            if before is None:
                del os.environ["SPOT_CACHE"]
            else:
                os.environ["SPOT_CACHE"] = before


def state(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


Campaign = Callable[[random.Random, Path, int], Sequence[Failure]]


def run(campaign: Callable[[Path], Campaign], trials: int, seed: int) -> Iterator[Failure]:
    """Failures of a number of trials, as they come.

    Args:
        campaign: from a folder to what runs one trial there, after making what trials begin with.
        trials: how many.
        seed: of the first; trial n of seed s is the same wherever it begins.
    """
    with quiet_cache() as folder:
        trial_of = campaign(folder)
        for trial in range(trials):
            yield from trial_of(random.Random(f"{seed}.{trial}"), folder, trial)


def main(name: str, campaign: Callable[[Path], Campaign]) -> None:
    """Run a campaign from the command line: each failure is one line of JSON; exit code 1 where there is one."""
    parser = argparse.ArgumentParser(description=f"Fuzz {name}.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    count = 0
    for count, failure in enumerate(run(campaign, options.trials, options.seed), start=1):
        print(json.dumps({"campaign": name, "seed": options.seed, **asdict(failure)}), flush=True)
    seconds = time.monotonic() - began
    print(f"{name}: {count} failures in {options.trials} trials, {seconds:.0f} s", file=sys.stderr)
    raise SystemExit(count > 0)
