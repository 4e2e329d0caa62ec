"""The one training loop: a run, or a gang of runs that share every batch of the frozen model.

Prompt tuning and full model tuning differ only in which tensors train. A run is decided by its configuration and its
data alone. It saves its state as it goes, so that a run killed at any moment and started again ends with the same
bytes as one left alone.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from spot.errors import ConfigError, RunError
from spot.evaluation.evaluation import Evaluation, Progress, evaluate
from spot.models.backbone import Backbone
from spot.models.dropout import dropout
from spot.storage.run_dir import RunDir
from spot.training import optimisers
from spot.training.result import CurvePoint, RunResult
from spot.training.state import Run, State, begin, restore_states, result_of, save_states

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rule:
    """Which runs of a gang stop before their end.

    Attributes:
        mark: names all that the rule depends on beside the runs themselves; the gang's identity has it too.
        losers: from the results so far, and the step that was just evaluated, the numbers of the runs that stop there.
            A killed gang asks again for the steps after its checkpoint, and must hear the same.
    """

    mark: str
    losers: Callable[[Sequence[RunResult], int], Collection[int]]


class Diverged(RunError):
    """Every run of a gang diverged; `results` say how far each had come."""

    def __init__(self, results: Sequence[RunResult]):
        """The first run's reason is the message."""
        super().__init__(results[0].diverged)
        self.results = tuple(results)


def train(
    runs: Sequence[Run], backbone: Backbone, folder: RunDir, progress: Progress | None = None, rule: Rule | None = None
) -> list[State]:
    """The loop. All runs stand in every batch; each row uses its own run's prompt, so no gradient crosses over.

    A run whose loss or gradient is no number stops where it is, and the others go on.

    Args:
        runs: of one backbone; see `check_gang`.
        backbone: frozen; a copy that may change where the model trains.
        folder: takes the log and the checkpoints.
        progress: called after every step.
        rule: which runs stop early; none does where it is left out.

    Raises:
        ConfigError: the runs cannot walk in step.
        Diverged: the losses of all runs are no number.
    """
    check_gang(runs)
    config = runs[0].config
    encoded: dict = {}
    states = [begin(run, backbone, encoded) for run in runs]
    optimiser = _optimiser(states)
    first = restore_states(folder, states, optimiser)
    if first == 0:
        known: dict[tuple, list[Evaluation]] = {}
        for state in states:
            state.known = known
            _select(state, backbone, 0, folder)
    for step in range(first + 1, config.steps + 1):
        if all(state.stopped for state in states):
            break
        began = time.perf_counter()
        walking = _step([state for state in states if not state.stopped], backbone, optimiser, step)
        spent = (time.perf_counter() - began) / max(1, len(walking))
        is_evaluated = step % config.eval_every == 0 or step == config.steps
        for state in walking:
            state.last_step = step
            state.seconds += spent
            if step == state.run.config.key_step:
                state.key = state.prompt.detach().clone()
            if is_evaluated:
                _select(state, backbone, step, folder)
        if rule is not None and is_evaluated:
            for number in rule.losers([result_of(state) for state in states], step):
                states[number].dropped = True
        if step % config.checkpoint_every == 0 and step < config.steps:
            save_states(folder, states, optimiser, step)
        if progress is not None:
            progress(step, config.steps)
    if all(state.diverged for state in states):
        raise Diverged([result_of(state) for state in states])
    return states


def seconds_of(runs: Sequence[Run], backbone: Backbone, steps: int = 3) -> float:
    """How long a whole gang will take, from a few of its steps and one evaluation; nothing is kept of them.

    Args:
        runs: as for `train`.
        backbone: frozen.
        steps: that are timed, after one that is not.
    """
    config = runs[0].config
    encoded: dict = {}
    states = [begin(run, backbone, encoded) for run in runs]
    optimiser = _optimiser(states)
    _step(states, backbone, optimiser, 1)
    began = time.perf_counter()
    timed = range(2, min(config.steps, 1 + steps) + 1) or range(1, 2)
    for step in timed:
        _step(states, backbone, optimiser, step)
    each = (time.perf_counter() - began) / len(timed)
    began = time.perf_counter()
    _evaluated(states[0], backbone, 1)
    evaluations = len(states) * math.ceil(config.steps / config.eval_every) + 1
    return config.steps * each + evaluations * (time.perf_counter() - began)


def check_gang(runs: Sequence[Run]) -> None:
    """Runs of one gang walk in step.

    Raises:
        ConfigError: they have unlike settings, or settings that a gang cannot keep apart.
    """
    shared = (
        "backbone",
        "steps",
        "length",
        "batch_size",
        "batch_tokens",
        "micro_batch",
        "optimiser",
        "eval_every",
        "checkpoint_every",
        "patience",
        "method",
        "dropout",
    )
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


