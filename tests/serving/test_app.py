import asyncio
import json
import time

import httpx2
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig

from spot.errors import PromptError
from spot.evaluation.door import predict
from spot.evaluation.predictions import Prediction
from spot.prompts.prompt import load
from spot.serving.app import create_app
from spot.serving.catalogue import LibraryCatalogue
from spot.serving.completions import encoded, examples_of
from spot.serving.local import LocalEngine
from spot.serving.requests import Refusal
from spot.serving.settings import ServeSettings
from tests.support.serving import LOCAL, Client, FakeCatalogue, FakeEngine, client_of, label_of, served_models
from tests.support.tiny_libraries import TEXTS, rows_of_task, tiny_backbone, tiny_library

ROW = {"model": "mood", "input": "fine"}
TEXT = {"model": "base", "prompt": "abc"}
TURN = {"model": "talk", "messages": [{"role": "user", "content": "hello"}]}
ROUTES = (("/v1/classify", ROW), ("/v1/completions", TEXT), ("/v1/chat/completions", TURN))
TOKEN = "a-token-of-some-length"


class InProcess(httpx2.BaseTransport):
    """Carries a synchronous client's requests to an application."""

    def __init__(self, app):
        self.app = app

    def handle_request(self, request):
        headers = [(name.decode().lower(), value.decode()) for name, value in request.headers.raw]
        sent = Client(self.app).send(request.method, request.url.path, [request.read()], headers)
        reply = asyncio.run(sent)
        return httpx2.Response(reply.status, headers=dict(reply.headers), content=reply.body)


def official(client, key="none", **options):
    """OpenAI's own client of a server in process."""
    http = httpx2.Client(transport=InProcess(client.app))
    return openai.OpenAI(base_url="http://127.0.0.1/v1", api_key=key, http_client=http, max_retries=0, **options)


def official_async(client):
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(client.app))
    return openai.AsyncOpenAI(base_url="http://127.0.0.1/v1", api_key="none", http_client=http, max_retries=0)


# What a client of OpenAI's sees.


def test_the_official_client_lists_models():
    names = [model.id for model in official(client_of()).models.list()]
    assert names == ["base", "mood", "pair", "story", "mixture", "talk"]
    assert official(client_of()).models.retrieve("mood").owned_by == "spot"


def test_the_official_client_reads_a_name_with_a_slash():
    models = served_models({"glue/sst2": served_models()[1].collator.reading})
    client = official(client_of(catalogue=FakeCatalogue(models)))
    assert client.models.retrieve("glue/sst2").id == "glue/sst2"


def test_the_official_client_completes():
    engine = FakeEngine()
    answer = official(client_of(engine)).completions.create(
        model="base", prompt=["abc", "de"], max_tokens=2, temperature=0.5, top_p=0.9, seed=4, logprobs=2, n=2
    )
    assert [choice.text for choice in answer.choices] == ["AB", "AB", "DE", "DE"]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.finish_reason for choice in answer.choices] == ["length"] * 4
    assert answer.choices[0].logprobs.tokens == ["A", "B"]
    assert len(answer.choices[0].logprobs.top_logprobs[0]) == 2
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 8, 13)
    assert sorted(sampling.seed for sampling in engine.asked) == [4, 4, 5, 5]
    assert {(sampling.temperature, sampling.top_p) for sampling in engine.asked} == {(0.5, 0.9)}


def test_the_official_client_stops():
    answer = official(client_of(FakeEngine(text="one. two."))).completions.create(
        model="base", prompt="x", stop=[". t", "zzz"]
    )
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("one", "stop")


@pytest.mark.parametrize("stops", [None, ["lo"], ["x"]])
def test_a_stream_of_the_official_client_is_the_whole_answer(stops):
    engine = FakeEngine(text="hello wörld")
    client = official(client_of(engine))
    whole = client.completions.create(model="base", prompt="x", stop=stops, logprobs=1)
    stream = list(
        client.completions.create(
            model="base", prompt="x", stop=stops, logprobs=1, stream=True, stream_options={"include_usage": True}
        )
    )
    *parts, last = stream
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    assert [part.choices[0].finish_reason for part in parts] == [None] * (len(parts) - 1) + ["stop"]
    for name in ("tokens", "text_offset", "token_logprobs", "top_logprobs"):
        told = [value for part in parts for value in getattr(part.choices[0].logprobs, name)]
        assert told == getattr(whole.choices[0].logprobs, name)
    assert last.choices == [] and last.usage == whole.usage
    assert all(part.usage is None for part in parts)
    assert len({part.id for part in stream}) == 1
    assert engine.running == 0


