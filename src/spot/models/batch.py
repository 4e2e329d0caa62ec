"""Lay out rows and prompts in tensors: token ids, masks, labels, and which rows stand in one call.

Letters: B rows, S input tokens, T target tokens, P prompt tokens, D width, R prompts in one call.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Cache

from spot.models.ways import Together

IGNORED = -100  # label of a position without a target token


@dataclass(frozen=True)
class Batch:
    """Rows as tensors: the model's side of the border that `collator.Collator` draws.

    Attributes:
        input_ids: [B, S] token ids, padded on any side.
        attention_mask: [B, S], 1 at tokens and 0 at pads.
        labels: [B, T] target token ids, right-padded with -100; T = 0 where no row has a target.
        prompt_index: [B], which of the R prompts each row uses.
        choice_index: [B], which of the sets of choices each row is scored on; None where there is one set.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    prompt_index: Tensor
    choice_index: Tensor | None = None

    def packed(self) -> "Batch":
        """The same rows with all pads on the right, in the rows' order of tokens."""
        ids, mask = pads_last(self.input_ids, self.attention_mask)
        return replace(self, input_ids=ids, attention_mask=mask)

    def rows(self, which: slice | Tensor) -> "Batch":
        """Some of the rows as a batch of their own, as wide as before."""
        return Batch(
            input_ids=self.input_ids[which],
            attention_mask=self.attention_mask[which],
            labels=self.labels[which],
            prompt_index=self.prompt_index[which],
            choice_index=None if self.choice_index is None else self.choice_index[which],
        )

    def choices(self) -> list[int]:
        """Which set of choices each row is scored on."""
        return [0] * len(self.input_ids) if self.choice_index is None else self.choice_index.tolist()

    def in_groups(self, together: Together, compute: Callable[["Batch"], Tensor]) -> Tensor:
        """Compute [B, ..] for rows in calls of such rows as may stand together; in the order of the rows.

        Args:
            together: which rows may.
            compute: for the rows of one call; what it gives for shorter targets is padded with 0.
        """
        if together == "padded":
            return compute(self)
        groups = self.groups(together)
        parts = [compute(rows) for _, rows in groups]
        if parts[0].ndim > 1:
            widest = max(part.shape[1] for part in parts)
            parts = [functional.pad(part, (0, widest - part.shape[1])) for part in parts]
        return torch.cat(parts)[torch.cat([numbers for numbers, _ in groups]).argsort()]

    def groups(self, together: Together) -> list[tuple[Tensor, "Batch"]]:
        """The rows of each call where such rows as `together` says may stand in one, and their numbers here."""
        return [(numbers, self.rows(numbers)._trimmed()) for numbers in self._numbers(together)]

    def _numbers(self, together: Together) -> list[Tensor]:
        """Row numbers of each call."""
        count, device = len(self.input_ids), self.input_ids.device
        if together == "padded":
            return [torch.arange(count, device=device)]
        if together == "alone":
            return list(torch.arange(count, device=device)[:, None])
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        inputs, targets = self.attention_mask.sum(1).tolist(), (self.labels != IGNORED).sum(1).tolist()
        for row, shape in enumerate(zip(inputs, targets, strict=True)):
            groups[shape].append(row)
        return [torch.tensor(group, device=device) for group in groups.values()]

    def _trimmed(self) -> "Batch":
        """Packed rows without the columns that are pads in every row."""
        batch = self.packed()
        width, targets = int(self.attention_mask.sum(1).max()), int((self.labels != IGNORED).sum(1).max())
        return replace(
            batch,
            input_ids=batch.input_ids[:, :width],
            attention_mask=batch.attention_mask[:, :width],
            labels=self.labels[:, :targets],
        )


@dataclass(frozen=True)
class Prefix:
    """R prompts as the model takes them.

    Attributes:
        vectors: [R, P, D].
        states: what every layer keeps of the R prompts; None where each row reads its prompt itself.
    """

    vectors: Tensor
    states: Cache | None = None

    @property
    def length(self) -> int:
        """P, in tokens."""
        return self.vectors.shape[1]


def pads_last(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids [B, S] and their mask with all pads on the right, the tokens in their order."""
    order = (1 - mask).argsort(dim=1, stable=True)
    return ids.gather(1, order), mask.gather(1, order)


def token_nats(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-probability [B, T] of labels [B, T] under logits [B, T, V]; 0 where a label is -100."""
    # Flat, so that the vocabulary is summed along memory: along another axis float32 loses 2e-5 of the loss.
    flat = logits.flatten(0, 1).float()
    losses = functional.cross_entropy(flat, labels.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.reshape(labels.shape)


def choice_pairs(choice_sets: Sequence[Sequence[Sequence[int]]], batch: Batch) -> tuple[Tensor, Tensor]:
    """All N pairs of a row and one of its choices: the rows' numbers [N], and the choices as labels [N, T]."""
    device = batch.input_ids.device
    pairs = [(row, choice) for row, number in enumerate(batch.choices()) for choice in choice_sets[number]]
    longest = max(len(choice) for _, choice in pairs)
    labels = [list(choice) + [IGNORED] * (longest - len(choice)) for _, choice in pairs]
    return torch.tensor([row for row, _ in pairs], device=device), torch.tensor(labels, device=device)


def unpaired(values: Tensor, choice_sets: Sequence[Sequence[Sequence[int]]], batch: Batch) -> Tensor:
    """What was computed for the pairs [N] of `choice_pairs`, by row: [B, C], padded with 0."""
    counts = [len(choice_sets[number]) for number in batch.choices()]
    return torch.nn.utils.rnn.pad_sequence(list(values.split(counts)), batch_first=True)
