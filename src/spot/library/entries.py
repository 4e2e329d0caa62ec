"""Describe prompts without reading their arrays, and say which of them may stand beside each other in a library."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, with_config

from spot import config
from spot.errors import LibraryError, PromptError
from spot.prompts.prompt import BackboneId, Count, KeyRecipe, Percent, SoftPrompt, check_recipe
from spot.storage.values import STRICT, check_value, to_json


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


@with_config(STRICT)
@dataclass(frozen=True)
class _Described:
    """What an index keeps of a prompt: the fields of `Entry` that its file tells, kinds and ranges checked."""

    task: str
    scores: Mapping[str, Percent]
    frozen_scores: Mapping[str, Percent]
    step: Count
    length: Annotated[Count, Field(ge=1)]
    backbone: BackboneId
    key_recipe: KeyRecipe | None
    seed: int | None = None


HEADER_FIELDS = tuple(field.name for field in fields(Entry) if field.name not in ("digest", "path"))


def kept_text(content: Mapping[str, Any]) -> str:
    """What an index keeps of the header of a prompt file; equal headers give equal text."""
    return to_json({name: content[name] for name in HEADER_FIELDS})


def entry_of(path: Path, text: str | bytes) -> Entry:
    """An entry from what `kept_text` makes of the header of its file.

    Raises:
        PromptError: it lacks something, or holds something else.
    """
    described = check_value(_Described, text, f"{path}: the header of this prompt file is damaged", PromptError)
    if described.key_recipe is not None:
        check_recipe(described.key_recipe)
    return Entry(digest=path.stem, path=path, **vars(described))


def names_prompt(recipe: KeyRecipe) -> bool:
    """Whether runs of a recipe start from a prompt, which is a file of whoever follows it."""
    return config.names_prompt(recipe.init)


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
    if prompt.key_recipe is not None and names_prompt(prompt.key_recipe):
        reasons.append(
            f"its run started from another prompt ({prompt.key_recipe.init!r}), which a library's recipe never names: "
            "tune the task from the library's own start"
        )
    if usual and prompt.key is not None and prompt.key_recipe != usual.key_recipe:
        reasons.append(
            "its key was made by another recipe than those in the library: "
            f"{differing_settings(prompt.key_recipe, usual.key_recipe)}: tune it by the library's recipe"
        )
    return reasons
