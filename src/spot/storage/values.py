"""Read values from JSON: every field is checked, and what is wrong is named by file, line and field."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from spot.errors import SpotError
from spot.storage.strict_json import MOST_BYTES, check_length, read_json

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # for `pydantic.with_config` on a record

Value = TypeVar("Value")


def read_value(
    kind: type[Value],
    text: str | bytes,
    place: str,
    error: type[SpotError],
    *,
    most_bytes: int = MOST_BYTES,
    may_be_nan: bool = False,
) -> Value:
    """A value of a kind from JSON, which `read_json` has seen to be sound.

    Args:
        kind: a frozen dataclass with `@with_config(STRICT)`, or any other type that pydantic knows.
        text: one JSON document.
        place: the file, and the line in it, for messages.
        error: raised where it is none.
        most_bytes: a longer document is refused before it is read.
        may_be_nan: let NaN and infinity reach the kind, which decides; old files hold them.

    Raises:
        SpotError: of the kind `error`: as `read_json`, or each wrong field, what it holds and what was expected.
    """
    value = check_value(kind, text, place, error, most_bytes=most_bytes)
    read_json(text, place, error, most_bytes=most_bytes, may_be_nan=may_be_nan)
    return value


def check_value(
    kind: type[Value], text: str | bytes, place: str, error: type[SpotError], *, most_bytes: int = MOST_BYTES
) -> Value:
    """A value of a kind from JSON that `read_json` has seen, or that nothing but the types need bound.

    Args and errors are those of `read_value`.
    """
    check_length(text, place, error, most_bytes)
    try:
        return _adapter(kind).validate_json(text)
    except ValidationError as failure:
        raise error(f"{place}: {'; '.join(_mistakes(failure))}.") from failure


@cache
def _adapter(kind: type[Value]) -> TypeAdapter[Value]:
    """What checks values of a kind; making it takes a hundred times as long as using it."""
    return TypeAdapter(kind)


def _mistakes(failure: ValidationError) -> list[str]:
    """What is wrong, a line a field."""
    mistakes = []
    for entry in failure.errors(include_url=False):
        field = ".".join(str(part) for part in entry["loc"])
        expected = entry["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
        match entry["type"]:
            case "missing":
                mistakes.append(f"the field {field!r} is missing")
            case "unexpected_keyword_argument" | "extra_forbidden":
                mistakes.append(f"there is a field {field!r}, which is not known here")
            case "json_invalid":
                mistakes.append(f"it is not JSON ({expected.removeprefix('Invalid JSON: ')})")
            case _ if field:
                mistakes.append(f"the field {field!r} holds {entry['input']!r:.80}; it {expected}")
            case _:
                mistakes.append(f"found {entry['input']!r:.80}; it {expected}")
    return mistakes


def plain(value: Any) -> Any:
    """A value as JSON holds it: records as objects, tuples as lists; a float that is no number as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_json(value: Any) -> str:
    """A value as one line of JSON; equal values give equal text."""
    return json.dumps(plain(value), sort_keys=True, allow_nan=False)
