"""Lay out the answers to choose from as one tree of tokens, so that a beginning that several share is read once a row.

Letters: B rows, S input tokens, P prompt tokens, C choices, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChoiceTree:
    """Choices as a prefix tree. Node n stands for a proper beginning of one or more choices.

    Attributes:
        tokens, depths: of each node; the root (depth 0) is the last text token and no node.
        sees: [nodes, nodes], whether a node stands below another, itself included.
        steps: for each choice its pairs (position among root and nodes, token predicted there).
        depth: tokens of the longest choice.
    """

    tokens: tuple[int, ...]
    depths: tuple[int, ...]
    sees: tuple[tuple[bool, ...], ...]
    steps: tuple[tuple[tuple[int, int], ...], ...]
    depth: int

    @classmethod
    def of(cls, choices: Sequence[Sequence[int]]) -> "ChoiceTree":
        """The tree of C non-empty token sequences."""
        nodes: dict[tuple[int, ...], int] = {}
        steps: list[tuple[tuple[int, int], ...]] = []
        for choice in choices:
            walk = [(0, choice[0])]
            for end in range(1, len(choice)):
                node = nodes.setdefault(tuple(choice[:end]), len(nodes))
                walk.append((1 + node, choice[end]))
            steps.append(tuple(walk))
        paths = list(nodes)
        sees = tuple(tuple(path[: len(other)] == other for other in paths) for path in paths)
        return cls(
            tokens=tuple(path[-1] for path in paths),
            depths=tuple(len(path) for path in paths),
            sees=sees,
            steps=tuple(steps),
            depth=max(len(choice) for choice in choices),
        )


def gather(log_probabilities: Tensor, trees: Sequence[ChoiceTree], which: Sequence[int]) -> Tensor:
    """Sum log-probabilities along every choice of each row's tree.

    Args:
        log_probabilities: [B, 1 + nodes, V], of the tokens behind the text and behind each node.
        trees: of the sets of choices.
        which: of the trees each row has, B numbers.

    Returns:
        [B, C] nats, C choices in the largest tree; 0 behind the choices of a smaller one.
    """
    widest = max(len(trees[number].steps) for number in which)
    scores = log_probabilities.new_zeros(len(which), widest)
    for number, rows in _rows_by_tree(which).items():
        part = log_probabilities[torch.tensor(rows, device=log_probabilities.device)]
        for choice, walk in enumerate(trees[number].steps):
            positions, tokens = (torch.tensor(numbers, device=part.device) for numbers in zip(*walk, strict=True))
            scores[rows, choice] = part[:, positions, tokens].sum(dim=1)
    return scores


def tree_mask(
    mask: Tensor, length: int, trees: Sequence[ChoiceTree], which: Sequence[int], dtype: torch.dtype
) -> Tensor:
    """Who sees whom when a tree of choices stands behind each text and a prompt of `length` tokens before it.

    Args:
        mask: [B, S], 1 at tokens.
        length: P, always seen.
        trees: of the sets of choices; a node sees prompt, text, the nodes above it and itself.
        which: of the trees each row has, B numbers.
        dtype: of the model.

    Returns:
        Additive attention mask [B, 1, S + nodes, P + S + nodes].
    """
    (rows, width), nodes = mask.shape, max(len(trees[number].tokens) for number in which)
    seen = torch.zeros(rows, width + nodes, length + width + nodes, dtype=torch.bool, device=mask.device)
    seen[:, :, :length] = True
    text = slice(length, length + width)
    seen[:, :, text] = torch.ones(width + nodes, width, dtype=torch.bool, device=mask.device).tril()
    seen[:, :, text] &= mask.bool()[:, None]
    for number, below in _rows_by_tree(which).items():
        if count := len(trees[number].tokens):
            sees = torch.tensor(trees[number].sees, device=mask.device)
            seen[below, width : width + count, length + width : length + width + count] = sees
    diagonal = torch.arange(width + nodes, device=mask.device)
    seen[:, diagonal, length + diagonal] = True  # a pad sees itself, so that no row of the softmax is empty
    return torch.zeros(seen.shape, dtype=dtype, device=mask.device).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def _rows_by_tree(which: Sequence[int]) -> dict[int, list[int]]:
    """The rows of each tree that a row has."""
    rows: dict[int, list[int]] = defaultdict(list)
    for row, number in enumerate(which):
        rows[number].append(row)
    return rows
