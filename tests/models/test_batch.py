"""Batches as tensors: where pads go, which rows remain, and where a prompt stands, each checked row by row."""

import pytest
import torch

from spot.models.batch import IGNORED, Batch, prompt_before_text
from tests.support.batches import ROWS, batch_of


def texts(batch: Batch) -> list[list[int]]:
    return [ids[mask == 1].tolist() for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("before", ["left", "right"])
def test_aligned_moves_all_pads_to_one_side(before, side):
    batch, expected = batch_of(ROWS, before).aligned(side), batch_of(ROWS, side)
    assert torch.equal(batch.input_ids, expected.input_ids)
    assert torch.equal(batch.attention_mask, expected.attention_mask)
    assert torch.equal(batch.labels, expected.labels)
    assert torch.equal(batch.prompt_index, expected.prompt_index)


def test_aligned_keeps_the_order_of_tokens_between_which_pads_stood():
    ids, mask = torch.tensor([[0, 7, 0, 8, 9]]), torch.tensor([[0, 1, 0, 1, 1]])
    batch = Batch(ids, mask, torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    assert batch.aligned("left").input_ids.tolist() == [[0, 0, 7, 8, 9]]
    assert batch.aligned("right").input_ids.tolist() == [[7, 8, 9, 0, 0]]


def test_rows_are_a_batch_of_their_own():
    part = batch_of(ROWS).rows(1, 3)
    assert texts(part) == [row[0] for row in ROWS[1:]]
    assert [[token for token in labels if token != IGNORED] for labels in part.labels.tolist()] == [[12], [20, 21, 22]]
    assert part.prompt_index.tolist() == [1, 0]


def test_a_prompt_stands_directly_before_its_text_and_behind_the_pads():
    random = torch.Generator().manual_seed(0)
    prompts = torch.randn(3, 2, 4, generator=random)
    text = torch.randn(3, 5, 4, generator=random)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]])
    vectors, joined = prompt_before_text(prompts, text, mask)
    for row, pads in enumerate((0, 2, 4)):
        assert torch.equal(vectors[row, pads:], torch.cat([prompts[row], text[row, pads:]]))
        assert joined[row].tolist() == [0] * pads + [1] * (7 - pads)
