"""Damage records, study files, run folders and PEFT folders: `python -m tests.campaigns.records --trials 1500`.

Each trial changes one file and reads it by the calls that a command makes. It fails by any exception that is no
`SpotError`, by 10 seconds without an answer, and by a wrong value that is taken without a word: a record that is not
its cell, another prompt than an undisturbed run's, vectors that no file holds.
"""

import argparse
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from spot.errors import SpotError
from spot.interchange import export_npy, export_peft, import_npy, import_peft
from spot.models.backbone import Backbone
from spot.prompts.prompt import save, to_bytes
from spot.study.cells import StudyPlan, finished_cells, read_plan
from spot.study.report import page
from spot.study.status import study_status
from spot.study.teaching import lessons
from spot.training.model_tuning import tune_model_run
from spot.training.tuning import tune_runs
from tests.support.prompts import tiny_id, tiny_prompt
from tests.support.small_studies import STUDY, MadeUpWorker, plan_small_study, write_tasks
from tests.support.tiny_models import byte_tokenizer, tiny_config
from tests.support.toy_runs import Stopped, stopping_at, toy_run

LONGEST = 10.0  # seconds of a trial
OTHER_KINDS: tuple[Any, ...] = (None, True, "x", "12", [], [[]], {}, {"a": 1}, 1.5, [1, 2], "\ud800", "\x1b[2J", "")
NUMBERS: tuple[Any, ...] = (-1, 1e9, -1e9, 1e300, 2**70, 10**400, float("nan"), float("inf"), -float("inf"))
TOML = (
    '"x"', "-1", "0", "true", "nan", "inf", "1e400", "[]", "{}", "[[1]]", '[""]', '"\\u0000"', '"a\\u001b"',
    '["~zzz9/x"]', '["/dev/zero"]', '["cr", "cr"]', '["mixture:x"]', '["packaged:x"]', "1979-05-27", "[1.5]",
    '{steps = "x"}', "{steps = []}", "{length = 99999999999}", '{init = "nope"}', f'"{"a" * 300}"', 
    f'["{"a/" * 3000}"]',
)  # fmt: skip


class Hanging(BaseException):
    """A trial gave no answer in time."""


@dataclass(frozen=True)
class Field:
    """A subject of trials.

    Attributes:
        damage: changes something in a copy of the base; says what.
        read: reads it as commands do; says what is wrong with an answer, or nothing.
    """

    damage: Callable[[Path, random.Random], str]
    read: Callable[[Path], str]


