"""Damage records, study files, run folders and PEFT folders: `python -m tests.campaigns.records --trials 1500`.

Each trial changes one file and reads it by the calls that a command makes. It fails by any exception that is no
`SpotError`, by 10 seconds without an answer, and by a wrong value that is taken without a word: a record that is not
its cell, another prompt than an undisturbed run's, vectors that no file holds.
"""

import contextlib
import json
import logging
import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from spot.interchange import export_npy, export_peft, import_npy, import_peft
from spot.models.backbone import Backbone
from spot.prompts.prompt import save, to_bytes
from spot.storage.files import cache_dir
from spot.study.cells import StudyPlan, finished_cells, read_plan
from spot.study.report import page
from spot.study.status import study_status
from spot.study.teaching import lessons
from spot.training.model_tuning import tune_model_run
from spot.training.tuning import tune_runs
from tests.campaigns.mutations import mutate_bytes, mutate_file, mutate_json, spell
from tests.campaigns.trials import Campaign, Failure, main, state, watch
from tests.support.prompts import tiny_id, tiny_prompt
from tests.support.small_studies import STUDY, MadeUpWorker, plan_small_study, write_tasks
from tests.support.tiny_models import byte_tokenizer, tiny_config
from tests.support.toy_runs import Stopped, stopping_at, toy_run

TOML = (
    '"x"', "-1", "0", "true", "nan", "inf", "1e400", "[]", "{}", "[[1]]", '[""]', '"\\u0000"', '"a\\u001b"',
    '["~zzz9/x"]', '["/dev/zero"]', '["cr", "cr"]', '["mixture:x"]', '["packaged:x"]', "1979-05-27", "[1.5]",
    '{steps = "x"}', "{steps = []}", "{length = 99999999999}", '{init = "nope"}', f'"{"a" * 300}"', 
    f'["{"a/" * 3000}"]',
)  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A subject of trials.

    Attributes:
        damage: changes something in a copy of the base; says what.
        read: reads it as commands do; says what is wrong with an answer, or nothing.
    """

    damage: Callable[[Path, random.Random], str]
    read: Callable[[Path], str]


def change_file(path: Path, random_: random.Random, is_json: bool) -> str:
    """Damage one file."""
    way = random_.random()
    if way < 0.12:
        return mutate_file(random_, path, precious())
    if is_json and way < 0.7:
        value, title = mutate_json(random_, json.loads(path.read_bytes()))
        path.write_text(spell(value))
    else:
        data, title = mutate_bytes(random_, path.read_bytes())
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

    def damage(self, folder: Path, random_: random.Random) -> str:
        paths = sorted((folder / "studies" / "toy" / "cells").iterdir())
        path = random_.choice(paths)
        if random_.random() < 0.1:
            other = random_.choice([other for other in paths if other != path])
            path.write_bytes(other.read_bytes())
            return f"{path.name} is another cell's"
        return change_file(path, random_, is_json=True)

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


def damage_study_file(folder: Path, random_: random.Random) -> str:
    path = folder / "study.toml"
    if random_.random() < 0.4:
        return change_file(path, random_, is_json=False)
    keys = ["name", "backbone", "sources", "targets", "seeds", "starts", "restarts", "strategies", "k", "metric"]
    keys += ["models", "model_mixture", "out", "zzz"]
    key, value = random_.choice(keys), random_.choice(TOML)
    lines = [line for line in STUDY.splitlines() if not line.startswith(f"{key} ")]
    if random_.random() < 0.3:
        table = random_.choice(["[source]", "[target]"])
        setting = random_.choice(["steps", "length", "init", "key_step", "batch_size", "dropout", "optimiser", "task"])
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

    def damage(self, folder: Path, random_: random.Random) -> str:
        name = random_.choice(self.files)
        return change_file(folder / "run" / name, random_, is_json=name == "result.json")

    def read(self, folder: Path) -> str:
        outcome = self._outcome(folder / "run")
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

    def damage(self, folder: Path, random_: random.Random) -> str:
        if self.kind != "peft":
            return change_file(folder / "prompt.npy", random_, is_json=False)
        name = random_.choice(["adapter_config.json", "adapter_model.safetensors"])
        return change_file(folder / "peft" / name, random_, is_json=name.endswith("json"))

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


def campaign(folder: Path) -> Campaign:
    """Make the bases of all subjects; trials take them in turn."""
    work = folder / "work"
    work.mkdir()
    precious().mkdir()
    (precious() / "file").write_text("mine")
    sqlite3.connect(precious() / "database").close()
    logging.disable(logging.WARNING)
    subjects = fields(work)
    untouched = state(precious())

    def trial_of(random_: random.Random, folder: Path, trial: int) -> list[Failure]:
        name = list(subjects)[trial % len(subjects)]
        place, subject = folder / "trial", subjects[name]
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(work / name, place, symlinks=True)
        title = subject.damage(place, random_)
        with patch.object(page, "draw", lambda findings: ()):  # pictures take most of the time
            outcome = watch(lambda: subject.read(place))
        wrong = outcome.fault or outcome.value
        if outcome.refusal is not None and not 20 < len(outcome.refusal) < 4000:
            wrong = f"a message of {len(outcome.refusal)} letters: {outcome.refusal[:200]}"
        if state(precious()) != untouched:
            wrong = "a file behind a link was changed"
        return [Failure(trial, title, name, str(wrong))] if wrong else []

    return trial_of


def precious() -> Path:
    """A folder of files that no trial may change."""
    return cache_dir().parent / "precious"


if __name__ == "__main__":
    main("records", campaign)
