"""A server's engine and models without a model, and a client that speaks ASGI and can misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spot.collator import Collator, Row
from spot.errors import did_you_mean
from spot.evaluation.predictions import Prediction
from spot.library.entries import Entry
from spot.prompts.prompt import BackboneId
from spot.reading import Reading
from spot.serving.app import create_app
from spot.serving.requests import BASE, Load, Refusal, Sampling, Served, Token
from spot.serving.settings import ServeSettings
from tests.support.tiny_models import byte_tokenizer

LOCAL = (("host", "127.0.0.1"), ("content-type", "application/json"))
CHAT_TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
MOOD = Reading(template="mood: {text}", cue="", labels=(("0", "bad"), ("1", "good")))
READINGS = {
    "mood": MOOD,
    "pair": Reading(template="{first} / {second}", cue="", labels=(("0", "no"), ("1", "yes"))),
    "story": Reading(template="story: {text}", cue="", decode="generate", max_target_tokens=12),
    "mixture": Reading(cue="", labels=(("0", "no"), ("1", "yes"))),
    "talk": Reading(template="{text}", chat=True, system="Be kind.", decode="generate"),
}


def served_models(readings: Mapping[str, Reading] = READINGS) -> list[Served]:
    """`base` and a model of each reading, all on a byte tokenizer."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    models = [Served(BASE, Collator(tokenizer, "causal", Reading(cue="", separator="", decode="generate")))]
    for number, (task, reading) in enumerate(readings.items()):
        entry = Entry(
            digest=f"{number:x}" * 16,
            task=task,
            path=Path("nowhere") / f"{task}.safetensors",
            scores={"accuracy": 90.0},
            frozen_scores={},
            step=1,
            length=4,
            backbone=BackboneId("tiny", "causal", 32, 300, "0" * 16),
            key_recipe=None,
        )
        models.append(Served(task, Collator(tokenizer, "causal", reading), entry))
    return models


@dataclass
class FakeCatalogue:
    """Models from a list."""

    models: list[Served] = field(default_factory=served_models)
    problems: tuple[str, ...] = ()

    def served(self) -> list[Served]:
        return self.models

    def find(self, name: str) -> Served:
        for model in self.models:
            if (name and name in (model.name, model.digest)) or (len(name) >= 4 and model.digest.startswith(name)):
                return model
        names = [model.name for model in self.models]
        raise Refusal(f"no model {name!r}; {did_you_mean(name, names)}", 404, "model_not_found", param="model")


@dataclass
class FakeEngine:
    """Says a text of its own, or what it reads in capitals, a byte at a time; labels go by the length of a row.

    Attributes:
        text: what it says; empty for the row in capitals.
        pause: seconds before each token and each list of labels.
        fault: raised in place of an answer, or behind the tokens of `text`.
        running: calls that have begun and not ended.
        ended: calls that were closed or cancelled before their end.
        asked: the samplings.
    """

    text: str = ""
    pause: float = 0.0
    fault: Exception | None = None
    is_ready: bool = True
    running: int = 0
    ended: int = 0
    closed: bool = False
    asked: list[Sampling] = field(default_factory=list)
    load: Load = field(default_factory=Load)

    async def classify(self, served: Served, rows: Sequence[Row]) -> list[Prediction]:
        async with self._call():
            await asyncio.sleep(self.pause)
            if self.fault is not None:
                raise self.fault
            return [label_of(served, row) for row in rows]

    async def generate(self, served: Served, row: Row, sampling: Sampling) -> AsyncIterator[Token]:
        self.asked.append(sampling)
        ids = answer_ids(served, row, self.text)
        async with self._call():
            for number, token in enumerate(ids[: sampling.max_tokens]):
                await asyncio.sleep(self.pause)
                likeliest = tuple((token - rank if rank else token, -0.5 - rank) for rank in range(sampling.logprobs))
                yield Token(token, -0.5 - 0.25 * (number % 2), likeliest)
            if self.fault is not None:
                raise self.fault
            if len(ids) < sampling.max_tokens:
                yield Token(1, -0.1, is_end=True)

    def _call(self) -> "_Call":
        return _Call(self)

    async def close(self) -> None:
        self.closed = True


