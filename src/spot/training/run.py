"""Describe a run: the tasks that it trains on, their rows and shares, its settings, and where it starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from spot.collator import Collator, collator_for
from spot.config import BEHIND, TuneConfig, digest, names_prompt
from spot.errors import ConfigError, TaskError
from spot.library.library import resolve
from spot.metrics.scores import spelled_metrics
from spot.models.backbone import Backbone
from spot.prompts.prompt import KeyRecipe, Parent, SoftPrompt, check_fits
from spot.reading import Reading
from spot.tasks import mixtures, registry
from spot.tasks.instructions import proposed_instruction
from spot.tasks.splits import Splits, split_rows
from spot.tasks.task import Example, Task, data_digest
from spot.tokenization import Part, Tokenization
from spot.training import initialisers

WITHOUT_EFFECT = ("report_rows", "checkpoint_every", "gradient_checkpointing")  # on what is learned
DEMONSTRATION_END = "\n\n"  # behind each row that a prompt starts with
UNKEYED = ("dropout", "first_step", "batch_tokens", "truncate", "task_prefix")  # at their defaults in a key recipe


@dataclass(frozen=True)
class Member:
    """One task of a run, with its rows and its share of the draws; most runs have one member."""

    task: Task
    splits: Splits
    rate: float = 1.0

    @property
    def unreported(self) -> "Member":
        """The same without report rows, as a run trains that may not see them."""
        return Member(self.task, Splits(self.splits.train, self.splits.selection, ()), self.rate)


@dataclass(frozen=True)
class Run:
    """One run, ready to train.

    Attributes:
        config: the resolved configuration.
        members: what to learn: one task, or the tasks of a mixture.
        start: [P, D], the initial prompt; P = 0 where the model itself trains.
        parents: prompts that `start` was made from.
        name: of the task or the mixture.
        fingerprint: of the backbone.
        keep: which checkpoint the prompt is: the `best` by selection score, or the `last`.
        is_instructed: whether the task's instruction follows the parents in `start`.
    """

    config: TuneConfig
    members: tuple[Member, ...]
    start: Tensor
    parents: tuple[Parent, ...] = ()
    name: str = ""
    fingerprint: str = ""
    keep: Literal["best", "last"] = "best"
    is_instructed: bool = False

    @property
    def initialiser(self) -> str:
        """The kind of its initial value."""
        return f"prompt{BEHIND * self.is_instructed}" if self.parents else self.config.init

    @property
    def title(self) -> str:
        """The mixture's name, or that of the only task."""
        return self.name or self.members[0].task.name

    @property
    def settings(self) -> TuneConfig:
        """The settings that decide what is learned, as they are wherever the run is made."""
        defaults = {name: TuneConfig.model_fields[name].default for name in WITHOUT_EFFECT}
        given = {"task": self.title, "init": "given", "backbone": self.fingerprint or self.config.backbone}
        return self.config.model_copy(update={**defaults, **given})

    @cached_property
    def digest(self) -> str:
        """What decides the outcome: settings, backbone, rows, how they are scored, shares and initial value."""
        tasks = [repr((m.task.labels, spelled_metrics(m.task.metrics), m.task.revision)) for m in self.members]
        spelled = [words for m in self.members if (words := m.task.reading.spelling)]
        rows = [data_digest(part) for m in self.members for part in (m.splits.train, m.splits.selection)]
        rates = [repr(member.rate) for member in self.members] if len(self.members) > 1 else []
        last = ["last"] if self.keep == "last" else []
        return digest(self.settings, *tasks, *spelled, *rows, *rates, *last, self.start.numpy().tobytes().hex())

    @property
    def key_recipe(self) -> KeyRecipe | None:
        """How the run's key is trained; None where it keeps none, or by more settings than a recipe can say."""
        config = self.config
        if config.key_step is None:
            return None
        if any(getattr(config, name) != TuneConfig.model_fields[name].default for name in UNKEYED):
            return None
        network = {name: getattr(config, name) for name in ("bottleneck", "network_learning_rate")}
        return KeyRecipe(
            step=config.key_step,
            length=config.length,
            init=config.init,
            init_seed=config.init_seed,
            optimiser=config.optimiser,
            learning_rate=config.rate,
            weight_decay=config.weight_decay,
            batch_size=config.batch_size,
            max_input_tokens=config.max_input_tokens,
            reparameterise=config.reparameterise,
            warmup_steps=config.warmup_steps,
            decay=config.decay,
            decay_steps=None if config.decay == "none" else config.decay_steps or config.steps,
            **(network if config.reparameterise != "none" else {}),
        )

    @property
    def reading(self) -> Reading:
        """How rows are read that the run's prompt is to answer; of a mixture, what its members' rows have in common."""
        if len(self.members) == 1:
            return self.reading_of(self.members[0])
        first = self.members[0].task.reading
        form = {name: getattr(first, name) for name in ("cue", "separator", "end", "chat", "system")}
        return Reading(**form, task_prefix=self.config.task_prefix).with_limits(self.config)

    def reading_of(self, member: Member) -> Reading:
        """How the run reads the rows of one of its members."""
        return member.task.reading.with_limits(self.config)

    def collator_of(self, member: Member, backbone: Backbone) -> Collator:
        """What turns the rows of one of its members into batches."""
        return collator_for(backbone, member.task, length=len(self.start), reading=self.reading_of(member))


