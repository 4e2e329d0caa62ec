"""Let learning rates race: where a run's is `auto`, it walks once with each of a few, and the best of them is the run.

The best is that with the highest selection score; equal ones go by loss, and one that diverged is never the best of
several. None stops early: which rate will be best shows late in a run (docs/log.md).
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from spot.errors import ConfigError, RunError
from spot.training.result import RunResult
from spot.training.run import Run
from spot.training.state import State

log = logging.getLogger(__name__)

RACED_RATES = {"adamw": (0.005, 0.02), "adafactor": (0.1, 0.3)}


def at_each_rate(run: Run) -> list[Run]:
    """The run itself where its learning rate is a number, else one with each rate that races.

    Raises:
        ConfigError: rates race in a gang, and the run's dropout belongs to a run alone.
    """
    config = run.config
    if config.learning_rate != "auto":
        return [run]
    if config.dropout:
        raise ConfigError(
            f"learning_rate is 'auto', which trains rates side by side, and dropout is {config.dropout}, which belongs "
            "to a run alone; expected a number for learning_rate, or dropout = 0"
        )
    rates = RACED_RATES[config.optimiser]
    return [replace(run, config=config.model_copy(update={"learning_rate": rate})) for rate in rates]


def best_of(states: Sequence[State]) -> State:
    """The best of runs that differ in their learning rate; of equal ones the first."""
    best = max(states, key=lambda state: (not state.diverged, state.best_rank))
    if len(states) > 1:
        scores = ", ".join(f"{state.run.config.rate:g} ({state.best_rank[0]:.1f})" for state in states)
        log.info("%s: learning rate %g, the best of %s", best.run.title, best.run.config.rate, scores)
    return best


def with_amounts_of(result: RunResult, states: Sequence[State]) -> RunResult:
    """A result whose text tokens and seconds are those of all rates; its curve stays that of the best."""
    return replace(
        result, tokens=sum(state.tokens for state in states), seconds=round(sum(state.seconds for state in states), 3)
    )


def finished_as(runs: Sequence[Run], result: RunResult, place: str) -> Run:
    """Which of the runs that raced a result is of.

    Raises:
        RunError: it is of none of them.
    """
    for run in runs:
        if run.digest == result.digest:
            return run
    listed = ", ".join(run.digest for run in runs)
    raise RunError(
        f"{place} is of the run {result.digest!r:.40}; expected {listed}. Delete it to let the run finish again."
    )
