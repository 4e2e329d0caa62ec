"""The files of a frozen model and the identity that they give it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spot.errors import BackboneError
from spot.models import embedded
from spot.models.backbone import Backbone
from spot.models.checkpoints import ensure_embedded, locate
from tests.support.tiny_models import FAMILIES, SEQ2SEQ, VOCABULARY


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
    with pytest.raises(BackboneError, match=r"no folder .*, and it is no hub id; expected 'embedded', a folder or"):
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
    with pytest.raises(BackboneError, match="hold no embedding of 77 rows; is the checkpoint complete"):
        locate(str(folder))


def test_the_converted_model_is_used_again(monkeypatch, tmp_path, own_cache):
    weights = tmp_path / embedded.GGUF
    weights.write_bytes(b"weights")
    monkeypatch.setattr(embedded, "gguf_file", lambda: weights)
    folder = own_cache / "backbones" / f"smollm2-135m-instruct-{embedded.fingerprint(weights)}"
    folder.mkdir(parents=True)
    (folder / "spot.json").write_text("{}")
    assert ensure_embedded() == folder
