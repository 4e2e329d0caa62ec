"""The library that ships: its prompts are whole, beat the frozen model, and lie where their tasks are."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from spot.collator import collator_for
from spot.evaluation.scoring import evaluate_rows
from spot.library.library import open_library, packaged
from spot.models.backbone import Backbone
from spot.retrieval.embeddings import similarity, task_embedding
from spot.strategies.target import embed_target
from spot.tasks import registry
from spot.tasks.splits import split_rows
from spot.tasks.task import Example, Task

REVIEWS = (
    ("a warm , funny and moving film", "positive"),
    ("a tedious , lifeless mess", "negative"),
    ("one of the best performances of the year", "positive"),
    ("an utter waste of two hours", "negative"),
    ("gorgeous and deeply satisfying", "positive"),
    ("the jokes fall flat and the plot is stupid", "negative"),
    ("a charming and intelligent comedy", "positive"),
    ("dull , predictable and badly acted", "negative"),
)


@pytest.fixture(scope="module")
def backbone(embedded: Backbone) -> Backbone:
    return embedded


@pytest.mark.slow
def test_the_shipped_library_is_whole_small_and_of_this_backbone(backbone):
    library = open_library("packaged")
    entries = library.entries()
    assert len(entries) >= 8 and library.backbone == backbone.id
    assert library.verify() == []
    assert sum(path.stat().st_size for path in Path(packaged()).rglob("*") if path.is_file()) < 3_000_000
    for entry in entries:
        prompt = library.get(entry.digest)
        assert prompt.key is not None and prompt.start is not None and prompt.sketch is not None
        assert prompt.key_recipe == library.key_recipe
        assert np.array_equal(prompt.start, library.get(entries[0].digest).start)


@pytest.mark.slow
def test_every_shipped_prompt_beats_the_frozen_model_or_is_listed(backbone):
    listed = (Path(__file__).parents[1] / "docs" / "library.md").read_text()
    library = open_library("packaged")
    for entry in library.entries():
        score, frozen = np.mean(list(entry.scores.values())), np.mean(list(entry.frozen_scores.values()))
        assert score > frozen or f"{entry.task} does not beat" in listed
        assert entry.task in listed


@pytest.mark.slow
def test_a_shipped_prompt_answers_new_rows(backbone):
    prompt = open_library("packaged").get("glue/sst2")
    task = Task("film", lambda split: iter(()), ("train",), ("negative", "positive"), ("accuracy",))
    examples = [Example("", f"sentence: {text}", (label,)) for text, label in REVIEWS]
    collator = collator_for(backbone, task, length=prompt.length)
    assert evaluate_rows(backbone, torch.tensor(prompt.value), task, collator, examples).primary >= 87.5


@pytest.mark.campaign
def test_two_seeds_of_a_task_are_nearer_than_unrelated_tasks(backbone, shared, tmp_path):
    library = open_library("packaged")
    task = registry.get("trec", shared / "data")
    embeddings = [task_embedding(library.get("trec").key, library.get("trec").start)]
    for seed in (1, 2):
        rows = split_rows(task, 300, 20, 1, seed)
        found = embed_target(task, rows, backbone, library.key_recipe, out=tmp_path / str(seed))
        embeddings.append(task_embedding(found.key, found.start))
    same = [similarity(a, b, "mean") for a, b in combinations(embeddings, 2)]
    unlike = ("glue/sst2", "ag_news", "glue/cola", "yelp_polarity")
    others = [entry for entry in library.entries() if entry.task in unlike]
    unrelated = [
        similarity(embedding, task_embedding(prompt.key, prompt.start), "mean")
        for embedding in embeddings
        for prompt in (library.get(entry.digest) for entry in others)
    ]
    assert min(same) > max(unrelated), (same, unrelated)
