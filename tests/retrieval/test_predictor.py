"""The learned predictor against its formula written out, its fallback, the record's table, and what it refuses."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spot.errors import LibraryError
from spot.library.history import TransferRecord
from spot.retrieval.predictor import FEWEST_RESULTS, fit, predict, table

seeds = st.integers(0, 2**32 - 1)


def record(targets: int = 9, sources: int = 8, seed: int = 0, untried: float = 0.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((targets, sources)) < untried, np.nan, rng.normal(50, 20, size=(targets, sources)))


def written_out(results: np.ndarray, to_sources: np.ndarray, to_targets: np.ndarray) -> list[float]:
    """The module's formulas, one number at a time."""
    mean = sum(to_sources) / len(to_sources)
    spread = (sum((x - mean) ** 2 for x in to_sources) / len(to_sources)) ** 0.5
    scores = []
    for source, similarity in enumerate(to_sources):
        above, below = 0.0, 1.0
        for row, near in zip(results, to_targets, strict=True):
            known = [x for x in row if x == x]
            if len(known) < 3 or len(set(known)) == 1 or row[source] != row[source]:
                continue
            middle = sum(known) / len(known)
            width = (sum((x - middle) ** 2 for x in known) / len(known)) ** 0.5
            weight = 2.718281828459045 ** ((near - mean) / spread)
            above, below = above + weight * (row[source] - middle) / width, below + weight
        scores.append(0.5 * 2.718281828459045 ** ((similarity - mean) / spread) + above / below)
    return scores


@settings(deadline=None)
@given(seeds)
def test_predict_is_the_formula(seed: int):
    results = record(seed=seed)
    results[3], results[4, 2:] = 7.0, np.nan  # two rows that say nothing
    to_sources, to_targets = np.split(np.random.default_rng(seed + 1).normal(size=17), [8])
    learnt = fit(results)
    if learnt.falls_back:
        return
    assert learnt.left_out >= 2
    assert predict(learnt, to_sources, to_targets) == pytest.approx(written_out(results, to_sources, to_targets))


@settings(deadline=None)
@given(seeds)
def test_units_of_results_and_similarities_do_not_matter(seed: int):
    rng = np.random.default_rng(seed)
    results, to_sources, to_targets = record(seed=seed, untried=0), rng.normal(size=8), rng.normal(size=9)
    expected = predict(fit(results), to_sources, to_targets)
    scaled = results * rng.uniform(0.5, 2, size=(9, 1)) + rng.normal(size=(9, 1))
    assert predict(fit(scaled), 3 * to_sources + 2, 3 * to_targets + 2) == pytest.approx(expected)


def test_the_source_that_helped_similar_targets_is_preferred():
    # Two kinds of targets, each helped by one half of the sources; all sources are equally similar to the new one.
    results = np.array([[9.0, 8, 7, 2, 1, 0]] * 4 + [[0.0, 1, 2, 7, 8, 9]] * 4)
    to_sources = np.array([0.2, 0.4, 0.6, 0.6, 0.4, 0.2])
    near_first = predict(fit(results), to_sources, np.array([0.8] * 4 + [0.1] * 4))
    near_last = predict(fit(results), to_sources, np.array([0.1] * 4 + [0.8] * 4))
    assert (near_first[:3] > near_first[:2:-1]).all()
    assert near_last == pytest.approx(near_first[::-1])


def test_a_source_that_was_never_tried_is_taken_as_average():
    results = record(untried=0)
    results[:, 2] = np.nan
    found = predict(fit(results), np.arange(8.0), np.zeros(9))
    assert found[2] == pytest.approx(0.5 * np.exp((2 - 3.5) / np.arange(8.0).std()))


def test_equal_similarities_leave_the_record_to_decide():
    results = np.tile(np.arange(8.0), (9, 1))
    assert (np.diff(predict(fit(results), np.full(8, 0.3), np.full(9, 0.3))) > 0).all()


@settings(deadline=None)
@given(seeds, st.integers(0, 7))
def test_a_small_record_ranks_by_similarity_alone(seed: int, targets: int):
    to_sources = np.random.default_rng(seed).normal(size=5)
    learnt = fit(record(targets, 5, seed, untried=0))
    assert learnt.results == 5 * targets < FEWEST_RESULTS
    assert learnt.falls_back
    found = predict(learnt, to_sources, np.zeros(targets))
    assert np.array_equal(np.argsort(found), np.argsort(to_sources))


def test_the_record_counts_from_forty_results_on():
    results = np.tile(np.arange(5.0), (8, 1))
    best_first = -np.arange(5.0)
    assert not fit(results).falls_back
    assert np.argmax(predict(fit(results), best_first, np.full(8, 5.0))) == 4
    results[0, 0] = np.nan
    assert fit(results).falls_back
    assert np.argmax(predict(fit(results), best_first, np.full(8, 5.0))) == 0


def test_targets_that_say_nothing_are_left_out_and_counted():
    results = np.array([[1.0, 2, 3], [4, 4, 4], [1, 2, np.nan], [np.nan] * 3])
    learnt = fit(results)
    assert learnt.left_out == 3
    assert learnt.results == 3
    assert learnt.standing[0] == pytest.approx([-(1.5**0.5), 0, 1.5**0.5])


def test_extreme_similarities_stay_finite():
    to_sources = np.array([0.5, 0.5, 0.5, 0.5, 0.5 + 1e-12])
    found = predict(fit(record(10, 5, untried=0)), to_sources, np.array([1e9, -1e9] * 5))
    assert np.isfinite(found).all()


def test_a_table_has_a_row_for_each_setting():
    records = [
        TransferRecord("a", "x", 1.0, steps=36, rows=100),
        TransferRecord("b", "x", 2.5, steps=36, rows=100),
        TransferRecord("a", "x", 3.0, steps=36, rows=100),  # another seed
        TransferRecord("a", "x", 9.0, steps=100, rows=100),
        TransferRecord("b", "y", -4.0),
        TransferRecord("gone", "y", 5.0),
        TransferRecord("gone", "z", 5.0),
    ]
    targets, results = table(records, ["b", "c", "a"])
    assert targets == ("x", "x", "y")
    nan = np.nan
    assert np.array_equal(results, [[2.5, nan, 2], [nan, nan, 9], [-4, nan, nan]], equal_nan=True)
    nothing = table([], ["a", "b"])
    assert nothing[0] == ()
    assert np.argmax(predict(fit(nothing[1]), np.array([0.1, 0.2]), np.zeros(0))) == 1


def test_bad_numbers_are_refused():
    with pytest.raises(LibraryError, match=re.escape("the record of transfers is [3]; expected [T, N]")):
        fit(np.ones(3))
    with pytest.raises(LibraryError, match="holds an infinite result"):
        fit(np.array([[1, np.inf, 2]]))
    learnt = fit(record())
    for sources, targets in ((7, 9), (8, 8)):
        with pytest.raises(LibraryError, match=f"sources .{sources}. and to targets .{targets}. do not fit a record"):
            predict(learnt, np.ones(sources), np.ones(targets))
    with pytest.raises(LibraryError, match="at least one source"):
        predict(fit(np.zeros((0, 0))), np.zeros(0), np.zeros(0))
    for bad in (np.nan, np.inf):
        with pytest.raises(LibraryError, match="a similarity is NaN or infinite"):
            predict(learnt, np.full(8, bad), np.ones(9))
