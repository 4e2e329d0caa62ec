"""The learned predictor against its formula written out, its fallback, the record's table, and what it refuses."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spot.errors import LibraryError
from spot.retrieval import predictor
from spot.retrieval.predictor import FEWEST_RESULTS, FEWEST_TARGETS, Gain, expected, fit, predict, proven, recorded

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
    assert np.isnan(learnt.z_scores[3:5]).all()
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


def test_targets_that_say_nothing_are_left_out():
    results = np.array([[1.0, 2, 3], [4, 4, 4], [1, 2, np.nan], [np.nan] * 3])
    learnt = fit(results)
    assert learnt.results == 3 and np.isnan(learnt.z_scores[1:]).all()
    assert learnt.z_scores[0] == pytest.approx([-(1.5**0.5), 0, 1.5**0.5])


def test_extreme_similarities_stay_finite():
    to_sources = np.array([0.5, 0.5, 0.5, 0.5, 0.5 + 1e-12])
    found = predict(fit(record(10, 5, untried=0)), to_sources, np.array([1e9, -1e9] * 5))
    assert np.isfinite(found).all()


GAINS = [
    Gain("a", "x", 1.0, (36, 100)),
    Gain("b", "x", 2.5, (36, 100)),
    Gain("a", "x", 3.0, (36, 100)),  # another seed
    Gain("c", "x", 0.5, (36, 100)),
    Gain("a", "x", 9.0, (100, 100)),
    Gain("b", "x", 8.0, (100, 100)),
    Gain("c", "x", 1.0, (100, 100)),
    Gain("a", "y", 1.0),
    Gain("b", "y", -4.0),
    Gain("c", "y", 0.0),
    Gain("gone", "y", 50.0),
    Gain("a", "unknown", -50.0),
]


def test_gains_are_compared_within_a_target_and_a_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(predictor, "FEWEST_RESULTS", 3)
    to_sources, to_targets = {"b": 0.1, "c": 0.3, "a": 0.2}, {"y": 0.9, "x": 0.4, "z": 0.5}
    expectation = expected(GAINS, to_sources, to_targets)
    results = np.array([[2.5, 0.5, 2], [8, 1, 9], [-4, 0, 1]])  # x in two settings, y; b, c, a
    wanted = predict(fit(results), np.array([0.1, 0.3, 0.2]), np.array([0.4, 0.4, 0.9]))
    assert list(expectation.scores.items()) == list(zip("bca", wanted.tolist(), strict=True))
    assert (expectation.results, expectation.falls_back) == (9, False)


def test_what_stands_in_no_mapping_is_not_learned_from():
    to_sources = {"a": 0.2, "b": 0.1, "c": 0.3}
    some = [gain for gain in GAINS if gain.source in to_sources and gain.target == "x"]
    assert expected(GAINS, to_sources, {"x": 0.4}) == expected(some, to_sources, {"x": 0.4})
    assert expected(GAINS, to_sources, {}).results == 0


@settings(deadline=None)
@given(seeds)
def test_expected_is_fit_and_predict(seed: int):
    results = record(seed=seed)
    to_sources, to_targets = np.split(np.random.default_rng(seed + 1).normal(size=17), [8])
    gains = [Gain(f"s{n}", f"t{t}", x) for t, row in enumerate(results) for n, x in enumerate(row) if x == x]
    expectation = expected(
        gains, {f"s{n}": x for n, x in enumerate(to_sources)}, {f"t{n}": x for n, x in enumerate(to_targets)}
    )
    assert list(expectation.scores.values()) == pytest.approx(predict(fit(results), to_sources, to_targets), abs=1e-12)
    assert (expectation.results, expectation.falls_back) == (fit(results).results, fit(results).falls_back)


def test_without_gains_the_similarities_decide():
    expectation = expected([], {"a": 0.1, "b": 0.2}, {})
    assert expectation.falls_back and expectation.scores["b"] > expectation.scores["a"]


@pytest.mark.parametrize(
    ("points", "similarity", "message"),
    [(np.inf, 0.1, "holds an infinite result"), (1.0, np.nan, "a similarity is NaN or infinite")],
)
def test_expected_refuses_numbers_that_are_not_finite(points: float, similarity: float, message: str):
    with pytest.raises(LibraryError, match=message):
        expected([Gain("a", "x", points)], {"a": similarity, "b": 0.2}, {"x": 0.3})
    with pytest.raises(LibraryError, match="at least one source"):
        expected([], {}, {})


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


def gains_of(results: np.ndarray) -> list[Gain]:
    return [
        Gain(f"s{source}", f"t{target}", points)
        for target, row in enumerate(results)
        for source, points in enumerate(row)
        if points == points
    ]


@settings(deadline=None)
@given(seeds)
def test_the_record_alone_is_the_mean_gain_next_to_the_others(seed: int):
    results = record(seed=seed, untried=0.4)
    names = [f"s{source}" for source in range(results.shape[1])]
    found = recorded(gains_of(results), names)
    for source, name in enumerate(names):
        above, tried = 0.0, 0
        for row in results:
            known = [points for points in row if points == points]
            if len(known) >= 3 and row[source] == row[source]:
                above, tried = above + row[source] - sum(known) / len(known), tried + 1
        assert found.scores[name] == pytest.approx(above / (1 + tried))
    assert found.results == sum(len(row[row == row]) for row in results if np.sum(row == row) >= 3)


def test_the_record_alone_counts_only_the_sources_that_are_wanted():
    gains = gains_of(np.array([[9.0, 3, 2, 1], [9.0, 3, 2, 1]]))
    assert recorded(gains, ["s1", "s2", "s3"]).scores == pytest.approx({"s1": 2 / 3, "s2": 0, "s3": -2 / 3})
    assert recorded(gains, ["s1", "new"]).scores == {"s1": 0, "new": 0}


def similar(rows: int, columns: int, seed: int, names: tuple[str, str]) -> dict[str, dict[str, float]]:
    table = np.random.default_rng(seed).normal(size=(rows, columns))
    first, second = names
    return {f"{first}{row}": {f"{second}{at}": float(table[row, at]) for at in range(columns)} for row in range(rows)}


def test_what_lost_least_on_past_targets_ranks_where_it_does_so_beyond_noise():
    targets, sources = 40, 6
    draws = np.random.default_rng(0)
    to_sources, to_targets = similar(targets, sources, 1, ("t", "s")), similar(targets, targets, 2, ("t", "t"))
    near = np.array([[50.0 * to_sources[f"t{t}"][f"s{s}"] for s in range(sources)] for t in range(targets)])
    # One past target outweighs all others, and what helped there says nothing.
    misled = {name: {other: 5 * value for other, value in row.items()} for name, row in to_targets.items()}
    by_mean = proven(gains_of(near), to_sources, misled)
    assert by_mean.rank_by == "mean" and by_mean.regrets["mean"] == 0 < by_mean.regrets["learned"]
    assert "ranked by `mean`: over 40 past targets" in by_mean.why
    # One source helps everywhere, and another, drawn at random, stands out by its similarity.
    always = np.tile(np.arange(sources) * 10.0, (targets, 1)) + draws.normal(size=(targets, sources))
    astray = {f"t{t}": {f"s{s}": float(s == t % sources) for s in range(sources)} for t in range(targets)}
    by_record = proven(gains_of(always), astray, to_targets)
    assert by_record.rank_by == "record" and by_record.regrets["record"] < by_record.regrets["learned"]
    # Where nothing foretells anything, `learned` is mostly kept.
    noise = [proven(gains_of(draws.normal(size=(12, sources))), to_sources, to_targets) for _ in range(30)]
    assert sum(proof.rank_by == "learned" for proof in noise) >= 24


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_the_regret_of_the_record_leaves_the_target_out(seed: int):
    results = record(8, 6, seed, untried=0)
    proof = proven(gains_of(results), similar(8, 6, seed, ("t", "s")), similar(8, 8, seed, ("t", "t")))
    lost = []
    for target, row in enumerate(results):
        others = np.delete(results, target, axis=0)
        mean = (others - others.mean(axis=1, keepdims=True)).mean(axis=0)
        lost.append(row.max() - row[np.argmax(mean)])
    assert proof.regrets["record"] == pytest.approx(np.mean(lost)) and proof.targets == 8


def test_few_targets_prove_nothing_and_say_so():
    few = FEWEST_TARGETS - 1
    results = np.tile(np.arange(9.0), (few, 1))
    proof = proven(gains_of(results), similar(few, 9, 0, ("t", "s")), similar(few, few, 0, ("t", "t")))
    assert proof.rank_by == "learned" and not proof.regrets and f"{few} targets are too few" in proof.why
    assert proven([], {}, {}).targets == 0
