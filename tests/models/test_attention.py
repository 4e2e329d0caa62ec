"""Attention of bfloat16 models on CPUs: as near to the truth as torch's own, and untouched where nothing is trained."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from spot.models.attention import FUSED, WIDENED, widen_attention, widened_attention
from spot.models.backbone import Backbone
from tests.support.families import FAMILIES

MODULE: Any = SimpleNamespace(training=False, is_causal=True)


def attended(attention, precision: torch.dtype, *, is_masked: bool) -> list[torch.Tensor]:
    """The output of attention on random heads and its gradients in queries, keys and values, all float64."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4, 9, 8), (3, 4, 14, 8), (3, 4, 14, 8)]
    heads = [torch.randn(shape, generator=generator).bfloat16().to(precision) for shape in shapes]
    mask = torch.randn((3, 1, 9, 14), generator=generator).bfloat16().to(precision) if is_masked else None
    for part in heads:
        part.requires_grad_()
    output, _ = attention(MODULE, *heads, mask, dropout=0.0, scaling=0.3)
    weights = torch.randn(output.shape, generator=generator).to(precision)
    gradients = torch.autograd.grad((output * weights).sum(), heads)
    return [part.detach().double() for part in (output, *gradients)]


@pytest.mark.parametrize("is_masked", [True, False])
def test_output_and_gradients_are_at_least_as_near_to_the_truth_as_torchs(is_masked):
    truth = attended(sdpa_attention_forward, torch.float64, is_masked=is_masked)
    fused = attended(sdpa_attention_forward, torch.bfloat16, is_masked=is_masked)
    ours = attended(widened_attention, torch.bfloat16, is_masked=is_masked)
    for exact, theirs, mine in zip(truth, fused, ours, strict=True):
        assert 0 < (mine - exact).norm() <= (theirs - exact).norm() < 0.02 * exact.norm()


def rows(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    ids = torch.randint(4, 100, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    decoded = {"decoder_input_ids": ids[:, :4]} if model.config.is_encoder_decoder else {}
    return {"input_ids": ids, "attention_mask": mask, **decoded}


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "opt", "gpt_neox", "olmo2", "t5", "bart", "mamba"])
def test_models_take_it_and_what_is_read_stays(name):
    model = FAMILIES[name].build().requires_grad_(False).to(torch.bfloat16)
    attention = model.config._attn_implementation
    inputs = rows(model)
    trained, before = model(**inputs).logits, None
    with torch.no_grad():
        before = model(**inputs).logits
        widen_attention(model)
        assert torch.equal(model(**inputs).logits, before), "rows that are read are computed as before"
    assert model.config._attn_implementation == (WIDENED if attention == FUSED else attention)
    assert torch.allclose(model(**inputs).logits.float(), trained.float(), atol=0.05 * float(trained.abs().max()))


def test_models_in_other_precisions_and_with_other_attention_stay():
    model = FAMILIES["llama"].build()
    widen_attention(model)
    assert model.config._attn_implementation == FUSED
    model = model.to(torch.bfloat16)
    model.set_attn_implementation("eager")
    widen_attention(model)
    assert model.config._attn_implementation == "eager"


def test_a_loaded_backbone_has_it(tiny_folder, tmp_path: Path):
    loaded = Backbone.load(str(tiny_folder("llama")), dtype="bfloat16")
    assert loaded.model.config._attn_implementation == WIDENED
    loaded.model.save_pretrained(tmp_path)
    assert WIDENED not in (tmp_path / "config.json").read_text(), "a copy of the model is everybody's"
