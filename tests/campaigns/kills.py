"""Kill commands at random moments and compare what they leave: `python -m tests.campaigns.kills --trials 200`.

A command is killed once to three times (SIGKILL, SIGTERM, SIGINT), then given again until it ends by itself. All that
it leaves must be what an undisturbed command leaves, byte for byte but for what a clock says, and nothing besides.
Commands are forked from this process, in which the slow imports are done, so that kills fall on the work.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM

from spot.cli import start
from tests.support.tiny_models import byte_tokenizer, tiny_config

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MOST_KILLS = 3  # of one command
LONGEST = 300  # seconds that a command may take
LOADED = ("spot.training.tuning", "spot.strategies.door", "spot.study.running", "spot.interchange", "rich.console")
LEFTOVERS = re.compile(r"(^|/)\.[^/]*")  # whatever begins with a dot was on its way to another name
SKIPPED = re.compile(r"\.lock$|(^|/)checkpoint$|(^|/)index\.sqlite|(^|/)cache/(fingerprints|probes)/|(^|/)plan\.json$")
CLOCK = re.compile("seconds|idle|made_at")  # keys of what a clock says
SETTINGS = ("batch_size=4", "eval_every=4", "checkpoint_every=4", "learning_rate=0.05", "length=3")
SET = [word for setting in SETTINGS for word in ("--set", setting)]
STUDY = """
name = "toy"
sources = ["red.toml", "green.toml"]
targets = ["blue.toml"]
seeds = 2
strategies = ["best", "average", "none"]
starts = ["vocabulary"]
k = [2]
[source]
steps = 24
length = 3
batch_size = 4
key_step = 8
eval_every = 8
checkpoint_every = 4
select_rows = 8
report_rows = 8
[target]
steps = 24
length = 3
batch_size = 4
eval_every = 8
checkpoint_every = 4
select_rows = 8
report_rows = 8
"""


@dataclass(frozen=True)
class Scenario:
    """A command that is killed.

    Attributes:
        words: of the command, in a folder that is a copy of the base.
        seconds: that it took undisturbed.
        whole: what it left then, by path.
    """

    words: tuple[str, ...]
    seconds: float = 0.0
    whole: dict[str, Any] | None = None


def scenarios(names: list[str] | None = None) -> dict[str, Scenario]:
    """The commands, by name."""
    tune = ["tune", "blue.toml", "--backbone", "model", "--out", "run", *SET]
    study = ["study", "run", "study.toml", "--set", "backbone=model"]
    transfer = ["transfer", "blue.toml", "--library", "library", "--backbone", "model", "--out", "runs"]
    known = {
        "tune": [*tune, "--steps", "60", "--set", "key_step=8"],
        "adafactor": [*tune, "--steps", "40", "--set", "optimiser=adafactor", "--set", "dropout=0.1"],
        "model": [*tune, "--steps", "12", "--method", "model", "--set", "learning_rate=0.001"],
        "study": study,
        "ray": [*study, "--executor", "ray"],
        "add": ["library", "add", "run-red", "--library", "other"],
        "transfer": [*transfer, "--steps", "16", "--seeds", "2", "--set", "eval_every=4"],
        # A time as budget would let the clock decide how many sources race.
        "race": [*transfer, *"--strategy race --steps 16 --seeds 1 --set eval_every=4 --budget 2.5x".split()],
        "export": ["export", "run-red", "--to", "peft", "--out", "peft"],
    }
    if find_spec("ray") is None:
        del known["ray"]
    return {name: Scenario(tuple(words)) for name, words in known.items() if names is None or name in names}


def make_base(folder: Path) -> None:
    """The files that all commands begin with: a tiny model, four tasks, two prompts and a library of them."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(tiny_config("llama")).save_pretrained(folder / "model")
    byte_tokenizer("llama").save_pretrained(folder / "model")
    for name in ("red", "green", "blue"):
        rows = "".join(f"the {name} row {n} is {('bad', 'fine')[n % 2]},{n % 2}\n" for n in range(60))
        (folder / f"{name}.csv").write_text(f"text,label\n{rows}")
        (folder / f"{name}.toml").write_text(f'name = "{name}"\nrows = "{name}.csv"\n')
    (folder / "study.toml").write_text(STUDY)
    for name in ("red", "green"):
        words = ["tune", f"{name}.toml", "--backbone", "model", "--out", f"run-{name}", "--steps", "12", *SET]
        run_through(folder, [*words, "--set", "key_step=8"])
        run_through(folder, ["library", "add", f"run-{name}", "--library", "library"])
    shutil.rmtree(folder / "cache", ignore_errors=True)


