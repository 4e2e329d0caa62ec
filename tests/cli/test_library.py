"""`spot library`: listed, shown, changed, and found damaged."""

import json
from pathlib import Path

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