def test_a_stream_is_cut_into_lines_nowhere_but_between_its_events():
    text = "a\u2028b\x85c\x0bd\ne\r\n\nf"
    reply = client_of(FakeEngine(text=text)).post("/v1/completions", {**TEXT, "stream": True})
    lines = reply.body.decode().splitlines()
    assert all(line.startswith("data: ") or not line for line in lines)
    assert "".join(event["choices"][0]["text"] for event in reply.events[:-1]) == text


def test_the_official_client_chats():
    client = official(client_of(FakeEngine(text="good day")))
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]
    answer = client.chat.completions.create(model="talk", messages=turns, logprobs=True, top_logprobs=2)
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "good day", "stop")
    assert "".join(token.token for token in choice.logprobs.content) == "good day"
    assert [len(token.top_logprobs) for token in choice.logprobs.content] == [2] * 8
    parts = list(client.chat.completions.create(model="talk", messages=turns, stream=True, n=2))
    for number in (0, 1):
        own = [part.choices[0] for part in parts if part.choices[0].index == number]
        assert "".join(choice.delta.content for choice in own) == "good day"
        assert [choice.delta.role for choice in own] == ["assistant"] + [None] * (len(own) - 1)
        assert own[-1].finish_reason == "stop"


def test_the_official_asynchronous_client_completes_and_streams():
    async def run():
        client = official_async(client_of(FakeEngine(text="hello")))
        whole = await client.completions.create(model="base", prompt="x")
        stream = await client.completions.create(model="base", prompt="x", stream=True)
        text = "".join([part.choices[0].text async for part in stream])
        chat = await client.chat.completions.create(**TURN)
        return whole.choices[0].text, text, chat.choices[0].message.content

    assert asyncio.run(run()) == ("hello", "hello", "hello")


def test_the_official_client_raises_its_own_errors():
    client = official(client_of())
    with pytest.raises(openai.NotFoundError, match="did you mean 'mood'") as unknown:
        client.completions.create(model="moood", prompt="x")
    assert unknown.value.code == "model_not_found" and unknown.value.request_id.startswith("req_")
    with pytest.raises(openai.BadRequestError) as bad:
        client.completions.create(model="base", prompt="x", max_tokens=-1)
    assert bad.value.param == "max_tokens"
    with pytest.raises(openai.RateLimitError) as busy:
        official(client_of(FakeEngine(fault=Refusal("4,000 rows wait", 429, "busy", 3)))).completions.create(**TEXT)
    assert busy.value.response.headers["retry-after"] == "3"
    secured = client_of(token=TOKEN, host="0.0.0.0")
    with pytest.raises(openai.AuthenticationError):
        official(secured, key="wrong").models.list()
    assert official(secured, key=TOKEN).models.list().data


def test_a_stream_that_breaks_off_is_an_error_of_the_official_client():
    client = official(client_of(FakeEngine(text="half", fault=Refusal("the upstream is down", 503, "upstream"))))
    text = ""
    with pytest.raises(openai.APIError, match="the upstream is down"):  # noqa: PT012 what came before counts
        for part in client.completions.create(model="base", prompt="x", stream=True):
            text += part.choices[0].text
    assert text == "half"


# Classification.


