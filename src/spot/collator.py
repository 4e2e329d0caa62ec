"""The border between text and tensors: rows of a task become token ids here, and nowhere else."""

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice, pairwise
from typing import cast

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from spot.errors import TaskError
from spot.models.backbone import Backbone
from spot.models.batch import IGNORED, Batch
from spot.models.checkpoints import locate
from spot.models.loading import read_tokenizer
from spot.reading import Reading
from spot.tasks.task import Example, Task

log = logging.getLogger(__name__)

CHUNK = 1000  # rows that are tokenised at a time where only their lengths are kept


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
        reading: how the rows become text, and what may be answered.
        device: where batches go.
    """

    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    kind: str
    reading: Reading = field(default_factory=Reading)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def labels(self) -> tuple[str, ...]:
        """The label words; none for open answers."""
        return self.reading.words

    @property
    def max_input_tokens(self) -> int:
        """Longest input in tokens, special tokens and cue included."""
        return self.reading.max_input_tokens

    @property
    def max_target_tokens(self) -> int:
        """Longest open answer in tokens, end token included."""
        return self.reading.max_target_tokens

    @cached_property
    def _spelled(self) -> Reading:
        """The reading with cue and separator as this kind of model gets them."""
        return self.reading.for_kind(self.kind)

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
            raise TaskError(
                f"{self.max_input_tokens} input tokens leave no room for text beside {self.max_input_tokens - room} "
                "special ones: give more max_input_tokens, or a shorter prompt where the model has no more positions"
            )
        texts = self.tokenizer([example.inputs for example in examples], add_special_tokens=False)["input_ids"]
        rows = []
        long_targets = 0
        for example, ids in zip(examples, texts, strict=True):
            part = ids[:room] if self.reading.truncate == "right" else ids[-room:]
            target = self._words(example.answers[0]) + self._end if example.answers else ()
            if not self.labels and len(target) > self.max_target_tokens:
                long_targets += 1
                target = target[: self.max_target_tokens - len(self._end)] + self._end
            rows.append(Row(head + tuple(part) + cue + tail, target, len(ids) > room))
        if long_targets:
            log.warning(
                "%d of %d answers were longer than %d tokens and lost their end (max_target_tokens)",
                long_targets,
                len(rows),
                self.max_target_tokens,
            )
        cut = sum(row.cut for row in rows)
        if cut:
            log.warning(
                "%d of %d inputs were longer than %d tokens and lost their %s end (max_input_tokens, truncate)",
                cut,
                len(rows),
                self.max_input_tokens,
                self.reading.truncate,
            )
        return rows

    def batch(self, rows: Sequence[Row], prompt_index: Sequence[int] | None = None) -> Batch:
        """Pad rows on the right into one batch; row b uses prompt `prompt_index[b]`, by default the first."""
        inputs = _padded([row.input_ids for row in rows], 0)
        mask = _padded([(1,) * len(row.input_ids) for row in rows], 0)
        labels = _padded([row.target_ids for row in rows], IGNORED)
        index = torch.zeros(len(rows), dtype=torch.long) if prompt_index is None else torch.tensor(prompt_index)
        return Batch(*(part.to(self.device) for part in (inputs, mask, labels, index)))

    def answer_in(self, generated: str) -> str:
        """The answer that generated text gives: itself, or the label that it begins with where labels have no end."""
        text = generated.strip()
        if not self.labels or self._end:
            return text
        words = self._words(text)
        pairs = zip(self.labels, self.choices, strict=True)
        return next((label for label, ids in pairs if words[: len(ids)] == ids), text)

    @cached_property
    def _specials(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The special tokens that the tokenizer puts before and behind an input."""
        ids = tuple(self.tokenizer("")["input_ids"])
        if self.kind == "causal":
            return tuple(token for token in ids if token != self.tokenizer.eos_token_id), ()
        return (ids[:1], ids[1:]) if len(ids) > 1 else ((), ids)

    @cached_property
    def _words_after_input(self) -> tuple[int, ...]:
        """The cue's tokens."""
        return tuple(self.tokenizer(self._spelled.cue, add_special_tokens=False)["input_ids"])

    def _words(self, answer: str) -> tuple[int, ...]:
        """Token ids of an answer as it follows the input."""
        text = f"{self._spelled.separator}{answer}" if answer else ""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _end(self) -> tuple[int, ...]:
        """The end token behind an answer, as the reading has it."""
        end = (cast(int, self.tokenizer.eos_token_id),)
        if self.reading.end != "auto":
            return end if self.reading.end == "always" else ()
        plain = sorted(self._words(label) for label in self.labels)
        goes_on = any(longer[: len(shorter)] == shorter for shorter, longer in pairwise(plain))
        if self.kind == "seq2seq" or goes_on or not self.labels:
            return end
        return ()


