"""Keep what the layers of a causal model hold of its prompts, and hand it to the rows.

Letters: B rows, R prompts in one call.
"""

from copy import copy
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionCacheLayerMixin


def empty_states(config: PreTrainedConfig) -> DynamicCache:
    """A cache that keeps all positions of a model's layers, also of those that see a window of them.

    A sliding layer would keep its window alone; where all is kept, the model's own mask does the windowing.
    """
    states = DynamicCache(config=config)
    states.layers = [DynamicLayer() if type(layer) is DynamicSlidingWindowLayer else layer for layer in states.layers]
    return states


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
