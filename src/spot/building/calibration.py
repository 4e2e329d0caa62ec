"""Find the settings that learn on a model: races of settings on a task or two, judged by rows that choose."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import with_config

from spot.building.jobs import Done, Race, learned_curves, racing
from spot.building.recipe import Setting
from spot.storage.values import STRICT
from spot.strategies.halving import mean_best_so_far


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one setting came to in its race, on the rows that choose.

    Attributes:
        setting: that was tried.
        score: its best selection score after the first step and up to where it stopped, percent, mean over the tasks.
        start: the same before the first step.
        steps: that it walked.
        tokens: text tokens that it trained, all tasks together.
        ended: `kept`, `dropped` at a rung, `lost` at the end, or why it diverged.
    """

    setting: Setting
    score: float
    start: float
    steps: int
    tokens: int
    ended: str


@dataclass(frozen=True)
class Winner:
    """The setting that is kept, its race, and the numbers of its runs in it; None of a calibration that nobody won."""

    setting: Setting
    race: Race
    runs: tuple[int, ...]


def settle(
    races: Sequence[Race], dones: Sequence[Done], settings: Sequence[Setting]
) -> tuple[list[Trial], Winner | None]:
    """What the settings came to, and the best of those that came to the end of their race; equal ones go by loss.

    Args:
        races: that are over.
        dones: what came back of each.
        settings: of all races, in their order.
    """
    trials: list[Trial] = []
    best: tuple[tuple[float, float], Winner] | None = None
    for race, done in zip(races, dones, strict=True):
        count = len(race.configs) // race.tasks
        tried, settings = settings[:count], settings[count:]
        if not done.results:
            trials += [Trial(setting=s, score=0.0, start=0.0, steps=0, tokens=0, ended=done.reason) for s in tried]
            continue
        finished = racing(done.results, race.tasks, race.rungs, race.configs[0].steps)
        for number, setting in enumerate(tried):
            runs = tuple(range(number * race.tasks, (number + 1) * race.tasks))
            results = [done.results[run] for run in runs]
            rank = mean_best_so_far(learned_curves(results), race.configs[0].steps)
            diverged = next((result.diverged for result in results if result.diverged), None)
            trials.append(
                Trial(
                    setting=setting,
                    score=rank[0],
                    start=sum(result.curve[0].score for result in results) / len(results),
                    steps=max(result.steps for result in results),
                    tokens=sum(result.tokens for result in results),
                    ended=diverged or ("lost" if number in finished else "dropped"),
                )
            )
            if number in finished and (best is None or rank > best[0]):
                best = rank, Winner(setting, race, runs)
    if best is None:
        return trials, None
    winner = best[1]
    return [_kept(trial) if trial.setting == winner.setting else trial for trial in trials], winner


def _kept(trial: Trial) -> Trial:
    """The trial of the setting that is kept."""
    return Trial(**{**vars(trial), "ended": "kept"})
