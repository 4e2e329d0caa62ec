"""`spot library`: listed, shown, changed, and found damaged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from spot.errors import LibraryError
from spot.library.history import TransferRecord
from spot.library.library import Library
from spot.models.checkpoints import locate
from spot.prompts.prompt import load
from tests.support.commands import Spot
from tests.support.tuned_tasks import TunedTasks


def test_library_list_and_show(spot: Spot, tuned_tasks: TunedTasks):
    found = spot("library", "list", "--library", tuned_tasks.library, "--json").json
    assert [entry["task"] for entry in found] == ["animal", "answer"]
    for entry in found:
        prompt = load(entry["path"])
        assert (prompt.digest, dict(prompt.scores)) == (entry["prompt"], entry["scores"])
    shown = spot("library", "show", "animal", "--library", tuned_tasks.library, "--json").json
    assert (shown["digest"], shown["path"], shown["length"]) == (found[0]["prompt"], found[0]["path"], 3)
    assert found[0]["prompt"] in spot("library", "list", "--library", tuned_tasks.library).out
    assert '"animal"' in spot("library", "show", found[0]["prompt"][:6], "--library", tuned_tasks.library).out


def test_library_create_add_remove_reindex_verify(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    folder = tmp_path / "mine"
    assert spot("library", "create", "--library", folder, "--json").json == {"library": str(folder), "prompts": 0}
    added = spot("library", "add", tuned_tasks.run(), "--library", folder, "--json").json
    assert added == {
        "prompt": load(tuned_tasks.run() / "prompt.safetensors").digest,
        "task": "mood",
        "scores": added["scores"],
        "path": str(folder / "prompts" / f"{added['prompt']}.safetensors"),
    }
    assert spot("library", "reindex", "--library", folder, "--json").json == {"prompts": 1}
    assert spot("library", "verify", "--library", folder, "--json").json == {"prompts": 1, "problems": []}
    assert spot("library", "remove", "mood", "--library", folder, "--json").json == {"removed": added["prompt"]}
    assert spot("library", "list", "--library", folder, "--json").json == []


def test_reindex_gives_prompts_of_an_older_version_the_fingerprint_of_today(
    spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path
):
    identity = locate(tuned_tasks.model[1]).id
    former = replace(identity, fingerprint=identity.formerly, formerly="")
    library = Library.create(tmp_path / "mine")
    source = tuned_tasks.library / "prompts"
    prompts = [load(path) for path in sorted(source.glob("*.safetensors"))]
    old = {library.add(replace(prompt, backbone=former)).digest: prompt.digest for prompt in prompts}
    gain = TransferRecord(next(iter(old)), "mood", 1.5, "id")
    library.record_transfers([gain, replace(gain, source="0" * 16, id="other")])
    assert {entry.digest for entry in library.entries(identity)} == set(old)
    for _ in range(2):  # a second time changes nothing
        words = ("library", "reindex", "--library", library.path, *tuned_tasks.model, "--json")
        assert spot(*words).json == {"prompts": len(old)}
        upgraded = Library(library.path)
        assert {entry.digest for entry in upgraded.entries()} == set(old.values())
        assert upgraded.backbone == replace(identity, formerly="")
        assert [record.source for record in upgraded.transfers()] == [old[gain.source], "0" * 16]
        assert upgraded.verify() == []
    with pytest.raises(LibraryError, match=r"run `spot library reindex --backbone NAME` first"):
        upgraded.add(replace(prompts[0], backbone=former))


def test_reindex_leaves_the_prompts_of_other_models_alone(spot: Spot, tuned_tasks: TunedTasks, tiny_folder, tmp_path):
    library = Path(shutil.copytree(tuned_tasks.library, tmp_path / "mine"))
    before = sorted(path.read_bytes() for path in library.rglob("*.safetensors"))
    spot("library", "reindex", "--library", library, "--backbone", tiny_folder("gpt2"))
    assert sorted(path.read_bytes() for path in library.rglob("*.safetensors")) == before


def test_library_verify_says_what_is_damaged_and_exits_with_2(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    spot("library", "add", tuned_tasks.run(), "--library", tmp_path / "mine")
    (path,) = (tmp_path / "mine" / "prompts").glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    result = spot("library", "verify", "--library", tmp_path / "mine", "--json")
    assert result.code == 2
    (problem,) = json.loads(result.out)["problems"]
    assert path.name in problem
