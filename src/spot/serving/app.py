"""The routes of a server: OpenAI's completions and chat, `/v1/classify`, and what operators ask for."""

import asyncio
import json
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from spot import __version__
from spot.collator import Row
from spot.errors import StorageError
from spot.evaluation.predictions import Prediction
from spot.library.library import Library
from spot.page.page import Sources
from spot.serving.completions import (
    CHAT,
    COMPLETION,
    Kind,
    Piece,
    chat_text,
    chunks_of,
    encoded,
    examples_of,
    merged,
    pieces,
    prompts_of,
    sampling_of,
    seed_of,
    stops_of,
    together,
    whole,
)
from spot.serving.extra import missing_extra
from spot.serving.guard import OPEN_ROUTES, Guard, check_content, is_local, refusal_of
from spot.serving.metrics import Metrics, metrics_of
from spot.serving.pages import OPEN_PAGES, add_pages
from spot.serving.requests import Catalogue, Engine, Refusal, Served
from spot.serving.settings import ServeSettings
from spot.serving.wire import (
    ChatCompletion,
    ChatRequest,
    Classification,
    Classified,
    ClassifyRequest,
    Completion,
    CompletionRequest,
    ErrorBody,
    Health,
    ModelList,
    ServedModel,
    Usage,
    error_body,
    read_request,
)
from spot.storage.strict_json import read_object
from spot.tasks.task import Example

try:
    from fastapi import FastAPI
    from fastapi.openapi.utils import get_openapi
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
except ImportError as error:
    raise missing_extra("fastapi") from error

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_AT_ONCE = 50_000  # bytes of a body that is parsed on the event loop
_MOST_PARTS = 50_000  # lists and objects of a body: a million of them take seconds to make and to check
_TEXTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SCHEMAS = "#/components/schemas/{model}"
_REQUESTS: tuple[type[BaseModel], ...] = (CompletionRequest, ChatRequest, ClassifyRequest)
_STREAM: dict[str, Any] = {"content": {"text/event-stream": {}}}  # OpenAPI 3.1 has no words for the events in it
_PLAIN = {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}

Asked = TypeVar("Asked", bound=BaseModel)


