"""The weight files of a model: what is stored, and the fingerprint that no two models share."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from spot.errors import BackboneError
from spot.models import weights
from spot.models.weights import Fingerprints, fingerprints, stored_tensors, weight_files
from tests.support.tiny_models import VOCABULARY


@pytest.fixture
def folder(tiny_folder, tmp_path: Path) -> Path:
    """A copy of a tiny model's folder, to be changed."""
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "model"))


def prints(folder: Path) -> Fingerprints:
    return fingerprints(weight_files(str(folder)), VOCABULARY)


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """The folder with other weights in its file."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, {"format": "pt"})
    return folder


def settle(folder: Path) -> None:
    """Make all files older than the clock's ticks."""
    for file in folder.iterdir():
        os.utime(file, (time.time() - 60, time.time() - 60))


def test_every_tensor_is_listed_with_its_shape_and_place(folder):
    tensors = stored_tensors(weight_files(str(folder)))
    expected = load_file(folder / "model.safetensors")
    assert [tensor.name for tensor in tensors] == sorted(expected)
    for tensor in tensors:
        assert tensor.shape == tuple(expected[tensor.name].shape)
        assert (tensor.dtype, tensor.size) == ("float32", 4 * expected[tensor.name].numel())


def test_one_number_anywhere_changes_the_fingerprint(folder):
    # A merged fine-tune keeps names, shapes and the embedding, which is all that the former fingerprint looked at.
    before = prints(folder)
    for name in sorted(load_file(folder / "model.safetensors")):
        changed = rewritten(folder, lambda tensors, name=name: tensors[name].view(-1)[-1:].add_(0.01))
        after = prints(changed)
        assert after.current != before.current, name
        assert after.former == before.former or "embed" in name
        before = after


def test_two_layers_that_change_places_change_the_fingerprint(folder):
    def swap(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if ".layers.0." in name]:
            other = name.replace(".layers.0.", ".layers.1.")
            tensors[name], tensors[other] = tensors[other], tensors[name]

    before = prints(folder)
    assert prints(rewritten(folder, swap)).current != before.current


def test_the_format_of_the_files_and_a_head_that_is_stored_twice_make_no_difference(folder):
    whole = prints(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]}, folder / "pytorch_model.bin")
    assert prints(folder).current == whole.current


def test_files_of_torch_before_1_6_are_read(folder):
    whole = prints(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert prints(folder) == whole


def test_bfloat16_and_other_types_have_a_fingerprint(folder):
    half = {name: value.bfloat16() for name, value in load_file(folder / "model.safetensors").items()}
    codes = {"codes": torch.arange(8, dtype=torch.uint8), "flag": torch.tensor(True), "none": torch.zeros(0, 4)}
    save_file({**half, **codes}, folder / "model.safetensors", {"format": "pt"})
    saved = prints(folder)
    (folder / "model.safetensors").unlink()
    torch.save({**half, **codes}, folder / "pytorch_model.bin")
    assert prints(folder).current == saved.current


def test_the_fingerprint_is_read_once_and_again_where_a_file_changed(folder, monkeypatch):
    settle(folder)
    monkeypatch.setattr(weights, "SETTLED", -1.0)  # the time of a change of state cannot be set back
    first = prints(folder)
    reads: list[str] = []
    original = weights._current
    monkeypatch.setattr(weights, "_current", lambda *given: reads.append("read") or original(*given))
    assert prints(folder) == first and not reads
    rewritten(folder, lambda tensors: tensors["model.norm.weight"].add_(1))
    settle(folder)  # of the same size and time as before: the clock of its state tells
    assert prints(folder).current != first.current and reads


def test_the_fingerprint_of_a_file_that_was_written_just_now_is_taken_again(folder, monkeypatch):
    prints(folder)
    reads: list[str] = []
    original = weights._current
    monkeypatch.setattr(weights, "_current", lambda *given: reads.append("read") or original(*given))
    prints(folder)
    assert reads


def test_the_folder_of_a_model_is_known_as_long_as_it_is_unchanged(folder, own_cache):
    seen = prints(folder)
    assert weights.folder_of(seen.current) == weights.folder_of(seen.former) == str(folder)
    assert weights.folder_of("0" * 16) is None
    rewritten(folder, lambda tensors: tensors["model.norm.weight"].add_(1))
    assert weights.folder_of(seen.current) is None
    shutil.rmtree(folder)
    assert weights.folder_of(seen.current) is None


def test_a_kept_fingerprint_that_is_damaged_is_taken_anew(folder, own_cache, monkeypatch):
    monkeypatch.setattr(weights, "SETTLED", -1.0)
    first = prints(folder)
    (kept,) = own_cache.rglob("fingerprints/*.json")
    for text in ("", "[]", "{}", '{"files": [], "current": 1, "former": 2}', "[" * 100_000):
        kept.write_text(text)
        assert prints(folder) == first


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", "..", ""])
def test_an_index_that_leads_out_of_the_folder_is_refused(folder, name):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(BackboneError, match=r"index.json names .*; expected files of the same folder"):
        weight_files(str(folder))


@pytest.mark.parametrize("text", ["null", "[]", "{", '{"weight_map": []}', '{"weight_map": {}}', "[" * 100_000])
def test_an_index_that_is_none_is_refused(folder, text):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(BackboneError, match=r"index.json (cannot be read|has no weight_map)"):
        weight_files(str(folder))


class Bait:
    """What a pickle may call."""

    def __reduce__(self):
        return (print, ("code of a weight file ran",))


@pytest.mark.parametrize("content", [Bait(), {"a": Bait()}, [1], {"a": 1}, {1: torch.zeros(2)}, {"a": {"b": Bait()}}])
def test_a_weight_file_with_anything_but_tensors_is_refused_and_nothing_of_it_runs(folder, capsys, content):
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"pytorch_model.bin cannot be read .*is the download complete"):
        stored_tensors(weight_files(str(folder)))
    assert "ran" not in capsys.readouterr().out


def test_a_gigabyte_takes_at_most_two_seconds(tmp_path):
    megabytes = 64
    save_file({f"t{number}": torch.rand(2**18 * 4) for number in range(megabytes // 4)}, tmp_path / "model.safetensors")
    began = time.process_time()
    fingerprints(weight_files(str(tmp_path)), VOCABULARY)
    assert (time.process_time() - began) / megabytes * 1000 < 4  # twice, for a machine that does other things
