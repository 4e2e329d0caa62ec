"""The files of a frozen model and the identity that they give it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, CpmAntConfig

from spot.errors import BackboneError
from spot.models import embedded
from spot.models.backbone import Backbone
from spot.models.checkpoints import locate
from spot.models.converted import ensure_embedded
from spot.prompts.prompt import BackboneId
from tests.support.tiny_models import FAMILIES, SEQ2SEQ, VOCABULARY, tiny_config


@pytest.fixture
def folder(tiny_folder, tmp_path: Path) -> Path:
    """A copy of a tiny model's folder, to be changed."""
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "model"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_is_identified_by_its_name_and_files(tiny_folder, family):
    checkpoint = locate(str(tiny_folder(family)))
    assert checkpoint.source == str(tiny_folder(family))
    assert (checkpoint.id.name, checkpoint.id.width, checkpoint.id.vocabulary) == (f"tiny-{family}", 32, VOCABULARY)
    assert checkpoint.id.kind == ("seq2seq" if family in SEQ2SEQ else "causal")


def test_no_two_families_share_a_fingerprint(tiny_folder):
    assert len({locate(str(tiny_folder(family))).id.fingerprint for family in FAMILIES}) == len(FAMILIES)


def test_loading_keeps_the_fingerprint_across_dtypes(tiny_folder):
    folder = str(tiny_folder("t5"))
    assert Backbone.load(folder).id == Backbone.load(folder, dtype=torch.bfloat16).id == locate(folder).id


def test_the_fingerprint_follows_the_first_rows_of_the_embedding(folder):
    before = locate(str(folder)).id
    model = Backbone.load(str(folder)).model
    model.get_input_embeddings().weight.data[3] += 1
    model.save_pretrained(folder)
    assert locate(str(folder)).id.fingerprint != before.fingerprint


def test_shards_and_pickled_weights_have_the_fingerprint_of_the_whole(folder, tiny):
    whole = locate(str(folder)).id
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert locate(str(folder)).id == whole
    tiny("llama")[0].save_pretrained(folder, max_shard_size="20KB")
    assert not (folder / "model.safetensors").exists() and len(list(folder.glob("model-*.safetensors"))) > 1
    assert locate(str(folder)).id == whole


def test_a_missing_shard_is_named(folder, tiny):
    (folder / "model.safetensors").unlink()
    tiny("llama")[0].save_pretrained(folder, max_shard_size="20KB")
    shard = sorted(folder.glob("model-*.safetensors"))[-1]
    shard.unlink()
    with pytest.raises(BackboneError, match=rf"holds no {shard.name}, which .*index.json names; is the download"):
        locate(str(folder))


@pytest.mark.parametrize("name", ["no/such/folder", "a b", "C:\\models"])
def test_a_name_that_is_neither_folder_nor_hub_id_is_refused(name):
    with pytest.raises(BackboneError, match=r"no folder .*, and it is no hub id; expected 'embedded', a folder, a"):
        locate(name)


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(BackboneError, match=r"holds no config.json; expected a model saved with save_pretrained"):
        locate(str(tmp_path))


def test_a_model_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(BackboneError, match="is a 'vit' model; expected a sequence-to-sequence or a causal"):
        locate(str(tmp_path))


def test_weights_that_are_missing_or_cut_off_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BackboneError, match=r"model.safetensors cannot be read .*is the download complete"):
        locate(str(folder))
    weights.unlink()
    with pytest.raises(BackboneError, match=r"neither model.safetensors nor pytorch_model.bin"):
        locate(str(folder))


def test_weights_without_an_embedding_of_the_vocabulary_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 77}))
    with pytest.raises(BackboneError, match="hold no embedding of 77 rows and width 32; is the checkpoint"):
        locate(str(folder))


def test_the_converted_model_is_used_again(monkeypatch, tmp_path, own_cache):
    weights = tmp_path / embedded.GGUF
    weights.write_bytes(b"weights")
    monkeypatch.setattr(embedded, "gguf_file", lambda: weights)
    folder = own_cache / "backbones" / f"smollm2-135m-instruct-{embedded.fingerprint(weights)}"
    folder.mkdir(parents=True)
    (folder / "spot.json").write_text("{}")
    assert ensure_embedded() == folder


