"""What a server in front of others keeps of a frozen model: tokenizer, table of input vectors, sizes, and no layer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from spot.errors import BackboneError
from spot.exporting.vllm import check_vectors_alone
from spot.models.checkpoints import locate
from spot.models.device import DTYPES
from spot.models.loading import Checkpoint, read_tokenizer
from spot.models.positions import most_positions
from spot.models.weights import StoredTensor, read_json, read_tensor, stored_file, stored_tensors, weight_files
from spot.prompts.prompt import BackboneId


@dataclass(frozen=True, eq=False)
class Front:
    """A frozen causal model without its layers.

    Attributes:
        id: its identity.
        tokenizer: its own.
        table: [V, D], the vectors that the first layer is given, in the precision of the servers.
        own_ends: the token ids at which its own generation ends.
        max_positions: longest sequence in tokens, prompt included; None where there is no end.
        device: where rows are laid out.
    """

    id: BackboneId
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    table: Tensor = field(repr=False)
    own_ends: tuple[int, ...] = ()
    max_positions: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def load(cls, name: str | BackboneId, dtype: str | None = None) -> "Front":
        """Read tokenizer and table of a model; of its weights only the table.

        Args:
            name: as for `Backbone.load`.
            dtype: precision of the servers' weights; left out: float32.

        Raises:
            BackboneError: the model cannot be had, is not causal, is quantised, or vectors alone do not say to it
                what token ids do.
        """
        checkpoint = locate(name)
        identity, architecture = checkpoint.id, checkpoint.architectures[0]
        if identity.kind != "causal":
            raise BackboneError(
                f"the backbone {identity.name!r} is a {identity.kind} model, and vLLM takes prompts of causal models "
                "alone. Serve it with --engine local."
            )
        if dtype is not None and dtype not in DTYPES:
            raise BackboneError(f"dtype is {dtype!r:.40}; expected that of the servers: {', '.join(DTYPES)}.")
        check_vectors_alone(architecture.config, identity.name)
        precision = DTYPES[dtype] if dtype else torch.float32
        tokenizer = read_tokenizer(checkpoint)
        return cls(
            identity,
            tokenizer,
            _table(checkpoint, precision)[: identity.vocabulary],
            _own_ends(checkpoint, tokenizer),
            most_positions(architecture.paper),
        )

    def ends(self, trained: int | None = None) -> tuple[int, ...]:
        """The token ids that end a row: that of training, and those of the model's own generation."""
        return (*(() if trained is None else (trained,)), *self.own_ends)

    def vectors(self, prompt: Tensor, ids: Sequence[int]) -> Tensor:
        """A prompt [P, D] and the vectors of token ids behind it, [P + S, D] in the table's precision."""
        return torch.cat([prompt.to(self.table.dtype), self.table[list(ids)]])


def _table(checkpoint: Checkpoint, precision: torch.dtype) -> Tensor:
    """The vectors that a model's first layer is given for its token ids.

    Raises:
        BackboneError: the files hold no table of them.
    """
    paper: Any = checkpoint.architectures[0].paper
    module = paper.get_input_embeddings()
    path = next(name for name, part in paper.named_modules() if part is module)
    shape = tuple(module.weight.shape)
    tensors = stored_tensors(weight_files(checkpoint.source, cached=checkpoint.cached))
    tables = [tensor for tensor in tensors if tensor.shape == shape and tensor.dtype in DTYPES]
    if not tables:
        raise BackboneError(
            f"the files of the backbone {checkpoint.id.name!r} hold no table of {shape[0]} rows and width {shape[1]} "
            f"in {', '.join(DTYPES)}; expected one, not quantised. Name the model before it was quantised."
        )
    table = read_tensor(max(tables, key=lambda tensor: _likeness(tensor, f"{path}.weight"))).to(precision)
    scale = getattr(module, "scalar_embed_scale", None) or getattr(module, "embed_scale", None)
    # In the precision of the weights, as the model itself multiplies.
    return table if not isinstance(scale, int | float) else table * torch.tensor(scale, dtype=precision)


def _likeness(tensor: StoredTensor, name: str) -> int:
    """How many parts of a stored name, from its end on, are those of a module's."""
    pairs = zip(reversed(tensor.name.split(".")), reversed(name.split(".")), strict=False)
    count = 0
    for stored, wanted in pairs:
        if stored != wanted:
            break
        count += 1
    return count


def _own_ends(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids at which a model's own generation ends: as its settings have it, else the tokenizer's end."""
    for name in ("generation_config.json", "config.json"):
        file = stored_file(checkpoint.source, name, cached=checkpoint.cached)
        named = read_json(file).get("eos_token_id") if file is not None else None
        ends = tuple(token for token in (named if isinstance(named, list) else [named]) if isinstance(token, int))
        if ends:
            return ends
    return (tokenizer.eos_token_id,) if isinstance(tokenizer.eos_token_id, int) else ()
