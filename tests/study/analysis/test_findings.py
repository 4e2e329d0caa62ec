"""The numbers of a study's report against figures worked out by hand and by loops of their own."""

import random
from dataclasses import replace

import numpy as np
import pytest

from spot.errors import StudyError
from spot.study.analysis.arms import ArmResult, ArmResults
from spot.study.analysis.findings import FEWEST_RUNS, ArmSummary, Findings, analyse, compare
from spot.study.analysis.groups import group_records
from spot.study.records import Record
from spot.study.report.sentences import sentences, verdict
from spot.training.result import CurvePoint
from tests.support.study_records import PROMPT, ROWS, constant, curve, paper_like, record, study

NAN = float("nan")
STRATEGIES, KS = ("best", "race", "oracle", "none"), (1, 3)


def found_in(records: list[Record], strategies=STRATEGIES, ks=KS, metric: str = "mean") -> Findings:
    return analyse(records, strategies, ks, metric)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return paper_like(6, 5, 3)


@pytest.fixture(scope="module")
def found(records: list[Record]) -> Findings:
    return found_in(records)


def by_name(summaries: tuple[ArmSummary, ...]) -> dict[str, ArmSummary]:
    return {f"{one.kind} {one.k}": one for one in summaries}


def small(gains: dict[str, float], targets: str = "tu", seeds: int = 3) -> list[Record]:
    """Sources that gain the same on every target and in every seed."""
    pairs = {(source, target): (50.0 + gain,) * seeds for source, gain in gains.items() for target in targets}
    similar = {(source, target): 0.1 * n for n, source in enumerate(gains) for target in targets}
    return study({target: (50.0,) * seeds for target in targets}, pairs, similar)


def test_a_summary_by_hand():
    plain = {"t": (50.0, 54.0), "u": (80.0, 82.0)}
    pairs = {("a", "t"): (60.0, 59.0), ("a", "u"): (84.0, 85.0), ("b", "t"): (50.0, 50.0), ("b", "u"): (80.0, 80.0)}
    similar = {cell: 0.9 if cell[0] == "a" else 0.1 for cell in pairs}
    model = [record("model", "t", 0, 70.0, tuned=64_000, shipped=64_000)]
    one = by_name(found_in([*study(plain, pairs, similar), *model], ("best",), (1,)).arms)["best 1"]
    assert (one.targets, one.runs) == (2, 4)
    assert one.score == pytest.approx((59.5 + 84.5) / 2)
    assert one.deviation == pytest.approx(np.std([72, 72], ddof=1))
    assert one.gain == pytest.approx((7.5 + 3.5) / 2)
    # Of the means over seeds, then over targets; and the same with one seed at a time.
    assert one.rer == pytest.approx((100 * 7.5 / 48 + 100 * 3.5 / 19) / 2)
    seeds = [(100 * 10 / 50 + 100 * 4 / 20) / 2, (100 * 5 / 46 + 100 * 3 / 18) / 2]
    assert one.rer_deviation == pytest.approx(np.std(seeds, ddof=1))
    assert one.cost == 1.25
    assert (one.tuned, one.shipped) == (PROMPT, PROMPT)
    assert one.tuned_share == one.shipped_share == pytest.approx(100 * PROMPT / 64_000)


def test_targets_count_alike_whatever_their_number_of_seeds():
    records = [one for one in small({"a": 10.0, "b": 0.0}) if one.task != "u" or one.seed == 0]
    records = [replace(one, score=52.0) if one.sources == ("a",) and one.task == "u" else one for one in records]
    found = found_in(records, ("best",), (2,)).generic[0]
    assert (found.arm, found.runs, found.gain) == ("a", 4, pytest.approx((10 + 2) / 2))
    assert found.deviation is None  # one seed alone has both targets


def test_every_comparison_is_paired_and_has_its_interval(found: Findings, records: list[Record]):
    splits = [one.role for one in found.comparisons if one.arm == "best of the 3 nearest"]
    assert splits == ["plain", "equal_cost", "random", "always", "hindsight", "oracle"]
    summaries = {one.arm: one for one in found.arms}
    for one in found.comparisons:
        assert one.difference == pytest.approx(summaries[one.arm].score - summaries[one.against].score)
        assert one.interval[0] <= one.difference <= one.interval[1]
        assert one.better == ("yes" if one.interval[0] > 0 else "no" if one.interval[1] < 0 else "undecided")
        assert one.runs == 15
    plain = {one.arm: one for one in found.comparisons if one.role == "plain"}
    for name, one in plain.items():
        assert one.interval == summaries[name].gain_interval


def test_equal_cost_is_the_cheapest_that_costs_no_less(found: Findings):
    equal = {one.arm: one.against for one in found.comparisons if one.role == "equal_cost"}
    assert equal["the nearest source"] == "plain tuning, the better start"  # 2 for 1.25
    assert equal["best of the 3 nearest"] == "plain tuning, best of 4 runs"  # 4 for 3.25
    alone = found_in(small({"a": 1.0, "b": 0.0, "c": 0.0}), ("best",), (3,))
    assert [one.against for one in alone.comparisons if one.role == "equal_cost"] == ["plain tuning"]


