"""The one training loop: a run, or a gang of runs that share every batch of the frozen model.

Prompt tuning and full model tuning differ only in which tensors train. A run is decided by its configuration and its
data alone. It saves its state as it goes, so that a run killed at any moment and started again ends with the same
bytes as one left alone.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from spot import optimisers
from spot.backbone import Backbone
from spot.batching import Collator, Row, collator_for, plan_batches, plan_token_batches
from spot.config import TuneConfig, digest
from spot.dropout import dropout
from spot.errors import ConfigError, RunError
from spot.evaluation import Evaluation, Progress, evaluate
from spot.prompt import Parent
from spot.runs import RunDir
from spot.tasks import mixtures, registry
from spot.tasks.base import Roles, Task, data_digest, roles

NOTES = ("best_step", "best_rank", "best_scores", "curve", "constant", "first_gradient", "tokens", "seconds", "waited",
         "drawn")  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One task of a run, with its rows and its share of the draws; most runs have one member."""

    task: Task
    roles: Roles
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
    """

    config: TuneConfig
    members: tuple[Member, ...]
    start: Tensor
    parents: tuple[Parent, ...] = ()
    name: str = ""

    @property
    def title(self) -> str:
        """The mixture's name, or that of the only task."""
        return self.name or self.members[0].task.name

    @property
    def digest(self) -> str:
        """What decides the outcome: settings, rows, shares and initial value."""
        settings = self.config.model_copy(update={"task": self.title, "init": "given"})
        start = digest(settings, str(self.start.numpy().tobytes().hex()))
        rows = [data_digest(part) for m in self.members for part in (m.roles.train, m.roles.select)]
        rates = [repr(member.rate) for member in self.members] if len(self.members) > 1 else []
        return digest(settings, *rows, *rates, start)


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
    batches: list[list[tuple[int, int]]]  # a step: (member, row) pairs
    trained: dict[str, Tensor]  # `prompt` [P, D], or the model's parameters
    best: dict[str, Tensor]
    key: Tensor | None = None
    best_step: int = 0
    best_rank: tuple[float, float] = (-math.inf, -math.inf)
    best_scores: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float | None]] = field(default_factory=list)
    constant: bool = False
    first_gradient: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    waited: int = 0  # evaluations since the best one
    drawn: list[list[float]] = field(default_factory=list)  # a member: rows and nats since the last evaluation
    known: dict[tuple, list[Evaluation]] = field(default_factory=dict, repr=False)

    @property
    def prompt(self) -> Tensor:
        """[P, D] as it is now; P = 0 where the model trains."""
        return self.trained.get("prompt", self.run.start)

    @property
    def stopped(self) -> bool:
        """Whether patience is spent; the run stands still from then on."""
        patience = self.run.config.patience
        return patience is not None and self.waited >= patience


def train(
    runs: Sequence[Run], backbone: Backbone, folder: RunDir, progress: Progress | None = None
) -> list[State]:
    """The loop. All runs stand in every batch; each row uses its own run's prompt, so no gradient crosses over.

    Args:
        runs: of one backbone; see `check_gang`.
        backbone: frozen; a copy that may change where the model trains.
        folder: takes the log and the checkpoints.
        progress: called after every step.

    Raises:
        ConfigError: the runs cannot walk in step.
        RunError: the loss is no number.
    """
    check_gang(runs)
    config = runs[0].config
    states = [_begin(run, backbone) for run in runs]
    groups = [
        {"params": list(s.trained.values()), "lr": s.run.config.learning_rate,
         "weight_decay": s.run.config.weight_decay, "first_step": s.run.config.first_step}
        for s in states
    ]  # fmt: skip
    optimiser = optimisers.make(config.optimiser, groups)
    first = _restore(folder, states, optimiser)
    if first == 0:
        known: dict[tuple, list[Evaluation]] = {}
        for state in states:
            state.known = known
            _select(state, backbone, 0, folder)
    for step in range(first + 1, config.steps + 1):
        if all(state.stopped for state in states):
            break
        began = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        losses = _backward(states, backbone, step)
        _check_numbers(states, losses, step)
        optimiser.step()
        for state in states:
            state.seconds += (time.perf_counter() - began) / len(states)
            if step == state.run.config.key_step:
                state.key = state.prompt.detach().clone()
            if step % config.eval_every == 0 or step == config.steps:
                _select(state, backbone, step, folder)
        if step % config.checkpoint_every == 0 and step < config.steps:
            _save(folder, states, optimiser, step)
        if progress is not None:
            progress(step, config.steps)
    return states


