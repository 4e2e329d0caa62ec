"""Plans of strategies: what they cost by counting steps one by one, and which candidate they keep."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.errors import ConfigError, RunError
from spot.strategies.halving import Rung
from spot.strategies.plans import (
    RACE_BUDGET,
    STRATEGIES,
    Outcome,
    Plan,
    Remaining,
    Start,
    plan_transfer,
    price,
    remaining,
    resolve,
)
from tests.support.plans import SHAPE, curve, ranking

NINE = ranking(*(0.9 - number / 10 for number in range(9)))


def test_each_strategy_starts_where_the_paper_says():
    made = {name: plan_transfer(name, NINE, k=3, **SHAPE) for name in STRATEGIES}
    assert [start.tasks for start in made["best"].starts] == [("task0",), ("task1",), ("task2",)]
    assert [start.prompts for start in made["oracle"].starts] == [(one.prompt,) for one in NINE]
    assert made["none"].starts == (Start("scratch"),)
    (average,) = made["average"].starts
    assert average.weights == pytest.approx((0.9 / 2.4, 0.8 / 2.4, 0.7 / 2.4)) and average.tasks[2] == "task2"
    (mixture,) = made["mixture"].starts
    assert (mixture.kind, mixture.prompts) == ("mixture", ("digest0", "digest1", "digest2"))
    assert [start.name for start in made["race"].starts] == ["task0", "task1", "task2", "scratch"]
    assert all(not made[name].rungs for name in STRATEGIES if name != "race")
    assert made["best"].sources == mixture.prompts and made["none"].sources == ()


def test_a_race_with_restarts_names_them():
    made = plan_transfer("race", NINE[:1], k=1, restarts=3, budget=9, **SHAPE)
    assert [start.name for start in made.starts] == ["task0", "scratch", "scratch 1", "scratch 2"]


@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 36))
def test_the_cost_of_a_race_is_the_steps_walked(k: int, restarts: int, key_step: int):
    made = plan_transfer("race", NINE, k=k, steps=36, eval_every=6, restarts=restarts, key_step=key_step, budget=99)
    keep = {rung.step: rung.keep for rung in made.rungs}
    racing, waiting, walked = len(made.starts) - 1, 1, 0
    for step in range(1, 37):
        walked += racing + waiting
        if step in keep:
            if step >= key_step:
                racing, waiting = racing + waiting, 0
            racing = min(racing, keep[step])
    assert made.cost == pytest.approx(walked / 36)
    assert price(made, key_step) == made.cost, "what retrieval takes is the plain run's own way"


@pytest.mark.parametrize(("strategy", "runs"), [("best", 3), ("average", 1), ("mixture", 1)])
def test_other_strategies_pay_for_retrieval_on_top(strategy: str, runs: int):
    made = plan_transfer(strategy, NINE, k=3, **SHAPE)
    assert made.cost == runs and price(made, 24) == pytest.approx(runs + 24 / 36)


def test_what_takes_all_or_none_retrieves_nothing():
    assert price(plan_transfer("oracle", NINE, k=3, **SHAPE), 24) == 9
    assert price(plan_transfer("none", NINE, k=3, **SHAPE), 24) == 1


@pytest.mark.parametrize("budget", [1.7, 2.0, 2.5, 4.0])
def test_a_race_takes_as_many_sources_as_its_budget_holds(budget: float):
    many = ranking(*(1 - number / 99 for number in range(99)))
    made = plan_transfer("race", many, k=99, budget=budget, **SHAPE)
    k = len(made.sources)
    assert price(made, 24) <= budget < price(plan_transfer("race", many, k=k + 1, budget=99, **SHAPE), 24)
    assert plan_transfer("race", NINE, k=9, **SHAPE) == plan_transfer("race", NINE, k=9, budget=RACE_BUDGET, **SHAPE)


def test_bad_plans_are_refused():
    with pytest.raises(ConfigError, match=r"unknown strategy 'rase'; did you mean 'race'"):
        plan_transfer("rase", NINE, k=1, **SHAPE)
    for k in (0, 10):
        with pytest.raises(ConfigError, match=f"k is {k}, but there are 9 sources"):
            plan_transfer("best", NINE, k=k, **SHAPE)
    with pytest.raises(ConfigError, match=r"no source has a similarity above 0 \(task0 -0.100, task1 -0.200\)"):
        plan_transfer("average", ranking(-0.1, -0.2), k=2, **SHAPE)


def test_a_source_of_negative_similarity_has_no_weight_in_an_average():
    (start,) = plan_transfer("average", ranking(0.6, -0.2), k=2, **SHAPE).starts
    assert start.weights == (1.0, 0.0)


RACE = Plan("race", tuple(Start("prompt", (str(n),), (str(n),)) for n in range(4)), (Rung(12, 2), Rung(18, 1)), 36)


def test_resolving_follows_the_rungs():
    curves = [
        [curve(50, 55, 60, 95)],  # dropped at step 12, whatever it would have come to
        [curve(50, 70, 72, 73)],  # second at step 12, dropped at step 18
        [curve(50, 60, 80, 90, 91, 91, 91)],
        [curve(50, 71, 71, 71)],
    ]
    assert resolve(RACE, curves) == Outcome(2, (12, 18, 36, 12))
    assert remaining(RACE, curves, 11) == Remaining((0, 1, 2, 3), (36,) * 4)
    assert remaining(RACE, curves, 12).candidates == (1, 2)


def test_resolving_goes_by_the_mean_over_seeds_and_equal_ones_by_their_order():
    curves = [
        [curve(60, 60, 60), curve(80, 80, 80)],
        [curve(71, 71, 71, 71), curve(70, 70, 70, 70)],
        [curve(70, 70, 70), curve(70, 70, 70)],
        [curve(71, 71, 71, 71), curve(70, 70, 70, 70)],
    ]
    assert resolve(RACE, curves) == Outcome(1, (12, 36, 12, 18))


def test_the_plain_run_waits_for_the_first_rung_after_its_key_step():
    made = plan_transfer("race", NINE, k=2, **SHAPE)  # key step 24
    assert made.rungs == (Rung(18, 1), Rung(24, 1)) and made.joins == 24
    slow_start = curve(50, 50, 50, 50, 90, 91, 92)
    settled = resolve(made, [[curve(50, 60, 70, 80, 81)], [curve(50, 60, 70, 70)], [slow_start]])
    assert settled == Outcome(2, (24, 18, 36)), "last at step 18, when it is not asked, and first at 24"
    assert resolve(made, [[curve(50, 60, 70, 80, 91)], [curve(50)], [slow_start]]) == Outcome(0, (36, 18, 24))


def test_where_the_key_step_lies_early_the_plain_run_is_one_of_those_that_halve():
    made = plan_transfer("race", NINE, k=4, **{**SHAPE, "key_step": 12})
    assert made.rungs == (Rung(12, 2), Rung(18, 1))
    curves = [[curve(50, 60, 60)], [curve(50, 60, 70, 71)], [curve(50, 60, 65)], [curve(50)], [curve(50, 60, 80, 90)]]
    assert resolve(made, curves) == Outcome(4, (12, 18, 12, 12, 36))


def test_resolving_without_rungs_takes_the_best_of_all():
    made = plan_transfer("best", NINE, k=3, **SHAPE)
    assert resolve(made, [[curve(70, 75)], [curve(70, 80)], [curve(70, 80)]]) == Outcome(1, (36, 36, 36))


def test_a_candidate_that_diverged_is_out_and_leaves_its_place_to_another():
    curves = [[curve(50, 90)], [curve(50, 70, 72, 73)], [curve(50, 60, 80, 90, 91, 91, 91)], [curve(50, 71, 71, 71)]]
    assert resolve(RACE, curves, {0: 8}) == Outcome(2, (8, 18, 36, 12))
    # The last one left may diverge too; those that the rungs have dropped are not called back.
    with pytest.raises(RunError, match="training diverged from 0, 2"):
        resolve(RACE, curves, {0: 8, 2: 30})
    with pytest.raises(RunError, match=r"no candidate of the strategy 'race' came to the end.*0, 1, 2, 3"):
        resolve(RACE, curves, {0: 8, 1: 8, 2: 8, 3: 8})
