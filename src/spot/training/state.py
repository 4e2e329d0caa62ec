"""What a run is, and all that a killed one needs to go on: tasks with rows, the plan of its batches, its checkpoint."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from spot.collator import Collator, Row, collator_for
from spot.config import TuneConfig, digest
from spot.evaluation.evaluation import Evaluation
from spot.models.backbone import Backbone
from spot.prompts.prompt import Parent
from spot.reading import Reading
from spot.storage.run_dir import RunDir
from spot.tasks import mixtures, registry
from spot.tasks.splits import Splits, split_rows
from spot.tasks.task import Task, data_digest
from spot.training.result import CurvePoint, RunResult
from spot.training.sampling import Draw, sample_draws

NOTES = (
    "best_step",
    "best_rank",
    "best_scores",
    "curve",
    "constant",
    "first_gradient",
    "tokens",
    "seconds",
    "waited",
    "drawn",
    "last_step",
    "diverged",
    "dropped",
)
NO_MATTER = ("report_rows", "checkpoint_every", "gradient_checkpointing")  # settings that do not change what is learned


@dataclass(frozen=True)
class Member:
    """One task of a run, with its rows and its share of the draws; most runs have one member."""

    task: Task
    splits: Splits
    rate: float = 1.0


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
    """

    config: TuneConfig
    members: tuple[Member, ...]
    start: Tensor
    parents: tuple[Parent, ...] = ()
    name: str = ""
    fingerprint: str = ""
    keep: Literal["best", "last"] = "best"

    @property
    def title(self) -> str:
        """The mixture's name, or that of the only task."""
        return self.name or self.members[0].task.name

    @property
    def settings(self) -> TuneConfig:
        """The settings that decide what is learned, as they are wherever the run is made."""
        defaults = {name: TuneConfig.model_fields[name].default for name in NO_MATTER}
        given = {"task": self.title, "init": "given", "backbone": self.fingerprint or self.config.backbone}
        return self.config.model_copy(update={**defaults, **given})

    @cached_property
    def digest(self) -> str:
        """What decides the outcome: settings, backbone, rows, how they are scored, shares and initial value."""
        tasks = [repr((m.task.labels, m.task.metrics, m.task.revision)) for m in self.members]
        spelled = [words for m in self.members if (words := m.task.reading.spelling)]
        rows = [data_digest(part) for m in self.members for part in (m.splits.train, m.splits.selection)]
        rates = [repr(member.rate) for member in self.members] if len(self.members) > 1 else []
        last = ["last"] if self.keep == "last" else []
        return digest(self.settings, *tasks, *spelled, *rows, *rates, *last, self.start.numpy().tobytes().hex())


@dataclass(frozen=True)
class Encoded:
    """One member's rows as token ids."""

    member: Member
    collator: Collator
    train: list[Row]
    select: list[Row]


@dataclass
class State:
    """One run in the loop: what a checkpoint holds, and what the plan of its batches was."""

    run: Run
    members: tuple[Encoded, ...]
    batches: list[list[Draw]]  # of each step
    trained: dict[str, Tensor]  # `prompt` [P, D], or the model's parameters
    best: dict[str, Tensor]
    key: Tensor | None = None
    best_step: int = 0
    best_rank: tuple[float, float] = (-math.inf, -math.inf)
    best_scores: dict[str, float] = field(default_factory=dict)
    curve: list[CurvePoint] = field(default_factory=list)
    constant: bool = False
    first_gradient: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    waited: int = 0  # evaluations since the best one
    last_step: int = 0  # taken; a run may stop before its steps are done
    diverged: str = ""  # why training had to stop
    dropped: bool = False  # by its gang's rule
    drawn: list[list[float]] = field(default_factory=list)  # a member: rows and nats since the last evaluation
    known: dict[tuple, list[Evaluation]] = field(default_factory=dict, repr=False)

    @property
    def prompt(self) -> Tensor:
        """[P, D] as it is now; P = 0 where the model trains."""
        return self.trained.get("prompt", self.run.start)

    @property
    def stopped(self) -> bool:
        """Whether the run stands still: it diverged, was dropped, or its patience is spent after its key step."""
        if self.diverged or self.dropped:
            return True
        config = self.run.config
        waits_for_key = config.key_step is not None and self.key is None
        return config.patience is not None and self.waited >= config.patience and not waits_for_key


def begin(run: Run, backbone: Backbone, encoded: dict[tuple, Encoded]) -> State:
    """The state of a run before its first step.

    Args:
        run: to train.
        backbone: gives the tokenizer, and the tensors where the model trains.
        encoded: rows that other runs of the gang have encoded already; is added to.
    """
    config = run.config
    members = []
    for member in run.members:
        collator = collator_of(run, member, backbone)
        mark = (id(member.splits.train), id(member.splits.selection), member.task.name, collator.max_input_tokens)
        if mark not in encoded:
            rows = (collator.encode(member.splits.train), collator.encode(member.splits.selection))
            encoded[mark] = Encoded(member, collator, *rows)
        members.append(encoded[mark])
    if config.method == "model":
        trained = dict(backbone.model.named_parameters())
    else:
        trained = {"prompt": run.start.to(backbone.device).clone().requires_grad_()}
    best = {name: part.detach().clone() for name, part in trained.items()}
    drawn = [[0, 0.0] for _ in members]
    lengths = [[len(row.input_ids) for row in part.train] for part in members]
    batches = sample_draws(config, lengths, [member.rate for member in run.members])
    return State(run, tuple(members), batches, trained, best, drawn=drawn)


