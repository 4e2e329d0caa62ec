"""What a report of a transfer says of its numbers."""

from dataclasses import replace

import pytest

from spot.strategies.arms import CandidateSummary
from spot.strategies.comparison import StrategySummary, compare
from spot.strategies.report import TransferReport
from tests.support.toy_arms import PLAIN, SPOT


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
