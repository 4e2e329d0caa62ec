"""Layers over several places: numbers and gradients are those of one place, and what is not there is said."""

import pytest
import torch

from spot.errors import BackboneError
from spot.models import loading
from spot.models.backbone import Backbone
from spot.models.device import is_spread, placement
from tests.support.batches import ROWS, batch_of, prompts_for

LAYOUT = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu"}


@pytest.mark.parametrize("layout", ["auto", {**LAYOUT, "model.rotary_emb": "cpu", "lm_head": "cpu"}])
def test_layers_over_places_give_the_numbers_and_gradients_of_one(tiny_folder, own_cache, monkeypatch, layout):
    monkeypatch.setattr(loading, "SPREAD", layout)
    whole = Backbone.load(str(tiny_folder("llama")))
    monkeypatch.setenv("SPOT_DEVICE", "auto")
    spread = Backbone.load(str(tiny_folder("llama")))
    assert spread.id == whole.id and spread.device == whole.device
    if layout != "auto":
        assert spread.model.hf_device_map["model.layers.1"] == "disk"
    gradients = []
    for backbone in (whole, spread):
        prompts = prompts_for().requires_grad_()
        losses = backbone.loss(batch_of(ROWS), prompts)
        gradients.append((losses.detach(), *torch.autograd.grad(losses.sum(), prompts)))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_auto_is_the_first_device_and_all_of_them(monkeypatch):
    monkeypatch.setenv("SPOT_DEVICE", "auto")
    assert is_spread() and not is_spread("cpu")
    assert placement()[0].type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["cuda:63", "mps:9", "cpu:a", "nothing"])
def test_a_device_that_is_not_there_is_said_with_those_that_are(device):
    with pytest.raises(
        BackboneError, match=r"expected auto, cpu, mps, cuda or cuda:1, as this machine has it \(a CPU, "
    ):
        placement(device)
