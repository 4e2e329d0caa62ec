"""What an arm comes to is scored as prompts are."""

import json

import pytest

from spot.baselines.arms import Baseline
from spot.baselines.constant import fit_constant
from spot.errors import RunError
from spot.evaluation.scoring import score_predictions
from spot.storage.values import read_value, to_json
from tests.support.toy_terms import REPORT, toy_task


def test_its_scores_are_those_of_its_predictions_by_the_metrics_of_the_task(terms):
    task = toy_task(metrics=("macro_f1", "accuracy"))
    baseline = fit_constant(terms(task=task)).on(REPORT)
    assert baseline.evaluation(task, REPORT) == score_predictions(task, REPORT, baseline.predictions)
    assert baseline.evaluation(task, REPORT).scores == {"macro_f1": pytest.approx(100 / 3), "accuracy": 50.0}


def test_it_goes_to_json_and_back_and_each_field_is_checked(terms):
    baseline = fit_constant(terms()).on(REPORT)
    assert read_value(Baseline, to_json(baseline), "here", RunError) == baseline
    content = json.loads(to_json(baseline))
    content["learned"]["shipped"] = "many"
    with pytest.raises(RunError, match=r"here: the field 'learned\.shipped' holds 'many'"):
        read_value(Baseline, json.dumps(content), "here", RunError)
