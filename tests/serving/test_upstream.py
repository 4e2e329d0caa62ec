"""Rows on vLLM servers: exact, in the form that a real server takes, and whole whatever servers do."""

import asyncio
import base64
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spot.errors import ConfigError, PromptError
from spot.models.backbone import Backbone
from spot.reading import Reading
from spot.serving import upstream as module
from spot.serving.requests import Refusal, Sampling, Served
from spot.serving.settings import ServeSettings
from spot.serving.upstream import NEUTRAL, VllmEngine
from spot.tasks.task import Example
from tests.support.vllm_exchange import LABELS, RECORD, TEXTS, TinyVllm, exchange, front_of, recorded_model, served_by

ONE, TWO = "http://127.0.0.1:8001", "http://127.0.0.1:8002"
MANY = Reading(template="{text}", labels=tuple((word, word) for word in ("art", "arts and crafts", "art in all", "x")))
MODEL = recorded_model()
FRONT = front_of(MODEL)


class Servers(httpx2.AsyncBaseTransport):
    """Carries requests to the server of each port."""

    def __init__(self, servers: dict[int, TinyVllm | Exception]) -> None:
        self.servers = servers

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        server = self.servers[request.url.port]
        if isinstance(server, Exception):
            raise server
        return await server.transport().handle_async_request(request)


def engine_of(*servers: TinyVllm | Exception, **settings: Any) -> VllmEngine:
    """An engine in front of servers at the ports from 8001 on."""
    known = dict(enumerate(servers, start=8001))
    urls = [f"http://127.0.0.1:{port}" for port in known]
    return VllmEngine.connect(FRONT, urls, ServeSettings(**settings), transport=lambda: Servers(known))


def rows_of(served: Served, texts=TEXTS) -> list:
    return served.collator.encode([Example(str(number), text, ()) for number, text in enumerate(texts)])


def ask(engine: VllmEngine, work: Callable[[], Any]) -> Any:
    """Do something with an engine, and close it."""

    async def run() -> Any:
        try:
            return await work()
        finally:
            await asyncio.wait_for(engine.close(), 10)

    return asyncio.run(run())


def refusal(engine: VllmEngine, work: Callable[[], Any]) -> Refusal:
    with pytest.raises(Refusal) as refused:
        ask(engine, work)
    return refused.value


def exact(served: Served, texts=TEXTS) -> list[list[float]]:
    """What the model itself says of labels."""
    backbone = Backbone(recorded_model(), FRONT.tokenizer, FRONT.id)
    prompt = torch.tensor(served.read_vectors()).reshape(1, -1, FRONT.id.width)
    return backbone.score(served.collator.batch(rows_of(served, texts)), prompt, served.collator.choices).tolist()


async def tokens_of(engine: VllmEngine, served: Served, sampling: Sampling) -> list:
    return [token async for token in engine.generate(served, rows_of(served)[0], sampling)]


# --- exact


@pytest.mark.parametrize("length", [3, 0])
@pytest.mark.parametrize("reading", [LABELS, MANY])
def test_labels_of_one_and_of_several_tokens_are_ranked_exactly(reading: Reading, length: int):
    served = served_by(FRONT, reading, length)
    texts = [f"{text} {number}" for number in range(12) for text in TEXTS]
    engine = engine_of(TinyVllm(MODEL), TinyVllm(MODEL))
    predictions = ask(engine, lambda: engine.classify(served, rows_of(served, texts)))
    for prediction, expected in zip(predictions, exact(served, texts), strict=True):
        assert np.allclose(prediction.log_probabilities, expected, atol=1e-4)
        assert prediction.text == served.collator.labels[int(np.argmax(expected))]


def test_more_labels_than_a_server_tells_at_a_place_are_asked_for_in_parts(monkeypatch):
    monkeypatch.setattr(module, "MOST_IDS", 5)
    words = [letter + other for letter in "abcdefgh" for other in "ijk"]
    served = served_by(FRONT, Reading(template="{text}", labels=tuple((word, word) for word in words)))
    server = TinyVllm(MODEL)
    engine = engine_of(server)
    predictions = ask(engine, lambda: engine.classify(served, rows_of(served)))
    for prediction, expected in zip(predictions, exact(served), strict=True):
        assert np.allclose(prediction.log_probabilities, expected, atol=1e-4)
    assert all(len(body["logprob_token_ids"]) <= 5 for body in server.requests[2:])


