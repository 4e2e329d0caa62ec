"""Lay out rows and prompts in tensors: token ids, masks, pads on either side, prompts before the text.

Letters: B rows, S input tokens, T target tokens, P prompt tokens, D width, R prompts in one call.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

IGNORED = -100  # label of a position without a target token


@dataclass(frozen=True)
class Batch:
    """Rows as tensors: the model's side of the border that `collator.Collator` draws.

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

    def aligned(self, side: Literal["left", "right"]) -> "Batch":
        """The same rows with all pads on one side, in the rows' order of tokens."""
        key = self.attention_mask if side == "left" else 1 - self.attention_mask
        order = key.argsort(dim=1, stable=True)
        return replace(
            self, input_ids=self.input_ids.gather(1, order), attention_mask=self.attention_mask.gather(1, order)
        )

    def rows(self, start: int, stop: int) -> "Batch":
        """Rows `start` to `stop` as a batch of their own."""
        part = slice(start, stop)
        return Batch(
            input_ids=self.input_ids[part],
            attention_mask=self.attention_mask[part],
            labels=self.labels[part],
            prompt_index=self.prompt_index[part],
        )


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
