"""The search among prompts and in a library: against similarities pair by pair, public matrices, and refusals."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from spot.errors import ConfigError, LibraryError, PromptError
from spot.library.library import Library
from spot.prompts.prompt import BackboneId, KeyRecipe, SoftPrompt
from spot.retrieval.embeddings import SIMILARITIES, summary, task_embedding
from spot.retrieval.search import Sources, from_library, from_prompts, nearest, rank, search
from tests.support.similarities import by_pairs, numbers

BACKBONE = BackboneId("tiny", "causal", 6, 64, "f" * 32)
RECIPE = KeyRecipe(40, 3, "vocabulary", 0, "adamw", 0.005, 0.0, 16, 96)


def prompt(task: str = "a", seed: int = 0, length: int = 3, **changes: object) -> SoftPrompt:
    start = numbers(length, 6, seed=1000)
    values = {"value": numbers(length, 6, seed=seed + 500), "key": start + numbers(length, 6, seed=seed)}
    fields = {**values, "start": start, "backbone": BACKBONE, "task": task, "step": 40, "key_recipe": RECIPE}
    return SoftPrompt(**{**fields, **changes})


# Spearman of similarity and transferred score, and the share of targets whose best source is in the top 3
PUBLIC_FIGURES = {
    ("t5_base", "mean"): (0.508, 0.765),
    ("t5_base", "token"): (0.429, 0.765),
    ("t5_base", "max"): (0.376, 0.588),
    ("roberta_base", "mean"): (0.323, 0.714),
    ("roberta_base", "token"): (0.396, 0.643),
    ("roberta_base", "max"): (0.267, 0.714),
}


@pytest.mark.parametrize(("model", "kind"), PUBLIC_FIGURES)
def test_retrieval_on_public_transfer_matrices(shared: Path, model: str, kind: str):
    with np.load(shared / "fixtures" / "public_transfer_matrix" / f"{model}.npz", allow_pickle=False) as held:
        tasks, vectors, scores = held["tasks"].tolist(), held["prompts"], held["scores"]
    backbone = BackboneId(model, "seq2seq", vectors.shape[2], 100, "f" * 32)
    prompts = [
        SoftPrompt(value=one, key=one, backbone=backbone, task=task, step=1)
        for task, one in zip(tasks, vectors, strict=True)
    ]
    sources = from_prompts(prompts, kind)
    correlations, hits = [], []
    for number, task in enumerate(tasks):
        found = [one for one in search(vectors[number], sources, len(tasks)) if one.task != task]
        transferred = {name: scores[number, column] for column, name in enumerate(tasks) if name != task}
        correlations.append(spearmanr([one.similarity for one in found], [transferred[one.task] for one in found])[0])
        hits.append(max(transferred, key=transferred.__getitem__) in [one.task for one in found[:3]])
    expected = PUBLIC_FIGURES[model, kind]
    assert (np.mean(correlations), np.mean(hits)) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_rank_is_by_similarity_best_first(kind: str):
    sources = [prompt(f"task{seed}", seed=seed, length=2 + seed % 3) for seed in range(7)]
    target = numbers(4, 6, seed=77)
    expected = sorted(
        ((by_pairs(target.astype(float), (p.key.astype(float) - p.start), kind), p) for p in sources),
        key=lambda pair: -pair[0],
    )
    found = rank(target, sources, kind, 5)
    assert [one.prompt for one in found] == [p.digest for _, p in expected[:5]]
    assert [one.task for one in found] == [p.task for _, p in expected[:5]]
    assert [one.similarity for one in found] == pytest.approx([value for value, _ in expected[:5]], abs=2e-6)
    assert {one.path for one in found} == {None}


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_ties_are_in_the_order_of_their_digests(kind: str):
    one = prompt()
    same = [replace(one, seed=seed) for seed in range(9)]
    assert len({p.digest for p in same}) == 9
    for order in (same, same[::-1]):
        found = rank(numbers(3, 6, seed=5), order, kind, 9)
        assert [r.prompt for r in found] == sorted(p.digest for p in same)
        assert len({r.similarity for r in found}) == 1


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_beyond_the_sources_names_both_numbers(k: int):
    with pytest.raises(ConfigError, match=f"k is {k}, but the list of prompts holds 3 candidates."):
        rank(numbers(3, 6), [prompt(seed=seed) for seed in range(3)], "mean", k)


def test_ranking_among_nothing():
    with pytest.raises(ConfigError, match=r"k is 1, but the list of prompts holds 0 candidates. Add prompts"):
        rank(numbers(3, 6), [], "mean", 1)


def test_an_unknown_similarity_is_refused():
    with pytest.raises(ConfigError, match="unknown similarity 'euclid': known: max, mean, token"):
        rank(numbers(2, 6), [prompt()], "euclid", 1)


def test_widths_must_agree():
    message = "one task embedding has width 5 and the other 6: they belong to different backbones"
    with pytest.raises(PromptError, match=message):
        rank(numbers(2, 5), [prompt()], "mean", 1)


def test_prompts_without_a_key_are_named():
    bare = prompt("b", key=None)
    with pytest.raises(PromptError, match=f"prompt {bare.digest} of task 'b' has no key"):
        rank(numbers(3, 6), [prompt(), bare], "mean", 1)
    still = prompt("c", key=np.ones((3, 6)), start=np.ones((3, 6)))
    with pytest.raises(PromptError, match=f"prompt {still.digest} of task 'c': the key equals its start"):
        rank(numbers(3, 6), [still], "mean", 1)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    library = Library.create(tmp_path / "library")
    for seed, task in enumerate(["sst2", "trec", "cola", "sst2"]):
        library.add(prompt(task, seed=seed))
    return library


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_nearest_ranks_a_library(library: Library, kind: str):
    target = prompt("new", seed=9)
    entries = library.entries()
    found = nearest(target, library, kind, 4)
    expected = rank(task_embedding(target.key, target.start), [library.get(e.digest) for e in entries], kind, 4)
    assert [replace(one, path=None) for one in found] == expected
    assert [one.path.stem for one in found] == [one.prompt for one in expected]
    again = nearest(target, Library(library.path), kind, 4)  # now from the cache
    assert again == found
    assert [one.prompt for one in nearest(target, library, kind, 2)] == [one.prompt for one in expected[:2]]


def test_max_searches_in_blocks(library: Library, monkeypatch: pytest.MonkeyPatch):
    target = prompt("new", seed=9)
    whole = nearest(target, library, "max", 3)
    monkeypatch.setattr("spot.retrieval.search._BLOCK", 1)
    assert len(list(from_library(library, library.entries(), "max"))) == 4
    assert nearest(target, library, "max", 3) == whole


def test_nearest_leaves_tasks_out(library: Library):
    found = nearest(prompt("sst2", seed=9), library, k=2, without=["sst2"])
    assert sorted(one.task for one in found) == ["cola", "trec"]
    with pytest.raises(ConfigError, match=r"k is 5, but .*library holds 4 candidates. Choose k from 1 to 4"):
        nearest(prompt(), library, k=5)
    with pytest.raises(LibraryError, match=r"none of the 4 prompts .* is of another task than cola, sst2, trec"):
        nearest(prompt(), library, without=["sst2", "trec", "cola"])


def test_nearest_needs_keys_of_one_recipe(library: Library):
    target = prompt("new", key_recipe=replace(RECIPE, step=60, learning_rate=0.3))
    message = (
        r"the key of 'new' cannot be compared with that of 'cola' in .*library: step is 60 here and 40 there, "
        r"learning_rate is 0.3 here and 0.005 there. Tune the target by the library's recipe"
    )
    with pytest.raises(LibraryError, match=message):
        nearest(target, library, k=2)
    with pytest.raises(LibraryError, match="the key recipe of one of them is unknown"):
        nearest(prompt("new", key_recipe=None), library, k=2)


def test_nearest_needs_a_target_with_a_key(library: Library):
    with pytest.raises(PromptError, match="of task 'new' has no key, which a task embedding is read from"):
        nearest(prompt("new", key=None), library)


def test_nearest_names_the_backbones(library: Library, tmp_path: Path):
    other = replace(BACKBONE, fingerprint="0" * 32)
    with pytest.raises(LibraryError, match=r"none of the 4 prompts fits tiny .*fingerprint 00000"):
        nearest(prompt("new", backbone=other), library)
    assert nearest(prompt("new", backbone=replace(BACKBONE, name="copy")), library, k=1)
    with pytest.raises(LibraryError, match="none of the 0 prompts fits"):
        nearest(prompt("new"), Library.create(tmp_path / "empty"))


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_sources_closer_than_float32_can_tell_are_ranked_by_float64(kind: str):
    random, count = np.random.default_rng(0), 300
    lengths = random.integers(1, 4, size=count) if kind == "max" else np.ones(count, int)
    rows = np.repeat(numbers(1, 64), lengths.sum(), axis=0).astype(float)
    rows += random.normal(scale=3e-7, size=rows.shape)  # similarities differ by about 1e-7
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    first = np.cumsum(lengths) - lengths
    names = tuple(f"{number:016x}" for number in random.permutation(count))
    target = numbers(1 if kind == "mean" else 3, 64, seed=1)
    products = summary(target, kind) @ rows.astype(float).T
    expected = np.round(np.maximum.reduceat(products, first, axis=1).mean(axis=0), 9)
    assert len(np.unique(expected)) > 50
    order = np.lexsort((names, -expected))
    for k in (1, 7, count):
        found = search(target, Sources(kind, names, names, (None,) * count, rows, first), k)
        assert [one.prompt for one in found] == [names[i] for i in order[:k]]
        assert [one.similarity for one in found] == expected[order[:k]].tolist()


def test_fifty_thousand_prompts_are_ranked_at_once():
    count, width = 50_000, 576
    rows = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = tuple(f"{number:016x}" for number in range(count))
    sources = Sources("mean", names, names, (None,) * count, rows, np.arange(count))
    target = np.tile(rows[1234], (20, 1))
    seconds = []
    for _ in range(3):
        begin = time.process_time()  # other work may run beside it
        found = search(target, sources, 5)
        seconds.append(time.process_time() - begin)
    assert (found[0].prompt, found[0].similarity) == (names[1234], pytest.approx(1))
    assert min(seconds) < 0.5  # 10 ms in one thread
