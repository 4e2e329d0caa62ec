"""Optimise prompts: by the paper's Adafactor, exactly as T5X computes it, or by torch's AdamW."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor

EPSILON = 1e-30
DECAY_EXPONENT = 0.8
CLIP = 1.0


class Adafactor(torch.optim.Optimizer):
    """T5X Adafactor on prompts: no factored second moment, no parameter scaling, decay not times the learning rate.

    v = b v + (1 - b)(g^2 + 1e-30) with b = 1 - (t + 1)^-0.8; y = g / sqrt(v); y /= max(1, rms(y)) over one prompt;
    p = (1 - weight_decay) p - lr y. Source: t5x/adafactor.py; the paper's values are lr 0.3, weight decay 1e-5.
    """

    def __init__(self, params: Iterable, lr: float = 0.3, weight_decay: float = 0.0, first_step: int = 0):
        """Make the optimiser.

        Args:
            params: prompts [P, D], each clipped by its own rms.
            lr: learning rate, in units of the embedding per coordinate.
            weight_decay: share of the prompt that each step takes away.
            first_step: the t that counting starts from; 1_100_000 is what the released code does.
        """
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "first_step": first_step})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every prompt that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for prompt in group["params"]:
                if prompt.grad is None:
                    continue
                state = self.state[prompt]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["second_moment"] = torch.zeros_like(prompt)
                # float64 because t + 1 is beyond what float32 tells apart once t counts from 1.1 million on
                keep = 1.0 - float(group["first_step"] + int(state["step"]) + 1) ** -DECAY_EXPONENT
                moment = state["second_moment"]
                moment.mul_(keep).add_(prompt.grad.square().add_(EPSILON), alpha=1.0 - keep)
                update = prompt.grad / moment.sqrt()
                update /= max(1.0, float(update.square().mean().sqrt()) / CLIP)
                prompt.mul_(1.0 - group["weight_decay"]).sub_(update, alpha=group["lr"])
                state["step"] += 1
        return loss


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """The tensors of one run, with its own settings.

    Attributes:
        tensors: that train.
        learning_rate: step size at its peak.
        weight_decay: pull towards zero a step.
        first_step: that `Adafactor` counts from.
        share: step -> share of the learning rate that it is taken with.
    """

    tensors: Sequence[Tensor]
    learning_rate: float
    weight_decay: float
    first_step: int = 0
    share: Callable[[int], float] = lambda step: 1.0


def make_optimiser(kind: str, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
    """One optimiser over the tensors of all groups: `adafactor`, or `adamw` (torch's), which counts from 0."""
    parameters = [
        {
            "params": list(group.tensors),
            "lr": group.learning_rate,
            "weight_decay": group.weight_decay,
            "peak": group.learning_rate,
            "share": group.share,
        }
        for group in groups
    ]
    if kind == "adafactor":
        return Adafactor(
            [{**named, "first_step": group.first_step} for named, group in zip(parameters, groups, strict=True)]
        )
    return torch.optim.AdamW(parameters)


def set_rates(optimiser: torch.optim.Optimizer, step: int) -> None:
    """Give every group the learning rate of a step, counted from 1."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * group["share"](step)


def share_at(step: int, *, warmup_steps: int, decay: Literal["none", "linear", "cosine"], decay_steps: int) -> float:
    """The share of its peak that the learning rate has at a step: it rises in a line, then stays or falls.

    Args:
        step: counted from 1; the first one at the peak is `warmup_steps`, or 1.
        warmup_steps: steps of the rise.
        decay: `none`, `linear` or half a `cosine`.
        decay_steps: the last step that is taken with more than nothing of the rate; not below the peak's.
    """
    if step < warmup_steps:
        return step / warmup_steps
    peak = max(1, warmup_steps)
    gone = min(1.0, (step - peak) / (decay_steps + 1 - peak))
    if decay == "linear":
        return 1 - gone
    return (1 + math.cos(math.pi * gone)) / 2 if decay == "cosine" else 1.0
