"""Successive halving: when candidates are dropped, and which go on."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from spot.strategies.halving import best_so_far, halving, race_rungs
from tests.support.plans import curve


@given(st.integers(1, 40), st.integers(1, 300), st.integers(1, 60))
def test_halving_keeps_the_better_half_and_ends_at_half_of_the_steps(candidates: int, steps: int, every: int):
    rungs = halving(candidates, steps, every)
    assert all(rung.step % every == 0 and rung.step < steps for rung in rungs)
    assert [rung.step for rung in rungs] == sorted({rung.step for rung in rungs})
    keeps = [candidates, *(rung.keep for rung in rungs)]
    assert all(1 <= after <= -(-before // 2) for before, after in pairwise(keeps))
    if rungs:
        assert rungs[-1].keep == 1 and 0 <= rungs[-1].step - steps / 2 < every


@given(st.integers(2, 40), st.integers(1, 300), st.integers(1, 60), st.integers(0, 300))
def test_a_race_ends_with_a_duel_against_the_plain_run(candidates: int, steps: int, every: int, key_step: int):
    rungs = race_rungs(candidates, steps, every, key_step)
    halves = halving(candidates - 1, steps, every)
    assert rungs[: len(halves)] == halves and len(rungs) <= len(halves) + 1
    assert [rung.step for rung in rungs] == sorted({rung.step for rung in rungs})
    duel = next((rung for rung in rungs if rung.step >= max(key_step, steps / 2)), None)
    if duel is None:  # evaluations are too far apart, or the key step is near the end: whoever is left walks on
        assert max(key_step, steps / 2) > steps - every
    else:
        assert duel == rungs[-1] and duel.keep == 1 and duel.step < steps and duel.step % every == 0


def test_best_so_far_is_the_best_score_and_then_the_fewest_nats():
    walk = curve(50, 80, 80, 95, nats=[0.9, 0.6, 0.4, 0.1])
    assert best_so_far(walk, 12) == (80, -0.4)
    assert best_so_far(walk, 18) == (95, -0.1)
    assert best_so_far(curve(50), 0) == (50, float("-inf"))
