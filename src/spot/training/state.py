"""Hold what a run has learned so far, write it to the checkpoint of its folder, and go on from there."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256

import torch
from pydantic import ConfigDict, with_config
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from spot.collator import Collator, Row
from spot.errors import RunError
from spot.models.backbone import Backbone
from spot.storage.run_dir import RunDir
from spot.storage.values import read_value
from spot.training.reparameterisation import PROMPT, folded, parameters
from spot.training.result import CurvePoint, RunResult
from spot.training.run import Member, Run
from spot.training.sampling import Draw, sample_draws

MOST_NOTES_BYTES = 256_000_000  # the curves of a gang's runs, and the header's list of tensors
MOMENTS = {"AdamW": {"step", "exp_avg", "exp_avg_sq"}, "Adafactor": {"step", "second_moment"}}  # of each tensor


@dataclass(frozen=True)
class EncodedMember:
    """One member of a run, with the rows that train and select as token ids."""

    member: Member
    collator: Collator
    train: list[Row]
    selection: list[Row]


@dataclass
class Drawn:
    """What has been drawn of one member since the last evaluation."""

    rows: int = 0
    nats: float = 0.0  # the sum of their losses


@dataclass
class State:
    """One run in the loop.

    Attributes:
        run: that trains.
        members: its rows as token ids.
        batches: the draws of each step.
        trained: `prompt` [P, D] and the network over it, if there is one; or the model's parameters.
        best: the same at the checkpoint that is kept.
        key: [P, D] at the key step; None before.
        best_step: of the checkpoint that is kept.
        best_rank: its selection score, and its nats with the sign turned.
        best_scores: metric -> percent, on selection rows.
        curve: the evaluations.
        constant: whether every selection row got the same answer at the best step.
        first_gradient: size of the first step's gradient.
        tokens: text tokens trained.
        seconds: of training.
        waited: evaluations since the best one.
        last_step: taken; a run may stop before its steps are done.
        diverged: why training had to stop; empty where it did not.
        dropped: whether the rule of its gang stopped it.
        drawn: of each member.
    """

    run: Run
    members: tuple[EncodedMember, ...]
    batches: list[list[Draw]]
    trained: Mapping[str, Tensor]
    best: dict[str, Tensor]
    key: Tensor | None = None
    best_step: int = 0
    best_rank: tuple[float, float] = (-math.inf, -math.inf)
    best_scores: Mapping[str, float] = field(default_factory=dict)
    curve: list[CurvePoint] = field(default_factory=list)
    constant: bool = False
    first_gradient: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    waited: int = 0
    last_step: int = 0
    diverged: str = ""
    dropped: bool = False
    drawn: list[Drawn] = field(default_factory=list)

    @property
    def prompt(self) -> Tensor:
        """[P, D] as it is now, its network folded in; P = 0 where the model trains."""
        return folded(self.trained) if PROMPT in self.trained else self.run.start

    @property
    def best_prompt(self) -> Tensor:
        """[P, D] at the checkpoint that is kept."""
        return folded(self.best)

    @property
    def stopped(self) -> bool:
        """Whether the run stands still: it diverged, was dropped, or its patience is spent after its key step."""
        if self.diverged or self.dropped:
            return True
        config = self.run.config
        waits_for_key = config.key_step is not None and self.key is None
        return config.patience is not None and self.waited >= config.patience and not waits_for_key

    def result(self, diagnosis: Sequence[str] = ()) -> RunResult:
        """What the run has come to so far; its scores are those of the selection rows.

        Args:
            diagnosis: what looks wrong with it, in words.
        """
        return RunResult(
            task=self.run.title,
            digest=self.run.digest,
            scores=self.best_scores,
            selection=self.best_scores,
            step=self.best_step,
            steps=self.last_step,
            tokens=self.tokens,
            seconds=round(self.seconds, 3),
            curve=tuple(self.curve),
            diagnosis=tuple(diagnosis),
            diverged=self.diverged or None,
            dropped=self.dropped,
        )


def first_states(runs: Sequence[Run], backbone: Backbone) -> list[State]:
    """The states of a gang's runs before their first step; rows that several of them share are encoded once.

    Args:
        runs: to train.
        backbone: gives the tokenizer, and the tensors where the model trains.
    """
    encoded: dict[tuple[int, int, str, int], EncodedMember] = {}
    return [_first_state(run, backbone, encoded) for run in runs]


def save_states(folder: RunDir, states: Sequence[State], optimiser: torch.optim.Optimizer, step: int) -> None:
    """Write everything that the rest of the runs depends on, under a checksum."""
    tensors: dict[str, Tensor] = {}
    for number, state in enumerate(states):
        held = {f"trained/{name}": tensor.detach() for name, tensor in state.trained.items()}
        held |= {f"best/{name}": tensor for name, tensor in state.best.items()}
        held |= {"key": state.key} if state.key is not None else {}
        for name, tensor in state.trained.items():
            held |= {f"state/{name}/{kind}": value for kind, value in optimiser.state[tensor].items()}
        tensors.update({f"{number}/{name}": tensor.contiguous() for name, tensor in held.items()})
    metadata = {
        "run": folder.digest() or "",
        "runs": json.dumps([asdict(_notes(state)) for state in states]),
        "step": str(step),
    }
    folder.save_checkpoint(save_tensors(tensors, {**metadata, "checksum": _checksum(tensors, metadata)}))


def restore_states(folder: RunDir, states: Sequence[State], optimiser: torch.optim.Optimizer) -> int:
    """Bring the states back to the last checkpoint; the step to go on from, 0 where there is none.

    Raises:
        RunError: the checkpoint is damaged, of another run, or of a version that wrote no checksum.
    """
    place = str(folder.path / "checkpoint")
    try:
        data = folder.load_checkpoint(_most_bytes(states))
        if data is None:
            folder.truncate_log(-1)
            return 0
        tensors, metadata = _checked(data, place)
        if metadata["run"] != (folder.digest() or ""):
            raise RunError(f"{place} is of the run {metadata['run']!r:.40}; expected one of {folder.digest()}.")
        notes = read_value(
            tuple[_Notes, ...], metadata["runs"], place, RunError, most_bytes=MOST_NOTES_BYTES, may_be_nan=True
        )
        if len(notes) != len(states):
            raise RunError(f"{place} holds {len(notes)} runs; expected {len(states)}.")
        for number, (state, noted) in enumerate(zip(states, notes, strict=True)):
            own = {
                name.removeprefix(f"{number}/"): tensor
                for name, tensor in tensors.items()
                if name.startswith(f"{number}/")
            }
            _take_tensors(state, own, optimiser, f"{place}: run {number}")
            _take_notes(state, noted)
    except RunError as error:
        raise RunError(f"{error} Delete it to let the run begin again.") from error
    step = int(metadata["step"])
    folder.truncate_log(step)
    return step


def _most_bytes(states: Sequence[State]) -> int:
    """No checkpoint of some runs is larger: what trains, the best of it, a key and two moments, and the notes."""
    trained = sum(tensor.nbytes for state in states for tensor in state.trained.values())
    return 5 * trained + MOST_NOTES_BYTES


def _checked(data: bytes, place: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a checkpoint, as they were written.

    Raises:
        RunError: a byte is another, or there is no checksum that would tell.
    """
    try:
        tensors = load_tensors(data)
        size = int.from_bytes(data[:8], "little")
        metadata: dict[str, str] = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    except (SafetensorError, ValueError, RecursionError) as error:
        raise RunError(f"{place} is damaged ({error}).") from error
    checksum = metadata.pop("checksum", None)
    if checksum is None:
        raise RunError(f"{place} has no checksum: an earlier version of spot wrote it, or it is no checkpoint.")
    if checksum != _checksum(tensors, metadata) or metadata.keys() != {"run", "runs", "step"}:
        raise RunError(f"{place} is damaged: its content does not match its checksum.")
    if not metadata["step"].isdecimal():
        raise RunError(f"{place}: the step is {metadata['step']!r:.40}; expected a number.")
    return tensors, metadata


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over the content of a checkpoint; nothing of it is copied."""
    content = sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].cpu()
        content.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        content.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()


def _take_tensors(state: State, tensors: Mapping[str, Tensor], optimiser: torch.optim.Optimizer, place: str) -> None:
    """Bring a state back to the tensors that a checkpoint holds of it, and the optimiser to its moments.

    Raises:
        RunError: one is missing, or of another shape.
    """
    key = tensors.get("key")
    if key is not None and key.shape != state.prompt.shape:
        raise RunError(f"{place} has a key {list(key.shape)}; expected {list(state.prompt.shape)}.")
    state.key = key
    for name, tensor in state.trained.items():
        prefix = f"state/{name}/"
        moments = {kind.removeprefix(prefix): value for kind, value in tensors.items() if kind.startswith(prefix)}
        values = {part: tensors.get(f"{part}/{name}") for part in ("trained", "best")}
        for part, value in (*values.items(), *((kind, value) for kind, value in moments.items() if value.ndim)):
            if value is None or value.shape != tensor.shape:
                shape = "nothing" if value is None else list(value.shape)
                raise RunError(f"{place} has {shape} as {part} of {name}; expected {list(tensor.shape)}.")
        if moments and moments.keys() != MOMENTS[type(optimiser).__name__]:
            raise RunError(f"{place} has the moments {sorted(moments)} of {name}, which are another optimiser's.")
        with torch.no_grad():
            tensor.copy_(tensors[f"trained/{name}"])
        state.best[name] = tensors[f"best/{name}"].to(tensor.device)
        # Step counts are scalars, which stay on the CPU.
        optimiser.state[tensor] = {
            kind: value.to(tensor.device) if value.ndim else value for kind, value in moments.items()
        }


@with_config(ConfigDict(strict=True, extra="forbid"))
@dataclass(frozen=True)
class _Notes:
    """What a checkpoint holds of a run beside its tensors; fields as in `State`."""

    best_step: int
    best_rank: tuple[float, float]
    best_scores: Mapping[str, float]
    curve: tuple[CurvePoint, ...]
    constant: bool
    first_gradient: float
    tokens: int
    seconds: float
    waited: int
    drawn: tuple[tuple[int, float], ...]  # of each member: rows, and their nats
    last_step: int
    diverged: str = ""
    dropped: bool = False


def _notes(state: State) -> _Notes:
    """What a checkpoint holds of a run beside its tensors."""
    return _Notes(
        best_step=state.best_step,
        best_rank=state.best_rank,
        best_scores=state.best_scores,
        curve=tuple(state.curve),
        constant=state.constant,
        first_gradient=state.first_gradient,
        tokens=state.tokens,
        seconds=state.seconds,
        waited=state.waited,
        drawn=tuple((drawn.rows, drawn.nats) for drawn in state.drawn),
        last_step=state.last_step,
        diverged=state.diverged,
        dropped=state.dropped,
    )


def _take_notes(state: State, notes: _Notes) -> None:
    """Bring a state back to what a checkpoint holds of it beside its tensors."""
    state.best_step = notes.best_step
    state.best_rank = notes.best_rank
    state.best_scores = notes.best_scores
    state.curve = list(notes.curve)
    state.constant = notes.constant
    state.first_gradient = notes.first_gradient
    state.tokens = notes.tokens
    state.seconds = notes.seconds
    state.waited = notes.waited
    state.drawn = [Drawn(rows, nats) for rows, nats in notes.drawn]
    state.last_step = notes.last_step
    state.diverged = notes.diverged
    state.dropped = notes.dropped


def _first_state(run: Run, backbone: Backbone, encoded: dict[tuple[int, int, str, int], EncodedMember]) -> State:
    """The state of one run; `encoded` holds the members that other runs of the gang have encoded already."""
    members = []
    for member in run.members:
        collator, splits = run.collator_of(member, backbone), member.splits
        rows = (id(splits.train), id(splits.selection), member.task.name, collator.max_input_tokens)
        if rows not in encoded:
            train, selection = collator.encode(splits.train), collator.encode(splits.selection)
            encoded[rows] = EncodedMember(member, collator, train, selection)
        members.append(encoded[rows])
    lengths = [[len(row.input_ids) for row in member.train] for member in members]
    config = run.config
    if config.method == "model":
        named = backbone.model.named_parameters()  # of an adapted model most are frozen
        trained: Mapping[str, Tensor] = {name: tensor for name, tensor in named if tensor.requires_grad}
    else:
        initial = parameters(config.reparameterise, run.start, bottleneck=config.bottleneck, seed=config.init_seed)
        trained = {name: tensor.to(backbone.device).requires_grad_() for name, tensor in initial.items()}
    return State(
        run=run,
        members=tuple(members),
        batches=sample_draws(run.config, lengths, [member.rate for member in run.members]),
        trained=trained,
        best={name: tensor.detach().clone() for name, tensor in trained.items()},
        drawn=[Drawn() for _ in members],
    )
