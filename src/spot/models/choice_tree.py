"""Lay out the answers to choose from as one tree of tokens, so that a beginning that several share is read once a row.

Letters: B rows, S input tokens, P prompt tokens, C choices, V vocabulary.
"""

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

    def gather(self, log_probabilities: Tensor) -> Tensor:
        """Sum log-probabilities [B, 1 + nodes, V] along every choice: [B, C]."""
        sums = []
        for walk in self.steps:
            positions, tokens = (
                torch.tensor(part, device=log_probabilities.device) for part in zip(*walk, strict=True)
            )
            sums.append(log_probabilities[:, positions, tokens].sum(dim=1))
        return torch.stack(sums, dim=1)


def tree_mask(mask: Tensor, length: int, tree: ChoiceTree, dtype: torch.dtype) -> Tensor:
    """Who sees whom when a tree of choices stands behind the text and a prompt of `length` tokens before it.

    Args:
        mask: [B, S], 1 at tokens, pads on the left.
        length: P, always seen.
        tree: a node sees prompt, text, the nodes above it and itself.
        dtype: of the model.

    Returns:
        Additive attention mask [B, 1, S + nodes, P + S + nodes].
    """
    (rows, width), nodes = mask.shape, len(tree.tokens)
    seen = torch.zeros(rows, width + nodes, length + width + nodes, dtype=torch.bool, device=mask.device)
    seen[:, :, :length] = True
    text = slice(length, length + width)
    seen[:, :, text] = torch.ones(width + nodes, width, dtype=torch.bool, device=mask.device).tril()
    seen[:, :, text] &= mask.bool()[:, None]
    seen[:, width:, length + width :] = torch.tensor(tree.sees, device=mask.device)
    diagonal = torch.arange(width, device=mask.device)
    seen[:, diagonal, length + diagonal] = True  # a pad sees itself, so that no row of the softmax is empty
    return torch.zeros(seen.shape, dtype=dtype, device=mask.device).masked_fill(~seen, torch.finfo(dtype).min)[:, None]
