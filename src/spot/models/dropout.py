"""Drop activations inside a model that is otherwise in evaluation mode, repeatably from a seed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def dropout(model: nn.Module, rate: float, seed: int) -> Iterator[None]:
    """Drop activations wherever the model has a place for it, while the context lasts.

    The places are torch's dropout modules and the rates that attention layers hold as numbers (T5, Llama and others).
    Llama-like models have one in attention alone. The random state outside is left as it was.

    Args:
        model: is changed inside the context and put back behind it.
        rate: share of activations that become zero; 0 changes nothing.
        seed: of the masks.
    """
    if not rate:
        yield
        return
    before: list[tuple[nn.Module, str, object]] = []
    for module in model.modules():
        rates = (
            ["p"]
            if isinstance(module, nn.Dropout)
            else [
                name
                for name, value in vars(module).items()
                if name.endswith("dropout") and isinstance(value, int | float)
            ]
        )
        before += [(module, name, getattr(module, name)) for name in (*rates, "training") if rates]
    devices = [parameter.device for parameter in model.parameters() if parameter.is_cuda][:1]
    try:
        for module, name, _ in before:
            setattr(module, name, True if name == "training" else rate)
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