def test_tokens_come_as_the_model_goes_on():
    served = served_by(FRONT)
    engine = engine_of(TinyVllm(MODEL))
    tokens = ask(engine, lambda: tokens_of(engine, served, Sampling(max_tokens=6, logprobs=3)))
    backbone = Backbone(recorded_model(), FRONT.tokenizer, FRONT.id)
    prompt = torch.tensor(served.read_vectors())[None]
    [text] = backbone.generate(served.collator.batch(rows_of(served)[:1]), prompt, 6, served.collator.answer_end)
    assert FRONT.tokenizer.decode([token.id for token in tokens if not token.is_end], skip_special_tokens=True) == text
    assert all(len(token.top) == 3 and token.top[0] == (token.id, token.logprob) for token in tokens)


def test_a_row_ends_at_an_end_token():
    served = served_by(FRONT)
    first = ask(engine := engine_of(TinyVllm(MODEL)), lambda: tokens_of(engine, served, Sampling(max_tokens=3)))[0]
    engine = engine_of(TinyVllm(MODEL))
    object.__setattr__(engine.front, "own_ends", (first.id,))
    [token] = ask(engine, lambda: tokens_of(engine, served, Sampling(max_tokens=3)))
    assert token.is_end and token.id == first.id


def test_a_row_ends_where_the_server_ends_it():
    def stopped(number: int, due: httpx2.Response) -> httpx2.Response:
        return due if number < 2 else httpx2.Response(200, content=due.content.replace(b'"length"', b'"stop"'))

    engine = engine_of(TinyVllm(MODEL, stopped))
    tokens = ask(engine, lambda: tokens_of(engine, served_by(FRONT), Sampling(max_tokens=3)))
    assert [token.is_end for token in tokens] == [False, False, True]


# --- the form of requests


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    """A request without the bytes that the version of torch puts around a tensor."""
    parts = body.get("prompt_embeds")
    if parts is None:
        return body
    loaded = [torch.load(io.BytesIO(base64.b64decode(part)), weights_only=True) for part in parts]
    return {**body, "prompt_embeds": [[str(part.dtype), part.shape, part.flatten().tolist()] for part in loaded]}


def test_a_recorded_exchange_with_a_real_server_goes_as_it_went():
    record = json.loads(RECORD.read_text())
    left = list(record["exchange"])

    def replay(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content) if request.content else None
        for entry in left:
            same = entry["path"] == request.url.path and (entry["body"] is None) == (body is None)
            if same and (body is None or comparable(entry["body"]) == comparable(body)):
                left.remove(entry)
                return httpx2.Response(entry["status"], content=entry["answer"].encode())
        raise AssertionError(f"nothing like {request.url.path} {str(body)[:300]} was recorded")

    engine = VllmEngine.connect(FRONT, [ONE], ServeSettings(), transport=lambda: httpx2.MockTransport(replay))
    outcome = asyncio.run(exchange(engine, FRONT))
    assert outcome == record["outcome"] and not left


def test_what_the_real_server_said_is_what_the_model_says():
    outcome = json.loads(RECORD.read_text())["outcome"]
    assert np.allclose(outcome["labels"], exact(served_by(FRONT)), atol=1e-4)
    assert np.allclose(outcome["alone"], exact(served_by(FRONT, length=0)), atol=1e-4)


def test_no_request_holds_a_penalty_and_the_vectors_are_dense():
    server = TinyVllm(MODEL)
    served = served_by(FRONT)
    engine = engine_of(server)

    async def work() -> None:
        await engine.classify(served, rows_of(served))
        await tokens_of(engine, served, Sampling(max_tokens=2, temperature=0.7, top_p=0.9, seed=3))

    ask(engine, work)
    for body in server.requests:
        assert {name: body[name] for name in NEUTRAL} == NEUTRAL
    *_, ranked, streamed = server.requests
    assert (streamed["temperature"], streamed["top_p"], streamed["seed"], streamed["logprobs"]) == (0.7, 0.9, 3, 0)
    vectors = torch.load(io.BytesIO(base64.b64decode(ranked["prompt_embeds"][0])), weights_only=True)
    assert vectors.layout == torch.strided and vectors.dtype == torch.float32
    assert np.array_equal(vectors[:3].numpy(), served.read_vectors())


