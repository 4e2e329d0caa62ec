"""Compute rows of all tasks with one frozen model in this process, in batches that form themselves.

One thread owns the model. Rows that wait are ranked together whatever their tasks, each request in its turn, and rows
that generate go on by a token between two such batches; each row has the numbers that it has alone.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from spot.collator import Row, packed
from spot.errors import BackboneError, SpotError, lacks_memory
from spot.evaluation.predictions import Prediction, not_finite, ranked
from spot.models.backbone import Backbone
from spot.models.batch import Batch, Prefix
from spot.serving.prefixes import PrefixCache
from spot.serving.requests import Load, Refusal, Sampling, Served, Token
from spot.serving.settings import ServeSettings

log = logging.getLogger(__name__)

WINDOW = 4  # batches of waiting rows among which rows of like lengths are looked for


@dataclass(eq=False)
class _Ranking:
    """A request to rank the labels of rows."""

    served: Served
    rows: Sequence[Row]
    answer: "asyncio.Future[list[Prediction]]"
    arrived: float = field(default_factory=time.monotonic)
    is_cancelled: bool = False

    def __post_init__(self) -> None:
        self.waiting = list(range(len(self.rows)))
        longest = max(map(len, self.served.collator.choices), default=1)
        self.costs = [len(row.input_ids) + longest - 1 for row in self.rows]  # tokens, the longest label's among them
        self.predictions: list[Prediction | None] = [None] * len(self.rows)

    def put(self, number: int, prediction: Prediction) -> None:
        """Take the answer to a row; the last one answers the request."""
        self.predictions[number] = prediction
        if not self.waiting and all(known is not None for known in self.predictions):
            self._settle(self.predictions)

    def fail(self, error: Exception) -> None:
        """Answer with an error; the rows that wait are not computed."""
        self.waiting.clear()
        self._settle(error)

    def _settle(self, outcome: object) -> None:
        self.answer.get_loop().call_soon_threadsafe(_settle, self.answer, outcome)


@dataclass(eq=False)
class _Stream:
    """A request to go on behind a row."""

    served: Served
    row: Row
    sampling: Sampling
    ends: frozenset[int]
    tokens: "asyncio.Queue[Token | Exception]"
    loop: asyncio.AbstractEventLoop
    is_cancelled: bool = False
    count: int = 0

    def __post_init__(self) -> None:
        self.chance = torch.Generator().manual_seed(self.sampling.seed)

    def put(self, token: Token | Exception) -> None:
        """Hand on a token, or why there is none."""
        self.loop.call_soon_threadsafe(self.tokens.put_nowait, token)


class LocalEngine:
    """The frozen model in this process; see `requests.Engine`."""

    def __init__(self, backbone: Backbone, settings: ServeSettings) -> None:
        """Start the thread that computes.

        Args:
            backbone: nothing else may use it from now on.
            settings: the limits.
        """
        self._backbone = backbone
        self._settings = settings
        self._prefixes = PrefixCache(backbone, settings.prefix_bytes)
        self._decoder = backbone.decoder()
        self._changed = threading.Condition()
        self._rankings: deque[_Ranking] = deque()
        self._joining: deque[_Stream] = deque()
        self._streams: dict[int, _Stream] = {}
        self._is_warm = self._is_closing = False
        self._batches = self._batch_rows = self._steps = self._step_rows = 0
        self._thread = threading.Thread(target=self._run, name="spot-engine", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether rows can be answered now, and soon: the model has read its first one."""
        return self._is_warm and self._goes_on

    @property
    def _goes_on(self) -> bool:
        return self._thread.is_alive() and not self._is_closing

    @property
    def load(self) -> Load:
        """What it has done and holds now."""
        return Load(
            waiting_rows=self._waiting(),
            streams=len(self._streams),
            batches=self._batches,
            batch_rows=self._batch_rows,
            steps=self._steps,
            step_rows=self._step_rows,
            prefix_bytes=self._prefixes.bytes,
            prefix_hits=self._prefixes.hits,
            prefix_misses=self._prefixes.misses,
        )

    async def classify(self, served: Served, rows: Sequence[Row]) -> list[Prediction]:
        """Rank the labels of the rows' task, in the rows' order.

        Raises:
            Refusal: see `requests.Engine`.
        """
        if not rows:
            return []
        ranking = _Ranking(served, rows, asyncio.get_running_loop().create_future())
        self._accept(ranking)
        try:
            return await ranking.answer
        finally:
            ranking.is_cancelled = True

    async def generate(self, served: Served, row: Row, sampling: Sampling) -> AsyncIterator[Token]:
        """The tokens that a row goes on with, as they come; closing the iterator ends it.

        Raises:
            Refusal: see `requests.Engine`.
        """
        ends = frozenset(self._backbone.ends(served.collator.answer_end if served.digest else None))
        stream = _Stream(served, row, sampling, ends, asyncio.Queue(), asyncio.get_running_loop())
        self._accept(stream)
        try:
            for _ in range(sampling.max_tokens):
                token = await stream.tokens.get()
                if isinstance(token, Exception):
                    raise token
                yield token
                if token.is_end:
                    return
        finally:
            stream.is_cancelled = True

    async def close(self) -> None:
        """Finish what runs, and end."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    def _accept(self, job: _Ranking | _Stream) -> None:
        """Let a request wait for its turn.

        Raises:
            Refusal: too many rows wait, or the server ends.
        """
        rows = len(job.rows) if isinstance(job, _Ranking) else 1
        with self._changed:
            if not self._goes_on:
                raise Refusal("the server is ending; ask again when it is back.", 503, "closing", retry_after=5)
            waiting, most = self._waiting(), self._settings.max_waiting_rows
            if waiting + rows > most:
                raise Refusal(
                    f"{waiting} rows wait and {rows} more came; expected at most {most} in all. Ask again later.",
                    429,
                    "busy",
                    retry_after=1,
                )
            if isinstance(job, _Ranking):
                self._rankings.append(job)
            else:
                self._joining.append(job)
            self._changed.notify()

    def _waiting(self) -> int:
        return sum(len(ranking.waiting) for ranking in list(self._rankings)) + len(self._joining)

    def _run(self) -> None:
        self._warm_up()
        while True:
            with self._changed:
                self._forget_cancelled()
                while not (self._rankings or self._joining or self._streams):
                    if self._is_closing:
                        return
                    self._changed.wait()
                    self._forget_cancelled()
                self._wait_for_more()
                chosen = self._chosen()
                joining = self._beginning()
            if chosen:
                self._rank(chosen)
            if joining:
                self._join(joining)
            if self._streams:
                self._step()

    @torch.no_grad()
    def _warm_up(self) -> None:
        """Read a first row, so that no request waits for weights from the disk."""
        row = Batch(
            input_ids=torch.zeros(1, 2, dtype=torch.long, device=self._backbone.device),
            attention_mask=torch.ones(1, 2, dtype=torch.long, device=self._backbone.device),
            labels=torch.zeros(1, 0, dtype=torch.long, device=self._backbone.device),
            prompt_index=torch.zeros(1, dtype=torch.long, device=self._backbone.device),
        )
        no_prompt = self._backbone.prefix(torch.zeros(1, 0, self._backbone.id.width))
        try:
            self._backbone.score(row, no_prompt, [[1], [2]])
        except Exception:
            log.exception("the model cannot read a first row; requests may fail likewise")
        self._is_warm = True

    def _forget_cancelled(self) -> None:
        """Drop the requests that nobody waits for."""
        self._rankings = deque(job for job in self._rankings if job.waiting and not job.is_cancelled)
        self._joining = deque(job for job in self._joining if not job.is_cancelled)

    def _wait_for_more(self) -> None:
        """Where nothing else is to be done, give rows that are on their way a moment to stand in the same batch."""
        while self._rankings and not self._joining and not self._streams and not self._is_closing:
            first = min(job.arrived for job in self._rankings)
            left = first + self._settings.wait_ms / 1000 - time.monotonic()
            if left <= 0:
                return
            if (
                sum(job.costs[number] for job in self._rankings for number in job.waiting)
                >= self._settings.batch_tokens
            ):
                return
            self._changed.wait(left)
            self._forget_cancelled()

    def _chosen(self) -> list[tuple[_Ranking, int]]:
        """The rows of the next batch: one of the request whose turn it is, and others of like length from all."""
        window = list(self._window())
        if not window:
            return []
        length = window[0][0].served.length
        window = [(job, number) for job, number in window if job.served.length == length]
        costs = [job.costs[number] for job, number in window]
        batch = next(rows for rows in packed(range(len(window)), costs, self._settings.batch_tokens) if 0 in rows)
        chosen = [window[place] for place in batch]
        for job, number in chosen:
            job.waiting.remove(number)
        self._rankings.rotate(-1)
        return chosen

    def _beginning(self) -> list[_Stream]:
        """The rows that begin to generate now: those there is room for, and no more than one pass may read."""
        room = self._settings.max_streams - len(self._streams)
        streams: list[_Stream] = []
        longest = 0
        while self._joining and len(streams) < room:
            longest = max(longest, len(self._joining[0].row.input_ids))
            if streams and longest * (len(streams) + 1) > self._settings.batch_tokens:
                break
            streams.append(self._joining.popleft())
        return streams

    def _window(self) -> Iterator[tuple[_Ranking, int]]:
        """Rows that wait, a row of each request in turn, so that no large request holds up small ones."""
        tokens, turn = 0, 0
        jobs = list(self._rankings)
        while jobs:
            for job in jobs:
                number = job.waiting[turn]
                tokens += job.costs[number]
                yield job, number
                if tokens > WINDOW * self._settings.batch_tokens:
                    return
            turn += 1
            jobs = [job for job in jobs if len(job.waiting) > turn]

    def _rank(self, chosen: Sequence[tuple[_Ranking, int]]) -> None:
        """Answer rows; where that fails, each alone, so that none fails for another."""
        try:
            scores = self._scores([(job.served, job.rows[number]) for job, number in chosen])
        except Exception as error:
            if len(chosen) == 1:
                chosen[0][0].fail(_refusal(error))
                return
            for place in chosen:
                if not place[0].answer.done():
                    self._rank([place])
            return
        self._batches += 1
        self._batch_rows += len(chosen)
        for (job, number), row in zip(chosen, scores, strict=True):
            job.put(number, ranked(job.served.collator.labels, row))

    @torch.no_grad()
    def _scores(self, rows: Sequence[tuple[Served, Row]]) -> list[list[float]]:
        """Log-probabilities of each row's labels."""
        models = list(dict.fromkeys(served for served, _ in rows))
        batch, prefix = self._laid_out(rows, models)
        batch = replace(batch, choice_index=batch.prompt_index)
        scores = self._backbone.score_each(batch, prefix, [served.collator.choices for served in models]).tolist()
        return [row[: len(served.collator.labels)] for row, (served, _) in zip(scores, rows, strict=True)]

    def _laid_out(self, rows: Sequence[tuple[Served, Row]], models: Sequence[Served]) -> tuple[Batch, Prefix]:
        """Rows as a batch, and their prompts, which are of one length."""
        prefix = self._backbone.join_prefixes([self._prefixes.get(served) for served in models])
        index = [models.index(served) for served, _ in rows]
        return rows[0][0].collator.batch([row for _, row in rows], index), prefix

    def _join(self, streams: Sequence[_Stream]) -> None:
        """Let rows begin to generate; those of prompts of one length are read in one call."""
        for length in dict.fromkeys(stream.served.length for stream in streams):
            together = [stream for stream in streams if stream.served.length == length]
            try:
                names = self._begin(together)
            except Exception as error:
                if len(together) == 1:
                    together[0].put(_refusal(error))
                    continue
                for stream in together:
                    self._join([stream])
                continue
            self._streams.update(zip(names, together, strict=True))

    @torch.no_grad()
    def _begin(self, streams: Sequence[_Stream]) -> list[int]:
        rows = [(stream.served, stream.row) for stream in streams]
        batch, prefix = self._laid_out(rows, list(dict.fromkeys(served for served, _ in rows)))
        return self._decoder.join(batch, prefix, max(stream.sampling.max_tokens for stream in streams))

    def _step(self) -> None:
        """Make a token of each row that generates."""
        names = self._decoder.names
        try:
            logits = self._decoder.logits().float().log_softmax(dim=-1).cpu()
            likeliest = logits.argmax(dim=-1).tolist()
            taken = {}
            for name, row, best in zip(names, logits, likeliest, strict=True):
                if (token := self._taken(self._streams[name], row, best)) is not None:
                    taken[name] = token
            self._decoder.take(taken)
        except Exception as error:
            for stream in self._streams.values():
                stream.put(_refusal(error))
            self._decoder, self._streams = self._backbone.decoder(), {}
            return
        self._steps += 1
        self._step_rows += len(names)
        self._streams = {name: stream for name, stream in self._streams.items() if name in taken}

    def _taken(self, stream: _Stream, row: Tensor, best: int) -> int | None:
        """The token that a row goes on with, which is handed on; None where the row ends with it."""
        if stream.is_cancelled:
            return None
        if not math.isfinite(float(row[best])):
            stream.put(Refusal(f"there is no answer: {not_finite(self._backbone)}", 500, "not_finite"))
            return None
        sampling = stream.sampling
        chosen = best if sampling.temperature == 0 else drawn(row, sampling, stream.chance)
        top = row.topk(sampling.logprobs) if sampling.logprobs else None
        likeliest = () if top is None else tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        is_end = chosen in stream.ends
        stream.put(Token(chosen, float(row[chosen]), likeliest, is_end))
        stream.count += 1
        return None if is_end or stream.count == sampling.max_tokens else chosen


