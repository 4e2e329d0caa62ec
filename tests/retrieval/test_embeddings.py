"""Task embeddings and their similarities: against loops over pairs, figures of public prompts, and refusals."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spot.errors import ConfigError, PromptError
from spot.library.history import decode_summary
from spot.retrieval.embeddings import (
    SIMILARITIES,
    embedding_of,
    encoded_summaries,
    recorded_summaries,
    similarity,
    summary,
    summary_of,
    task_embedding,
)
from tests.support.prompts import library_prompt
from tests.support.similarities import by_pairs, numbers


@pytest.mark.parametrize("kind", SIMILARITIES)
@pytest.mark.parametrize(("target", "source"), [(3, 3), (1, 4), (5, 2)])
def test_similarity_is_the_definition_pair_by_pair(kind: str, target: int, source: int):
    ours, theirs = numbers(target, 6, seed=1), numbers(source, 6, seed=2)
    expected = by_pairs(ours.astype(float), theirs.astype(float), kind)
    assert similarity(ours, theirs, kind) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_similarity_ignores_the_order_of_tokens_and_the_scale(kind: str):
    ours, theirs = numbers(4, 6, seed=1), numbers(4, 6, seed=2)
    expected = similarity(ours, theirs, kind)
    assert similarity(ours[::-1], theirs[[2, 0, 3, 1]], kind) == pytest.approx(expected, abs=1e-12)
    for scale in (1e-200, 1e-30, 1e30, 1e200):  # whose squares are no floats
        assert similarity(ours.astype(float) * scale, theirs, kind) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5), st.integers(1, 8))
def test_similarities_keep_their_bounds(seed: int, ours: int, theirs: int, width: int):
    rng = np.random.default_rng(seed)
    target, source = rng.normal(size=(ours, width)), rng.normal(size=(theirs, width))
    found = {kind: similarity(target, source, kind) for kind in SIMILARITIES}
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
    assert {kind: summary(embedding, kind).shape for kind in SIMILARITIES} == {
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
    for kind in ("token", "max"):
        with pytest.raises(PromptError, match="token 1 of the task embedding is all zeros"):
            similarity(one_zero, numbers(3, 6), kind)
    assert similarity(one_zero, numbers(3, 6, seed=1), "mean")  # the average still has one
    with pytest.raises(PromptError, match="the average token of the task embedding is all zeros"):
        similarity(np.array([[1.0, -1.0], [-1.0, 1.0]]), np.ones((1, 2)), "mean")


def test_a_key_that_has_not_moved_shows_no_task():
    with pytest.raises(PromptError, match="the key equals its start, so the run has learned nothing by its key step"):
        task_embedding(numbers(3, 6), numbers(3, 6))
    with pytest.raises(PromptError, match=re.escape("the key is [3, 6] and its start [2, 6]")):
        task_embedding(numbers(3, 6), numbers(2, 6))


def test_an_unknown_similarity_is_answered_with_the_near_one():
    with pytest.raises(ConfigError, match=re.escape("unknown similarity 'means': did you mean 'mean' or 'max'?")):
        similarity(numbers(2, 6), numbers(2, 6), "means")


def test_widths_must_agree():
    with pytest.raises(PromptError, match="one task embedding has width 5 and the other 6: they belong to different"):
        similarity(numbers(2, 5), numbers(2, 6))


def test_a_prompts_summaries_are_those_of_its_task_embedding():
    prompt = library_prompt("new", 50)
    encoded = encoded_summaries(prompt)
    assert set(encoded) == set(recorded_summaries(prompt)) == {"mean", "token"}
    assert np.array_equal(embedding_of(prompt), task_embedding(prompt.key, prompt.start))
    for kind, text in encoded.items():
        expected = summary(embedding_of(prompt), kind).astype("<f4")
        assert np.array_equal(summary_of(prompt, kind), expected)
        assert np.array_equal(decode_summary(text), expected[0])
