"""Prompts that the tests of libraries and of interchange start from."""

from typing import Any

import numpy as np

from spot.prompts.prompt import BackboneId, KeyRecipe, Parent, SoftPrompt

BACKBONE = BackboneId("embedded", "causal", 4, 64, "0123456789abcdef")
RECIPE = KeyRecipe(40, 3, "vocabulary", 0, "adamw", 0.005, 0.0, 16, 96)

WIDTH, LENGTH = 32, 5  # of conftest's tiny models, and of their prompts
KINDS = {"t5": "seq2seq", "t5v11": "seq2seq"}


def library_prompt(task: str = "glue/sst2", seed: int = 0, **changes: Any) -> SoftPrompt:
    """A prompt of three tokens of width 4, with a key."""
    numbers = np.random.default_rng(seed).normal(size=(3, 3, 4)).astype(np.float32)
    fields = {
        "value": numbers[0],
        "key": numbers[1],
        "start": numbers[2],
        "backbone": BACKBONE,
        "task": task,
        "step": 180,
        "seed": seed,
        "key_recipe": RECIPE,
        "scores": {"accuracy": 84.5},
        "frozen_scores": {"accuracy": 51.0},
        "config": {"steps": 200},
    }
    return SoftPrompt(**{**fields, **changes})


def tiny_id(family: str = "llama", name: str = "tiny") -> BackboneId:
    """The identity of one of conftest's tiny models."""
    return BackboneId(name, KINDS.get(family, "causal"), WIDTH, 300, f"of {family}")


def tiny_prompt(family: str = "llama", **changes: Any) -> SoftPrompt:
    """A prompt for one of conftest's tiny models, with everything that a file can hold."""
    arrays = np.random.default_rng(3).normal(size=(3, LENGTH, WIDTH)).astype(np.float32)
    fields = {
        "value": arrays[0],
        "key": arrays[1],
        "start": arrays[2],
        "backbone": tiny_id(family),
        "task": "glue/sst2",
        "step": 180,
        "task_revision": "1",
        "seed": 7,
        "initialiser": "prompt",
        "parents": (Parent("aaaa", 1.0),),
        "key_recipe": KeyRecipe(40, LENGTH, "vocabulary", 0, "adamw", 0.005, 0.0, 16, 96),
        "config": {"steps": 200, "init": "é"},
        "scores": {"accuracy": 84.5},
        "frozen_scores": {"accuracy": 51.0},
        "data_digest": "dddd",
        "code_version": "0.1.0",
    }
    return SoftPrompt(**{**fields, **changes})
