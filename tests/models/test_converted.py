"""GGUF files as backbones: the model that was written, its words, and files that cannot be one."""

import logging
import shutil
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType

from spot.errors import BackboneError
from spot.models import converted, memory
from spot.models.backbone import Backbone
from spot.models.checkpoints import locate
from tests.support.gguf_files import write_gguf
from tests.support.tiny_models import VOCABULARY

IDS = torch.tensor([[5, 6, 77, 8, 9, 250]])


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_gguf_file_is_the_model_that_was_written(tiny, tmp_path, own_cache, family):
    model, tokenizer = tiny(family)
    path = write_gguf(tmp_path / "my-model.gguf", model, tokenizer)
    backbone = Backbone.load(str(path))
    torch.testing.assert_close(backbone.model(IDS).logits, model(IDS).logits, rtol=0, atol=0)
    assert (backbone.id.name, backbone.id.kind, backbone.id.vocabulary) == ("my-model", "causal", VOCABULARY)
    text = "a film, 10\n é"
    assert backbone.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert backbone.tokenizer.eos_token_id == tokenizer.eos_token_id


def test_it_is_converted_once_and_known_by_its_bytes_wherever_it_stands(tiny, tmp_path, own_cache, monkeypatch):
    path = write_gguf(tmp_path / "a.gguf", *tiny("llama"))
    identity = locate(str(path)).id
    monkeypatch.setattr(converted, "_convert", lambda *_: pytest.fail("it is converted again"))
    (tmp_path / "folder").mkdir()
    shutil.copy(path, tmp_path / "folder" / "b.gguf")
    for name, stem in ((path, "a"), (tmp_path / "folder", "folder"), (tmp_path / "folder" / "b.gguf", "b")):
        again = locate(str(name))
        assert again.id.is_same_model(identity) and again.id.name == stem
    assert [folder.name for folder in (own_cache / "backbones").iterdir() if folder.is_dir()] == [
        f"a-{identity.fingerprint}"
    ]


def test_blocks_are_near_and_another_fingerprint(tiny, tmp_path, own_cache):
    model, tokenizer = tiny("llama")
    whole = Backbone.load(str(write_gguf(tmp_path / "a.gguf", model, tokenizer)))
    packed = Backbone.load(str(write_gguf(tmp_path / "b.gguf", model, tokenizer, blocks=GGMLQuantizationType.Q8_0)))
    assert not whole.id.is_same_model(packed.id)
    difference = (packed.model(IDS).logits - whole.model(IDS).logits).norm() / whole.model(IDS).logits.norm()
    assert 0 < float(difference) < 0.05
    assert packed.shares_prefix


def test_safetensors_are_taken_where_a_folder_has_both(tiny, tmp_path, own_cache):
    model, tokenizer = tiny("llama")
    model.save_pretrained(tmp_path / "both")
    tokenizer.save_pretrained(tmp_path / "both")
    before = locate(str(tmp_path / "both")).id
    write_gguf(tmp_path / "both" / "model.gguf", *tiny("qwen2"))
    assert locate(str(tmp_path / "both")).id == before


def test_a_tokenizer_beside_the_file_is_taken(tiny, tmp_path, own_cache):
    model, tokenizer = tiny("llama")
    path = write_gguf(tmp_path / "a.gguf", model, tokenizer)
    assert Backbone.load(str(path)).tokenizer.unk_token == "<unk>"
    tokenizer.add_special_tokens({"additional_special_tokens": ["!"]})
    tokenizer.save_pretrained(tmp_path)
    assert "!" in Backbone.load(str(path)).tokenizer.all_special_tokens


def test_a_tokenizer_of_an_unknown_kind_asks_for_files_beside_it(tiny, tmp_path, own_cache):
    model, tokenizer = tiny("llama")
    path = write_gguf(tmp_path / "a.gguf", model, tokenizer, words="rwkv")
    with pytest.raises(BackboneError, match=r"of the kind 'rwkv', cannot be read .*Put the tokenizer files"):
        locate(str(path))
    tokenizer.save_pretrained(tmp_path)
    assert Backbone.load(str(path)).tokenizer("a").input_ids == tokenizer("a").input_ids