def test_rows_in_every_shape_are_answered_in_their_order():
    client = client_of()
    served = {model.name: model for model in served_models()}
    for model, value in (
        ("mood", "fine"),
        ("mood", ["fine", "well", "not so well"]),
        ("mood", [{"text": "fine"}, {"text": "bad"}]),
        ("pair", {"first": "a", "second": "b"}),
        ("mixture", ["whole input", "other"]),
    ):
        reply = client.post("/v1/classify", {"model": model, "input": value}).json
        collator = served[model].collator
        rows = encoded(collator, examples_of(value, collator.reading))
        predictions = [label_of(served[model], row) for row in rows]
        assert [entry["label"] for entry in reply["data"]] == [prediction.text for prediction in predictions]
        assert [entry["probabilities"] for entry in reply["data"]] == [row.probabilities for row in predictions]
        assert [entry["index"] for entry in reply["data"]] == list(range(len(rows)))
        tokens = sum(len(row.input_ids) for row in rows)
        assert reply["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
        assert (reply["object"], reply["model"]) == ("classification", model)


def test_a_row_that_is_cut_is_told():
    reply = client_of().post("/v1/classify", {"model": "mood", "input": ["a" * 300, "a"]}).json
    lost = len("mood: " + "a" * 300) - 96
    assert [entry["truncated"] for entry in reply["data"]] == [lost, 0]
    reply = client_of().post("/v1/completions", {"model": "story", "prompt": ["a", "a" * 300], "n": 2}).json
    assert [choice["truncated"] > 0 for choice in reply["choices"]] == [False, False, True, True]


def test_a_row_without_an_answer_has_none():
    class Broken(FakeEngine):
        async def classify(self, served, rows):
            labels = served.collator.labels
            return [Prediction("", (float("nan"),) * 2, labels, is_answered=False) for _ in rows]

    [entry] = client_of(Broken()).post("/v1/classify", ROW).json["data"]
    assert (entry["label"], entry["probabilities"]) == (None, None)


def test_a_model_is_called_by_task_digest_or_its_beginning():
    client = client_of()
    for name in ("pair", "1" * 16, "11111"):
        reply = client.post("/v1/classify", {"model": name, "input": {"first": "a", "second": "b"}})
        assert (reply.json["model"], reply.json["digest"]) == ("pair", "1" * 16)


# What is refused.

BAD_BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe{}",
    b'{"model": "mood", "input": "\xff"}',
    b'{"model": "mood", "input": "\\ud800"}',
    b'{"model": "mood", "model": "base", "input": "a"}',
    b'{"model": "mood", "input": "a", "temperature": NaN}',
    b'{"model": "mood", "input": "a", "seed": ' + b"9" * 400 + b"}",
    b'{"model": "mood", "input": "a", "n": 1e999}',
    b'{"model": "mood", "input": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"model": "mood", "input": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    b'{"model": "mood", "input": "a"} {"model": "base"}',
    b'{"model": "mood", "input": "a"',
    b"\x00",
    '{"model": "mood", "input": "a"}'.encode("utf-16"),
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body[:40]))
@pytest.mark.parametrize("path", [path for path, _ in ROUTES])
def test_what_is_no_sound_json_is_refused(path, body):
    reply = client_of().post(path, body)
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error" and reply.error["code"] in ("invalid_json", "invalid_request")


@pytest.mark.parametrize(
    ("path", "value", "status", "code"),
    [
        ("/v1/classify", {**ROW, "model": "moood"}, 404, "model_not_found"),
        ("/v1/classify", {**ROW, "model": "base"}, 400, "no_labels"),
        ("/v1/classify", {**ROW, "model": "story"}, 400, "no_labels"),
        ("/v1/classify", {**ROW, "input": " "}, 400, "bad_row"),
        ("/v1/classify", {**ROW, "input": ""}, 400, "invalid_request"),
        ("/v1/classify", {**ROW, "input": {"txt": "a"}}, 400, "bad_row"),
        ("/v1/classify", {"model": "pair", "input": "a"}, 400, "bad_row"),
        ("/v1/classify", {**ROW, "input": {"text": "a" * 10}, "model": "../../etc/passwd"}, 404, "model_not_found"),
        ("/v1/classify", {**ROW, "input": ["a"] * 1001}, 413, "too_many_rows"),
        ("/v1/classify", {**ROW, "input": ["a"] * 100_000}, 413, "too_many_rows"),
        ("/v1/completions", {**TEXT, "prompt": ["a"] * 126, "n": 8}, 413, "too_many_rows"),
        ("/v1/completions", {**TEXT, "max_tokens": 10**9}, 400, "too_many_new_tokens"),
        ("/v1/completions", {**TEXT, "max_tokens": -1}, 400, "invalid_request"),
        ("/v1/completions", {**TEXT, "stop": ["a"] * 1000}, 400, "invalid_request"),
        ("/v1/completions", {"model": "mood", "prompt": "\n"}, 400, "bad_row"),
        ("/v1/chat/completions", {**TURN, "model": "mood"}, 400, "no_chat_form"),
        ("/v1/chat/completions", {**TURN, "model": "base"}, 400, "no_chat_form"),
        ("/v1/chat/completions", {**TURN, "messages": []}, 400, "invalid_request"),
        ("/v1/embeddings", {"model": "base"}, 404, "unknown_path"),
        ("/v1/completions/", TEXT, 404, "unknown_path"),
    ],
)
def test_a_bad_request_is_told_why(path, value, status, code):
    engine = FakeEngine()
    reply = client_of(engine).post(path, value)
    assert (reply.status, reply.error["code"]) == (status, code)
    assert engine.asked == []


