"""Say how much a strategy may train: a budget as a multiple of one plain run."""

import math

from spot.config import TransferConfig, read_budget
from spot.errors import ConfigError
from spot.strategies.plans import RACE_BUDGET
from spot.strategies.target import TargetRuns
from spot.training.loop import seconds_of
from spot.training.probe import read_probe, write_probe


def strategy_budget(target: TargetRuns, config: TransferConfig) -> float | None:
    """What the strategy may train, as a multiple of one plain run's; None for no limit.

    A time is compared with that of one plain run of all seeds, as a few steps on the real rows foretell it. That is
    measured once and kept, so that a killed transfer goes on by the same plan.

    Raises:
        ConfigError: the time is shorter than one plain run.
        RunError: what was measured before is damaged.
    """
    if config.budget is None:
        return RACE_BUDGET if config.strategy in ("race", "auto") else None
    amount, unit = read_budget(config.budget)
    if unit == "x":
        return amount
    path = target.out / "probe.json"
    seconds = read_probe(path)
    if seconds is None:
        seconds = seconds_of(target.with_seeds(target.prepare(target.config)), target.backbone)
    if amount < seconds:
        raise ConfigError(
            f"the budget {config.budget} is {amount / seconds:.2f} of one plain run, which takes about "
            f"{seconds:.0f} s here (steps = {config.steps}, seeds = {config.seeds}); expected one run or more: give "
            f"{math.ceil(seconds / 60)}min, or fewer steps or seeds"
        )
    write_probe(path, seconds)
    return amount / seconds
