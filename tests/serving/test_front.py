"""A model without its layers: the same vectors, ends and limits as the model has."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from spot.collator import collator_of_reading
from spot.errors import BackboneError
from spot.models.backbone import Backbone
from spot.reading import Reading
from spot.serving.front import Front
from spot.tasks.task import Example
from tests.support.families import FAMILIES


@pytest.fixture
def folder_of(tmp_path: Path):
    def make(family: str) -> Path:
        FAMILIES[family].save(tmp_path / "model")
        return tmp_path / "model"

    return make


@pytest.mark.parametrize(
    "family", ["llama", "llama@tied", "gpt2", "gemma", "gemma3_text", "gemma3", "granite@scaled", "phi", "bloom", "opt"]
)
def test_the_table_ends_and_limits_are_those_of_the_model(family: str, folder_of):
    folder = folder_of(family)
    front, backbone = Front.load(str(folder)), Backbone.load(str(folder))
    assert torch.allclose(front.table, backbone.embeddings(), atol=1e-6)
    assert front.id == backbone.id and front.max_positions == backbone.max_positions
    for trained in (None, 7):
        assert set(front.ends(trained)) == set(backbone.ends(trained))
    reading = Reading(labels=(("0", "w20"), ("1", "w21")))
    row = [Example("1", "w30 w31", ())]
    collators = [collator_of_reading(vocabulary, reading, length=4) for vocabulary in (front, backbone)]
    assert collators[0].encode(row) == collators[1].encode(row)


def test_vectors_are_the_prompt_and_the_words(folder_of):
    front = Front.load(str(folder_of("llama")))
    prompt = torch.randn(3, 32)
    vectors = front.vectors(prompt, (5, 9))
    assert torch.equal(vectors[:3], prompt) and torch.equal(vectors[3:], front.table[[5, 9]])


def test_a_table_in_the_precision_of_the_servers(folder_of):
    folder = folder_of("gemma3_text")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    front = Front.load(str(folder), dtype="bfloat16")
    assert torch.equal(front.table, model.get_input_embeddings()(torch.arange(front.id.vocabulary)))
    assert front.vectors(torch.randn(3, 32), (5,)).dtype == torch.bfloat16


def test_only_the_table_is_read_of_the_weights(folder_of, monkeypatch):
    folder = folder_of("llama")
    monkeypatch.setattr("torch.nn.Module.load_state_dict", None)
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", None)
    assert Front.load(str(folder)).table.shape == (200, 32)


def test_files_that_torch_wrote_are_read_too(tiny_folder, tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("llama"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    model = AutoModelForCausalLM.from_pretrained(tiny_folder("llama"))
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert torch.equal(Front.load(str(folder)).table, model.get_input_embeddings().weight)


def test_the_tokenizer_ends_rows_where_nothing_else_says_how(tiny_folder, tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("llama"), folder)
    (folder / "generation_config.json").write_text("{}")
    config = json.loads((folder / "config.json").read_text())
    for ends, expected in (([4, 5], (4, 5)), (None, (1,))):
        (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": ends}))
        assert Front.load(str(folder)).ends() == expected


def test_a_model_that_servers_cannot_take_prompts_of_is_refused(tiny_folder, folder_of):
    with pytest.raises(BackboneError, match="causal models alone"):
        Front.load(str(tiny_folder("t5")))
    with pytest.raises(BackboneError, match="a second time"):
        Front.load(str(folder_of("gemma4_text")))
    with pytest.raises(BackboneError, match="expected that of the servers"):
        Front.load(str(tiny_folder("llama")), dtype="int8")