# --- several servers


def test_servers_share_the_rows(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    one, two = TinyVllm(MODEL), TinyVllm(MODEL)
    served = served_by(FRONT)
    engine = engine_of(one, two)
    before = len(one.requests)
    ask(engine, lambda: engine.classify(served, rows_of(served, ["a"] * 40)))
    counts = [len(server.requests) - before for server in (one, two)]
    assert sum(counts) >= 20 and min(counts) >= 8


def test_a_dead_server_is_left_out_and_taken_in_again(monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    one, two = TinyVllm(MODEL), TinyVllm(MODEL)
    servers: dict[int, Any] = {8001: httpx2.ConnectError("refused"), 8002: two}
    engine = VllmEngine.connect(FRONT, [ONE, TWO], ServeSettings(), transport=lambda: Servers(servers))
    served = served_by(FRONT)

    async def work() -> None:
        rows = rows_of(served)
        assert engine.is_ready
        await engine.classify(served, rows)
        servers[8001], servers[8002] = one, httpx2.ConnectError("refused")
        await engine.classify(served, rows)
        assert len(one.requests) == 3  # two to compare, and the rows
        servers[8001] = httpx2.ConnectError("refused")
        with pytest.raises(Refusal, match="no vLLM server answers") as refused:
            await engine.classify(served, rows)
        assert refused.value.status == 503 and refused.value.retry_after
        assert not engine.is_ready
        servers[8002] = two
        await asyncio.sleep(0.3)
        assert [round(value, 3) for value in (await engine.classify(served, rows))[0].log_probabilities]
        assert engine.is_ready

    ask(engine, work)


def test_a_server_that_hangs_is_left_for_another():
    async def hang() -> httpx2.Response:
        raise httpx2.ReadTimeout("too long")

    one = TinyVllm(MODEL, lambda number, answer: hang() if number >= 2 else answer)
    two = TinyVllm(MODEL)
    served = served_by(FRONT)
    engine = engine_of(one, two)

    async def work() -> None:
        for _ in range(3):
            predictions = await engine.classify(served, rows_of(served))
            assert np.allclose(predictions[0].log_probabilities, exact(served)[0], atol=1e-4)

    ask(engine, work)
    assert len(one.requests) <= 3 and not engine._upstreams[0].is_ready


def test_a_client_that_leaves_frees_its_place():
    server = TinyVllm(MODEL)
    started = asyncio.Event()

    async def wait() -> httpx2.Response:
        started.set()
        await asyncio.sleep(60)
        raise AssertionError("nobody waits")

    server.misbehave = lambda number, answer: wait() if number >= 2 else answer
    served = served_by(FRONT)
    engine = engine_of(server)

    async def work() -> None:
        task = asyncio.ensure_future(engine.classify(served, rows_of(served)))
        await started.wait()
        assert engine.load.waiting_rows == 2
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert engine.load.waiting_rows == 0 and server.in_work == 0

    ask(engine, work)


# --- servers that misbehave


def completion(**changes: Any) -> httpx2.Response:
    told = {"tokens": ["token_id:5"], "token_logprobs": [-1.0], "top_logprobs": [{"token_id:5": -1.0}]}
    return httpx2.Response(200, json={"choices": [{"index": 0, "logprobs": told}], **changes})


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (httpx2.Response(500, json={"error": {"message": "it broke", "code": 500}}), 502, "HTTP 500: it broke"),
        (httpx2.Response(500, content=b"<html>"), 502, "HTTP 500: <html>"),
        (httpx2.Response(503, content=b"loading"), 503, "busy"),
        (httpx2.Response(401, json={}), 503, "wants a token"),
        (httpx2.Response(302, headers={"location": "http://evil"}), 502, "HTTP 302"),
        (httpx2.Response(200, content=b"not json"), 502, "no JSON"),
        (httpx2.Response(200, content=b"[" * 100_000), 502, "no JSON"),
        (httpx2.Response(200, json=[1]), 502, "expected a JSON object"),
        (httpx2.Response(200, json={}), 502, "no log-probability"),
        (httpx2.Response(200, json={"choices": []}), 502, "answers 0 rows"),
        (httpx2.Response(200, json={"choices": [{"index": 0, "logprobs": None}] * 2}), 502, "no log-probability"),
        (completion(), 502, "vLLM 0.32 or newer"),
    ],
)
def test_an_answer_of_another_shape_is_a_refusal_in_words(answer: httpx2.Response, status: int, words: str):
    server = TinyVllm(MODEL, lambda number, due: answer if number >= 2 else due)
    served = served_by(FRONT)
    engine = engine_of(server)
    refused = refusal(engine, lambda: engine.classify(served, rows_of(served)))
    assert refused.status == status and words in str(refused) and "Traceback" not in str(refused)


