"""Train a run, or a gang of runs that share every batch of the frozen model: the one training loop.

Prompt tuning and full model tuning differ only in which tensors train. A run is decided by its configuration and its
data alone. It saves its state as it goes, so that a run killed at any moment and started again ends with the same
bytes as one left alone.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from spot.config import digest
from spot.errors import ConfigError, RunError
from spot.evaluation.predictions import Progress, not_finite
from spot.evaluation.scoring import Evaluation, NoAnswers, evaluate_rows
from spot.models.backbone import Backbone
from spot.models.dropout import dropout
from spot.storage.run_dir import RunDir
from spot.tasks.task import Task
from spot.training.news import Evaluated
from spot.training.optimisers import ParameterGroup, make_optimiser, set_rates, share_at
from spot.training.reparameterisation import PROMPT
from spot.training.result import CurvePoint, RunResult
from spot.training.run import Run
from spot.training.state import Drawn, State, first_states, restore_states, save_states

log = logging.getLogger(__name__)

WALKED_IN_STEP = (  # settings that runs of one gang share
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


@dataclass(frozen=True)
class Rule:
    """Which runs of a gang stop before their end.

    Attributes:
        digest: of all that the rule depends on beside the runs themselves; the gang's own digest has it too.
        losers: from the results so far, and the step that was just evaluated, the numbers of the runs that stop there.
            A killed gang asks again for the steps after its checkpoint, and must hear the same.
    """

    digest: str
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
    states = first_states(runs, backbone)
    optimiser = _optimiser(states)
    first = restore_states(folder, states, optimiser)
    if first == 0:
        starts: dict[tuple[int, ...], list[Evaluation]] = {}
        for state in states:
            # A start that seeds of one run share is evaluated once.
            start = (id(state.run.start), *(id(member.splits.selection) for member in state.run.members))
            if start not in starts:
                starts[start] = _evaluate_selection(state, backbone)
            _select(state, starts[start], 0, folder)
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
                _select_if_answered(state, backbone, step, folder)
        if rule is not None and is_evaluated:
            for number in rule.losers([state.result() for state in states], step):
                states[number].dropped = True
        if step % config.checkpoint_every == 0 and step < config.steps:
            save_states(folder, states, optimiser, step)
        if progress is not None:
            progress(step, config.steps)
    if all(state.diverged for state in states):
        raise Diverged([state.result() for state in states])
    return states


@dataclass(frozen=True)
class Pace:
    """How fast a gang trains here, in seconds.

    Attributes:
        step: one step of all its runs.
        evaluation: of one run on all of its selection rows.
    """

    step: float
    evaluation: float


def pace_of(runs: Sequence[Run], backbone: Backbone, steps: int = 3) -> Pace:
    """How long a step and an evaluation take, measured on the real rows; nothing is kept of what is learned.

    Args:
        runs: as for `train`.
        backbone: frozen.
        steps: that are timed, after one that is not.
    """
    config = runs[0].config
    states = first_states(runs, backbone)
    optimiser = _optimiser(states)
    _step(states, backbone, optimiser, 1)
    began = time.perf_counter()
    timed = range(2, min(config.steps, 1 + steps) + 1) or range(1, 2)
    for step in timed:
        _step(states, backbone, optimiser, step)
    each = (time.perf_counter() - began) / len(timed)
    began = time.perf_counter()
    _evaluate_selection(states[0], backbone)
    return Pace(each, time.perf_counter() - began)


def seconds_of(runs: Sequence[Run], backbone: Backbone, steps: int = 3) -> float:
    """How long a whole gang will take, from a few of its steps and one evaluation; arguments as of `pace_of`."""
    config = runs[0].config
    pace = pace_of(runs, backbone, steps)
    evaluations = len(runs) * math.ceil(config.steps / config.eval_every) + 1
    return config.steps * pace.step + evaluations * pace.evaluation


def check_gang(runs: Sequence[Run]) -> None:
    """Runs of one gang walk in step.

    Raises:
        ConfigError: they have unlike settings, or settings that a gang cannot keep apart.
    """
    for name in WALKED_IN_STEP:
        values = {getattr(run.config, name) for run in runs}
        if len(values) > 1:
            listed = sorted(values, key=str)
            raise ConfigError(f"runs of one gang have {name} = {listed}; expected one value; split the gang")
    config = runs[0].config
    for name, value in (("method", config.method == "model"), ("dropout", config.dropout > 0)):
        if len(runs) > 1 and value:
            raise ConfigError(
                f"{name} = {getattr(config, name)!r} in a gang of {len(runs)} runs: they would share what belongs to "
                "one; expected a single run; tune them one after another"
            )


def gang_digest(runs: Sequence[Run], rule: Rule | None = None) -> str:
    """What decides the outcome of a gang; of a single run without a rule its own digest."""
    if len(runs) == 1 and rule is None:
        return runs[0].digest
    rules = [] if rule is None else [rule.digest]
    return digest(runs[0].settings, *[run.digest for run in runs], *rules)


def named_scores(tasks: Sequence[Task], evaluations: Sequence[Evaluation], is_mixture: bool) -> dict[str, float]:
    """Scores by metric; of a mixture by task and metric."""
    if not is_mixture:
        return dict(evaluations[0].scores)
    pairs = zip(tasks, evaluations, strict=True)
    return {f"{task.name} {metric}": score for task, scored in pairs for metric, score in scored.scores.items()}


def _optimiser(states: Sequence[State]) -> torch.optim.Optimizer:
    """One optimiser over all runs, each with its own settings."""
    groups = [group for state in states for group in _parameter_groups(state)]
    return make_optimiser(states[0].run.config.optimiser, groups)


def _parameter_groups(state: State) -> Iterator[ParameterGroup]:
    """What a run trains, and what the network over its prompt trains, where there is one."""
    config = state.run.config
    network = [tensor for name, tensor in state.trained.items() if PROMPT in state.trained and name != PROMPT]
    itself = [state.trained[PROMPT]] if PROMPT in state.trained else list(state.trained.values())
    for tensors, rate in ((itself, config.rate), (network, config.network_learning_rate)):
        if tensors:
            yield ParameterGroup(
                tensors=tensors,
                learning_rate=rate,
                weight_decay=config.weight_decay,
                first_step=config.first_step,
                share=partial(
                    share_at,
                    warmup_steps=config.warmup_steps,
                    decay=config.decay,
                    decay_steps=config.decay_steps or config.steps,
                ),
            )


def _step(states: Sequence[State], backbone: Backbone, optimiser: torch.optim.Optimizer, step: int) -> list[State]:
    """One step of every run; those that could take it."""
    optimiser.zero_grad(set_to_none=True)
    losses = _backward(states, backbone, step)
    for state, loss in zip(states, losses, strict=True):
        _check_numbers(state, loss, step, backbone)
    set_rates(optimiser, step)
    optimiser.step()
    return [state for state in states if not state.diverged]


def _backward(states: Sequence[State], backbone: Backbone, step: int) -> list[float]:
    """Leave every run's gradient in its tensors; its mean loss a row, in nats.

    Each run's loss is the mean over its rows, and the sum over runs has each run's own gradient. `micro_batch` rows
    stand in memory at a time, with the prompts that these rows use.
    """
    config = states[0].run.config
    drawn = [(number, draw) for number, state in enumerate(states) for draw in state.batches[step - 1]]
    counts = [len(state.batches[step - 1]) for state in states]
    at_once = config.micro_batch or len(drawn)
    losses = [0.0] * len(states)
    with dropout(backbone.model, config.dropout, seed=config.seed * 1_000_003 + step):
        for begin in range(0, len(drawn), at_once):
            part = drawn[begin : begin + at_once]
            rows = [states[number].members[member].train[row] for number, (member, row) in part]
            used = sorted({number for number, _ in part})
            index = [used.index(number) for number, _ in part]
            batch = states[0].members[0].collator.batch(rows, index)
            nats = backbone.loss(batch, torch.stack([states[number].prompt for number in used]))
            shares = torch.tensor([1 / counts[number] for number, _ in part], device=nats.device)
            (nats * shares).sum().backward()
            for (number, (member, _)), row, loss in zip(part, rows, nats.tolist(), strict=True):
                losses[number] += loss / counts[number]
                states[number].tokens += len(row.input_ids)
                states[number].drawn[member].rows += 1
                states[number].drawn[member].nats += loss
    return losses


def _check_numbers(state: State, loss: float, step: int, backbone: Backbone) -> None:
    """Stop a run whose loss or gradient is no number, before it takes the step; remember the first gradient's size.

    At the first step nothing has been learned yet, so that no learning rate can be at fault.
    """
    gradients = [tensor.grad.norm() for tensor in state.trained.values() if tensor.grad is not None]
    size = float(torch.stack(gradients).norm()) if gradients else 0.0
    if not math.isfinite(loss) or not math.isfinite(size):
        config = state.run.config
        state.diverged = f"the loss of {state.run.title} at step {step} is {loss} and its gradient {size}: " + (
            f"training diverged before anything was learned, so {not_finite(backbone)}"
            if step == 1
            else f"training diverged with {config.optimiser} at learning rate {config.learning_rate}; give a lower "
            "learning_rate; what was saved before this step is kept"
        )
        log.warning("seed %d: %s", config.seed, state.diverged)
        for tensor in state.trained.values():
            tensor.grad = None
    elif step == 1:
        state.first_gradient = size


def _select(state: State, evaluations: Sequence[Evaluation], step: int, folder: RunDir) -> None:
    """Log what the selection rows say, and keep what trains if it is the best so far; equal scores go by loss.

    Args:
        state: of the run.
        evaluations: of each member, at this step.
        step: that has been taken; 0 is the start.
        folder: takes the log.
    """
    score = sum(evaluation.primary for evaluation in evaluations) / len(evaluations)
    nats = sum(evaluation.nats for evaluation in evaluations) / len(evaluations)
    rank = (score, -nats if math.isfinite(nats) else -math.inf)
    state.waited += 1
    if rank > state.best_rank or state.run.keep == "last":
        state.best_rank, state.best_step, state.waited = rank, step, 0
        state.constant = any(evaluation.is_constant for evaluation in evaluations)
        tasks = [member.task for member in state.run.members]
        state.best_scores = named_scores(tasks, evaluations, len(state.members) > 1)
        state.best = {name: tensor.detach().clone() for name, tensor in state.trained.items()}
    point = CurvePoint(
        step=step,
        score=score,
        nats=nats if math.isfinite(nats) else None,
        tokens=state.tokens,
        seconds=round(state.seconds, 3),
    )
    state.curve.append(point)
    record: dict[str, Any] = {"task": state.run.title, "seed": state.run.config.seed, **asdict(point)}
    if len(state.members) > 1:
        record["members"] = {
            member.task.name: {
                "score": evaluation.primary,
                "rows": drawn.rows,
                "nats": drawn.nats / drawn.rows if drawn.rows else None,
            }
            for member, evaluation, drawn in zip(state.run.members, evaluations, state.drawn, strict=True)
        }
    folder.log(record)
    rows, nats_drawn = sum(drawn.rows for drawn in state.drawn), sum(drawn.nats for drawn in state.drawn)
    state.drawn = [Drawn() for _ in state.members]
    log.info(
        Evaluated(
            run=state.run.digest,
            title=state.run.title,
            start=state.run.initialiser,
            parents=tuple(parent.digest for parent in state.run.parents),
            seed=state.run.config.seed,
            steps=state.run.config.steps,
            learning_rate=state.run.config.rate,
            loss=nats_drawn / rows if rows else None,
            point=point,
            config=state.run.config,
        )
    )


def _select_if_answered(state: State, backbone: Backbone, step: int, folder: RunDir) -> None:
    """Evaluate and select; stop a run whose prompt has become so large that no selection row has an answer."""
    try:
        evaluations = _evaluate_selection(state, backbone)
    except NoAnswers as error:
        state.diverged = f"{state.run.title} at step {step}: {error} What was saved before this step is kept."
        log.warning("seed %d: %s", state.run.config.seed, state.diverged)
    else:
        _select(state, evaluations, step, folder)


def _evaluate_selection(state: State, backbone: Backbone) -> list[Evaluation]:
    """How the run does on the selection rows of each member as it is now."""
    prompt = state.prompt.detach()
    return [
        evaluate_rows(
            backbone, prompt, encoded.member.task, encoded.collator, encoded.member.splits.selection, encoded.selection
        )
        for encoded in state.members
    ]
