"""Keep what the layers of a causal model hold of its prompts and rows, hand it to rows, and let rows join and leave.

Letters: B rows, R prompts in one call, L positions that are kept.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionCacheLayerMixin


def empty_states(config: PreTrainedConfig) -> DynamicCache:
    """A cache that keeps all positions of a model's layers, also of those that see a window of them.

    A sliding layer would keep its window alone; where all is kept, the model's own mask does the windowing.
    """
    states = DynamicCache(config=config)
    states.layers = [DynamicLayer() if type(layer) is DynamicSlidingWindowLayer else layer for layer in states.layers]
    return states


@dataclass(frozen=True)
class KeptRows:
    """Rows that go on token by token.

    Attributes:
        states: what the layers keep of them.
        mask: [B, L], 1 at the positions that a row has; None where all rows have all, and the model counts itself.
        position: [B, 1], of each row's last token; None likewise.
    """

    states: Cache
    mask: Tensor | None = None
    position: Tensor | None = None

    @property
    def can_merge(self) -> bool:
        """Whether rows with other states may join these: all layers keep keys and values of each position alone."""
        return self.mask is not None and keeps_positions(self.states)

    @property
    def width(self) -> int:
        """L; of rows that can merge."""
        assert self.mask is not None
        return self.mask.shape[1]

    def merged(self, other: "KeptRows") -> "KeptRows":
        """These rows and those of another, whose missing positions stand in front and are masked."""
        assert self.mask is not None and other.mask is not None
        assert self.position is not None and other.position is not None
        width = max(self.width, other.width)
        masks = [functional.pad(mask, (width - mask.shape[1], 0)) for mask in (self.mask, other.mask)]
        states = joined_states([self.states, other.states])
        return KeptRows(states, torch.cat(masks), torch.cat([self.position, other.position]))

    def only(self, rows: Tensor) -> "KeptRows":
        """Some of the rows, without the positions that none of them has."""
        assert self.mask is not None and self.position is not None
        mask = self.mask[rows]
        columns = mask.any(dim=0).nonzero()[:, 0]
        states = copy(self.states)
        states.layers = [_changed(layer, lambda kept: kept[rows][:, :, columns]) for layer in self.states.layers]
        return KeptRows(states, mask[:, columns], self.position[rows])


def keeps_positions(states: Cache) -> bool:
    """Whether all that is kept are keys and values of each position, which can be put beside those of other rows."""
    return all(type(layer) is DynamicLayer for layer in states.layers)


def joined_states(parts: Sequence[Cache]) -> Cache:
    """States of several rows as those of all, where all `keeps_positions`; shorter ones are padded in front with 0."""
    joined = copy(parts[0])
    joined.layers = []
    for layers in zip(*(part.layers for part in parts), strict=True):
        layer = copy(layers[0])
        if layer.is_initialized:
            layer.keys = _stacked([other.keys for other in layers])
            layer.values = _stacked([other.values for other in layers])
        joined.layers.append(layer)
    return joined


def packed_states(states: Cache) -> Cache:
    """The same keys and values in one block of memory, for states that are kept for long among others.

    Sixty small tensors a prompt, freed and made anew, leave holes in the heap: twice the memory that they need.
    """
    layers: list[Any] = [copy(layer) for layer in states.layers]
    if not keeps_positions(states) or not all(layer.is_initialized for layer in layers):
        return states
    tensors: list[Tensor] = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
    if len({(tensor.shape, tensor.dtype, tensor.device) for tensor in tensors}) > 1:
        return states
    block = torch.stack(tensors)
    for number, layer in enumerate(layers):
        layer.keys, layer.values = block[2 * number], block[2 * number + 1]
    packed = copy(states)
    packed.layers = layers
    return packed


def size_of(states: Cache) -> int:
    """Bytes of all tensors that the layers keep."""
    tensors = [value for layer in states.layers for value in vars(layer).values()]
    nested = [part for value in tensors if isinstance(value, dict) for part in value.values()]
    return sum(value.nbytes for value in [*tensors, *nested] if isinstance(value, Tensor))


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Kept numbers [B, H, L, D] of several calls in one, padded in front along L."""
    longest = max(part.shape[2] for part in parts)
    return torch.cat([functional.pad(part, (0, 0, longest - part.shape[2], 0)) for part in parts])


def _changed(layer: Any, change: Any) -> Any:
    """A layer with other keys and values; one without any stays."""
    copied = copy(layer)
    if copied.is_initialized:
        copied.keys, copied.values = change(copied.keys), change(copied.values)
    return copied


def states_of_rows(states: Cache, prompt_index: Tensor) -> Cache:
    """The states of R prompts for B rows, row b with those of prompt `prompt_index[b]`; the gradient flows back."""
    rows = copy(states)
    rows.layers = [_layer_of_rows(layer, prompt_index) for layer in states.layers]
    return rows


def _layer_of_rows(layer: Any, prompt_index: Tensor) -> Any:
    """One layer's states for the rows; the layer itself stays as it is."""
    copied = copy(layer)
    for name, value in vars(layer).items():
        if isinstance(value, dict):
            setattr(copied, name, dict(value))
    if type(layer) is DynamicLayer and layer.keys is not None and len(layer.keys) == 1:
        rows = (len(prompt_index), -1, -1, -1)  # views, which the first new token copies
        keys, values = cast(tuple[Tensor, Tensor], (layer.keys, layer.values))
        copied.keys, copied.values = keys.expand(rows), values.expand(rows)
        return copied
    copied.reorder_cache(prompt_index)
    if isinstance(copied, LinearAttentionCacheLayerMixin) and torch.is_grad_enabled():
        _assign_states(copied)
    return copied


def _assign_states(layer: Any) -> None:
    """Let a layer take new states in place of the old, which the backward pass still needs, instead of over them."""

    def update_recurrent_state(recurrent_states: Tensor, state_idx: int = 0, **_: object) -> Tensor:
        layer.recurrent_states[state_idx] = recurrent_states
        return recurrent_states

    layer.update_recurrent_state = update_recurrent_state
