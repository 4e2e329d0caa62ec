"""The tree of choices: its nodes, who sees whom, and sums along it, each against a walk by hand."""

import pytest
import torch

from spot.models.choice_tree import ChoiceTree, gather, tree_mask
from tests.support.batches import CHOICES


def test_choices_share_their_beginnings():
    tree = ChoiceTree.of(CHOICES)
    assert tree.tokens == (8, 10, 9)  # [8], [8, 10], [8, 9]; the last token of a choice is only predicted
    assert tree.depths == (1, 2, 2)
    assert tree.sees == ((True, False, False), (True, True, False), (True, False, True))
    assert tree.depth == 3
    assert ChoiceTree.of([[5], [6]]).tokens == ()


def test_sums_follow_every_choice():
    tree = ChoiceTree.of(CHOICES)
    values = torch.randn(2, 1 + len(tree.tokens), 13, generator=torch.Generator().manual_seed(0))
    position = {(): 0, (8,): 1, (8, 10): 2, (8, 9): 3}  # of what was read before a token is predicted
    expected = [
        [sum(float(row[position[tuple(choice[:at])], token]) for at, token in enumerate(choice)) for choice in CHOICES]
        for row in values
    ]
    torch.testing.assert_close(gather(values, [tree], [0, 0]), torch.tensor(expected))


@pytest.mark.parametrize("length", [0, 2])
def test_the_mask_shows_a_node_the_prompt_the_text_and_the_nodes_above_it(length):
    tree = ChoiceTree.of(CHOICES)
    text = torch.tensor([[1, 1, 1], [0, 1, 1]])
    mask = tree_mask(text, length, [tree], [0, 0], torch.float32)
    assert mask.shape == (2, 1, 3 + 3, length + 3 + 3)
    for row, tokens in enumerate(text.tolist()):
        for at in range(6):
            seen = {key - length for key, value in enumerate(mask[row, 0, at].tolist()) if value == 0}
            prompt = set(range(-length, 0))
            if at < 3:
                assert seen == prompt | {at} | {key for key in range(at) if tokens[key]}
            else:
                above = {3 + node for node in range(3) if tree.sees[at - 3][node]}
                assert seen == prompt | {key for key in range(3) if tokens[key]} | above


def test_rows_of_unlike_trees_have_the_sums_and_the_sight_of_their_own():
    trees = [ChoiceTree.of(CHOICES), ChoiceTree.of([[5], [6]]), ChoiceTree.of([[5, 6, 7], [5, 6, 8, 9]])]
    which = [2, 0, 1, 2]
    nodes = max(len(tree.tokens) for tree in trees)
    values = torch.randn(4, 1 + nodes, 13, generator=torch.Generator().manual_seed(0))
    sums = gather(values, trees, which)
    text = torch.tensor([[1, 1, 0]] * 4)
    mask = tree_mask(text, 2, trees, which, torch.float32)
    for row, number in enumerate(which):
        alone, size = gather(values[row : row + 1], trees, [number])[0], len(trees[number].steps)
        torch.testing.assert_close(sums[row, :size], alone)
        assert not sums[row, size:].any()
        count = 3 + len(trees[number].tokens)
        own = tree_mask(text[:1], 2, trees, [number], torch.float32)[0, 0]
        torch.testing.assert_close(mask[row, 0, :count, : 2 + count], own)
        assert (mask[row, 0, :count, 2 + count :] < 0).all()
