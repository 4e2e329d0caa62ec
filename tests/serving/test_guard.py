import ast
import asyncio
import gzip
import json
import logging
import re
import time
from pathlib import Path

import pytest

from spot import serving
from spot.errors import PromptError, TaskError
from spot.serving.guard import HEADERS, Guard, is_local, refusal_of
from spot.serving.metrics import metrics_of
from spot.serving.requests import Refusal
from tests.support.serving import LOCAL, Client, FakeCatalogue, FakeEngine, client_of

TOKEN = "a-token-of-some-length"
SECRET = "a text that nobody may read"
ROW = {"model": "mood", "input": "fine"}


def with_headers(**headers):
    given = {**dict(LOCAL), **{name.replace("_", "-"): value for name, value in headers.items()}}
    return tuple((name, value) for name, value in given.items() if value is not None)


async def echo(scope, receive, send):
    """Answers with the body's size."""
    message = await receive()
    assert message["type"] == "http.request" and not message["more_body"]
    body = json.dumps({"size": len(message["body"])}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def guard(app=echo, **limits):
    metrics = metrics_of(FakeCatalogue(), FakeEngine())
    settings = {"host": "127.0.0.1", "token": "", "max_body_bytes": 100, "timeout_s": 0.2, **limits}
    return Guard(app, metrics=metrics, **settings)


def send(app, parts, headers=LOCAL, **options):
    return asyncio.run(Client(app).send("POST", "/", parts, headers, **options))


def value_of(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels) or 0


def test_a_body_within_the_limit_arrives_whole():
    assert send(guard(), [b"a" * 60, b"b" * 40]).json == {"size": 100}


@pytest.mark.parametrize(
    ("parts", "declared"), [([b"a" * 101], None), ([b"a" * 60] * 2, None), ([b"{}"], "101"), ([b"a" * 10] * 5000, None)]
)
def test_a_body_beyond_the_limit_is_refused_and_not_kept(parts, declared):
    app = guard()
    reply = send(app, parts, with_headers(content_length=declared))
    assert (reply.status, reply.error["code"], reply.headers["connection"]) == (413, "body_too_large", "close")
    assert app.held == 0


def test_a_client_that_asks_first_is_refused_before_it_sends():
    async def never():
        raise AssertionError("the body was asked for")

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    scope["headers"] = [(k.encode(), v.encode()) for k, v in with_headers(content_length="101", expect="100-continue")]
    sent = []

    async def keep(message):
        sent.append(message)

    asyncio.run(guard()(scope, never, keep))
    assert sent[0]["status"] == 413


@pytest.mark.parametrize("length", ["-5", "many", "1e3", "9" * 40, ""])
def test_a_length_that_is_none_is_passed_over(length):
    assert send(guard(), [b"{}"], with_headers(content_length=length)).status == 200


def test_a_slow_client_is_told_so_and_left():
    began = time.perf_counter()
    reply = send(guard(read_s=0.05), [b"a"] * 100, pause=0.02)
    assert (reply.status, reply.error["code"]) == (408, "slow_client")
    assert time.perf_counter() - began < 1.5


def test_a_client_that_reads_nothing_is_left():
    async def stuck(_):
        await asyncio.sleep(30)

    app = guard(timeout_s=0.05)
    send(app, [b"{}"], takes=stuck)
    assert value_of(app.metrics, "spot_requests_total", route="unknown", status="499") == 1


def test_large_bodies_of_many_clients_have_a_limit_together():
    async def run():
        app = guard(max_body_bytes=100, read_s=5)
        slow = [Client(app).send("POST", "/", [b"a" * 100, b""], pause=0.1 * (number > 0)) for number in range(20)]
        return [reply.status for reply in await asyncio.gather(*slow)], app.held

    statuses, held = asyncio.run(run())
    assert set(statuses) == {200, 503} and held == 0


@pytest.mark.parametrize("path", ["before the body's end", "while it is answered"])
def test_a_client_that_leaves_frees_its_place(path):
    state = {}

    async def waits(scope, receive, send):
        await receive()
        state["began"] = True
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            state["ended"] = True
            raise

    async def soon():
        await asyncio.sleep(0.02)

    app = guard(waits)
    if path == "while it is answered":
        send(app, [b"{}"], leaves=soon)
        assert state == {"began": True, "ended": True}
    else:

        async def run():
            messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

            async def receive():
                return messages.pop(0)

            scope = {"type": "http", "method": "POST", "path": "/"}
            scope["headers"] = [(name.encode(), value.encode()) for name, value in LOCAL]
            await app(scope, receive, None)

        asyncio.run(run())
        assert state == {}
    assert value_of(app.metrics, "spot_requests_total", route="unknown", status="499") == 1
    assert app.held == 0


def test_a_client_that_has_its_whole_answer_has_not_left():
    async def tidies_up(scope, receive, send):
        await echo(scope, receive, send)
        await asyncio.sleep(0.02)
        state["tidied"] = True

    async def run():
        answered = asyncio.Event()

        async def taken(_):
            answered.set()

        client = Client(app)
        return await client.send("POST", "/", [b"{}"], leaves=answered.wait, takes=taken)

    state = {}
    app = guard(tidies_up)
    reply = asyncio.run(run())
    assert reply.is_whole and state == {"tidied": True}
    assert value_of(app.metrics, "spot_requests_total", route="unknown", status="200") == 1


def test_every_response_has_the_headers_of_a_careful_server():
    client = client_of()
    for reply in (client.get("/healthz"), client.get("/nowhere"), client.post("/v1/classify", ROW)):
        assert {name: reply.headers[name] for name in HEADERS} == HEADERS
        assert not [name for name in reply.headers if name.startswith("access-control")]
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "server" not in reply.headers


def test_a_response_may_bring_its_own_policy():
    async def page(scope, receive, send):
        headers = [(b"Content-Security-Policy", b"default-src 'self'")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    assert send(guard(page), [b""]).headers["content-security-policy"] == "default-src 'self'"


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ("abc-1.2_3", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("a b", False),
        ("a\nb", False),
        ("", False),
        ("<script>", False),
    ],
)
def test_a_request_keeps_its_sound_id(given, is_kept):
    reply = client_of().get("/healthz", headers=with_headers(x_request_id=given))
    assert (reply.headers["x-request-id"] == given) is is_kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", reply.headers["x-request-id"])


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN.upper()}",
        "Bearer \xff",
    ],
)
def test_without_the_token_nothing_is_told(given):
    client = client_of(token=TOKEN, host="0.0.0.0")
    headers = [(name, value) for name, value in with_headers(authorization=given)]
    encoded = [(name, value.encode("latin-1").decode("latin-1")) for name, value in headers]
    for path in ("/v1/models", "/metrics", "/openapi.json", "/nowhere", "/"):
        reply = client.get(path, headers=encoded)
        assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in reply.body.decode()
    assert client.get("/healthz", headers=encoded).status == client.get("/readyz", headers=encoded).status == 200


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN} "])
def test_with_the_token_everything_is(given):
    client = client_of(token=TOKEN, host="0.0.0.0")
    assert client.get("/v1/models", headers=with_headers(authorization=given)).status == 200


