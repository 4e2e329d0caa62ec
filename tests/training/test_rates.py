"""`learning_rate = "auto"`: who wins, what it takes, and that a killed race ends with the same bytes."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from spot.config import TuneConfig
from spot.errors import ConfigError, RunError
from spot.models.backbone import Backbone
from spot.training import rates
from spot.training.loop import Diverged
from spot.training.rates import RACED_RATES, at_each_rate, best_of
from spot.training.state import first_states
from spot.training.tuning import tune_runs
from tests.support.toy_runs import BURST, RULE, Stopped, break_large_prompts, stopping_at, toy_config, toy_run


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def auto(backbone: Backbone, **settings):
    return toy_run(backbone, learning_rate="auto", **{"steps": 8, "checkpoint_every": 3, **settings})


def test_the_best_selection_score_wins_its_loss_breaks_ties_and_what_diverged_is_last(backbone):
    states = first_states([toy_run(backbone, learning_rate=rate) for rate in (0.1, 0.2, 0.3, 0.4)], backbone)
    for state, rank in zip(states, ((80.0, -0.5), (80.0, -0.4), (90.0, -0.1), (80.0, -0.4)), strict=True):
        state.best_rank = rank
    states[2].diverged = "the loss is nan"
    assert best_of(states) is states[1]
    assert best_of(states[2:3]) is states[2]


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
def test_auto_is_the_best_of_the_runs_at_each_rate_and_takes_what_all_of_them_took(
    backbone, tmp_path, optimiser, caplog
):
    caplog.set_level(logging.INFO)
    settings = {"optimiser": optimiser, "key_step": 4}
    [tuned] = tune_runs([auto(backbone, **settings)], backbone, tmp_path / "auto")
    runs = [toy_run(backbone, steps=8, learning_rate=rate, **settings) for rate in RACED_RATES[optimiser]]
    alone = [tune_runs([run], backbone, tmp_path / run.digest)[0] for run in runs]
    points = [[(point.score, -point.nats) for point in one.result.curve] for one in alone]
    best = alone[max(range(2), key=lambda number: max(points[number]))]
    rate = best.prompt.config["learning_rate"]
    assert tuned.prompt.config["learning_rate"] == tuned.prompt.key_recipe.learning_rate == rate
    np.testing.assert_allclose(tuned.prompt.value, best.prompt.value, atol=2e-4)
    np.testing.assert_allclose(tuned.prompt.key, best.prompt.key, atol=2e-4)
    assert tuned.result.tokens == sum(one.result.tokens for one in alone)
    assert tuned.result.curve[-1].tokens == best.result.tokens
    assert tuned.prompt.scores.keys() == best.prompt.scores.keys()
    assert f"toy: learning rate {rate:g}, the best of {RACED_RATES[optimiser][0]:g} (" in caplog.text
    assert [path.name for path in (tmp_path / "auto").glob("prompt*.safetensors")] == ["prompt.safetensors"]


@pytest.mark.parametrize("stop", [2, 3, 7])
def test_auto_that_is_killed_ends_with_the_same_bytes_and_a_finished_one_is_read(backbone, tmp_path, stop, monkeypatch):
    whole = tune_runs([auto(backbone)], backbone, tmp_path / "whole")[0]
    with pytest.raises(Stopped):
        tune_runs([auto(backbone)], backbone, tmp_path / "part", stopping_at(stop))
    part = tune_runs([auto(backbone)], backbone, tmp_path / "part")[0]
    assert part.path.read_bytes() == whole.path.read_bytes()
    assert part.result.tokens == whole.result.tokens
    monkeypatch.setattr("spot.training.tuning.train", None)
    again = tune_runs([auto(backbone)], backbone, tmp_path / "part")[0]
    assert again.prompt.digest == part.prompt.digest and again.result == part.result


def test_each_run_of_a_gang_takes_its_own_rate_and_a_given_one_stays(backbone, tmp_path):
    runs = [auto(backbone, seed=1), toy_run(backbone, steps=8, checkpoint_every=3), auto(backbone, seed=2)]
    tuned = tune_runs(runs, backbone, tmp_path / "gang")
    assert [one.prompt.seed for one in tuned] == [1, 0, 2]
    assert tuned[1].prompt.config["learning_rate"] == 0.05
    assert tuned[1].result.tokens < tuned[0].result.tokens
    for number in (0, 2):
        alone = tune_runs([runs[number]], backbone, tmp_path / str(number))[0]
        assert alone.prompt.config["learning_rate"] == tuned[number].prompt.config["learning_rate"]
        np.testing.assert_allclose(alone.prompt.value, tuned[number].prompt.value, atol=2e-4)


def test_a_rate_that_diverges_loses_and_rates_that_all_do_are_one_clear_error(backbone, tmp_path, monkeypatch):
    break_large_prompts(monkeypatch)
    monkeypatch.setitem(rates.RACED_RATES, "adamw", (BURST, 0.01))
    assert tune_runs([auto(backbone)], backbone, tmp_path / "one")[0].prompt.config["learning_rate"] == 0.01
    monkeypatch.setitem(rates.RACED_RATES, "adamw", (BURST, 2 * BURST))
    with pytest.raises(Diverged, match=r"at learning rate 1000000.0; give a lower learning_rate"):
        tune_runs([auto(backbone)], backbone, tmp_path / "all")


def test_auto_is_refused_where_it_cannot_be(backbone, tmp_path):
    with pytest.raises(ConfigError, match="learning_rate is 'auto' where it must be known"):
        assert toy_config(learning_rate="auto").rate
    with pytest.raises(ValueError, match=r"should be a number above 0 and at most 3e.37"):
        TuneConfig(task="toy", method="model", learning_rate="auto")
    with pytest.raises(ConfigError, match=r"and dropout is 0.1, which belongs to a run alone"):
        at_each_rate(auto(backbone, dropout=0.1))
    with pytest.raises(ConfigError, match="in a gang of which some stop early"):
        tune_runs([auto(backbone)], backbone, tmp_path / "rule", rule=RULE)
    tune_runs([toy_run(backbone)], backbone, tmp_path / "other")
    with pytest.raises(RunError, match="another configuration"):
        tune_runs([auto(backbone)], backbone, tmp_path / "other")


def test_a_result_of_another_run_is_refused(backbone, tmp_path):
    tune_runs([auto(backbone)], backbone, tmp_path)
    path = tmp_path / "result.json"
    content = json.loads(path.read_text())
    content["runs"][0]["digest"] = "0123456789abcdef"
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"is of the run '0123456789abcdef'; expected .* Delete it"):
        tune_runs([auto(backbone)], backbone, tmp_path)
    path.unlink()
    assert tune_runs([replace(auto(backbone))], backbone, tmp_path)
