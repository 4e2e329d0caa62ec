"""What a transfer tells: every part begins, every arm is scored on selection and on report rows."""

import logging

import pytest

from spot.strategies.news import Begun, Planned, Scored, time_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (59.6, "60 s"),
        (119, "119 s"),
        (121, "2 min"),
        (150, "2 min 30 s"),
        (700, "11 min"),
        (3600, "60 min"),
    ],
)
def test_times_for_people(seconds, text):
    assert time_text(seconds) == text


def test_every_part_and_every_arm_is_told_in_order(run, caplog):
    with caplog.at_level(logging.INFO, "spot.strategies"):
        report = run("best", k=2, budget="1h")
    events = [record.msg for record in caplog.records if isinstance(record.msg, Planned | Begun | Scored)]
    names = [
        event.part if isinstance(event, Begun) else event.role if isinstance(event, Scored) else "plan"
        for event in events
    ]
    assert names[:3] == ["selection", "selection", "3 prompts of the library as they are"], "a constant, no prompt"
    assert names.index("plan") < names.index("plain prompt tuning from words of the vocabulary") < names.index("report")
    [strategy] = [event for event in events if isinstance(event, Begun) and event.arms]
    assert sorted(strategy.arms.values()) == sorted(f"SPoT from {source.task}" for source in report.ranking[:2])
    assert {parents for parents in strategy.arms} == {(source.prompt,) for source in report.ranking[:2]}
    told = {event.arm: event for event in events if isinstance(event, Scored) and event.role == "report"}
    assert {entry.title: (entry.score, entry.interval) for entry in report.arms} == {
        name: (event.score, event.interval) for name, event in told.items()
    }
    left = [event.seconds + event.after for event in events if isinstance(event, Begun) and event.seconds]
    assert left == sorted(left, reverse=True) and len(left) == 3, "the time left falls from part to part"


def test_sentences():
    scored = Scored(arm="a constant answer", score=50, interval=(40.0, 60.0), rows=12, role="report", seconds=2.04)
    assert str(scored) == "a constant answer: 50.0 (95 % interval 40.0 to 60.0) on 12 report rows, 2.0 s"
    assert str(Begun(part="plain", seconds=60, after=65)) == "plain ... (about 2 min to the end)"
    assert str(Begun(part="plain")) == "plain ..."
    plan = Planned(budget="5min", seeds=1, steps=24, report=100, seconds=400, is_over=True)
    assert "takes about 6 min 40 s here, more than the budget of 5min: going on" in str(plan)
    assert str(Planned(budget="", seeds=2, steps=8, report=None, seconds=9)).endswith("all report rows: about 9 s")
