"""Comparing arms: what is chosen, by which rows, and what the report then says."""

from pathlib import Path

import pytest

from spot.strategies.comparison import StrategySummary, compare
from spot.strategies.report import arm_rows
from tests.support.toy_arms import FROZEN, PLAIN, SPOT, WORSE, tuned


def test_selection_rows_choose_and_report_rows_report(target):
    report = compare(
        target, [FROZEN, WORSE, PLAIN, SPOT], StrategySummary(strategy="best", k=1), plain_tokens=100, left_out=3
    )
    assert report.chosen == "spot" and report.prompt_file == Path("spot-1"), "the seed that selects best"
    assert report.gain == pytest.approx(100 * 3 / 12), "over the start that selection rows prefer, not the better score"
    low, high = report.gain_interval
    assert low <= report.gain <= high
    assert [arm.relative_cost for arm in report.arms] == [0, 1, 1, 2.5]
    spot = report.arms[-1]
    assert (spot.steps_to_plain, spot.seconds_to_plain) == (2, 1.0), "the first point that reaches plain tuning's last"
    assert report.rows == {"train": 32, "select": 8, "report": 12} and (report.left_out, report.k) == (3, 1)
    assert report.classes.accuracy == pytest.approx(75.0)


def test_a_tuned_model_is_never_chosen(target):
    model = tuned("model", 12, (50.0, 50.0), (99.0, 99.0), folder=None, files=())
    report = compare(target, [PLAIN, model], StrategySummary(strategy="none"), plain_tokens=100, left_out=0)
    assert report.chosen == "plain:vocabulary" and report.gain is None
    titles = ["Full model tuning", "Plain prompt tuning from words of the vocabulary"]
    assert sorted(row[0] for row in arm_rows(report)) == titles
