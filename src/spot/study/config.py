"""Read the TOML file of a study: which prompts are tuned, on what, from where; and look up its names.

    name = "sentiment"
    sources = ["glue/sst2", "yelp_polarity", "mixture:nli", "packaged:trec"]
    targets = ["cr", "reviews.toml"]
    strategies = ["best", "average", "race", "oracle", "none"]

    [source]  # settings of the runs that make source prompts
    key_step = 24

    [target]  # settings of all runs on targets

Paths are relative to the study's file.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from spot.config import (
    INITS,
    INSTEAD,
    USUAL_DEMONSTRATIONS,
    USUAL_LORA_RANK,
    USUAL_LORA_RATES,
    Demonstrations,
    EmbeddingModel,
    Instead,
    LoraModules,
    LoraRank,
    LoraRates,
    TuneConfig,
    listed,
    load_config,
    names_prompt,
)
from spot.errors import ConfigError, SpotError, TaskError, did_you_mean
from spot.library.library import PACKAGED, PROMPT_FILE, Library, open_library
from spot.prompts.prompt import KeyRecipe, header
from spot.strategies.halving import halving
from spot.strategies.plans import STRATEGIES
from spot.tasks import mixtures, registry
from spot.tasks.task import Task

MOST_NAME_BYTES = 200  # of a study: 100 letters of most scripts; a file's name has at most 255 bytes
NAME = re.compile(r"\w[\w.-]*")
GIVEN_BY_STUDY = ("task", "backbone", "method", "seed", "init_seed")  # settings of a run that the study itself gives
PAIR_STRATEGIES = ("best", "race", "oracle")  # strategies that are worked out from pairs
COMBINED_STRATEGIES = ("average", "mixture")  # strategies with cells of their own
KEY_SETTINGS = (
    "key_step",
    "length",
    "init",
    "optimiser",
    "learning_rate",
    "weight_decay",
    "batch_size",
    "batch_tokens",
    "max_input_tokens",
    "truncate",
    "task_prefix",
    "dropout",
    "first_step",
)
EMBEDDED = TuneConfig.model_fields["backbone"].default
STARTS = ("vocabulary", "classes")  # of the plain arm, unless the study says others
ARM_SETTINGS: Mapping[str, tuple[str, ...]] = {  # of those arms of `INSTEAD` that have any
    "embedding": ("embedding_model",),
    "icl": ("demonstrations",),
    "lora": ("lora_rank", "lora_rates", "lora_modules"),
}
SEEDS = 2**32  # that rows can be drawn from


class StudyConfig(BaseModel):
    """Everything that decides the cells of a study."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(description="of the study, and of the folder of its records")
    backbone: str = Field(EMBEDDED, min_length=1, description="`embedded`, a Hugging Face id or a local folder")
    sources: tuple[str, ...] = Field(
        (),
        strict=False,
        description="tasks, task files or `mixture:NAME` to train prompts on; existing prompts "
        "(a file, the folder of a run, packaged:TASK); or a whole library: its folder, or `packaged`",
    )
    targets: tuple[str, ...] = Field(strict=False, min_length=1, description="tasks or task files to transfer to")
    seeds: int = Field(3, ge=1, le=100, description="runs of everything; cells of one seed belong together")
    rows: Literal["per_seed", "fixed"] = Field(
        "per_seed",
        description="whether each seed draws rows of its own to train, select and report, so that intervals hold the "
        "draw, or all seeds share one draw",
    )
    starts: tuple[str, ...] = Field(
        STARTS,
        strict=False,
        min_length=1,
        description="starts of plain prompt tuning; the task embedding is read "
        "from the first; `classes` is passed over for targets without labels, `instruction` for those without one",
    )
    learning_rates: tuple[float | Literal["auto"], ...] = Field(
        (),
        strict=False,
        description="further step sizes of plain tuning from every start and of every transfer, beside that of "
        "[target]; `auto` lets a short race choose; the selection rows decide between them",
    )
    restarts: int = Field(0, ge=0, le=100, description="further plain runs, each from another draw of the vocabulary")
    strategies: tuple[str, ...] = Field(("best", "none"), strict=False, min_length=1, description="what is compared")
    k: tuple[int, ...] = Field((1,), strict=False, min_length=1, description="numbers of most similar sources to use")
    metric: Literal["mean", "token", "max"] = Field("mean", description="similarity of task embeddings")
    models: Literal[False] | float = Field(False, description="learning rate of full model tuning; false: no such arm")
    instead: tuple[Instead, ...] = Field(
        (),
        strict=False,
        description="what one would pick instead of a prompt, on the same rows: tfidf, probe, embedding, icl, lora; a "
        "constant answer always is among the arms",
    )
    embedding_model: EmbeddingModel = None
    demonstrations: Demonstrations = USUAL_DEMONSTRATIONS
    lora_rank: LoraRank = USUAL_LORA_RANK
    lora_rates: LoraRates = USUAL_LORA_RATES
    lora_modules: LoraModules = ()
    model_mixture: str | None = Field(
        None, description="mixture that the whole model is tuned on first: adds multi-task model tuning"
    )
    out: str | None = Field(None, description="folder of the records; left out: studies/NAME beside the study's file")
    source: dict[str, Any] = Field(default_factory=dict, description="settings of the runs on sources")
    target: dict[str, Any] = Field(default_factory=dict, description="settings of the runs on targets")

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, name: str) -> str:
        """The name is part of paths."""
        if not NAME.fullmatch(name) or len(os.fsencode(name)) > MOST_NAME_BYTES:
            raise ValueError("should be at most 100 letters, digits and . _ - alone, such as 'study26'")
        return name

    @field_validator("lora_rates", "lora_modules", mode="before")
    @classmethod
    def _listed(cls, values: Any) -> Any:
        """TOML has lists and no tuples."""
        return listed(values)

    @field_validator("sources", "targets", "starts", "learning_rates", "strategies", "k", "instead")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Two cells of one kind would be one cell."""
        if twins := sorted({value for value in values if values.count(value) > 1}, key=str):
            raise ValueError(f"should name each once, not {twins[0]!r} again")
        return values

    @field_validator("strategies", "starts")
    @classmethod
    def _known(cls, values: tuple[str, ...], info: Any) -> tuple[str, ...]:
        """Names of strategies and of starts."""
        names = STRATEGIES if info.field_name == "strategies" else INITS
        for value in values:
            if value not in names and not (names is INITS and _is_start(value)):
                raise ValueError(
                    f"should hold names of {info.field_name} alone, not {value!r}: {did_you_mean(value, names)}"
                )
        return values

    @field_validator("learning_rates")
    @classmethod
    def _rates(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """What a run can be tuned at."""
        for value in values:
            try:
                TuneConfig(task="any", learning_rate=value)
            except ValidationError as error:
                raise ValueError(f"should hold numbers above 0, or 'auto', not {value!r}") from error
        return values

    @field_validator("k")
    @classmethod
    def _positive(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        """At least one source is used."""
        if min(values) < 1:
            raise ValueError("should hold numbers of 1 and more alone")
        return values

    @field_validator("models")
    @classmethod
    def _learning_rate(cls, value: float) -> float:
        """A learning rate of model tuning."""
        if value is not False and not 0 < value <= 1:
            raise ValueError("should be false, or a learning rate above 0 and at most 1")
        return value

    @field_validator("model_mixture")
    @classmethod
    def _beside_models(cls, value: str | None, info: Any) -> str | None:
        """Multi-task model tuning is model tuning."""
        if value is not None and info.data.get("models") is False:
            raise ValueError("should stand beside models = LEARNING_RATE, which adds the arms that tune whole models")
        return value

    @field_validator("source", "target")
    @classmethod
    def _settings(cls, values: dict[str, Any], info: Any) -> dict[str, Any]:
        """What `spot tune` takes, but for what the study gives itself; all mistakes of a table at once."""
        given = (*GIVEN_BY_STUDY, "init") if info.field_name == "target" else GIVEN_BY_STUDY
        mistakes = [f"{name!r} is the study's to set" for name in given if name in values]
        try:
            TuneConfig.model_validate({"task": "any", **{k: v for k, v in values.items() if k not in given}})
        except ValidationError as error:
            mistakes += [_mistake(entry) for entry in error.errors(include_url=False)]
        if mistakes:
            raise ValueError(f"should hold settings of a run: {'; '.join(mistakes)}")
        return values

    @property
    def baselines(self) -> tuple[Instead, ...]:
        """The arms of `INSTEAD` that run, in its order; a constant answer always does."""
        return tuple(name for name in INSTEAD if name == "constant" or name in self.instead)

    def arm_settings(self, name: str) -> dict[str, Any]:
        """What settles an arm of `INSTEAD` beside the rows and the settings of runs on targets."""
        return {setting: getattr(self, setting) for setting in ARM_SETTINGS.get(name, ())}

    def tuning(self, table: Literal["source", "target"], task: str, **changes: Any) -> TuneConfig:
        """The settings of a run of this study.

        Args:
            table: whose settings; a target's first run takes its key where the sources' runs do.
            task: what is tuned on: a name, a path or a mixture.
            changes: settings that differ; with a seed among them the run has that seed's draw of rows.
        """
        shared = {"key_step": self.source.get("key_step"), **self.target} if table == "target" else self.source
        if self.rows == "per_seed" and "seed" in changes:
            changes["rows_seed"] = (shared.get("rows_seed", 0) + changes["seed"]) % SEEDS
        return TuneConfig(**{"task": task, "backbone": self.backbone, **shared, **changes})


@dataclass(frozen=True)
class Origin:
    """A source or a target as the study names it.

    Attributes:
        task: its name; of a mixture `mixture:NAME`.
        reference: what it is looked up by: a name, or the path of a task file or a prompt.
        revision: of the task, or of the members of a mixture.
        members: references of the tasks whose rows train; none for a prompt that is there already.
        prompt: digest of a prompt that is there already.
        labels: whether the task has label words.
        instruction: what is asked of the task's rows, in its own words; empty where it does not say.
    """

    task: str
    reference: str
    revision: str = ""
    members: tuple[str, ...] = ()
    prompt: str = ""
    labels: bool = True
    instruction: str = ""

    def revision_from(self, start: str) -> str:
        """The revision of the task, and its instruction where runs begin with these words."""
        return f"{self.revision} {self.instruction}" if "instruction" in start.split("+") else self.revision

    def serves(self, start: str) -> bool:
        """Whether plain tuning can begin with a start of `StudyConfig.starts`."""
        parts = start.split("+")
        return (self.labels or "classes" not in parts) and bool(self.instruction or "instruction" not in parts)


@dataclass(frozen=True)
class Study:
    """A study with its names looked up.

    Attributes:
        config: as its file has it.
        sources: tasks, mixtures and prompts.
        targets: tasks.
        mixture: that whole models are tuned on first; none or one.
    """

    config: StudyConfig
    sources: tuple[Origin, ...]
    targets: tuple[Origin, ...]
    mixture: tuple[Origin, ...] = ()


def read_study(path: Path, overrides: tuple[str, ...] | list[str] = ()) -> StudyConfig:
    """The study of a file, with its paths as they are from here.

    Args:
        path: of the study's TOML file.
        overrides: `key=value`, as `load_config` takes them; their paths are relative to the file too.

    Raises:
        ConfigError: all mistakes in form at once; names are looked up by `look_up`.
    """
    config = load_config(StudyConfig, path, overrides)
    out = config.out or f"studies/{config.name}"
    changes: Mapping[str, Any] = {
        "sources": tuple(_beside(path, name) for name in config.sources),
        "targets": tuple(_beside(path, name) for name in config.targets),
        "backbone": _beside(path, config.backbone),
        "embedding_model": None if config.embedding_model is None else _beside(path, config.embedding_model),
        "model_mixture": None if config.model_mixture is None else _beside(path, config.model_mixture),
        "out": str(path.parent / _expanded(out)),
    }
    return config.model_copy(update=changes)


def look_up(config: StudyConfig) -> Study:
    """Look up the names of a study; neither rows of known data sets nor the backbone are read.

    Raises:
        ConfigError: names that are unknown or double, k beyond the sources, settings that leave keys incomparable or
            a race without rungs; all of them at once.
    """
    mistakes: list[str] = []
    sources = tuple(origin for name in config.sources for origin in _looked_up(config, "source", name, mistakes))
    targets = tuple(origin for name in config.targets for origin in _looked_up(config, "target", name, mistakes))
    for role, origins in (("sources", sources), ("targets", targets)):
        counts = Counter(origin.task for origin in origins)
        mistakes += [
            f"{role}: {task} is there {count} times; name each once, or rename it in its task file"
            for task, count in counts.items()
            if count > 1
        ]
    mixture = () if config.model_mixture is None else _looked_up(config, "source", config.model_mixture, mistakes)
    if not mistakes:
        mistakes = [
            *_without_enough_sources(config, sources, targets),
            *_incomparable(config, sources),
            *_races_without_rungs(config),
        ]
    if mistakes:
        lines = "".join(f"\n  {mistake}" for mistake in mistakes)
        raise ConfigError(f"the study {config.name} cannot be planned:{lines}")
    return Study(config, sources, targets, tuple(mixture))


def _beside(path: Path, name: str) -> str:
    """A name, or where there is a file or folder of that name beside the study's file, its path."""
    if name in registry.TABLE or name in (EMBEDDED, PACKAGED):
        return name
    place = path.parent / _expanded(name)
    return str(place) if name.endswith(".toml") or os.path.exists(place) else name


