"""The shapes of requests and answers: those of OpenAI's API, and `/v1/classify`.

Fields of OpenAI's API that are not named here are passed over, as OpenAI does. Those that would change an answer and
are not to be had here are named, and may only hold what changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function
from typing_extensions import TypedDict

from spot.serving.requests import Refusal

ASKED = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)
MOST_STOPS = 16
LONGEST_STOP = 1000  # characters
MOST_CHOICES = 8
MOST_TOP = 20  # of a chat's likeliest tokens at a place, as OpenAI has it; of a completion's 5
_SHOWN_MISTAKES = 3
_ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 504: "timeout_error"}


@dataclass(frozen=True, eq=False)  # typing keeps equal annotations as the same, and 0 equals False
class _Only:
    """Marks a field that may only hold what changes nothing: the first value, or another of them."""

    values: tuple[Any, ...]

    def check(self, value: Any) -> Any:
        """A value, if it is neutral: in JSON true is not 1."""
        if any(value == neutral and isinstance(value, bool) == isinstance(neutral, bool) for neutral in self.values):
            return value
        raise ValueError(f"should be left out or {self.values[0]!r}: nothing else is to be had here")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate by `check`."""
        return no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> dict[str, Any]:
        """The values are all there is."""
        return {"enum": list(self.values)}


def _check_prompt(value: Any) -> Any:
    """Texts; token ids are refused in words of their own."""
    if isinstance(value, list) and value and all(type(item) is int or isinstance(item, list) for item in value):
        raise ValueError("should be a text or a list of texts: token ids are not taken here")
    return _check_texts(value)


def _check_texts(value: Any) -> Any:
    """A text or a list of texts, none of them empty."""
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError("should be a text or a list of texts, none of them empty")
    return value


def _check_input(value: Any) -> Any:
    """A text, a row of fields, or a list of these."""
    rows = value if isinstance(value, list) else [value]
    if not rows or not all(isinstance(row, str | dict) and row for row in rows):
        raise ValueError("should be a text, an object of fields, or a list of these, none of them empty")
    return value


def _check_stop(value: Any) -> Any:
    """Up to `MOST_STOPS` strings."""
    stops = value if isinstance(value, list) else [] if value is None else [value]
    if len(stops) > MOST_STOPS or not all(isinstance(stop, str) and 0 < len(stop) <= LONGEST_STOP for stop in stops):
        raise ValueError(f"should be a text or at most {MOST_STOPS} texts, each of 1 to {LONGEST_STOP} characters")
    return value


def _check_content(value: Any) -> Any:
    """A text, or parts that are texts."""
    parts = value if isinstance(value, list) else [{"type": "text", "text": value}]
    is_text = all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in parts
    )
    if not parts or not is_text:
        raise ValueError('should be a text, or a list of {"type": "text", "text": ...}')
    return value


_TEXT = {"type": "string", "minLength": 1}
_STOP = {"type": "string", "minLength": 1, "maxLength": LONGEST_STOP}
_FIELDS = {"type": "object", "minProperties": 1}
_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}


def _one_or_list(item: dict[str, Any], **limits: int) -> list[dict[str, Any]]:
    """The schema of a value or a list of such."""
    return [item, {"type": "array", "items": item, **limits}]


Model = Annotated[str, Field(min_length=1, max_length=300, description="A task, a digest or its beginning, or `base`.")]
Texts = Annotated[Any, BeforeValidator(_check_prompt), WithJsonSchema({"anyOf": _one_or_list(_TEXT, minItems=1)})]
Rows = Annotated[
    Any,
    BeforeValidator(_check_input),
    WithJsonSchema({"anyOf": [*_one_or_list({"anyOf": [_TEXT, _FIELDS]}, minItems=1)]}),
]
Stop = Annotated[
    Any,
    BeforeValidator(_check_stop),
    WithJsonSchema({"anyOf": [*_one_or_list(_STOP, maxItems=MOST_STOPS), {"type": "null"}]}),
]
Content = Annotated[
    Any,
    BeforeValidator(_check_content),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _PART, "minItems": 1}]}),
]
MaxTokens = Annotated[
    int | None,
    Field(ge=1, description="Most tokens of an answer; left out: the longest label, or the task's longest answer."),
]
Temperature = Annotated[
    float | None, Field(ge=0, le=2, description="0, the default here, takes the likeliest token at each place.")
]
TopP = Annotated[float | None, Field(gt=0, le=1)]
Choices = Annotated[int | None, Field(ge=1, le=MOST_CHOICES)]
Seed = Annotated[int | None, Field(ge=-(2**63), le=2**63 - 1)]
Zero = Annotated[Any, _Only((0, None))]
NoBias = Annotated[Any, _Only(({}, None))]
NoTools = Annotated[Any, _Only(([], None))]


class StreamOptions(BaseModel):
    """What a stream says beside the text."""

    model_config = ASKED

    include_usage: bool | None = None


