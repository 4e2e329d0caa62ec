"""What a report of a transfer says of its numbers."""

from dataclasses import replace

import pytest

from spot.evaluation.predictions import ranked
from spot.rendering.html import render
from spot.retrieval.search import Ranked
from spot.strategies.arms import CandidateSummary, by_selection
from spot.strategies.comparison import StrategySummary, compare
from spot.strategies.report import ARM_COLUMNS, TransferReport, arm_rows, transfer_page
from tests.support.html_outline import Outline, stands_alone
from tests.support.toy_arms import PLAIN, SPOT
from tests.support.toy_runs import SPLITS


@pytest.fixture
def report(target) -> TransferReport:
    return compare(target, [PLAIN, SPOT], StrategySummary(strategy="best", k=1), plain_tokens=100, left_out=0)


@pytest.mark.parametrize(
    ("gain", "interval", "words"),
    [
        (5.0, (1.0, 9.0), "Starting from red helped: +5.0 points"),
        (-5.0, (-9.0, -1.0), "HURT"),
        (1.0, (-3.0, 5.0), "did not win clearly"),
    ],
)
def test_the_verdict_follows_the_interval(report, gain, interval, words):
    assert words in replace(report, gain=gain, gain_interval=interval).verdict


def test_a_start_from_scratch_that_won_is_no_source(report):
    kept = CandidateSummary(source="scratch", kind="scratch", steps=8, selection=80.0, tokens=100, ended="kept")
    assert "No source was kept: a start from scratch did best" in replace(report, candidates=(kept,)).verdict
    assert replace(report, candidates=(kept,)).to_json()["candidates"] == [
        {"source": "scratch", "kind": "scratch", "steps": 8, "selection": 80.0, "tokens": 100, "ended": "kept"}
    ]


def page_of(report: TransferReport) -> Outline:
    return stands_alone(render(transfer_page(report)))


def test_arms_have_one_name_in_the_whole_page(report):
    html = render(transfer_page(report))
    assert "plain:vocabulary" not in html and "Plain prompt tuning from words of the vocabulary" in html
    outline = Outline(html)
    names = [arm.name for arm in report.arms]
    assert {text for text in outline.text["th"] if text in names} == set(names)
    assert {text for text in outline.text["span"] if text in names} == set(names)


def test_the_page_has_few_columns_of_arms_and_the_rest_below(report):
    outline = page_of(report)
    headings = outline.text["h2"]
    assert headings.index("What each arm reaches") < headings.index("What each arm costs") < headings.index("Next")
    assert len(ARM_COLUMNS) <= 6 and all(len(row) == len(ARM_COLUMNS) for row in arm_rows(report))
    assert [row[0] for row in arm_rows(report)] == [arm.name for arm in by_selection(report.arms)]


def test_a_strategy_is_a_paragraph_and_no_fact(report):
    told = replace(report, reason="auto picked best. It fits.", ranking=(Ranked("0" * 16, "red", 0.5),))
    outline = page_of(told)
    assert "auto picked best. It fits." in outline.text["p"]
    assert "auto picked best. It fits." not in outline.text["dd"] and "best, k = 1" in outline.text["dd"]


def test_rows_that_are_at_hand_are_shown_with_their_answers(report):
    assert "Rows it gets most wrong" not in page_of(replace(report, examples=())).text["h2"]
    outline = page_of(replace(report, examples=SPLITS.report))
    assert {"Rows it gets most wrong", "Rows and their answers", "Which class is taken for which"} <= {
        *outline.text["h2"]
    }
    wrong = [example.inputs for example in SPLITS.report[9:]]
    assert set(wrong) <= set(outline.text["th"])


def test_probabilities_are_shown_where_they_are_known(report):
    sure = [ranked(("no", "yes"), [-0.1, -2.4])] * len(SPLITS.report)
    arms = tuple(
        replace(arm, evaluations=(replace(arm.evaluations[0], predictions=tuple(sure)),) * 2) for arm in report.arms
    )
    outline = page_of(replace(report, arms=arms, examples=SPLITS.report))
    assert "Whether its probabilities can be believed" in outline.text["h2"]
    assert "90.9" in outline.text["td"]


def test_sources_are_sorted_by_what_is_drawn(report):
    ranking = (Ranked("0" * 16, "red", 0.2), Ranked("1" * 16, "blue", 0.6))
    by_gain = page_of(replace(report, ranking=ranking, expected=(3.0, 1.0)))
    assert [text for text in by_gain.text["span"] if "(0." in text] == ["red (0.20)", "blue (0.60)"]
    by_similarity = page_of(replace(report, ranking=ranking))
    assert [text for text in by_similarity.text["span"] if text in ("red", "blue")] == ["blue", "red"]


def test_a_plain_run_that_was_kept_is_no_arm_beside_itself(report):
    assert SPOT.name not in [row[0] for row in arm_rows(replace(report, is_plain=True))]


def test_a_report_is_saved_as_one_file(report, tmp_path):
    path = report.save(tmp_path / "report.html")
    assert path.read_text() == render(transfer_page(report))
