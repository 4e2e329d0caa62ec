"""Jobs of a build: which settings stay in a race, which rows choose, which confirm, what a constant answer is."""

import random
from collections import Counter
from pathlib import Path

import pytest

from spot.building.jobs import TaskCheck, constant_answer, racing, split_choosing, work
from spot.building.plan import BuildPlan
from spot.models.backbone import Backbone
from spot.strategies.halving import Rung
from spot.tasks.splits import Splits
from spot.tasks.task import Example, Task
from spot.training.result import CurvePoint, RunResult
from spot.training.run import Member


def result(scores: dict[int, float], steps: int, diverged: str | None = None) -> RunResult:
    curve = tuple(CurvePoint(step=step, score=score, nats=1.0) for step, score in scores.items())
    return RunResult(
        task="any", digest="d", scores={}, step=0, steps=steps, tokens=0, seconds=0.0, curve=curve, diverged=diverged
    )


def rows(count: int, label: str = "a") -> tuple[Example, ...]:
    return tuple(Example(f"train/{number}", f"text {number}", (label,)) for number in range(count))


def task(labels: tuple[str, ...] = ("a", "b"), metrics: tuple[str, ...] = ("accuracy",)) -> Task:
    return Task("any", lambda split: iter(()), ("train",), labels, metrics)


def test_the_worse_half_stops_at_each_rung_by_the_mean_over_the_tasks():
    two_tasks = [
        result({0: 50, 2: 60, 4: 60}, 4), result({0: 10, 2: 20, 4: 20}, 4),
        result({0: 50, 2: 55, 4: 70}, 4), result({0: 10, 2: 40, 4: 10}, 4),
        result({0: 50, 2: 51}, 2), result({0: 10, 2: 10}, 2),
    ]  # fmt: skip
    rungs = (Rung(2, 2), Rung(4, 1))
    assert racing(two_tasks, 2, rungs, 1) == (0, 1, 2)
    assert racing(two_tasks, 2, rungs, 2) == (0, 1)
    assert racing(two_tasks, 2, rungs, 8) == (1,)


def test_a_setting_is_out_where_one_of_its_runs_diverged():
    results = [result({0: 50, 2: 90}, 3, "it diverged"), result({0: 50, 2: 60, 4: 60}, 4)]
    assert racing(results, 1, (), 2) == (0, 1)
    assert racing(results, 1, (), 4) == (1,)
    assert racing([result({0: 50, 2: 99}, 2, "at once"), *results[1:]], 1, (Rung(3, 1),), 3) == (1,)


def test_what_a_start_scores_does_not_keep_a_setting_in_the_race():
    """All settings of one start have its score, so a race by it would go by the order of the settings."""
    results = [result({0: 80, 2: 40}, 2), result({0: 80, 2: 70}, 2)]
    assert racing(results, 1, (Rung(2, 1),), 2) == (1,)


@pytest.mark.parametrize("count", [2, 3, 5, 29, 30, 31, 300])
def test_rows_that_confirm_do_not_choose(count: int):
    splits = Splits(rows(7), rows(count), rows(3))
    member, confirming = split_choosing(Member(task(), splits), 10, 20)
    choosing = member.splits.selection
    assert {row.id for row in choosing} | {row.id for row in confirming} == {row.id for row in rows(count)}
    assert not {row.id for row in choosing} & {row.id for row in confirming}
    assert 1 <= len(choosing) <= 10
    assert len(member.splits.report) == 0


def test_rows_of_a_sorted_file_choose_from_all_over_it():
    splits = Splits(rows(1), (*rows(150, "a"), *rows(150, "b")), ())
    member, confirming = split_choosing(Member(task(), splits), 100, 200)
    for part in (member.splits.selection, confirming):
        counts = Counter(row.answers[0] for row in part)
        assert abs(counts["a"] - counts["b"]) <= 2


def test_one_row_chooses_and_confirms():
    member, confirming = split_choosing(Member(task(), Splits(rows(1), rows(1), ())), 10, 20)
    assert member.splits.selection == confirming == rows(1)


def test_a_constant_answer_is_the_label_that_does_best_on_the_rows_that_train():
    draw = random.Random(0)
    labels = ("a", "b", "c")
    train = [Example(f"t/{n}", "x", (draw.choice("aab"),)) for n in range(40)]
    confirming = [Example(f"v/{n}", "x", (draw.choice("abbbc"),)) for n in range(50)]
    found = constant_answer(task(labels), train, confirming)
    commonest = Counter(row.answers[0] for row in train).most_common(1)[0][0]
    share = sum(row.answers[0] == commonest for row in confirming) / len(confirming)
    assert found is not None and found.scores == {"accuracy": pytest.approx(100 * share)}
    assert constant_answer(task((), ("exact_match",)), train, confirming) is None


def test_a_gain_is_over_the_better_of_frozen_and_constant_and_must_be_more_than_chance():
    check = TaskCheck(task="any", rows=100, tuned=80.0, frozen=50.0, constant=70.0, low=1.0, high=19.0)
    assert (check.gain, check.learned) == (10.0, True)
    assert TaskCheck(task="any", rows=100, tuned=80.0, frozen=50.0, constant=None, low=-1.0, high=19.0).gain == 30.0
    assert not TaskCheck(task="any", rows=9, tuned=80.0, frozen=75.0, constant=None, low=0.0, high=9.0).learned


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7])
def test_a_race_that_is_killed_goes_on_and_ends_the_same(
    planned: BuildPlan, backbone: Backbone, monkeypatch, tmp_path: Path, step: int
):
    class Killed(BaseException):
        """Nobody catches it."""

    def kill(done: int, total: int) -> None:
        if done == step:
            raise Killed

    [race] = planned.races
    whole = work(backbone, race)
    monkeypatch.setenv("SPOT_CACHE", str(tmp_path / "another"))
    with pytest.raises(Killed):
        work(backbone, race, kill)
    again = work(backbone, race)
    assert again.prompts == whole.prompts
    assert [[(point.step, point.score) for point in result.curve] for result in again.results] == [
        [(point.step, point.score) for point in result.curve] for result in whole.results
    ]
    assert [result.dropped for result in again.results] == [result.dropped for result in whole.results]
    assert any(result.dropped for result in whole.results)
