"""Read the TOML file of a library: its tasks, how long each is trained, and which settings the calibration tries.

    name = "reviews"
    tasks = ["glue/sst2", "trec", "reviews.toml"]
    tokens = 30000

Paths are relative to the recipe's file. Recipes that ship go by name: `starter`, `paper`.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, with_config

from spot.config import TuneConfig, load_config
from spot.errors import ConfigError, SpotError, did_you_mean
from spot.storage.values import STRICT
from spot.tasks import mixtures, registry

SHIPPED = ("starter", "paper")
STARTER = SHIPPED[0]
# Fields that say which sources there are and on what the settings are found, not what settings and keys are.
WHICH_SOURCES = ("name", "tasks", "calibrate", "tokens", "steps", "report_rows", "micro_batch", "evaluations")
MOST_STEPS = 10_000_000  # of a run, as in `TuneConfig`
Optimiser = Literal["adamw", "adafactor"]
Network = Literal["none", "residual", "mlp"]


@dataclass(frozen=True)
class Grid:
    """What the calibration tries of a kind of model, where the recipe leaves it out; fields as in `LibraryRecipe`."""

    optimisers: tuple[Optimiser, ...]
    rates: tuple[float, ...]
    learning_rates: tuple[float, ...]
    lengths: tuple[int, ...]
    weight_decay: float


GRIDS: Mapping[str, Grid] = {
    "causal": Grid(("adamw",), (0.03, 0.1, 0.3, 1.0, 3.0), (), (20,), 0.0),
    # The paper's settings come first (SPoT, footnote 7), then others in the model's own unit.
    "seq2seq": Grid(("adafactor",), (0.03, 0.1, 0.3), (0.3,), (100,), 1e-5),
}


class LibraryRecipe(BaseModel):
    """Everything that decides a library but the model."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=100, description="of the recipe")
    tasks: tuple[str, ...] = Field(
        strict=False, description="known tasks, task files or `mixture:NAME`: one source prompt each"
    )
    calibrate: tuple[str, ...] = Field(
        (), strict=False, max_length=4, description="tasks of these that the settings are found on; left out: two"
    )
    tokens: int = Field(30_000, ge=1, le=10**12, description="text tokens that each source trains on")
    steps: dict[str, int] = Field(
        default_factory=dict, description="steps of single sources, where they are not to follow from `tokens`"
    )
    key_step: int = Field(
        24, ge=1, le=MOST_STEPS, description="step at which task embeddings are read; no source trains less"
    )
    batch_size: int = Field(8, ge=1, le=100_000, description="rows a step")
    quantise: Literal["4bit", "8bit"] | None = Field(
        None, description="bits of the frozen model's linear layers, for a model that does not fit; needs bitsandbytes"
    )
    micro_batch: int | None = Field(None, ge=1, description="rows in memory at a time; left out: those of one run")
    max_input_tokens: int = Field(96, ge=1, description="longest input in tokens; longer ones are cut")
    max_target_tokens: int = Field(64, ge=2, description="longest open answer in tokens")
    train_rows: int | None = Field(
        None, ge=1, description="rows of a task to train on; left out: as many as a run draws, of a mixture all"
    )
    select_rows: int = Field(100, ge=1, description="rows that choose settings and checkpoints")
    report_rows: int = Field(400, ge=1, description="rows of the scores of sources; they choose nothing")
    confirm_rows: int = Field(
        200, ge=10, description="rows on which the calibrated settings must beat the frozen model and a constant answer"
    )
    evaluations: int = Field(4, ge=1, le=1000, description="of each source on its selection rows, at equal distances")
    calibration_steps: int = Field(
        32, ge=1, le=MOST_STEPS, description="steps of the settings that come to the end of the race"
    )
    starts: tuple[str, ...] = Field(
        ("vocabulary",),
        strict=False,
        min_length=1,
        description="starts to try, the same for every task: vocabulary, uniform, text:WORDS",
    )
    optimisers: tuple[Optimiser, ...] | None = Field(
        None,
        strict=False,
        min_length=1,
        description="to try; left out: adamw, of a seq2seq model the paper's adafactor",
    )
    rates: tuple[float, ...] | None = Field(
        None, strict=False, description="learning rates to try, in units of the rms of the model's input embeddings"
    )
    learning_rates: tuple[float, ...] | None = Field(
        None, strict=False, description="learning rates to try as they are, before those of `rates`"
    )
    lengths: tuple[int, ...] | None = Field(
        None, strict=False, min_length=1, description="prompt tokens to try; left out: 20, of a seq2seq model 100"
    )
    weight_decay: float | None = Field(None, ge=0, lt=1, description="pull towards zero a step")
    reparameterise: tuple[Network, ...] = Field(
        ("none",), strict=False, min_length=1, description="networks over the prompt to try: none, residual, mlp"
    )

    @field_validator("tasks")
    @classmethod
    def _several(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        """A library of one task has nothing to choose from."""
        if len(set(tasks)) < 2:
            raise ValueError("should hold two tasks or more: with fewer there is nothing to choose a source from")
        return tasks

    @field_validator(
        "tasks", "calibrate", "starts", "rates", "learning_rates", "lengths", "optimisers", "reparameterise"
    )
    @classmethod
    def _each_once(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        """Twins would be trained twice."""
        if twins := [value for value in values or () if (values or ()).count(value) > 1]:
            raise ValueError(f"should name each once, not {twins[0]!r} again")
        return values

    @field_validator("steps")
    @classmethod
    def _steps(cls, steps: dict[str, int]) -> dict[str, int]:
        """Steps are one or more."""
        for task, count in steps.items():
            if not 1 <= count <= MOST_STEPS:
                raise ValueError(f"should hold numbers of steps from 1 to {MOST_STEPS:,}, not {count} of {task!r}")
        return steps

    @field_validator("rates", "learning_rates")
    @classmethod
    def _positive(cls, rates: tuple[float, ...] | None) -> tuple[float, ...] | None:
        """A rate of zero learns nothing."""
        for rate in rates or ():
            if not 0 < rate <= 1e6:
                raise ValueError(f"should hold numbers above 0, at most 1e6, not {rate!r}")
        return rates

    @field_validator("lengths")
    @classmethod
    def _lengths(cls, lengths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """Lengths that a run takes."""
        for length in lengths or ():
            if not 1 <= length <= 10_000:
                raise ValueError(f"should hold numbers from 1 to 10,000, not {length}")
        return lengths

    @field_validator("starts")
    @classmethod
    def _one_for_all_tasks(cls, starts: tuple[str, ...]) -> tuple[str, ...]:
        """Keys can be compared where all runs set out from one value."""
        for start in starts:
            words = start.removeprefix("text:").strip() if start.startswith("text:") else ""
            if start not in ("vocabulary", "uniform") and not words:
                raise ValueError(
                    f"should hold vocabulary, uniform or text:WORDS, not {start!r}: the task embeddings of a library "
                    "can be compared where all its runs set out from one value"
                )
        return starts


@with_config(STRICT)
@dataclass(frozen=True)
class Setting:
    """One way to tune that the calibration tries; fields as in `TuneConfig`."""

    optimiser: Optimiser
    learning_rate: float
    weight_decay: float
    length: int
    init: str
    reparameterise: Network = "none"

    def __str__(self) -> str:
        """For people."""
        decay = f", weight decay {self.weight_decay:g}" if self.weight_decay else ""
        network = f", {self.reparameterise} network" if self.reparameterise != "none" else ""
        return f"{self.optimiser} at {self.learning_rate:g}{decay}, {self.length} tokens, {self.init} start{network}"


def read_recipe(path: Path | str = STARTER, overrides: Sequence[str] = ()) -> LibraryRecipe:
    """A recipe from its file, with its paths as they are from here.

    Args:
        path: of a TOML file, or the name of a recipe that ships.
        overrides: `key=value`, as `load_config` takes them.

    Raises:
        ConfigError: all mistakes in form at once, or names of tasks that are unknown, all of them.
    """
    if str(path) in SHIPPED and not Path(path).is_file():
        with resources.as_file(resources.files("spot") / "building" / "recipes" / f"{path}.toml") as file:
            recipe = load_config(LibraryRecipe, file, overrides)
    else:
        path = Path(path)
        if not path.is_file() and path.suffix != ".toml":
            raise ConfigError(
                f"no recipe {str(path)!r:.200}; {did_you_mean(str(path), SHIPPED)} Or give the path of a TOML file."
            )
        recipe = load_config(LibraryRecipe, path, overrides)
        recipe = recipe.model_copy(
            update={
                "tasks": tuple(_beside(path, name) for name in recipe.tasks),
                "calibrate": tuple(_beside(path, name) for name in recipe.calibrate),
                "steps": {_beside(path, name): steps for name, steps in recipe.steps.items()},
            }
        )
    check_names(recipe)
    return recipe


def check_names(recipe: LibraryRecipe) -> None:
    """Refuse a recipe whose names stand for nothing.

    Raises:
        ConfigError: with all of them.
    """
    mistakes: list[str] = []
    titles: dict[str, str] = {}
    for task in recipe.tasks:
        try:
            title = find_title(task)
        except SpotError as error:
            mistakes.append(str(error))
            continue
        if title in titles:
            mistakes.append(f"{titles[title]} and {task} are both called {title}: rename one of them in its task file")
        titles[title] = task
    for field, names in (("calibrate", recipe.calibrate), ("steps", recipe.steps)):
        mistakes += [
            f"{field}: {name!r:.80} is none of the recipe's tasks; {did_you_mean(name, recipe.tasks)}"
            for name in names
            if name not in recipe.tasks
        ]
    mistakes += [f"calibrate: {name} is a mixture; name one task" for name in recipe.calibrate if is_mixture(name)]
    short = {name: steps for name, steps in recipe.steps.items() if steps < recipe.key_step}
    mistakes += [
        f"steps: {name} ends after {steps} steps, before the key step {recipe.key_step}; give at least that many"
        for name, steps in short.items()
    ]
    if mistakes:
        lines = "".join(f"\n  {mistake}" for mistake in mistakes)
        raise ConfigError(f"the recipe {recipe.name} cannot be used:{lines}")


def find_title(reference: str) -> str:
    """The name of a task or mixture, as prompts of it are called.

    Raises:
        SpotError: there is none of that name.
    """
    mixture = mixtures.find_mixture(reference)
    return registry.get(reference).name if mixture is None else mixture.title


def is_mixture(reference: str) -> bool:
    """Whether a name stands for a mixture."""
    return mixtures.find_mixture(reference) is not None


def settings_of(recipe: LibraryRecipe, kind: str, rms: float) -> tuple[Setting, ...]:
    """The settings that a recipe has the calibration try on a model, each once.

    A step of AdamW moves each number of a prompt by about the learning rate, and one of Adafactor by no more than it in
    the mean of squares. So a rate says something of a model only beside the size of its embeddings, which differs a
    hundredfold between families.

    Args:
        recipe: says what to try; what it leaves out is that of the model's kind.
        kind: `causal` or `seq2seq`.
        rms: root mean square of the numbers that the model's first layer is given for its vocabulary.

    Raises:
        ConfigError: the recipe leaves nothing to try, or the model's embeddings have no size.
    """
    if not (rms > 0 and math.isfinite(rms)):
        raise ConfigError(
            f"the rms of the model's input embeddings is {rms}; expected a number above 0: are its weights whole?"
        )
    usual = GRIDS[kind]
    rates = recipe.rates if recipe.rates is not None else usual.rates if recipe.learning_rates is None else ()
    as_they_are = recipe.learning_rates if recipe.learning_rates is not None else ()
    if recipe.learning_rates is None and recipe.rates is None:
        as_they_are = usual.learning_rates
    learning_rates = [*as_they_are, *(float(f"{rate * rms:.2g}") for rate in rates)]
    if not learning_rates:
        raise ConfigError(f"the recipe {recipe.name} has no rates and no learning_rates; expected one to try")
    decay = usual.weight_decay if recipe.weight_decay is None else recipe.weight_decay
    return tuple(
        dict.fromkeys(
            Setting(optimiser, learning_rate, decay, length, start, network)
            for length in recipe.lengths or usual.lengths
            for optimiser in recipe.optimisers or usual.optimisers
            for start in recipe.starts
            for network in recipe.reparameterise
            for learning_rate in learning_rates
        )
    )


def run_config(recipe: LibraryRecipe, backbone: str, task: str, setting: Setting, **changes: Any) -> TuneConfig:
    """The configuration of a run of a library.

    Args:
        recipe: of the library.
        backbone: by its name.
        task: by its reference.
        setting: that is tried, or that the calibration chose.
        changes: what is this run's own: its steps, and more.
    """
    shared = ("batch_size", "quantise", "micro_batch", "max_input_tokens", "max_target_tokens", "select_rows")
    drawn = None if is_mixture(task) else recipe.batch_size * changes["steps"]
    values: dict[str, Any] = {
        "task": task,
        "backbone": backbone,
        **{name: getattr(recipe, name) for name in shared},
        "train_rows": recipe.train_rows or drawn,
        "optimiser": setting.optimiser,
        "learning_rate": setting.learning_rate,
        "weight_decay": setting.weight_decay,
        "length": setting.length,
        "init": setting.init,
        "reparameterise": setting.reparameterise,
    }
    return TuneConfig(**{**values, **changes})


def differing_fields(ours: LibraryRecipe, theirs: LibraryRecipe) -> list[str]:
    """How two recipes differ in what decides settings and keys, a clause a field."""
    pairs = ((name, getattr(ours, name), getattr(theirs, name)) for name in LibraryRecipe.model_fields)
    return [
        f"{name} is {mine!r} here and {other!r} there"
        for name, mine, other in pairs
        if mine != other and name not in WHICH_SOURCES
    ]


def _beside(path: Path, name: str) -> str:
    """A name, or where there is a file of that name beside the recipe's file, its path."""
    if name in registry.TABLE:
        return name
    place = path.parent / os.path.expanduser(name)
    return str(place) if name.endswith(".toml") or os.path.exists(place) else name
