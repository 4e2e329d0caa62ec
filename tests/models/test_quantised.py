"""Models that are quantised while they load: what they take, whom they belong to, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from spot.config import TuneConfig, make_config
from spot.errors import BackboneError, ConfigError, MissingExtra
from spot.evaluation.door import stacked
from spot.models import quantised
from spot.models.backbone import Backbone
from spot.models.quantised import bytes_of_weights, keep_gradients, settings_of
from spot.training.run import as_loaded
from tests.support.prompts import tiny_prompt
from tests.support.tiny_models import VOCABULARY


def test_bytes_are_those_of_the_layers_and_the_rest(tiny):
    model = tiny("llama")[0]  # its head is its embedding
    linear = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear)) - VOCABULARY * 32
    others = sum(parameter.numel() for parameter in model.parameters()) - linear
    assert bytes_of_weights(model, torch.float32).weights == 4 * (linear + others)
    assert bytes_of_weights(model, torch.bfloat16, "8bit").weights == linear + 2 * others
    packed = bytes_of_weights(model, torch.float32, "4bit")
    assert packed.weights == int(linear * 0.5625) + 4 * others and packed.unpacked == 4 * 32 * 48


@pytest.mark.parametrize(("kind", "bits"), [("4bit", 4), ("8bit", 8)])
def test_transformers_is_told_the_bits(monkeypatch, kind, bits):
    monkeypatch.setattr(quantised, "find_spec", lambda _: True)
    settings = settings_of("m", kind, torch.bfloat16, "")
    assert (settings.load_in_4bit, settings.load_in_8bit) == (bits == 4, bits == 8)
    assert bits == 4 or settings.llm_int8_threshold == 0  # else tokens would change those before them


def test_what_cannot_be_quantised_is_refused(monkeypatch, tiny_folder):
    folder = str(tiny_folder("llama"))
    with pytest.raises(BackboneError, match=r"quantise is '3bit': did you mean '"):
        Backbone.load(folder, quantise="3bit")
    monkeypatch.setattr(quantised, "find_spec", lambda _: None)
    with pytest.raises(
        MissingExtra, match=r"needs bitsandbytes, which is not installed; run: pip install 'spot-transfer"
    ):
        Backbone.load(folder, quantise="4bit")
    with pytest.raises(BackboneError, match=r"are quantised already \(gptq\); expected whole numbers"):
        settings_of("m", "4bit", torch.float32, "gptq")


def test_layers_keep_their_gradient():
    layer = nn.Linear(2, 2)
    layer.support_avx512bf16_for_cpu = True
    keep_gradients(nn.Sequential(layer))
    assert layer.support_avx512bf16_for_cpu is False


@pytest.mark.parametrize("family", ["llama", "t5"])
@pytest.mark.parametrize("kind", ["4bit", "8bit"])
def test_a_quantised_model_is_near_passes_gradients_and_is_the_same_model(tiny_folder, tmp_path, family, kind):
    pytest.importorskip("bitsandbytes")
    folder = Path(shutil.copytree(tiny_folder(family), tmp_path / "model"))
    whole, packed = Backbone.load(str(folder)), Backbone.load(str(folder), quantise=kind)
    assert packed.id == whole.id and packed.quantise == kind and not packed.trains
    assert packed.parameters == whole.parameters
    assert packed.ways_for(0).together == "padded"
    config = make_config(TuneConfig, {"task": "t"})
    assert as_loaded(config, packed).quantise == kind and as_loaded(config, whole) == config
    with pytest.raises(ConfigError, match="trains all weights, and those of model are quantised"):
        as_loaded(config.model_copy(update={"method": "model"}), packed)
    with pytest.raises(ConfigError, match=r"quantise is '4bit', and the backbone is loaded with None"):
        as_loaded(config.model_copy(update={"quantise": "4bit"}), whole)


def test_layers_of_bitsandbytes_pass_a_gradient_after_they_answered(tiny_folder):
    """As they come they pass none on a CPU that multiplies bfloat16."""
    pytest.importorskip("bitsandbytes")
    packed = Backbone.load(str(tiny_folder("llama")), quantise="4bit", dtype=torch.bfloat16)
    states = torch.randn(1, 3, 32, dtype=torch.bfloat16, requires_grad=True)
    layer = packed.model.model.layers[0].mlp.gate_proj
    (before,) = torch.autograd.grad(layer(states).sum(), states)
    with torch.no_grad():
        layer(states.detach())
    (after,) = torch.autograd.grad(layer(states).sum(), states)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert before.abs().sum() > 0


def test_a_prompt_of_other_bits_is_read_with_a_warning(tiny_folder, caplog):
    pytest.importorskip("bitsandbytes")
    folder = str(tiny_folder("llama"))
    whole, packed = Backbone.load(folder), Backbone.load(folder, quantise="8bit")
    prompt = tiny_prompt(backbone=whole.id)
    of_8_bits = replace(prompt, config={**prompt.config, "quantise": "8bit"})
    stacked([prompt], whole), stacked([of_8_bits], packed)
    assert not caplog.records
    stacked([prompt], packed), stacked([of_8_bits], whole)
    said = [record.getMessage() for record in caplog.records]
    assert ["trained on whole weights, and" in said[0], "loaded with weights of 8bit" in said[0]] == [True, True]
    assert ["trained on weights of 8bit, and" in said[1], "loaded with whole weights" in said[1]] == [True, True]


def test_a_folder_that_is_quantised_already_is_loaded_as_it_is(tiny_folder, tmp_path):
    pytest.importorskip("bitsandbytes")
    packed = Backbone.load(str(tiny_folder("llama")), quantise="4bit")
    packed.model.save_pretrained(tmp_path / "packed")
    packed.tokenizer.save_pretrained(tmp_path / "packed")
    again = Backbone.load(str(tmp_path / "packed"))
    assert again.quantise is None and not again.trains and again.id.fingerprint != packed.id.fingerprint
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(again.model(ids).logits, packed.model(ids).logits)
    with pytest.raises(BackboneError, match=r"quantised already \(bitsandbytes\)"):
        Backbone.load(str(tmp_path / "packed"), quantise="8bit")
