"""Let rows go on token by token while others join and leave between tokens.

Each row has the numbers that it has alone, by the exact ways of its model: where rows of unequal lengths may generate
from kept states, all of them stand in one call; else those that joined together do.

Letters: B rows, V vocabulary, L positions that are kept.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import count

import torch
from torch import Tensor

from spot.models.batch import Batch, Prefix
from spot.models.causal import CausalRows
from spot.models.prompt_states import KeptRows
from spot.models.seq2seq import Seq2SeqRows
from spot.models.ways import Ways


class Decoder:
    """The rows of one model that are being generated. `Backbone.decoder` makes one; it is used by one thread."""

    def __init__(
        self,
        rows: CausalRows | Seq2SeqRows,
        ways_of: Callable[[Batch, Prefix, int], Ways],
        ways_for: Callable[[int], Ways],
    ) -> None:
        """Of a model's rows.

        Args:
            rows: of the model.
            ways_of: the exact ways for a batch whose rows go on by so many tokens.
            ways_for: the exact ways for rows of so many tokens.
        """
        self._rows = rows
        self._ways_of = ways_of
        self._ways_for = ways_for
        self._names = count()
        self._calls: list[_Merging | _Apart] = []

    @property
    def names(self) -> tuple[int, ...]:
        """The rows that go on, in the order of `logits`."""
        return tuple(name for call in self._calls for name in call.names)

    @torch.no_grad()
    def join(self, batch: Batch, prefix: Prefix, most: int) -> list[int]:
        """Read new rows, which go on from now on.

        Args:
            batch: B rows; their labels are not looked at.
            prefix: their prompts.
            most: tokens that each of them goes on by at most.

        Returns:
            A name for each row, in their order.

        Raises:
            BackboneError: a row is longer than the model's positions. Where any error is raised, none of the rows
                has joined, and those that go on are as they were.
        """
        ways = self._ways_of(batch, prefix, most)
        names = [next(self._names) for _ in range(len(batch.input_ids))]
        calls = [
            self._begun([names[number] for number in numbers.tolist()], part, prefix, ways, most)
            for numbers, part in batch.groups(ways.rows_that_generate)
        ]
        before = self._calls
        try:
            for call in calls:
                self._calls = self._with(call)
        except Exception:
            self._calls = before
            raise
        return names

    def logits(self) -> Tensor:
        """Of each row's next token, [B, V], in the order of `names`; at least one row."""
        return torch.cat([call.logits for call in self._calls])

    @torch.no_grad()
    def take(self, tokens: Mapping[int, int]) -> None:
        """Go on by a token.

        Args:
            tokens: by name; the rows that are not named leave.
        """
        self._calls = [call for call in self._calls if call.keep([name in tokens for name in call.names])]
        for call in self._calls:
            call.take(torch.tensor([[tokens[name]] for name in call.names], device=call.logits.device))

    def _begun(self, names: list[int], batch: Batch, prefix: Prefix, ways: Ways, most: int) -> "_Merging | _Apart":
        """Rows that are read in one call."""
        if isinstance(self._rows, CausalRows) and ways.decoding == "padded":
            logits, kept = self._rows.begin(batch, prefix, ways)
            if kept.can_merge:
                return _Merging(self._rows, names, logits, kept, most)
        return _Apart(names, self._rows.steps(batch, prefix, ways))

    def _with(self, call: "_Merging | _Apart") -> "list[_Merging | _Apart]":
        """The calls with new rows in the one that can take them, else in one of their own."""
        for place, other in enumerate(self._calls):
            if isinstance(call, _Merging) and isinstance(other, _Merging):
                tokens = max(call.kept.width, other.kept.width) + max(call.most, other.most)
                if self._ways_for(tokens).decoding == "padded":
                    return [*self._calls[:place], other.merged(call), *self._calls[place + 1 :]]
        return [*self._calls, call]


class _Merging:
    """Rows that stand in one call, whatever their lengths, and that others may join."""

    def __init__(self, rows: CausalRows, names: list[int], logits: Tensor, kept: KeptRows, most: int) -> None:
        self.names, self.logits, self.kept, self.most = names, logits, kept, most
        self._rows = rows

    def merged(self, other: "_Merging") -> "_Merging":
        """A call of these rows and those of another."""
        names, logits = [*self.names, *other.names], torch.cat([self.logits, other.logits])
        return _Merging(self._rows, names, logits, self.kept.merged(other.kept), max(self.most, other.most))

    def keep(self, stays: Sequence[bool]) -> bool:
        """Let rows leave; whether one stays."""
        if any(stays) and not all(stays):
            rows = torch.tensor([row for row, stay in enumerate(stays) if stay], device=self.logits.device)
            self.names = [name for name, stay in zip(self.names, stays, strict=True) if stay]
            self.kept = self.kept.only(rows)
        return any(stays)

    def take(self, tokens: Tensor) -> None:
        """Go on by tokens [B, 1]."""
        self.logits, self.kept = self._rows.go_on(tokens, self.kept)
        self.most -= 1


class _Apart:
    """Rows that began together and stay alone; those that left are read on until the last leaves."""

    def __init__(self, names: list[int], steps: Generator[Tensor, Tensor, None]) -> None:
        self._steps = steps
        self._all = names
        self._logits = next(steps)
        self._stays = torch.ones(len(names), dtype=torch.bool, device=self._logits.device)

    @property
    def names(self) -> list[int]:
        """Of the rows that have not left."""
        return [name for name, stays in zip(self._all, self._stays.tolist(), strict=True) if stays]

    @property
    def logits(self) -> Tensor:
        """Of the rows that have not left, [B, V]."""
        return self._logits[self._stays]

    def keep(self, stays: Sequence[bool]) -> bool:
        """Let rows leave; whether one stays."""
        self._stays[self._stays.nonzero()[:, 0]] = torch.tensor(stays, device=self._stays.device)
        return any(stays)

    def take(self, tokens: Tensor) -> None:
        """Go on by tokens [B, 1] of the rows that have not left."""
        sent = torch.zeros(len(self._all), 1, dtype=torch.long, device=tokens.device)
        sent[self._stays] = tokens
        self._logits = self._steps.send(sent)