@pytest.mark.parametrize("part", [b"[]", b"{}", b'["]"]', b'{"a":"}"}', b'"\\\\",[]', b'"\\"",[]'])
def test_a_body_of_too_many_lists_and_objects_is_refused_before_it_is_read(part):
    body = b'{"model": "mood", "input": [' + b",".join([part] * 50_000) + b"]}"
    reply = client_of().post("/v1/classify", body)
    assert (reply.status, reply.error["code"]) == (413, "too_many_parts")


@pytest.mark.parametrize("text", ["[" * 3000, '{"a": [1]}' * 1500, '\\"[' * 3000])
def test_what_texts_say_counts_as_no_lists_and_objects(text):
    reply = client_of().post("/v1/classify", {"model": "mood", "input": [text] * 20})
    assert reply.status == 200 and len(reply.json["data"]) == 20


def test_a_body_of_20_mb_is_refused():
    reply = client_of().post("/v1/classify", b'{"model": "mood", "input": "' + b"a" * 20_000_000 + b'"}')
    assert (reply.status, reply.error["code"]) == (413, "body_too_large")


def test_more_tokens_than_a_request_may_have_are_refused():
    client = client_of(max_request_tokens=100)
    assert client.post("/v1/classify", {"model": "mood", "input": ["a" * 44] * 2}).status == 200
    reply = client.post("/v1/classify", {"model": "mood", "input": ["a" * 44] * 3})
    assert (reply.status, reply.error["code"]) == (413, "too_many_tokens")
    assert client.post("/v1/completions", {"model": "base", "prompt": "a" * 30, "n": 4}).status == 413


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "HEAD"])
def test_another_method_is_told_which_is_right(method):
    reply = asyncio.run(client_of().send(method, "/v1/classify"))
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/mood"])
def test_the_head_alone_can_be_asked_for(path):
    client = client_of()
    reply = asyncio.run(client.send("HEAD", path))
    assert reply.status == 200 and reply.headers["content-type"] == client.get(path).headers["content-type"]
    described = client.get("/openapi.json").json["paths"]
    assert all("head" not in methods for methods in described.values())


@pytest.mark.parametrize(
    "path",
    ["/docs", "/redoc", "/v1/models/", "/v1", "/v1/models/../../etc/passwd", "/%2e%2e/", "/v1/models/" + "m" * 5000],
)
def test_other_paths_lead_nowhere(path):
    assert client_of().get(path).error["code"] in ("unknown_path", "model_not_found")


@pytest.mark.parametrize(("path", "value"), ROUTES)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_engine_that_refuses_is_quoted(path, value, is_streamed):
    if is_streamed and path != "/v1/classify":
        value = {**value, "stream": True}

    class Full(FakeEngine):
        async def generate(self, served, row, sampling):
            raise Refusal("4,000 rows wait; try again.", 429, "busy", retry_after=0.2)
            yield

    reply = client_of(Full(fault=Refusal("4,000 rows wait; try again.", 429, "busy", retry_after=0.2))).post(
        path, value
    )
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert reply.error["type"] == "rate_limit_error"


@pytest.mark.parametrize(("path", "value"), ROUTES)
def test_an_engine_that_fails_tells_nothing(path, value):
    reply = client_of(FakeEngine(text="a", fault=PromptError("/srv/lib/x.safetensors is gone"))).post(path, value)
    assert (reply.status, reply.error["code"]) == (500, "internal_error")
    assert "/srv" not in reply.body.decode()


@pytest.mark.parametrize(("path", "value"), ROUTES)
def test_a_request_has_its_time_and_then_frees_its_place(path, value):
    engine = FakeEngine(text="a" * 30, pause=10)
    reply = client_of(engine, timeout_s=1.0).post(path, value)
    assert (reply.status, reply.error["code"]) == (504, "timeout")
    assert (engine.running, engine.ended) == (0, 1)


