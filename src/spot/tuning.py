"""Prompt tuning: one loop for one run or for a gang of runs that share every batch of the frozen model.

A run is decided by its configuration and its data alone. It saves its state as it goes, so that a run killed at any
moment and started again ends with the same bytes as one left alone.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from spot import initialisers, optimisers
from spot.backbone import Backbone
from spot.batching import Collator, Row, collator_for, plan_batches
from spot.config import TuneConfig, digest, to_toml
from spot.errors import ConfigError, RunError
from spot.evaluation import Evaluation, evaluate
from spot.prompt import KeyRecipe, Parent, SoftPrompt, check_fits, load, save
from spot.runs import RunDir
from spot.sketch import build
from spot.storage import cache_dir
from spot.tasks.base import Roles, Task, data_digest

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # (steps done, steps in all)


@dataclass(frozen=True)
class Run:
    """One run, ready to train.

    Attributes:
        config: the resolved configuration.
        task: what to learn.
        roles: the rows that train and the rows that select.
        start: [P, D], the initial prompt.
        parents: prompts that `start` was made from.
    """

    config: TuneConfig
    task: Task
    roles: Roles
    start: Tensor
    parents: tuple[Parent, ...] = ()

    @property
    def digest(self) -> str:
        """What decides the outcome: settings, rows and initial value."""
        settings = self.config.model_copy(update={"task": self.task.name, "init": "given"})
        start = digest(settings, str(self.start.numpy().tobytes().hex()))
        return digest(settings, data_digest(self.roles.train), data_digest(self.roles.select), start)


@dataclass
class _Tuned:
    """The state of one run in the loop: what a checkpoint holds."""

    run: Run
    collator: Collator
    train: list[Row]
    select: list[Row]
    batches: list[list[int]]
    prompt: Tensor
    best: Tensor
    key: Tensor | None = None
    best_step: int = 0
    best_rank: tuple[float, float] = (-math.inf, -math.inf)
    best_scores: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    frozen_scores: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float | None]] = field(default_factory=list)
    constant: bool = False
    first_gradient: float = 0.0
    tokens: int = 0
    seconds: float = 0.0


def prepare(
    config: TuneConfig, task: Task, backbone: Backbone, roles: Roles, source: SoftPrompt | None = None
) -> Run:
    """Resolve the initial prompt of a run.

    Args:
        config: its `init` names the kind of start; `source` overrides it.
        task: gives the label words for `classes`.
        backbone: gives the embeddings.
        roles: the task's rows.
        source: start from this prompt's value.

    Raises:
        PromptError: the source belongs to another backbone.
        TaskError: a label has no tokens, or two labels have the same.
    """
    choices = collator_for(backbone, task).choices
    if source is None and ("/" in config.init or config.init.endswith(".safetensors")):
        source = load(config.init)
    if source is not None:
        check_fits(source, backbone.id)
        start = initialisers.resized(torch.from_numpy(source.value.copy()), config.length)
        return Run(config, task, roles, start, (Parent(source.digest, 1.0),))
    embeddings = backbone.embeddings().cpu()
    special = backbone.tokenizer.all_special_ids
    length, seed = config.length, config.init_seed
    if config.init == "uniform":
        start = initialisers.uniform(length, backbone.id.width, seed)
    elif config.init == "classes":
        start = initialisers.classes(embeddings, choices, length, seed, special)
    elif config.init.startswith("text:"):
        ids = backbone.tokenizer(config.init.removeprefix("text:"), add_special_tokens=False)["input_ids"]
        start = initialisers.text(embeddings, ids, length)
    else:
        start = initialisers.vocabulary(embeddings, length, seed, special)
    return Run(config, task, roles, start)


def tune(runs: Sequence[Run], backbone: Backbone, out: Path, progress: Progress | None = None) -> list[SoftPrompt]:
    """Train runs as one gang, or go on where a killed process left them; a finished gang is only read.

    Args:
        runs: of one backbone; steps, length, batch size, optimiser and evaluation steps must be equal.
        backbone: the frozen model.
        out: the run's folder; `prompt.safetensors` (of a gang `prompt-0.safetensors`, ...), `result.json`.
        progress: called after every step.

    Returns:
        One prompt a run: the best checkpoint by selection score, with key, start and sketch, scored on the run's
        report rows where it has any.

    Raises:
        RunError: the folder holds another run, or the loss is no number.
    """
    _check_gang(runs)
    names = ["prompt.safetensors"] if len(runs) == 1 else [f"prompt-{i}.safetensors" for i in range(len(runs))]
    mark = runs[0].digest if len(runs) == 1 else digest(runs[0].config, *[run.digest for run in runs])
    with RunDir(out) as folder:
        folder.create("\n".join(to_toml(run.config) for run in runs), mark)
        if folder.result() is None:
            states = train(runs, backbone, folder, progress)
            for state, name in zip(states, names, strict=True):
                _report(state, backbone)
                save(_prompt(state, backbone), out / name)
            folder.finish({"runs": [_result(state) for state in states]})
    return [load(out / name) for name in names]


def tune_prompt(
    config: TuneConfig, task: Task, backbone: Backbone, roles: Roles, *, source: SoftPrompt | None = None,
    out: Path | None = None, progress: Progress | None = None,
) -> SoftPrompt:  # fmt: skip
    """Train one prompt: `prepare` and `tune` for a single run, by default in the user's cache."""
    run = prepare(config, task, backbone, roles, source)
    return tune([run], backbone, out or cache_dir() / "runs" / run.digest, progress)[0]


