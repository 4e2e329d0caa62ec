"""Similarities against loops over pairs, figures of public prompts, the search, and what it refuses."""

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from spot.errors import ConfigError, LibraryError, PromptError
from spot.library.library import Library
from spot.prompts.prompt import BackboneId, KeyRecipe, SoftPrompt
from spot.retrieval.search import (
    METRICS,
    Sources,
    from_library,
    from_prompts,
    rank,
    retrieve,
    search,
    similarity,
    summary,
    task_embedding,
)

BACKBONE = BackboneId("tiny", "causal", 6, 64, "f" * 32)
RECIPE = KeyRecipe(40, 3, "vocabulary", 0, "adamw", 0.005, 0.0, 16, 96)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def prompt(task: str = "a", seed: int = 0, length: int = 3, **changes: object) -> SoftPrompt:
    start = numbers(length, 6, seed=1000)
    values = {"value": numbers(length, 6, seed=seed + 500), "key": start + numbers(length, 6, seed=seed)}
    fields = {**values, "start": start, "backbone": BACKBONE, "task": task, "step": 40, "key_recipe": RECIPE}
    return SoftPrompt(**{**fields, **changes})


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Written out, one product at a time."""
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    lengths = [sum(float(x) ** 2 for x in vector) ** 0.5 for vector in (a, b)]
    return dot / (lengths[0] * lengths[1])


def by_pairs(target: np.ndarray, source: np.ndarray, metric: str) -> float:
    """The definitions, without any of the shortcuts."""
    if metric == "mean":
        return cosine(sum(target) / len(target), sum(source) / len(source))
    table = [[cosine(ours, theirs) for theirs in source] for ours in target]
    if metric == "token":
        return sum(sum(row) for row in table) / (len(target) * len(source))
    return sum(max(row) for row in table) / len(target)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("target", "source"), [(3, 3), (1, 4), (5, 2)])
def test_similarity_is_the_definition_pair_by_pair(metric: str, target: int, source: int):
    ours, theirs = numbers(target, 6, seed=1), numbers(source, 6, seed=2)
    expected = by_pairs(ours.astype(float), theirs.astype(float), metric)
    assert similarity(ours, theirs, metric) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_similarity_ignores_the_order_of_tokens_and_the_scale(metric: str):
    ours, theirs = numbers(4, 6, seed=1), numbers(4, 6, seed=2)
    expected = similarity(ours, theirs, metric)
    assert similarity(ours[::-1], theirs[[2, 0, 3, 1]], metric) == pytest.approx(expected, abs=1e-12)
    for scale in (1e-200, 1e-30, 1e30, 1e200):  # whose squares are no floats
        assert similarity(ours.astype(float) * scale, theirs, metric) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5), st.integers(1, 8))
def test_similarities_keep_their_bounds(seed: int, ours: int, theirs: int, width: int):
    rng = np.random.default_rng(seed)
    target, source = rng.normal(size=(ours, width)), rng.normal(size=(theirs, width))
    found = {metric: similarity(target, source, metric) for metric in METRICS}
    assert all(-1 - 1e-9 <= value <= 1 + 1e-9 for value in found.values())
    assert found["token"] <= found["max"] + 1e-9
    assert found["mean"] == pytest.approx(similarity(source, target, "mean"))
    assert found["token"] == pytest.approx(similarity(source, target, "token"))
    assert similarity(target, target, "mean") == pytest.approx(1)
    assert similarity(target, target, "max") == pytest.approx(1)


def test_only_max_depends_on_which_is_the_target():
    target, source = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert similarity(target, source, "max") == pytest.approx(1)
    assert similarity(source, target, "max") == pytest.approx(0.5)


def test_the_task_embedding_is_the_key_less_the_start():
    key, start = numbers(3, 6, seed=1), numbers(3, 6, seed=2)
    assert np.array_equal(task_embedding(key, start), key.astype(float) - start.astype(float))
    assert np.array_equal(task_embedding(key), key)
    assert np.array_equal(task_embedding(key, np.zeros((3, 6))), key)


def test_summaries_have_one_row_except_for_max():
    embedding = numbers(3, 6)
    assert {metric: summary(embedding, metric).shape for metric in METRICS} == {
        "mean": (1, 6),
        "token": (1, 6),
        "max": (3, 6),
    }
    assert np.linalg.norm(summary(embedding, "mean")) == pytest.approx(1)


def test_figures_of_googles_released_prompts(shared: Path):
    sst2, mrpc = (np.load(shared / "fixtures" / "official_prompts" / f"{name}.npy") for name in ("sst2", "mrpc"))
    assert similarity(sst2, mrpc, "mean") == pytest.approx(0.4956, abs=5e-5)
    assert similarity(sst2, mrpc, "token") == pytest.approx(0.0171, abs=1e-4)
    assert similarity(sst2, sst2, "token") == pytest.approx(0.0300, abs=5e-5)
    assert similarity(mrpc, mrpc, "token") == pytest.approx(0.0403, abs=5e-5)


# Spearman of similarity and transferred score, and the share of targets whose best source is in the top 3
PUBLIC_FIGURES = {
    ("t5_base", "mean"): (0.508, 0.765),
    ("t5_base", "token"): (0.429, 0.765),
    ("t5_base", "max"): (0.376, 0.588),
    ("roberta_base", "mean"): (0.323, 0.714),
    ("roberta_base", "token"): (0.396, 0.643),
    ("roberta_base", "max"): (0.267, 0.714),
}


@pytest.mark.parametrize(("model", "metric"), PUBLIC_FIGURES)
def test_retrieval_on_public_transfer_matrices(shared: Path, model: str, metric: str):
    with np.load(shared / "fixtures" / "public_transfer_matrix" / f"{model}.npz", allow_pickle=False) as held:
        tasks, vectors, scores = held["tasks"].tolist(), held["prompts"], held["scores"]
    backbone = BackboneId(model, "seq2seq", vectors.shape[2], 100, "f" * 32)
    prompts = [
        SoftPrompt(value=one, key=one, backbone=backbone, task=task, step=1)
        for task, one in zip(tasks, vectors, strict=True)
    ]
    sources = from_prompts(prompts, metric)
    correlations, hits = [], []
    for number, task in enumerate(tasks):
        found = [one for one in search(vectors[number], sources, len(tasks)) if one.task != task]
        transferred = {name: scores[number, column] for column, name in enumerate(tasks) if name != task}
        correlations.append(spearmanr([one.similarity for one in found], [transferred[one.task] for one in found])[0])
        hits.append(max(transferred, key=transferred.__getitem__) in [one.task for one in found[:3]])
    expected = PUBLIC_FIGURES[model, metric]
    assert (np.mean(correlations), np.mean(hits)) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("metric", METRICS)
def test_rank_is_by_similarity_best_first(metric: str):
    sources = [prompt(f"task{seed}", seed=seed, length=2 + seed % 3) for seed in range(7)]
    target = numbers(4, 6, seed=77)
    expected = sorted(
        ((by_pairs(target.astype(float), (p.key.astype(float) - p.start), metric), p) for p in sources),
        key=lambda pair: -pair[0],
    )
    found = rank(target, sources, metric, 5)
    assert [one.prompt for one in found] == [p.digest for _, p in expected[:5]]
    assert [one.task for one in found] == [p.task for _, p in expected[:5]]
    assert [one.similarity for one in found] == pytest.approx([value for value, _ in expected[:5]], abs=2e-6)
    assert {one.path for one in found} == {None}


@pytest.mark.parametrize("metric", METRICS)
def test_ties_are_in_the_order_of_their_digests(metric: str):
    one = prompt()
    same = [replace(one, seed=seed) for seed in range(9)]
    assert len({p.digest for p in same}) == 9
    for order in (same, same[::-1]):
        found = rank(numbers(3, 6, seed=5), order, metric, 9)
        assert [r.prompt for r in found] == sorted(p.digest for p in same)
        assert len({r.similarity for r in found}) == 1


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_beyond_the_sources_names_both_numbers(k: int):
    with pytest.raises(ConfigError, match=f"k is {k}, but the list of prompts holds 3 candidates."):
        rank(numbers(3, 6), [prompt(seed=seed) for seed in range(3)], "mean", k)


def test_ranking_among_nothing():
    with pytest.raises(ConfigError, match=r"k is 1, but the list of prompts holds 0 candidates. Add prompts"):
        rank(numbers(3, 6), [], "mean", 1)


def test_an_unknown_metric_is_answered_with_the_near_one():
    with pytest.raises(ConfigError, match=re.escape("unknown metric 'means': did you mean 'mean' or 'max'?")):
        similarity(numbers(2, 6), numbers(2, 6), "means")
    with pytest.raises(ConfigError, match="unknown metric 'euclid': known: max, mean, token"):
        rank(numbers(2, 6), [prompt()], "euclid", 1)


def test_widths_must_agree():
    message = "one task embedding has width 5 and the other 6: they belong to different backbones"
    with pytest.raises(PromptError, match=message):
        similarity(numbers(2, 5), numbers(2, 6))
    with pytest.raises(PromptError, match=message):
        rank(numbers(2, 5), [prompt()], "mean", 1)


@pytest.mark.parametrize("shape", [(6,), (0, 6), (3, 0), (2, 3, 6)])
def test_embeddings_are_tables(shape: tuple[int, ...]):
    with pytest.raises(PromptError, match=re.escape(f"the task embedding is {list(shape)}; expected [P, D]")):
        similarity(np.ones(shape), numbers(2, 6))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_must_be_finite(bad: float):
    broken = numbers(3, 6)
    broken[1, 2] = bad
    with pytest.raises(PromptError, match="the task embedding has 1 of 18 numbers NaN or infinite"):
        similarity(broken, numbers(3, 6))
    with pytest.raises(PromptError, match="the start has 1 of 18 numbers NaN or infinite"):
        task_embedding(numbers(3, 6), broken)


def test_zeros_have_no_direction():
    with pytest.raises(PromptError, match="the task embedding is all zeros, so it has no direction"):
        similarity(np.zeros((3, 6)), numbers(3, 6))
    one_zero = numbers(3, 6)
    one_zero[1] = 0
    for metric in ("token", "max"):
        with pytest.raises(PromptError, match="token 1 of the task embedding is all zeros"):
            similarity(one_zero, numbers(3, 6), metric)
    assert similarity(one_zero, numbers(3, 6, seed=1), "mean")  # the average still has one
    with pytest.raises(PromptError, match="the average token of the task embedding is all zeros"):
        similarity(np.array([[1.0, -1.0], [-1.0, 1.0]]), np.ones((1, 2)), "mean")


def test_a_key_that_has_not_moved_shows_no_task():
    with pytest.raises(PromptError, match="the key equals its start, so the run has learned nothing by its key step"):
        task_embedding(numbers(3, 6), numbers(3, 6))
    with pytest.raises(PromptError, match=re.escape("the key is [3, 6] and its start [2, 6]")):
        task_embedding(numbers(3, 6), numbers(2, 6))


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


@pytest.mark.parametrize("metric", METRICS)
def test_retrieve_ranks_a_library(library: Library, metric: str):
    target = prompt("new", seed=9)
    entries = library.entries()
    found = retrieve(target, library, metric, 4)
    expected = rank(task_embedding(target.key, target.start), [library.get(e.digest) for e in entries], metric, 4)
    assert [replace(one, path=None) for one in found] == expected
    assert [one.path.stem for one in found] == [one.prompt for one in expected]
    again = retrieve(target, Library(library.path), metric, 4)  # now from the index
    assert again == found
    assert [one.prompt for one in retrieve(target, library, metric, 2)] == [one.prompt for one in expected[:2]]


def test_max_searches_in_blocks(library: Library, monkeypatch: pytest.MonkeyPatch):
    target = prompt("new", seed=9)
    whole = retrieve(target, library, "max", 3)
    monkeypatch.setattr("spot.retrieval.search._BLOCK", 1)
    assert len(list(from_library(library, library.entries(), "max"))) == 4
    assert retrieve(target, library, "max", 3) == whole


def test_retrieve_leaves_tasks_out(library: Library):
    found = retrieve(prompt("sst2", seed=9), library, k=2, without=["sst2"])
    assert sorted(one.task for one in found) == ["cola", "trec"]
    with pytest.raises(ConfigError, match=r"k is 5, but .*library holds 4 candidates. Choose k from 1 to 4"):
        retrieve(prompt(), library, k=5)
    with pytest.raises(LibraryError, match=r"none of the 4 prompts .* is of another task than cola, sst2, trec"):
        retrieve(prompt(), library, without=["sst2", "trec", "cola"])


def test_retrieve_needs_keys_of_one_recipe(library: Library):
    target = prompt("new", key_recipe=replace(RECIPE, step=60, learning_rate=0.3))
    message = (
        r"the key of 'new' cannot be compared with that of 'cola' in .*library: step is 60 here and 40 there, "
        r"learning_rate is 0.3 here and 0.005 there. Tune the target by the library's recipe"
    )
    with pytest.raises(LibraryError, match=message):
        retrieve(target, library, k=2)
    with pytest.raises(LibraryError, match="the key recipe of one of them is unknown"):
        retrieve(prompt("new", key_recipe=None), library, k=2)


def test_retrieve_needs_a_target_with_a_key(library: Library):
    with pytest.raises(PromptError, match="of task 'new' has no key, which a task embedding is read from"):
        retrieve(prompt("new", key=None), library)


def test_retrieve_names_the_backbones(library: Library, tmp_path: Path):
    other = replace(BACKBONE, fingerprint="0" * 32)
    with pytest.raises(LibraryError, match=r"none of the 4 prompts fits tiny .*fingerprint 00000"):
        retrieve(prompt("new", backbone=other), library)
    assert retrieve(prompt("new", backbone=replace(BACKBONE, name="copy")), library, k=1)
    with pytest.raises(LibraryError, match="none of the 0 prompts fits"):
        retrieve(prompt("new"), Library.create(tmp_path / "empty"))


@pytest.mark.parametrize("metric", METRICS)
def test_sources_closer_than_float32_can_tell_are_ranked_by_float64(metric: str):
    random, count = np.random.default_rng(0), 300
    lengths = random.integers(1, 4, size=count) if metric == "max" else np.ones(count, int)
    rows = np.repeat(numbers(1, 64), lengths.sum(), axis=0).astype(float)
    rows += random.normal(scale=3e-7, size=rows.shape)  # similarities differ by about 1e-7
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    first = np.cumsum(lengths) - lengths
    names = tuple(f"{number:016x}" for number in random.permutation(count))
    target = numbers(1 if metric == "mean" else 3, 64, seed=1)
    products = summary(target, metric) @ rows.astype(float).T
    expected = np.round(np.maximum.reduceat(products, first, axis=1).mean(axis=0), 9)
    assert len(np.unique(expected)) > 50
    order = np.lexsort((names, -expected))
    for k in (1, 7, count):
        found = search(target, Sources(metric, names, names, (None,) * count, rows, first), k)
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