def _expanded(name: str) -> Path:
    """A path whose `~` stands for a home folder.

    Raises:
        ConfigError: nobody knows that folder.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"the path {name!r:.80} begins with a home folder that is not known: {error}.") from error


def _is_start(value: str) -> bool:
    """Whether a run can begin so from no other prompt, such as `demonstrations:8` or `classes+instruction`."""
    try:
        TuneConfig(task="any", init=value)
    except ValidationError:
        return False
    return not names_prompt(value)


def _mistake(entry: Mapping[str, Any]) -> str:
    """What is wrong with one setting of a table."""
    name = str(entry["loc"][0])
    if entry["type"] == "extra_forbidden":
        return f"unknown key {name!r}, {did_you_mean(name, set(TuneConfig.model_fields) - set(GIVEN_BY_STUDY))}"
    expected = entry["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
    return f"{name} is {entry['input']!r:.200}, it {expected}"


def _looked_up(config: StudyConfig, role: str, name: str, mistakes: list[str]) -> list[Origin]:
    """What a name in a study stands for; nothing where it is a mistake."""
    prefix = config.tuning("source" if role == "source" else "target", "any").task_prefix
    try:
        if role == "source" and (prompts := _prompts(name)):
            return prompts
        mixture = mixtures.find_mixture(name)
        if mixture is None:
            task = registry.get(name, prefix=prefix)
            has_labels, asked = bool(task.labels), task.instruction
            return [Origin(task.name, name, task.revision, (name,), labels=has_labels, instruction=asked)]
        if role == "target":
            raise TaskError(f"{name} is a mixture, and a target is one task: name its tasks one by one")
        members = mixtures.tasks_of(mixture, prefix=prefix)
        return [Origin(mixture.title, name, _revision(members, mixture.rates), mixture.tasks)]
    except SpotError as error:
        mistakes.append(f"{role}s: {error}")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        mistakes.append(f"{role}s: {name!r:.80} cannot be looked up: {reason}; give a name or a path")
    return []


def _revision(tasks: Sequence[Task], rates: Sequence[float]) -> str:
    """Of a mixture: those of its tasks, and its rates where its file gives them."""
    return " ".join([f"{task.name}@{task.revision}" for task in tasks] + [repr(rate) for rate in rates])


def _prompts(name: str) -> list[Origin]:
    """The prompts that a name stands for: one, or all of a library; none where it names tasks."""
    folder = Path(name)
    if name == PACKAGED or (folder / "prompts").is_dir():
        paths = [entry.path for entry in open_library(name).entries()]
    elif name.startswith(f"{PACKAGED}:"):
        paths = [_packaged(open_library(PACKAGED), name.removeprefix(f"{PACKAGED}:"))]
    elif name.endswith(".safetensors"):
        paths = [folder]
    elif folder.is_dir():
        paths = [folder / PROMPT_FILE]
    else:
        return []
    headers = [(path, header(path)) for path in paths]
    return [Origin(content["task"], str(path), prompt=content["digest"]) for path, content in headers]


def _packaged(library: Library, reference: str) -> Path:
    """The file of a prompt in a library."""
    digest = library.get(reference).digest
    return next(entry.path for entry in library.entries() if entry.digest == digest)


def _without_enough_sources(config: StudyConfig, sources: Sequence[Origin], targets: Sequence[Origin]) -> list[str]:
    """Targets that no start serves, strategies without sources, and k beyond the sources of some target."""
    if bare := [target.task for target in targets if not any(map(target.serves, config.starts))]:
        lacks = "no labels" if config.starts == ("classes",) else "not what they need"
        return [f"starts: {', '.join(config.starts)} alone, but {', '.join(bare)} has {lacks}; add vocabulary"]
    used = [name for name in config.strategies if name in (*PAIR_STRATEGIES, *COMBINED_STRATEGIES)]
    if not used:
        return []
    if not sources:
        return [f'sources: none, but {", ".join(used)} start from one; name some, or keep strategies = ["none"]']
    fewest = min(sum(source.task != target.task for source in sources) for target in targets)
    return [
        f"k: {k} is beyond the {fewest} sources that every target has (none is its own); choose from 1 to {fewest}"
        for k in config.k
        if k > fewest
    ]


def _incomparable(config: StudyConfig, sources: Sequence[Origin]) -> list[str]:
    """Settings that keep the task embeddings of sources and targets from being compared."""
    if not sources:
        return []
    first = config.tuning("target", "any", init=config.starts[0])
    differences = []
    if first.key_step is None:
        differences.append("source: no key_step, the step at which task embeddings are read; give one under [source]")
    if any(not source.prompt for source in sources):
        ours = config.tuning("source", "any")
        differences += [
            f"{name} is {getattr(ours, name)!r} under [source] and {getattr(first, name)!r} on targets"
            for name in KEY_SETTINGS
            if getattr(ours, name) != getattr(first, name)
        ]
    for source in sources:
        if source.prompt:
            differences += _foreign(source, first, config.backbone)
    if not differences:
        return []
    return [
        "the task embeddings of sources and targets cannot be compared (of a target that of its first start, "
        f"{config.starts[0]}): {'; '.join(differences)}. Make them equal"
    ]


def _foreign(source: Origin, first: TuneConfig, backbone: str) -> list[str]:
    """How the key of an existing prompt differs from those of the study's targets."""
    content = header(source.reference)
    differences = []
    if not os.path.isdir(backbone) and content["backbone"]["name"] != backbone:
        differences.append(f"{source.task} belongs to {content['backbone']['name']}, and the study to {backbone}")
    if content["key_recipe"] is None:
        return [*differences, f"{source.task} ({source.reference}) has no key of a known recipe"]
    recipe = asdict(KeyRecipe(**content["key_recipe"]))
    wanted = {field.name: getattr(first, field.name, None) for field in fields(KeyRecipe)} | {"step": first.key_step}
    differences += [
        f"{name} is {recipe[name]!r} in {source.task} ({source.reference}) and {value!r} on targets"
        for name, value in wanted.items()
        if recipe[name] != value
    ]
    plain = {name: TuneConfig.model_fields[name].default for name in KEY_SETTINGS if name not in (*wanted, "key_step")}
    return differences + [
        f"{name} is {getattr(first, name)!r} on targets, where keys of a recipe have {value!r}"
        for name, value in plain.items()
        if getattr(first, name) != value
    ]


def _races_without_rungs(config: StudyConfig) -> list[str]:
    """Races whose rungs fall together, because evaluations are too far apart."""
    if "race" not in config.strategies:
        return []
    target = config.tuning("target", "any")
    candidates = max(config.k) + config.restarts
    wanted = (candidates - 1).bit_length()
    rungs = halving(candidates, target.steps, target.eval_every)
    if len(rungs) == wanted:
        return []
    return [
        f"target: eval_every is {target.eval_every}, too far apart for a race: of {candidates} candidates beside the "
        f"plain run the worse half is dropped {wanted} times up to half of {target.steps} steps, first at "
        f"{target.steps / 2**wanted:g}; evaluate that often, or give more steps"
    ]