def train(
    runs: Sequence[Run], backbone: Backbone, folder: RunDir, progress: Progress | None = None
) -> list[_Tuned]:
    """The loop. All runs stand in every batch; each row uses its own run's prompt, so no gradient crosses over."""
    config = runs[0].config
    states = [_begin(run, backbone) for run in runs]
    groups = [
        {"params": [s.prompt], "lr": s.run.config.learning_rate, "weight_decay": s.run.config.weight_decay,
         "first_step": s.run.config.first_step}
        for s in states
    ]  # fmt: skip
    optimiser = optimisers.make(config.optimiser, groups)
    first = _restore(folder, states, optimiser)
    if first == 0:
        _select_starts(states, backbone, folder)
    for step in range(first + 1, config.steps + 1):
        began = time.perf_counter()
        picked = [[state.train[number] for number in state.batches[step - 1]] for state in states]
        index = [number for number, rows in enumerate(picked) for _ in rows]
        batch = states[0].collator.batch([row for rows in picked for row in rows], index)
        losses = backbone.loss(batch, torch.stack([state.prompt for state in states]))
        loss = losses.sum() / config.batch_size  # each run's mean; their sum has each run's own gradient
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        _check_numbers(states, losses, step)
        optimiser.step()
        for state, rows in zip(states, picked, strict=True):
            state.tokens += sum(len(row.input_ids) for row in rows)
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


def _check_gang(runs: Sequence[Run]) -> None:
    """Runs of one gang walk in step."""
    shared = ("backbone", "steps", "length", "batch_size", "optimiser", "eval_every", "checkpoint_every")
    for name in shared:
        values = {getattr(run.config, name) for run in runs}
        if len(values) > 1:
            raise ConfigError(f"runs of one gang have {name} = {sorted(values)}; expected one value; split the gang")


def _begin(run: Run, backbone: Backbone) -> _Tuned:
    config = run.config
    collator = collator_for(
        backbone, run.task, length=config.length, max_input_tokens=config.max_input_tokens, truncate=config.truncate
    )
    train_rows = collator.encode(run.roles.train)
    batches = plan_batches([len(row.input_ids) for row in train_rows], config.batch_size, config.steps, config.seed)
    prompt = run.start.to(backbone.device).clone().requires_grad_()
    return _Tuned(run, collator, train_rows, collator.encode(run.roles.select), batches, prompt, run.start)


