"""Races of settings: who wins, what resumes, and how `learning_rate = "auto"` is settled."""

import json
import logging
from dataclasses import replace

import pytest

from spot.config import TuneConfig
from spot.errors import ConfigError, RunError
from spot.models.backbone import Backbone
from spot.training import races
from spot.training.races import RACED_RATES, Race, Trial, race, variants, with_rates
from spot.training.result import CurvePoint, RunResult
from spot.training.tuning import tune_runs
from tests.support.toy_runs import (
    BURST,
    Stopped,
    break_large_prompts,
    stopping_at,
    toy_config,
    toy_run,
    unreadable_report,
)


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def result(*points: tuple[float, float], diverged: str | None = None) -> RunResult:
    curve = tuple(CurvePoint(step, score, nats, 10 * step, 0.5 * step) for step, (score, nats) in enumerate(points))
    return RunResult(
        task="toy", digest="0", scores={}, step=0, steps=len(points), tokens=70, seconds=2.0, curve=curve,
        diverged=diverged,
    )  # fmt: skip


def test_the_best_selection_score_wins_its_loss_breaks_ties_and_what_diverged_is_last(backbone):
    run = toy_run(backbone)
    results = [
        result((50.0, 0.9), (80.0, 0.5)),
        result((50.0, 0.9), (80.0, 0.4), (70.0, 0.1)),
        result((90.0, 0.1), diverged="the loss is nan"),
        result((50.0, 0.9), (80.0, 0.4)),
    ]
    found = Race(tuple(Trial(run, one) for one in results))
    assert found.best is found.trials[1]
    assert (found.tokens, found.seconds) == (280, 8.0)


def test_variants_are_every_combination_and_mistakes_are_named():
    config = toy_config()
    made = variants(config, init=("vocabulary", "classes"), learning_rate=(0.1, 0.2))
    assert [(one.init, one.learning_rate) for one in made] == [
        ("vocabulary", 0.1), ("vocabulary", 0.2), ("classes", 0.1), ("classes", 0.2)
    ]  # fmt: skip
    assert variants(config) == [config]
    with pytest.raises(ConfigError, match="learning_rate"):
        variants(config, learning_rate=(-1.0,))
    with pytest.raises(ConfigError, match="lenth"):
        variants(config, lenth=(3,))


def test_runs_that_cannot_walk_in_step_race_in_gangs_of_their_own(backbone, tmp_path):
    runs = [toy_run(backbone, length=length, learning_rate=rate) for length in (3, 4) for rate in (0.05, 0.02)]
    runs = [unreadable_report(run) for run in runs]
    found = race(runs, backbone, tmp_path)
    assert [trial.run.config for trial in found.trials] == [run.config for run in runs]
    assert len(list(tmp_path.iterdir())) == 2
    alone = tune_runs([toy_run(backbone, length=4, learning_rate=0.02)], backbone, tmp_path / "alone")[0].result
    assert found.trials[3].result.curve[-1].nats == pytest.approx(alone.curve[-1].nats, abs=1e-4)


def test_a_finished_race_is_read(backbone, tmp_path, monkeypatch):
    runs = [toy_run(backbone, learning_rate=rate) for rate in (0.05, 0.02)]
    found = race(runs, backbone, tmp_path)
    monkeypatch.setattr(races, "train", None)
    again = race(runs, backbone, tmp_path)
    assert [trial.result for trial in again.trials] == [trial.result for trial in found.trials]


def test_auto_takes_the_rate_of_the_race_counts_its_tokens_and_says_so(backbone, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = toy_run(backbone, learning_rate="auto", steps=8, key_step=4)
    [tuned] = tune_runs([run], backbone, tmp_path / "auto")
    rate = tuned.prompt.config["learning_rate"]
    assert rate in RACED_RATES["adamw"] and tuned.prompt.key_recipe.learning_rate == rate
    given = tune_runs([toy_run(backbone, learning_rate=rate, steps=8, key_step=4)], backbone, tmp_path / "given")[0]
    assert tuned.prompt.digest == given.prompt.digest
    [folder] = (tmp_path / "auto" / "rates").iterdir()
    trials = json.loads((folder / "result.json").read_text())["runs"]
    assert [trial["steps"] for trial in trials] == [2] * 4
    spent = sum(trial["tokens"] for trial in trials)
    assert tuned.result.tokens == given.result.tokens + spent
    assert tuned.result.curve[0].tokens == spent > 0
    assert f"toy: learning rate {rate:g}, chosen among" in caplog.text and f"({spent} text tokens)" in caplog.text


@pytest.mark.parametrize("stop", [1, 2, 5])
def test_auto_that_is_killed_in_the_race_or_behind_it_ends_with_the_same_bytes(backbone, tmp_path, stop):
    run = toy_run(backbone, learning_rate="auto", steps=8)
    whole = tune_runs([run], backbone, tmp_path / "whole")[0]
    with pytest.raises(Stopped):
        tune_runs([run], backbone, tmp_path / "part", stopping_at(stop))
    part = tune_runs([run], backbone, tmp_path / "part")[0]
    assert part.path.read_bytes() == whole.path.read_bytes()
    assert part.result.tokens == whole.result.tokens


def test_seeds_share_a_race_and_other_starts_have_their_own(backbone, tmp_path):
    runs = [toy_run(backbone, learning_rate="auto", seed=seed) for seed in (4, 5)]
    runs += [toy_run(backbone, learning_rate="auto", init="classes"), toy_run(backbone, learning_rate=0.05)]
    settled = with_rates(runs, backbone, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert settled[0].config.rate == settled[1].config.rate and settled[0].spent == settled[1].spent > 0
    assert settled[3] is runs[3]
    assert [run.config.seed for run in settled[:2]] == [4, 5]


def test_rates_that_all_diverge_are_one_clear_error(backbone, tmp_path, monkeypatch):
    break_large_prompts(monkeypatch)
    monkeypatch.setitem(races.RACED_RATES, "adamw", (BURST, 2 * BURST))
    with pytest.raises(RunError, match=r"learning_rate = .auto. tried 1000000.0, 2000000.0 on toy.* diverged at each"):
        tune_runs([toy_run(backbone, learning_rate="auto", steps=16)], backbone, tmp_path)


def test_a_rate_that_is_not_known_yet_is_said_to_be_so():
    with pytest.raises(ConfigError, match="learning_rate is 'auto' where it must be known"):
        assert toy_config(learning_rate="auto").rate
    with pytest.raises(ValueError, match=r"should be a number above 0 and at most 3e.37"):
        TuneConfig(task="toy", method="model", learning_rate="auto")


def test_another_folder_is_refused_before_a_race_begins(backbone, tmp_path):
    tune_runs([toy_run(backbone)], backbone, tmp_path)
    with pytest.raises(RunError, match="another configuration"):
        tune_runs([replace(toy_run(backbone, learning_rate="auto"))], backbone, tmp_path)
    assert not (tmp_path / "rates").exists()
