"""`report`: what it asks, what it cannot ask and says so, and its values."""

import json
from pathlib import Path

import pytest

import spot
from spot.errors import BackboneError, TaskError
from spot.reporting.door import report
from tests.support.prompts import library_prompt
from tests.support.tuned_tasks import TunedTasks


def test_rows_at_hand_are_answered_as_evaluate_answers_them(tuned_tasks: TunedTasks):
    made = spot.report(tuned_tasks.run(), str(tuned_tasks.backbone), task=str(tuned_tasks.task()))
    scores = spot.evaluate(tuned_tasks.run(), str(tuned_tasks.backbone), str(tuned_tasks.task()))
    assert made.scored.scores == scores.scores and made.scored.predictions == scores.predictions
    assert [example.answers for example in made.scored.examples] and made.missing == ()
    value = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert value["kind"] == "run" and value["task"] == "mood" and value["scores"]["rows"] == scores.rows
    assert value["calibration"]["mood"]["rows"] == scores.rows
    assert [step for step, _ in next(iter(value["curves"].values()))[0]] == [0, 2, 4]


def test_a_task_that_nobody_knows_is_named_with_what_to_do(tuned_run: Path):
    made = report(tuned_run)
    assert made.scored is None
    assert "'mood' is not known here" in made.missing[0] and "--task FILE" in made.missing[0]
    assert made.to_json()["scores"] is None


def test_rows_that_nobody_asked_for_and_are_not_here_are_no_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SPOT_DATA", raising=False)
    made = report(library_prompt())
    assert made.scored is None and "no data folder for glue/sst2" in made.missing[0]


def test_rows_that_are_asked_for_must_be_there(tuned_tasks: TunedTasks, tmp_path: Path):
    with pytest.raises(TaskError):
        report(tuned_tasks.run(), str(tuned_tasks.backbone), task=str(tmp_path / "nothing.toml"))
    with pytest.raises(BackboneError):
        report(tuned_tasks.run(), task=str(tuned_tasks.task()))


def test_a_tuned_model_is_asked_itself(tuned_tasks: TunedTasks, tmp_path: Path):
    settings = {"steps": 2, "batch_size": 4, "eval_every": 2, "learning_rate": 1e-3}
    spot.tune_model(str(tuned_tasks.task()), str(tuned_tasks.backbone), out=tmp_path / "run", **settings)
    made = report(tmp_path / "run", task=str(tuned_tasks.task()))
    assert made.subject.kind == "tuned model" and made.scored.rows and made.subject.prompt is None
    page = made.save(tmp_path / "report.html").read_text()
    assert "A model tuned on mood" in page and "Learning curves" in page