def _select_starts(states: Sequence[_Tuned], backbone: Backbone, folder: RunDir) -> None:
    """Score every start; seeds of one run share theirs, which is evaluated once."""
    known: dict[tuple[int, int], Evaluation] = {}
    for state in states:
        mark = (id(state.run.start), id(state.run.roles.select))
        known[mark] = known.get(mark) or _evaluated(state, backbone)
        _keep(state, known[mark], 0, folder)


def _select(state: _Tuned, backbone: Backbone, step: int, folder: RunDir) -> None:
    """Score the prompt on the selection rows and keep it if it is the best so far."""
    _keep(state, _evaluated(state, backbone), step, folder)


def _evaluated(state: _Tuned, backbone: Backbone) -> Evaluation:
    """The prompt on the selection rows."""
    run = state.run
    return evaluate(backbone, state.prompt.detach(), run.task, state.collator, run.roles.select, state.select)


def _keep(state: _Tuned, found: Evaluation, step: int, folder: RunDir) -> None:
    """Log an evaluation, and keep its prompt if it is the best so far; equal scores go by loss."""
    nats = found.nats if math.isfinite(found.nats) else None
    rank = (found.primary, 0.0 if nats is None else -nats)
    if rank > state.best_rank:
        state.best_rank, state.best_step, state.best_scores = rank, step, found.scores
        state.best = state.prompt.detach().clone()
    state.constant = _is_constant(found)
    state.curve.append({"step": step, "score": found.primary, "nats": nats, "tokens": state.tokens,
                        "seconds": round(state.seconds, 3)})  # fmt: skip
    folder.log({"task": state.run.task.name, "seed": state.run.config.seed, **state.curve[-1]})


def _report(state: _Tuned, backbone: Backbone) -> None:
    """Score the best checkpoint, and the model without a prompt, on the rows that chose nothing."""
    examples = state.run.roles.report
    if examples:
        rows = state.collator.encode(examples)
        none = torch.zeros(0, backbone.id.width)
        state.scores = evaluate(backbone, state.best, state.run.task, state.collator, examples, rows).scores
        state.frozen_scores = evaluate(backbone, none, state.run.task, state.collator, examples, rows).scores


def _is_constant(found: Evaluation) -> bool:
    return len({prediction.text for prediction in found.predictions}) == 1 and len(found.predictions) > 1


def _check_numbers(states: Sequence[_Tuned], losses: Tensor, step: int) -> None:
    """Stop at the first loss or gradient that is no number; remember the first gradient's size."""
    per_run = losses.detach().reshape(len(states), -1).mean(dim=1)
    for state, loss in zip(states, per_run.tolist(), strict=True):
        size = float(state.prompt.grad.norm())
        if not math.isfinite(loss) or not math.isfinite(size):
            config = state.run.config
            raise RunError(
                f"the loss of {state.run.task.name} at step {step} is {loss} and its gradient {size}: training "
                f"diverged with {config.optimiser} at learning rate {config.learning_rate}; give a lower "
                "learning_rate; what was saved before this step is kept"
            )
        if step == 1:
            state.first_gradient = size


def _save(folder: RunDir, states: Sequence[_Tuned], optimiser: torch.optim.Optimizer, step: int) -> None:
    """Write everything that the rest of the runs depends on."""
    tensors: dict[str, Tensor] = {}
    notes = []
    for number, state in enumerate(states):
        held = {"prompt": state.prompt.detach(), "best": state.best, "key": state.key, **optimiser.state[state.prompt]}
        tensors.update({f"{number}.{name}": part.clone() for name, part in held.items() if part is not None})
        names = ("best_step", "best_rank", "best_scores", "curve", "constant", "first_gradient", "tokens", "seconds")
        notes.append({name: getattr(state, name) for name in names})
    folder.save_checkpoint(save_tensors(tensors, {"step": str(step), "runs": json.dumps(notes)}))


