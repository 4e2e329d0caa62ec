"""The arms of a study against figures worked out by hand, and against a few lines of numpy that know no plans."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spot.errors import StudyError
from spot.retrieval import predictor
from spot.study.analysis.arms import ArmResults, generic_arms, settle_arms
from spot.study.analysis.groups import group_records, learned_rankings, ranked_sources
from spot.study.records import Record
from tests.support.study_groups import NAN, one_group, pair, plain
from tests.support.study_records import CONFIG, EVERY, KEY, PROMPT, STEPS, TOKENS, curve, paper_like, record


def settled_arms(records: list[Record], *strategies: str, ks: tuple[int, ...] = (1, 2, 3)) -> dict[str, ArmResults]:
    found = [group for group in group_records(records) if group.complete]
    return {f"{arm.kind} {arm.k}": arm for arm in settle_arms(found, strategies, ks, "mean")}


def test_each_arm_of_one_block():
    found = settled_arms(one_group(), "best", "oracle", "none")
    said = {name: arm.results[0] for name, arm in found.items()}
    figures = {name: (one.score, one.cost, one.tuned / PROMPT, one.start) for name, one in said.items()}
    key = KEY / STEPS
    assert figures == {
        "frozen 0": (30.0, 0.0, 0, ""),
        "as_is 1": (50.0, key, 0, "a"),
        "none 1": (50.0, 1.0, 1, "vocabulary"),
        "plain 2": (49.0, 2.0, 2, "classes"),  # by selection rows, though worse on report rows
        "restarts 3": (49.0, 3.0, 3, "classes"),
        "random 1": (pytest.approx((55 + 57 + 66) / 3), 1.0, 1, ""),
        "hindsight 1": (66.0, 1.0, 1, "c"),
        "best 1": (55.0, 1 + key, 1, "a"),
        "best 2": (57.0, 2 + key, 2, "b"),
        "best 3": (57.0, 3 + key, 3, "b"),
        "oracle 0": (57.0, 3.0, 3, "b"),
    }
    assert {one.shipped for name, one in said.items() if name != "frozen 0"} == {PROMPT}


def test_a_race_by_hand():
    # Three sources set out, and two are left after 10 of 40 steps. Plain tuning walks to its key at 15 in any case and
    # to the next rung at 20, where one is left.
    late = {**CONFIG, "key_step": 15}
    records = [
        replace(plain("t", 0, 50.0, 90.0), config=late, curve=curve(90.0, (10, 20, 30))),
        pair("a", "t", 0, 55.0, 80.0, 0.9, curve=curve(80.0, (30, 31, 32))),
        pair("b", "t", 0, 57.0, 70.0, 0.5, curve=curve(70.0, (20, 40, 41))),
        pair("c", "t", 0, 66.0, 99.0, 0.4, curve=curve(99.0, (15, 50, 60))),
    ]  # c is last at the first rung, a and plain tuning are behind at the second, b alone arrives
    one = settled_arms(records, "race", ks=(3,))["race 3"].results[0]
    assert (one.score, one.start) == (57.0, "b")
    assert one.cost == pytest.approx((10 + 20 + 20 + 40) / STEPS)
    assert one.tuned == 4 * PROMPT


def test_a_race_waits_for_a_key_that_lies_behind_half_of_the_steps():
    late = {**CONFIG, "key_step": 30}
    records = [
        replace(plain("t", 0, 50.0, 90.0), config=late, curve=curve(90.0, (10, 20, 30))),
        pair("a", "t", 0, 55.0, 80.0, 0.9, curve=curve(80.0, (30, 31, 32))),
    ]
    # The only rung stands at 30 of 40 steps, where the plain run has its key.
    assert settled_arms(records, "race", ks=(1,))["race 1"].results[0].cost == pytest.approx((30 + 40) / STEPS)
    assert settled_arms(records, "best", ks=(1,))["best 1"].results[0].cost == pytest.approx((30 + 40) / STEPS)


def test_tokens_between_two_evaluations_are_in_proportion():
    odd = {**CONFIG, "key_step": EVERY + EVERY // 2}
    records = [replace(plain("t", 0, 50.0, 90.0), config=odd), pair("a", "t", 0, 55.0, 80.0, 0.9)]
    assert settled_arms(records, "best", ks=(1,))["best 1"].results[0].cost == pytest.approx(1 + 15 / 40)


def test_a_run_that_lost_patience_does_not_cut_the_others_short():
    early = replace(plain("t", 0, 50.0, 52.0), steps=20, tokens=TOKENS // 2, curve=curve(52.0)[:3])
    records = [
        early,
        pair("a", "t", 0, 55.0, 60.0, 0.9),
        pair("b", "t", 0, 57.0, 58.0, 0.5, curve=curve(58.0, (59,) * 3)),
    ]
    found = settled_arms(records, "best", ks=(2,))
    assert found["best 2"].results[0].start == "a"  # its 60 come at step 40
    assert found["best 2"].results[0].cost == pytest.approx((250 + 2 * TOKENS) / (TOKENS / 2))


def test_averages_mixtures_and_models_have_cells_of_their_own():
    records = one_group(
        record("average", "t", 0, 61.0, sources=("a", "b"), weights=(0.6, 0.4), k=2),
        record("mixture", "t", 0, 62.0, sources=("a", "b"), k=2, tokens=3 * TOKENS),
        record("model", "t", 0, 63.0, tuned=10**6, shipped=10**6, tokens=2 * TOKENS),
        record("model", "t", 0, 64.0, sources=("mixture:glue",), tuned=10**6, shipped=10**6, tokens=5 * TOKENS),
    )
    found = settled_arms(records, "average", "mixture")
    assert {name for name in found if name.split()[0] in ("average", "mixture")} == {"average 2", "mixture 2"}
    said = {name: arm.results[0] for name, arm in found.items()}
    assert (said["average 2"].score, said["average 2"].cost, said["average 2"].start) == (61.0, 1.25, "a + b")
    assert (said["mixture 2"].score, said["mixture 2"].cost) == (62.0, 3.25)
    assert (said["model 0"].score, said["model 0"].cost, said["model 0"].shipped) == (63.0, 2.0, 10**6)
    assert (said["mixture_model 0"].score, said["mixture_model 0"].start) == (64.0, "mixture:glue")


def test_always_the_best_known_source_knows_nothing_of_its_target():
    # On x source a gains 9 points by selection rows; elsewhere nothing. Source b gains 1 everywhere.
    gains = {("a", "x"): 9, ("a", "y"): 0, ("a", "z"): 0, ("b", "x"): 1, ("b", "y"): 1, ("b", "z"): 1}
    records = [plain(target, 0, 50.0, 50.0) for target in "xyz"]
    # On report rows everything is the other way round.
    records += [pair(s, t, 0, 50.0 - gain, 50.0 + gain, 0.1) for (s, t), gain in gains.items()]
    found = settled_arms(records)
    assert [one.start for one in found["always 1"].results] == ["b", "a", "a"]
    assert [one.start for one in found["hindsight 1"].results] == ["b", "b", "b"]
    assert "always 1" not in settled_arms([one for one in records if one.task == "x"])


def test_past_transfers_rank_the_sources_of_a_block():
    records = paper_like(12, 6, 2)
    found = [group for group in group_records(records) if group.complete]
    ranked, knows = learned_rankings(found)
    assert knows
    for group, own in zip(found, ranked, strict=True):
        names = sorted(group.pairs)
        others = [one for one in found if one.seed == group.seed and one.target != group.target]
        gains = [
            [
                max(point.score for point in other.pairs[name].curve)
                - max(max(point.score for point in one.curve) for one in other.plain[: other.starts])
                for name in names
            ]
            for other in others
        ]
        at, *rest = (one.plain[0].embedding["mean"].astype(float) for one in (group, *others))
        near = [at @ one / np.linalg.norm(at) / np.linalg.norm(one) for one in rest]
        similar = np.array([group.pairs[name].similarity["mean"] for name in names])
        scores = predictor.predict(predictor.fit(np.array(gains)), similar, np.array(near))
        assert [one.task for one in own] == [names[at] for at in np.argsort(-scores, kind="stable")]

    arm = settled_arms(records, "best", "race")["learned_best 1"]
    assert [one.start for one in arm.results] == [own[0].task for own in ranked]


def test_too_few_past_transfers_make_no_arm_and_rank_as_similarity():
    records = paper_like(6, 3, 2)
    found = group_records(records)
    ranked, knows = learned_rankings(found)
    assert not knows and list(ranked) == [ranked_sources(group, "mean") for group in found]
    assert not any(name.startswith("learned") for name in settled_arms(records, "best", "race"))
    # Where another metric ranks, records need no other.
    bare = [
        replace(one, similarity={"token": one.similarity["token"]}) if one.kind == "pair" else one
        for one in paper_like(12, 6, 1)
    ]
    assert not [arm for arm in settle_arms(group_records(bare), ("best",), (1,), "token") if arm.kind == "learned_best"]
    # An embedding of zeros is like no other task.
    blank = [
        replace(one, embedding={"mean": np.zeros(8, "<f4")}) if one.embedding else one for one in paper_like(12, 6, 1)
    ]
    assert learned_rankings(group_records(blank))[1]


def test_one_source_for_all_targets_leaves_its_own_out():
    records = [plain(target, 0, 50.0, 50.0) for target in ("a", "t")]
    scores = {("b", "a"): 51.0, ("a", "t"): 52.0, ("b", "t"): 53.0}
    records += [pair(source, target, 0, score, score, 0.1) for (source, target), score in scores.items()]
    found = group_records(records)
    assert all(group.complete for group in found)
    assert {arm.name: [one and one.score for one in arm.results] for arm in generic_arms(found)} == {
        "a": [None, 52.0],
        "b": [51.0, 53.0],
    }


def test_further_draws_are_no_further_starts():
    key = {"embedding": {"mean": np.ones(2, "<f4")}}
    runs = [
        record("plain", "t", 0, 50.0, start=start, init_seed=draw, **(key if start == "classes" else {}))
        for start, draw in (("vocabulary", 2), ("classes", 0), ("vocabulary", 1))
    ]
    (group,) = group_records(runs)
    assert group.starts == 1
    assert [(one.start, one.init_seed) for one in group.plain] == [("classes", 0), ("vocabulary", 1), ("vocabulary", 2)]


def test_more_sources_than_there_are_is_all_of_them():
    found = settled_arms(one_group(), "best", ks=(3, 9))
    assert found["best 9"].results == found["best 3"].results


def test_a_diverged_source_is_no_candidate():
    records = [one if one.sources != ("b",) else replace(one, score=NAN, curve=()) for one in one_group()]
    found = settled_arms(records, "best")
    assert found["best 2"].results[0].start == "c"
    assert found["oracle 0"].results[0].cost == 2.0
    assert found["random 1"].results[0].score == (55 + 66) / 2


def test_a_block_without_its_first_plain_run_or_with_a_missing_pair_is_not_complete():
    records = one_group(*(replace(one, digest=f"{one.digest}!", seed=1) for one in one_group()))
    states = {group.seed: group for group in group_records([*records[:-1]])}
    assert states[0].complete and not states[1].complete
    assert states[1].lacking == ("c",)
    diverged = [replace(one, score=NAN) if one.embedding else one for one in one_group()]
    assert [group.complete for group in group_records(diverged)] == [False]
    assert settle_arms([], ("best",), (1,), "mean") == ()


@pytest.mark.parametrize(
    ("strategies", "ks", "metric", "message"),
    [
        (("bets",), (1,), "mean", r"unknown strategy 'bets'; did you mean 'best'\?"),
        (("best",), (1,), "maen", r"unknown metric 'maen'; did you mean 'mean'"),
        (("best",), (3, 0), "mean", r"k is 0; expected numbers of sources"),
        (("best",), (1,), "token", r"record of a on t, seed 0, has no similarity by 'token'"),
    ],
)
def test_what_no_study_can_have_is_refused(strategies, ks, metric, message):
    with pytest.raises(StudyError, match=message):
        settle_arms(group_records(one_group()), strategies, ks, metric)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_best_oracle_random_and_restarts_against_numpy(draw: int, k: int):
    """The arms of a whole study by argsort and argmax over arrays."""
    random = np.random.default_rng(draw)
    sources, targets, seeds, runs = 4, 3, 2, 3
    score, selected = random.uniform(0, 100, (2, targets, seeds, sources))
    similar = random.uniform(-1, 1, (targets, seeds, sources))
    own, chosen = random.uniform(0, 100, (2, targets, seeds, runs))
    records = [
        plain(f"t{t}", s, own[t, s, n], chosen[t, s, n], draw=n)
        for t in range(targets)
        for s in range(seeds)
        for n in range(runs)
    ]
    records += [
        pair(f"s{n}", f"t{t}", s, score[t, s, n], selected[t, s, n], similar[t, s, n])
        for t in range(targets)
        for s in range(seeds)
        for n in range(sources)
    ]
    found = settled_arms(records, "best", ks=(k,))
    nearest = np.argsort(-similar, axis=2)[..., :k]
    kept = np.take_along_axis(nearest, np.take_along_axis(selected, nearest, 2).argmax(2, keepdims=True), 2)
    expected = {
        f"best {k}": np.take_along_axis(score, kept, 2),
        "oracle 0": np.take_along_axis(score, selected.argmax(2, keepdims=True), 2),
        "random 1": score.mean(2),
        "restarts 2": np.take_along_axis(own, chosen[..., :2].argmax(2, keepdims=True), 2),
        "restarts 3": np.take_along_axis(own, chosen.argmax(2, keepdims=True), 2),
        "plain 1": own[..., 0],
    }
    for name, scores in expected.items():
        assert [one.score for one in found[name].results] == pytest.approx(scores.ravel().tolist()), name


def test_the_order_of_records_changes_nothing():
    records = paper_like(4, 3, 2)
    first, second = (settled_arms(list(some), "best", "race") for some in (records, reversed(records)))
    assert first == second
