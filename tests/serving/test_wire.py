import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from spot.serving.requests import Refusal
from spot.serving.wire import (
    LONGEST_STOP,
    MOST_CHOICES,
    MOST_STOPS,
    ChatRequest,
    ClassifyRequest,
    CompletionRequest,
    ErrorBody,
    error_body,
    read_request,
)

ASKED = {"model": "mood", "prompt": "a text"}
TURN = [{"role": "user", "content": "a text"}]

BAD_FIELDS = [
    ("max_tokens", -1),
    ("max_tokens", 0),
    ("max_tokens", 1.5),
    ("max_tokens", "5"),
    ("max_tokens", True),
    ("temperature", -0.1),
    ("temperature", 2.1),
    ("temperature", float("nan")),
    ("temperature", float("inf")),
    ("temperature", "hot"),
    ("top_p", 0),
    ("top_p", 1.01),
    ("n", 0),
    ("n", MOST_CHOICES + 1),
    ("seed", 2**63),
    ("seed", 0.5),
    ("logprobs", 6),
    ("logprobs", -1),
    ("stop", ["a"] * (MOST_STOPS + 1)),
    ("stop", ""),
    ("stop", [""]),
    ("stop", "a" * (LONGEST_STOP + 1)),
    ("stop", [["a"]]),
    ("stop", 5),
    ("stream", "yes"),
    ("stream_options", {"include_usage": "yes"}),
    ("echo", True),
    ("best_of", 2),
    ("best_of", True),
    ("suffix", "tail"),
    ("presence_penalty", 0.5),
    ("frequency_penalty", -2),
    ("presence_penalty", False),
    ("logit_bias", {"50256": -100}),
    ("prompt", ""),
    ("prompt", []),
    ("prompt", ["a", ""]),
    ("prompt", None),
    ("prompt", {"text": "a"}),
    ("prompt", [1, 2, 3]),
    ("prompt", [[1, 2], [3]]),
    ("model", ""),
    ("model", "m" * 301),
    ("model", 7),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_a_bad_field_is_refused_by_its_name(field, value):
    with pytest.raises(Refusal) as refused:
        read_request(CompletionRequest, {**ASKED, field: value})
    assert (refused.value.status, refused.value.param) == (
        400,
        "stream_options.include_usage" if isinstance(value, dict) and field == "stream_options" else field,
    )
    assert field in str(refused.value) and "Value error" not in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, None) for field in CompletionRequest.model_fields if field not in ("model", "prompt")),
        ("presence_penalty", 0.0),
        ("frequency_penalty", 0),
        ("best_of", 1),
        ("echo", False),
        ("suffix", ""),
        ("logit_bias", {}),
        ("temperature", 1),
        ("user", "somebody"),
        ("a_field_of_next_year", [1]),
        ("stop", []),
        ("stop", ["a"] * MOST_STOPS),
        ("prompt", ["a", "b"]),
    ],
)
def test_what_changes_nothing_is_taken(field, value):
    read_request(CompletionRequest, {**ASKED, field: value})


@pytest.mark.parametrize("kind", [CompletionRequest, ChatRequest, ClassifyRequest])
def test_a_missing_field_is_named(kind):
    with pytest.raises(Refusal, match="the field 'model' is missing"):
        read_request(kind, {"prompt": "a", "messages": TURN, "input": "a"})


@pytest.mark.parametrize("value", ["a", ["a", "b"], {"text": "a"}, [{"text": "a"}, "b"]])
def test_rows_come_in_four_shapes(value):
    assert read_request(ClassifyRequest, {"model": "mood", "input": value}).input == value


@pytest.mark.parametrize("value", ["", [], [""], {}, [{}], 5, None, [5], [["a"]]])
def test_other_shapes_of_rows_are_refused(value):
    with pytest.raises(Refusal, match="input is"):
        read_request(ClassifyRequest, {"model": "mood", "input": value})


@pytest.mark.parametrize(
    "content", ["a", "", [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache": {}}]]
)
def test_a_turn_is_text_or_parts_of_text(content):
    read_request(ChatRequest, {"model": "m", "messages": [{"role": "user", "content": content}]})


@pytest.mark.parametrize(
    "content", [None, [], ["a"], [{"type": "image_url", "image_url": {"url": "x"}}], 5, [{"type": "text", "text": 5}]]
)
def test_other_parts_are_refused(content):
    with pytest.raises(Refusal, match=r"messages\.0\.content"):
        read_request(ChatRequest, {"model": "m", "messages": [{"role": "user", "content": content}]})


@pytest.mark.parametrize(
    ("field", "value"),
    [("tools", [{"type": "function"}]), ("functions", [{}]), ("response_format", {"type": "json_object"})],
)
def test_a_chat_refuses_what_it_would_pass_over_in_silence(field, value):
    with pytest.raises(Refusal, match=field):
        read_request(ChatRequest, {"model": "m", "messages": TURN, field: value})


def test_many_mistakes_are_said_in_few_words():
    with pytest.raises(Refusal, match="and 3 more") as refused:
        read_request(CompletionRequest, {"model": 1, "prompt": 2, "n": 0, "top_p": 5, "seed": "x", "stream": 3})
    assert len(str(refused.value)) < 600


@given(
    st.dictionaries(
        st.sampled_from(list(CompletionRequest.model_fields)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda part: st.lists(part) | st.dictionaries(st.text(), part),
            max_leaves=5,
        ),
    )
)
def test_any_object_is_a_request_or_refused_in_words(value):
    try:
        read_request(CompletionRequest, value)
    except Refusal as refusal:
        assert refusal.status == 400 and str(refusal)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
        (504, "timeout_error"),
    ],
)
def test_an_error_says_whose_fault_it_is(status, kind):
    body = error_body(Refusal("why", status, "word", param="n"), "req_1")
    assert TypeAdapter(ErrorBody).validate_python(body, strict=True) == body
    assert body["error"] == {"message": "why", "type": kind, "code": "word", "param": "n", "request_id": "req_1"}
