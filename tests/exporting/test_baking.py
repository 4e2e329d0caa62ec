"""Rows of vocabulary: what the table gives back, what the head says of them, and whose entry they have elsewhere."""

import pytest
import torch

from spot.errors import BackboneError
from spot.exporting.baking import NEVER, add_rows
from spot.models.backbone import Backbone
from tests.support.families import FAMILIES


@pytest.fixture
def backbone_of(tmp_path):
    def load(family: str) -> Backbone:
        FAMILIES[family].save(tmp_path / family)
        return Backbone.load(str(tmp_path / family))

    return load


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "granite@scaled", "gpt2", "bart@scaled", "opt@350m"])
def test_the_table_gives_the_vectors_back(family: str, backbone_of):
    backbone = backbone_of(family)
    rows = backbone.embeddings().shape[0]
    vectors = torch.randn(7, backbone.id.width)
    before = backbone.embeddings()
    add_rows(backbone, vectors, [0] * 7, rows)
    given = backbone.embed(torch.arange(rows, rows + 7)[None])[0]
    assert torch.allclose(given, vectors, atol=1e-5)
    assert torch.equal(backbone.embeddings(), before)
    assert backbone.model.config.get_text_config().vocab_size == rows + 7


def test_rows_behind_the_words_are_taken_before_the_table_grows(backbone_of):
    backbone = backbone_of("llama")
    rows = backbone.id.vocabulary
    add_rows(backbone, torch.randn(7, backbone.id.width), [0] * 7, rows - 5)
    assert backbone.model.get_input_embeddings().weight.shape[0] == rows + 2


def test_a_tied_head_becomes_one_of_its_own_whose_new_rows_are_the_mean(backbone_of):
    backbone = backbone_of("llama@tied")
    old = backbone.model.get_output_embeddings().weight.detach().clone()
    assert backbone.model.config.tie_word_embeddings
    add_rows(backbone, 50 * torch.randn(4, backbone.id.width), [0] * 4, len(old))
    head = backbone.model.get_output_embeddings().weight
    assert not backbone.model.config.tie_word_embeddings
    assert torch.equal(head[: len(old)], old) and torch.allclose(head[len(old) :], old.mean(0), atol=1e-6)
    assert backbone.model.generation_config.suppress_tokens == list(range(len(old), len(old) + 4))


def test_where_a_head_has_a_bias_it_forbids_the_new_rows(backbone_of):
    for family, bias in (("phi", "lm_head.bias"), ("bart", "final_logits_bias")):
        backbone = backbone_of(family)
        rows = backbone.id.vocabulary
        add_rows(backbone, torch.randn(3, backbone.id.width), [0] * 3, rows)
        values = {**dict(backbone.model.named_parameters()), **dict(backbone.model.named_buffers())}[bias].flatten()
        assert values[rows:].tolist() == [NEVER] * 3 and values[:rows].abs().max() < 100


def test_a_second_table_has_the_entries_of_the_ids_that_rows_stand_for(backbone_of):
    backbone = backbone_of("gemma4_text")
    rows = backbone.id.vocabulary
    add_rows(backbone, torch.randn(3, backbone.id.width), [0, 0, 9], rows)
    table = backbone.model.get_decoder().embed_tokens_per_layer.weight
    assert torch.equal(table[rows:], table[[0, 0, 9]])


def test_a_model_that_is_quantised_is_refused(backbone_of, monkeypatch):
    backbone = backbone_of("llama")
    monkeypatch.setattr(backbone.model, "hf_quantizer", object(), raising=False)
    with pytest.raises(BackboneError, match="is quantised"):
        add_rows(backbone, torch.randn(3, backbone.id.width), [0] * 3, 200)