def prepare_run(
    config: TuneConfig, members: Sequence[Member], backbone: Backbone, source: SoftPrompt | None = None, name: str = ""
) -> Run:
    """Resolve the initial prompt of a run on one task or a mixture.

    Args:
        config: its `init` names the kind of start; `source` overrides it.
        members: tasks with rows and shares.
        backbone: gives the embeddings.
        source: start from this prompt's value.
        name: of the mixture.

    Raises:
        ConfigError: a model is to be tuned from a prompt, or a mixture by a token budget.
        PromptError: the source belongs to another backbone.
        TaskError: a label has no tokens, or two labels have the same; or no row can be a demonstration.
    """
    if len(members) > 1 and config.batch_tokens is not None:
        raise ConfigError("batch_tokens is for one task: the rows of a mixture are drawn one by one; give batch_size")
    spellings = {member.task.name: member.task.reading.spelling for member in members}
    if len(set(spellings.values())) > 1:
        named = ", ".join(f"{task}: {spelling or 'the defaults'}" for task, spelling in spellings.items())
        raise TaskError(
            f"the tasks of a mixture read rows differently ({named}), and one prompt cannot say both: expected one "
            "cue, separator, end, decode and chat form. Write the same in their task files."
        )
    readings = [(member.task, member.task.reading.with_limits(config)) for member in members]
    label_tokens = [choice for pair in readings for choice in collator_for(backbone, pair[0], reading=pair[1]).choices]
    is_instructed = source is None and config.init.endswith(BEHIND)
    if source is None and names_prompt(config.init):
        source = resolve(config.init.removesuffix(BEHIND))
    if config.method == "model":
        if source is not None:
            raise ConfigError(f"method = 'model' trains no prompt and cannot start from one ({config.init}): drop it")
        start = torch.zeros(0, backbone.id.width)
    elif source is not None:
        return prepare_run_from(config, members, backbone, (source,), name=name, is_instructed=is_instructed)
    else:
        start = _start(config, members, backbone, label_tokens)
    return Run(as_loaded(config, backbone), tuple(members), start, name=name, fingerprint=backbone.id.fingerprint)