@dataclass(frozen=True)
class SplitLengths:
    """How long the rows of one split are on one backbone.

    Attributes:
        split: its name.
        rows: number of examples.
        labels: label word -> rows; empty for open answers.
        inputs: 5th, 50th, 95th percentile and maximum of the input tokens, special tokens and cue included, uncut.
        targets: the same of the tokens of the first answer.
        cut: share of the rows that are longer than the limit, percent.
    """

    split: str
    rows: int
    labels: Mapping[str, int]
    inputs: tuple[float, ...]
    targets: tuple[float, ...]
    cut: float


def split_lengths(task: Task, split: str, collator: Collator) -> SplitLengths:
    """Count tokens and labels of all rows of a split; only lengths stay in memory.

    Raises:
        TaskError: the split has no rows, or they cannot be read.
    """
    whole = replace(collator, reading=replace(collator.reading, max_input_tokens=sys.maxsize))
    labels: Counter[str] = Counter(dict.fromkeys(task.labels, 0))
    lengths: list[tuple[int, int]] = []
    examples = iter(task.load(split))
    while part := list(islice(examples, CHUNK)):
        labels.update(example.answers[0] for example in part if task.labels and example.answers)
        lengths += [(len(row.input_ids), len(row.target_ids)) for row in whole.encode(part)]
    if not lengths:
        raise TaskError(f"{task.name} has no rows in its split {split!r}; expected at least one. Give other data.")
    inputs, targets = np.array(lengths).T
    return SplitLengths(
        split=split,
        rows=len(lengths),
        labels=dict(labels),
        inputs=_quantiles(inputs),
        targets=_quantiles(targets),
        cut=100 * float(np.mean(inputs > collator.max_input_tokens)),
    )


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    """5th, 50th and 95th percentile, and the maximum."""
    return tuple(float(value) for value in np.percentile(values, [5, 50, 95, 100]))


def collator_for(backbone: Backbone, task: Task, *, length: int = 0, reading: Reading | None = None) -> Collator:
    """The collator of a task on a backbone; inputs are kept within the model's positions.

    Args:
        backbone: gives tokenizer and positions.
        task: gives the labels, and how rows are read where `reading` is left out.
        length: prompt tokens P, which take positions too.
        reading: of the prompt or the run; its labels are the task's where it has none.
    """
    return collator_of_reading(backbone, (reading or task.reading).of_labels(task.labels), length=length)


def collator_of_reading(backbone: Backbone, reading: Reading, *, length: int = 0) -> Collator:
    """The collator of rows that are read so, whatever their task; as `collator_for`, which takes a task's labels.

    Args:
        backbone: gives tokenizer and positions.
        reading: with the labels to choose from.
        length: prompt tokens P, which take positions too.
    """
    collator = Collator(backbone.tokenizer, backbone.id.kind, reading, backbone.device)
    if backbone.max_positions is None:
        return collator
    longest = max((len(choice) for choice in collator.choices), default=reading.max_target_tokens)
    # What leaves no room for text is refused with the first rows, which says what to change.
    limit = max(1, min(reading.max_input_tokens, backbone.max_positions - length - longest))
    return replace(collator, reading=replace(reading, max_input_tokens=limit))


def collator_named(backbone: str, task: Task, max_input_tokens: int | None = None) -> Collator:
    """The collator of a task on a backbone whose weights stay on disk: for counting tokens.

    Raises:
        BackboneError: nothing of that name can be had.
    """
    checkpoint = locate(backbone)
    tokenizer = read_tokenizer(checkpoint)
    limit = task.reading.max_input_tokens if max_input_tokens is None else max_input_tokens
    return Collator(tokenizer, checkpoint.id.kind, replace(task.reading, max_input_tokens=limit))


def by_length(rows: Sequence[Row], tokens: int) -> list[list[int]]:
    """Row numbers in batches of similar length, each of at most `tokens` padded input tokens."""
    return packed(range(len(rows)), [len(row.input_ids) for row in rows], tokens)


def packed(rows: Iterable[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Rows, the longest first, in batches of at most `tokens` padded tokens and at least one row."""
    batches: list[list[int]] = []
    for row in sorted(rows, key=lambda row: -lengths[row]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _padded(sequences: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """[B, longest] int64, padded on the right."""
    longest = max((len(sequence) for sequence in sequences), default=0)
    return (
        torch.tensor([list(sequence) + [pad] * (longest - len(sequence)) for sequence in sequences])
        .reshape(len(sequences), longest)
        .long()
    )
