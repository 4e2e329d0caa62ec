"""Plan a library: what races, which sources are trained, and what that takes in tokens, time, memory and disk."""

import math
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
from pydantic import with_config

from spot.building.jobs import Race, Source
from spot.building.recipe import MOST_STEPS, LibraryRecipe, Setting, is_mixture, run_config
from spot.collator import Collator
from spot.config import read_budget
from spot.errors import ConfigError, TaskError
from spot.models.backbone import Backbone
from spot.prompts.prompt import BackboneId
from spot.storage.values import STRICT
from spot.strategies.halving import halving
from spot.tasks import mixtures, registry
from spot.tasks.task import Task
from spot.training.loop import seconds_of
from spot.training.run import members_of, prepare_run

SAMPLE_ROWS = 256  # whose tokens are counted
READING = 1 / 3  # of the work on a token that trains, for one that is only read: no gradient
RACE_EVALUATIONS = 4  # of a race that is run to its end: a quarter of the steps tells settings apart, less does not
FULL_ARRAYS = 3 + 5  # [P, D] float32 of a run's prompt file and its checkpoint
RECORD_BYTES = 20_000  # of a run's other files


@dataclass(frozen=True, kw_only=True)
class PlannedTask:
    """A task of the recipe whose rows are here.

    Attributes:
        reference: what it is looked up by.
        title: its name.
        revision: of its rows and their form.
        licence: of its data, as far as it is known.
        length: mean tokens of a train row.
        steps: as a source.
    """

    reference: str
    title: str
    revision: str
    licence: str
    length: float
    steps: int


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a few steps on the real rows showed.

    Attributes:
        seconds: per token that trains, its share of evaluations apart.
        memory: bytes that the process took at its peak, or the device.
        rms: of the model's input embeddings.
    """

    seconds: float
    memory: int
    rms: float


@dataclass(frozen=True, kw_only=True)
class Amount:
    """What a part of the work takes: text tokens that train, and seconds here."""

    tokens: int
    seconds: float

    def __add__(self, other: "Amount") -> "Amount":
        """Both together."""
        return Amount(tokens=self.tokens + other.tokens, seconds=self.seconds + other.seconds)


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """What is to be done for a library.

    Attributes:
        recipe: of the library.
        backbone: the model by the user's name.
        identity: of the model.
        data: where the rows of known data sets are.
        settings: that are tried; one where it is known already.
        calibrate: the tasks that settings are tried on, and two seeds compared.
        calibrated: whether the setting is known already, from the library.
        sources: tasks to train, in the recipe's order.
        missing: task -> why it is passed over.
        left_out: tasks that the budget does not hold.
        measured: on this machine.
    """

    recipe: LibraryRecipe
    backbone: str
    identity: BackboneId
    data: str | None
    settings: tuple[Setting, ...]
    calibrate: tuple[PlannedTask, ...]
    calibrated: bool
    sources: tuple[PlannedTask, ...]
    missing: Mapping[str, str]
    left_out: tuple[str, ...] = ()
    measured: Measured

    @property
    def races(self) -> tuple[Race, ...]:
        """One for each optimiser and length, which a gang must have in common."""
        if self.calibrated:
            return ()
        recipe = self.recipe
        steps = recipe.calibration_steps
        every = max(1, steps // RACE_EVALUATIONS)
        races = []
        for _, group in groupby(self.settings, key=lambda setting: (setting.optimiser, setting.length)):
            settings = list(group)
            at_once = recipe.micro_batch or recipe.batch_size * len(self.calibrate)
            shared = {"steps": steps, "eval_every": every, "checkpoint_every": every, "micro_batch": at_once}
            configs = tuple(
                run_config(recipe, self.backbone, task.reference, setting, **shared)
                for setting in settings
                for task in self.calibrate
            )
            races.append(
                Race(
                    configs=configs,
                    tasks=len(self.calibrate),
                    rungs=halving(len(settings), steps, every),
                    confirm_rows=recipe.confirm_rows,
                    origin=self.origin(self.calibrate),
                    data=self.data,
                )
            )
        return tuple(races)

    def origin(self, tasks: Sequence[PlannedTask]) -> str:
        """What a record of a job on some tasks is good for: this model and these rows."""
        return " ".join([self.identity.fingerprint, *(task.revision for task in tasks)])

    def source(self, task: PlannedTask, setting: Setting, again: bool = False) -> Source:
        """The job that trains a source; with `again` a second seed of it up to the key step."""
        recipe = self.recipe
        steps = recipe.key_step if again else task.steps
        every = max(1, math.ceil(steps / (1 if again else recipe.evaluations)))
        changes: dict[str, Any] = {
            "steps": steps,
            "eval_every": every,
            "checkpoint_every": min(every, 20),
            "key_step": recipe.key_step,
            "report_rows": recipe.report_rows,
            "seed": int(again),
        }
        config = run_config(recipe, self.backbone, task.reference, setting, **changes)
        return Source(config=config, task=task.title, again=again, origin=self.origin((task,)), data=self.data)

    @property
    def calibration(self) -> Amount:
        """What the races take, and the check of the setting that wins."""
        total = Amount(tokens=0, seconds=0.0)
        lengths = [task.length for task in self.calibrate]
        for race in self.races:
            config = race.configs[0]
            walking, last = len(race.configs) // race.tasks, 0
            for step, keep in [*((rung.step, rung.keep) for rung in race.rungs), (config.steps, 0)]:
                total += self._amount(walking * (step - last) * config.batch_size, sum(lengths))
                total += self._reading(walking * config.select_rows * (step - last) / config.eval_every, sum(lengths))
                walking, last = keep, step
        return total + self._reading(0 if self.calibrated else 2 * self.recipe.confirm_rows, sum(lengths))

    def amount_of(self, task: PlannedTask) -> Amount:
        """What one source takes with its scores, and those of the frozen model."""
        recipe = self.recipe
        read = (1 + recipe.evaluations) * recipe.select_rows + 2 * recipe.report_rows
        return self._amount(task.steps * recipe.batch_size, task.length) + self._reading(read, task.length)

    @property
    def check(self) -> Amount:
        """What a second seed of the tasks of the calibration takes, up to the key step."""
        total = Amount(tokens=0, seconds=0.0)
        for task in self.calibrate:
            total += self._amount(self.recipe.key_step * self.recipe.batch_size, task.length)
            total += self._reading(2 * self.recipe.select_rows, task.length)
        return total

    @property
    def total(self) -> Amount:
        """What everything takes."""
        return sum((self.amount_of(task) for task in self.sources), start=self.calibration + self.check)

    @property
    def disk(self) -> int:
        """Bytes of runs and prompts in the cache and the library."""
        array = 4 * self.identity.width
        raced = sum(
            FULL_ARRAYS * array * config.length + RECORD_BYTES for race in self.races for config in race.configs
        )
        longest = max(setting.length for setting in self.settings)
        runs = len(self.sources) + len(self.calibrate)
        return round(raced + runs * ((FULL_ARRAYS + 2 * 3) * array * longest + RECORD_BYTES))

    def within(self, budget: str | None) -> "BuildPlan":
        """The plan with as many sources, in the recipe's order, as a budget holds.

        Raises:
            ConfigError: the budget can't be read, or does not hold the calibration and one source.
        """
        if budget is None:
            return self
        most, unit = parse_budget(budget)

        def cost(amount: Amount) -> float:
            return amount.tokens if unit == "tokens" else amount.seconds

        spent = cost(self.calibration + self.check)
        kept, left_out = [], []
        for task in self.sources:
            if spent + cost(self.amount_of(task)) <= most:
                spent += cost(self.amount_of(task))
                kept.append(task)
            else:
                left_out.append(task.title)
        if not kept:
            needed = cost(self.calibration + self.check) + min(cost(self.amount_of(task)) for task in self.sources)
            amount = f"{needed:,.0f} text tokens" if unit == "tokens" else f"{math.ceil(needed / 60)}min"
            raise ConfigError(
                f"the budget {budget} holds no source: the calibration, its check and the smallest source take about "
                f"{amount} here; nothing was trained. Give that much, or a recipe with fewer tokens, calibration_steps "
                "or rates."
            )
        return replace(self, sources=tuple(kept), left_out=tuple(left_out))

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        total = self.total
        return {
            "recipe": self.recipe.name,
            "backbone": str(self.identity),
            "quantise": self.recipe.quantise,
            "settings": [str(setting) for setting in self.settings],
            "calibrate": [task.title for task in self.calibrate],
            "calibration": vars(self.calibration),
            "sources": [
                {"task": task.title, "steps": task.steps, **vars(self.amount_of(task))} for task in self.sources
            ],
            "missing": dict(self.missing),
            "left_out": list(self.left_out),
            "tokens": total.tokens,
            "seconds": round(total.seconds, 1),
            "memory": self.measured.memory,
            "disk": self.disk,
        }

    def _amount(self, rows: float, length: float) -> Amount:
        tokens = rows * length
        return Amount(tokens=round(tokens), seconds=tokens * self.measured.seconds)

    def _reading(self, rows: float, length: float) -> Amount:
        return Amount(tokens=0, seconds=READING * rows * length * self.measured.seconds)


def parse_budget(budget: str) -> tuple[float, str]:
    """A budget as a number of text tokens and `tokens`, or of seconds and `s`.

    Raises:
        ConfigError: it is neither.
    """
    plain = budget.strip().lower().removesuffix("tokens").strip().replace(",", "").replace("_", "")
    if plain.isdecimal() and int(plain):
        return float(plain), "tokens"
    try:
        amount, unit = read_budget(budget)
    except ValueError:
        unit = amount = None
    if amount is None or unit != "s":
        raise ConfigError(
            f"the budget is {budget!r:.40}; expected a time such as 90s, 30min or 2h, or a number of text tokens such "
            "as 500000"
        )
    return amount, "s"


def find_tasks(
    recipe: LibraryRecipe, backbone: Backbone, data: Path | None
) -> tuple[tuple[PlannedTask, ...], dict[str, str]]:
    """The tasks of a recipe whose rows are here, and why the others are not.

    Raises:
        TaskError: fewer than two are.
    """
    tasks, missing = [], {}
    for reference in recipe.tasks:
        try:
            tasks.append(plan_task(recipe, reference, backbone, data))
        except TaskError as error:
            missing[reference] = str(error)
    if len(tasks) < 2:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in islice(missing.items(), 5))
        more = f"\n  and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise TaskError(
            f"the rows of {len(tasks) or 'none'} of the {len(recipe.tasks)} tasks of the recipe {recipe.name} are "
            "here; expected two or more. Give a data folder with --data DIR, or a recipe with your own task files."
            f"{reasons}{more}"
        )
    return tuple(tasks), missing


def plan_task(recipe: LibraryRecipe, reference: str, backbone: Backbone, data: Path | None) -> PlannedTask:
    """A task as a source of a library, its rows counted.

    Raises:
        TaskError: its rows are not here.
    """
    mixture = mixtures.find_mixture(reference)
    tasks = (registry.get(reference, data),) if mixture is None else mixtures.tasks_of(mixture, data)
    lengths = [_mean_tokens(task, backbone, recipe.max_input_tokens) for task in tasks]
    length = sum(lengths) / len(lengths)
    following = math.ceil(recipe.tokens / (recipe.batch_size * length))
    if following > MOST_STEPS:
        raise ConfigError(
            f"tokens = {recipe.tokens:,} are {following:,} steps; expected {MOST_STEPS:,} at most: give fewer"
        )
    known = [registry.TABLE[task.name].licence if task.name in registry.TABLE else "yours" for task in tasks]
    return PlannedTask(
        reference=reference,
        title=tasks[0].name if mixture is None else mixture.title,
        revision=" ".join(task.revision for task in tasks),
        licence="; ".join(dict.fromkeys(known)),
        length=length,
        steps=recipe.steps.get(reference, max(recipe.key_step, following)),
    )


def _mean_tokens(task: Task, backbone: Backbone, longest: int) -> float:
    """Mean tokens of a train row, of the first ones."""
    reading = replace(task.reading, max_input_tokens=longest)
    collator = Collator(backbone.tokenizer, backbone.id.kind, reading)
    if "train" not in task.splits:
        raise TaskError(f"{task.name} has no train split.")
    rows = collator.encode(list(islice(task.load("train"), SAMPLE_ROWS)))
    if not rows:
        raise TaskError(f"{task.name} has no row to train on.")
    return max(1.0, sum(len(row.input_ids) for row in rows) / len(rows))


def tasks_to_calibrate(recipe: LibraryRecipe, tasks: Sequence[PlannedTask]) -> tuple[PlannedTask, ...]:
    """The tasks that settings are tried on: those that the recipe names and whose rows are here, else the first two."""
    single = [task for task in tasks if not is_mixture(task.reference)]
    named = [task for task in single if task.reference in recipe.calibrate]
    chosen = tuple(named or single[:2])
    if not chosen:
        raise ConfigError(
            f"the recipe {recipe.name} has mixtures alone, and settings are found on single tasks: name one under tasks"
        )
    return chosen


def rms_of(backbone: Backbone) -> float:
    """Root mean square of what the model's first layer is given for its vocabulary."""
    return float(backbone.embeddings().square().mean().sqrt())


def measure(plan: BuildPlan, backbone: Backbone) -> Measured:
    """Time a few steps of a run of the plan, and see what memory they take; nothing is kept of them."""
    task = plan.calibrate[0] if plan.calibrate else plan.sources[0]
    config = plan.source(task, plan.settings[0]).config
    unreported = config.model_copy(update={"report_rows": 0})
    members, name = members_of(unreported, None if plan.data is None else Path(plan.data))
    run = prepare_run(config, members, backbone, name=name)
    seconds = seconds_of([run], backbone)
    read = (1 + plan.recipe.evaluations) * min(config.select_rows, sum(len(m.splits.selection) for m in members))
    work = (config.steps * config.batch_size + READING * read) * task.length
    return Measured(seconds=seconds / work, memory=_peak(backbone), rms=plan.measured.rms)


def _peak(backbone: Backbone) -> int:
    """Bytes of memory at the peak so far, of the device or this process."""
    if backbone.device.type == "cuda":
        return torch.cuda.max_memory_allocated(backbone.device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