def _restore(folder: RunDir, states: Sequence[_Tuned], optimiser: torch.optim.Optimizer) -> int:
    """Bring the states back to the last checkpoint; the step to go on from, 0 where there is none."""
    data = folder.load_checkpoint()
    if data is None:
        folder.truncate_log(-1)
        return 0
    tensors = load_tensors(data)
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    for number, (state, notes) in enumerate(zip(states, json.loads(metadata["runs"]), strict=True)):
        mine = {name.split(".", 1)[1]: part for name, part in tensors.items() if name.startswith(f"{number}.")}
        with torch.no_grad():
            state.prompt.copy_(mine.pop("prompt"))
        state.best, state.key = mine.pop("best"), mine.pop("key", None)
        optimiser.state[state.prompt] = mine
        for name, value in notes.items():
            setattr(state, name, tuple(value) if name == "best_rank" else value)
    step = int(metadata["step"])
    folder.truncate_log(step)
    return step


def _diagnosis(state: _Tuned) -> list[str]:
    """What looks wrong with a finished run, in words; empty where nothing does."""
    found = []
    config = state.run.config
    if state.constant:
        found.append("every selection row gets the same answer: the prompt does not tell the classes apart; try more "
                     "steps, a higher learning_rate, or init = 'classes'")  # fmt: skip
    if config.steps and state.first_gradient < 1e-8:
        found.append(f"the gradient of the first step is {state.first_gradient:.1e}: nothing reaches the prompt")
    moved = float((state.prompt.detach() - state.run.start.to(state.prompt.device)).norm())
    if config.steps and moved < 1e-4 * float(state.run.start.norm()):
        found.append(f"the prompt moved by {moved:.1e} in {config.steps} steps: give a higher learning_rate")
    if config.steps and state.best_step == 0:
        found.append("no step scored better on the selection rows than the start; try another learning_rate")
    return found


def _result(state: _Tuned) -> dict[str, Any]:
    diagnosis = _diagnosis(state)
    for line in diagnosis:
        log.warning("%s: %s", state.run.task.name, line)
    return {
        "task": state.run.task.name, "digest": state.run.digest, "scores": state.scores or state.best_scores,
        "frozen_scores": state.frozen_scores, "selection": state.best_scores, "step": state.best_step,
        "steps": state.run.config.steps, "tokens": state.tokens, "seconds": round(state.seconds, 3),
        "curve": state.curve, "diagnosis": diagnosis,
    }  # fmt: skip


def _prompt(state: _Tuned, backbone: Backbone) -> SoftPrompt:
    """The finished run as a prompt file's content; nothing in it depends on time or place."""
    run, config = state.run, state.run.config
    used = sorted({number for batch in state.batches for number in batch})
    texts = (text for number in used for text in run.roles.train[number].texts)
    kind = "prompt" if run.parents else config.init
    recipe = None
    if state.key is not None:
        names = ("length", "init", "init_seed", "optimiser", "learning_rate", "weight_decay", "batch_size",
                 "max_input_tokens")  # fmt: skip
        recipe = KeyRecipe(step=config.key_step, **{name: getattr(config, name) for name in names})
    return SoftPrompt(
        value=state.best.cpu().numpy(), backbone=backbone.id, task=run.task.name, step=state.best_step,
        key=None if state.key is None else state.key.cpu().numpy(), start=run.start.cpu().numpy(),
        sketch=build(texts), task_revision=run.task.revision, seed=config.seed,
        initialiser=kind, parents=run.parents, key_recipe=recipe,
        config={**config.model_dump(mode="json"), "task": run.task.name, "backbone": backbone.id.name, "init": kind,
                "labels": list(run.task.labels)},
        scores=state.scores or state.best_scores, frozen_scores=state.frozen_scores,
        data_digest=data_digest(run.roles.train), code_version=version("spot-transfer"),
    )  # fmt: skip
