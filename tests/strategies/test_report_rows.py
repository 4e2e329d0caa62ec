"""Report rows are answered once: what is kept is read again, also as older versions kept it, and damage is named."""

import json
import math
import os
from dataclasses import replace

import pytest
import torch

from spot.errors import RunError
from spot.evaluation.predictions import Prediction
from spot.strategies import report_rows
from spot.strategies.report_rows import evaluate_report
from spot.strategies.target import TargetRuns
from spot.tasks.splits import Splits
from spot.tasks.task import Example, Task
from tests.support.toy_runs import SPLITS, TASK, toy_config


@pytest.fixture
def target(backbone, tmp_path) -> TargetRuns:
    return TargetRuns(task=TASK, splits=SPLITS, backbone=backbone, config=toy_config(), seeds=1, out=tmp_path)


@pytest.fixture
def prompt() -> torch.Tensor:
    return torch.randn(3, 32, generator=torch.Generator().manual_seed(0))


def test_a_prompt_answers_once(target, prompt, monkeypatch):
    first = evaluate_report(target, prompt)
    monkeypatch.setattr(report_rows, "evaluate_rows", None)
    again = evaluate_report(target, prompt)
    assert (again.scores, again.correct, again.nats) == (first.scores, first.correct, first.nats)
    assert again.predictions == first.predictions
    assert all(sum(entry.probabilities.values()) == pytest.approx(1.0) for entry in again.predictions)
    with pytest.raises(TypeError):
        evaluate_report(target, prompt + 1)


def test_the_file_has_the_keys_that_it_always_had(target, prompt):
    found = evaluate_report(target, prompt)
    (path,) = (target.out / "report-rows").iterdir()
    value = json.loads(path.read_text())
    assert list(value) == ["scores", "correct", "predictions", "nats", "log_probabilities"]
    assert value["scores"] == found.scores and value["correct"] == list(found.correct)
    assert value["log_probabilities"] == [list(entry.log_probabilities) for entry in found.predictions]


def test_a_file_of_an_older_version_has_no_probabilities(target, prompt):
    first = evaluate_report(target, prompt)
    (path,) = (target.out / "report-rows").iterdir()
    value = json.loads(path.read_text())
    del value["log_probabilities"]
    path.write_text(json.dumps(value))
    again = evaluate_report(target, prompt)
    assert [entry.text for entry in again.predictions] == [entry.text for entry in first.predictions]
    assert not any(entry.probabilities for entry in again.predictions) and again.scores == first.scores


def test_a_row_without_an_answer_stays_one(target, prompt, monkeypatch):
    real = report_rows.evaluate_rows

    def lost(*arguments, **options):
        evaluation = real(*arguments, **options)
        first = Prediction("", (math.nan, math.nan), TASK.labels, is_answered=False)
        return replace(evaluation, predictions=(first, *evaluation.predictions[1:]))

    monkeypatch.setattr(report_rows, "evaluate_rows", lost)
    first, again = evaluate_report(target, prompt), evaluate_report(target, prompt)
    assert first.predictions == again.predictions
    assert [entry.is_answered for entry in again.predictions[:2]] == [False, True]


def test_a_loss_that_is_no_number_comes_back_as_none_is(target, prompt):
    rows = [Example(str(n), f"row {n}", ("an open answer",)) for n in range(4)]
    opened = TargetRuns(
        task=Task("open", TASK.load, ("train",), (), ("exact_match",)),
        splits=Splits((), (), rows),
        backbone=target.backbone,
        config=target.config,
        seeds=1,
        out=target.out,
    )
    assert math.isnan(evaluate_report(opened, prompt).nats)
    (path,) = (target.out / "report-rows").iterdir()
    assert json.loads(path.read_text(), parse_constant=None)["nats"] is None
    path.write_text(path.read_text().replace("null", "NaN"))  # as older versions wrote it
    assert math.isnan(evaluate_report(opened, prompt).nats)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "it is not JSON"),
        ("{}", "the field 'scores' is missing"),
        ('{"correct": "all"}', "the field 'correct' holds"),
        (
            '{"scores": {}, "correct": [true], "predictions": ["no"], "nats": 0.1, "log_probabilities": [[-0.1]]}',
            "not one a label of each row",
        ),
    ],
)
def test_damage_is_named(target, prompt, content, named):
    evaluate_report(target, prompt)
    (path,) = (target.out / "report-rows").iterdir()
    path.write_text(content)
    with pytest.raises(RunError) as caught:
        evaluate_report(target, prompt)
    assert str(path) in str(caught.value) and named in str(caught.value) and "Delete it" in str(caught.value)


def test_what_is_kept_is_no_link_and_no_fifo(target, prompt, tmp_path):
    """F3, F8: in the folder of a stranger's transfer."""
    evaluate_report(target, prompt)
    (path,) = (target.out / "report-rows").iterdir()
    path.replace(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"is a link.*Delete it"):
        evaluate_report(target, prompt)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RunError, match=r"it is a FIFO.*Delete it"):
        evaluate_report(target, prompt)


def test_what_killed_writers_left_is_swept_up(target, prompt):
    """F16: also of answers that nobody asks for again."""
    evaluate_report(target, prompt)
    (path,) = (target.out / "report-rows").iterdir()
    (path.parent / ".other.json.1.0123abcd.tmp").write_bytes(b"half")
    evaluate_report(target, prompt + 1)
    assert len(list(path.parent.iterdir())) == 2
