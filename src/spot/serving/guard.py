"""What stands between a client and the routes: who may ask, how much, how slowly, and what a refusal looks like.

It is plain ASGI: a request is read whole here, within limits of bytes and time, before a route sees it, and a client
that leaves ends the route's work.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import re
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from spot.errors import SpotError, TaskError
from spot.serving.metrics import Metrics
from spot.serving.requests import Refusal
from spot.serving.wire import error_body

log = logging.getLogger(__name__)
access_log = logging.getLogger(f"{__name__}.access")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

READ_S = 20.0  # within which a body must be here
OPEN_ROUTES = frozenset({"/healthz", "/readyz"})  # answer without a token: they tell nothing but that
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
HEADERS = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}  # of every response that does not bring its own
_BODIES = 16  # of the largest size that may be in memory at a time while they are read
_DRAINED = 8  # times the limit that is read and dropped of a body that is too large, so that its client can read why
_GONE = 499  # what the log and the metrics call a request whose client left
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ClientLeft(Exception):
    """The client closed its connection before it had its answer."""


@dataclass
class _Exchange:
    """One request while it is answered.

    Attributes:
        scope: of ASGI.
        request_id: the client's, if it gave a sound one; else ours.
        send: to the client.
        patience: how long a client may take to read a part, seconds.
        status: of the response; `_GONE` as long as there is none.
        is_complete: whether all of the response has been sent.
        started: when it came, by the clock of `time.perf_counter`.
    """

    scope: Scope
    request_id: str
    send: Send
    patience: float
    status: int = _GONE
    is_complete: bool = False
    started: float = field(default_factory=time.perf_counter)

    @property
    def has_begun(self) -> bool:
        """Whether the response has begun."""
        return self.status != _GONE

    async def __call__(self, message: Message) -> None:
        """Send a part of the response, with our headers.

        Raises:
            ClientLeft: the client reads nothing for too long.
        """
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = {name.lower() for name, _ in message.get("headers", [])}
            ours = {**HEADERS, "x-request-id": self.request_id}
            added = [(name.encode(), value.encode()) for name, value in ours.items() if name.encode() not in given]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        try:
            async with asyncio.timeout(self.patience):
                await self.send(message)
        except TimeoutError as error:
            raise ClientLeft from error
        if message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body", False)

    async def refuse(self, refusal: Refusal) -> None:
        """Send a refusal in the one shape."""
        body = json.dumps(error_body(refusal, self.request_id)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if refusal.retry_after is not None:
            headers.append((b"retry-after", str(max(1, round(refusal.retry_after))).encode()))
        if refusal.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if refusal.status in (408, 413):
            headers.append((b"connection", b"close"))
        await self({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


@dataclass
class Guard:
    """An application behind the guard.

    Attributes:
        app: the routes.
        host: the address that the server listens on; on this machine's own, requests must name it.
        token: that requests must bear; empty for none.
        max_body_bytes: most bytes of a request.
        timeout_s: after which a client that reads nothing is left, seconds.
        metrics: what is counted.
        open_routes: that answer without a token.
        read_s: within which a body must be here, seconds.
        held: bytes of the bodies that are in memory.
    """

    app: AsgiApp
    host: str
    token: str = field(repr=False)
    max_body_bytes: int
    timeout_s: float
    metrics: Metrics
    open_routes: frozenset[str] = OPEN_ROUTES
    read_s: float = READ_S
    held: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens, and count it."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        exchange = _Exchange(scope, _request_id(scope), send, self.timeout_s)
        scope["spot.request_id"] = exchange.request_id
        try:
            async with AsyncExitStack() as exits:
                scope["spot.exits"] = exits
                await self._answer(scope, receive, exchange, exits)
        except ClientLeft:
            exchange.status = _GONE
        except Exception as error:
            refusal = refusal_of(error, exchange.request_id)
            self.metrics.refused.labels(refusal.code).inc()
            if not exchange.has_begun:  # else what has been said stands, and the connection ends
                await _without_error(exchange.refuse(refusal))
        finally:
            self._count(exchange)

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange, exits: AsyncExitStack) -> None:
        """Check a request, read it and have the routes answer it."""
        if is_local(self.host):
            _check_host(scope, LOCAL_NAMES | {self.host.lower()})
        _check_origin(scope)
        if self.token and scope["path"] not in self.open_routes:
            _check_token(scope, self.token)
        try:
            async with asyncio.timeout(self.read_s):
                body = await self._read(scope, receive, exits)
        except TimeoutError as error:
            raise Refusal(
                f"the body was not here within {self.read_s:g} s: send it faster, or in smaller requests.",
                408,
                "slow_client",
            ) from error
        await _answered(self.app, scope, body, receive, exchange)

    async def _read(self, scope: Scope, receive: Receive, exits: AsyncExitStack) -> bytes:
        """The body of a request.

        Raises:
            Refusal: it is too large (413), or there is no room for it at this moment (503).
            ClientLeft: it does not come to its end.
        """
        most = self.max_body_bytes
        is_too_large = _declared_length(scope) > most
        if is_too_large and header(scope, "expect"):  # the client waits for a word before it sends
            raise _too_large(most)
        parts: list[bytes] = []
        size = 0
        has_more = True
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            part, has_more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            is_too_large = is_too_large or size > most
            if size > _DRAINED * most:
                break
            if not is_too_large:
                self._hold(len(part), exits)
                parts.append(part)
        if is_too_large:
            raise _too_large(most)
        return b"".join(parts)

    def _hold(self, size: int, exits: AsyncExitStack) -> None:
        """Take room for a part of a body until its request is answered.

        Raises:
            Refusal: 503, there is none.
        """
        if self.held + size > _BODIES * self.max_body_bytes:
            raise Refusal(
                "too many large requests are here at this moment: send this one again in a second.", 503, "busy", 1
            )
        self.held += size
        exits.callback(self._release, size)

    def _release(self, size: int) -> None:
        """Give room back."""
        self.held -= size

    def _count(self, exchange: _Exchange) -> None:
        """Put an answered request into the metrics and the log; neither holds any of its text."""
        seconds = time.perf_counter() - exchange.started
        route = getattr(exchange.scope.get("route"), "path_format", "unknown")
        method = exchange.scope["method"] if exchange.scope["method"] in _METHODS else "OTHER"
        self.metrics.requests.labels(route, str(exchange.status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        access_log.info("%s %s %d %.1f ms %s", method, route, exchange.status, 1000 * seconds, exchange.request_id)


def refusal_of(error: Exception, request_id: str) -> Refusal:
    """What a client is told of an error; of one that is no fault of the request, nothing but that it happened.

    The log gets its kind and where it arose, not its message: that may hold texts of the request.
    """
    match error:
        case Refusal():
            return error
        case TaskError():
            return Refusal(str(error), 400, "bad_row")
        case SpotError():
            log.error("request %s: %s: %s", request_id, type(error).__name__, error)
        case _:
            chain = error.__cause__ or error.__context__
            where = "".join(traceback.format_tb(error.__traceback__)).rstrip()
            cause = f" because of {type(chain).__name__}" if chain is not None else ""
            log.error("request %s: %s%s at\n%s", request_id, type(error).__name__, cause, where)
    return Refusal(
        "the server could not answer this request. The fault is not the request's: its operator finds the reason in "
        "the log by the request id.",
        500,
        "internal_error",
    )


def is_local(host: str) -> bool:
    """Whether an address is reached from this machine alone; a name other than `localhost` is not looked up."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def header(scope: Scope, name: str) -> str:
    """A header's value; empty where it is missing.

    Raises:
        Refusal: 400, it stands twice.
    """
    values = [value for key, value in scope["headers"] if key.lower() == name.encode()]
    if len(values) > 1:
        raise Refusal(f"the header {name} stands {len(values)} times; expected once.", 400, "bad_header")
    return values[0].decode("latin-1") if values else ""


