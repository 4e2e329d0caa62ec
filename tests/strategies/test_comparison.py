"""Comparing arms: what is chosen, by which rows, and what the report then says."""

from dataclasses import replace
from pathlib import Path

import pytest

from spot.evaluation.evaluation import Evaluation, Prediction
from spot.strategies.comparison import StrategySummary, compare
from spot.strategies.report import Arm, ArmPoint, CandidateSummary, TransferReport, arm_rows
from spot.strategies.target import TargetRuns
from tests.support.toy_runs import SPLITS, TASK, toy_config

ANSWERS = tuple(row.answers[0] for row in SPLITS.report)


def answered(right: int) -> Evaluation:
    """The first rows are answered right, the others wrong."""
    correct = tuple(number < right for number in range(len(ANSWERS)))
    other = {"no": "yes", "yes": "no"}
    texts = [answer if is_right else other[answer] for answer, is_right in zip(ANSWERS, correct, strict=True)]
    predictions = tuple(Prediction(text) for text in texts)
    return Evaluation({"accuracy": 100 * right / len(ANSWERS)}, correct, predictions, 0.5)


def tuned(name: str, right: int, *scores: tuple[float, ...], **changes: object) -> Arm:
    """An arm of tuned runs: of each evaluation the selection score of every seed."""
    curve = tuple(
        ArmPoint(step=2 * at, score=sum(seeds) / len(seeds), scores=seeds, seconds=float(at))
        for at, seeds in enumerate(scores)
    )
    values = {
        "arm": name,
        "source": None,
        "score": 100 * right / len(ANSWERS),
        "interval": (0.0, 100.0),
        "selection": max(point.score for point in curve),
        "curve": curve,
        "folder": name,
        "tokens": 100,
        "evaluations": (answered(right),) * len(scores[0]),
        "files": tuple(Path(f"{name}-{seed}") for seed in range(len(scores[0]))),
    }
    return Arm(**{**values, **changes})


@pytest.fixture
def target(backbone, tmp_path) -> TargetRuns:
    return TargetRuns(task=TASK, splits=SPLITS, backbone=backbone, config=toy_config(), seeds=2, out=tmp_path)


PLAIN = tuned("plain:vocabulary", 6, (50.0, 50.0), (60.0, 70.0))
WORSE = tuned("plain:classes", 12, (50.0, 50.0), (55.0, 60.0))
SPOT = tuned("spot", 9, (55.0, 60.0), (65.0, 65.0), (70.0, 90.0), source="red", tokens=250)
FROZEN = Arm(arm="frozen", source=None, score=0.0, interval=(0.0, 0.0), evaluations=(answered(0),) * 2)


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
    assert [row[0] for row in arm_rows(report)] == ["plain prompt tuning, vocabulary start", "full model tuning"]


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
    assert replace(report, candidates=(kept,)).verdict.startswith("No source was kept: a start from scratch did best")
    assert replace(report, candidates=(kept,)).to_json()["candidates"] == [
        {"source": "scratch", "kind": "scratch", "steps": 8, "selection": 80.0, "tokens": 100, "ended": "kept"}
    ]
