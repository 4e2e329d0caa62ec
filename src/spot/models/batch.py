"""How rows, prompts and answers lie in tensors: everything about positions, pads and masks, and no model.

Letters: B rows, S input tokens, T target tokens, P prompt tokens, D width, R prompts in one call, C choices,
V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100  # label of a position without a target token


@dataclass(frozen=True)
class Batch:
    """Rows as tensors: the model's side of the border that `batching.Collator` draws.

    Attributes:
        input_ids: [B, S] token ids, padded on any side.
        attention_mask: [B, S], 1 at tokens and 0 at pads.
        labels: [B, T] target token ids, right-padded with -100; T = 0 where no row has a target.
        prompt_index: [B], which of the R prompts each row uses.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    prompt_index: Tensor

    @property
    def tokens(self) -> int:
        """Input tokens without pads."""
        return int(self.attention_mask.sum())

    def aligned(self, side: str) -> "Batch":
        """The same rows with all pads on `side` (`left` or `right`), in the rows' order of tokens."""
        key = self.attention_mask if side == "left" else 1 - self.attention_mask
        order = key.argsort(dim=1, stable=True)
        return Batch(
            self.input_ids.gather(1, order), self.attention_mask.gather(1, order), self.labels, self.prompt_index
        )

    def rows(self, start: int, stop: int) -> "Batch":
        """Rows `start` to `stop` as a batch of their own."""
        part = slice(start, stop)
        return Batch(self.input_ids[part], self.attention_mask[part], self.labels[part], self.prompt_index[part])


@dataclass(frozen=True)
class Prefix:
    """R prompts as the model takes them.

    Attributes:
        vectors: [R, P, D].
        cache: for each layer keys and values [R, heads, P, head width]; None where the model cannot share them.
    """

    vectors: Tensor
    cache: tuple[tuple[Tensor, Tensor], ...] | None = None

    @property
    def length(self) -> int:
        """P, in tokens."""
        return self.vectors.shape[1]


@dataclass(frozen=True)
class Tree:
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
    def of(cls, choices: Sequence[Sequence[int]]) -> "Tree":
        """The tree of C non-empty token sequences."""
        nodes: dict[tuple[int, ...], int] = {}
        steps = []
        for choice in choices:
            walk = [(0, choice[0])]
            for end in range(1, len(choice)):
                node = nodes.setdefault(tuple(choice[:end]), len(nodes))
                walk.append((1 + node, choice[end]))
            steps.append(tuple(walk))
        paths = list(nodes)
        sees = tuple(tuple(path[: len(other)] == other for other in paths) for path in paths)
        return cls(
            tuple(path[-1] for path in paths),
            tuple(len(path) for path in paths),
            sees,
            tuple(steps),
            max(len(choice) for choice in choices),
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


def prompt_before_text(prompts: Tensor, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Put each row's prompt directly before its text: [pads][prompt][text].

    Args:
        prompts: [B, P, D], P > 0.
        vectors: [B, S, D], embedded rows with all pads on the left.
        mask: [B, S], 1 at tokens.

    Returns:
        Vectors [B, P + S, D] and their mask [B, P + S].
    """
    length, width = prompts.shape[1], vectors.shape[1]
    pads = mask.argmax(dim=1)[:, None]
    index = torch.arange(length + width, device=mask.device)[None]
    in_prompt = (index >= pads) & (index < pads + length)
    from_text = torch.where(index < pads, index, index - length).clamp(min=0)
    from_prompt = (index - pads).clamp(0, length - 1)
    spread = (-1, -1, vectors.shape[2])
    text = vectors.gather(1, from_text[:, :, None].expand(spread))
    prompt = prompts.gather(1, from_prompt[:, :, None].expand(spread))
    return torch.where(in_prompt[:, :, None], prompt, text), torch.where(in_prompt, 1, mask.gather(1, from_text))


def tree_mask(mask: Tensor, length: int, tree: Tree, dtype: torch.dtype) -> Tensor:
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
