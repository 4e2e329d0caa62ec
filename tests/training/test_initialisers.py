"""Initial prompts against rows of the embedding picked by hand."""

import logging

import pytest
import torch

from spot.errors import ConfigError
from spot.training import initialisers

EMBEDDINGS = torch.arange(40.0).reshape(10, 4)


def test_vocabulary_draws_distinct_tokens_and_no_special_ones():
    prompt = initialisers.vocabulary(EMBEDDINGS, 7, seed=3, special=(0, 1, 2))
    tokens = [int(row[0]) // 4 for row in prompt]
    assert sorted(tokens) == list(range(3, 10))
    assert torch.equal(prompt, initialisers.vocabulary(EMBEDDINGS, 7, seed=3, special=(0, 1, 2)))
    assert not torch.equal(prompt, initialisers.vocabulary(EMBEDDINGS, 7, seed=4, special=(0, 1, 2)))


def test_vocabulary_draws_among_common_tokens_only(monkeypatch):
    monkeypatch.setattr(initialisers, "COMMON", 3)
    tokens = {int(row[0]) // 4 for row in initialisers.vocabulary(EMBEDDINGS, 3, seed=0)}
    assert tokens == {0, 1, 2}


def test_classes_are_means_of_their_tokens_and_the_rest_is_sampled():
    prompt = initialisers.classes(EMBEDDINGS, [(3,), (5, 7, 1)], 4, seed=0, special=(1,))
    assert torch.equal(prompt[0], EMBEDDINGS[3])
    assert torch.equal(prompt[1], (EMBEDDINGS[5] + EMBEDDINGS[7]) / 2)
    assert torch.equal(prompt[2:], initialisers.vocabulary(EMBEDDINGS, 2, seed=0, special=(1,)))


def test_more_classes_than_tokens_are_cut_aloud(caplog):
    with caplog.at_level(logging.WARNING):
        assert initialisers.classes(EMBEDDINGS, [(3,), (4,), (5,)], 2, seed=0).shape == (2, 4)
    assert "3 labels do not fit a prompt of 2 tokens" in caplog.text


def test_classes_need_labels():
    with pytest.raises(ConfigError, match="needs a task with labels"):
        initialisers.classes(EMBEDDINGS, [], 2, seed=0)


def test_text_repeats_its_tokens():
    assert torch.equal(initialisers.text(EMBEDDINGS, [4, 2], 5), EMBEDDINGS[[4, 2, 4, 2, 4]])
    with pytest.raises(ConfigError, match="has no tokens"):
        initialisers.text(EMBEDDINGS, [], 5)


def test_a_prompt_of_another_length_is_repeated_or_cut_aloud(caplog):
    with caplog.at_level(logging.WARNING):
        assert torch.equal(initialisers.resized(EMBEDDINGS[:2], 3), EMBEDDINGS[[0, 1, 0]])
        assert torch.equal(initialisers.resized(EMBEDDINGS[:3], 2), EMBEDDINGS[:2])
    assert "repeated from its beginning" in caplog.text and "it is cut" in caplog.text


def test_weighted_mean_takes_negative_weights_as_zero():
    found = initialisers.weighted([EMBEDDINGS[:2], EMBEDDINGS[2:4], EMBEDDINGS[4:6]], [0.6, -0.5, 0.2])
    assert torch.allclose(found, 0.75 * EMBEDDINGS[:2] + 0.25 * EMBEDDINGS[4:6])
    with pytest.raises(ConfigError, match="no weight is positive"):
        initialisers.weighted([EMBEDDINGS[:2]], [-0.1])


def test_uniform_lies_within_a_half():
    prompt = initialisers.uniform(50, 40, seed=0)
    assert prompt.min() >= -0.5 and prompt.max() < 0.5 and abs(float(prompt.mean())) < 0.02