def test_a_stream_that_takes_too_long_ends_with_an_error():
    engine = FakeEngine(text="a" * 200, pause=0.02)
    reply = client_of(engine, timeout_s=1.0).post("/v1/completions", {**TEXT, "stream": True})
    *parts, last = reply.events
    assert reply.status == 200 and parts and last["error"]["code"] == "timeout"
    assert last["error"]["request_id"] == reply.headers["x-request-id"]
    assert (engine.running, engine.ended) == (0, 1)


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(("path", "value"), ROUTES)
def test_a_client_that_leaves_frees_its_place(path, value, is_streamed):
    engine = FakeEngine(text="a" * 200, pause=0.02)

    async def soon():
        while engine.running == 0:
            await asyncio.sleep(0.005)

    value = {**value, "stream": True} if is_streamed and path != "/v1/classify" else value
    client_of(engine).post(path, value, leaves=soon)
    assert (engine.running, engine.ended) == (0, 1)


def test_a_reader_that_is_slow_holds_its_stream_up_and_no_other():
    engine = FakeEngine(text="a" * 30)

    async def run():
        client = client_of(engine)
        gate = asyncio.Event()

        async def slowly(_):
            await gate.wait()

        slow = asyncio.ensure_future(
            client.send("POST", "/v1/completions", [json.dumps({**TEXT, "stream": True}).encode()], takes=slowly)
        )
        await asyncio.sleep(0.05)
        quick = await client.send("POST", "/v1/completions", [json.dumps(TEXT).encode()])
        assert not slow.done()
        gate.set()
        return quick, await slow

    quick, slow = asyncio.run(run())
    assert quick.json["choices"][0]["text"] == "".join(part["choices"][0]["text"] for part in slow.events[:-1])


def test_health_answers_while_rows_are_encoded_and_computed():
    async def run():
        client = client_of(FakeEngine(pause=0.1))
        body = json.dumps({"model": "mood", "input": ["a word " * 50] * 600}).encode()
        began, slowest = time.perf_counter(), 0.0
        busy = asyncio.ensure_future(client.send("POST", "/v1/classify", [body]))
        while not busy.done():
            asked = time.perf_counter()
            assert (await client.send("GET", "/healthz")).status == 200
            slowest = max(slowest, time.perf_counter() - asked)
            await asyncio.sleep(0.01)
        assert busy.result().status == 200
        return slowest / (time.perf_counter() - began)

    # Of the time that the rows take: encoded on the event loop, they would have it nearly all.
    assert asyncio.run(run()) < 0.4


def test_readiness_follows_the_engine():
    engine = FakeEngine()
    client = client_of(engine)
    assert client.get("/readyz").json == {"status": "ready"}
    engine.is_ready = False
    reply = client.get("/readyz")
    assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "not_ready", "1")
    assert client.get("/healthz").json == {"status": "ok"}


def test_the_engine_ends_with_the_application():
    engine = FakeEngine()
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message["type"])

    app = create_app(FakeCatalogue(), engine, ServeSettings())
    asyncio.run(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send))
    assert engine.closed and sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "spot.example"])
def test_no_application_that_others_reach_goes_without_a_token(host):
    with pytest.raises(Refusal, match="--token-file"):
        create_app(FakeCatalogue(), FakeEngine(), ServeSettings(host=host))


# With a real model.


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_answers_over_http_are_those_of_predict(tiny, tmp_path, family):
    library = tiny_library(tmp_path, family)
    backbone = tiny_backbone(tiny, family)
    catalogue = LibraryCatalogue(library, backbone, 60.0, 64)
    tasks = ("reviews", "topics", "pairs")

    async def run():
        engine = LocalEngine(tiny_backbone(tiny, family), ServeSettings())
        client = Client(create_app(catalogue, engine, ServeSettings()))

        async def post(path, value):
            reply = await client.send("POST", path, [json.dumps(value).encode()])
            assert reply.status == 200, reply.body
            return reply

        text = {"model": "open", "prompt": list(TEXTS)}
        replies = await asyncio.gather(
            *(post("/v1/classify", {"model": task, "input": rows_of_task(task)}) for task in tasks),
            post("/v1/completions", text),
            post("/v1/completions", {**text, "stream": True}),
        )
        await engine.close()
        return replies

    *classified, whole, stream = asyncio.run(run())
    catalogue.close()
    prompts = {entry.task: load(entry.path) for entry in library.entries()}
    for task, reply in zip(tasks, classified, strict=True):
        predictions = predict(prompts[task], backbone, rows_of_task(task))
        assert [entry["label"] for entry in reply.json["data"]] == [row.text for row in predictions]
        for entry, row in zip(reply.json["data"], predictions, strict=True):
            assert entry["probabilities"] == pytest.approx(row.probabilities, abs=1e-4)
    texts = [choice["text"] for choice in whole.json["choices"]]
    answers = [row.text for row in predict(prompts["open"], backbone, rows_of_task("open"))]
    assert [text.strip() for text in texts] == answers
    parts = [event["choices"][0] for event in stream.events[:-1]]
    assert ["".join(part["text"] for part in parts if part["index"] == row) for row in range(len(texts))] == texts