def arm(scores: list[float | None]) -> ArmResults:
    results = [None if score is None else ArmResult(score=score, cost=1.0, tuned=1, shipped=1) for score in scores]
    return ArmResults(name="arm", kind="best", k=1, results=tuple(results))


def test_few_runs_decide_nothing_and_shared_blocks_alone_count():
    whole = group_records(small({"a": 1.0}, targets="tuv", seeds=2))
    assert len(whole) == FEWEST_RUNS
    better = arm([2.0, 3.0, 2.0, 2.5, 3.0, 2.0])
    zero = arm([0.0] * 6)
    assert compare(better, zero, "plain", whole).better == "yes"
    assert compare(zero, better, "plain", whole).better == "no"
    assert compare(better, arm([2.5] * 6), "plain", whole).better == "undecided"
    fewer = compare(better, arm([None, *[0.0] * 5]), "plain", whole)
    assert (fewer.runs, fewer.better, fewer.difference) == (5, "undecided", pytest.approx((3 + 2.25 + 2.5) / 3))
    assert compare(better, arm([None] * 6), "plain", whole) is None


def test_sources_for_all_targets_are_in_the_order_of_their_gain():
    found = found_in(small({"a": 1.0, "b": 5.0, "mixture:glue": 3.0}))
    assert [(one.arm, one.gain) for one in found.generic] == [("b", 5.0), ("mixture:glue", 3.0), ("a", 1.0)]


def test_what_is_missing_is_counted():
    records = small({"a": 1.0, "b": 2.0})
    whole = found_in(records)
    assert {kind: (one.finished, one.failed, one.missing) for kind, one in whole.counts.items()} == {
        "source": (6, 0, None),
        "plain": (6, 0, None),
        "pair": (12, 0, 0),
    }
    gone = {("pair", "t", ("a",), 1), ("pair", "t", ("b",), 2)}
    some = [one for one in records if (one.kind, one.task, one.sources, one.seed) not in gone]
    some = [one for one in some if (one.task, one.seed) != ("u", 0)]  # a whole group: two pairs
    found = found_in(some)
    assert (found.counts["pair"].finished, found.counts["pair"].missing) == (8, 4)
    assert {one.name: (one.seeds, one.pairs, one.missing) for one in found.targets} == {"t": (1, 4, 2), "u": (2, 4, 0)}
    assert {(one.source, one.target): one.seeds for one in found.transfers} == {
        ("a", "t"): 2,
        ("b", "t"): 2,
        ("a", "u"): 2,
        ("b", "u"): 2,
    }
    assert {one.runs for one in found.arms} == {3}


def test_failed_cells_are_counted_named_and_left_out():
    records = [
        replace(one, score=NAN, curve=(), reason="the loss was not finite at step 7")
        if one.sources == ("b",) and one.seed == 0 and one.task == "t"
        else one
        for one in small({"a": 1.0, "b": 2.0})
    ]
    found = found_in(records)
    assert (found.counts["pair"].finished, found.counts["pair"].failed) == (12, 1)
    (failure,) = found.failures
    assert (failure.kind, failure.target, failure.source, failure.seed) == ("pair", "t", "b", 0)
    assert failure.reason == "the loss was not finite at step 7"
    assert {one.runs for one in found.arms} == {6}  # the group is settled with the source that is left
    assert next(one.seeds for one in found.transfers if (one.source, one.target) == ("b", "t")) == 2


def test_targets_say_their_rows_their_starts_and_whether_rows_were_mixed():
    records = small({"a": 1.0})
    records += [record("plain", "t", seed, 49.0, start="classes", curve=curve(40.0 + 20 * seed)) for seed in range(3)]
    t, u = found_in(records).targets
    assert (t.rows, u.rows) == (ROWS, ROWS)
    assert (t.starts, u.starts) == ({"vocabulary": 1, "classes": 2}, {"vocabulary": 3})
    assert not t.mixed
    other = [replace(one, data="others") if one.kind == "pair" and one.task == "t" else one for one in records]
    assert [one.mixed for one in found_in(other).targets] == [True, False]


def test_a_study_without_pairs_has_no_arms_and_says_what_it_has():
    records = [one for one in small({"a": 1.0}) if one.kind != "pair"]
    found = found_in(records)
    assert (found.arms, found.comparisons, found.transfers, found.generic, found.rankings) == ((), (), (), (), ())
    assert found.counts["pair"].finished == 0 and found.counts["plain"].finished == 6
    assert found.tasks is not None
    only_sources = [one for one in records if one.kind == "source"]
    assert found_in(only_sources).targets == ()


def test_without_a_score_there_is_nothing_to_report():
    with pytest.raises(StudyError, match="0 records, none of a cell that finished with a score"):
        found_in([])
    failed = [replace(one, score=NAN) for one in small({"a": 1.0})]
    with pytest.raises(StudyError, match=f"{len(failed)} records, none of a cell"):
        found_in(failed)


