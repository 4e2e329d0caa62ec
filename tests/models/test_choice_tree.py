"""The tree of choices: its nodes, who sees whom, and sums along it, each against a walk by hand."""

import pytest
import torch

from spot.models.choice_tree import ChoiceTree, tree_mask
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
    torch.testing.assert_close(tree.gather(values), torch.tensor(expected))


@pytest.mark.parametrize("length", [0, 2])
def test_the_mask_shows_a_node_the_prompt_the_text_and_the_nodes_above_it(length):
    tree = ChoiceTree.of(CHOICES)
    text = torch.tensor([[1, 1, 1], [0, 1, 1]])
    mask = tree_mask(text, length, tree, torch.float32)
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
