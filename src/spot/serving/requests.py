"""What goes between the HTTP side of a server and an engine: models by name, rows, tokens, refusals."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from spot.collator import Collator, Row
from spot.errors import SpotError
from spot.evaluation.predictions import Prediction
from spot.library.entries import Entry

BASE = "base"  # the name of the frozen model without a prompt
PROMPT_UNUSABLE = "the file of this prompt is gone or damaged: the operator finds the reason in the server's log."


class Refusal(SpotError):
    """A request that is not answered; `status` is that of HTTP, `code` a word for programs.

    Attributes:
        retry_after: seconds after which trying again makes sense; None where it makes none.
        param: the field of the request that is wrong; None where it is none.
    """

    def __init__(
        self, message: str, status: int, code: str, retry_after: float | None = None, param: str | None = None
    ) -> None:
        """Say why, in the words of `errors`: found, expected, what to do."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.param = param


@dataclass(frozen=True, eq=False)
class Served:
    """A model that a request may name: the frozen one with a prompt, or alone.

    Attributes:
        name: the task where no other prompt has it, else the digest; `base` for the model alone.
        collator: how its rows become token ids; of the model alone, texts as they are.
        entry: what the library says of the prompt; None for the model alone.
        read_vectors: reads the prompt's vectors [P, D] float32 from its file, every byte checked; of the model alone
            an array of no tokens. Raises PromptError where the file is gone or damaged.
    """

    name: str
    collator: Collator
    entry: Entry | None = None
    read_vectors: Callable[[], np.ndarray] = field(default=lambda: np.zeros((0, 0), "<f4"), repr=False)

    @property
    def digest(self) -> str:
        """Of the prompt; empty for the model alone."""
        return self.entry.digest if self.entry is not None else ""

    @property
    def length(self) -> int:
        """Prompt tokens P; 0 for the model alone."""
        return self.entry.length if self.entry is not None else 0


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are taken.

    Attributes:
        max_tokens: most tokens of a row.
        temperature: 0 takes the likeliest token.
        top_p: the likeliest tokens whose probabilities sum to this are drawn from.
        seed: of the draw; a row's tokens depend on it and on the row alone.
        logprobs: how many of the likeliest tokens are told at each place, 0 for none.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    logprobs: int = 0


@dataclass(frozen=True)
class Token:
    """A token that a row goes on with.

    Attributes:
        id: in the vocabulary.
        logprob: nats, of the model at temperature 1.
        top: (id, logprob) of the likeliest tokens at this place, likeliest first.
        is_end: whether the row ends here; such a token is not part of the text.
    """

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    is_end: bool = False


@dataclass(frozen=True)
class Load:
    """What an engine has done and holds.

    Attributes:
        waiting_rows: accepted, not computed yet.
        streams: rows that generate now.
        batches, batch_rows: forward passes that ranked labels so far, and the rows in them.
        steps, step_rows: forward passes that made a token of each row so far, and the rows in them.
        prefix_bytes: bytes of prompts' states that are kept.
        prefix_hits, prefix_misses: times that a prompt's states were kept, or had to be computed.
    """

    waiting_rows: int = 0
    streams: int = 0
    batches: int = 0
    batch_rows: int = 0
    steps: int = 0
    step_rows: int = 0
    prefix_bytes: int = 0
    prefix_hits: int = 0
    prefix_misses: int = 0


class Engine(Protocol):
    """Computes rows. All calls come from one event loop; a call that is cancelled gives its place free.

    Raises:
        Refusal: too many rows wait (429), the engine is down (503), or the numbers are not finite (500).
    """

    async def classify(self, served: Served, rows: Sequence[Row]) -> list[Prediction]:
        """Rank the labels of the rows' task, in the rows' order."""
        ...

    def generate(self, served: Served, row: Row, sampling: Sampling) -> AsyncIterator[Token]:
        """The tokens that a row goes on with, as they come; closing the iterator ends it."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether rows can be answered now."""
        ...

    @property
    def load(self) -> Load:
        """What it has done and holds now."""
        ...

    async def close(self) -> None:
        """Finish what runs, and end."""
        ...


class Catalogue(Protocol):
    """The models that requests may name; follows the library's folder."""

    def served(self) -> list[Served]:
        """All of them, `base` first, then by task."""
        ...

    def find(self, name: str) -> Served:
        """By task, digest, the beginning of one, or `base`.

        Raises:
            Refusal: nothing (404) or more than one prompt (400) is called so.
        """
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with prompts that are passed over."""
        ...
