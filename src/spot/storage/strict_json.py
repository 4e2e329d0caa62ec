"""Read JSON of ours, and nothing that only resembles it: bounded, finite, each key once, all text real text.

Python's own reader takes NaN, integers of any size, keys that stand twice and half a letter, and ends in a
RecursionError where brackets are nested deeply. Any of these in a file shows damage or malice.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

from spot.errors import SpotError, StorageError

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

MOST_BYTES = 16_000_000  # of one document: a summary of the widest model is 1 % of it
MOST_DEPTH = 64  # brackets inside brackets; ours stay below ten
LARGEST = 2**63 - 1  # of an integer: what every other reader and every database can hold
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")  # what can spell half of a surrogate pair
_LARGE = re.compile(r"[0-9]{19}|[eE]\+?[0-9]{3}")  # without either, every number is in range
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def read_json(
    text: str | bytes,
    where: str,
    error: type[SpotError] = StorageError,
    *,
    most_bytes: int = MOST_BYTES,
    may_be_nan: bool = False,
) -> JsonValue:
    """One JSON document.

    Args:
        text: the document, UTF-8.
        where: the file, and the line in it, for messages.
        error: raised where it is none.
        most_bytes: a longer document is refused before it is read; of text, letters are counted.
        may_be_nan: take NaN and infinity, which old files hold.

    Returns:
        Objects as dicts, arrays as lists; integers within 64 bits, floats finite, every text without half letters.

    Raises:
        SpotError: of the kind `error`: it is no JSON, too long or too deep, or holds one of what is refused.
    """
    check_length(text, where, error, most_bytes)
    try:
        text = text if isinstance(text, str) else text.decode("utf-8")
        value = (_PLAIN if not may_be_nan and _LARGE.search(text) is None else _DECODERS[may_be_nan]).decode(text)
        if text.count("[") + text.count("{") > MOST_DEPTH or _ESCAPED.search(text) or not is_text(text):
            _check(value)
    except RecursionError as failure:
        raise error(f"{where}: it is not JSON of ours (brackets are nested too deeply).") from failure
    except ValueError as failure:
        raise error(f"{where}: it is not JSON ({failure}).") from failure
    return value


def read_object(
    text: str | bytes, where: str, error: type[SpotError] = StorageError, *, most_bytes: int = MOST_BYTES
) -> dict[str, JsonValue]:
    """One JSON document that is an object; arguments and errors are those of `read_json`."""
    value = read_json(text, where, error, most_bytes=most_bytes)
    if not isinstance(value, dict):
        raise error(f"{where}: it holds {value!r:.80}; expected an object.")
    return value


def check_length(text: str | bytes, where: str, error: type[SpotError], most_bytes: int) -> None:
    """Refuse a document that is longer than any of ours.

    Raises:
        SpotError: of the kind `error`.
    """
    if len(text) > most_bytes:
        raise error(f"{where}: it is not JSON of ours ({len(text):,} bytes; expected at most {most_bytes:,}).")


def is_text(text: str) -> bool:
    """Whether a text can be written down: half a surrogate pair cannot."""
    return _HALF_PAIR.search(text) is None


def _check(value: JsonValue) -> None:
    """Refuse what is nested too deeply, and text that is none.

    Raises:
        ValueError: saying which.
    """
    level: list[JsonValue] = [value]
    for _ in range(MOST_DEPTH + 1):
        if not all(is_text(part) for part in level if isinstance(part, str)):
            raise ValueError("a text holds half of a surrogate pair")
        wholes = [part for part in level if isinstance(part, dict | list)]
        if not wholes:
            return
        level = [part for whole in wholes for part in _parts(whole)]
    raise ValueError(f"brackets are nested more than {MOST_DEPTH} deep")


def _parts(value: dict[str, JsonValue] | list[JsonValue]) -> Iterator[JsonValue]:
    """What an object or an array holds, keys included."""
    yield from value
    if isinstance(value, dict):
        yield from value.values()


def _integer(digits: str) -> int:
    """An integer that 64 bits hold. Its length is looked at first: reading a long one takes its length squared."""
    if len(digits) > 20 or not ~LARGEST <= (value := int(digits)) <= LARGEST:
        raise ValueError(f"the integer {digits:.24} is out of range")
    return value


def _number(digits: str) -> float:
    """A finite float."""
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {digits:.24} is out of range")
    return value


def _constant(name: str) -> float:
    """Refuse NaN and infinity, which JSON does not have."""
    raise ValueError(f"{name} is no number of JSON; every number should be a finite number")


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """An object whose keys stand once."""
    result = dict(pairs)
    if len(result) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key!r:.80} stands twice")
    return result


_PLAIN = json.JSONDecoder(parse_constant=_constant, object_pairs_hook=_object)
_DECODERS = {
    False: json.JSONDecoder(
        parse_int=_integer, parse_float=_number, parse_constant=_constant, object_pairs_hook=_object
    ),
    True: json.JSONDecoder(parse_int=_integer, object_pairs_hook=_object),
}