async def _answered(app: AsgiApp, scope: Scope, body: bytes, receive: Receive, exchange: _Exchange) -> None:
    """Have the routes answer a request; where its client leaves, their work is cancelled.

    Raises:
        ClientLeft: it left.
    """
    gone = asyncio.Event()
    is_read = False

    async def replay() -> Message:
        nonlocal is_read
        if not is_read:
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def leaves() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    work = asyncio.ensure_future(app(scope, replay, exchange))
    watch = asyncio.ensure_future(leaves())
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        # A server says of a client that has its whole answer that it left, too.
        if not work.done() and not exchange.is_complete:
            raise ClientLeft
        gone.set()
        await work
    finally:
        gone.set()
        work.cancel()
        watch.cancel()
        await asyncio.gather(work, watch, return_exceptions=True)


async def _without_error(work: Awaitable[None]) -> None:
    """Say something to a client that may have gone."""
    try:
        await work
    except (ClientLeft, OSError):
        return


def _request_id(scope: Scope) -> str:
    """The client's name of a request, if it is sound; else one of ours."""
    given = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == b"x-request-id"]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return f"req_{secrets.token_hex(12)}"


def _check_host(scope: Scope, names: frozenset[str]) -> None:
    """Refuse a request by another name than this machine's: a page of that name could have a browser send it.

    Raises:
        Refusal: 403.
    """
    given = header(scope, "host").lower()
    name = re.sub(r":\d*$", "", given)
    if name not in names:
        raise Refusal(
            f"the request is to {given!r:.80}, and this server answers to {', '.join(sorted(names))} only: it listens "
            "on this machine's own address. Use one of these, or have a proxy send it.",
            403,
            "wrong_host",
        )