def reading_of(run: Run, member: Member) -> Reading:
    """How a run reads the rows of one of its members."""
    return member.task.reading.with_limits(run.config)


def reading_of_run(run: Run) -> Reading:
    """How rows are read that the run's prompt is to answer; of a mixture, what its members' rows have in common."""
    if len(run.members) == 1:
        return reading_of(run, run.members[0])
    readings = [member.task.reading for member in run.members]
    spelling = {(reading.cue, reading.separator, reading.end) for reading in readings}
    cue, separator, end = spelling.pop() if len(spelling) == 1 else (None, None, "auto")
    return Reading(cue=cue, separator=separator, end=end).with_limits(run.config)


def result_of(state: State, diagnosis: Sequence[str] = ()) -> RunResult:
    """What a run has come to so far; its scores are those of the selection rows.

    Args:
        state: of the run.
        diagnosis: what looks wrong with it, in words.
    """
    return RunResult(
        task=state.run.title,
        digest=state.run.digest,
        scores=state.best_scores,
        selection=state.best_scores,
        step=state.best_step,
        steps=state.last_step,
        tokens=state.tokens,
        seconds=round(state.seconds, 3),
        curve=tuple(state.curve),
        diagnosis=tuple(diagnosis),
        diverged=state.diverged or None,
        dropped=state.dropped,
    )


def collator_of(run: Run, member: Member, backbone: Backbone) -> Collator:
    """The collator of one member of a run."""
    return collator_for(backbone, member.task, length=len(run.start), reading=reading_of(run, member))


def save_states(folder: RunDir, states: Sequence[State], optimiser: torch.optim.Optimizer, step: int) -> None:
    """Write everything that the rest of the runs depends on."""
    tensors: dict[str, Tensor] = {}
    for number, state in enumerate(states):
        held = {f"trained/{name}": part.detach() for name, part in state.trained.items()}
        held |= {f"best/{name}": part for name, part in state.best.items()}
        held |= {"key": state.key} if state.key is not None else {}
        for name, part in state.trained.items():
            held |= {f"state/{name}/{kind}": value for kind, value in optimiser.state[part].items()}
        tensors.update({f"{number}/{name}": part.contiguous() for name, part in held.items()})
    notes = [
        {**{name: getattr(state, name) for name in NOTES}, "curve": [asdict(point) for point in state.curve]}
        for state in states
    ]
    folder.save_checkpoint(save_tensors(tensors, {"step": str(step), "runs": json.dumps(notes)}))


def restore_states(folder: RunDir, states: Sequence[State], optimiser: torch.optim.Optimizer) -> int:
    """Bring the states back to the last checkpoint; the step to go on from, 0 where there is none."""
    data = folder.load_checkpoint()
    if data is None:
        folder.truncate_log(-1)
        return 0
    tensors = load_tensors(data)
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    for number, (state, notes) in enumerate(zip(states, json.loads(metadata["runs"]), strict=True)):
        for name, part in state.trained.items():
            with torch.no_grad():
                part.copy_(tensors[f"{number}/trained/{name}"])
            state.best[name] = tensors[f"{number}/best/{name}"]
            before = f"{number}/state/{name}/"
            kept = {key.removeprefix(before): value for key, value in tensors.items() if key.startswith(before)}
            # Step counts are scalars, which stay on the CPU.
            optimiser.state[part] = {key: value.to(part.device) if value.ndim else value for key, value in kept.items()}
            state.best[name] = state.best[name].to(part.device)
        state.key = tensors.get(f"{number}/key")
        for name, value in notes.items():
            setattr(state, name, tuple(value) if name == "best_rank" else value)
        state.curve = [CurvePoint(**point) for point in notes["curve"]]
    step = int(metadata["step"])
    folder.truncate_log(step)
    return step


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
    rows = [split_rows(task, *limits) for task in tasks]
    if mixture is None:
        return (Member(tasks[0], rows[0]),), ""
    return mixed(list(zip(tasks, rows, strict=True)), config, mixture.rates), mixture.title


def mixed(parts: Sequence[tuple[Task, Splits]], config: TuneConfig, rates: Sequence[float] = ()) -> tuple[Member, ...]:
    """Tasks with their rows as members of a mixture.

    Args:
        parts: tasks with their rows.
        config: says how shares follow from sizes, and whose sizes.
        rates: of the tasks, where they are given.
    """
    sizes = {task.name: task.size if config.sizes == "official" else len(rows.train) for task, rows in parts}
    shares = rates or mixtures.mixing_rates(sizes, config.mixing, config.mixing_cap, config.temperature)
    return tuple(Member(*part, share) for part, share in zip(parts, shares, strict=True))
