"""Batches as tensors: where pads go and which rows stand in one call, each checked row by row."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from spot.models.batch import IGNORED, Batch, choice_pairs, token_nats, unpaired
from tests.support.batches import ROWS, batch_of


def texts(batch: Batch) -> list[list[int]]:
    return [ids[mask == 1].tolist() for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)]


@pytest.mark.parametrize("before", ["left", "right"])
def test_packed_moves_all_pads_behind_the_text(before):
    batch, expected = batch_of(ROWS, before).packed(), batch_of(ROWS, "right")
    assert torch.equal(batch.input_ids, expected.input_ids)
    assert torch.equal(batch.attention_mask, expected.attention_mask)
    assert torch.equal(batch.labels, expected.labels)
    assert torch.equal(batch.prompt_index, expected.prompt_index)


def test_packed_keeps_the_order_of_tokens_between_which_pads_stood():
    ids, mask = torch.tensor([[0, 7, 0, 8, 9]]), torch.tensor([[0, 1, 0, 1, 1]])
    batch = Batch(ids, mask, torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    assert batch.packed().input_ids.tolist() == [[7, 8, 9, 0, 0]]


def test_rows_are_a_batch_of_their_own():
    part = batch_of(ROWS).rows(slice(1, 3))
    assert texts(part) == [row[0] for row in ROWS[1:]]
    assert [[token for token in labels if token != IGNORED] for labels in part.labels.tolist()] == [[12], [20, 21, 22]]
    assert part.prompt_index.tolist() == [1, 0]


@pytest.mark.parametrize(("together", "calls"), [("padded", 1), ("equal", 3), ("alone", 6)])
def test_groups_give_every_row_its_own_numbers_in_the_order_of_the_rows(together, calls):
    batch = batch_of([*ROWS, *ROWS], "left")
    widths = []

    def first_and_length(part: Batch) -> torch.Tensor:
        widths.append(part.input_ids.shape[1])
        ids = part.packed().input_ids[:, 0]
        return torch.stack([ids, part.attention_mask.sum(1), part.prompt_index], dim=1)

    numbers = batch.in_groups(together, first_and_length)
    assert numbers.tolist() == [[row[0][0], len(row[0]), row[2]] for row in (*ROWS, *ROWS)]
    assert len(widths) == calls
    assert together == "padded" or sorted(set(widths)) == [2, 5, 7]  # no column of pads alone


def test_rows_of_equal_inputs_and_other_targets_do_not_stand_together():
    batch = batch_of([([3, 4], [5], 0), ([3, 4], [5, 6], 0), ([4, 3], [6], 0)])
    sizes = []

    def labels(part: Batch) -> torch.Tensor:
        sizes.append(len(part.input_ids))
        return part.labels.clamp(min=0)

    assert batch.in_groups("equal", labels).tolist() == [[5, 0], [5, 6], [6, 0]]
    assert sorted(sizes) == [1, 2]


def test_nats_are_the_cross_entropy_of_each_token_and_none_where_there_is_no_token():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 2, IGNORED], [4, IGNORED, IGNORED]])
    nats = token_nats(logits, labels)
    assert nats[labels == IGNORED].tolist() == [0, 0, 0]
    for row, step in ((0, 0), (0, 1), (1, 0)):
        expected = cross_entropy(logits[row, step], labels[row, step])
        assert float(nats[row, step]) == pytest.approx(float(expected), rel=1e-6)


def test_every_row_is_paired_with_each_of_its_own_choices_and_back():
    sets = [[[1, 2], [3]], [[4], [5, 6, 7], [8]]]
    batch = replace(batch_of([([1], [2], 0), ([3, 4], [5], 0)]), choice_index=torch.tensor([1, 0]))
    pairs, labels = choice_pairs(sets, batch)
    assert pairs.tolist() == [0, 0, 0, 1, 1]
    assert labels.tolist() == [[4, -100, -100], [5, 6, 7], [8, -100, -100], [1, 2, -100], [3, -100, -100]]
    assert unpaired(torch.tensor([1.0, 2, 3, 4, 5]), sets, batch).tolist() == [[1, 2, 3], [4, 5, 0]]