# The description of the API, and what follows it.


def test_the_description_names_every_route_request_and_the_token():
    schema = (
        client_of(token=TOKEN, host="0.0.0.0")
        .get("/openapi.json", headers=(*LOCAL, ("authorization", f"Bearer {TOKEN}")))
        .json
    )
    assert sorted(schema["paths"]) == [
        "/healthz",
        "/metrics",
        "/readyz",
        "/v1/chat/completions",
        "/v1/classify",
        "/v1/completions",
        "/v1/models",
        "/v1/models/{name}",
    ]
    assert {"CompletionRequest", "ChatRequest", "ClassifyRequest", "ErrorBody"} <= schema["components"][
        "schemas"
    ].keys()
    assert schema["paths"]["/v1/classify"]["post"]["security"] == [{"token": []}]
    assert schema["paths"]["/healthz"]["get"]["security"] == []
    assert "securitySchemes" not in client_of().get("/openapi.json").json["components"]


def described():
    """The API as schemathesis reads it; half of the requests name a model that is there."""
    app = client_of(FakeEngine(text="hi"), token=TOKEN, host="0.0.0.0").app
    config = SchemathesisConfig.from_dict(
        {
            # What a schema cannot say, such as that a prompt reads other fields, is refused with 400, as OpenAI does.
            "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "400", "404", "413"]}},
            "headers": {"Authorization": f"Bearer {TOKEN}"},
        }
    )
    return schemathesis.openapi.from_asgi(
        "/openapi.json", app, config=config, headers={"Authorization": f"Bearer {TOKEN}"}
    )


api = described()
NAMES = ("base", "mood", "mixture", "story", "talk")


@api.hook
def map_body(context, body):
    """Name models that are there and fields and turns that they read, as random text never does; the rest stays."""
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or len(body["model"]) % 4 == 0:
        return body
    body = {**body, "model": NAMES[len(body["model"]) % len(NAMES)]}
    rows = body.get("input")
    if isinstance(rows, list) and rows and all(isinstance(row, dict) and row for row in rows):
        body = {**body, "model": "mood", "input": [{**row, "text": "fine"} for row in rows]}
    turns = body.get("messages")
    if isinstance(turns, list) and turns and all(map(is_turn, turns)):
        body = {**body, "model": "talk", "messages": [{**turns[0], "role": "user"}]}
    return body


def is_turn(turn):
    return isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)


@api.parametrize()
@examples(
    derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
def test_schemathesis_finds_nothing(case):
    case.call_and_validate()


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["mood", "talk", "text"])
VALUES = st.recursive(LEAVES, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part, max_size=3))


@given(path=st.sampled_from(ROUTES), data=st.data())
@examples(derandomize=True, deadline=None)
def test_a_request_with_anything_in_it_is_answered_or_refused(path, data):
    route, value = path
    field = data.draw(st.sampled_from([*value, "n", "stop", "logprobs", "stream", "temperature", "top_logprobs"]))
    body = json.dumps({**value, field: data.draw(VALUES)}).encode()
    reply = SHARED.post(route, body)
    assert reply.status in (200, 400, 404, 413)
    if reply.status != 200:
        assert reply.error["message"]


@given(st.binary(max_size=40))
@examples(derandomize=True, deadline=None)
def test_bytes_of_any_kind_are_refused(body):
    assert SHARED.post("/v1/classify", body).status == 400


SHARED = client_of(FakeEngine(text="hi"))