def test_two_tokens_are_no_token():
    client = client_of(token=TOKEN, host="0.0.0.0")
    twice = (*LOCAL, ("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer other"))
    assert client.get("/v1/models", headers=twice).status == 400


def test_tokens_are_compared_in_constant_time(monkeypatch):
    calls = []
    monkeypatch.setattr("spot.serving.guard.hmac.compare_digest", lambda one, two: calls.append((one, two)) or False)
    client = client_of(token=TOKEN, host="0.0.0.0")
    for given in ("x", TOKEN, "x" * 10_000):
        assert client.get("/v1/models", headers=with_headers(authorization=f"Bearer {given}")).status == 401
    assert {len(part) for call in calls for part in call} == {32} and len(calls) == 3


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:9", "LOCALHOST", "[::1]", "[::1]:80"])
def test_this_machines_names_are_answered(host):
    assert client_of().get("/healthz", headers=with_headers(host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8000",
        "evil.example:127.0.0.1",
        "127.0.0.1@evil.example",
        "[::1].evil.example",
        "0.0.0.0",
    ],
)
def test_another_name_that_leads_here_is_not(host):
    reply = client_of().get("/v1/models", headers=with_headers(host=host))
    assert (reply.status, reply.error["code"]) == (403, "wrong_host")


def test_a_server_that_others_reach_goes_by_its_token_and_not_by_its_name():
    client = client_of(token=TOKEN, host="0.0.0.0")
    assert (
        client.get("/v1/models", headers=with_headers(host="spot.example", authorization=f"Bearer {TOKEN}")).status
        == 200
    )


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("cross-site", "cors", 403),
        ("same-site", "no-cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ],
)
def test_pages_of_other_sites_send_nothing_here(site, mode, status):
    headers = with_headers(sec_fetch_site=site, sec_fetch_mode=mode)
    assert client_of().get("/v1/models", headers=headers).status == status


