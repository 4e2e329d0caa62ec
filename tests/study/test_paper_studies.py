"""The paper's studies from end to end: two steps on a tiny T5, a handful of rows of each data set.

All sources and strategies are there; of the targets the first alone, because each costs a second a source.
"""

import gzip
import json
import re
import tomllib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from spot.study import records
from spot.study.config import look_up, read_study
from spot.tasks.registry import TABLE
from tests.support.commands import call

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "paper"
ROWS = 40  # of a split
TARGETS = 1
SMALL = {
    "seeds": 1,
    "length": 3,
    "batch_size": 4,
    "steps": 2,
    "key_step": 1,
    "eval_every": 1,
    "checkpoint_every": 2,
    "max_input_tokens": 24,
    "select_rows": 4,
    "report_rows": 4,
    "k": [1],
}


def made_up(number: int, split: str) -> dict[str, Any]:
    """A row with the fields of the sets that the shared data lack."""
    text = f"row {number:03d} of the {split} texts"
    names = (
        "premise",
        "hypothesis",
        "observation_1",
        "observation_2",
        "hypothesis_1",
        "hypothesis_2",
        "sentence1",
        "sentence2",
        "text",
        "summary",
        "email_body",
        "subject_line",
        "highlights",
        "document",
        "dialogue",
        "target",
        "meaning_representation",
        "prompt",
        "source",
        "question",
        "context",
    )
    return {
        **{name: f"{name} {text}" for name in names},
        "label": number % 2,
        "labels": [number % 3],
        "sentiment": 4 * (number % 2),
        "score": float(number % 6),
        "answers": [f"answer {number % 4}"],
        "concepts": [text, "field"],
        "input": [text],
        "tripleset": [[text, "is", "one"]],
        "dialog_acts": [{"act": 0, "slot": "", "values": []}],
        "url": text,
        "translation": {language: f"{language} {text}" for language in ("en", "de", "fr", "ro")},
        "article": f"article {text}",
    }


def some_rows(shared: Path, name: str, split: str) -> Iterator[dict[str, Any]]:
    """The first rows of a split, or made-up ones."""
    folder = TABLE[name].folder or name.replace("/", "_")
    for ending, opened in ((".jsonl", open), (".jsonl.gz", gzip.open)):
        path = shared / "data" / folder / f"{split}{ending}"
        if path.is_file():
            with opened(path, "rt", encoding="utf-8") as lines:
                yield from map(json.loads, islice(lines, ROWS))
            return
    for number in range(ROWS):
        row = made_up(number, split)
        if name == "art":
            row["label"] += 1
        if name == "wiki_lingua":
            row["article"] = {"document": [row["document"]], "summary": [row["summary"]]}
        yield row


def put_rows(shared: Path, data: Path, names: set[str]) -> None:
    for name in names:
        for split in TABLE[name].splits:
            path = data / (TABLE[name].folder or name.replace("/", "_")) / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in some_rows(shared, name, split)))


def targets_of(text: str) -> list[str]:
    return tomllib.loads(text)["targets"]


def small(name: str, backbone: Path, folder: Path) -> Path:
    """A recipe with its settings and targets cut down; its sources and strategies stay."""
    text = (RECIPES / f"{name}.toml").read_text()
    targets = f"targets = {json.dumps(targets_of(text)[:TARGETS])}"
    text, found = re.subn(r"(?ms)^targets = \[.*?\]", targets, text)
    assert found
    for key, value in {**SMALL, "backbone": f'"{backbone}"'}.items():
        text, found = re.subn(rf"(?m)^{key} = [^#\n]*", f"{key} = {value}", text)
        assert found or key == "k"
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("study26", marks=pytest.mark.slow),
        pytest.param("table1", marks=pytest.mark.campaign),
        pytest.param("table4", marks=pytest.mark.slow),
    ],
)
def test_a_study_of_the_paper_runs(name, shared, tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "240")
    study = look_up(read_study(small(name, tiny_folder("t5v11"), tmp_path)))
    members = {member for source in study.sources for member in source.members}
    put_rows(shared, tmp_path / "data", members | {target.task for target in study.targets})
    found = call(capsys, "study", "run", tmp_path / f"{name}.toml", "--data", tmp_path / "data", "--json")
    outcome = json.loads(found.out)
    assert outcome["failed"] == {}, outcome["failed"]
    assert outcome["finished"] == outcome["cells"]
    done = records.read_records(tmp_path / "studies" / name / "cells")
    pairs = [record for record in done if record.kind == "pair"]
    own = sum(source.task == target.task for source in study.sources for target in study.targets)
    assert len(pairs) == len(study.sources) * len(study.targets) - own
    assert all(0 <= record.score <= 100 and set(record.similarity) == {"mean", "token", "max"} for record in pairs)
