"""What a library knows of a prompt from its header, and why one does not belong in it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spot.errors import LibraryError, PromptError
from spot.library.entries import check_belongs, differing_settings, entry_of, kept_text, names_prompt, objections
from spot.prompts.prompt import Parent, header, save
from tests.support.prompts import BACKBONE, RECIPE, library_prompt


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    save(library_prompt(), tmp_path / "prompt.safetensors")
    return dict(header(tmp_path / "prompt.safetensors"))


def test_an_entry_is_read_from_a_header(content: dict[str, Any]):
    prompt = library_prompt()
    entry = entry_of(Path("folder/0123.safetensors"), kept_text(content))
    assert (entry.digest, entry.path) == ("0123", Path("folder/0123.safetensors"))
    assert (entry.task, entry.length, entry.step, entry.seed) == (prompt.task, 3, 180, 0)
    assert (entry.backbone, entry.key_recipe, dict(entry.scores)) == (BACKBONE, RECIPE, dict(prompt.scores))


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": {"name": "x"}},
        {"key_recipe": 3},
        {"task": None},
        {"task": 3},
        {"scores": "high"},
        {"scores": {"accuracy": "high"}},
        {"scores": {"accuracy": 10**400}},
        {"step": True},
        {"length": 0},
        {"seed": [1]},
        {"surprise": 1},
    ],
)
def test_what_an_index_says_has_types_and_ranges(content: dict[str, Any], change: dict[str, Any]):
    """F5: a task that is a number, scores that are text."""
    values = {**json.loads(kept_text(content)), **change}
    with pytest.raises(PromptError, match=r"0123.safetensors: the header of this prompt file is damaged"):
        entry_of(Path("0123.safetensors"), json.dumps(values))


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "null", '{"task": NaN}', b"\xff", '{"task": "\\ud800"}'])
def test_an_index_that_holds_no_json_is_no_traceback(text: str | bytes):
    with pytest.raises(PromptError, match=r"0123.safetensors: the header of this prompt file is damaged"):
        entry_of(Path("0123.safetensors"), text)


def test_a_recipe_that_no_run_can_follow_is_refused(content: dict[str, Any]):
    values = json.loads(kept_text(content))
    values["key_recipe"]["step"] = -5
    with pytest.raises(PromptError, match="key_step is -5"):
        entry_of(Path("0123.safetensors"), json.dumps(values))


@pytest.mark.parametrize(
    ("init", "is_file"), [("vocabulary", False), ("text:a b", False), ("/home/x", True), ("x", True)]
)
def test_a_recipe_may_not_start_from_a_file_of_its_reader(init: str, is_file: bool):
    recipe = replace(RECIPE, init=init)
    assert names_prompt(recipe) is is_file
    reasons = objections(library_prompt(key_recipe=recipe), None)
    assert bool(reasons) is is_file and all("started from another prompt" in reason for reason in reasons)


def test_recipes_differ_setting_by_setting():
    assert differing_settings(RECIPE, RECIPE) == ""
    other = replace(RECIPE, step=41, learning_rate=0.01)
    assert (
        differing_settings(RECIPE, other) == "step is 40 here and 41 there, learning_rate is 0.005 here and 0.01 there"
    )
    assert differing_settings(RECIPE, None) == "the key recipe of one of them is unknown"


def test_every_objection_is_made_at_once(content: dict[str, Any]):
    usual = entry_of(Path("usual.safetensors"), kept_text(content))
    assert objections(library_prompt("trec", seed=1), usual) == []
    strange = library_prompt(
        backbone=replace(BACKBONE, fingerprint="another"),
        parents=(Parent("aaaa", 1.0),),
        key_recipe=replace(RECIPE, step=3),
    )
    reasons = objections(strange, usual)
    assert [reason.partition(" ")[2].partition(",")[0][:24] for reason in reasons] == [
        "belongs to the backbone ",
        "run started from another",
        "key was made by another ",
    ]
    with pytest.raises(LibraryError, match=r"does not belong in here: it belongs .*; its run .*; its key was made by"):
        check_belongs(strange, usual, "here")


def test_a_key_that_never_moved_shows_no_task():
    prompt = library_prompt()
    key = np.array(prompt.key)
    key[1] = prompt.start[1]
    (reason,) = objections(replace(prompt, key=key), None)
    assert reason.startswith("1 of 3 tokens of its key (the first is token 1) are those of its start")
    (reason,) = objections(replace(prompt, key=None), None)
    assert reason.startswith("it has no key")
