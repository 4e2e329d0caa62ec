"""Budgets: a time is for the whole transfer, measured once; what is left out is lowered to it, what is named is not."""

import json
import logging
from dataclasses import replace

import pytest

from spot.config import TransferConfig
from spot.errors import ConfigError, RunError
from spot.strategies import budget, transfers
from spot.strategies.budget import fit
from spot.strategies.news import Planned
from spot.strategies.transfers import transfer_rows
from spot.training.loop import Pace
from tests.support.toy_runs import named, word_splits
from tests.support.toy_transfers import results_in


@pytest.fixture
def slow_machine(monkeypatch) -> list[int]:
    """A step of one run takes 15 seconds, and reading none: a plain run of 8 steps two minutes."""
    calls = []
    monkeypatch.setattr(budget, "pace_of", lambda runs, backbone, steps: calls.append(len(runs)) or Pace(15.0, 0.0))
    return calls


def test_a_budget_in_minutes_is_measured_once(run, slow_machine, tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"the budget 1min is 0.50 of one plain run, which takes about 120 s here "
        r"\(steps = 8, seeds = 1\).*give 2min",
    ):
        run("race", budget="1min", out="short")
    assert not list((tmp_path / "short").glob("plain-*"))
    assert run("race", budget="5min").k == 1, "a plain run takes two of the five"
    assert run("race", budget="18min", out="long").k == 3
    assert slow_machine == [1, 1, 1], "one run of one seed is timed"
    assert run("race", budget="18min", out="long").k == 3 and slow_machine == [1, 1, 1], "what was settled is kept"


def test_what_was_settled_is_read_strictly(run, slow_machine, tmp_path):
    run("best", budget="1h")
    path = tmp_path / "out" / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seeds": "three"}))
    with pytest.raises(RunError, match=r"plan.json: the field 'seeds'.*Delete it to have the time measured again"):
        run("best", budget="1h")


def test_a_probe_on_real_rows_tells_what_a_plain_run_takes(run, tmp_path):
    assert run("auto", budget="1h").strategy in ("best", "race")
    seconds = json.loads((tmp_path / "out" / "plan.json").read_text())["plain"]
    plain = results_in(tmp_path / "out" / "plain-vocabulary")
    assert 0 < seconds < 60 and seconds > 0.2 * sum(result.seconds for result in plain)


@pytest.mark.parametrize(
    ("pace", "settled"),
    [
        (Pace(0.01, 0.01), (3, 36, 6, None)),  # seconds: all that is usual fits
        (Pace(1.1, 0.2), (3, 36, 12, 200)),  # 121 s for a plain arm, as much for the strategy, 40 s for report rows
        (Pace(1.5, 0.0), (2, 36, 12, 200)),
        (Pace(2.5, 0.0), (2, 24, 12, 200)),
        (Pace(3.5, 0.0), (1, 36, 12, 200)),
        (Pace(5.0, 0.0), (1, 24, 12, 100)),
    ],
)
def test_settings_that_are_left_out_are_lowered_to_the_time(target, monkeypatch, pace, settled):
    monkeypatch.setattr(budget, "pace_of", lambda runs, backbone, steps: pace)
    sized = fit(target, TransferConfig(), plain_arms=1)
    assert (sized.seeds, sized.steps, sized.eval_every, sized.report) == settled and not sized.is_over


def test_rates_that_race_are_paid_for(target, monkeypatch):
    monkeypatch.setattr(budget, "pace_of", lambda runs, backbone, steps: Pace(1.0, 0.0))
    config = TransferConfig(seeds=1, steps=10, budget="60s")
    once = fit(target, config, plain_arms=2)
    raced = fit(
        replace(target, races_rates=True), config.model_copy(update={"prompt_learning_rate": "auto"}), plain_arms=2
    )
    ranking = (target.config.key_step or 0) / 10
    assert (once.arm, once.embedding, once.total) == (10, 0, 30) and once.strategy == pytest.approx(4 + ranking)
    assert (raced.arm, raced.embedding, raced.total) == (20, 10, 70), "two rates an arm, and one run to be embedded"
    assert raced.strategy == pytest.approx(1 + ranking) and raced.is_over