def drawn(log_probabilities: Tensor, sampling: Sampling, chance: torch.Generator) -> int:
    """A token drawn at a temperature from the likeliest ones whose probabilities sum to `top_p`.

    Args:
        log_probabilities: [V] nats, of the model at temperature 1.
        sampling: a temperature above 0, and `top_p`.
        chance: gives one number a token.
    """
    below_best = (log_probabilities - log_probabilities.max()).double()
    shares, tokens = (below_best / sampling.temperature).softmax(dim=-1).sort(descending=True, stable=True)
    before = shares.cumsum(dim=0) - shares
    shares = shares.masked_fill((before >= sampling.top_p) & (before > 0), 0.0)
    place = float(torch.rand((), generator=chance, dtype=torch.float64)) * float(shares.sum())
    return int(tokens[min(int((shares.cumsum(dim=0) <= place).sum()), int((shares > 0).sum()) - 1)])


def _settle(answer: "asyncio.Future[list[Prediction]]", outcome: object) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)  # type: ignore[arg-type]


def _refusal(error: Exception) -> Exception:
    """An error of the engine as what a client is told; one that is a fault of ours stays as it is."""
    if isinstance(error, Refusal):
        return error
    if lacks_memory(error):
        log.error("too little memory for a row: %s", error)
        return Refusal("there is too little memory for this row; give a shorter one.", 503, "out_of_memory")
    if isinstance(error, BackboneError):
        return Refusal(str(error), 400, "row_too_long")
    if isinstance(error, SpotError):
        return Refusal(str(error), 500, "engine")
    return error
