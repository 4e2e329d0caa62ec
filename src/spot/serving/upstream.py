"""Compute rows on vLLM servers: prompts and texts travel as vectors, and log-probabilities come back.

A server needs `--enable-prompt-embeds`. Several share the load; one that fails is left out for a while. Nothing is sent
that is known to end a server: the penalties of a request are always the neutral ones, whatever the model's settings
say.
"""

import asyncio
import base64
import json
import logging
import math
import os
import re
import time
from collections import OrderedDict
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from spot.collator import Row
from spot.errors import ConfigError, PromptError
from spot.evaluation.predictions import Prediction, ranked
from spot.exporting.vllm import saved_tensor
from spot.serving.extra import missing_extra
from spot.serving.front import Front
from spot.serving.requests import PROMPT_UNUSABLE, Load, Refusal, Sampling, Served, Token
from spot.serving.settings import ServeSettings
from spot.storage.text import printable

try:
    import httpx2
except ImportError as error:
    raise missing_extra("httpx2") from error

log = logging.getLogger(__name__)

TOKEN = "SPOT_UPSTREAM_TOKEN"  # variable of the environment with what servers started with --api-key want
MOST_IDS = 128  # tokens whose log-probabilities vLLM tells at a place
MOST_ROWS = 16  # of a request to a server
MOST_BYTES = 8_000_000  # of the vectors in a request to a server, at least one row
MOST_ANSWER = 64_000_000  # bytes of an answer, and of a line of a stream
AT_ONCE = 4  # requests to rank labels that a server has at a time
CONNECT_S = 5.0
CHECK_S = 20.0  # for the first look at a server, which may be warming up
RETRY_S = 2.0  # after which a server that failed is looked at again; twice as long each time
LONGEST_RETRY_S = 60.0
CLOSE = 0.2  # nats by which a text as vectors and as token ids may differ on a server of few bits
NO_NUMBER = -9000.0  # vLLM writes -9999 for what is no finite number
PROBE = "The film of 1984 was good, wasn't it?"
# A model's own settings may hold penalties, with which vectors end a server.
NEUTRAL = {
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_p": 0.0,
    "top_k": 0,
    "return_tokens_as_token_ids": True,
}

_HOST = re.compile(r"[\w.:-]+")
Result = TypeVar("Result")