def check_gang(runs: Sequence[Run]) -> None:
    """Runs of one gang walk in step.

    Raises:
        ConfigError: they have unlike settings, or settings that a gang cannot keep apart.
    """
    shared = ("backbone", "steps", "length", "batch_size", "batch_tokens", "micro_batch", "optimiser", "eval_every",
              "checkpoint_every", "patience", "method", "dropout")  # fmt: skip
    for name in shared:
        values = {getattr(run.config, name) for run in runs}
        if len(values) > 1:
            found = sorted(values, key=str)
            raise ConfigError(f"runs of one gang have {name} = {found}; expected one value; split the gang")
    config = runs[0].config
    for name, value in (("method", config.method == "model"), ("dropout", config.dropout > 0)):
        if len(runs) > 1 and value:
            raise ConfigError(
                f"{name} = {getattr(config, name)!r} in a gang of {len(runs)} runs: they would share what belongs to "
                "one; expected a single run; tune them one after another"
            )


def evaluate_members(
    backbone: Backbone, prompt: Tensor, members: Sequence[Encoded], role: str = "select",
    progress: Progress | None = None,
) -> list[Evaluation]:  # fmt: skip
    """Score a prompt on one role's rows of every member that has any."""
    found = []
    for part in members:
        examples = getattr(part.member.roles, role)
        if examples:
            rows = part.select if role == "select" else part.collator.encode(examples)
            found.append(evaluate(backbone, prompt, part.member.task, part.collator, examples, rows, progress))
    return found


def named_scores(members: Sequence[Encoded], found: Sequence[Evaluation]) -> dict[str, float]:
    """Scores by metric; of a mixture by task and metric."""
    if len(members) == 1:
        return found[0].scores if found else {}
    pairs = zip(members, found, strict=True)
    return {f"{part.member.task.name} {key}": value for part, one in pairs for key, value in one.scores.items()}


def _begin(run: Run, backbone: Backbone) -> State:
    config = run.config
    members = []
    for member in run.members:
        collator = collator_for(
            backbone, member.task, length=len(run.start), max_input_tokens=config.max_input_tokens,
            truncate=config.truncate,
        )  # fmt: skip
        rows = (collator.encode(member.roles.train), collator.encode(member.roles.select))
        members.append(Encoded(member, collator, *rows))
    if config.method == "model":
        trained = dict(backbone.model.named_parameters())
    else:
        trained = {"prompt": run.start.to(backbone.device).clone().requires_grad_()}
    best = {name: part.detach().clone() for name, part in trained.items()}
    drawn = [[0, 0.0] for _ in members]
    return State(run, tuple(members), _plan(config, members), trained, best, drawn=drawn)


def _plan(config: TuneConfig, members: Sequence[Encoded]) -> list[list[tuple[int, int]]]:
    """Which rows each step takes."""
    lengths = [[len(row.input_ids) for row in part.train] for part in members]
    if len(members) > 1:
        rates = [part.member.rate for part in members]
        counts = [len(rows) for rows in lengths]
        return mixtures.plan(rates, counts, config.batch_size, config.steps, config.seed, lengths=lengths)
    if config.batch_tokens is not None:
        plan = plan_token_batches(lengths[0], config.batch_tokens, config.steps, config.seed)
    else:
        plan = plan_batches(lengths[0], config.batch_size, config.steps, config.seed)
    return [[(0, row) for row in batch] for batch in plan]


def _backward(states: Sequence[State], backbone: Backbone, step: int) -> list[float]:
    """Leave every run's gradient in its tensors; its mean loss a row, in nats.

    Each run's loss is the mean over its rows, and the sum over runs has each run's own gradient. `micro_batch` rows
    stand in memory at a time.
    """
    config = states[0].run.config
    picked = [(number, pair) for number, state in enumerate(states) for pair in state.batches[step - 1]]
    counts = [len(state.batches[step - 1]) for state in states]
    at_once = config.micro_batch or len(picked)
    losses = [0.0] * len(states)
    with dropout(backbone.model, config.dropout, seed=config.seed * 1_000_003 + step):
        for begin in range(0, len(picked), at_once):
            part = picked[begin : begin + at_once]
            rows = [states[number].members[member].train[row] for number, (member, row) in part]
            index = [number for number, _ in part]
            batch = states[0].members[0].collator.batch(rows, index)
            found = backbone.loss(batch, torch.stack([state.prompt for state in states]))
            shares = torch.tensor([1 / counts[number] for number in index], device=found.device)
            (found * shares).sum().backward()
            for (number, (member, _)), row, nats in zip(part, rows, found.tolist(), strict=True):
                losses[number] += nats / counts[number]
                states[number].tokens += len(row.input_ids)
                states[number].drawn[member][0] += 1
                states[number].drawn[member][1] += nats
    return losses


