"""Say what quantised weights take, and how transformers is told to quantise."""

from dataclasses import dataclass

import torch
from torch import nn

# Bytes a number: bitsandbytes keeps a float32 scale for each 64 numbers of 4 bits, and for each row of 8.
BYTES = {"4bit": 0.5 + 4 / 64, "8bit": 1.0}


@dataclass(frozen=True)
class Sizes:
    """Bytes of the weights of a model, of the largest of them, and of the largest matrix that is unpacked at a time."""

    weights: int
    largest: int
    unpacked: int


def bytes_of_weights(model: nn.Module, precision: torch.dtype, quantise: str | None = None) -> Sizes:
    """What weights take as they are loaded, each counted once.

    Args:
        model: it may be without numbers.
        precision: of what is not quantised.
        quantise: `4bit`, `8bit` or None.
    """
    packed = {id(layer.weight) for layer in linear_layers(model)} if quantise else set()
    sizes, unpacked = [0], [0]
    for parameter in model.parameters():
        if id(parameter) in packed:
            sizes.append(int(parameter.numel() * BYTES[str(quantise)]))
            unpacked.append(parameter.numel() * precision.itemsize)
        else:
            sizes.append(parameter.numel() * precision.itemsize)
    return Sizes(sum(sizes), max(max(sizes), max(unpacked)), max(unpacked))


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """The layers that are quantised: all linear ones but the projection to the vocabulary."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not head]
