"""Run a server in this thread while another acts as its client, and end it by a signal."""

import http.client
import json
import logging
import os
import queue
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any


class Addresses(logging.Handler):
    """Hears where the server listens."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.heard: queue.Queue[tuple[str, int]] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        if match := re.search(r" on http://(\S+):(\d+)$", record.getMessage()):
            self.heard.put((match[1].strip("[]"), int(match[2])))


@dataclass(frozen=True)
class Server:
    """A server in this process, as its clients know it."""

    host: str
    port: int

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=30)

    def post(self, path: str, value: Any, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of a request with JSON, or with bytes as they are."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        with closing(self.connection()) as connection:
            connection.request("POST", path, body, {"content-type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return response.status, response.read()

    def raw(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """What comes back of bytes as they are, until the server closes."""
        with socket.create_connection((self.host, self.port), timeout=10) as plain:
            content = b""
            with suppress(ConnectionError):  # the server may close while we still send
                for part in parts:
                    plain.sendall(part)
                    time.sleep(pause)
                while part := plain.recv(65536):
                    content += part
            return content


def serve_while(
    run: Callable[[], Any], act: Callable[[Server], Any], number: signal.Signals = signal.SIGTERM
) -> tuple[Any, float]:
    """Serve in this thread; end the server when a client in another has done what it wants.

    Args:
        run: serves until a signal.
        act: what the client does.
        number: the signal.

    Returns:
        What `act` gave, and how long the server took to end, seconds.
    """
    addresses = Addresses()
    outcome: dict[str, Any] = {}

    def client() -> None:
        try:
            outcome["value"] = act(Server(*addresses.heard.get(timeout=60)))
        except BaseException as error:
            outcome["error"] = error
        finally:
            outcome["signalled"] = time.perf_counter()
            if not outcome.get("has_ended"):
                os.kill(os.getpid(), number)

    log = logging.getLogger("spot.serving")
    level = log.level
    log.addHandler(addresses)
    log.setLevel(logging.INFO)
    thread = threading.Thread(target=client)
    thread.start()
    try:
        run()
    except BaseException:
        outcome["has_ended"] = True
        addresses.heard.put(("127.0.0.1", 1))
        raise
    finally:
        log.removeHandler(addresses)
        log.setLevel(level)
        thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"], time.perf_counter() - outcome["signalled"]
