"""Fit a transfer into its budget: how many runs and steps, how many report rows, and how much the strategy may train.

A time is for the whole transfer. Settings that were left out are lowered until what a few steps on the real rows
foretell fits in; what was asked for by name is never changed. What was settled is kept, so that a killed transfer goes
on by the same plan.

plan.json       in the transfer's folder
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import with_config

from spot.config import REPORT_ROWS, TransferConfig, digest, read_budget
from spot.errors import ConfigError, RunError, StorageError
from spot.storage.files import write_whole
from spot.storage.opening import read_bounded
from spot.storage.values import STRICT, read_value, to_json
from spot.strategies.plans import RACE_BUDGET
from spot.strategies.target import TargetRuns
from spot.training.loop import pace_of
from spot.training.rates import RACED_RATES

MOST_TIMED = 32  # selection rows of the evaluation that is timed
_MOST_BYTES = 10_000
# Runs of an arm, steps, steps between evaluations, report rows: from what is best to what is least.
_SIZES = ((3, 36, 6, None), (3, 36, 12, 200), (2, 36, 12, 200), (2, 24, 12, 200), (1, 36, 12, 200), (1, 24, 12, 100))


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a transfer does with its time.

    Attributes:
        seeds: runs of every tuned arm.
        steps: of every run.
        eval_every: steps between evaluations.
        report: most report rows; None for all.
        strategy: most that the strategy may train, as a multiple of one plain run; None for no limit.
        plain: seconds that all runs of a tuned arm are expected to take at one learning rate; 0 where that was not
            measured, as in the next two.
        answering: seconds that one prompt is expected to take for all report rows.
        transferring: seconds that the strategy's own runs are expected to take.
        plain_arms: starts of plain tuning.
        rates: learning rates that each arm runs at.
        is_over: whether even this is expected to pass the budget.
        asked: digest of what was asked for.
    """

    seeds: int
    steps: int
    eval_every: int
    report: int | None = None
    strategy: float | None = None
    plain: float = 0.0
    answering: float = 0.0
    transferring: float = 0.0
    plain_arms: int = 1
    rates: int = 1
    is_over: bool = False
    asked: str = ""

    @property
    def arm(self) -> float:
        """Seconds of one tuned arm, at all of its rates."""
        return self.rates * self.plain

    @property
    def embedding(self) -> float:
        """Seconds of the run that the task embedding is read from, where it is no arm of its own."""
        return self.plain if self.rates > 1 else 0.0

    @property
    def reporting(self) -> float:
        """Seconds of the report rows: tuned arms, the source as it is, and no prompt."""
        return self.answering * (self.seeds * (self.plain_arms + 1) + 2)

    @property
    def total(self) -> float:
        """Seconds of all that is tuned and reported."""
        return self.embedding + self.after(0)

    def after(self, plain_arms: int) -> float:
        """Seconds of what follows so many arms of plain tuning."""
        return (self.plain_arms - plain_arms) * self.arm + self.transferring + self.reporting


def fit(target: TargetRuns, config: TransferConfig, *, plain_arms: int) -> Fit:
    """How a transfer keeps to its budget.

    Args:
        target: with the settings that were asked for, and without report rows.
        config: the budget, and which of the settings were given by name.
        plain_arms: starts of plain tuning.

    Raises:
        ConfigError: the budget was given by name and does not hold one plain run.
        RunError: what was settled before is damaged.
    """
    named = sorted(config.model_fields_set & {"seeds", "steps", "eval_every", "budget"})
    asked = Fit(
        seeds=config.seeds,
        steps=config.steps,
        eval_every=config.eval_every,
        report=config.report_rows,
        plain_arms=plain_arms,
        rates=len(RACED_RATES[target.config.optimiser]) if target.races_rates else 1,
        asked=digest(config.without_baselines.model_copy(update={"report_rows": None}), *named, str(plain_arms)),
    )
    usual = RACE_BUDGET if config.strategy in ("race", "auto") else None
    if config.budget is None:
        return replace(asked, strategy=usual)
    amount, unit = read_budget(config.budget)
    if unit == "x":
        return replace(asked, strategy=amount)
    path = target.out / "plan.json"
    kept = _read(path, target.out)
    if kept is not None and kept.asked == asked.asked:
        return kept if config.report_rows is None else replace(kept, report=config.report_rows)
    size = min(MOST_TIMED, len(target.splits.selection))
    timed = replace(target, splits=replace(target.splits, selection=target.splits.selection[:size]), seeds=1)
    pace = pace_of(timed.with_seeds(timed.prepare(target.config)), target.backbone, 2)
    row = pace.evaluation / size
    key_step = target.config.key_step or 0
    settled = asked
    for settled in _sizes(config, asked, key_step):
        evaluations = math.ceil(settled.steps / settled.eval_every) + 1
        plain = settled.seeds * (settled.steps * pace.step + evaluations * row * len(target.splits.selection))
        settled = replace(settled, plain=plain, answering=row * (settled.report or REPORT_ROWS))
        if settled.total + (settled.arm if config.strategy != "none" else 0.0) <= amount:
            break
    else:
        settled = replace(settled, is_over=True)
    if settled.is_over and "budget" in config.model_fields_set and amount < settled.arm:
        rates = f", at {settled.rates} learning rates" if settled.rates > 1 else ""
        raise ConfigError(
            f"the budget {config.budget} is {amount / settled.arm:.2f} of one plain run, which takes about "
            f"{settled.arm:.0f} s here (steps = {settled.steps}, seeds = {settled.seeds}{rates}); expected one run or "
            f"more: give {math.ceil(settled.arm / 60)}min, or fewer steps or seeds"
        )
    ranking = key_step / settled.steps
    multiple = max(1.0, (amount - settled.total) / settled.arm) + ranking
    if "budget" in config.model_fields_set:
        settled = replace(settled, strategy=multiple)
    elif usual is not None:
        settled = replace(settled, strategy=min(usual, multiple))
    if config.strategy != "none":
        most = math.inf if settled.strategy is None else settled.strategy - ranking
        settled = replace(settled, transferring=settled.arm * max(0.0, min(1.0, most)))
    write_whole(path, to_json(settled).encode(), target.out)
    return settled


def _sizes(config: TransferConfig, asked: Fit, key_step: int) -> Sequence[Fit]:
    """What a transfer may do, from what is best to what is least; what was given by name stays."""
    given = config.model_fields_set
    sizes = [asked]
    for seeds, steps, eval_every, report in _SIZES:
        size = replace(
            asked,
            seeds=config.seeds if "seeds" in given else seeds,
            steps=config.steps if "steps" in given else max(steps, key_step),
            eval_every=config.eval_every if "eval_every" in given or "steps" in given else eval_every,
            report=asked.report if asked.report is not None else report,
        )
        if size not in sizes:
            sizes.append(size)
    return sizes


def _read(path: Path, inside: Path) -> Fit | None:
    """What was settled before; None where nothing was."""
    try:
        content = read_bounded(path, _MOST_BYTES, inside)
        return None if content is None else read_value(Fit, content, str(path), RunError)
    except (StorageError, RunError) as error:
        raise RunError(f"{error} Delete it to have the time measured again.") from error