def begin(folder: Path, words: tuple[str, ...] | list[str]) -> int:
    """Fork a process that runs a command in a folder; its number."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        os.chdir(folder)
        os.environ["SPOT_CACHE"] = str(folder / "cache")
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for stream in (1, 2):
            os.dup2(log, stream)
        start.main(words)
    except SystemExit as stop:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(stop.code if isinstance(stop.code, int) else 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(99)
    os._exit(98)


def run_through(folder: Path, words: tuple[str, ...] | list[str]) -> float:
    """Run a command to its end; the seconds that it took.

    Raises:
        RuntimeError: it failed, or took too long.
    """
    began = time.monotonic()
    code = waited(begin(folder, words), LONGEST)
    if code != 0:
        said = Path(f"{folder}.log").read_text(errors="replace")[-1500:]
        raise RuntimeError(f"{' '.join(words)} ended with {code}: {said}")
    return time.monotonic() - began


def waited(child: int, seconds: float) -> int | None:
    """The exit code of a process that ends in time, negative for a signal; None of one that goes on, killed here."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def kill(folder: Path, scenario: Scenario, chance: random.Random) -> tuple[str, str]:
    """Begin a command and kill it at a random moment: what was done, and what is wrong with how it ended."""
    number = chance.choice(SIGNALS)
    moment = chance.uniform(0.0, 1.05) * scenario.seconds
    child = begin(folder, scenario.words)
    end = time.monotonic() + moment
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return "ended before", "" if code == 0 else f"ended by itself with {code}"
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
    code = waited(child, 60)
    expected = {start.INTERRUPTED if number == signal.SIGINT else -number, 0}
    if "ray" in scenario.words and number == signal.SIGTERM:
        expected |= {1, int(number)}  # Ray has a handler of its own, which ends its cluster first
    title = f"{number.name} at {moment:.2f} of {scenario.seconds:.2f} s"
    return title, "" if code in expected else f"ended with {code} after {number.name}"


def end_of_cluster(folder: Path) -> None:
    """Wait until the processes of a cluster that this folder's command began are gone; end those that stay."""
    for patience in (5.0, 0.0):
        end = time.monotonic() + patience
        while (others := list(_processes(folder))) and time.monotonic() < end:
            time.sleep(0.1)
        for process in others:
            with contextlib.suppress(psutil.Error):
                process.kill()


def _processes(folder: Path) -> Iterator[psutil.Process]:
    """Processes whose cache is in a folder, but for this one."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("SPOT_CACHE") == str(folder / "cache"):
                yield process


def left_in(folder: Path) -> dict[str, Any]:
    """All files of a folder, by path: JSON as values without what a clock says, the others as bytes."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not SKIPPED.search(name):
            files[name] = _content(path)
    return files


def _content(path: Path) -> Any:
    data = path.read_bytes()
    if path.suffix == ".json":
        return _timeless(json.loads(data))
    if path.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in data.splitlines()]
    return data


def _timeless(value: Any) -> Any:
    """A value without what a clock says."""
    if isinstance(value, dict):
        return {key: _timeless(part) for key, part in value.items() if not CLOCK.search(key)}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def differences(whole: dict[str, Any], left: dict[str, Any]) -> list[str]:
    """What a killed command left otherwise than an undisturbed one."""
    wrong = [f"{name} is missing" for name in whole.keys() - left.keys()]
    wrong += [f"{name} is left" for name in left.keys() - whole.keys()]
    wrong += [f"{name} stayed behind" for name in left if LEFTOVERS.search(name)]
    return wrong + [f"{name} differs" for name in whole.keys() & left.keys() if whole[name] != left[name]]


def trial(base: Path, work: Path, scenario: Scenario, chance: random.Random) -> tuple[int, list[str]]:
    """Kill a command once to three times, let it end, and compare; kills, and what is wrong."""
    folder = work / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    Path(f"{folder}.log").unlink(missing_ok=True)
    shutil.copytree(base, folder)
    done, wrong = [], []
    for _ in range(chance.randint(1, MOST_KILLS)):
        title, problem = kill(folder, scenario, chance)
        done.append(title)
        wrong += [problem] if problem else []
        if "ray" in scenario.words:
            end_of_cluster(folder)
    try:
        run_through(folder, scenario.words)
        assert scenario.whole is not None
        wrong += differences(scenario.whole, left_in(folder))
    except RuntimeError as error:
        wrong.append(str(error))
    said = Path(f"{folder}.log").read_text(errors="replace")
    wrong += ["a traceback"] if "Traceback" in said else []
    if "ray" in scenario.words:
        end_of_cluster(folder)
    return sum(title != "ended before" for title in done), [f"{done}: {problem}" for problem in wrong]


def run(
    kills: int, seed: int = 0, names: list[str] | None = None, say: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Kill commands so many times; what went wrong."""
    for module in LOADED:
        __import__(module)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    chance = random.Random(seed)
    failures: list[str] = []
    total = checks = 0
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        work = Path(temporary).resolve()
        base = work / "base"
        make_base(base)
        known = scenarios(names)
        ready: dict[str, Scenario] = {}
        while total < kills:
            name = chance.choice(list(known))
            if name not in ready:
                folder = work / "trial"  # where the trials are, so that paths are alike
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(base, folder)
                seconds = run_through(folder, known[name].words)
                end_of_cluster(folder)
                ready[name] = Scenario(known[name].words, seconds, left_in(folder))
            done, wrong = trial(base, work, ready[name], chance)
            total, checks = total + done, checks + 1
            failures += [f"{name}, trial {checks}: {problem}" for problem in wrong]
            say(f"{name}: {total} kills, {checks} checks, {len(failures)} failures {wrong or ''}")
    say(f"seed {seed}: {total} kills, {checks} checks of {', '.join(ready)}, {len(failures)} failures")
    return failures


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenario", action="append", help="one of them; may be given again")
    parser.add_argument("--no-cluster", action="store_true", help="none on Ray, which takes half a minute to begin")
    arguments = parser.parse_args()
    names = arguments.scenario or list(scenarios())
    names = [name for name in names if name != "ray"] if arguments.no_cluster else names
    failures = run(arguments.trials, arguments.seed, names, lambda line: print(line, file=sys.stderr, flush=True))
    for failure in failures:
        print(" | ".join(failure.splitlines()))
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