def test_a_row_that_a_server_takes_not_is_refused_at_once():
    answer = httpx2.Response(400, json={"error": {"message": "This model's maximum context length is 128 tokens."}})
    one, two = (TinyVllm(MODEL, lambda number, due: answer if number >= 2 else due) for _ in range(2))
    served = served_by(FRONT)
    engine = engine_of(one, two)
    refused = refusal(engine, lambda: engine.classify(served, rows_of(served)))
    assert (refused.status, refused.code) == (400, "upstream_refused") and "context length" in str(refused)
    assert len(one.requests) + len(two.requests) == 5


def test_numbers_that_are_not_finite_are_no_answer():
    def lost(number: int, due: httpx2.Response) -> httpx2.Response:
        content = due.json()
        if number >= 2:
            tops = content["choices"][0]["logprobs"]["top_logprobs"][0]
            content["choices"][0]["logprobs"]["top_logprobs"] = [dict.fromkeys(tops, -9999.0)]
        return httpx2.Response(200, json=content)

    served = served_by(FRONT)
    engine = engine_of(TinyVllm(MODEL, lost))
    first, second = ask(engine, lambda: engine.classify(served, rows_of(served)))
    assert not first.is_answered and any(map(math.isnan, first.log_probabilities)) and second.is_answered


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ended before the text did"),
        (b"data: {", "no JSON"),
        (b"data: [1]\n\n", "expected a JSON object"),
        (b'data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
        (b'data: {"choices": [{"index": 0, "text": "a"}]}\n\n', "another shape"),
        (
            b'data: {"choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": [0], "top_logprobs": [{}]}}]}\n\n',
            "shape",
        ),
        (b": a comment\n\n", "ended before the text did"),
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_half_a_stream_is_a_refusal_in_words(content: bytes, words: str, is_late: bool):
    def broken(number: int, due: httpx2.Response) -> httpx2.Response:
        if number < 2:
            return due
        begin = due.content.split(b"\n\n")[0] + b"\n\n" if is_late else b""
        tail = content + (b"\n" if content == b"data: {" else b"")
        return httpx2.Response(200, content=begin + tail)

    served = served_by(FRONT)
    one, two = TinyVllm(MODEL, broken), TinyVllm(MODEL, broken)
    engine = engine_of(one, two)
    tokens: list = []

    async def work() -> None:
        async for token in engine.generate(served, rows_of(served)[0], Sampling(max_tokens=3)):
            tokens.append(token)

    refused = refusal(engine, work)
    assert refused.status == 502 and words in str(refused)
    assert len(tokens) == is_late
    # Where a token came already, no other server is asked: the text would begin anew.
    streams = [body for server in (one, two) for body in server.requests if body.get("stream")]
    assert len(streams) == (1 if is_late else 2)
    assert ("broke off" in str(refused)) == is_late


def test_a_stream_that_breaks_before_its_first_token_goes_on_elsewhere():
    one = TinyVllm(MODEL, lambda number, due: httpx2.Response(500) if number >= 2 else due)
    served = served_by(FRONT)
    engine = engine_of(one, TinyVllm(MODEL))
    assert len(ask(engine, lambda: tokens_of(engine, served, Sampling(max_tokens=3)))) == 3


# --- a server that is none of ours, limits, the end


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (httpx2.ConnectError("refused"), "cannot be reached"),
        (httpx2.ConnectTimeout(""), "does not answer in time"),
        (TinyVllm(MODEL, lambda _, due: httpx2.Response(404, json={"error": {"message": "none"}})), "HTTP 404"),
        (
            TinyVllm(MODEL, lambda _, due: httpx2.Response(400, json={"error": {"message": "--enable-prompt-embeds"}})),
            "enable",
        ),
    ],
)
def test_a_server_that_cannot_be_used_is_said_at_the_start(server, words: str):
    with pytest.raises(ConfigError, match="no vLLM server can be used") as refused:
        engine_of(server)
    assert words in str(refused.value)


