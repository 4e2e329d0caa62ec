"""Describe prompts without reading their arrays, and say which of them may stand beside each other in a library."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from spot.errors import LibraryError, PromptError
from spot.prompts.prompt import BackboneId, KeyRecipe, SoftPrompt


@dataclass(frozen=True)
class Entry:
    """What a library knows of a prompt without reading its arrays."""

    digest: str
    task: str
    path: Path
    scores: Mapping[str, float]  # metric -> percent, on report rows if there are any
    frozen_scores: Mapping[str, float]  # the same without a prompt
    step: int  # of the value
    length: int  # P, prompt tokens
    backbone: BackboneId
    key_recipe: KeyRecipe | None
    seed: int | None = None


HEADER_FIELDS = tuple(field.name for field in fields(Entry) if field.name not in ("digest", "path"))


def entry_of(path: Path, content: Mapping[str, Any]) -> Entry:
    """An entry from the header of its file, of which `HEADER_FIELDS` are enough.

    Raises:
        PromptError: the header lacks something, or holds something else.
    """
    try:
        recipe = content["key_recipe"]
        values = {name: content[name] for name in HEADER_FIELDS}
        values["backbone"] = BackboneId(**content["backbone"])
        values["key_recipe"] = None if recipe is None else KeyRecipe(**recipe)
        return Entry(digest=path.stem, path=path, **values)
    except (KeyError, TypeError) as error:
        raise PromptError(
            f"{path}: the header of this prompt file is damaged ({error}). Restore it from a copy."
        ) from error


def differing_settings(ours: KeyRecipe | None, theirs: KeyRecipe | None) -> str:
    """How two key recipes differ, for a message: each setting with its value here and there."""
    if ours is None or theirs is None:
        return "the key recipe of one of them is unknown"
    pairs = ((field.name, getattr(ours, field.name), getattr(theirs, field.name)) for field in fields(KeyRecipe))
    return ", ".join(f"{name} is {mine!r} here and {other!r} there" for name, mine, other in pairs if mine != other)


def check_belongs(prompt: SoftPrompt, usual: Entry | None, place: Path | str) -> None:
    """Refuse a prompt that does not belong in the library at `place`; see `objections`.

    Raises:
        LibraryError: with every objection.
    """
    reasons = objections(prompt, usual)
    if reasons:
        raise LibraryError(
            f"the prompt {prompt.digest} of task {prompt.task!r} does not belong in {place}: " + "; ".join(reasons)
        )


def objections(prompt: SoftPrompt, usual: Entry | None) -> list[str]:
    """Why a prompt does not belong in a library, each reason with what to do.

    Args:
        prompt: the prompt.
        usual: an entry with the library's backbone and key recipe; None while the library is empty.

    Returns:
        Clauses for a message; none where the prompt belongs there.
    """
    reasons = []
    if usual and not prompt.backbone.is_same_model(usual.backbone):
        reasons.append(
            f"it belongs to the backbone {prompt.backbone}, and the library to {usual.backbone}: "
            "add it to a library of its own backbone; if they are one model, of which one fingerprint is that of an "
            "older version, run `spot library reindex --backbone NAME` first"
        )
    if prompt.key is None:
        reasons.append("it has no key, which a task embedding is read from: tune it with a key step that it reaches")
    elif prompt.start is not None and (still := np.flatnonzero((prompt.key == prompt.start).all(axis=1))).size:
        reasons.append(
            f"{still.size} of {prompt.length} tokens of its key (the first is token {still[0]}) are those of its "
            "start, so it shows no task yet: tune it with a later key step or a higher learning rate"
        )
    if prompt.parents:
        reasons.append(
            f"its run started from another prompt ({', '.join(parent.digest for parent in prompt.parents)}), whose "
            "mark its key bears: tune the task from the library's own start"
        )
    if usual and prompt.key is not None and prompt.key_recipe != usual.key_recipe:
        reasons.append(
            "its key was made by another recipe than those in the library: "
            f"{differing_settings(prompt.key_recipe, usual.key_recipe)}: tune it by the library's recipe"
        )
    return reasons