@dataclass
class _Call:
    engine: FakeEngine

    async def __aenter__(self) -> None:
        self.engine.running += 1

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.engine.running -= 1
        self.engine.ended += kind in (asyncio.CancelledError, GeneratorExit)


def label_of(served: Served, row: Row) -> Prediction:
    """What the fake engine answers to a row."""
    labels = served.collator.labels
    best = len(row.input_ids) % len(labels)
    return Prediction(labels[best], tuple(-0.25 if place == best else -1.5 for place in range(len(labels))), labels)


def answer_ids(served: Served, row: Row, text: str = "") -> list[int]:
    """The tokens that the fake engine goes on with."""
    tokenizer = served.collator.tokenizer
    text = text or tokenizer.decode(list(row.input_ids), skip_special_tokens=True).upper()
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@dataclass(frozen=True)
class Reply:
    """What came back of a request.

    Attributes:
        status: of HTTP; 0 where nothing was sent.
        headers: by their small letters.
        body: all of it.
        is_whole: whether the response came to its end.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error, which must have the one shape and the request's id."""
        body = self.json
        assert body.keys() == {"error"}, body
        assert body["error"].keys() == {"message", "type", "code", "param", "request_id"}
        assert body["error"]["request_id"] == self.headers["x-request-id"]
        assert "Traceback" not in body["error"]["message"]
        return body["error"]

    @property
    def events(self) -> list[Any]:
        """Of a stream: each event's JSON, and `[DONE]` as it is."""
        texts = [line.removeprefix("data: ") for line in self.body.decode().split("\n\n") if line]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]


@dataclass
class Client:
    """Sends requests to an application in process.

    Attributes:
        app: of ASGI.
        headers: of every request.
    """

    app: Any
    headers: Sequence[tuple[str, str]] = LOCAL

    async def send(
        self,
        method: str,
        path: str,
        parts: Iterable[bytes] = (b"",),
        headers: Sequence[tuple[str, str]] | None = None,
        *,
        leaves: Callable[[], Awaitable[Any]] | None = None,
        pause: float = 0.0,
        query: str = "",
        takes: Callable[[bytes], Awaitable[Any]] | None = None,
    ) -> Reply:
        """A request whose body comes in parts.

        Args:
            method: of HTTP.
            path: with its query apart.
            parts: of the body.
            headers: instead of the client's own.
            leaves: the client leaves when this ends.
            pause: seconds before each part of the body.
            query: of the address.
            takes: called with every part of the response.
        """
        left, sent = list(parts), []
        ended = asyncio.Event()
        status, given, is_whole = 0, {}, False

        async def receive() -> dict[str, Any]:
            if left:
                await asyncio.sleep(pause)
                part = left.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(left)}
            await (leaves() if leaves is not None else ended.wait())
            return {"type": "http.disconnect"}

        async def send(message: Mapping[str, Any]) -> None:
            nonlocal status, given, is_whole
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.decode().lower(): value.decode() for name, value in message["headers"]}
                return
            sent.append(message.get("body", b""))
            if takes is not None:
                await takes(message.get("body", b""))
            is_whole = not message.get("more_body", False)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in (headers or self.headers)],
            "client": ("127.0.0.1", 4000),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }
        await self.app(scope, receive, send)
        ended.set()
        return Reply(status, given, b"".join(sent), is_whole)

    def get(self, path: str, **options: Any) -> Reply:
        """A request without a body."""
        return asyncio.run(self.send("GET", path, **options))

    def post(self, path: str, value: Any, **options: Any) -> Reply:
        """A request with JSON, or with bytes as they are."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return asyncio.run(self.send("POST", path, [body], **options))


def client_of(
    engine: FakeEngine | None = None, catalogue: FakeCatalogue | None = None, token: str = "", **settings: Any
) -> Client:
    """A client of an application with a fake engine."""
    app = create_app(catalogue or FakeCatalogue(), engine or FakeEngine(), ServeSettings(**settings), token=token)
    return Client(app)


def with_cue(served: Served, cue: str) -> Served:
    """A model that reads with another cue."""
    reading = replace(served.collator.reading, cue=cue)
    return replace(served, collator=replace(served.collator, reading=reading))