def test_a_tokenizer_of_another_model_is_refused(tiny, tmp_path, own_cache):
    model, tokenizer = tiny("llama")
    others = [f"word{number}" for number in range(VOCABULARY)]
    path = write_gguf(tmp_path / "a.gguf", model, tokenizer, tokens=others, words="rwkv")
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        BackboneError, match=r"has other words than the GGUF file, such as token 0: '<pad>' and 'word0'"
    ):
        Backbone.load(str(path))


def test_words_that_do_not_give_the_text_back_are_refused(tiny, tmp_path, own_cache):
    model, tokenizer = tiny("llama")
    lacking = [f"<{number}>" if 40 < number < 90 else word for number, word in enumerate(sorted(tokenizer.get_vocab()))]
    path = write_gguf(tmp_path / "a.gguf", model, tokenizer, tokens=lacking)
    with pytest.raises(BackboneError, match=r"tokenizer within the GGUF file .* cannot be read"):
        locate(str(path))


def test_an_unknown_architecture_is_named(tiny, tmp_path, own_cache):
    path = write_gguf(tmp_path / "a.gguf", *tiny("llama"), architecture="rwkv7")
    with pytest.raises(
        BackboneError, match=r"a model of the architecture 'rwkv7', which transformers .* does not read"
    ):
        locate(str(path))
    assert not list((own_cache / "backbones").glob("a-*"))


@pytest.mark.parametrize(("key", "number"), [("llama.block_count", 10**6), ("llama.block_count", 500)])
def test_more_layers_than_it_has_tensors_are_not_built(tiny, tmp_path, own_cache, key, number):
    model, tokenizer = tiny("llama")
    model.config.num_hidden_layers = number
    path = tmp_path / "a.gguf"
    with pytest.MonkeyPatch.context() as patch:  # the name map is of two layers all the same
        from tests.support import gguf_files

        original = gguf_files.get_tensor_name_map
        patch.setattr(gguf_files, "get_tensor_name_map", lambda kind, _: original(kind, 2))
        write_gguf(path, model, tokenizer)
    with pytest.raises(BackboneError, match=r"asks for .* layers"):
        locate(str(path))


def test_a_larger_model_than_it_holds_is_not_built(tiny, tmp_path, own_cache):
    model, tokenizer = tiny("llama")
    model.config.intermediate_size = 10**9
    path = write_gguf(tmp_path / "a.gguf", model, tokenizer)
    with pytest.raises(BackboneError, match=r"asks for .* numbers, and its files hold"):
        locate(str(path))


def test_too_little_memory_or_disk_is_said_before_it_is_read(tiny, tmp_path, own_cache, monkeypatch):
    path = write_gguf(tmp_path / "a.gguf", *tiny("llama"))
    with monkeypatch.context() as patch:
        patch.setattr(memory, "_available", lambda: 1000)
        with pytest.raises(BackboneError, match=r"GiB of memory, and 0.0 GiB are free"):
            locate(str(path))
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
        with pytest.raises(BackboneError, match=r"converted once, to .* of float32 in .*, and 0.0 GiB are free there"):
            locate(str(path))
    assert locate(str(path)).id.kind == "causal"


def test_a_rule_for_words_that_is_unknown_is_said(tiny, tmp_path, own_cache, caplog, monkeypatch):
    path = write_gguf(tmp_path / "a.gguf", *tiny("llama"))
    monkeypatch.setattr(converted, "SPLITS", frozenset())
    with caplog.at_level(logging.WARNING):
        locate(str(path))
    assert "splits words by the rule 'default', which transformers does not know" in caplog.text


@pytest.mark.parametrize("name", ["notes.txt", "folder/model.safetensors"])
def test_a_file_that_is_no_gguf_is_refused(tmp_path, name):
    path = Path(tmp_path / name)
    path.parent.mkdir(exist_ok=True)
    path.write_text("text")
    with pytest.raises(BackboneError, match=r"is a file, and no GGUF file; expected a .gguf file or the folder"):
        locate(str(path))
