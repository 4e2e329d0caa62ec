"""The border between text and tensors: rows of a task become token ids here, and nowhere else."""

import logging
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice, pairwise
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from spot.chat import ChatForm, chat_form
from spot.errors import TaskError
from spot.models.batch import IGNORED, Batch
from spot.models.checkpoints import locate
from spot.models.loading import read_tokenizer
from spot.prompts.prompt import BackboneId
from spot.reading import Reading
from spot.tasks.task import Example, Task
from spot.tokenization import BEFORE, Around, Part, Parts, Tokenization, levelled

log = logging.getLogger(__name__)

CHUNK = 1000  # rows that are tokenised at a time where only their lengths are kept
MOSTLY = 0.5  # share of unknown tokens from which on a model reads next to nothing of the rows


class Vocabulary(Protocol):
    """What encoding needs of a backbone: not its weights."""

    @property
    def id(self) -> BackboneId:
        """Its identity, which says whether it is causal or seq2seq."""
        ...

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its rows are read."""
        ...

    @property
    def max_positions(self) -> int | None:
        """Longest sequence in tokens, prompt included; None where there is no end."""
        ...


@dataclass(frozen=True)
class Row:
    """One example as token ids.

    Attributes:
        input_ids: special tokens included, cut to the collator's limit.
        target_ids: of the first accepted answer; empty where there is none.
        lost: how many tokens of the input did not fit.
        unknown: how many tokens of the whole input stand for what the vocabulary lacks.
    """

    input_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    lost: int = 0
    unknown: int = 0


@dataclass(frozen=True)
class Collator:
    """Turns the examples of one task into rows of one backbone, and rows into batches.

    Attributes:
        tokenizer: of the backbone.
        kind: `causal` or `seq2seq`.
        reading: how the rows become text, and what may be answered.
        device: where batches go.
        tokenization: of the tokenizer, where several collators share one; left out: one of its own.
    """

    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    kind: str
    reading: Reading = field(default_factory=Reading)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    tokenization: Tokenization | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse chat form where the backbone has none, before any row is read.

        Raises:
            TaskError: the model is seq2seq, or its tokenizer's chat template is none or cannot be used.
        """
        _ = self._chat

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

    @property
    def answer_end(self) -> int | None:
        """The token that ends an answer in training, at which generation must stop too; None where none does."""
        return self._end[0] if self._end else None

    @cached_property
    def tokens(self) -> Tokenization:
        """What the tokenizer makes of texts."""
        return Tokenization(self.tokenizer) if self.tokenization is None else self.tokenization

    @cached_property
    def _spelled(self) -> Reading:
        """The reading with cue and separator as this kind of model gets them."""
        return self.reading.for_kind(self.kind)

    @cached_property
    def _chat(self) -> ChatForm | None:
        """What stands around an input in chat form; None in plain form."""
        if not self.reading.chat:
            return None
        if self.kind == "seq2seq":
            raise TaskError(
                "chat form is asked for, and this backbone is a seq2seq model, whose answers follow no turn; expected "
                "a causal one. Leave chat out."
            )
        return chat_form(self.tokenizer, self.reading.system)

    @cached_property
    def choices(self) -> tuple[tuple[int, ...], ...]:
        """Token ids of each label.

        Raises:
            TaskError: a label has no tokens or unknown ones, two labels have the same, or one begins another and no
                end token can tell them apart.
        """
        plain = self._label_tokens
        for label, ids in zip(self.labels, plain, strict=True):
            if not ids:
                raise TaskError(
                    f"the label {label!r} has no tokens in this backbone's vocabulary; expected a word; "
                    "give it another word under [labels] in the task file"
                )
            if self.tokens.unknown in ids:
                raise TaskError(
                    f"the label {label!r} has characters that this backbone's vocabulary lacks, so the model can "
                    "neither read nor write it; expected a word that it knows; give the label another word under "
                    "[labels] in the task file, or take a backbone of its language"
                )
        if len(set(plain)) < len(plain):
            twins = [label for label, ids in zip(self.labels, plain, strict=True) if plain.count(ids) > 1]
            raise TaskError(f"the labels {twins} have the same tokens; give them different words in the task file")
        if self._nested and not self._end and self.reading.end == "auto":
            shorter, longer = (self.labels[plain.index(ids)] for ids in self._nested)
            raise TaskError(
                f"the label {shorter!r} begins the label {longer!r}, and this backbone's tokenizer has no end token "
                "that could tell them apart; expected labels of which none begins another; give them other words "
                "under [labels] in the task file"
            )
        return tuple(ids + self._end for ids in plain)

    def encode(self, examples: Sequence[Example]) -> list[Row]:
        """Tokenise examples; what was cut, and how much of it the vocabulary lacks, is logged once.

        Raises:
            TaskError: special tokens, cue and the words of the template leave no room within `max_input_tokens`, or
                a row spells a special token that this tokenizer cannot read as text.
        """
        rows = self._rows(examples)
        for sentence in self._sentences(examples, rows):
            log.warning("%s", sentence)
        return list(map(self._with_short_target, rows))

    def _rows(self, examples: Sequence[Example]) -> list[Row]:
        """Examples as rows whose targets are not cut yet; nothing is said of them."""
        around, cue = self._around, self._words_after_input
        fixed = len(around.before) + len(around.behind) + len(cue)
        room = self.max_input_tokens - fixed
        if room < 1:
            raise TaskError(
                f"{self.max_input_tokens} input tokens leave no room for text beside {fixed} "
                "special ones: give more max_input_tokens, or a shorter prompt where the model has no more positions"
            )
        inputs = [self._parts(example) for example in examples]
        targets = self._targets(examples)
        rows = []
        for parts, ids, target in zip(inputs, self.tokens.encode(inputs), targets, strict=True):
            kept = ids if len(ids) <= room else self._shortened(parts, ids, room)
            rows.append(
                Row(
                    around.before + kept + cue + around.behind,
                    target,
                    max(0, len(ids) - len(kept)),
                    ids.count(self.tokens.unknown) if self.tokens.unknown is not None else 0,
                )
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
        [words] = self._answers([(Part(text),)])
        pairs = zip(self.labels, self.choices, strict=True)
        return next((label for label, ids in pairs if words[: len(ids)] == ids), text)

    @cached_property
    def _around(self) -> Around:
        """The special tokens around an input; what a tokenizer puts behind a text must not stand before an answer."""
        if self._chat is not None:  # the template writes what its model needs, a begin token among it
            return Around((), ())
        around = self.tokens.around_input
        return replace(around, behind=()) if self.kind == "causal" else around

    def _parts(self, example: Example) -> Parts:
        """What the model reads by who wrote what, the chat template around the input among it."""
        parts = self._input_parts(example)
        return parts if self._chat is None else self._chat.around(parts)

    def _input_parts(self, example: Example) -> Parts:
        """An input by who wrote what: fields come from the row, what stands between them from the task's author."""
        if example.sentinels:
            return _marked(example.inputs, example.sentinels)
        pieces, texts = self.reading.pieces, iter(example.texts)
        if len(example.texts) == sum(bool(field) for _, field in pieces):
            pairs = [(Part(before, is_row=False), Part(next(texts) if field else "")) for before, field in pieces]
            if "".join(part.text for pair in pairs for part in pair) == example.inputs:
                return tuple(part for pair in pairs for part in pair if part.text)
        return (Part(example.inputs),)

    def _shortened(self, parts: Parts, ids: tuple[int, ...], room: int) -> tuple[int, ...]:
        """Cut an input to `room` tokens: where a template made it, in its fields, of which the longest loses first.

        In chat form nothing of the chat template goes.

        Raises:
            TaskError: the words of the template alone are too long.
        """
        is_left = self.reading.truncate == "left"
        if not self.reading.template and self._chat is None:  # as the authors of the benchmarks cut their forms
            return ids[-room:] if is_left else ids[:room]
        ids, owners = self.tokens.owners(parts)
        inner = range(len(parts)) if self._chat is None else range(1, len(parts) - 1)
        fields = [(number,) for number in inner if parts[number].is_row] if self.reading.template else [tuple(inner)]
        places = [[place for place, owner in enumerate(owners) if owner in field] for field in fields]
        words = len(ids) - sum(map(len, places))
        if words >= room:
            template = f"the template {self.reading.template!r:.60}" if self.reading.template else "the chat template"
            both = " with the chat template around it" if self.reading.template and self._chat else ""
            raise TaskError(
                f"the words of {template}{both} are {words} tokens, and {room} have room; expected at least one for "
                f"the text of a row: give more max_input_tokens (now {self.max_input_tokens}), or a shorter template"
            )
        gone: set[int] = set()
        for tokens, size in zip(places, levelled(list(map(len, places)), room - words), strict=True):
            gone.update(tokens[: len(tokens) - size] if is_left else tokens[size:])
        return tuple(token for place, token in enumerate(ids) if place not in gone)

    @cached_property
    def _words_after_input(self) -> tuple[int, ...]:
        """The cue's tokens, as they follow a text."""
        [cue] = self.tokens.behind_any([(Part(self._spelled.cue or "", is_row=False),)])
        return cue

    @cached_property
    def _label_tokens(self) -> tuple[tuple[int, ...], ...]:
        """Token ids of each label without its end."""
        return tuple(self._answers([(Part(label),) for label in self.labels]))

    def _answers(self, answers: Sequence[Parts]) -> list[tuple[int, ...]]:
        """Token ids of answers as they follow the input, without their end; none for an empty answer."""
        separator = Part(self._spelled.separator or "", is_row=False)
        texts: list[Parts] = [(separator, *answer) if any(part.text for part in answer) else () for answer in answers]
        if self.kind == "seq2seq":
            before = self.tokens.around_target.before
            return [ids and before + ids for ids in self.tokens.encode(texts)]
        if self._chat is not None:
            return self.tokens.behind(self._chat.around((Part(BEFORE[0]),)), texts)
        if not self._spelled.cue:
            return self.tokens.behind_any(texts)
        return self.tokens.behind((Part(BEFORE[0]), Part(self._spelled.cue or "", is_row=False)), texts)

    def _targets(self, examples: Sequence[Example]) -> list[tuple[int, ...]]:
        """Token ids of each example's first answer and its end; none where it has no answer."""
        firsts = [(example.answers[0], example.sentinels) if example.answers else None for example in examples]
        different = [first for first in dict.fromkeys(firsts) if first is not None]
        answers = self._answers([_marked(*first) for first in different])
        targets = {first: ids + self._end for first, ids in zip(different, answers, strict=True)}
        return [targets[first] if first is not None else () for first in firsts]

    @cached_property
    def _nested(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The tokens of a label that begins another, and of that other; None where none does."""
        pairs = pairwise(sorted(self._label_tokens))
        return next(((short, long) for short, long in pairs if long[: len(short)] == short != long), None)

    @cached_property
    def _end(self) -> tuple[int, ...]:
        """The end token behind an answer, as the reading has it; none where the tokenizer has none.

        In chat form it is what the template ends a turn with, as in Gemma's, which is not the tokenizer's end token.

        Raises:
            TaskError: the reading asks for one, and there is none.
        """
        end = self.tokens.end
        if self._chat is not None and (turn_end := self.tokens.first_special(self._chat.end)) is not None:
            end = turn_end
        if self.reading.end == "always" and end is None:
            raise TaskError(
                'end is "always", and this backbone\'s tokenizer has no end token; expected "auto" or "never" here'
            )
        is_wanted = self.kind == "seq2seq" or not self.labels or self._nested is not None
        if end is None or self.reading.end == "never" or (self.reading.end == "auto" and not is_wanted):
            return ()
        return (end,)

    def _is_too_long(self, row: Row) -> bool:
        """Whether a row's open answer is longer than the limit."""
        return not self.labels and len(row.target_ids) > self.max_target_tokens

    def _with_short_target(self, row: Row) -> Row:
        """A row whose open answer is cut before its end where it is too long."""
        if not self._is_too_long(row):
            return row
        return replace(row, target_ids=row.target_ids[: self.max_target_tokens - len(self._end)] + self._end)

    def _sentences(self, examples: Sequence[Example], rows: Sequence[Row]) -> Iterator[str]:
        """What happened to rows that their author should know."""
        if not self.labels and not self._end and self.reading.end == "auto" and any(row.target_ids for row in rows):
            yield (
                "this backbone's tokenizer has no end token: open answers are trained without an end, and go on up to "
                f"{self.max_target_tokens} tokens (max_target_tokens)"
            )
        if long_targets := sum(map(self._is_too_long, rows)):
            yield (
                f"{long_targets} of {len(rows)} answers were longer than {self.max_target_tokens} tokens and lost "
                "their end (max_target_tokens)"
            )
        if lost := [row.lost for row in rows if row.lost]:
            what = "of the template's fields, the longest first" if self.reading.template else "of the text"
            yield (
                f"{len(lost)} of {len(rows)} inputs were longer than {self.max_input_tokens} tokens and lost their "
                f"{self.reading.truncate} end ({what}): {sum(lost) / len(lost):.0f} tokens on average, {max(lost)} at "
                "most (max_input_tokens, truncate)"
            )
        yield from self._unknown_words(examples, rows)

    def _unknown_words(self, examples: Sequence[Example], rows: Sequence[Row]) -> Iterator[str]:
        """What the vocabulary lacks of inputs and answers."""
        unknown = self.tokens.unknown
        if lacking := [number for number, row in enumerate(rows) if row.unknown]:
            example = self._unknown_example(examples[lacking[0]].inputs)
            share = sum(row.unknown for row in rows) / sum(len(row.input_ids) + row.lost for row in rows)
            mostly = ": the model reads next to nothing of them, take a backbone of their language or script"
            yield (
                f"{len(lacking)} of {len(rows)} inputs ({len(lacking) / len(rows):.0%}) have text that this backbone's "
                f"vocabulary lacks, such as {example!r}: {share:.0%} of all tokens are unknown to it"
                f"{mostly if share > MOSTLY else ''}"
            )
        if unknown is not None and not self.labels and (answers := sum(unknown in row.target_ids for row in rows)):
            yield f"{answers} of {len(rows)} answers have text that this backbone's vocabulary lacks: it can't write it"

    def _unknown_example(self, text: str) -> str:
        """The first word of a text that has an unknown token, or the text's beginning."""
        words = text.split()[:200]
        encoded = self.tokens.encode([(Part(word),) for word in words])
        lacking = (word for word, ids in zip(words, encoded, strict=True) if self.tokens.unknown in ids)
        return next(lacking, text)[:40]


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
        lengths += [(len(row.input_ids), len(row.target_ids)) for row in whole._rows(part)]
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


def collator_for(backbone: Vocabulary, task: Task, *, length: int = 0, reading: Reading | None = None) -> Collator:
    """The collator of a task on a backbone; inputs are kept within the model's positions.

    Args:
        backbone: gives tokenizer and positions.
        task: gives the labels, and how rows are read where `reading` is left out.
        length: prompt tokens P, which take positions too.
        reading: of the prompt or the run; its labels are the task's where it has none.
    """
    return collator_of_reading(backbone, (reading or task.reading).of_labels(task.labels), length=length)


def collator_of_reading(
    backbone: Vocabulary, reading: Reading, *, length: int = 0, tokenization: Tokenization | None = None
) -> Collator:
    """The collator of rows that are read so, whatever their task; as `collator_for`, which takes a task's labels.

    Args:
        backbone: gives tokenizer and positions.
        reading: with the labels to choose from.
        length: prompt tokens P, which take positions too.
        tokenization: of the backbone's tokenizer, where several collators share one.
    """
    collator = Collator(backbone.tokenizer, backbone.id.kind, reading, backbone.device, tokenization)
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


def _marked(text: str, sentinels: Sequence[str]) -> Parts:
    """A text whose sentinels are its form's, and all else its row's."""
    if not sentinels:
        return (Part(text),)
    parts = re.split(f"({'|'.join(map(re.escape, sorted(sentinels, key=len, reverse=True)))})", text)
    return tuple(Part(part, is_row=number % 2 == 0) for number, part in enumerate(parts) if part)


def _padded(sequences: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """[B, longest] int64, padded on the right."""
    longest = max((len(sequence) for sequence in sequences), default=0)
    return (
        torch.tensor([list(sequence) + [pad] * (longest - len(sequence)) for sequence in sequences])
        .reshape(len(sequences), longest)
        .long()
    )
