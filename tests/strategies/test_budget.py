"""Budgets: a time is measured once, and what a budget does not hold is refused."""

import json

import pytest

from spot.errors import ConfigError
from spot.strategies import budget, transfers
from tests.support.toy_transfers import results_in


def test_a_budget_in_minutes_is_measured_once(run, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(budget, "seconds_of", lambda runs, backbone: calls.append(len(runs)) or 120.0)
    with pytest.raises(
        ConfigError,
        match=r"the budget 1min is 0.50 of one plain run, which takes about 120 s here "
        r"\(steps = 8, seeds = 1\).*give 2min",
    ):
        run("race", budget="1min")
    assert not (tmp_path / "out").exists() and calls == [1]
    assert run("race", budget="4min").k == 2, "twice the time of a plain run"
    assert run("race", budget="18min").k == 3
    assert calls == [1, 1], "the first measurement is kept"


def test_a_probe_on_real_rows_tells_what_a_plain_run_takes(run, tmp_path):
    assert run("auto", budget="1h").strategy in ("best", "race")
    seconds = json.loads((tmp_path / "out" / "probe.json").read_text())["seconds"]
    plain = results_in(tmp_path / "out" / "plain-vocabulary")
    assert 0 < seconds < 60 and seconds > 0.2 * sum(one.seconds for one in plain)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"strategy": "best", "k": 3, "budget": "2x"},
            r"best with 3 starts costs up to 3.38 plain runs, retrieval's "
            r"3 of 8 steps included, and the budget is 2.00",
        ),
        ({"strategy": "mixture", "k": 1, "budget": "2x"}, r"mixture with 1 start costs up to 2.38"),
        ({"strategy": "race", "restarts": 9}, r"race with 10 starts costs up to .* the budget is 2.50"),
    ],
)
def test_a_budget_that_does_not_hold_the_strategy(run, settings, message, monkeypatch):
    monkeypatch.setattr(transfers, "check_rows", lambda *_: None)
    with pytest.raises(ConfigError, match=message):
        run(**settings)