def test_a_form_of_another_site_is_no_request_even_as_a_navigation():
    headers = with_headers(sec_fetch_site="cross-site", sec_fetch_mode="navigate")
    assert client_of().post("/v1/classify", ROW, headers=headers).status == 403


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=UTF-8", 200),
        ("application/json;charset=utf8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/json; charset=latin-1", 415),
        ("application/jsonp", 415),
        (None, 415),
    ],
)
def test_a_body_is_json_by_its_header(given, status):
    assert client_of().post("/v1/classify", ROW, headers=with_headers(content_type=given)).status == status


def test_a_packed_body_is_refused_and_not_unpacked():
    body = gzip.compress(json.dumps(ROW).encode())
    reply = client_of().post("/v1/classify", body, headers=with_headers(content_encoding="gzip"))
    assert (reply.status, reply.error["code"]) == (415, "bad_content_encoding")


def test_an_unexpected_fault_says_nothing_but_its_id(caplog):
    class Broken(FakeEngine):
        async def classify(self, served, rows):
            raise KeyError(SECRET)

    client = client_of(Broken())
    with caplog.at_level(logging.INFO, "spot.serving"):
        reply = client.post("/v1/classify", {"model": "mood", "input": SECRET})
    assert (reply.status, reply.error["code"], reply.error["type"]) == (500, "internal_error", "server_error")
    assert "KeyError" not in reply.body.decode() and SECRET not in reply.body.decode()
    assert "KeyError" in caplog.text and "test_guard.py" in caplog.text
    assert reply.error["request_id"] in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Refusal("no", 429, "busy"), 429, "busy"),
        (TaskError("row 1 lacks a field"), 400, "bad_row"),
        (PromptError("/srv/prompts/x is gone"), 500, "internal_error"),
        (MemoryError(), 500, "internal_error"),
        (ValueError(SECRET), 500, "internal_error"),
    ],
)
def test_errors_are_told_by_whose_fault_they_are(error, status, code):
    refusal = refusal_of(error, "req_1")
    assert (refusal.status, refusal.code) == (status, code)
    assert "/srv" not in str(refusal) and SECRET not in str(refusal)


def test_a_fault_behind_the_answers_beginning_ends_the_connection():
    async def breaks(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError

    app = guard(breaks)
    reply = send(app, [b""])
    assert (reply.status, reply.body, reply.is_whole) == (200, b"half", False)
    assert value_of(app.metrics, "spot_refused_total", reason="internal_error") == 1


def test_the_log_has_a_line_a_request_without_its_text(caplog):
    client = client_of()
    with caplog.at_level(logging.INFO, "spot.serving.guard.access"):
        client.post("/v1/classify", {"model": "mood", "input": SECRET}, query=f"q={SECRET}")
        client.get(f"/v1/models/{SECRET}")
        client.get(f"/{SECRET}")
        asyncio.run(client.send(SECRET, "/healthz"))
    lines = [record.getMessage() for record in caplog.records]
    shapes = [re.sub(r"[\d.]+ ms req_\w{24}$", "T", line) for line in lines]
    assert shapes == [
        "POST /v1/classify 200 T",
        "GET /v1/models/{name} 404 T",
        "GET unknown 404 T",
        "OTHER /healthz 405 T",
    ]


def test_a_socket_is_closed():
    sent = []

    async def keep(message):
        sent.append(message)

    asyncio.run(guard()({"type": "websocket", "path": "/", "headers": []}, None, keep))
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LocalHost"])
def test_addresses_of_this_machine(host):
    assert is_local(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "example.org", "localhost.example.org"])
def test_addresses_that_others_reach(host):
    assert not is_local(host)


def codes_in_the_source():
    """Every word that a refusal is called by, from the calls that make one."""
    calls = [
        (path.name, node)
        for path in Path(serving.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refusal"
    ]
    arguments = [
        (name, [*node.args[2:3], *(word.value for word in node.keywords if word.arg == "code")]) for name, node in calls
    ]
    return {value.value for _, values in arguments for value in values if isinstance(value, ast.Constant)}


def test_the_page_for_operators_names_every_code():
    page = Path(__file__).resolve().parents[2] / "docs" / "serving.md"
    table = page.read_text(encoding="utf-8").partition("## What a client sees")[2].partition("## Limits")[0]
    told = {
        code
        for line in table.splitlines()
        if line.startswith("| ")
        for code in re.findall(r"`(\w+)`", line.split("|")[2])
    }
    codes = codes_in_the_source() | {"unknown_path", "bad_method"}
    codes -= {"no_token"}  # of a server that does not start
    assert codes - told == set()
    assert told - codes - {"code"} == set()
