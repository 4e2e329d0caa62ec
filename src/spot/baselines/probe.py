"""Classify the frozen model's own states: one pass over the rows without a prompt, and a logistic regression."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spot.baselines.arms import Fitted, Terms, check_labels
from spot.baselines.features import kept_features
from spot.baselines.logistic import fit_head
from spot.collator import by_length, collator_for
from spot.errors import BackboneError
from spot.evaluation.predictions import TOKENS, Prediction, not_finite
from spot.models.backbone import Backbone
from spot.models.batch import Batch
from spot.tasks.task import Example, data_digest


def fit_probe(terms: Terms) -> Fitted:
    """Read the rows once, and let a logistic regression learn from the states of the training rows.

    Raises:
        Unsuitable: the task has no labels, or the training rows are of one class.
        BackboneError: the model's numbers are not finite.
    """
    check_labels("probe", terms)
    backbone, reading = terms.backbone, terms.task.reading.with_limits(terms.config)
    spelled = (backbone.id.fingerprint, str(backbone.model.dtype), repr(reading))

    def read(rows: Sequence[Example]) -> np.ndarray:
        made_by = ("probe", *spelled, data_digest(rows))
        return kept_features(terms.out, made_by, lambda: {"states": _states(terms, rows)})["states"]

    began = time.perf_counter()
    head = fit_head(terms, read(terms.train), read(terms.selection), standardise=True)
    seconds = time.perf_counter() - began

    def answer(rows: Sequence[Example]) -> list[Prediction]:
        return head.answer(read(rows))

    return Fitted(
        name="probe",
        setting={"C": head.strength},
        selection=head.rank[0],
        seconds=seconds,
        parameters=head.parameters,
        shipped=head.shipped,
        beside=f"the frozen model {backbone.id.name}",
        answer=answer,
    )


@torch.no_grad()
def _states(terms: Terms, rows: Sequence[Example]) -> np.ndarray:
    """What the last layer makes of each row, [B, D] float32.

    Of a causal model that is the state of the last token, behind which it would answer; of a seq2seq model the mean
    over the encoder's tokens.

    Raises:
        BackboneError: a number is not finite.
    """
    backbone = terms.backbone
    reading = terms.task.reading.with_limits(terms.config)
    collator = collator_for(backbone, terms.task, length=terms.config.length, reading=reading)
    encoded = collator.encode(rows)
    states = np.zeros((len(rows), backbone.id.width), dtype=np.float32)
    done = 0
    for numbers in by_length(encoded, TOKENS):
        batch = collator.batch([encoded[number] for number in numbers])
        together = backbone.ways_for(batch.input_ids.shape[1]).together
        states[numbers] = batch.in_groups(together, lambda part: _last_states(backbone, part)).cpu().numpy()
        done += len(numbers)
        if terms.progress is not None:
            terms.progress(done, len(rows))
    if not np.isfinite(states).all():
        raise BackboneError(f"probe: {not_finite(backbone)}")
    return states


def _last_states(backbone: Backbone, batch: Batch) -> Tensor:
    """The states [B, D] float32 of rows that stand in one call, read as the model alone reads them."""
    batch = batch.packed()
    if backbone.id.kind == "seq2seq":
        encoder: Any = backbone.model.get_encoder()
        states = encoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state.float()
        shares = batch.attention_mask / batch.attention_mask.sum(dim=1, keepdim=True)
        return (states * shares[:, :, None]).sum(dim=1)
    # Without a mask: no token sees the pads behind it.
    body: Any = backbone.model.base_model
    states = body(input_ids=batch.input_ids, use_cache=False)[0]
    last = batch.attention_mask.sum(dim=1) - 1
    return states[torch.arange(len(last), device=last.device), last].float()
