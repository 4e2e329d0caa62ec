"""The program of the README runs as it stands: on a tiny T5 with a library of its own, and on the embedded model."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import spot as package

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = re.search(r"## In Python\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
REVIEWS = [
    (f"{subject} {'broke after a day' if number % 2 else 'works very well'}", "bad" if number % 2 else "good")
    for number, subject in enumerate(
        f"{what} number {count}" for count in range(12) for what in ("the lamp", "the chair", "the phone", "my bag")
    )
]


def names() -> dict[str, Any]:
    """What the program takes for granted."""
    return {
        "frame": [{"review": text, "stars": label} for text, label in REVIEWS],
        "texts": [text for text, _ in REVIEWS],
        "labels": [label for _, label in REVIEWS],
        "more": ["the lamp broke", "my phone works"],
    }


def run(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    scope = names()
    exec(compile(program, "README.md", "exec"), scope)
    return scope


def check(scope: dict[str, Any]) -> None:
    """What each line promises."""
    prompt, report = scope["prompt"], scope["report"]
    assert prompt.reading.template == "sentence: {review}" and prompt.reading.words == ("bad", "good")
    page = Path("report.html").read_text()
    assert report.verdict in page.replace("&#39;", "'") and isinstance(report.prompt, package.SoftPrompt)
    assert {arm.arm for arm in report.arms} >= {"frozen", "plain:vocabulary", "spot"}
    assert set(scope["classifier"].predict(scope["more"])) <= {"bad", "good"}


def test_the_program_runs_on_a_tiny_t5(tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch, capsys):
    assert PROGRAM is not None
    folder = tiny_folder("t5")
    backbone = package.Backbone.load(str(folder))
    library = package.Library.create(tmp_path / "library")
    fast = {"length": 3, "batch_size": 4, "eval_every": 2, "learning_rate": 0.05}
    for name in ("one", "two", "three"):
        rows = [{"text": f"{name} {text}", "label": label} for text, label in REVIEWS]
        source = package.Task.from_rows(rows, text="text", label="label", name=name)
        library.add(package.tune(source, backbone, steps=4, key_step=2, library=None, **fast))
    program = PROGRAM[1].replace('"embedded"', repr(str(folder))).replace('"packaged"', repr(str(library.path)))
    program = program.replace("steps=60", f"steps=4, eval_every=2, library={str(library.path)!r}")
    program = program.replace(
        f"library={str(library.path)!r})\nreport", f"library={str(library.path)!r}, steps=4)\nreport"
    )
    program = program.replace("SoftPromptClassifier(", f"SoftPromptClassifier({str(folder)!r}, steps=4, ")
    check(run(program, tmp_path, monkeypatch))
    assert "'bad': " in capsys.readouterr().out


@pytest.mark.slow
def test_the_program_runs_on_the_embedded_model(tmp_path: Path, monkeypatch):
    assert PROGRAM is not None
    program = PROGRAM[1].replace("steps=60", "steps=24")
    program = program.replace('library="packaged")\nreport', 'library="packaged", steps=24, seeds=1)\nreport')
    fewer = "steps=24, strategy='none', settings={'seeds': 1}, "
    program = program.replace("SoftPromptClassifier(", f"SoftPromptClassifier({fewer}")
    check(run(program, tmp_path, monkeypatch))