def _check_numbers(states: Sequence[State], losses: Sequence[float], step: int) -> None:
    """Stop at the first loss or gradient that is no number; remember the first gradient's size."""
    for state, loss in zip(states, losses, strict=True):
        gradients = [part.grad.norm() for part in state.trained.values() if part.grad is not None]
        size = float(torch.stack(gradients).norm()) if gradients else 0.0
        if not math.isfinite(loss) or not math.isfinite(size):
            config = state.run.config
            raise RunError(
                f"the loss of {state.run.title} at step {step} is {loss} and its gradient {size}: training "
                f"diverged with {config.optimiser} at learning rate {config.learning_rate}; give a lower "
                "learning_rate; what was saved before this step is kept"
            )
        if step == 1:
            state.first_gradient = size


def _select(state: State, backbone: Backbone, step: int, folder: RunDir) -> None:
    """Score on the selection rows, log it, and keep what trains if it is the best so far; equal scores go by loss."""
    if state.stopped:
        return
    found = _evaluated(state, backbone, step)
    primary = sum(one.primary for one in found) / len(found)
    nats = sum(one.nats for one in found) / len(found)
    rank = (primary, -nats if math.isfinite(nats) else 0.0)
    state.waited += 1
    if rank > state.best_rank:
        state.best_rank, state.best_step, state.waited = rank, step, 0
        state.best_scores = named_scores(state.members, found)
        state.best = {name: part.detach().clone() for name, part in state.trained.items()}
    state.constant = any(one.is_constant for one in found)
    state.curve.append({"step": step, "score": primary, "nats": nats if math.isfinite(nats) else None,
                        "tokens": state.tokens, "seconds": round(state.seconds, 3)})  # fmt: skip
    record: dict[str, Any] = {"task": state.run.title, "seed": state.run.config.seed, **state.curve[-1]}
    if len(state.members) > 1:
        record["members"] = {
            part.member.task.name: {"score": one.primary, "rows": int(rows), "nats": total / rows if rows else None}
            for part, one, (rows, total) in zip(state.members, found, state.drawn, strict=True)
        }
        state.drawn = [[0, 0.0] for _ in state.members]
    folder.log(record)


def _evaluated(state: State, backbone: Backbone, step: int) -> list[Evaluation]:
    """What the selection rows say; a start that seeds of one run share is evaluated once."""
    if step:
        return evaluate_members(backbone, state.prompt.detach(), state.members)
    mark = (id(state.run.start), *(id(member.roles.select) for member in state.run.members))
    if mark not in state.known:
        state.known[mark] = evaluate_members(backbone, state.prompt.detach(), state.members)
    return state.known[mark]


def _save(folder: RunDir, states: Sequence[State], optimiser: torch.optim.Optimizer, step: int) -> None:
    """Write everything that the rest of the runs depends on."""
    tensors: dict[str, Tensor] = {}
    for number, state in enumerate(states):
        held = {f"trained/{name}": part.detach() for name, part in state.trained.items()}
        held |= {f"best/{name}": part for name, part in state.best.items()}
        held |= {"key": state.key} if state.key is not None else {}
        for name, part in state.trained.items():
            held |= {f"state/{name}/{kind}": value for kind, value in optimiser.state[part].items()}
        tensors.update({f"{number}/{name}": part.clone().contiguous() for name, part in held.items()})
    notes = [{name: getattr(state, name) for name in NOTES} for state in states]
    folder.save_checkpoint(save_tensors(tensors, {"step": str(step), "runs": json.dumps(notes)}))


def _restore(folder: RunDir, states: Sequence[State], optimiser: torch.optim.Optimizer) -> int:
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
            optimiser.state[part] = kept
        state.key = tensors.get(f"{number}/key")
        for name, value in notes.items():
            setattr(state, name, tuple(value) if name == "best_rank" else value)
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
    mixture = mixtures.find(config.task)
    if mixture is None:
        tasks: tuple[Task, ...] = (registry.get(config.task, data, config.task_prefix),)
    else:
        tasks = mixtures.tasks_of(mixture, data, config.task_prefix)
    limits = (config.train_rows, config.select_rows, config.report_rows, config.rows_seed)
    rows = [roles(task, *limits) for task in tasks]
    if mixture is None:
        return (Member(tasks[0], rows[0]),), ""
    pairs = list(zip(tasks, rows, strict=True))
    sizes = {task.name: task.size if config.sizes == "official" else len(part.train) for task, part in pairs}
    shares = mixture.rates or mixtures.rates(sizes, config.mixing, config.mixing_cap, config.temperature)
    return tuple(Member(*pair, share) for pair, share in zip(pairs, shares, strict=True)), mixture.title
