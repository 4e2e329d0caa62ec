"""What `auto` picks, and what it says of it."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.retrieval import predictor
from spot.retrieval.ranking import remember
from spot.strategies import auto
from spot.strategies.auto import choose_strategy
from spot.strategies.plans import plan_transfer, price
from tests.support.plans import SHAPE, ranking


@pytest.mark.parametrize(
    ("values", "settings", "strategy", "k", "why"),
    [
        ((), {}, "none", 0, "holds no source"),
        ((0.9, 0.8, 0.1), {"budget": 1.5}, "none", 0, "1.5 plain runs does not hold"),
        ((0.9, 0.8, 0.1), {"select_rows": 29}, "best", 1, "29 selection rows are too few"),
        ((0.9, 0.2, 0.15, 0.1), {}, "best", 1, "standard deviations above"),
        ((0.9, 0.2, 0.15, 0.1), {"learned": True}, "best", 1, "Its expected result"),
        ((0.9, 0.88, 0.1, 0.1), {}, "race", 3, "at most 2.5 of the 2.5 plain runs"),
        ((0.9, 0.88, 0.1, 0.1), {"budget": 1.7}, "race", 1, "the nearest of 4 sources"),
        ((0.9, 0.1), {}, "race", 2, "too few sources to see"),
        ((0.9,), {}, "race", 1, "the only source"),
        ((0.9, 0.88, 0.1), {"restarts": 9}, "best", 1, "more than the budget"),
        ((0.5, 0.5, 0.5, 0.5), {}, "race", 3, "only 0.0 standard deviations"),
    ],
)
def test_auto_picks_and_says_why_in_two_sentences(values, settings, strategy, k, why):
    made = choose_strategy(values, **{"select_rows": 100, **SHAPE, **settings})
    assert (made.strategy, made.k) == (strategy, k) and why in made.reason
    assert len(re.findall(r"\.(?=\s|$)", made.reason)) == 2 and made.reason.endswith(".")


@given(
    st.lists(st.floats(-1, 1), max_size=12), st.integers(1, 200), st.integers(1, 60), st.floats(1, 6), st.integers(1, 4)
)
def test_what_auto_picks_can_be_planned_within_its_budget(values, select_rows, key_step, budget, restarts):
    shape = {"steps": 60, "eval_every": 6, "key_step": key_step, "restarts": restarts}
    values = sorted(values, reverse=True)
    made = choose_strategy(values, select_rows=select_rows, budget=budget, **shape)
    planned = plan_transfer(made.strategy, ranking(*values), k=made.k, budget=budget, **shape)
    assert price(planned, key_step) <= budget + 1e-6
    assert len(planned.sources) == made.k


# On a tiny model.


def test_auto_says_why_and_does_what_it_says(run, monkeypatch):
    few = run("auto")
    assert few.strategy == "best" and "12 selection rows are too few" in few.reason
    monkeypatch.setattr(auto, "FEW_ROWS", 5)
    monkeypatch.setattr(auto, "STANDS_OUT", 99.0)
    race = run("auto")
    assert race.strategy == "race" and race.to_json()["reason"] == race.reason
    assert race.reason.startswith("A race between all 3 sources and 1 start from scratch.")
    assert len(race.candidates) == race.k + 1 == 4
    monkeypatch.setattr(auto, "STANDS_OUT", -1.0)
    assert run("auto").strategy == "best"
    tight = run("auto", budget="1.2x")
    assert tight.strategy == "none" and tight.gain is None and [one.arm for one in tight.arms][-1] != "spot"
    assert tight.ranking and "No source was used" in tight.verdict
    for report in (few, race, tight):
        assert len(re.findall(r"\.(?=\s|$)", report.reason)) == 3  # what, why, and what ranks the sources


def test_auto_goes_by_past_transfers_where_they_are_enough(run, library, backbone, monkeypatch):
    monkeypatch.setattr(predictor, "FEWEST_RESULTS", 3)
    monkeypatch.setattr(auto, "FEW_ROWS", 1)
    run("oracle")
    past = [
        replace(record, target="other", id=f"other {number}", gain=float(number))
        for number, record in enumerate(library.transfers())
    ]
    remember(library, past)
    report = run("auto")
    assert report.rank_by == "learned" and len(report.expected) == 3 and "expected result" in report.reason
    assert all("expected" in one for one in report.to_json()["ranking"])
    remember(library, [replace(record, id=f"{record.id} again", target="third", gain=-record.gain) for record in past])
    assert run("auto").to_json() == report.to_json(), "what is learned later does not change what is there"
    assert run("auto", rank_by="max").rank_by == "max"
