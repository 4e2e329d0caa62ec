"""The network's calls: logits where they are asked for, embeddings as the model has them, checkpointing."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from spot.errors import BackboneError
from spot.models.network import Network
from tests.support import odd_models

IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
AT = torch.tensor([[0, 2], [3, 1]])


@pytest.mark.parametrize("projected", ["asked", "all"])
def test_logits_stand_at_the_positions_asked_for(tiny, projected, monkeypatch):
    model, _ = tiny("llama")
    expected = model(input_ids=IDS).logits
    network = Network(model)
    if projected == "all":  # as of a model that projects without its module
        monkeypatch.setattr(network, "_pick", lambda *_: None)
        model.get_output_embeddings()._forward_pre_hooks.clear()
    widths = []
    model.get_output_embeddings().register_forward_hook(lambda _, states, __: widths.append(states[0].shape[1]))
    logits, _ = network.logits(AT, input_ids=IDS)
    assert widths == [2 if projected == "asked" else 4]
    for row in range(2):
        assert torch.allclose(logits[row], expected[row, AT[row]], atol=1e-6)
    assert torch.allclose(model(input_ids=IDS).logits, expected, atol=1e-6)  # later calls of others are left alone


def test_a_model_without_gradient_checkpointing_refuses_it_in_words(tiny):
    model, _ = tiny("llama")
    model.supports_gradient_checkpointing = False
    with pytest.raises(BackboneError, match="a 'llama' model has no gradient checkpointing; expected a run without"):
        Network(model, gradient_checkpointing=True)


def test_embedded_ids_are_scaled_as_the_model_scales_them(tiny):
    network = Network(tiny("llama")[0])
    plain = network.embed(IDS)
    network.embed_scale = 2.0
    assert torch.equal(network.embed(IDS), plain * 2)


def test_only_models_with_a_second_embedding_take_it(tiny):
    assert Network(tiny("llama")[0]).beside_vectors(IDS) == {}


def test_arguments_of_the_forward_are_known_by_name(tiny):
    network = Network(tiny("llama")[0])
    assert network.takes("past_key_values")
    assert not network.takes("cache_params")


def test_no_weight_is_trained():
    torch.manual_seed(0)
    network = Network(AutoModelForCausalLM.from_config(odd_models.convolution()).train())
    assert not network.model.training
    assert not any(weight.requires_grad for weight in network.model.parameters())
