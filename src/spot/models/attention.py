"""Compute the attention of a bfloat16 model on a CPU in float32 while gradients are wanted.

The backward pass of torch's fused attention takes there four to five times as long in bfloat16 as in float32
(`bench/attention.py`), and a third of a training step with it. Only the attention's own products change, which become
more exact; rows that are merely read are computed as before.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

FUSED = "sdpa"  # what transformers calls torch's fused attention
WIDENED = "spot_widened_sdpa"


def widen_attention(model: PreTrainedModel) -> None:
    """Let a model compute so, where that is quicker: in bfloat16 on a CPU, with torch's fused attention."""
    config: Any = model.config
    if model.device.type != "cpu" or model.dtype != torch.bfloat16 or config._attn_implementation != FUSED:
        return
    AttentionInterface.register(WIDENED, widened_attention)
    AttentionMaskInterface.register(WIDENED, sdpa_mask)
    model.set_attn_implementation(WIDENED)


def widened_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """As transformers calls attention: query [B, H, S, E], key and value [B, G, T, E] to [B, S, H, E]."""
    if not (torch.is_grad_enabled() and query.dtype == torch.bfloat16):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    settings = {name: _widened(setting) for name, setting in settings.items()}
    wide = (_widened(part) for part in (query, key, value, attention_mask))
    output, _ = sdpa_attention_forward(module, *wide, **settings)
    return output.to(query.dtype), None


def _widened(setting: Any) -> Any:
    """A tensor of bfloat16 numbers, such as a bias of positions, in float32; anything else as it is."""
    return setting.float() if isinstance(setting, Tensor) and setting.dtype == torch.bfloat16 else setting
