"""Make a prompt by a small network while it trains, and fold both into the prompt [P, D] wherever it is used.

A residual bottleneck stands over the prompt (Residual Prompt Tuning, Razdaibiedina et al. 2023), or an MLP over codes
is added to it (P-tuning, Liu et al. 2021). The last layer begins at zero, so that the first prompt is the start itself.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

PROMPT = "prompt"  # the tensor that every run trains; all others belong to its network

Kind = Literal["none", "residual", "mlp"]


def parameters(kind: Kind, start: Tensor, *, bottleneck: int, seed: int) -> dict[str, Tensor]:
    """The tensors that train, by name, of which `folded` makes a prompt that equals the start.

    Args:
        kind: of network, or none.
        start: [P, D].
        bottleneck: H, the inner width.
        seed: of the network's initial values.

    Returns:
        `prompt` [P, D]; of a residual also `down` [D, H] and `up` [H, D], of an MLP `codes` [P, H], `hidden` [H, H] and
        `up` [H, D].
    """
    generator = torch.Generator().manual_seed(seed)
    length, width = start.shape
    if kind == "residual":
        network = {"down": _weights(width, bottleneck, generator), "up": torch.zeros(bottleneck, width)}
    elif kind == "mlp":
        network = {
            "codes": torch.randn(length, bottleneck, generator=generator),
            "hidden": _weights(bottleneck, bottleneck, generator),
            "up": torch.zeros(bottleneck, width),
        }
    else:
        network = {}
    return {PROMPT: start.clone(), **network}


def folded(trained: Mapping[str, Tensor]) -> Tensor:
    """The prompt [P, D] that the tensors of `parameters` stand for; gradients reach all of them."""
    prompt = trained[PROMPT]
    if "down" in trained:
        inner = layer_norm(prompt, prompt.shape[-1:]) @ trained["down"]
    elif "codes" in trained:
        inner = trained["codes"] @ trained["hidden"]
    else:
        return prompt
    return prompt + inner.relu() @ trained["up"]


def _weights(inputs: int, outputs: int, generator: torch.Generator) -> Tensor:
    """Weights [inputs, outputs] as torch draws those of a linear layer."""
    bound = inputs**-0.5
    return (2 * torch.rand(inputs, outputs, generator=generator) - 1) * bound
