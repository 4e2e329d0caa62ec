"""The embedded backbone, the library that ships for it, and the main job at reduced size."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from spot import demo
from spot.collator import collator_for
from spot.config import TransferConfig
from spot.evaluation.evaluation import evaluate
from spot.library.library import open_library, packaged
from spot.models.backbone import Backbone
from spot.retrieval.search import similarity, task_embedding
from spot.strategies.transfers import embed_target
from spot.tasks import registry
from spot.tasks.splits import split_rows
from spot.tasks.task import Example, Task

pytestmark = pytest.mark.slow

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
def backbone() -> Backbone:
    return Backbone.load("embedded")


def test_the_embedded_model_is_smollm2_and_frozen(backbone):
    assert backbone.parameters == 134_515_008
    assert (backbone.id.name, backbone.id.kind, backbone.id.width, backbone.id.vocabulary) == (
        "embedded",
        "causal",
        576,
        49152,
    )
    assert backbone.shares_prefix
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_its_loss_and_gradient_equal_concatenation(backbone):
    task = Task("film", lambda split: iter(()), ("train",), ("negative", "positive"), ("accuracy",))
    collator = collator_for(backbone, task, length=7)
    rows = collator.encode([Example("", f"sentence: {text}", (label,)) for text, label in REVIEWS[:3]])
    prompts = backbone.embeddings()[None, 500:507].clone()
    found_prompts, expected_prompts = prompts.clone().requires_grad_(), prompts.clone().requires_grad_()
    found = backbone.loss(collator.batch(rows), found_prompts)
    found.sum().backward()
    expected = []
    for row in rows:
        ids = torch.tensor([row.input_ids + row.target_ids])
        vectors = torch.cat([expected_prompts, backbone.embed(ids)], dim=1)
        logits = backbone.model(inputs_embeds=vectors, use_cache=False).logits[0]
        first = 7 + len(row.input_ids) - 1
        target = torch.tensor(row.target_ids)
        expected.append(torch.nn.functional.cross_entropy(logits[first : first + len(target)], target, reduction="sum"))
    torch.stack(expected).sum().backward()
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)
    error = (found_prompts.grad - expected_prompts.grad).norm() / expected_prompts.grad.norm()
    assert float(error) < 1e-4  # thirty layers of float32


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


def test_every_shipped_prompt_beats_the_frozen_model_or_is_listed(backbone):
    listed = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
    library = open_library("packaged")
    for entry in library.entries():
        score, frozen = np.mean(list(entry.scores.values())), np.mean(list(entry.frozen_scores.values()))
        assert score > frozen or f"{entry.task} does not beat" in listed
        assert entry.task in listed


def test_a_shipped_prompt_answers_new_rows(backbone):
    prompt = open_library("packaged").get("glue/sst2")
    task = Task("film", lambda split: iter(()), ("train",), ("negative", "positive"), ("accuracy",))
    examples = [Example("", f"sentence: {text}", (label,)) for text, label in REVIEWS]
    collator = collator_for(backbone, task, length=prompt.length)
    assert evaluate(backbone, torch.tensor(prompt.value), task, collator, examples).primary >= 87.5


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


@pytest.mark.usefixtures("own_cache")
def test_the_main_job_at_reduced_size(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PARTS", {"train": 60, "validation": 24, "test": 40})
    library = open_library("packaged")
    config = TransferConfig(strategy="auto", budget="2x", steps=library.key_recipe.step, seeds=1, eval_every=12)
    found, page = demo.run(backbone, library, config=config, out=tmp_path)
    assert [arm.arm for arm in found.arms] == ["frozen", "plain:vocabulary", "source", "spot"]
    assert len(found.ranking) == len(found.expected) == len(library.entries())
    assert found.reason and found.metric == "learned", "the library ships with its record of transfers"
    assert all(low <= arm.score <= high for arm in found.arms for low, high in [arm.interval])
    html = page.read_text()
    assert found.verdict in html and html.count("<svg") == 2 and "https://" not in html
    json.dumps(found.to_json(), allow_nan=False)
    steps = []
    again, _ = demo.run(backbone, library, config=config, out=tmp_path, progress=lambda *at: steps.append(at))
    assert again.to_json() == found.to_json() and steps == []
