"""`spot report`: a page of a run, with rows and without."""

import json
from pathlib import Path

import pytest

from tests.support.commands import Spot, call, refused
from tests.support.html_outline import stands_alone
from tests.support.tuned_tasks import TunedTasks


@pytest.fixture
def spot(capsys: pytest.CaptureFixture[str]) -> Spot:
    return lambda *words: call(capsys, *words)


def test_a_run_with_its_rows(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    out = tmp_path / "report.html"
    words = ["report", tuned_tasks.run(), "--task", tuned_tasks.task(), "--out", out, *tuned_tasks.model]
    result = spot(*words)
    assert result.code == 0 and f"report: {out}" in result.out and "rows: accuracy" in result.out
    outline = stands_alone(out.read_text())
    assert "Which class is taken for which" in outline.text["h2"]
    assert outline.text["code"][-1].startswith(f"spot report {tuned_tasks.run()} --task")
    before = out.read_bytes()
    value = json.loads(spot(*words, "--json").out)
    assert value["scores"]["task"] == "mood" and value["missing"] == [] and out.read_bytes() == before


def test_a_run_without_its_rows_says_what_is_missing(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    result = spot("report", tuned_tasks.run(), "--out", tmp_path / "report.html")
    assert result.code == 0 and "not shown: Its task 'mood' is not known here" in result.out
    assert "What is not shown" in (tmp_path / "report.html").read_text()


def test_what_is_no_prompt_is_refused(spot: Spot, tmp_path: Path):
    refused(spot("report", tmp_path / "nothing", "--out", tmp_path / "x.html"), "nothing")
    assert not (tmp_path / "x.html").exists()