def test_the_least_transfer_goes_on_where_nobody_named_the_budget(target, monkeypatch):
    monkeypatch.setattr(budget, "pace_of", lambda runs, backbone, steps: Pace(60.0, 1.0))
    sized = fit(target, TransferConfig(), plain_arms=1)
    assert sized.is_over and (sized.seeds, sized.steps) == (1, 24)
    (target.out / "plan.json").unlink()
    with pytest.raises(ConfigError, match=r"the budget 5min is 0\.2"):
        fit(target, TransferConfig(budget="5min"), plain_arms=1)


def test_what_was_asked_for_by_name_stays(target, monkeypatch):
    monkeypatch.setattr(budget, "pace_of", lambda runs, backbone, steps: Pace(5.0, 0.1))
    sized = fit(target, TransferConfig(seeds=2, steps=30, report_rows=300), plain_arms=1)
    assert (sized.seeds, sized.steps, sized.eval_every, sized.report, sized.is_over) == (2, 30, 6, 300, True)
    named_later = fit(target, TransferConfig(seeds=2, steps=30, report_rows=50), plain_arms=1)
    assert named_later.report == 50, "the report rows are no part of what is kept"


def test_a_plan_of_other_wishes_is_made_anew(target, monkeypatch):
    monkeypatch.setattr(budget, "pace_of", lambda runs, backbone, steps: Pace(1.0, 0.1))
    assert fit(target, TransferConfig(), plain_arms=1).seeds == 3
    assert fit(target, TransferConfig(seeds=2), plain_arms=1).seeds == 2, "in the same folder"
    assert fit(target, TransferConfig(budget="1min"), plain_arms=1).seeds == 1


@pytest.mark.parametrize("word", [None, "2x"])
def test_without_a_time_nothing_is_measured(target, monkeypatch, word):
    monkeypatch.setattr(budget, "pace_of", None)
    sized = fit(target, TransferConfig(budget=word, strategy="race"), plain_arms=1)
    assert (sized.seeds, sized.steps, sized.report) == (3, 36, None) and sized.strategy == (2.0 if word else 2.5)


def test_the_plan_is_told_and_a_sample_of_the_rows_reports(backbone, library, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(budget, "_SIZES", ((1, 4, 2, 10),))
    monkeypatch.setattr(budget, "pace_of", lambda runs, backbone, steps: Pace(5.0, 1.0))
    config = TransferConfig(steps=4, seeds=1, strategy="none", budget="55s")
    with caplog.at_level(logging.INFO, "spot.strategies"):
        report = transfer_rows(named("toy"), word_splits("toy"), backbone, library, config, out=tmp_path)
    assert report.rows["report"] == 10 < len(word_splits("toy").report)
    [plan] = [record.msg for record in caplog.records if isinstance(record.msg, Planned)]
    assert "budget 55s: 1 run of 4 steps for every tuned arm, up to 10 report rows; about" in str(plan)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"strategy": "best", "k": 3, "budget": "2x"},
            r"best with 3 starts costs up to 3.38 plain runs, retrieval's "
            r"3 of 8 steps included, and the budget is 2.00",
        ),
        ({"strategy": "mixture", "k": 1, "budget": "2x"}, r"mixture with 1 start costs up to 2.38"),
        ({"strategy": "race", "restarts": 9, "budget": "2.5x"}, r"race with 10 starts costs .* the budget is 2.50"),
    ],
)
def test_a_budget_that_does_not_hold_the_strategy(run, settings, message, monkeypatch):
    monkeypatch.setattr(transfers, "check_rows", lambda *_: None)
    with pytest.raises(ConfigError, match=message):
        run(**settings)