def create_app(
    catalogue: Catalogue, engine: Engine, settings: ServeSettings, *, token: str = "", library: Library | None = None
) -> FastAPI:
    """The application of a server; when it ends, so does the engine.

    Args:
        catalogue: the models that requests may name.
        engine: computes rows.
        settings: the limits, and the address, which requests must name where it is this machine's own.
        token: that requests must bear; empty for none.
        library: that the page at `/` shows; None for no page.

    Raises:
        Refusal: an address that others reach, without a token.
    """
    if not token and not is_local(settings.host):
        raise Refusal(
            f"host is {settings.host!r}, which others may reach, and there is no token: expected --token-file FILE, "
            "or the host 127.0.0.1.",
            500,
            "no_token",
        )
    metrics = metrics_of(catalogue, engine)
    routes = _Routes(catalogue, engine, settings, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await engine.close()

    app = FastAPI(
        title="spot",
        version=__version__,
        description="Many tasks, answered by one frozen language model with a soft prompt for each.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _plain_refusal},
    )
    app.add_middleware(
        Guard,
        host=settings.host,
        token=token,
        max_body_bytes=settings.max_body_bytes,
        timeout_s=settings.timeout_s,
        metrics=metrics,
        open_routes=OPEN_ROUTES | (OPEN_PAGES if library is not None else frozenset()),
    )
    _add_routes(app, routes)
    if library is not None:
        add_pages(app, library, Sources(settings.study, settings.transfer))
    app.openapi = _Schema(app, is_secured=bool(token))  # type: ignore[method-assign]
    return app


@dataclass(frozen=True)
class _Routes:
    """What answers each route."""

    catalogue: Catalogue
    engine: Engine
    settings: ServeSettings
    metrics: Metrics
    # One thread: tokenizers of transformers keep settings between calls, which two threads would change at a time.
    encoder: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="encode"))
    started: int = field(default_factory=lambda: int(time.time()))

    async def healthz(self) -> Response:
        """Say that the server answers."""
        return JSONResponse({"status": "ok"})

    async def readyz(self) -> Response:
        """Say whether rows can be answered."""
        if not self.engine.is_ready:
            raise Refusal("rows cannot be answered at this moment: try again.", 503, "not_ready", retry_after=1)
        return JSONResponse({"status": "ready"})

    async def metrics_text(self) -> Response:
        """What the server counts, for Prometheus."""
        return PlainTextResponse(self.metrics.text(), media_type=METRICS_TYPE)

    async def models(self) -> Response:
        """List the models that requests may name."""
        listed: ModelList = {"object": "list", "data": [self._described(model) for model in self.catalogue.served()]}
        return JSONResponse(listed)

    async def model(self, name: str) -> Response:
        """Describe one model, by task, digest or the beginning of one."""
        return JSONResponse(self._described(self.catalogue.find(name)))

    async def classify(self, request: Request) -> Response:
        """Rank the labels of a model's task for each row."""
        asked = await _read(ClassifyRequest, request)
        served = self.catalogue.find(asked.model)
        labels = served.collator.labels
        if not labels:
            raise Refusal(
                f"{served.name} has no labels to rank: expected a model whose task has some (/v1/models lists them), "
                "or a request to /v1/completions.",
                400,
                "no_labels",
                param="model",
            )
        async with self._within_time():
            values = asked.input if isinstance(asked.input, list) else [asked.input]
            rows = await self._rows(
                served, lambda: examples_of(values, served.collator.reading), len(values), 1, "input"
            )
            self.metrics.rows.labels("classify").inc(len(rows))
            predictions = await self.engine.classify(served, rows)
        tokens = sum(len(row.input_ids) for row in rows)
        answers: Classification = {
            "object": "classification",
            "model": served.name,
            "digest": served.digest,
            "data": [
                _classified(number, row, prediction)
                for number, (row, prediction) in enumerate(zip(rows, predictions, strict=True))
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return JSONResponse(answers)

    async def complete(self, request: Request) -> Response:
        """Go on with texts; with `stream`, as server-sent events that end with `[DONE]`."""
        asked = await _read(CompletionRequest, request)
        served = self.catalogue.find(asked.model)
        texts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        return await self._generated(request, asked, served, texts, COMPLETION)

    async def chat(self, request: Request) -> Response:
        """Answer a user's turn, with a prompt that was trained in the model's chat form."""
        asked = await _read(ChatRequest, request)
        served = self.catalogue.find(asked.model)
        text = chat_text(asked.messages, served.collator.reading, served.name)
        return await self._generated(request, asked, served, [text], CHAT)

    async def _generated(
        self, request: Request, asked: CompletionRequest | ChatRequest, served: Served, texts: list[str], kind: Kind
    ) -> Response:
        """The answers to texts, whole or as a stream."""
        choices = asked.n or 1
        sampling = sampling_of(asked, served, self.settings.max_new_tokens)
        with_tokens = asked.logprobs is not None and asked.logprobs is not False
        head = {"id": kind.prefix + secrets.token_hex(12), "created": int(time.time()), "model": served.name}
        async with self._within_time() as deadline:
            rows = await self._rows(
                served, lambda: prompts_of(texts, served.collator.reading), len(texts), choices, kind.param
            )
            self.metrics.rows.labels("generate").inc(len(rows) * choices)
            parts = [
                pieces(
                    self.engine,
                    served,
                    row,
                    replace(sampling, seed=seed_of(sampling.seed, choice)),
                    stops_of(asked.stop),
                    with_tokens=with_tokens,
                )
                for row in rows
                for choice in range(choices)
            ]
            prompt_tokens = sum(len(row.input_ids) for row in rows)
            if asked.stream:
                stream = merged(parts)
                request.scope["spot.exits"].push_async_callback(stream.aclose)
                first = await anext(stream)  # what is refused before it has a status of its own
                with_usage = bool(asked.stream_options and asked.stream_options.include_usage)
                chunks = _chunks(first, stream, deadline, kind, with_tokens)
                events = self._events(chunks, {**head, "object": kind.part}, prompt_tokens, with_usage, _id_of(request))
                request.scope["spot.exits"].push_async_callback(events.aclose)
                return StreamingResponse(events, media_type="text/event-stream")
            answers = await together([whole(part) for part in parts])
        completion_tokens = sum(answer.count for answer in answers)
        self.metrics.output_tokens.inc(completion_tokens)
        return JSONResponse(
            {
                **head,
                "object": kind.whole,
                "choices": [
                    {**kind.choice(number, answer, with_tokens), "truncated": rows[number // choices].lost}
                    for number, answer in enumerate(answers)
                ],
                "usage": _usage(prompt_tokens, completion_tokens),
            }
        )

    async def _events(
        self,
        chunks: AsyncGenerator[tuple[int, dict[str, Any]], None],
        head: Mapping[str, Any],
        prompt_tokens: int,
        with_usage: bool,
        request_id: str,
    ) -> AsyncGenerator[bytes, None]:
        """A stream's events; one that breaks off ends with an error in the one shape, and without `[DONE]`."""
        usage = {"usage": None} if with_usage else {}
        count = 0
        try:
            async with aclosing(chunks):
                async for tokens, choice in chunks:
                    count += tokens
                    self.metrics.output_tokens.inc(tokens)
                    yield _event({**head, "choices": [choice], **usage})
        except Exception as error:
            refusal = refusal_of(error, request_id)
            self.metrics.refused.labels(refusal.code).inc()
            yield _event(error_body(refusal, request_id))
            return
        if with_usage:
            yield _event({**head, "choices": [], "usage": _usage(prompt_tokens, count)})
        yield b"data: [DONE]\n\n"

    async def _rows(
        self, served: Served, examples: Callable[[], list[Example]], count: int, choices: int, param: str
    ) -> list[Row]:
        """The rows of a request, encoded beside the event loop.

        Raises:
            Refusal: there are too many of them, or they have too many tokens.
        """
        if count * choices > self.settings.max_rows:
            raise Refusal(
                f"{count * choices:,} answers are asked for; expected at most {self.settings.max_rows:,} a request. "
                "Send several requests.",
                413,
                "too_many_rows",
                param=param,
            )
        run = asyncio.get_running_loop().run_in_executor
        whole_list = await run(self.encoder, examples)
        rows: list[Row] = []
        tokens = 0
        for part in chunks_of(whole_list):
            rows += (encoded_rows := await run(self.encoder, encoded, served.collator, part))
            tokens += sum(len(row.input_ids) for row in encoded_rows)
            if tokens * choices > self.settings.max_request_tokens:
                raise Refusal(
                    f"the rows have more than {self.settings.max_request_tokens:,} tokens, the limit of this server. "
                    "Send several requests.",
                    413,
                    "too_many_tokens",
                    param=param,
                )
        self.metrics.input_tokens.inc(tokens)
        return rows

    @asynccontextmanager
    async def _within_time(self) -> AsyncIterator[float]:
        """Give a request its time; the end of it, by the loop's clock.

        Raises:
            Refusal: 504, it is over.
        """
        try:
            async with asyncio.timeout(self.settings.timeout_s) as limit:
                yield limit.when() or 0.0
        except TimeoutError as error:
            raise _too_slow() from error

    def _described(self, served: Served) -> ServedModel:
        """A model as a client is told of it."""
        reading, entry = served.collator.reading, served.entry
        return {
            "id": served.name,
            "object": "model",
            "created": self.started,
            "owned_by": "spot",
            "task": entry.task if entry is not None else "",
            "digest": served.digest,
            "length": served.length,
            "labels": list(served.collator.labels),
            "form": reading.form,
            "fields": list(reading.fields),
            "chat": reading.chat,
            "scores": dict(entry.scores) if entry is not None else {},
        }


async def _chunks(
    first: tuple[int, Piece],
    rest: AsyncGenerator[tuple[int, Piece], None],
    deadline: float,
    kind: Kind,
    with_tokens: bool,
) -> AsyncGenerator[tuple[int, dict[str, Any]], None]:
    """The pieces of a stream as tokens generated and the choice that its client gets.

    Raises:
        Refusal: 504, its time is over.
    """
    begun: set[int] = set()
    item: tuple[int, Piece] | None = first
    while item is not None:
        number, piece = item
        yield piece.count, kind.chunk(number, piece, with_tokens, number not in begun)
        begun.add(number)
        try:
            async with asyncio.timeout_at(deadline):
                item = await anext(rest, None)
        except TimeoutError as error:
            raise _too_slow() from error


def _too_slow() -> Refusal:
    return Refusal("the answer took longer than this server gives a request: ask for less, or later.", 504, "timeout")


def _add_routes(app: FastAPI, routes: _Routes) -> None:
    """Put every route in its place, with what it takes and gives."""
    refusals: dict[int | str, dict[str, Any]] = {
        "4XX": {"model": ErrorBody, "description": "The request is refused."},
        "5XX": {"model": ErrorBody, "description": "The server cannot answer."},
    }

    def add(path: str, endpoint: Callable[..., Any], answer: Any, asked: type[BaseModel] | None = None) -> None:
        success = {"model": answer, "description": "The answer."} if answer is not None else _PLAIN
        body: dict[str, Any] = {}
        if asked is not None:
            schema = {"$ref": _SCHEMAS.format(model=asked.__name__)}
            body = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
            if asked is not ClassifyRequest:
                success = {**success, **_STREAM}
        app.add_api_route(
            path,
            endpoint,
            methods=["GET" if asked is None else "POST"],
            response_model=None,
            responses={200: success, **refusals},
            openapi_extra=body or None,
        )
        if asked is None:  # load balancers ask for the head alone
            app.add_api_route(path, endpoint, methods=["HEAD"], response_model=None, include_in_schema=False)

    add("/healthz", routes.healthz, Health)
    add("/readyz", routes.readyz, Health)
    add("/metrics", routes.metrics_text, None)
    add("/v1/models", routes.models, ModelList)
    add("/v1/models/{name:path}", routes.model, ServedModel)
    add("/v1/completions", routes.complete, Completion, CompletionRequest)
    add("/v1/chat/completions", routes.chat, ChatCompletion, ChatRequest)
    add("/v1/classify", routes.classify, Classification, ClassifyRequest)


@dataclass(frozen=True)
class _Schema:
    """Makes the description of the API when it is first asked for."""

    app: FastAPI
    is_secured: bool

    def __call__(self) -> dict[str, Any]:
        """OpenAPI's description, with the requests and the token."""
        app = self.app
        if app.openapi_schema is not None:
            return app.openapi_schema
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _, definitions = models_json_schema([(request, "validation") for request in _REQUESTS], ref_template=_SCHEMAS)
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {}).update(definitions["$defs"])
        if self.is_secured:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, operations in schema["paths"].items():
                for operation in operations.values():
                    operation["security"] = [] if path in OPEN_ROUTES else [{"token": []}]
        app.openapi_schema = schema
        return schema


async def _read(kind: type[Asked], request: Request) -> Asked:
    """A request of a kind from a body.

    Raises:
        Refusal: 400, it is no JSON, or none of this kind; 415, it does not say that it is JSON.
    """
    check_content(request.scope)
    body = await request.body()
    if len(body) > _AT_ONCE:  # beside the event loop, which would stand still for long
        return await asyncio.to_thread(_parsed, kind, body)
    return _parsed(kind, body)


def _parsed(kind: type[Asked], body: bytes) -> Asked:
    """A request of a kind from JSON."""
    if len(body) > _AT_ONCE and (parts := _openings(body)) > _MOST_PARTS:
        raise Refusal(
            f"the body holds {parts:,} lists and objects; expected at most {_MOST_PARTS:,}. Send smaller requests.",
            413,
            "too_many_parts",
        )
    try:
        value = read_object(body, "the body", most_bytes=len(body))
    except StorageError as error:
        raise Refusal(str(error), 400, "invalid_json") from error
    return read_request(kind, value)


def _openings(body: bytes) -> int:
    """How many lists and objects JSON holds; what its texts say does not count."""
    plain = _TEXTS.sub(b"", body)
    return plain.count(b"[") + plain.count(b"{")


async def _plain_refusal(request: Request, error: Exception) -> Response:
    """What the framework refuses, such as an unknown path, in the one shape."""
    assert isinstance(error, HTTPException)
    codes = {404: "unknown_path", 405: "bad_method"}
    refusal = Refusal(
        f"{request.method} {request.url.path[:200]}: {error.detail}. /openapi.json says what this server answers.",
        error.status_code,
        codes.get(error.status_code, "invalid_request"),
    )
    return JSONResponse(error_body(refusal, _id_of(request)), error.status_code, headers=error.headers)


def _id_of(request: Request) -> str:
    """The request's id, which the guard has given it."""
    return request.scope["spot.request_id"]


def _classified(number: int, row: Row, prediction: Prediction) -> Classified:
    """The answer to one row."""
    return {
        "index": number,
        "label": prediction.text if prediction.is_answered else None,
        "probabilities": prediction.probabilities if prediction.is_answered else None,
        "truncated": row.lost,
    }


def _usage(prompt_tokens: int, completion_tokens: int) -> Usage:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _event(value: Any) -> bytes:
    """One server-sent event; in ASCII, because some clients take U+2028 and its like for the end of a line."""
    return b"data: " + json.dumps(value, allow_nan=False).encode() + b"\n\n"
