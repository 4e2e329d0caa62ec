"""Rows of a causal model along each way, token by token against the model alone."""

from dataclasses import replace

import pytest
import torch

from spot.models.batch import Prefix
from spot.models.causal import CausalRows
from spot.models.choice_tree import ChoiceTree
from spot.models.network import Network
from spot.models.ways import Ways
from tests.support.batches import CHOICES, ROWS, batch_of, prompts_for, relative
from tests.support.odd_models import plain_nats

WAYS = Ways(shares=True, together="padded", tree=True, decoding="padded")


@pytest.fixture
def llama(tiny):
    return tiny("llama")[0], CausalRows(Network(tiny("llama")[0]))


def prefix_for(rows: CausalRows, ways: Ways) -> Prefix:
    return rows.prefix(prompts_for()) if ways.shares else Prefix(prompts_for())


@pytest.mark.parametrize("shares", [True, False])
def test_every_token_has_its_own_nats_and_none_where_there_is_no_token(llama, shares):
    plain, rows = llama
    ways = replace(WAYS, shares=shares)
    nats = rows.nats(batch_of(ROWS, "left"), prefix_for(rows, ways), ways)
    for row, (text, target, number) in zip(nats, ROWS, strict=True):
        expected = plain_nats(plain, prompts_for()[number], text, target)
        assert relative(row[: len(target)], expected) < 1e-5
        assert not row[len(target) :].any()


def test_a_tree_scores_each_choice_as_a_row_of_its_own(llama):
    plain, rows = llama
    scores = rows.tree_scores(batch_of(ROWS, "left"), rows.prefix(prompts_for()), [ChoiceTree.of(CHOICES)], WAYS)
    for row, (text, _, number) in zip(scores, ROWS, strict=True):
        expected = [-plain_nats(plain, prompts_for()[number], text, list(choice)).sum() for choice in CHOICES]
        assert relative(row, torch.stack(expected)) < 1e-5


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("decoding", ["padded", "whole"])
def test_steps_go_on_behind_rows_of_unequal_lengths(llama, shares, decoding):
    plain, rows = llama
    ways = replace(WAYS, shares=shares, decoding=decoding)
    sent = torch.tensor([[8, 9, 4], [12, 7, 5], [20, 21, 22]])
    steps = rows.steps(batch_of([(text, [], number) for text, _, number in ROWS]), prefix_for(rows, ways), ways)
    logits = [next(steps), *(steps.send(token[:, None]) for token in sent.T[:-1])]
    nats = -torch.stack(logits, dim=1).log_softmax(-1).gather(2, sent[:, :, None])[:, :, 0]
    for row, target, (text, _, number) in zip(nats, sent.tolist(), ROWS, strict=True):
        assert relative(row, plain_nats(plain, prompts_for()[number], text, target)) < 1e-5
