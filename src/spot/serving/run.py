"""Run a server as a process: its address, its token, its log, and an end that finishes what runs."""

import asyncio
import errno
import ipaddress
import logging
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from spot.errors import ConfigError, StorageError
from spot.library.library import open_library
from spot.serving.app import create_app
from spot.serving.extra import missing_extra
from spot.serving.guard import is_local
from spot.serving.requests import Catalogue, Engine
from spot.serving.settings import ServeSettings
from spot.storage.opening import cannot_read, open_regular

try:
    import uvicorn
    from fastapi import FastAPI
except ImportError as error:
    raise missing_extra("uvicorn") from error

log = logging.getLogger(__name__)

LEAST_TOKEN = 16  # characters
MOST_TOKEN = 4096
SILENT_S = 20.0  # after which a connection that has sent no whole request is closed
_QUIET = ("spot.collator", "spot.tasks", "spot.evaluation")  # their warnings quote texts of rows
_HEAD_BYTES = 65_536  # of a request's line and headers

Tell = Callable[[dict[str, Any]], None]
Make = Callable[[ServeSettings], AbstractContextManager[tuple[Catalogue, Engine]]]


def serve(settings: ServeSettings, make: Make, *, tell: Tell | None = None, silent_s: float = SILENT_S) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; then finish what runs, and return.

    Args:
        settings: the address, the token's file and the limits.
        make: gives the models and what computes them, until it is closed; called when the address is known to be free.
        tell: called with `url` and `models` as soon as connections are taken.
        silent_s: after which a connection that has sent no whole request is closed, seconds.

    Raises:
        ConfigError: the address cannot be had, or others may reach it and there is no token.
        StorageError: the token's file cannot be used.
    """
    token = read_token(settings.token_file) if settings.token_file is not None else ""
    with _bound(settings) as listener:
        address = listener.getsockname()
        is_here = ipaddress.ip_address(address[0].partition("%")[0]).is_loopback
        if not token and not (is_here and is_local(settings.host)):
            raise ConfigError(
                f"host is {settings.host!r}, which others may reach, and there is no token: anyone could use this "
                "server. Give --token-file FILE, or the host 127.0.0.1."
            )
        with make(settings) as (catalogue, engine):
            app = create_app(catalogue, engine, settings, token=token, library=open_library(settings.library))
            _listen(listener, settings)
            server = _server(app, settings)
            with _ended_by_signals(server), _quiet():
                count = sum(model.entry is not None for model in catalogue.served())
                log.info("serving %d prompts of %s on %s", count, settings.library, url_of(address))
                for problem in catalogue.problems:
                    log.warning("passed over: %s", problem)
                if tell is not None:
                    tell({"url": url_of(address), "models": [model.name for model in catalogue.served()]})
                asyncio.run(_serve(server, listener, silent_s))
            log.info("ended")


def _server(app: FastAPI, settings: ServeSettings) -> uvicorn.Server:
    """Uvicorn with nothing on that is not needed: no colours, no log of its own, no trust in headers of proxies."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=_HEAD_BYTES,
            timeout_graceful_shutdown=int(settings.timeout_s) + 1,
        )
    )


def read_token(path: Path) -> str:
    """The token in the first line of a file that nobody else may read.

    Raises:
        StorageError: there is no such file, others may read it, or its first line is no token.
    """
    how = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
    try:
        with open_regular(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(MOST_TOKEN + 1)
    except (OSError, ValueError) as error:
        raise StorageError(cannot_read(path, error)) from error
    if mode & 0o077:
        raise StorageError(
            f"{path} can be used by others of this machine (mode {mode:04o}): expected a token that nobody else knows. "
            f"Make a new one, and run: chmod 600 {path}"
        )
    line = content.partition(b"\n")[0].strip()
    if not line:
        raise StorageError(f"{path} has no token in its first line. Make one with: {how}")
    if len(line) < LEAST_TOKEN or len(line) > MOST_TOKEN - 1 or not all(33 <= byte <= 126 for byte in line):
        raise StorageError(
            f"the token in {path} has {len(line)} characters; expected {LEAST_TOKEN} to {MOST_TOKEN - 1} of ASCII "
            f"without blanks. Make one with: {how}"
        )
    return line.decode("ascii")


def url_of(address: tuple[Any, ...]) -> str:
    """The address of a socket as a browser takes it."""
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{address[1]}"


@contextmanager
def _bound(settings: ServeSettings) -> Iterator[socket.socket]:
    """A socket at the server's address, which does not listen yet.

    Raises:
        ConfigError: the address cannot be had.
    """
    try:
        places = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"no address {settings.host!r}: {error}. Give --host an address of this machine.") from error
    family, kind, protocol, _, address = places[0]
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise ConfigError(_no_address(settings, error)) from error
        yield listener


def _listen(listener: socket.socket, settings: ServeSettings) -> None:
    """Take connections from here on.

    Raises:
        ConfigError: another process was quicker.
    """
    try:
        listener.listen(1024)
    except OSError as error:
        raise ConfigError(_no_address(settings, error)) from error


def _no_address(settings: ServeSettings, error: OSError) -> str:
    """Why a server cannot listen where it should, and what to do."""
    place = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{place} is in use by another program: end it, or give another --port; --port 0 takes a free one."
    if error.errno == errno.EACCES:
        return f"{place}: this user may not listen on a port below 1024; give another --port."
    return f"cannot listen on {place}: {error.strerror or error}. Give --host an address of this machine."


async def _serve(server: uvicorn.Server, listener: socket.socket, silent_s: float) -> None:
    """Serve, and close connections that say nothing."""
    sweeper = asyncio.ensure_future(_close_silent(server, silent_s))
    try:
        await server.serve(sockets=[listener])
    finally:
        sweeper.cancel()


async def _close_silent(server: uvicorn.Server, silent_s: float) -> None:
    """Close connections that are open for long and have sent no whole request line and headers, over and over.

    Uvicorn has a limit for connections that wait between requests, and none for one that never finishes a first.
    """
    since: dict[Any, tuple[object, float]] = {}  # connection -> its last request, and when it was first seen with it
    while True:
        now = time.monotonic()
        seen: dict[Any, tuple[object, float]] = {}
        for connection in list(server.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                continue
            before = since.get(connection)
            seen[connection] = before if before is not None and before[0] is cycle else (cycle, now)
            if now - seen[connection][1] >= silent_s:
                connection.transport.close()
        since = seen
        await asyncio.sleep(min(1.0, silent_s / 4))


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Have SIGTERM, SIGINT and a terminal that closes end the server, and nothing else.

    Uvicorn raises them again when it has ended. Where SIGHUP is ignored, as under nohup, it stays so.
    """

    def end(*_: object) -> None:
        server.should_exit = True

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep texts of rows out of the log for as long as the server runs."""
    loggers = [logging.getLogger(name) for name in _QUIET]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            with suppress(ValueError):
                logger.setLevel(level)
