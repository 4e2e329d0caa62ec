"""What a calibration finds: a line for every setting, and the one that is kept."""

from spot.building.calibration import settle
from spot.building.jobs import Done, Race
from spot.building.recipe import Setting
from spot.config import TuneConfig
from spot.strategies.halving import Rung
from spot.training.result import CurvePoint, RunResult


def setting(rate: float, optimiser: str = "adamw") -> Setting:
    return Setting(optimiser, rate, 0.0, 3, "vocabulary")


def race(count: int, rungs: tuple[Rung, ...]) -> Race:
    config = TuneConfig(task="any", steps=8)
    return Race(configs=(config,) * count, tasks=1, rungs=rungs, confirm_rows=10, origin="model")


def result(scores: dict[int, float], nats: float = 1.0, diverged: str | None = None) -> RunResult:
    curve = tuple(CurvePoint(step=step, score=score, nats=nats) for step, score in scores.items())
    steps = max(scores)
    return RunResult(
        task="any", digest="d", scores={}, step=0, steps=steps, tokens=10 * steps, seconds=0.0, curve=curve,
        diverged=diverged,
    )  # fmt: skip


def test_the_best_setting_over_all_races_is_kept_and_equal_ones_go_by_loss():
    races = [race(2, (Rung(4, 1),)), race(1, ())]
    dones = [
        Done(results=(result({0: 50, 4: 55}), result({0: 50, 4: 60, 8: 70}, nats=0.5))),
        Done(results=(result({0: 50, 4: 60, 8: 70}, nats=0.4),)),
    ]
    settings = [setting(0.1), setting(0.2), setting(0.3, "adafactor")]
    trials, winner = settle(races, dones, settings)
    assert [trial.ended for trial in trials] == ["dropped", "lost", "kept"]
    assert [(trial.start, trial.score, trial.steps, trial.tokens) for trial in trials] == [
        (50, 55, 4, 40), (50, 70, 8, 80), (50, 70, 8, 80)
    ]  # fmt: skip
    assert winner is not None and (winner.setting, winner.race, winner.runs) == (settings[2], races[1], (0,))


def test_a_setting_that_diverged_says_why_and_does_not_win():
    dones = [Done(results=(result({0: 50, 4: 99}, diverged="too high a rate"), result({0: 50, 4: 51, 8: 52})))]
    trials, winner = settle([race(2, ())], dones, [setting(9.0), setting(0.1)])
    assert [trial.ended for trial in trials] == ["too high a rate", "kept"]
    assert winner is not None and winner.setting == setting(0.1)


def test_a_race_that_could_not_be_run_leaves_its_reason_and_no_winner():
    trials, winner = settle([race(1, ())], [Done(reason="the rows are gone")], [setting(0.1)])
    assert ([trial.ended for trial in trials], winner) == (["the rows are gone"], None)