def named_scores(run: Run, tasks: Sequence[str], found: Sequence[Evaluation]) -> dict[str, float]:
    """Scores by metric; of a mixture by task and metric."""
    if len(run.members) == 1:
        return dict(found[0].scores)
    return {f"{task} {key}": value for task, one in zip(tasks, found, strict=True) for key, value in one.scores.items()}


def _optimiser(states: Sequence[State]) -> torch.optim.Optimizer:
    """One optimiser over all runs, each with its own settings."""
    groups = [
        {
            "params": list(s.trained.values()),
            "lr": s.run.config.learning_rate,
            "weight_decay": s.run.config.weight_decay,
            "first_step": s.run.config.first_step,
        }
        for s in states
    ]
    return optimisers.make(states[0].run.config.optimiser, groups)


def _step(states: Sequence[State], backbone: Backbone, optimiser: torch.optim.Optimizer, step: int) -> list[State]:
    """One step of every run; those that could take it."""
    optimiser.zero_grad(set_to_none=True)
    losses = _backward(states, backbone, step)
    for state, loss in zip(states, losses, strict=True):
        _check_numbers(state, loss, step)
    optimiser.step()
    return [state for state in states if not state.diverged]


def _backward(states: Sequence[State], backbone: Backbone, step: int) -> list[float]:
    """Leave every run's gradient in its tensors; its mean loss a row, in nats.

    Each run's loss is the mean over its rows, and the sum over runs has each run's own gradient. `micro_batch` rows
    stand in memory at a time, with the prompts that these rows use.
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
            used = sorted({number for number, _ in part})
            index = [used.index(number) for number, _ in part]
            batch = states[0].members[0].collator.batch(rows, index)
            found = backbone.loss(batch, torch.stack([states[number].prompt for number in used]))
            shares = torch.tensor([1 / counts[number] for number, _ in part], device=found.device)
            (found * shares).sum().backward()
            for (number, (member, _)), row, nats in zip(part, rows, found.tolist(), strict=True):
                losses[number] += nats / counts[number]
                states[number].tokens += len(row.input_ids)
                states[number].drawn[member][0] += 1
                states[number].drawn[member][1] += nats
    return losses


def _check_numbers(state: State, loss: float, step: int) -> None:
    """Stop a run whose loss or gradient is no number, before it takes the step; remember the first gradient's size."""
    gradients = [part.grad.norm() for part in state.trained.values() if part.grad is not None]
    size = float(torch.stack(gradients).norm()) if gradients else 0.0
    if not math.isfinite(loss) or not math.isfinite(size):
        config = state.run.config
        state.diverged = (
            f"the loss of {state.run.title} at step {step} is {loss} and its gradient {size}: training "
            f"diverged with {config.optimiser} at learning rate {config.learning_rate}; give a lower "
            "learning_rate; what was saved before this step is kept"
        )
        log.warning("seed %d: %s", config.seed, state.diverged)
        for part in state.trained.values():
            part.grad = None
    elif step == 1:
        state.first_gradient = size


def _select(state: State, backbone: Backbone, step: int, folder: RunDir) -> None:
    """Score on the selection rows, log it, and keep what trains if it is the best so far; equal scores go by loss."""
    found = _evaluated(state, backbone, step)
    primary = sum(one.primary for one in found) / len(found)
    nats = sum(one.nats for one in found) / len(found)
    rank = (primary, -nats if math.isfinite(nats) else -math.inf)
    state.waited += 1
    if rank > state.best_rank or state.run.keep == "last":
        state.best_rank, state.best_step, state.waited = rank, step, 0
        state.constant = any(one.is_constant for one in found)
        state.best_scores = named_scores(state.run, [part.member.task.name for part in state.members], found)
        state.best = {name: part.detach().clone() for name, part in state.trained.items()}
    point = CurvePoint(
        step=step,
        score=primary,
        nats=nats if math.isfinite(nats) else None,
        tokens=state.tokens,
        seconds=round(state.seconds, 3),
    )
    state.curve.append(point)
    record: dict[str, Any] = {"task": state.run.title, "seed": state.run.config.seed, **asdict(point)}
    if len(state.members) > 1:
        record["members"] = {
            part.member.task.name: {"score": one.primary, "rows": int(rows), "nats": total / rows if rows else None}
            for part, one, (rows, total) in zip(state.members, found, state.drawn, strict=True)
        }
        state.drawn = [[0, 0.0] for _ in state.members]
    folder.log(record)


def _evaluated(state: State, backbone: Backbone, step: int) -> list[Evaluation]:
    """What the selection rows say; a start that seeds of one run share is evaluated once."""
    mark = (id(state.run.start), *(id(member.splits.selection) for member in state.run.members))
    if step or mark not in state.known:
        prompt = state.prompt.detach()
        found = [
            evaluate(backbone, prompt, part.member.task, part.collator, part.member.splits.selection, part.select)
            for part in state.members
        ]
        if step:
            return found
        state.known[mark] = found
    return state.known[mark]
