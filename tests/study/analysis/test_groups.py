"""Records in groups of one target and one seed: which belong together, what is lacking, and how sources rank."""

from dataclasses import replace

import pytest

from spot.errors import StudyError
from spot.study.analysis.arms import from_scratch, settle_arms
from spot.study.analysis.groups import group_records, learned_rankings, plain_selection_score, ranked_sources
from spot.study.records import Record
from tests.support.study_groups import NAN, one_group, pair, plain
from tests.support.study_records import curve, paper_like, record


def test_past_transfers_know_nothing_of_their_own_target():
    records = paper_like(12, 6, 1)
    changed = [
        replace(one, curve=curve(99 - one.score)) if one.kind == "pair" and one.task == "target/02" else one
        for one in records
    ]
    orders = []
    for some in (records, changed):
        found = group_records(some)
        orders.append(
            {
                group.target: [one.task for one in own]
                for group, own in zip(found, learned_rankings(found)[0], strict=True)
            }
        )
    assert orders[0]["target/02"] == orders[1]["target/02"] and orders[0] != orders[1]


def test_equal_similarities_are_in_the_order_of_their_names():
    records = [plain("t", 0, 50.0, 50.0), *(pair(name, "t", 0, 50.0, 50.0, 0.5) for name in "cab")]
    assert [one.task for one in ranked_sources(group_records(records)[0], "mean")] == ["a", "b", "c"]


def test_no_pair_is_expected_of_a_source_that_failed():
    records = one_group()[:-1]
    pairs_of_c = [plain("u", 0, 50.0, 50.0), *(pair(name, "u", 0, 50.0, 50.0, 0.5) for name in "abc")]
    lacking = {group.target: group.lacking for group in group_records([*records, *pairs_of_c])}
    assert lacking == {"t": ("c",), "u": ()}
    failed = record("source", "c", 0, NAN, reason="it diverged")
    unmeasured = record("source", "c", 0, NAN)  # a mixture has no report rows; its prompt is there all the same
    assert {group.lacking for group in group_records([*records, *pairs_of_c, failed])} == {()}
    assert ("c",) in {group.lacking for group in group_records([*records, *pairs_of_c, unmeasured])}


def test_two_records_of_one_cell_are_refused():
    twice = [*one_group(), replace(one_group()[3], digest="other", score=1.0)]
    with pytest.raises(StudyError, match=r"pair-t-a--0-0-0 and other are both .* \(pair from a on t, seed 0\)"):
        group_records(twice)


def test_a_score_without_a_curve_is_refused():
    bare = [replace(one, curve=()) if one.sources == ("b",) else one for one in one_group()]
    with pytest.raises(StudyError, match="record pair-t-b--0-0-0 has a score and no curve"):
        group_records(bare)


def at(rate: float | str, run: Record) -> Record:
    return replace(run, digest=f"{run.digest}-{rate}", config={**run.config, "learning_rate": rate})


def test_the_selection_rows_choose_between_learning_rates_and_all_of_them_are_paid():
    records = [
        at(0.005, plain("t", 0, 50.0, 52.0)),
        at(0.03, replace(plain("t", 0, 70.0, 66.0), embedding={})),
        at("auto", replace(plain("t", 0, 80.0, 60.0), embedding={})),
        at(0.005, plain("t", 0, 51.0, 50.0, draw=1)),
        at(0.005, pair("a", "t", 0, 55.0, 56.0, 0.9)),
        at(0.03, pair("a", "t", 0, 60.0, 70.0, 0.9)),
        at(0.005, pair("b", "t", 0, 57.0, 65.0, 0.5)),
        at(0.03, pair("b", "t", 0, 90.0, 64.0, 0.5)),
    ]
    [group] = group_records(records)
    assert group.starts == 3 and [run.rate for run in group.plain] == ["0.005", "0.03", "auto", "0.005"]
    assert plain_selection_score(group) == 66.0 and from_scratch(group, group.starts).score == 70.0
    assert from_scratch(group, group.starts).start == "vocabulary at 0.03"
    assert {source: (run.score, run.rate, run.tokens) for source, run in group.pairs.items()} == {
        "a": (60.0, "0.03", 2000),
        "b": (57.0, "0.005", 2000),
    }
    assert group.pairs["a"].curve[-1].tokens == 2000 and group.pairs["a"].tuned == 640
    assert not group.lacking and group.complete
    names = {arm.kind: arm.name for arm in settle_arms([group], ["best"], [1], "mean")}
    assert names["plain"] == "plain tuning, the better start and rate"
