"""Prompts of runs as a library: as they are, those that began from others too, of one model."""

from dataclasses import replace

import pytest

from spot.errors import LibraryError, PromptError
from spot.library.gathered import gather
from spot.prompts.prompt import Parent, save
from tests.support.prompts import tiny_prompt


def test_prompts_are_copied_as_they_are(tmp_path, own_cache):
    prompt = tiny_prompt()
    tuned = replace(prompt, parents=(Parent("0" * 64, 1.0),), key=None, key_recipe=None)
    (tmp_path / "run").mkdir()
    save(prompt, tmp_path / "first.safetensors")
    save(tuned, tmp_path / "run" / "prompt.safetensors")
    names = [str(tmp_path / "first.safetensors"), str(tmp_path / "run")]
    library = gather(names)
    assert {entry.digest for entry in library.entries()} == {prompt.digest, tuned.digest}
    assert library.get(tuned.digest).parents == tuned.parents and own_cache in library.path.parents
    assert gather([*names[::-1], names[0]]).path == library.path, "the order and repeats do not matter"
    assert gather(names[:1]).path != library.path


def test_what_cannot_be_served_together_is_refused(tmp_path):
    prompt = tiny_prompt()
    other = replace(prompt, backbone=replace(prompt.backbone, fingerprint="f" * 16))
    for name, value in (("a", prompt), ("b", other)):
        save(value, tmp_path / name)
    with pytest.raises(LibraryError, match=r"different frozen models, .* and .*; expected one"):
        gather([str(tmp_path / "a"), str(tmp_path / "b")])
    with pytest.raises(PromptError, match="nowhere"):
        gather([str(tmp_path / "nowhere")])