def as_loaded(config: TuneConfig, backbone: Backbone) -> TuneConfig:
    """The settings of a run on a backbone, which say how its weights are held: that enters digests and prompt files.

    Raises:
        ConfigError: they say otherwise than the backbone is, or a model of quantised weights is to be tuned.
    """
    if config.quantise not in (None, backbone.quantise):
        raise ConfigError(
            f"quantise is {config.quantise!r}, and the backbone is loaded with {backbone.quantise!r}; expected one. "
            f"Load it so: Backbone.load(NAME, quantise={config.quantise!r})."
        )
    if config.method == "model" and not backbone.trains:
        raise ConfigError(
            f"method = 'model' trains all weights, and those of {backbone.id.name} are quantised; expected whole "
            "numbers. Leave quantise out, or tune a prompt."
        )
    if config.precision not in (None, "auto", backbone.precision or str(backbone.model.dtype).removeprefix("torch.")):
        raise ConfigError(
            f"precision is {config.precision!r}, and the backbone is loaded in {backbone.model.dtype}; expected one. "
            f"Load it so: Backbone.load(NAME, dtype={config.precision!r})."
        )
    return config.model_copy(update={"quantise": backbone.quantise, "precision": backbone.precision})


def prepare_run_from(
    config: TuneConfig,
    members: Sequence[Member],
    backbone: Backbone,
    sources: Sequence[SoftPrompt],
    weights: Sequence[float] = (),
    name: str = "",
    is_instructed: bool = False,
) -> Run:
    """A run that starts from a prompt, or from the weighted mean of several (SPoT section 3.3).

    Args:
        config: its `length` is that of the start.
        members: tasks with rows and shares.
        backbone: that the sources must belong to.
        sources: one prompt, or as many as there are weights.
        weights: of the mean, positive in sum; left out for one prompt.
        name: of the mixture.
        is_instructed: the task's instruction follows the sources: in what `length` leaves behind them, else in the
            place of their last tokens, of half of them at most.

    Raises:
        PromptError: a source belongs to another backbone.
    """
    for source in sources:
        check_fits(source, backbone.id)
    behind = torch.zeros(0, backbone.id.width)
    if is_instructed:
        ids = _instruction_ids(members, backbone)
        longest = max(source.length for source in sources)
        room = config.length - longest if config.length > longest else min(len(ids), config.length // 2)
        behind = initialisers.text(backbone.embeddings().cpu(), ids, room)
    length = config.length - len(behind)
    values = [initialisers.resized(torch.from_numpy(source.value.copy()), length) for source in sources]
    start = torch.cat([initialisers.weighted(values, weights) if weights else values[0], behind])
    shares = weights or (1.0,)
    parents = tuple(Parent(source.digest, float(share)) for source, share in zip(sources, shares, strict=True))
    return Run(
        config=as_loaded(config, backbone),
        members=tuple(members),
        start=start,
        parents=parents,
        name=name,
        fingerprint=backbone.id.fingerprint,
        is_instructed=is_instructed,
    )


def members_of(config: TuneConfig, data: Path | None) -> tuple[tuple[Member, ...], str]:
    """The tasks that a configuration names, each with rows and share, and the name of the mixture they make.

    Args:
        config: `train_rows`, `select_rows` and `report_rows` are of each task.
        data: where the rows of known data sets are.

    Returns:
        Members, and a name that is empty for a single task.

    Raises:
        TaskError: a task or a mixture is unknown or cannot be used.
    """
    mixture = mixtures.find_mixture(config.task)
    if mixture is None:
        tasks: tuple[Task, ...] = (registry.get(config.task, data, config.task_prefix),)
    else:
        tasks = mixtures.tasks_of(mixture, data, config.task_prefix)
    limits = (config.train_rows, config.select_rows, config.report_rows, config.rows_seed)
    splits = [split_rows(task, *limits) for task in tasks]
    if mixture is None:
        return (Member(tasks[0], splits[0]),), ""
    return mixed(list(zip(tasks, splits, strict=True)), config, mixture.rates), mixture.title


def mixed(parts: Sequence[tuple[Task, Splits]], config: TuneConfig, rates: Sequence[float] = ()) -> tuple[Member, ...]:
    """Tasks with their rows as members of a mixture.

    Args:
        parts: tasks with their rows.
        config: says how shares follow from sizes, and whose sizes.
        rates: of the tasks, where they are given.
    """
    sizes = {task.name: task.size if config.sizes == "official" else len(splits.train) for task, splits in parts}
    shares = rates or mixtures.mixing_rates(sizes, config.mixing, config.mixing_cap, config.temperature)
    return tuple(Member(task, splits, share) for (task, splits), share in zip(parts, shares, strict=True))


def _start(
    config: TuneConfig, members: Sequence[Member], backbone: Backbone, label_tokens: Sequence[Sequence[int]]
) -> Tensor:
    """The initial prompt [P, D] of a run that starts from no other prompt."""
    embeddings = backbone.embeddings().cpu()
    if config.init.endswith(BEHIND):
        ids = _instruction_ids(members, backbone)
        behind = initialisers.text(embeddings, ids, min(len(ids), config.length // 2))
        first = {"init": config.init.removesuffix(BEHIND), "length": config.length - len(behind)}
        return torch.cat([_start(config.model_copy(update=first), members, backbone, label_tokens), behind])
    special = backbone.tokenizer.all_special_ids
    length, seed = config.length, config.init_seed
    kind, _, words = config.init.partition(":")
    if kind == "uniform":
        return initialisers.uniform(length, backbone.id.width, seed)
    if kind == "classes":
        return initialisers.classes(embeddings, label_tokens, length, seed, special)
    if kind == "instruction":
        return initialisers.text(embeddings, _instruction_ids(members, backbone), length)
    if kind == "demonstrations":
        rows = demonstration_ids(config, members, backbone, int(words))
        return initialisers.demonstrations(embeddings, rows, length)
    if kind == "text":
        ids = backbone.tokenizer(words, add_special_tokens=False)["input_ids"]
        return initialisers.text(embeddings, ids, length)
    return initialisers.vocabulary(embeddings, length, seed, special)


def _instruction_ids(members: Sequence[Member], backbone: Backbone) -> tuple[int, ...]:
    """Token ids of what is asked of the rows, of each task once; where nobody has said it, as its labels propose it."""
    tasks = [member.task for member in members]
    texts = dict.fromkeys(task.instruction or proposed_instruction(task) for task in tasks)
    encoded = Tokenization(backbone.tokenizer).encode([(Part(text),) for text in texts])
    return tuple(token for ids in encoded for token in ids)


def demonstration_ids(
    config: TuneConfig, members: Sequence[Member], backbone: Backbone, count: int
) -> list[tuple[int, ...]]:
    """Token ids of rows that train, with their answers, as a batch of them holds these; special tokens are left out.

    The rows are drawn in turn from each label of each member, whose order the seed draws too.

    Raises:
        TaskError: no row has an answer.
    """
    generator = torch.Generator().manual_seed(config.init_seed)
    by_answer: dict[tuple[int, str], list[tuple[Member, Example]]] = {}
    for number, member in enumerate(members):
        for place in torch.randperm(len(member.splits.train), generator=generator).tolist():
            row = member.splits.train[place]
            if row.answers:
                answer = row.answers[0] if member.task.labels else ""
                by_answer.setdefault((number, answer), []).append((member, row))
    if not by_answer:
        raise TaskError(f"init is {config.init!r}, and no row of {members[0].task.name} that trains has an answer")
    kinds = sorted(by_answer)
    turns = [by_answer[kinds[place]] for place in torch.randperm(len(kinds), generator=generator).tolist()]
    drawn = [pair for turn in zip_longest(*turns) for pair in turn if pair is not None][:count]
    special = set(backbone.tokenizer.all_special_ids)
    end = Tokenization(backbone.tokenizer).encode([(Part(DEMONSTRATION_END, is_row=False),)])[0]
    demonstrations = []
    for member, row in drawn:
        reading = member.task.reading.with_limits(config)
        [encoded] = collator_for(backbone, member.task, length=config.length, reading=reading).encode([row])
        tokens = (*encoded.input_ids, *encoded.target_ids, *end)
        demonstrations.append(tuple(token for token in tokens if token not in special))
    return demonstrations
