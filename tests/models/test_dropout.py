"""Dropout inside a model that stays in evaluation mode: seeded, and gone afterwards."""

import pytest
import torch

from spot.collator import collator_for
from spot.models.backbone import Backbone
from spot.models.dropout import dropout
from tests.support.toy_runs import TASK, example


@pytest.mark.parametrize("family", ["t5", "gpt2", "opt", "llama"])
def test_dropout_is_seeded_and_leaves_the_model_as_it_was(tiny_folder, family):
    backbone = Backbone.load(str(tiny_folder(family)))
    collator = collator_for(backbone, TASK)
    batch = collator.batch(collator.encode([example(0), example(1)]))
    prompts = torch.randn(1, 3, backbone.id.width, generator=torch.Generator().manual_seed(0))
    plain = backbone.loss(batch, prompts)
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    losses = []
    for seed in (1, 1, 2):
        with dropout(backbone.model, 0.3, seed):
            losses.append(backbone.loss(batch, prompts))
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])
    assert not torch.allclose(losses[0], plain, atol=1e-5)
    assert torch.equal(backbone.loss(batch, prompts), plain)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module.training for module in backbone.model.modules())
