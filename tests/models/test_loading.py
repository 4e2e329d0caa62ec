"""What a model folder may hold, and what is refused with words."""

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from spot.errors import BackboneError
from spot.models.backbone import Backbone

WITNESS = 'import pathlib\npathlib.Path("ran").write_text("code of a model folder ran")\n'


@pytest.fixture
def folder(tiny_folder, tmp_path: Path) -> Path:
    """A copy of a tiny model's folder, to be changed."""
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "model"))


def change(file: Path, **settings: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


@pytest.mark.parametrize("answer", ["y\n", "yes\n", "1\n", "true\n", ""])
def test_code_of_a_model_folder_never_runs_whatever_stdin_says(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own.py").write_text(f"{WITNESS}from transformers import LlamaConfig as OwnConfig\n")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (tmp_path / "own" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=r"the configuration .* of the backbone .* cannot be loaded"):
        Backbone.load("own")
    assert not Path("ran").exists()


def test_weights_that_the_files_lack_are_no_random_numbers(folder):
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if ".layers.1." not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=r"lack 9 tensors .*model.layers.1.input_layernorm.weight, .*every weight"):
        Backbone.load(str(folder))


def test_a_configuration_of_more_layers_than_the_files_hold_is_refused(folder):
    change(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(BackboneError, match=r"lack 9 tensors .*model.layers.2"):
        Backbone.load(str(folder))


def test_a_whole_model_is_loaded_in_the_precision_asked_for(folder):
    model = Backbone.load(str(folder), dtype=torch.bfloat16).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