def _check_origin(scope: Scope) -> None:
    """Refuse what a page of another site has a browser send; that a person follows a link to a page is no such thing.

    Raises:
        Refusal: 403.
    """
    is_foreign = header(scope, "sec-fetch-site") in ("cross-site", "same-site")
    is_link = scope["method"] == "GET" and header(scope, "sec-fetch-mode") == "navigate"
    if is_foreign and not is_link:
        raise Refusal("a page of another site sent this request: expected one of this server.", 403, "cross_origin")


def _check_token(scope: Scope, token: str) -> None:
    """Refuse a request without the token.

    Raises:
        Refusal: 401.
    """
    kind, _, given = header(scope, "authorization").partition(" ")
    # Of equal length whatever was given, and compared in a time that does not depend on where they differ.
    is_right = hmac.compare_digest(_digest(given.strip().encode("latin-1")), _digest(token.encode()))
    if kind.lower() != "bearer" or not is_right:
        what = "a token that is not this server's" if given else "no token"
        raise Refusal(
            f"the request bears {what}: expected the header Authorization: Bearer TOKEN (api_key of OpenAI's client).",
            401,
            "invalid_api_key",
        )


def check_content(scope: Scope) -> None:
    """Refuse a body that is no JSON by its header: a page of another site could have a browser send such.

    Raises:
        Refusal: 415.
    """
    kind, _, parameters = header(scope, "content-type").partition(";")
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]*)", parameters, re.IGNORECASE)
    if kind.strip().lower() != "application/json" or (charset and charset[1].lower() not in ("utf-8", "utf8")):
        raise Refusal(
            f"the content type is {header(scope, 'content-type')!r:.80}; expected application/json in UTF-8.",
            415,
            "bad_content_type",
        )
    if header(scope, "content-encoding").lower() not in ("", "identity"):
        raise Refusal("the body is compressed; expected plain JSON.", 415, "bad_content_encoding")


def _declared_length(scope: Scope) -> int:
    """The length of the body that the client names; 0 where it names none."""
    given = header(scope, "content-length")
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 20 else 0


def _too_large(most: int) -> Refusal:
    return Refusal(
        f"the body has more than {most:,} bytes, the limit of this server: send fewer rows a request.",
        413,
        "body_too_large",
    )


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