class CompletionRequest(BaseModel):
    """Text to go on with."""

    model_config = ASKED

    model: Model
    prompt: Texts
    max_tokens: MaxTokens = None
    temperature: Temperature = None
    top_p: TopP = None
    n: Choices = None
    seed: Seed = None
    stop: Stop = None
    logprobs: Annotated[int | None, Field(ge=0, le=5)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    echo: Annotated[Any, _Only((False, None))] = None
    best_of: Annotated[Any, _Only((1, None))] = None
    suffix: Annotated[Any, _Only(("", None))] = None
    presence_penalty: Zero = None
    frequency_penalty: Zero = None
    logit_bias: NoBias = None


class ChatMessage(BaseModel):
    """A turn of a conversation."""

    model_config = ASKED

    role: Annotated[str, Field(min_length=1, max_length=100)]
    content: Content


class ChatRequest(BaseModel):
    """A conversation of one turn, with the system's in front where the prompt was trained with one."""

    model_config = ASKED

    model: Model
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: MaxTokens = None
    max_completion_tokens: MaxTokens = None
    temperature: Temperature = None
    top_p: TopP = None
    n: Choices = None
    seed: Seed = None
    stop: Stop = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=MOST_TOP)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Zero = None
    frequency_penalty: Zero = None
    logit_bias: NoBias = None
    tools: NoTools = None
    functions: NoTools = None
    response_format: Annotated[Any, _Only(({"type": "text"}, None))] = None


class ClassifyRequest(BaseModel):
    """Rows whose label is wanted."""

    model_config = ASKED

    model: Model
    input: Rows


class ErrorDetail(TypedDict):
    """What was wrong, for people and for programs."""

    message: str
    type: str
    code: str
    param: str | None
    request_id: str


class ErrorBody(TypedDict):
    """The one shape of every refusal."""

    error: ErrorDetail


class ServedModel(TypedDict):
    """A model that a request may name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    task: str
    digest: str
    length: int
    labels: list[str]
    form: str
    fields: list[str]
    chat: bool
    scores: dict[str, float]


class ModelList(TypedDict):
    """All of them."""

    object: Literal["list"]
    data: list[ServedModel]


class Usage(TypedDict):
    """Tokens of a request; those of the soft prompt are not counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionLogprobs(TypedDict):
    """The tokens of a completion, each list one entry a token."""

    text_offset: list[int]
    token_logprobs: list[float]
    tokens: list[str]
    top_logprobs: list[dict[str, float]]


class CompletionChoice(TypedDict):
    """One answer to one text."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"] | None
    truncated: NotRequired[int]


class Completion(TypedDict):
    """Answers to texts; of a stream, a part of one."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: NotRequired[Usage | None]


class TopToken(TypedDict):
    """A token that could stand at a place."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatToken(TypedDict):
    """A token of an answer, and what else could stand there."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopToken]


class ChatLogprobs(TypedDict):
    """The tokens of an answer."""

    content: list[ChatToken]
    refusal: None


class ChatAnswer(TypedDict):
    """What the model says."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(TypedDict):
    """One answer to a conversation."""

    index: int
    message: ChatAnswer
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]
    truncated: int


class ChatCompletion(TypedDict):
    """Answers to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Classified(TypedDict):
    """The answer to one row; None where the model's numbers are not finite."""

    index: int
    label: str | None
    probabilities: dict[str, float] | None
    truncated: int


class ClassifyUsage(TypedDict):
    """Tokens of the rows; those of the soft prompt are not counted."""

    prompt_tokens: int
    total_tokens: int


class Classification(TypedDict):
    """The answers to all rows, in their order."""

    object: Literal["classification"]
    model: str
    digest: str
    data: list[Classified]
    usage: ClassifyUsage


class Health(TypedDict):
    """That the server answers."""

    status: Literal["ok", "ready"]


Asked = TypeVar("Asked", bound=BaseModel)


def read_request(kind: type[Asked], value: Mapping[str, Any]) -> Asked:
    """A request of a kind from the JSON object of its body.

    Raises:
        Refusal: 400, with each field that is wrong, what it holds and what was expected.
    """
    try:
        return kind.model_validate(dict(value))
    except ValidationError as failure:
        entries = failure.errors(include_url=False)
        sentences = [_mistake(entry) for entry in entries[:_SHOWN_MISTAKES]]
        if len(entries) > _SHOWN_MISTAKES:
            sentences.append(f"and {len(entries) - _SHOWN_MISTAKES} more")
        raise Refusal(
            f"{'; '.join(sentences)}.", 400, "invalid_request", param=_place(entries[0]["loc"]) or None
        ) from failure


def error_body(refusal: Refusal, request_id: str) -> ErrorBody:
    """What a client is told of a refusal."""
    kind = _ERROR_TYPES.get(refusal.status, "server_error" if refusal.status >= 500 else "invalid_request_error")
    return {
        "error": {
            "message": str(refusal),
            "type": kind,
            "code": refusal.code,
            "param": refusal.param,
            "request_id": request_id,
        }
    }


def _mistake(entry: Any) -> str:
    """One validation error in words."""
    place = _place(entry["loc"])
    if entry["type"] == "missing":
        return f"the field {place!r} is missing"
    expected = entry["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
    return f"{place} is {entry['input']!r:.60}; it {expected}"


def _place(location: Sequence[int | str]) -> str:
    """Where in the body a mistake is, as `messages.0.role`."""
    return ".".join(str(part) for part in location)
