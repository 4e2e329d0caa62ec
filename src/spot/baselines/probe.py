"""Classify the frozen model's own states: one pass over the rows, and a logistic regression.

The rows are read without a prompt, or behind one that was learned for another task, which moves the states towards what
its own task asks for (docs/log.md).
"""

import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spot.baselines.arms import Fitted, Learned, Terms, check_labels
from spot.baselines.features import Features, kept_features
from spot.baselines.logistic import Head, fit_head
from spot.collator import by_length, collator_for
from spot.config import PROBE_BEHIND
from spot.errors import BackboneError
from spot.evaluation.predictions import TOKENS, not_finite
from spot.models.backbone import Backbone
from spot.models.batch import Batch
from spot.tasks.task import Example, data_digest

PLACES = ("last layer", "mean at 3/4", "mean at 1/2")  # more are too many for 100 rows to choose from


def fit_probe(terms: Terms) -> Fitted:
    """Read the rows once, and let a logistic regression learn from the states of the training rows.

    The loss on selection rows chooses among three places and five strengths: the score of 100 rows would choose among
    all layers with up to 29 points of self-deception.

    Raises:
        Unsuitable: the task has no labels, or the training rows are of one class.
        BackboneError: the model's numbers are not finite.
    """
    return _fit("probe", terms, {"": torch.zeros(0, terms.backbone.id.width)})


def fit_probe_behind(terms: Terms, prompts: Mapping[str, Tensor]) -> Fitted:
    """The same behind each of some prompts, of which the loss on selection rows chooses one too.

    Args:
        terms: what all arms are given.
        prompts: task -> its prompt [P, D], one or more.

    Raises:
        Unsuitable, BackboneError: as `fit_probe`.
    """
    return _fit(PROBE_BEHIND, terms, prompts)


def vectors_digest(prompt: Tensor) -> str:
    """What tells the numbers of a prompt [P, D] from all others."""
    return sha256(prompt.numpy().tobytes()).hexdigest()


def _fit(name: str, terms: Terms, prompts: Mapping[str, Tensor]) -> Fitted:
    """The arm of a name: the best of the prompts, places and strengths."""
    check_labels(name, terms)
    backbone, reading = terms.backbone, terms.task.reading.with_limits(terms.config)
    spelled = (backbone.id.fingerprint, str(backbone.model.dtype), repr(reading))

    def read(rows: Sequence[Example], prompt: Tensor) -> Features:
        behind = [vectors_digest(prompt)] if len(prompt) else []
        made_by = ("probe", *spelled, data_digest(rows), *behind)
        return kept_features(terms.out, made_by, lambda: _states(terms, rows, prompt))

    began = time.perf_counter()
    heads: dict[tuple[str, str], Head] = {}
    for task, prompt in prompts.items():
        train, selection = read(terms.train, prompt), read(terms.selection, prompt)
        heads |= {(task, place): fit_head(terms, train[place], selection[place], standardise=True) for place in train}
    task, place = max(heads, key=lambda key: heads[key].rank[::-1])
    head, prompt = heads[task, place], prompts[task]
    learned = Learned(
        name=name,
        setting={"states": place, "C": head.strength, **({"prompt": task} if task else {})},
        selection=head.rank[0],
        seconds=time.perf_counter() - began,
        parameters=head.parameters,
        shipped=head.shipped + 4 * prompt.numel(),
        beside=f"the frozen model {backbone.id.name}",
    )
    return Fitted(learned, lambda rows: head.answer(read(rows, prompt)[place]))


@torch.no_grad()
def _states(terms: Terms, rows: Sequence[Example], prompt: Tensor) -> Features:
    """What the model makes of each row behind a prompt [P, D], [B, D] float32 of each of a few places.

    These are the last token of a causal model's last layer, behind which it would answer (of a seq2seq model the mean
    over the last encoder layer), and the means over the tokens three quarters and half way through the layers.

    Raises:
        BackboneError: a number is not finite.
    """
    backbone = terms.backbone
    reading = terms.task.reading.with_limits(terms.config)
    collator = collator_for(backbone, terms.task, length=terms.config.length, reading=reading)
    encoded = collator.encode(rows)
    parts: dict[int, Tensor] = {}
    for numbers in by_length(encoded, TOKENS):
        batch = collator.batch([encoded[number] for number in numbers])
        together = backbone.ways_for(len(prompt) + batch.input_ids.shape[1]).together
        states = batch.in_groups(together, lambda part: _places(backbone, part, prompt)).cpu()
        parts |= dict(zip(numbers, states, strict=True))
        if terms.progress is not None:
            terms.progress(len(parts), len(rows))
    stacked = torch.stack([parts[number] for number in range(len(rows))]).numpy()
    if not np.isfinite(stacked).all():
        raise BackboneError(f"probe: {not_finite(backbone)}")
    return {name: stacked[:, place] for place, name in enumerate(PLACES[: stacked.shape[1]])}


def _places(backbone: Backbone, batch: Batch, prompt: Tensor) -> Tensor:
    """The states [B, places, D] float32 of rows that stand in one call, read as the model alone reads them."""
    batch = batch.packed()
    mask, ahead = batch.attention_mask, len(prompt)
    shares = (mask / mask.sum(dim=1, keepdim=True))[:, :, None]
    is_encoder = backbone.id.kind == "seq2seq"
    body: Any = backbone.model.get_encoder() if is_encoder else backbone.model.base_model
    # A causal model reads without a mask: no token sees the pads behind it.
    whole = functional.pad(mask, (ahead, 0), value=1)
    arguments: dict[str, Any] = {"attention_mask": whole} if is_encoder else {"use_cache": False}
    read = backbone.behind(prompt, batch.input_ids) if ahead else {"input_ids": batch.input_ids}
    output = body(output_hidden_states=True, **read, **arguments)
    layers = getattr(output, "hidden_states", None) or ()
    depth = len(layers) - 1
    means = [layers[round(share * depth)] for share in (0.75, 0.5)] if depth >= 2 else []
    places = [(states[:, ahead:].float() * shares).sum(dim=1) for states in means]
    if is_encoder:
        first = (output[0][:, ahead:].float() * shares).sum(dim=1)
    else:
        rows = torch.arange(len(mask), device=mask.device)
        first = output[0][rows, ahead + mask.sum(dim=1) - 1].float()
    return torch.stack([first, *places], dim=1)