def damaged(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Some bytes with one thing changed."""
    place = chance.randrange(len(data) + 1)
    match chance.randrange(9):
        case 0 if data:
            content = bytearray(data)
            content[place % len(data)] ^= 1 << chance.randrange(8)
            return f"bit at {place}", bytes(content)
        case 1:
            return f"cut at {place}", data[:place]
        case 2:
            more = chance.randbytes(chance.randint(1, 40))
            return f"{more!r} at {place}", data[:place] + more + data[place:]
        case 3:
            return f"zeros from {place}", data[:place] + b"\0" * (len(data) - place)
        case 4:
            return "nothing", b""
        case 5:
            return "garbage", chance.randbytes(chance.randint(1, 3000))
        case 6:
            return "twice", data + data
        case 7:
            return "deep", chance.choice([b"[", b'{"a":', b"[{}, "]) * chance.choice([100, 5000, 200_000])
        case _:
            other = data.replace(b"0", chance.choice([b"", b"-0", b"1e999", b"00", b"\xff"]), 1)
            return "another digit", other


def changed_json(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """A JSON document with one value changed, missing, or of another kind."""
    value = json.loads(data)
    places = list(_places(value))
    path = chance.choice(places)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    old = holder[path[-1]]
    match chance.randrange(6):
        case 0:
            del holder[path[-1]]
            return f"{path} is missing", json.dumps(value).encode()
        case 1 if isinstance(old, int | float):
            holder[path[-1]] = chance.choice(NUMBERS)
        case 2:
            text = json.dumps(value)
            deep = "[" * 3000 + "]" * 3000
            holder[path[-1]] = "DEEP"
            return f"{path} is deep", json.dumps(value).replace('"DEEP"', deep).encode() or text.encode()
        case _:
            holder[path[-1]] = chance.choice(OTHER_KINDS)
    return f"{path} from {old!r:.30} to {holder[path[-1]]!r:.30}", json.dumps(value).encode()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of a document stand."""
    if path:
        yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _places(part, (*path, key))


def replaced(path: Path, chance: random.Random) -> str:
    """Put something in the place of a file that is no file, or leads elsewhere."""
    path.unlink(missing_ok=True)
    kind = chance.choice(["FIFO", "folder", "link", "link to itself", "device", "endless", "not readable"])
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("/etc/hostname")
        case "link to itself":
            path.symlink_to(path.name)
        case "device":
            path.symlink_to("/dev/zero")
        case "endless":
            path.touch()
            os.truncate(path, 10**12)
        case _:
            path.symlink_to("/nowhere/at/all")
    return f"{path.name} is a {kind}"


def change_file(path: Path, chance: random.Random, is_json: bool) -> str:
    """Damage one file."""
    way = chance.random()
    if way < 0.1:
        return replaced(path, chance)
    change = changed_json if is_json and way < 0.7 else damaged
    title, data = change(path.read_bytes(), chance)
    path.write_bytes(data)
    return f"{path.name}: {title}"


# Records of a study.


def make_study(folder: Path) -> StudyPlan:
    """A study whose cells all have a record."""
    folder.mkdir()
    write_tasks(folder)
    plan = plan_small_study(folder)
    MadeUpWorker().run(plan)
    return plan


class Records:
    """The records of a small study."""

    def __init__(self, base: Path):
        """Make the study, and remember what each record says."""
        self.plan = make_study(base)
        self.whole = finished_cells(self.plan).records
        assert len(self.whole) == len(self.plan.cells)

    def damage(self, folder: Path, chance: random.Random) -> str:
        paths = sorted((folder / "studies" / "toy" / "cells").iterdir())
        path = chance.choice(paths)
        if chance.random() < 0.1:
            other = chance.choice([other for other in paths if other != path])
            path.write_bytes(other.read_bytes())
            return f"{path.name} is another cell's"
        return change_file(path, chance, is_json=True)

    def read(self, folder: Path) -> str:
        plan = read_plan(folder / "study.toml")
        cells = finished_cells(plan)
        status = study_status(plan)
        if len(cells.records) + len(cells.wrong) + self._missing(folder) < len(plan.cells):
            return "a record is neither there nor said to be wrong"
        if sum(kind.missing for kind in status.kinds.values()) != len(plan.cells) - len(cells.records):
            return "status counts otherwise"
        for digest, record in cells.records.items():
            whole = self.whole[digest]
            for name in ("kind", "task", "seed", "sources", "start", "init_seed", "k", "needs"):
                if getattr(record, name) != getattr(whole, name):
                    return f"{name} of a record is {getattr(record, name)!r}, and its cell's {getattr(whole, name)!r}"
            if not (-101 < record.score < 101 or record.reason):
                return f"a score of {record.score}"
        config = plan.study.config
        records = list(cells.records.values())
        page.write_report("toy", records, folder / "out", strategies=["best"], ks=[1], metric=config.metric)
        lessons(plan, records, set())
        return ""

    def _missing(self, folder: Path) -> int:
        there = {path.stem for path in (folder / "studies" / "toy" / "cells").iterdir()}
        return len(self.whole.keys() - there)


# Study files.


def damage_study_file(folder: Path, chance: random.Random) -> str:
    path = folder / "study.toml"
    if chance.random() < 0.4:
        return change_file(path, chance, is_json=False)
    keys = ["name", "backbone", "sources", "targets", "seeds", "starts", "restarts", "strategies", "k", "metric"]
    keys += ["models", "model_mixture", "out", "zzz"]
    key, value = chance.choice(keys), chance.choice(TOML)
    lines = [line for line in STUDY.splitlines() if not line.startswith(f"{key} ")]
    if chance.random() < 0.3:
        table = chance.choice(["[source]", "[target]"])
        setting = chance.choice(["steps", "length", "init", "key_step", "batch_size", "dropout", "optimiser", "task"])
        lines = [line for line in lines if not line.startswith(f"{setting} ")]
        lines.insert(lines.index(table) + 1, f"{setting} = {value}")
    else:
        lines.insert(0, f"{key} = {value}")
    path.write_text("\n".join(lines))
    return f"{key} = {value[:40]}"


def read_study_file(folder: Path) -> str:
    plan = read_plan(folder / "study.toml")
    study_status(plan)
    return "" if plan.cells else "a plan without cells"


# Folders of runs.


class Runs:
    """A run folder, finished or on the way, of a prompt or of a model; and what an undisturbed run leaves."""

    def __init__(self, base: Path, method: str, is_finished: bool):
        """Make the folder."""
        self.is_model = method == "model"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(tiny_config("llama")).save_pretrained(base / "backbone")
        byte_tokenizer("llama").save_pretrained(base / "backbone")
        self.backbone = Backbone.load(str(base / "backbone"))
        self.run = toy_run(self.backbone, method=method, learning_rate=0.002 if self.is_model else 0.05)
        self.whole = self._outcome(base / "whole")
        if is_finished:
            (base / "whole").rename(base / "run")
        else:
            shutil.rmtree(base / "whole")
            with contextlib.suppress(Stopped):
                self._tune(base / "run", stopping_at(5))
        self.files = [path.name for path in (base / "run").iterdir() if path.is_file() and path.suffix != ".lock"]

    def damage(self, folder: Path, chance: random.Random) -> str:
        name = chance.choice(self.files)
        return change_file(folder / "run" / name, chance, is_json=name == "result.json")

    def read(self, folder: Path) -> str:
        before = Path("/etc/hostname").read_bytes()
        outcome = self._outcome(folder / "run")
        if Path("/etc/hostname").read_bytes() != before:
            return "a file behind a link was changed"
        return "" if outcome == self.whole else "another outcome than an undisturbed run's, without a word"

    def _tune(self, folder: Path, progress: Any = None) -> Any:
        if self.is_model:
            return tune_model_run(self.run, self.backbone, folder, progress)
        return tune_runs([self.run], self.backbone, folder, progress)[0]

    def _outcome(self, folder: Path) -> tuple[Any, ...]:
        tuned = self._tune(folder)
        scores = dict(tuned.result.scores), tuned.result.step
        if self.is_model:
            return (*scores, (tuned.path / "model.safetensors").read_bytes())
        return (*scores, to_bytes(tuned.prompt))


# PEFT folders and numpy files.


class Foreign:
    """A PEFT folder, or a numpy file."""

    def __init__(self, base: Path, kind: str):
        """Export a prompt."""
        base.mkdir()
        self.kind, self.prompt = kind, tiny_prompt("llama")
        if kind == "peft":
            export_peft(self.prompt, base / "peft")
        else:
            export_npy(self.prompt, base / "prompt.npy")

    def damage(self, folder: Path, chance: random.Random) -> str:
        if self.kind != "peft":
            return change_file(folder / "prompt.npy", chance, is_json=False)
        name = chance.choice(["adapter_config.json", "adapter_model.safetensors"])
        return change_file(folder / "peft" / name, chance, is_json=name.endswith("json"))

    def read(self, folder: Path) -> str:
        owner = tiny_id("llama")
        if self.kind == "peft":
            prompt = import_peft(folder / "peft", owner, "red")
        else:
            prompt = import_npy(folder / "prompt.npy", owner, "red")
        if not np.isfinite(prompt.value).all() or prompt.value.shape != self.prompt.value.shape:
            return f"vectors {prompt.value.shape}"
        is_same = np.array_equal(prompt.value, self.prompt.value)
        if not is_same and dict(prompt.scores):
            return "scores beside other vectors than they are of"
        save(prompt, folder / "out.safetensors")
        return ""


def fields(work: Path) -> dict[str, Field]:
    """The subjects, with their bases."""
    records = Records(work / "records")
    make_study(work / "study file")
    subjects = {"records": Field(records.damage, records.read)}
    subjects["study file"] = Field(damage_study_file, read_study_file)
    for name, method, is_finished in (
        ("run", "prompt", False),
        ("finished run", "prompt", True),
        ("model run", "model", False),
    ):
        runs = Runs(work / name, method, is_finished)
        subjects[name] = Field(runs.damage, runs.read)
    for kind in ("peft", "numpy"):
        foreign = Foreign(work / kind, kind)
        subjects[kind] = Field(foreign.damage, foreign.read)
    return subjects


def run(
    trials: int, seed: int = 0, names: list[str] | None = None, say: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Damage so many files; what went wrong."""
    failures: list[str] = []
    counts: dict[str, list[int]] = {}
    logging.disable(logging.WARNING)
    kept = {name: os.environ.get(name) for name in ("SPOT_CACHE",)}
    drawn, page.draw = page.draw, lambda findings: ()  # pictures take most of the time
    try:
        with tempfile.TemporaryDirectory(prefix="records-") as temporary:
            work = Path(temporary).resolve()
            os.environ["SPOT_CACHE"] = str(work / "cache")
            subjects = {name: field for name, field in fields(work).items() if names is None or name in names}
            for number in range(trials):
                name = list(subjects)[number % len(subjects)]
                chance = random.Random(f"{seed}/{name}/{number}")
                title, problem, is_refused = trial(work / name, work / "trial", subjects[name], chance)
                counts.setdefault(name, [0, 0])[0] += 1
                counts[name][1] += is_refused
                if problem:
                    failures.append(f"{name}, seed {seed}, trial {number} ({title}): {problem}")
                    say(failures[-1])
    finally:
        page.draw = drawn
        logging.disable(logging.NOTSET)
        for name, value in kept.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    for name, (total, refused) in counts.items():
        say(f"{name}: {total} trials, {refused} refused")
    say(f"seed {seed}: {trials} trials, {len(failures)} failures")
    return failures


def trial(base: Path, folder: Path, field: Field, chance: random.Random) -> tuple[str, str, bool]:
    """One trial: what was damaged, what is wrong, whether it was refused."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder, symlinks=True)
    title = field.damage(folder, chance)

    def late(*_: object) -> None:
        raise Hanging

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        return title, field.read(folder), False
    except SpotError as error:
        text = str(error)
        return title, "" if 20 < len(text) < 4000 else f"a message of {len(text)} letters: {text[:200]}", True
    except Hanging:
        return title, f"no answer within {LONGEST} s", False
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return title, f"{type(error).__name__}: {str(error)[:200]} ({where.filename[-50:]}:{where.lineno})", False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subject", action="append", help="one of them; may be given again")
    arguments = parser.parse_args()
    failures = run(arguments.trials, arguments.seed, arguments.subject, lambda line: print(line, flush=True))
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