class _Failed(Exception):
    """A server that did not answer as it should: another may.

    Attributes:
        status: what a client is told where no other does.
        is_down: whether it is left out from now on, without another look.
    """

    def __init__(self, message: str, status: int = 502, *, is_down: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.is_down = is_down


@dataclass(eq=False)
class _Upstream:
    """One vLLM server and what is known of it.

    Attributes:
        url: without the path of the API.
        model: the name that it gives the model.
        most: longest sequence in tokens that it takes.
        is_ready: whether it answered last.
        problem: why not.
        rows: in work there.
        retry_at: when it is looked at again, on the monotonic clock.
        failures: since it answered last.
        checking: a look at it that is going on.
    """

    url: str
    model: str = ""
    most: int | None = None
    is_ready: bool = False
    problem: str = "it was not asked yet"
    rows: int = 0
    retry_at: float = 0.0
    failures: int = 0
    checking: "asyncio.Task[None] | None" = None
    turns: "_Turns" = field(default_factory=lambda: _Turns())
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def fail(self, problem: str) -> None:
        """Leave it out for a while."""
        if self.is_ready:
            log.warning("%s is left out: %s", self.url, problem)
        self.is_ready, self.problem = False, problem
        self.retry_at = time.monotonic() + min(LONGEST_RETRY_S, RETRY_S * 2**self.failures)
        self.failures = min(self.failures + 1, 10)

    def answer(self) -> None:
        """Take it in again."""
        if not self.is_ready:
            log.info("%s answers", self.url)
        self.is_ready, self.problem, self.failures = True, "", 0


class _Turns:
    """Lets work of one kind in at a time, any number of it: labels that are ranked, or texts with likeliest tokens.

    vLLM tells the log-probabilities of chosen tokens for all rows of a step as soon as one row asks for these, so the
    likeliest tokens of other rows in it are lost.
    """

    def __init__(self) -> None:
        self._kind, self._count = "", 0
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    async def enter(self, kind: str) -> None:
        """Wait until work of this kind may run; first come, first served."""
        if not self._waiting and (not self._count or self._kind == kind):
            self._kind, self._count = kind, self._count + 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((kind, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            else:
                self._waiting.remove((kind, turn))
                self._admit()
            raise

    def leave(self) -> None:
        """End a piece of work, and let others in."""
        self._count -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and (not self._count or self._waiting[0][0] == self._kind):
            kind, turn = self._waiting.pop(0)
            if not turn.done():
                self._kind, self._count = kind, self._count + 1
                turn.set_result(None)


@dataclass(frozen=True)
class _Question:
    """Log-probabilities that are asked for in one request.

    Attributes:
        places: (row, token ids behind it) of each; labels begin with these ids.
        tokens: asked for at each place.
    """

    places: tuple[tuple[int, tuple[int, ...]], ...]
    tokens: tuple[int, ...]


class VllmEngine:
    """Rows computed by vLLM servers; see `requests.Engine`."""

    def __init__(
        self,
        front: Front,
        urls: Sequence[str],
        settings: ServeSettings,
        *,
        transport: Callable[[], httpx2.AsyncBaseTransport] | None = None,
    ) -> None:
        """Hold what is needed to ask servers; nothing is asked yet.

        Args:
            front: tokenizer and table of the model that they serve.
            urls: of the servers, such as `http://127.0.0.1:8001`.
            settings: the limits.
            transport: makes what carries requests; left out: the network.

        Raises:
            ConfigError: there is no address, or one is none.
        """
        self.front = front
        self._settings = settings
        self._transport = transport
        self._upstreams = [_Upstream(_checked_url(url)) for url in dict.fromkeys(urls)]
        if not self._upstreams:
            raise ConfigError(
                "engine is 'vllm', and no server is named; expected the address of one or more. Give --upstream URL."
            )
        self._client: httpx2.AsyncClient | None = None
        self._prompts: OrderedDict[str, Tensor] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = self._streams = self._batches = self._batch_rows = self._steps = 0
        self._working = 0
        self._is_closing = False

    @classmethod
    def connect(
        cls,
        front: Front,
        urls: Sequence[str],
        settings: ServeSettings,
        *,
        transport: Callable[[], httpx2.AsyncBaseTransport] | None = None,
    ) -> "VllmEngine":
        """An engine of which at least one server answers; its `front` has no more positions than the servers take.

        Raises:
            ConfigError: no server answers as it should, each with why.
        """
        engine = cls(front, urls, settings, transport=transport)
        asyncio.run(engine._look())
        return engine

    @property
    def is_ready(self) -> bool:
        """Whether rows can be answered now; where not, the servers are looked at again when it is time."""
        self._look_again()
        return not self._is_closing and any(upstream.is_ready for upstream in self._upstreams)

    @property
    def load(self) -> Load:
        """What it has done and holds now; a batch is a request to a server."""
        return Load(
            waiting_rows=self._waiting,
            streams=self._streams,
            batches=self._batches,
            batch_rows=self._batch_rows,
            steps=self._steps,
            step_rows=self._steps,
            prefix_bytes=sum(prompt.numel() * prompt.itemsize for prompt in self._prompts.values()),
        )

    async def classify(self, served: Served, rows: Sequence[Row]) -> list[Prediction]:
        """Rank the labels of the rows' task, in the rows' order.

        Raises:
            Refusal: see `requests.Engine`.
        """
        if not rows:
            return []
        collator = served.collator
        prompt = self._prompt(served)
        told: list[dict[tuple[int, ...], dict[int, float]]] = [{} for _ in rows]

        async def ask(question: _Question) -> None:
            inputs = [(*rows[number].input_ids, *behind) for number, behind in question.places]
            answers = await self._elsewhere(lambda upstream: self._rank(upstream, prompt, inputs, question.tokens))
            for (number, behind), answer in zip(question.places, answers, strict=True):
                told[number].setdefault(behind, {}).update(answer)

        with self._accepted(len(rows)):
            await _all(ask(question) for question in self._questions(served, rows))
        return [ranked(collator.labels, [_sum(known, choice) for choice in collator.choices]) for known in told]

    async def generate(self, served: Served, row: Row, sampling: Sampling) -> AsyncIterator[Token]:
        """The tokens that a row goes on with, as they come; closing the iterator ends it.

        Another server is asked only as long as none came.

        Raises:
            Refusal: see `requests.Engine`.
        """
        trained = served.collator.answer_end if served.digest else None
        ends = frozenset(self.front.ends(trained))
        prompt = self._prompt(served)
        tried: set[_Upstream] = set()
        last: _Failed | None = None
        with self._accepted(1):
            self._streams += 1
            try:
                while True:
                    upstream = await self._pick(tried, last)
                    began = False
                    stream = self._stream(upstream, prompt, row, sampling, trained, ends)
                    try:
                        async for token in stream:
                            began = True
                            self._steps += 1
                            yield token
                        return
                    except _Failed as failure:
                        last = failure
                        self._failed(upstream, failure)
                        tried.add(upstream)
                        if began:
                            raise Refusal(
                                f"the server broke off in the middle of the text: {failure}. Ask again.",
                                failure.status,
                                "upstream",
                                retry_after=1,
                            ) from failure
                    finally:
                        await stream.aclose()
            finally:
                self._streams -= 1

    async def close(self) -> None:
        """Finish what runs, and end."""
        self._is_closing = True
        while self._working:
            await asyncio.sleep(0.02)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hang_up()

    def _accepted(self, rows: int) -> "_Accepted":
        """Room for rows.

        Raises:
            Refusal: too many wait, or the server ends.
        """
        if self._is_closing:
            raise Refusal("the server is ending; ask again when it is back.", 503, "closing", retry_after=5)
        most = self._settings.max_waiting_rows
        if self._waiting + rows > most:
            raise Refusal(
                f"{self._waiting} rows wait and {rows} more came; expected at most {most} in all. Ask again later.",
                429,
                "busy",
                retry_after=1,
            )
        return _Accepted(self, rows)

    def _prompt(self, served: Served) -> Tensor:
        """The vectors of a prompt, [P, D], kept as long as there is room.

        Raises:
            Refusal: its file is gone or damaged.
        """
        if not served.digest:
            return torch.zeros(0, self.front.table.shape[1])
        if (kept := self._prompts.get(served.digest)) is not None:
            self._prompts.move_to_end(served.digest)
            return kept
        try:
            prompt = torch.tensor(served.read_vectors())
        except PromptError as error:
            log.error("a prompt cannot be used: %s", error)
            raise Refusal(PROMPT_UNUSABLE, 503, "prompt_unusable") from error
        self._prompts[served.digest] = prompt
        while len(self._prompts) > 1 and self.load.prefix_bytes > self._settings.prefix_bytes:
            self._prompts.popitem(last=False)
        return prompt

    def _questions(self, served: Served, rows: Sequence[Row]) -> list[_Question]:
        """What must be asked to know every token of every label behind every row."""
        following: dict[tuple[int, ...], set[int]] = {}
        for choice in served.collator.choices:
            for place, token in enumerate(choice):
                following.setdefault(choice[:place], set()).add(token)
        longest = max(len(row.input_ids) for row in rows) + max(map(len, following))
        size = (served.length + longest) * self.front.table.shape[1] * self.front.table.itemsize
        together = max(1, min(MOST_ROWS, MOST_BYTES // size))
        questions = []
        for beginnings, tokens in _grouped(following):
            places = [(number, behind) for number in range(len(rows)) for behind in beginnings]
            for start in range(0, len(places), together):
                questions.append(_Question(tuple(places[start : start + together]), tokens))
        return questions

    async def _elsewhere(self, work: Callable[[_Upstream], Awaitable[Result]]) -> Result:
        """Have the least busy server do something, or another one where that fails.

        Raises:
            Refusal: none does.
        """
        tried: set[_Upstream] = set()
        last: _Failed | None = None
        while True:
            upstream = await self._pick(tried, last)
            try:
                return await work(upstream)
            except _Failed as failure:
                last = failure
                self._failed(upstream, failure)
                tried.add(upstream)

    async def _pick(self, tried: set[_Upstream], last: _Failed | None) -> _Upstream:
        """The least busy server that answers, of those that were not tried.

        Raises:
            Refusal: there is none.
        """
        if not self._ready(tried):
            # Nothing to lose: wait for those whose time has come.
            await asyncio.gather(*self._look_again(tried))
        if ready := self._ready(tried):
            self._look_again(tried)
            return min(ready, key=lambda upstream: upstream.rows)
        if last is not None:
            raise Refusal(f"no vLLM server answers: {last}. Ask again later.", last.status, "upstream", retry_after=2)
        problems = "; ".join(f"{upstream.url}: {upstream.problem}" for upstream in self._upstreams)
        wait = min(upstream.retry_at for upstream in self._upstreams) - time.monotonic()
        raise Refusal(
            f"no vLLM server answers ({problems}). Ask again later.",
            503,
            "upstream",
            retry_after=max(1, math.ceil(wait)),
        )

    def _ready(self, tried: set[_Upstream]) -> list[_Upstream]:
        return [upstream for upstream in self._upstreams if upstream.is_ready and upstream not in tried]

    def _failed(self, upstream: _Upstream, failure: _Failed) -> None:
        """Leave a server out, or look whether it still answers: what failed may be a row's fault."""
        if failure.is_down:
            upstream.fail(str(failure))
        else:
            self._check_soon(upstream)

    def _look_again(self, tried: set[_Upstream] | None = None) -> "list[asyncio.Task[None]]":
        """Begin to look at the servers that failed and whose time has come."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return []
        now = time.monotonic()
        due = [up for up in self._upstreams if not up.is_ready and now >= up.retry_at and up not in (tried or ())]
        return [self._check_soon(upstream) for upstream in due]

    def _check_soon(self, upstream: _Upstream) -> "asyncio.Task[None]":
        """A look at a server, one at a time."""
        if upstream.checking is None or upstream.checking.done():
            upstream.checking = asyncio.ensure_future(self._check(upstream))
            self._tasks.add(upstream.checking)
            upstream.checking.add_done_callback(self._tasks.discard)
        return upstream.checking

    async def _look(self) -> None:
        """Look at all servers for the first time, and take over how long a row may be.

        Raises:
            ConfigError: none answers as it should.
        """
        try:
            await asyncio.gather(*(self._check(upstream) for upstream in self._upstreams))
        finally:
            await self._hang_up()
        if not any(upstream.is_ready for upstream in self._upstreams):
            problems = "; ".join(f"{upstream.url}: {upstream.problem}" for upstream in self._upstreams)
            raise ConfigError(
                f"no vLLM server can be used ({problems}); expected one that serves {self.front.id.name} with "
                "--enable-prompt-embeds. Start it, and give its address with --upstream."
            )
        limits = [self.front.max_positions, *(upstream.most for upstream in self._upstreams if upstream.is_ready)]
        most = min((limit for limit in limits if limit is not None), default=None)
        self.front = replace(self.front, max_positions=most)

    async def _check(self, upstream: _Upstream) -> None:
        """See whether a server serves the front's model and reads vectors as it reads token ids."""
        try:
            async with asyncio.timeout(CHECK_S):
                listed = await self._get(upstream, "/v1/models")
                try:
                    entry = listed["data"][0]
                    upstream.model, most = str(entry["id"]), entry.get("max_model_len")
                except (KeyError, IndexError, TypeError, AttributeError) as error:
                    raise _Failed(f"its list of models has another shape ({listed!r:.80})") from error
                upstream.most = most if isinstance(most, int) else None
                await self._compare(upstream)
        except (_Failed, Refusal) as failure:
            upstream.fail(str(failure))
        except TimeoutError:
            upstream.fail(f"it did not answer within {CHECK_S:.0f} s")
        else:
            upstream.answer()

    async def _compare(self, upstream: _Upstream) -> None:
        """Ask for the same tokens behind a text as ids and as vectors.

        Raises:
            _Failed: the answers differ, so it serves another model or makes something else of vectors.
        """
        ids = tuple(self.front.tokenizer(PROBE, add_special_tokens=False)["input_ids"])
        nothing = torch.zeros(0, self.front.table.shape[1])
        [by_ids] = await self._rank(upstream, nothing, [ids[1:]], ids)
        [by_vectors] = await self._rank(upstream, nothing, [ids[1:]], ids, as_vectors=True)
        apart = max(abs(by_ids[token] - by_vectors[token]) for token in by_ids)
        if not apart <= CLOSE:
            raise _Failed(
                f"it answers a text as vectors otherwise than as token ids (log-probabilities differ by {apart:.2g}); "
                f"expected the model {self.front.id}, and one that takes vectors as they are"
            )

    async def _rank(
        self,
        upstream: _Upstream,
        prompt: Tensor,
        inputs: Sequence[Sequence[int]],
        tokens: Sequence[int],
        *,
        as_vectors: bool = False,
    ) -> list[dict[int, float]]:
        """Log-probabilities of tokens behind each row.

        Args:
            upstream: the server.
            prompt: [P, D]; of no tokens, the rows travel as ids unless `as_vectors` says otherwise.
            inputs: token ids of each row.
            tokens: asked for, at most MOST_IDS.
            as_vectors: send vectors in any case.

        Raises:
            _Failed: the server does not answer so.
            Refusal: it takes no such row.
        """
        asked = sorted(set(tokens))
        upstream.rows += len(inputs)
        try:
            async with upstream.places:  # before vectors are written, which take memory
                body = {
                    "model": upstream.model,
                    **await asyncio.to_thread(self._inputs, prompt, inputs, as_vectors),
                    "max_tokens": 1,
                    "temperature": 0,
                    "logprobs": len(asked),
                    "logprob_token_ids": asked,
                    **NEUTRAL,
                }
                await upstream.turns.enter("labels")
                try:
                    answer = await self._post(upstream, body)
                finally:
                    upstream.turns.leave()
        finally:
            upstream.rows -= len(inputs)
        self._batches += 1
        self._batch_rows += len(inputs)
        return _told(answer, len(inputs), asked)

    def _inputs(self, prompt: Tensor, inputs: Sequence[Sequence[int]], as_vectors: bool) -> dict[str, Any]:
        """Rows as a request has them."""
        if not len(prompt) and not as_vectors:
            return {"prompt": [list(ids) for ids in inputs]}
        saved = (saved_tensor(self.front.vectors(prompt, ids)) for ids in inputs)
        return {"prompt": None, "prompt_embeds": [base64.b64encode(content).decode() for content in saved]}

    async def _stream(
        self,
        upstream: _Upstream,
        prompt: Tensor,
        row: Row,
        sampling: Sampling,
        trained: int | None,
        ends: frozenset[int],
    ) -> AsyncGenerator[Token, None]:
        """The tokens that a server goes on with.

        Raises:
            _Failed: the server does not answer, or breaks off.
            Refusal: it takes no such row.
        """
        body = {
            "model": upstream.model,
            **await asyncio.to_thread(self._inputs, prompt, [row.input_ids], False),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "logprobs": sampling.logprobs,
            "stop_token_ids": [] if trained is None else [trained],
            "stream": True,
            **NEUTRAL,
        }
        upstream.rows += 1
        is_told = sampling.logprobs > 0
        try:
            if is_told:
                await upstream.turns.enter("likeliest")
            try:
                async for event in self._events(upstream, body):
                    for token in _tokens(event, sampling.logprobs, ends):
                        yield token
                        if token.is_end:
                            return
            finally:
                if is_told:
                    upstream.turns.leave()
        finally:
            upstream.rows -= 1

    async def _events(self, upstream: _Upstream, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a stream, up to its end.

        Raises:
            _Failed: it breaks off, or is none.
            Refusal: the server takes no such row.
        """
        try:
            async with self._http().stream("POST", f"{upstream.url}/v1/completions", json=body) as response:
                if response.status_code != 200:
                    _check_status(response.status_code, await _read(response))
                is_finished = False
                async for line in _lines(response):
                    if not line.startswith("data:"):
                        continue
                    content = line.removeprefix("data:").strip()
                    if content == "[DONE]":
                        return
                    event = _json(content.encode())
                    yield event
                    is_finished = is_finished or _reason_of(event) is not None
                if not is_finished:
                    raise _Failed("its stream ended before the text did")
        except httpx2.HTTPError as error:
            raise _unreachable(error) from error

    async def _post(self, upstream: _Upstream, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a server answers to a request.

        Raises:
            _Failed, Refusal: as `_check_status`, or it cannot be reached.
        """
        try:
            async with self._http().stream("POST", f"{upstream.url}/v1/completions", json=body) as response:
                content = await _read(response)
        except httpx2.HTTPError as error:
            raise _unreachable(error) from error
        _check_status(response.status_code, content)
        return _json(content)

    async def _get(self, upstream: _Upstream, path: str) -> dict[str, Any]:
        """What a server says at a path.

        Raises:
            _Failed, Refusal: as `_post`.
        """
        try:
            async with self._http().stream("GET", f"{upstream.url}{path}") as response:
                content = await _read(response)
        except httpx2.HTTPError as error:
            raise _unreachable(error) from error
        _check_status(response.status_code, content)
        return _json(content)

    def _http(self) -> httpx2.AsyncClient:
        """The client, which belongs to the loop that is running."""
        if self._client is None:
            token = os.environ.get(TOKEN)
            # Half of what a request may take, so that another server can be asked when one hangs.
            patience = self._settings.timeout_s / 2
            self._client = httpx2.AsyncClient(
                headers={"Authorization": f"Bearer {token}"} if token else {},
                timeout=httpx2.Timeout(patience, connect=min(CONNECT_S, patience)),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
                transport=self._transport() if self._transport is not None else None,
                trust_env=False,
            )
        return self._client

    async def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


class _Accepted:
    """Rows that wait and are in work, for as long as they are."""

    def __init__(self, engine: VllmEngine, rows: int) -> None:
        self._engine, self._rows = engine, rows

    def __enter__(self) -> None:
        self._engine._waiting += self._rows
        self._engine._working += 1

    def __exit__(self, *_: object) -> None:
        self._engine._waiting -= self._rows
        self._engine._working -= 1


async def _all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do pieces of work at a time; the first that fails ends the others.

    Raises:
        Exception: what the first that failed raised.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _grouped(following: Mapping[tuple[int, ...], set[int]]) -> Iterator[tuple[list[tuple[int, ...]], tuple[int, ...]]]:
    """Beginnings of labels in groups, with all tokens that follow one of a group, at most MOST_IDS."""
    beginnings: list[tuple[int, ...]] = []
    tokens: set[int] = set()
    for behind, after in following.items():
        for first in range(0, len(after), MOST_IDS):
            part = set(sorted(after)[first : first + MOST_IDS])
            if beginnings and (len(tokens | part) > MOST_IDS or behind in beginnings):
                yield beginnings, tuple(sorted(tokens))
                beginnings, tokens = [], set()
            beginnings, tokens = [*beginnings, behind], tokens | part
    yield beginnings, tuple(sorted(tokens))


def _sum(known: Mapping[tuple[int, ...], Mapping[int, float]], choice: Sequence[int]) -> float:
    """The log-probability of a label: of each of its tokens behind those before it."""
    return sum(known[tuple(choice[:place])][token] for place, token in enumerate(choice))


def _told(answer: dict[str, Any], rows: int, asked: Sequence[int]) -> list[dict[int, float]]:
    """The log-probabilities of tokens behind each row, out of an answer.

    Raises:
        _Failed: it does not have them.
    """
    try:
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        tops = [choice["logprobs"]["top_logprobs"][0] for choice in choices]
        told = [{token: float(top[f"token_id:{token}"]) for token in asked} for top in tops]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _Failed(
            f"it tells no log-probability of the tokens that were asked for ({type(error).__name__} {error!s:.60}); "
            "expected vLLM 0.32 or newer, which knows logprob_token_ids"
        ) from error
    if len(told) != rows:
        raise _Failed(f"it answers {len(told)} rows; expected {rows}")
    return [{token: value if value > NO_NUMBER else math.nan for token, value in row.items()} for row in told]


def _tokens(event: dict[str, Any], most: int, ends: frozenset[int]) -> list[Token]:
    """The tokens in an event of a stream.

    Raises:
        _Failed: it has another shape, or says that the server failed.
    """
    if "error" in event:
        raise _Failed(f"it fails: {_message(event)}")
    try:
        tokens: list[Token] = []
        for choice in event["choices"]:
            told = choice["logprobs"]
            if told is None:
                continue
            tops = told["top_logprobs"]
            for name, logprob, top in zip(told["tokens"], told["token_logprobs"], tops, strict=True):
                token = _id(name)
                pairs = [(_id(word), float(nats)) for word, nats in (top or {}).items() if nats > NO_NUMBER]
                pairs = sorted(pairs, key=lambda pair: -pair[1])[:most]
                tokens.append(Token(token, float(logprob), tuple(pairs), token in ends))
    except (KeyError, TypeError, ValueError) as error:
        raise _Failed(f"its stream has another shape ({event!r:.80})") from error
    if any(not math.isfinite(token.logprob) or token.logprob <= NO_NUMBER for token in tokens):
        raise Refusal("there is no answer: the model's numbers are not finite on its server.", 500, "not_finite")
    return tokens


def _id(name: str) -> int:
    """The id in `token_id:17`.

    Raises:
        ValueError: it is another word.
    """
    return int(name.removeprefix("token_id:")) if name.startswith("token_id:") else int("none")


def _reason_of(event: dict[str, Any]) -> object:
    """Why a stream ends with an event; None where it goes on."""
    choices = event.get("choices")
    return choices[0].get("finish_reason") if isinstance(choices, list) and choices else None


async def _read(response: httpx2.Response) -> bytes:
    """The whole of an answer.

    Raises:
        _Failed: it has no end.
    """
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MOST_ANSWER:
            raise _Failed(f"its answer has more than {MOST_ANSWER:,} bytes")
        parts.append(part)
    return b"".join(parts)


async def _lines(response: httpx2.Response) -> AsyncGenerator[str, None]:
    """The lines of a stream.

    Raises:
        _Failed: one has no end.
    """
    rest = b""
    async for part in response.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip("\r")
        if len(rest) > MOST_ANSWER:
            raise _Failed(f"a line of its stream has more than {MOST_ANSWER:,} bytes")


def _json(content: bytes) -> dict[str, Any]:
    """The JSON object that a server sends.

    Raises:
        _Failed: it is none.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _Failed(f"it sends no JSON ({content[:60]!r})") from error
    if not isinstance(value, dict):
        raise _Failed(f"it sends {value!r:.60}; expected a JSON object")
    return value


def _check_status(status: int, content: bytes) -> None:
    """Refuse any answer but 200.

    Raises:
        Refusal: the server refuses the row itself.
        _Failed: it is another's turn.
    """
    if status == 200:
        return
    try:
        reason = _message(json.loads(content))
    except (ValueError, RecursionError, AttributeError):
        reason = printable(content[:100].decode("utf-8", "replace"))
    if status in (400, 413, 422):
        raise Refusal(f"the vLLM server takes no such row: {reason}", 400, "upstream_refused")
    if status in (401, 403):
        raise _Failed(f"it wants a token (HTTP {status}); set {TOKEN} to it", 503, is_down=True)
    if status in (429, 503):
        raise _Failed(f"it is busy (HTTP {status}: {reason})", 503)
    raise _Failed(f"it answers HTTP {status}: {reason}")


def _message(content: dict[str, Any]) -> str:
    """What an error of vLLM says."""
    error = content.get("error", content)
    text = error.get("message", error) if isinstance(error, dict) else error
    return printable(str(text))[:200]


def _unreachable(error: httpx2.HTTPError) -> _Failed:
    """What a server that cannot be reached, hangs or breaks off comes to."""
    if isinstance(error, httpx2.TimeoutException):
        return _Failed(f"it does not answer in time ({type(error).__name__})", 504, is_down=True)
    return _Failed(
        f"it cannot be reached ({type(error).__name__} {str(error)[:100]})".replace(" )", ")"), 503, is_down=True
    )


def _checked_url(url: str) -> str:
    """The address of a server, without the path of the API.

    Raises:
        ConfigError: it is none.
    """
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise ConfigError(f"the upstream {url!r:.100} is no address: {error}; expected http://HOST:PORT.") from error
    if parsed.scheme not in ("http", "https") or not _HOST.fullmatch(parsed.host):
        raise ConfigError(f"the upstream {url!r:.100} is no address; expected http://HOST:PORT.")
    return url.rstrip("/").removesuffix("/v1")
