"""The border between text and tensors: rows of a task become token ids here, and nowhere else."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from spot.backbone import Backbone
from spot.errors import TaskError
from spot.layout import IGNORED, Batch
from spot.tasks.base import Example, Task

log = logging.getLogger(__name__)

CUE = "\nAnswer:"  # ends the input of a causal model, which must be told that the answer comes next
POOL = 16  # batches that are sorted by length together: little padding, much shuffling


@dataclass(frozen=True)
class Row:
    """One example as token ids.

    Attributes:
        input_ids: special tokens included, cut to the collator's limit.
        target_ids: of the first accepted answer; empty where there is none.
        cut: whether the input was longer than the limit.
    """

    input_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    cut: bool


@dataclass(frozen=True)
class Collator:
    """Turns the examples of one task into rows of one backbone, and rows into batches.

    Attributes:
        tokenizer: of the backbone.
        kind: `causal` or `seq2seq`.
        labels: the task's label words; empty for open answers.
        max_input_tokens: longest input, special tokens and cue included.
        truncate: the side that loses tokens, `right` or `left`.
        device: where batches go.
    """

    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    kind: str
    labels: tuple[str, ...] = ()
    max_input_tokens: int = 96
    truncate: str = "right"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @cached_property
    def choices(self) -> tuple[tuple[int, ...], ...]:
        """Token ids of each label.

        Raises:
            TaskError: a label has no tokens, or two labels have the same.
        """
        plain = [self._words(label) for label in self.labels]
        for label, ids in zip(self.labels, plain, strict=True):
            if not ids:
                raise TaskError(
                    f"the label {label!r} has no tokens in this backbone's vocabulary; expected a word; "
                    "give it another word under [labels] in the task file"
                )
        if len(set(plain)) < len(plain):
            twins = [label for label, ids in zip(self.labels, plain, strict=True) if plain.count(ids) > 1]
            raise TaskError(f"the labels {twins} have the same tokens; give them different words in the task file")
        return tuple(ids + self._end for ids in plain)

    def encode(self, examples: Sequence[Example]) -> list[Row]:
        """Tokenise examples; how many inputs were cut is logged once."""
        head, tail = self._specials
        cue = self._words_after_input
        room = self.max_input_tokens - len(head) - len(tail) - len(cue)
        if room < 1:
            raise TaskError(f"max_input_tokens = {self.max_input_tokens} leaves no room for text; give at least "
                            f"{self.max_input_tokens - room + 1}")  # fmt: skip
        texts = self.tokenizer([example.inputs for example in examples], add_special_tokens=False)["input_ids"]
        rows = []
        for example, ids in zip(examples, texts, strict=True):
            kept = ids[:room] if self.truncate == "right" else ids[-room:]
            target = self._words(example.answers[0]) + self._end if example.answers else ()
            rows.append(Row(head + tuple(kept) + cue + tail, target, len(ids) > room))
        cut = sum(row.cut for row in rows)
        if cut:
            log.warning("%d of %d inputs were longer than %d tokens and lost their %s end (max_input_tokens, truncate)",
                        cut, len(rows), self.max_input_tokens, self.truncate)  # fmt: skip
        return rows

    def batch(self, rows: Sequence[Row], prompt_index: Sequence[int] | None = None) -> Batch:
        """Pad rows on the right into one batch; row b uses prompt `prompt_index[b]`, by default the first."""
        inputs = _padded([row.input_ids for row in rows], 0)
        mask = _padded([(1,) * len(row.input_ids) for row in rows], 0)
        labels = _padded([row.target_ids for row in rows], IGNORED)
        index = torch.zeros(len(rows), dtype=torch.long) if prompt_index is None else torch.tensor(prompt_index)
        return Batch(*(part.to(self.device) for part in (inputs, mask, labels, index)))

    @cached_property
    def _specials(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The special tokens that the tokenizer puts before and behind an input."""
        ids = tuple(self.tokenizer("")["input_ids"])
        if self.kind == "causal":
            return tuple(token for token in ids if token != self.tokenizer.eos_token_id), ()
        return (ids[:1], ids[1:]) if len(ids) > 1 else ((), ids)

    @cached_property
    def _words_after_input(self) -> tuple[int, ...]:
        if self.kind == "seq2seq":
            return ()
        return tuple(self.tokenizer(CUE, add_special_tokens=False)["input_ids"])

    def _words(self, answer: str) -> tuple[int, ...]:
        """Token ids of an answer as it follows the input."""
        text = answer if self.kind == "seq2seq" or not answer else f" {answer}"
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _end(self) -> tuple[int, ...]:
        """The end token behind an answer: always in seq2seq; else where an answer could go on without it."""
        plain = sorted(self._words(label) for label in self.labels)
        goes_on = any(longer[: len(shorter)] == shorter for shorter, longer in pairwise(plain))
        if self.kind == "seq2seq" or goes_on or not self.labels:
            return (self.tokenizer.eos_token_id,)
        return ()


def collator_for(
    backbone: Backbone, task: Task, *, length: int = 0, max_input_tokens: int = 96, truncate: str = "right"
) -> Collator:
    """The collator of a task on a backbone; inputs are kept within the model's positions.

    Args:
        backbone: gives tokenizer and positions.
        task: gives the labels.
        length: prompt tokens P, which take positions too.
        max_input_tokens: longest input in tokens.
        truncate: the side that loses tokens.
    """
    limit = max_input_tokens
    if backbone.max_positions is not None:
        probe = Collator(backbone.tokenizer, backbone.id.kind, task.labels)
        longest = max((len(choice) for choice in probe.choices), default=64)
        limit = min(limit, backbone.max_positions - length - longest)
    return Collator(backbone.tokenizer, backbone.id.kind, task.labels, limit, truncate, backbone.device)


def plan_batches(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> list[list[int]]:
    """Which rows each step takes: endless shuffled epochs, cut into pools that are sorted by length.

    Args:
        lengths: tokens of each row.
        batch_size: rows a step.
        steps: number of batches.
        seed: the plan depends on nothing else.

    Returns:
        `steps` lists of `batch_size` row numbers.
    """
    random = np.random.default_rng(seed)
    pool_rows = POOL * batch_size
    order: list[int] = []
    batches: list[list[int]] = []
    while len(batches) < steps:
        while len(order) < pool_rows:
            order.extend(random.permutation(len(lengths)).tolist())
        pool, order = sorted(order[:pool_rows], key=lengths.__getitem__), order[pool_rows:]
        cut = [pool[start : start + batch_size] for start in range(0, pool_rows, batch_size)]
        batches.extend(cut[number] for number in random.permutation(len(cut)))
    return batches[:steps]


def by_length(rows: Sequence[Row], tokens: int) -> list[list[int]]:
    """Row numbers in batches of similar length, each of at most `tokens` padded input tokens."""
    batches: list[list[int]] = []
    for number in sorted(range(len(rows)), key=lambda number: -len(rows[number].input_ids)):
        longest = len(rows[batches[-1][0]].input_ids) if batches else 0
        if batches and longest * (len(batches[-1]) + 1) <= tokens:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches


def _padded(sequences: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """[B, longest] int64, padded on the right."""
    longest = max((len(sequence) for sequence in sequences), default=0)
    return torch.tensor([list(sequence) + [pad] * (longest - len(sequence)) for sequence in sequences]).reshape(
        len(sequences), longest
    ).long()
