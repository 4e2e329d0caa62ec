"""What a study found, in sentences: what is decided, what is not, and what is missing."""

from dataclasses import replace
from typing import Any

from spot.study.analysis.findings import analyse
from spot.study.records import Record
from spot.study.report.sentences import sentences, verdict
from tests.support.study_records import constant, paper_like, record

STRATEGIES, KS = ("best", "race", "oracle", "none"), (1, 3)


def said(records: list[Record], **changes: Any) -> str:
    found = analyse(records, *{"strategies": STRATEGIES, "ks": KS, "metric": "mean", **changes}.values())
    return "\n".join([verdict(found), *sentences(found)])


def test_a_help_is_said_with_its_interval():
    text = said(constant({"a": 6.0, "b": 2.0, "c": -1.0, "d": -2.0}))
    assert text.startswith(
        "Best of the 3 nearest against plain tuning: +6.0 points (95 % interval +6.0 to +6.0, 6 runs), at the cost of "
        "3.25 plain runs. It helps."
    )
    assert "Does it beat plain tuning? Yes: +6.0 points" in text
    assert "Does it beat a source at random? Yes: +4.8 points" in text
    # The best known source is the nearest one, so nothing is gained by looking for it.
    assert "Does it beat always taking the best known source? Undecided: +0.0 points" in text
    assert "Sources that help most over all targets, seen afterwards: a (+6.0 points, worse on 0 of 3), b (" in text
    assert (
        "Of 12 pairs of source and target 6 end below plain tuning (negative transfer; 6 of them with every seed), "
        in text
    )
    assert "6 above, and 3 lower its error by more than 10 %." in text  # 6 of 50; 2 of 50 are 4 %


def test_harm_is_said():
    text = said(constant({"a": -6.0, "b": -9.0, "c": -8.0}))
    assert "3.25 plain runs. It does harm." in text
    assert "Does it beat plain tuning? No: -6.0 points" in text
    assert "No source helps on average over the targets." in text


def test_nothing_decided_is_said():
    text = said(constant({"a": 3.0, "b": 3.0, "c": 3.0}, targets="t", seeds=2))
    assert "Whether it helps is undecided." in text
    assert "2 runs (targets times seeds) are fewer than 6: they decide nothing." in text
    assert "Nothing is decided" in text
    assert "Similarity against gain: no correlation is defined (all gains are equal)." in text
    enough = said(constant({"a": 0.0, "b": 0.0, "c": 0.0}))
    assert "Nothing is decided" in enough and "fewer than 6" not in enough


def test_similarity_is_counted_target_by_target():
    gains = {"a": 9.0, "b": 6.0, "c": 3.0, "d": 0.0, "e": -3.0}
    text = said(constant(gains))
    assert "Similarity by 'mean' against gain: mean r +1.00; above 0 with p < 0.05 in 3 of 3 targets." in text
    reverse = said(constant(dict(reversed(gains.items()))))
    assert "mean r -1.00; above 0 with p < 0.05 in 0 of 3 targets." in reverse


def test_the_headline_is_the_first_strategy_with_most_sources():
    records = paper_like(5, 3, 2)
    race = analyse(records, ("none", "race", "best"), (1, 2), "mean")
    assert verdict(race).startswith("Race of the 2 nearest against plain tuning")
    none = analyse(records, ("none", "oracle"), (1,), "mean")
    assert verdict(none) == "No strategy that similarity guides is among the records, so only its rivals are shown."


def test_model_tuning_is_a_rival():
    records = constant({"a": 6.0, "b": 2.0, "c": 1.0})
    records += [record("model", target, seed, 54.0, tuned=10**6, shipped=10**6) for target in "tuv" for seed in (0, 1)]
    assert "Does it beat model tuning? Yes: +2.0 points" in said(records)


def test_gaps_failures_and_overlaps_are_said():
    records = constant({"a": 6.0, "b": 2.0})
    records[-1] = replace(records[-1], score=float("nan"), reason="it diverged")
    records = [one for one in records if (one.kind, one.task, one.sources, one.seed) != ("pair", "t", ("a",), 0)]
    records = [one for one in records if (one.kind, one.task, one.sources) != ("pair", "u", ("a",))]
    text = said(records)
    assert "9 of 12 pair cells are there." in text
    assert "Left out of the arms, because no seed has all its cells: u." in text
    assert "Cells that ended without a score, as diverged runs do, and count nowhere: 1 pair." in text
    assert "9 report rows that a source was trained on are left out for every arm." in text


def test_a_perfect_baseline_and_mixed_rows_are_said():
    records = constant({"a": 0.0}, targets="t", plain=100.0) + constant({"a": 1.0}, targets="u")
    records = list({one.digest: one for one in records}.values())
    assert "Plain tuning has no error to reduce on t: left out of error reductions." in said(records)
    mixed = [replace(one, data="other") if one.kind == "pair" and one.task == "u" else one for one in records]
    assert "Cells of u were measured on different rows and are not comparable" in said(mixed)
