"""Estimate what a run of prompt tuning takes before a weight is loaded: memory, operations, and from these its time.

The steps of the engine itself are run on tensors without numbers: the same calls as in training, of which every
operation is counted and every tensor that lives. So an estimate follows the model's code, checkpointing and a shared
prompt included, and is no formula that somebody keeps beside it.

Letters: B rows, S input tokens, T target tokens, P prompt tokens, D width.
"""

import copy
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import PreTrainedModel

from spot.config import TuneConfig
from spot.errors import BackboneError
from spot.models.batch import Batch, Prefix
from spot.models.causal import CausalRows
from spot.models.loading import Architecture
from spot.models.network import Network
from spot.models.quantised import bytes_of_weights
from spot.models.seq2seq import Seq2SeqRows
from spot.models.speed import Speed
from spot.models.ways import Ways

EVALUATED = 2048  # padded input tokens of one call of an evaluation, as `evaluation.predictions` has it
LABELS = 2  # of a task, for an estimate
HELD = 8  # copies of a prompt: value, gradient, two moments, start, key, best and last


@dataclass(frozen=True)
class Work:
    """The rows of a run.

    Attributes:
        length: P, prompt tokens.
        rows: of a step.
        at_once: rows in memory at a time.
        input_tokens: S, of the longest row.
        target_tokens: T.
    """

    length: int
    rows: int
    at_once: int
    input_tokens: int
    target_tokens: int

    @property
    def evaluated(self) -> int:
        """Rows of one call of an evaluation."""
        return max(1, EVALUATED // self.input_tokens)

    @classmethod
    def of(cls, config: TuneConfig, target_tokens: int) -> "Work":
        """The rows of a run as its settings say, all of them as long as they may be."""
        rows = config.batch_size
        if config.batch_tokens is not None:
            rows = max(1, config.batch_tokens // config.max_input_tokens)
        at_once = min(rows, config.micro_batch or rows)
        return cls(config.length, rows, at_once, config.max_input_tokens, target_tokens)


@dataclass(frozen=True)
class Way:
    """A way to run: what is quantised, and whether activations are computed twice."""

    quantise: str | None = None
    checkpoints: bool = False

    def __str__(self) -> str:
        """For people."""
        parts = [*([self.quantise] if self.quantise else []), *(["gradient checkpointing"] if self.checkpoints else [])]
        return ", ".join(parts) or "plain"


WAYS = tuple(Way(quantise, checkpoints) for quantise in (None, "8bit", "4bit") for checkpoints in (False, True))


def evaluations_of(config: TuneConfig, work: Work) -> int:
    """How many calls the evaluations of a run take: at its start and every so many steps, on all its rows."""
    rounds = 1 + -(-config.steps // config.eval_every)
    return rounds * -(-config.select_rows // work.evaluated)


@dataclass(frozen=True)
class Cost:
    """What a call takes beside the weights.

    Attributes:
        peak: most bytes that live at one time.
        products: of numbers: floating-point operations of matrix products, a multiplication and an addition as two.
        moved: bytes that its operations read and write.
        calls: operations that make a tensor.
    """

    peak: int
    products: int
    moved: int
    calls: int

    def seconds(self, speed: Speed) -> float:
        """How long it takes on a device that does one thing at a time."""
        return self.products / speed.products + self.moved / speed.moved + self.calls * speed.call


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Attributes:
        parameters: numbers of the model.
        weights: bytes of them as they are loaded.
        largest: bytes of the largest of them, which stands in memory twice while it is loaded.
        unpacked: bytes of the largest matrix that a quantised layer unpacks at a time; 0 without.
        prompt: bytes of prompt, gradient and optimiser.
        step: one micro-batch, forward and back.
        steps_at_once: micro-batches of one step.
        evaluation: one call of an evaluation.
    """

    parameters: int
    weights: int
    largest: int
    unpacked: int
    prompt: int
    step: Cost
    steps_at_once: int
    evaluation: Cost

    @property
    def memory(self) -> int:
        """Most bytes that are taken at one time, without the program itself."""
        working = max(self.step.peak, self.evaluation.peak) + self.unpacked + self.prompt
        return self.weights + max(self.largest, working)

    def seconds(self, speed: Speed, steps: int, evaluations: int = 0) -> float:
        """How long so many steps and calls of evaluations take."""
        return steps * self.steps_at_once * self.step.seconds(speed) + evaluations * self.evaluation.seconds(speed)


def estimates(
    architecture: Architecture, work: Work, precision: torch.dtype, ways: Sequence[Way] = WAYS
) -> dict[Way, Estimate]:
    """What a run takes in each of several ways, found without its weights.

    Args:
        architecture: of the model.
        work: the rows of a step.
        precision: of the weights that are not quantised.
        ways: to run. One with gradient checkpointing is left out where the model has none.

    Raises:
        BackboneError: nothing says with which token the model's decoder starts.
    """
    by_way: dict[Way, Estimate] = {}
    with FakeTensorMode(allow_non_fake_inputs=True), _made_in(precision):
        for checkpoints in (False, True):
            wanted = [way for way in ways if way.checkpoints == checkpoints]
            with suppress(BackboneError) if checkpoints else nullcontext():
                by_way |= _estimated(architecture, work, precision, wanted, checkpoints)
    return {way: by_way[way] for way in ways if way in by_way}


def _estimated(
    architecture: Architecture, work: Work, precision: torch.dtype, ways: Sequence[Way], checkpoints: bool
) -> dict[Way, Estimate]:
    """The same for ways that differ in what is quantised alone."""
    if not ways:
        return {}
    model = architecture.model(copy.deepcopy(architecture.config))
    give_own_head(model)
    network = Network(model, gradient_checkpointing=checkpoints)
    rows = Seq2SeqRows(network) if architecture.kind == "seq2seq" else CausalRows(network)
    shares = isinstance(rows, CausalRows)
    exact = Ways(shares=shares, together="padded", tree=shares, decoding="padded")
    width = network.embedding.weight.shape[1]
    prompts = torch.zeros(1, work.length, width, dtype=torch.float32, requires_grad=True)
    batch, evaluated = _batch(work.at_once, work), _batch(work.evaluated, work)
    step = _counted(model, lambda: _trained(rows, batch, prompts, exact))
    evaluation = _counted(model, lambda: _scored(rows, evaluated, prompts, work, exact))
    by_way = {}
    for way in ways:
        sizes = bytes_of_weights(model, precision, way.quantise)
        by_way[way] = Estimate(
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            weights=sizes.weights,
            largest=sizes.largest,
            unpacked=sizes.unpacked,
            prompt=HELD * 4 * work.length * width,
            step=step,
            steps_at_once=-(-work.rows // work.at_once),
            evaluation=evaluation,
        )
    return by_way


def give_own_head(model: PreTrainedModel) -> None:
    """Let a T5 1.1 without weights have its own projection to the vocabulary, as its files do; the class ties it."""
    head: Any = model.get_output_embeddings()
    if head is not None and getattr(model.config, "scale_decoder_outputs", True) is False:
        head.weight = torch.nn.Parameter(torch.empty_like(head.weight))


def _batch(rows: int, work: Work) -> Batch:
    """Rows that are all as long as the longest."""
    ids = torch.ones(rows, work.input_tokens, dtype=torch.long)
    labels = torch.ones(rows, work.target_tokens, dtype=torch.long)
    return Batch(ids, ids, labels, torch.zeros(rows, dtype=torch.long))


def _trained(rows: CausalRows | Seq2SeqRows, batch: Batch, prompts: Tensor, ways: Ways) -> None:
    """One micro-batch, forward and back."""
    prefix = rows.prefix(prompts) if ways.shares and not rows.network.recomputes else Prefix(prompts)
    losses = rows.nats(batch, prefix, ways)
    torch.autograd.grad(losses.sum(), prompts)


@torch.no_grad()
def _scored(rows: CausalRows | Seq2SeqRows, batch: Batch, prompts: Tensor, work: Work, ways: Ways) -> None:
    """One call of an evaluation, of which the logits are the largest part."""
    if isinstance(rows, Seq2SeqRows):
        rows.pair_scores(batch, Prefix(prompts), [[[1] * work.target_tokens] * LABELS])
    else:
        rows.nats(batch, rows.prefix(prompts), ways)


@contextmanager
def _made_in(precision: torch.dtype) -> Iterator[None]:
    """Parameters are made in this precision inside."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(precision)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _counted(model: torch.nn.Module, call: Callable[[], None]) -> Cost:
    """What a call takes beside the parameters and buffers of a model."""
    ledger = _Ledger({id_of(tensor) for tensor in (*model.parameters(), *model.buffers())})
    with ledger:
        call()
    return Cost(ledger.peak, ledger.products, ledger.moved, ledger.calls)


def id_of(tensor: Tensor) -> int:
    """Of the memory of a tensor."""
    return tensor.untyped_storage()._cdata


class _Ledger(TorchDispatchMode):
    """Count every operation inside, and the bytes that live at a time."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.peak = self.products = self.moved = self.calls = 0
        self._living = 0
        self._seen = set(known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        outcome = func(*args, **kwargs)
        outputs = [part for part in tree_leaves(outcome) if isinstance(part, Tensor) and id_of(part) not in self._seen]
        for tensor in outputs:
            storage = tensor.untyped_storage()
            self._seen.add(storage._cdata)
            self._living += storage.nbytes()
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self._living)
        if outputs:
            self.calls += 1
            parts = [part for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)]
            self.moved += sum(part.numel() * part.itemsize for part in (*parts, *outputs))
        if func._overloadpacket in flop_registry:
            self.products += int(flop_registry[func._overloadpacket](*args, **kwargs, out_val=outcome))
        return outcome

    def _forget(self, storage: int, size: int) -> None:
        self._living -= size
        self._seen.discard(storage)
