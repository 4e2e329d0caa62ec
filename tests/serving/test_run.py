import json
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from spot.errors import ConfigError, StorageError
from spot.serving.run import LEAST_TOKEN, MOST_TOKEN, read_token, serve, url_of
from spot.serving.settings import ServeSettings
from tests.support.servers import serve_while
from tests.support.serving import FakeCatalogue, FakeEngine

pytestmark = pytest.mark.enable_socket

TOKEN = "a-token-of-some-length"
ROW = {"model": "mood", "input": "fine"}


def run_with(act, engine=None, *, number=signal.SIGTERM, silent_s=20.0, **settings):
    """Serve with a fake engine while a client acts; see `serve_while`."""

    @contextmanager
    def make(_):
        yield FakeCatalogue(), engine or FakeEngine()

    before = [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    outcome = serve_while(lambda: serve(ServeSettings(port=0, **settings), make, silent_s=silent_s), act, number)
    assert [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before
    return outcome


@pytest.fixture
def minded_hangups() -> Iterator[None]:
    """SIGHUP as a terminal has it: under nohup it is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("minded_hangups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_server_when_what_runs_has_finished(number):
    engine = FakeEngine(text="a" * 20, pause=0.03)
    state = {}

    def reads(server):
        state["stream"] = server.post("/v1/completions", {"model": "base", "prompt": "x", "stream": True})

    def act(server):
        state["reader"] = threading.Thread(target=reads, args=(server,))
        state["reader"].start()
        while engine.running == 0:
            time.sleep(0.01)
        state["server"] = server

    _, seconds = run_with(act, engine, number=number)
    state["reader"].join()
    status, body = state["stream"]
    assert status == 200 and body.endswith(b"data: [DONE]\n\n") and body.count(b'"text": "a"') == 20
    assert 0.3 < seconds < 5
    assert engine.closed and engine.running == 0
    with pytest.raises(ConnectionRefusedError):
        state["server"].post("/v1/classify", ROW)


def test_what_never_finishes_is_ended():
    engine = FakeEngine(text="a" * 200, pause=3.0)
    state = {}

    def reads(server):
        state["reply"] = server.post("/v1/completions", {"model": "base", "prompt": "x"})

    def act(server):
        state["reader"] = threading.Thread(target=reads, args=(server,))
        state["reader"].start()
        while engine.running == 0:
            time.sleep(0.01)

    _, seconds = run_with(act, engine, timeout_s=0.5)
    state["reader"].join()
    assert state["reply"][0] == 504 and seconds < 4
    assert engine.closed and engine.running == 0


def test_a_port_in_use_is_said_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} is in use by another program"):
            serve(ServeSettings(port=port), pytest.fail)


def test_an_address_that_is_not_here_is_said():
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        serve(ServeSettings(host="192.0.2.1"), pytest.fail)


@pytest.mark.parametrize("host", ["a b", "x" * 300, "\udcff", "."])
def test_a_name_that_is_none_is_said(host):
    with pytest.raises(ConfigError, match="--host"):
        serve(ServeSettings(host=host), pytest.fail)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_an_address_that_others_reach_needs_a_token(host):
    with pytest.raises(ConfigError, match="--token-file"):
        serve(ServeSettings(host=host, port=0), pytest.fail)


@pytest.mark.parametrize(("host", "address"), [("spot.example", "127.0.0.1"), ("localhost", "0.0.0.0")])
def test_neither_a_name_nor_an_address_alone_makes_a_server_this_machines_own(monkeypatch, host, address):
    place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
    monkeypatch.setattr("spot.serving.run.socket.getaddrinfo", lambda *_, **__: [place])
    with pytest.raises(ConfigError, match="--token-file"):
        serve(ServeSettings(host=host, port=0), pytest.fail)


def token_file(folder, content, mode=0o600):
    path = folder / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_server_with_a_token_answers_who_bears_it(tmp_path):
    path = token_file(tmp_path, f"{TOKEN}\n".encode())

    def act(server):
        right = {"authorization": f"Bearer {TOKEN}"}
        return [server.post("/v1/classify", ROW, headers)[0] for headers in ({}, right)]

    assert run_with(act, host="0.0.0.0", token_file=path)[0] == [401, 200]


@pytest.mark.parametrize("content", [TOKEN.encode(), f"{TOKEN}\r\n# a note\n".encode(), f"  {TOKEN} \n".encode()])
def test_a_token_is_the_first_line_of_its_file(tmp_path, content):
    assert read_token(token_file(tmp_path, content)) == TOKEN


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no token"),
        (b"\n" + TOKEN.encode(), "no token"),
        (b"  \n", "no token"),
        (b"a" * (LEAST_TOKEN - 1), "characters"),
        (b"a" * MOST_TOKEN, "characters"),
        (b"two words of some length", "characters"),
        ("schlüssel-von-einiger-länge".encode(), "characters"),
        (b"a\x00" * 20, "characters"),
    ],
)
def test_a_file_without_a_usable_token_is_refused(tmp_path, content, words):
    with pytest.raises(StorageError, match=words) as refused:
        read_token(token_file(tmp_path, content))
    assert "secrets" in str(refused.value)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o602, 0o644, 0o601, 0o660, 0o777])
def test_a_token_that_others_can_use_is_refused(tmp_path, mode):
    with pytest.raises(StorageError, match="chmod 600"):
        read_token(token_file(tmp_path, TOKEN.encode(), mode))


def test_a_token_file_that_is_none_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "pipe"):
        with pytest.raises(StorageError, match="cannot read"):
            read_token(path)


def test_a_connection_that_says_nothing_is_closed_and_a_slow_answer_is_not():
    engine = FakeEngine(text="a" * 10, pause=0.15)

    def act(server):
        began = time.perf_counter()
        contents = [
            server.raw(),
            server.raw(b"GET /healthz HT"),
            server.raw(b"GET /healthz HTTP/1.1\r\n", *(b"x-a: b\r\n",) * 20, pause=0.05),
        ]
        silent = time.perf_counter() - began
        status, body = server.post("/v1/completions", {"model": "base", "prompt": "x"})
        return contents, silent, status, json.loads(body)["choices"][0]["text"]

    (contents, silent, status, text), _ = run_with(act, engine, silent_s=0.4)
    assert contents == [b"", b"", b""] and silent < 8
    assert (status, text) == (200, "a" * 10)


def test_what_is_no_http_harms_nobody():
    def act(server):
        replies = [
            server.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            server.raw(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nhost: evil\r\n\r\n"),
            server.raw(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n"),
            server.raw(
                b"POST /v1/classify HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\n"
                b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            server.raw(b"GET /healthz HTTP/1.0\r\n\r\n"),
        ]
        return replies, server.post("/v1/classify", ROW)[0]

    (replies, status), _ = run_with(act, silent_s=0.5)
    assert [reply[9:12] for reply in replies[:2]] == [b"400"] * 2 and replies[2][9:12] in (b"400", b"")
    assert replies[3][9:10] == b"4" and replies[4][9:12] == b"403"
    assert b"Traceback" not in b"".join(replies)
    assert status == 200


def test_a_body_that_is_too_large_gets_its_answer():
    def act(server):
        large = server.post("/v1/classify", b"a" * 20_000_000)
        with closing(server.connection()) as connection:
            parts = (b"a" * 65536 for _ in range(200))
            headers = {"content-type": "application/json", "transfer-encoding": "chunked"}
            connection.request("POST", "/v1/classify", parts, headers, encode_chunked=True)
            chunked = connection.getresponse().status
        asked = server.raw(
            b"POST /v1/classify HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"content-length: 20000000\r\nexpect: 100-continue\r\n\r\n"
        )
        return large, chunked, asked

    ((status, body), chunked, asked), _ = run_with(act, silent_s=2.0)
    assert (status, json.loads(body)["error"]["code"]) == (413, "body_too_large")
    assert chunked == 413
    assert asked.startswith(b"HTTP/1.1 413") and b"100 Continue" not in asked


def test_a_connection_carries_several_requests():
    def act(server):
        with closing(server.connection()) as connection:
            statuses = []
            for value in (ROW, {}, ROW):
                connection.request("POST", "/v1/classify", json.dumps(value), {"content-type": "application/json"})
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
            return statuses

    assert run_with(act)[0] == [200, 400, 200]


def test_no_text_of_a_request_stands_in_the_log(caplog):
    secret = "a-text-that-nobody-may-read"

    def act(server):
        fields = {"text": secret, f"{secret}-field": "x"}
        replies = [
            server.post("/v1/classify", {"model": "mood", "input": [fields, {"text": secret * 10}]}),
            server.post("/v1/classify", {"model": secret, "input": secret}),
            server.post(f"/v1/{secret}", {}),
            server.post("/v1/completions", {"model": "base", "prompt": secret}),
        ]
        return [status for status, _ in replies]

    with caplog.at_level(logging.INFO):
        statuses, _ = run_with(act)
    assert statuses == [200, 404, 404, 200]
    assert "POST /v1/classify 200" in caplog.text
    assert secret not in caplog.text


def test_the_log_says_where_and_what_is_served(caplog):
    with caplog.at_level(logging.INFO):
        run_with(lambda server: server.port)
    assert re.search(r"serving 5 prompts of packaged on http://127\.0\.0\.1:\d+", caplog.text)
    assert caplog.records[-1].getMessage() == "ended"


@pytest.mark.parametrize(
    ("address", "url"), [(("127.0.0.1", 8000), "http://127.0.0.1:8000"), (("::1", 80, 0, 0), "http://[::1]:80")]
)
def test_an_address_is_written_as_a_browser_takes_it(address, url):
    assert url_of(address) == url


def test_the_page_of_the_library_stands_at_the_root():
    request = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
    answer, _ = run_with(lambda server: server.raw(request))
    assert answer.startswith(b"HTTP/1.1 200") and b"<!doctype html>" in answer and b"/page/page.js" in answer