def named(name: str) -> BackboneId:
    return BackboneId(name, "causal", 32, VOCABULARY, "0" * 16)


@pytest.mark.parametrize("name", ["model", "./model", "owner/model", "..", "no/such", "a b", "bell\x07"])
def test_a_name_out_of_a_file_is_no_folder_and_is_not_fetched(folder, monkeypatch, name):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "owner").mkdir()
    shutil.copytree(folder, folder.parent / "owner" / "model")
    with pytest.raises(BackboneError, match=r"neither taken for a folder nor fetched. Give the model yourself: --back"):
        locate(named(name))


@pytest.fixture
def hub_cache(folder, tmp_path, monkeypatch) -> Path:
    """A cache of the hub that holds the model `owner/model`."""
    commit = "a" * 40
    repository = tmp_path / "hub" / "models--owner--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(folder, repository / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_name_out_of_a_file_is_taken_from_the_cache_of_the_hub(folder, hub_cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # so that a fetch would meet a closed socket
    checkpoint = locate(named("owner/model"))
    assert checkpoint.cached and checkpoint.id == replace(locate(str(folder)).id, name="owner/model")
    backbone = Backbone.load(named("owner/model"))
    assert backbone.id == checkpoint.id
    assert backbone.tokenizer("a").input_ids


def test_a_name_out_of_a_file_whose_weights_are_not_cached_fetches_none(hub_cache, monkeypatch):
    next(hub_cache.rglob("model.safetensors")).unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(BackboneError, match=r"holds neither model.safetensors nor pytorch_model.bin"):
        locate(named("owner/model"))


def test_a_folder_of_the_name_of_a_cached_model_is_not_taken_for_it(folder, hub_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "owner" / "model")
    with pytest.raises(BackboneError, match=r"Give the model yourself"):
        locate(named("owner/model"))


def test_a_prompt_of_the_former_fingerprint_fits_the_model_that_it_was_made_with(folder):
    identity = locate(str(folder)).id
    old = replace(identity, fingerprint=identity.formerly, formerly="")
    assert old != identity and old.is_same_model(identity) and identity.is_same_model(old)
    assert "formerly" not in identity.to_json()
    model = Backbone.load(str(folder)).model
    model.get_input_embeddings().weight.data[3] += 1
    model.save_pretrained(folder)
    assert not old.is_same_model(locate(str(folder)).id)


def test_a_fine_tune_of_the_same_embedding_is_another_model(folder):
    before = locate(str(folder)).id
    model = Backbone.load(str(folder)).model
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] += 0.1
    model.save_pretrained(folder)
    after = locate(str(folder)).id
    assert after.formerly == before.formerly
    assert not after.is_same_model(before) and not before.is_same_model(after)


def test_ids_without_a_former_fingerprint_are_not_the_same_by_that():
    empty = BackboneId("a", "causal", 32, VOCABULARY, "")
    assert not empty.is_same_model(replace(empty, fingerprint="1" * 16))


def test_the_width_is_that_of_an_input_vector(tmp_path):
    # As OPT-350m has it: the embedding is narrower than the layers.
    config = tiny_config("opt")
    config.word_embed_proj_dim = 16
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert locate(str(tmp_path)).id.width == 16


def test_a_table_of_more_rows_than_the_vocabulary_has_words_is_fine(tmp_path):
    settings = {"num_attention_heads": 4, "dim_head": 8, "dim_ff": 48, "num_hidden_layers": 2}
    config = CpmAntConfig(vocab_size=VOCABULARY, hidden_size=32, **settings)
    model = AutoModelForCausalLM.from_config(config)
    assert model.get_input_embeddings().weight.shape[0] > VOCABULARY
    model.save_pretrained(tmp_path)
    assert locate(str(tmp_path)).id.vocabulary == VOCABULARY
