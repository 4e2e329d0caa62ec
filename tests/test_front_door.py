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


def with_few_steps(model: str, folder: Path) -> str:
    """The program on a model, with a library of three sources that are made here, and few steps a run."""
    assert PROGRAM is not None
    backbone = package.Backbone.load(model)
    library = package.Library.create(folder / "library")
    fast = {"length": 3, "batch_size": 4, "eval_every": 2, "learning_rate": 0.05}
    for name in ("one", "two", "three"):
        rows = [{"text": f"{name} {text}", "label": label} for text, label in REVIEWS]
        source = package.Task.from_rows(rows, text="text", label="label", name=name)
        library.add(package.tune(source, backbone, steps=2, key_step=2, library=None, **fast))
    program = PROGRAM[1].replace('"embedded"', repr(model)).replace('"packaged"', repr(str(library.path)))
    program = program.replace("steps=60", f"steps=2, eval_every=2, library={str(library.path)!r}")
    program = program.replace(
        f"library={str(library.path)!r})\nreport", f"library={str(library.path)!r}, steps=2, seeds=1)\nreport"
    )
    fewer = "steps=2, settings={'seeds': 1}, "
    return program.replace("SoftPromptClassifier(", f"SoftPromptClassifier({model!r}, {fewer}")


def test_the_program_runs_on_a_tiny_t5(tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch, capsys):
    check(run(with_few_steps(str(tiny_folder("t5")), tmp_path), tmp_path, monkeypatch))
    assert "'bad': " in capsys.readouterr().out


@pytest.mark.slow
def test_the_program_runs_on_the_embedded_model(tmp_path: Path, monkeypatch):
    check(run(with_few_steps("embedded", tmp_path), tmp_path, monkeypatch))


ROWS = package.Splits((), (), ())
OTHER_KINDS = {
    "rows": (5, "expected spot.Splits"),
    "out": (5, "expected the path of a folder"),
    "data": (b"x", "expected the path of a folder"),
    "library": (5, "expected a library"),
    "progress": (5, "expected a function of two numbers"),
}


@pytest.mark.parametrize("call", [package.tune, package.tune_model, package.transfer])
@pytest.mark.parametrize("name", OTHER_KINDS)
def test_an_argument_of_another_kind_is_said_in_words(call: Callable[..., object], name: str):
    value, named = OTHER_KINDS[name]
    if call is package.tune_model and name == "library":
        named = "unknown key 'library'"
    with pytest.raises(package.SpotError, match=named) as refusal:
        call("cr", "embedded", **{name: value})
    assert name in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"report_rows": 0}, "report_rows is 0; expected a whole number from 1 on"),
        ({"select_rows": "many"}, "select_rows is 'many', of the kind str; expected a whole number from 1 on"),
        ({"select_rows": None}, "select_rows is None"),
        (
            {"train_rows": 1.5},
            "train_rows is 1.5, of the kind float; expected a whole number from 1 on, or None for all",
        ),
        ({"train_rows": True}, "train_rows is True, of the kind bool"),
        ({"rows_seed": -1}, "rows_seed is -1; expected a whole number from 0 on"),
        ({"rows": ROWS}, "rows.train is empty"),
        ({"rows": package.Splits(("a",), ("b",), ())}, "rows.report is empty; expected rows that chose nothing"),
        ({"rows": package.Splits(5, ("b",), ("c",))}, "rows.train is 5, of the kind int"),
    ],
)
def test_numbers_and_rows_that_no_transfer_can_use_are_named(given: dict[str, Any], named: str):
    with pytest.raises(package.SpotError, match=re.escape(named)):
        package.transfer("cr", "embedded", **given)


@pytest.mark.parametrize("task", [5, None, ["cr"]])
def test_a_task_of_another_kind_is_said_in_words(task: object):
    for call in (package.tune, package.transfer):
        with pytest.raises(package.SpotError, match="task"):
            call(task, "embedded")


def test_a_source_of_another_kind_is_said_in_words():
    with pytest.raises(package.SpotError, match="source is 'x', of the kind str; expected a SoftPrompt, or None"):
        package.tune("cr", "embedded", source="x")


@pytest.mark.campaign
def test_the_program_runs_on_the_embedded_model_with_the_library_that_ships(tmp_path: Path, monkeypatch):
    assert PROGRAM is not None
    program = PROGRAM[1].replace("steps=60", "steps=24")
    program = program.replace('library="packaged")\nreport', 'library="packaged", steps=24, seeds=1)\nreport')
    fewer = "steps=24, strategy='none', settings={'seeds': 1}, "
    program = program.replace("SoftPromptClassifier(", f"SoftPromptClassifier({fewer}")
    check(run(program, tmp_path, monkeypatch))