def test_a_server_of_another_model_or_of_scaled_vectors_is_said_at_the_start():
    other = recorded_model()
    with torch.no_grad():
        other.get_input_embeddings().weight *= 3.0
    with pytest.raises(ConfigError, match="as vectors otherwise than as token ids"):
        engine_of(TinyVllm(other))


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://a", "http://", "file:///etc/passwd", "http://[", 3])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="is no address"):
        VllmEngine(FRONT, [url], ServeSettings())


def test_no_address_is_refused():
    with pytest.raises(ConfigError, match="no server is named"):
        VllmEngine(FRONT, [], ServeSettings())


def test_rows_are_no_longer_than_the_servers_take():
    assert engine_of(TinyVllm(MODEL)).front.max_positions == 128


def test_too_many_rows_and_a_prompt_that_is_gone_are_refused():
    served = served_by(FRONT)
    engine = engine_of(TinyVllm(MODEL), max_waiting_rows=3)
    refused = refusal(engine, lambda: engine.classify(served, rows_of(served, ["a"] * 4)))
    assert (refused.status, refused.retry_after) == (429, 1)

    def gone() -> np.ndarray:
        raise PromptError("/srv/prompts/0.safetensors is gone")

    served = Served("mood", served.collator, served.entry, gone)
    engine = engine_of(TinyVllm(MODEL))
    refused = refusal(engine, lambda: engine.classify(served, rows_of(served)))
    assert refused.code == "prompt_unusable" and "/srv" not in str(refused)


def test_a_closed_engine_takes_nothing():
    served = served_by(FRONT)
    engine = engine_of(TinyVllm(MODEL))
    ask(engine, lambda: engine.classify(served, rows_of(served)))
    assert refusal(engine, lambda: engine.classify(served, rows_of(served))).code == "closing"
    assert not engine.is_ready


def test_prompts_are_kept_within_the_limit():
    served = served_by(FRONT)
    others = [
        Served(str(number), served.collator, entry, served.read_vectors) for number, entry in enumerate(entries(served))
    ]
    engine = engine_of(TinyVllm(MODEL), prefix_bytes=2 * 3 * 64 * 4)

    async def work() -> None:
        for other in others:
            await engine.classify(other, rows_of(other))

    ask(engine, work)
    assert engine.load.prefix_bytes == 2 * 3 * 64 * 4 and engine.load.batch_rows >= 10


def entries(served: Served) -> list:
    assert served.entry is not None
    return [replace(served.entry, digest=f"{number:016x}") for number in range(5)]


def test_labels_and_likeliest_tokens_take_turns():
    server = TinyVllm(MODEL)
    served = served_by(FRONT)
    kinds: list[set[str]] = []
    running: list[str] = []

    def watched(number: int, due: httpx2.Response) -> Any:
        kind = "labels" if "logprob_token_ids" in server.requests[number] else "likeliest"

        async def late() -> httpx2.Response:
            running.append(kind)
            kinds.append(set(running))
            await asyncio.sleep(0.005)
            running.remove(kind)
            return due

        return late() if number >= 2 else due

    server.misbehave = watched
    engine = engine_of(server)

    async def work() -> None:
        rows = rows_of(served)
        streams = [tokens_of(engine, served, Sampling(max_tokens=2, logprobs=2)) for _ in range(6)]
        ranks = [engine.classify(served, rows) for _ in range(6)]
        await asyncio.gather(*(part for pair in zip(streams, ranks, strict=True) for part in pair))

    ask(engine, work)
    assert len(kinds) == 12 and all(len(together) == 1 for together in kinds)


