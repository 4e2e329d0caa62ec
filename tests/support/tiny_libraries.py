"""A library of prompts for one of conftest's tiny models, each task with a form of its own."""

from pathlib import Path

import numpy as np

from spot.library.library import Library
from spot.models.backbone import Backbone
from spot.prompts.prompt import SoftPrompt
from spot.reading import Reading
from tests.support.prompts import LENGTH, WIDTH, tiny_id, tiny_prompt

READINGS = {
    "reviews": Reading(template="review: {review}", labels=(("0", "bad"), ("1", "good"))),
    "letters": Reading(template="{text}", labels=(("a", "x"), ("b", "y"), ("c", "z")), max_input_tokens=40),
    "topics": Reading(template="{title}. {body}", labels=(("a", "art"), ("b", "arts and crafts"), ("c", "sport"))),
    "pairs": Reading(template="{first} | {second}", labels=(("0", "no"), ("1", "yes"), ("2", "yes, maybe"))),
    "open": Reading(template="Q: {question}", max_target_tokens=8, decode="generate"),
}
TEXTS = ("fine", "the worst of all that there was", "it is", "a", "so so, and then more of the same again")


def task_prompt(task: str, seed: int = 0, family: str = "llama", length: int = LENGTH, name: str = "") -> SoftPrompt:
    """A prompt of a task of `READINGS`, under its name or another, of no run."""
    arrays = np.random.default_rng([seed, *task.encode()]).normal(size=(3, length, WIDTH)).astype(np.float32)
    value, key, start = arrays
    known = {"task": name or task, "reading": READINGS[task], "seed": seed, "parents": (), "initialiser": "vocabulary"}
    return tiny_prompt(family, value=value, key=key, start=start, **known)


def tiny_library(folder: Path, family: str = "llama", tasks: tuple[str, ...] = tuple(READINGS)) -> Library:
    """A library with a prompt of each task."""
    library = Library.create(folder)
    for task in tasks:
        library.add(task_prompt(task, family=family))
    return library


def tiny_backbone(tiny, family: str = "llama") -> Backbone:
    """The tiny model that the prompts belong to; `tiny` is conftest's fixture."""
    return Backbone(*tiny(family), tiny_id(family))


def rows_of_task(task: str) -> list[dict[str, str]]:
    """Rows with the fields of a task."""
    fields = READINGS[task].fields
    return [{field: text if field == fields[0] else text[::-1] for field in fields} for text in TEXTS]
