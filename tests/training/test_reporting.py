"""The report of a run: scored last and anew where its rows change, and what looks wrong in words."""

from dataclasses import replace

import numpy as np
import pytest

from spot.errors import TaskError
from spot.models.backbone import Backbone
from spot.prompts.prompt import load
from spot.storage.run_dir import RunDir
from spot.training.result import read_results
from spot.training.run import Run
from spot.training.tuning import tune_runs
from tests.support.toy_runs import LABELS, SPLITS, Stopped, toy_run, unreadable_report


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def run(backbone: Backbone, **settings) -> Run:
    return toy_run(backbone, **{"key_step": 2, **settings})


def test_changed_report_rows_are_scored_anew_without_training(backbone, tmp_path):
    whole = run(backbone)
    first = tune_runs([whole], backbone, tmp_path / "run")[0].prompt
    member = whole.members[0]
    wrong = tuple(replace(row, answers=(LABELS[row.answers[0] == LABELS[0]],)) for row in member.splits.report)
    changed = replace(whole, members=(replace(member, splits=replace(member.splits, report=wrong)),))
    second = tune_runs([changed], backbone, tmp_path / "run")[0].prompt
    assert second.scores["accuracy"] == pytest.approx(100 - first.scores["accuracy"])
    assert np.array_equal(second.value, first.value)
    assert tune_runs([whole], backbone, tmp_path / "run")[0].prompt.digest == first.digest


def test_a_prompt_is_kept_when_its_report_rows_cannot_be_read(backbone, tmp_path):
    whole = run(backbone)
    with pytest.raises(TaskError, match="row 3"):
        tune_runs([unreadable_report(whole)], backbone, tmp_path / "run")
    kept = load(tmp_path / "run" / "prompt.safetensors")
    steps = []
    finished = tune_runs([whole], backbone, tmp_path / "run", lambda *at: steps.append(at))[0].prompt
    assert {total for _, total in steps} == {len(SPLITS.report)}, "nothing is trained again"
    assert np.array_equal(kept.value, finished.value) and finished.frozen_scores


@pytest.mark.parametrize("at", [1, 2])
def test_a_run_killed_while_it_is_reported_ends_with_the_same_bytes(backbone, tmp_path, at):
    prepared = run(backbone)
    whole = tune_runs([prepared], backbone, tmp_path / "whole")[0]
    evaluations = []

    def stopping(done: int, total: int) -> None:
        if total == len(SPLITS.report):  # of the frozen model, then of the prompt
            evaluations.append(done)
            if len(evaluations) == at:
                raise Stopped

    with pytest.raises(Stopped):
        tune_runs([prepared], backbone, tmp_path / "part", stopping)
    assert read_results(RunDir(tmp_path / "part")) is None and not (tmp_path / "part" / "prompt.safetensors").exists()
    part = tune_runs([prepared], backbone, tmp_path / "part")[0]
    assert part.path.read_bytes() == whole.path.read_bytes()


def test_training_that_does_not_move_is_said_in_words(backbone, tmp_path, caplog):
    tune_runs([run(backbone, learning_rate=1e-12)], backbone, tmp_path / "run")
    diagnosis = read_results(RunDir(tmp_path / "run"))[0].diagnosis
    assert any("the prompt moved by" in line and "higher learning_rate" in line for line in diagnosis)
    assert "the prompt moved by" in caplog.text
