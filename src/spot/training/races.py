"""Let settings race on a task: short runs without report rows, ranked by selection rows; their loss breaks ties.

`learning_rate = "auto"` is settled so, and whoever calibrates a recipe races starts, rates, lengths and networks:

    configs = variants(config, init=("classes", "instruction"), learning_rate=(0.005, 0.02))
    race([prepare_run(one, members, backbone) for one in configs], backbone, folder).best.run.config
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from spot.config import TuneConfig, make_config, to_toml
from spot.errors import RunError
from spot.evaluation.predictions import Progress
from spot.models.backbone import Backbone
from spot.storage.run_dir import RunDir
from spot.training.loop import WALKED_IN_STEP, Diverged, gang_digest, train
from spot.training.reporting import diagnosed_results
from spot.training.result import RunResult, read_results, write_results
from spot.training.run import Run

log = logging.getLogger(__name__)

RACED_RATES = {"adamw": (0.005, 0.01, 0.02, 0.03), "adafactor": (0.03, 0.1, 0.3, 1.0)}  # by `learning_rate = "auto"`
RACED_SHARE = 0.25  # of a run's steps that each of its rates is tried for


@dataclass(frozen=True)
class Trial:
    """One run of a race.

    Attributes:
        run: without report rows.
        result: what it came to.
    """

    run: Run
    result: RunResult

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Whether it got to its end, its best selection score, and the nats of that evaluation with the sign turned."""
        points = [(point.score, -math.inf if point.nats is None else -point.nats) for point in self.result.curve]
        return (not self.result.diverged, *max(points))


@dataclass(frozen=True)
class Race:
    """What a race came to: its trials, in the order of the runs that were given."""

    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The trial that selection rows put first; of equal ones the first given."""
        return max(self.trials, key=lambda trial: trial.rank)

    @property
    def tokens(self) -> int:
        """Text tokens that all trials trained."""
        return sum(trial.result.tokens for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Of training, in all trials."""
        return sum(trial.result.seconds for trial in self.trials)


def variants(config: TuneConfig, **choices: Sequence[Any]) -> list[TuneConfig]:
    """A configuration with every combination of some settings, the last setting varying first.

    Raises:
        ConfigError: a setting is unknown or out of its bounds.
    """
    given = config.model_dump()
    return [
        make_config(TuneConfig, {**given, **dict(zip(choices, values, strict=True))})
        for values in product(*choices.values())
    ]


def race(runs: Sequence[Run], backbone: Backbone, out: Path, progress: Progress | None = None) -> Race:
    """Train runs to their end, those that can walk in step as one gang; what is finished in the folder is only read.

    Args:
        runs: to compare; their rows should be the same. Their report rows are not opened.
        backbone: the frozen model.
        out: takes a folder for each gang, named by what it holds.
        progress: called after every step of every gang.

    Raises:
        RunError: a gang's folder holds another, or its result is damaged.
    """
    unreported = [replace(run, members=tuple(member.unreported for member in run.members)) for run in runs]
    gangs: dict[tuple[Any, ...], list[int]] = {}
    for number, run in enumerate(unreported):
        stands_alone = number if run.config.dropout or run.config.method == "model" else None
        gangs.setdefault((*(getattr(run.config, name) for name in WALKED_IN_STEP), stands_alone), []).append(number)
    results: dict[int, RunResult] = {}
    for numbers in gangs.values():
        gang = [unreported[number] for number in numbers]
        results.update(zip(numbers, _trained(gang, backbone, out / gang_digest(gang), progress), strict=True))
    return Race(tuple(Trial(run, results[number]) for number, run in enumerate(unreported)))


def with_rates(runs: Sequence[Run], backbone: Backbone, out: Path, progress: Progress | None = None) -> list[Run]:
    """The same runs, each learning rate `auto` settled by a race, whose text tokens the run counts as its own.

    Runs that differ in seed alone share a race, in which the first of them runs.

    Args:
        runs: prompts to be tuned.
        backbone: the frozen model.
        out: takes the races.
        progress: called after every step.

    Raises:
        RunError: every rate diverged.
    """
    raced: dict[str, Race] = {}
    settled = []
    for run in runs:
        if run.config.learning_rate != "auto":
            settled.append(run)
            continue
        alike = replace(run, config=run.config.model_copy(update={"seed": 0})).digest
        if alike not in raced:
            raced[alike] = race(_at_each_rate(run), backbone, out, progress)
            _say(run, raced[alike])
        config = run.config.model_copy(update={"learning_rate": raced[alike].best.run.config.rate})
        settled.append(replace(run, config=config, spent=run.spent + raced[alike].tokens))
    return settled


def _at_each_rate(run: Run) -> list[Run]:
    """A run at each rate, cut short; a rate that falls does so within these steps."""
    config = run.config
    steps = max(1, round(config.steps * RACED_SHARE))
    short: Mapping[str, Any] = {
        "steps": steps,
        "eval_every": steps,
        "patience": None,
        "key_step": None,
        "warmup_steps": min(config.warmup_steps, steps),
        "decay_steps": None,
        "micro_batch": config.micro_batch or config.batch_size,
    }
    rates = RACED_RATES[config.optimiser]
    return [replace(run, config=config.model_copy(update={**short, "learning_rate": rate})) for rate in rates]


def _say(run: Run, rates: Race) -> None:
    """Log what a race of rates came to.

    Raises:
        RunError: every rate diverged.
    """
    if rates.best.result.diverged:
        tried = ", ".join(str(trial.run.config.rate) for trial in rates.trials)
        raise RunError(
            f"learning_rate = 'auto' tried {tried} on {run.title}, and training diverged at each of them "
            f"({rates.best.result.diverged}); give a lower learning_rate"
        )
    log.info(
        "%s: learning rate %g, chosen among %s by %d steps of each (%d text tokens)",
        run.title,
        rates.best.run.config.rate,
        ", ".join(f"{trial.run.config.rate:g} ({trial.rank[1]:.1f})" for trial in rates.trials),
        rates.best.run.config.steps,
        rates.tokens,
    )


def _trained(gang: Sequence[Run], backbone: Backbone, out: Path, progress: Progress | None) -> Sequence[RunResult]:
    """The results of one gang; one in which every run diverged leaves none behind."""
    with RunDir(out) as folder:
        folder.create("\n".join(to_toml(run.config) for run in gang), gang_digest(gang))
        results = read_results(folder, [run.digest for run in gang])
        if results is None:
            try:
                results = diagnosed_results(train(gang, backbone, folder, progress))
            except Diverged as error:
                return error.results
            write_results(folder, results)
    return results