def test_a_mistake_is_named_before_records_are_missed():
    with pytest.raises(StudyError, match="unknown strategy 'bast'"):
        found_in([], strategies=("bast",))


def test_negative_scores_and_perfect_baselines_are_fine():
    plain = {"t": (-10.0, 0.0), "u": (100.0, 100.0)}
    pairs = {("a", "t"): (-5.0, 3.0), ("a", "u"): (99.0, 100.0)}
    found = found_in(study(plain, pairs, dict.fromkeys(pairs, -0.3)), ("best",), (1,))
    one = by_name(found.arms)["best 1"]
    assert one.gain == pytest.approx((4 - 0.5) / 2)
    assert one.rer == pytest.approx(100 * 4 / 105)  # of t alone
    assert [said.best_sources[0].target for said in found.summaries] == ["t"]
    perfect = found_in(study({"u": (100.0,)}, {("a", "u"): (99.0,)}, {("a", "u"): 0.1}))
    assert {one.rer for one in perfect.arms} == {None}


def test_costs_that_nobody_counted_are_not_known():
    records = [replace(one, tokens=0) for one in small({"a": 1.0})]
    assert {one.cost for one in found_in(records).arms if one.kind != "frozen"} == {None}


def test_the_size_of_the_model_comes_from_settings_where_no_model_was_tuned():
    records = small({"a": 1.0})
    assert found_in(records).backbone is None
    sized = [replace(one, config={**one.config, "backbone_parameters": 3200}) for one in records]
    assert by_name(found_in(sized).arms)["plain 1"].shipped_share == 10.0


def test_the_order_of_records_changes_nothing(records: list[Record], found: Findings):
    mixed = list(records)
    random.Random(0).shuffle(mixed)
    other = found_in(mixed)
    for name in vars(found):
        if name != "tasks":
            assert getattr(other, name) == getattr(found, name), name
    assert other.tasks.names == found.tasks.names and (other.tasks.cosines == found.tasks.cosines).all()


def with_constant(records: list[Record], chosen: dict[str, float], rows: int = 100) -> list[Record]:
    """A study with a constant answer, whose selection score is given by target."""
    some = [replace(one, rows={**one.rows, "select": rows}) for one in records]
    seeds = {one.seed for one in records}
    return some + [
        record("constant", target, seed, 40.0, curve=(CurvePoint(0, score),), rows={**ROWS, "select": rows}, tokens=0)
        for target, score in chosen.items()
        for seed in seeds
    ]


def test_targets_that_nobody_learns_count_apart():
    """Plain tuning has 50 on selection rows everywhere, and the best source 60; the constant answer decides."""
    records = constant({"a": 10.0, "b": 5.0, "c": -5.0}, seeds=3)
    found = analyse(with_constant(records, {"t": 30.0, "u": 55.0, "v": 30.0}), ["best"], [1], "mean")
    learned = {target.name: target.is_learned for target in found.targets}
    assert learned == {"t": True, "u": False, "v": True}
    by_hand = (60 - 55) / (100 * (2 * 0.55 * 0.45 / 300) ** 0.5)  # three draws of 100 rows
    assert found.targets[1].over_constant == pytest.approx(by_hand) and found.targets[1].constant == 40
    assert {arm.targets for arm in found.arms} == {3} and {arm.targets for arm in found.learned_arms} == {2}
    assert {pair.runs for pair in found.learned_comparisons} == {6}
    assert [arm.arm for arm in found.learned_arms] == [arm.arm for arm in found.arms]
    gains = {arm.kind: arm.gain for arm in found.learned_arms}
    assert gains["constant"] == pytest.approx(-10) and gains["best"] == pytest.approx(10)
    told = " ".join(sentences(found))
    assert "selection rows of u (40.0): they count apart, which leaves 2 targets" in told
    assert "On the 2 targets that are learned: +10.0 points" in verdict(found)


def test_few_rows_make_a_difference_noise():
    records = constant({"a": 10.0, "b": 5.0, "c": -5.0}, seeds=3)
    few = analyse(with_constant(records, dict.fromkeys("tuv", 50.0), rows=20), ["best"], [1], "mean")
    assert not any(target.is_learned for target in few.targets) and not few.learned_arms
    assert "so that nothing counts" in " ".join(sentences(few))
    many = analyse(with_constant(records, dict.fromkeys("tuv", 50.0), rows=1000), ["best"], [1], "mean")
    assert all(target.is_learned for target in many.targets) and not many.learned_arms


def test_without_a_constant_answer_every_target_counts():
    found = analyse(constant({"a": 10.0, "b": 5.0, "c": -5.0}), ["best"], [1], "mean")
    assert all(target.is_learned and target.over_constant is None for target in found.targets)
    assert not found.learned_arms and "constant" not in " ".join(sentences(found))