# --- parts


@given(
    following=st.dictionaries(
        st.lists(st.integers(0, 5), max_size=3).map(tuple), st.sets(st.integers(0, 40), min_size=1), min_size=1
    ),
    most=st.integers(1, 12),
)
def test_every_token_is_asked_for_behind_its_beginning(following, most: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_IDS", most)
        groups = list(module._grouped(following))
    asked: dict[tuple[int, ...], set[int]] = {}
    for beginnings, tokens in groups:
        assert 0 < len(tokens) <= most and len(set(beginnings)) == len(beginnings)
        for behind in beginnings:
            asked.setdefault(behind, set()).update(tokens)
    assert asked.keys() == following.keys()
    assert all(following[behind] <= asked[behind] for behind in following)


@given(text=st.text(alphabet="a\nb\r é:"), cuts=st.lists(st.integers(0, 40)))
def test_lines_are_whole_wherever_a_stream_is_cut(text: str, cuts: list[int]):
    content = text.encode() + b"\n"
    places = sorted({0, len(content), *(min(cut, len(content)) for cut in cuts)})
    parts = [content[start:end] for start, end in pairwise(places)]

    async def pieces():
        for part in parts:
            yield part

    async def read() -> list[str]:
        return [line async for line in module._lines(httpx2.Response(200, content=pieces()))]

    assert asyncio.run(read()) == [line.rstrip("\r") for line in f"{text}\n".split("\n")[:-1]]


def test_a_line_or_an_answer_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_ANSWER", 1000)
    served = served_by(FRONT)
    for body in (b"data: " + b"x" * 2000, b"{" + b" " * 2000):
        server = TinyVllm(
            MODEL, lambda number, due, body=body: httpx2.Response(200, content=body) if number >= 2 else due
        )
        engine = engine_of(server)
        is_stream = body.startswith(b"data")
        work = (
            tokens_of(engine, served, Sampling(max_tokens=2)) if is_stream else engine.classify(served, rows_of(served))
        )
        with pytest.raises(Refusal, match="more than 1,000 bytes"):
            ask(engine, lambda work=work: work)


def test_a_server_has_no_more_rows_at_a_time_than_it_should(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    monkeypatch.setattr(module, "AT_ONCE", 5)
    server = TinyVllm(MODEL)
    rows_at_work: list[int] = [0]

    def watched(number: int, due: httpx2.Response) -> Any:
        async def late() -> httpx2.Response:
            count = len(due.json()["choices"])
            rows_at_work.append(rows_at_work[-1] + count)
            await asyncio.sleep(0.005)
            rows_at_work.append(rows_at_work[-1] - count)
            return due

        return late() if number >= 2 else due

    server.misbehave = watched
    served = served_by(FRONT)
    engine = engine_of(server)
    ask(engine, lambda: engine.classify(served, rows_of(served, ["a"] * 21)))
    assert max(rows_at_work) == 4 and rows_at_work[-1] == 0 and engine.load.batch_rows >= 21


@pytest.mark.parametrize("leaver", [0, 1, 2])
def test_turns_go_on_when_one_that_waits_leaves(leaver: int):
    async def run() -> None:
        turns = module._Turns()
        await turns.enter("a", 1)
        done: list[int] = []

        async def work(number: int, kind: str) -> None:
            await turns.enter(kind, 1)
            done.append(number)
            turns.leave(1)

        tasks = [asyncio.ensure_future(work(number, kind)) for number, kind in enumerate("bab")]
        await asyncio.sleep(0)
        assert done == []  # also the one of the kind that runs: those before it wait longer
        tasks[leaver].cancel()
        await asyncio.sleep(0)
        turns.leave(1)
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert sorted(done) == [number for number in range(3) if number != leaver]
        await asyncio.wait_for(turns.enter("c", 10_000), 5)

    asyncio.run(run())
