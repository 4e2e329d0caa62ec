"""JSON of ours: what was written comes back, and whatever else comes in, no other exception than ours comes out."""

import contextlib
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.errors import LibraryError
from spot.storage.strict_json import MOST_BYTES, MOST_DEPTH, JsonValue, read_json, read_object

texts = st.text(st.characters(exclude_categories=("Cs",)))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)


@given(values, st.booleans())
def test_what_is_written_is_read(value: JsonValue, ascii_only: bool):
    text = json.dumps(value, ensure_ascii=ascii_only)
    for content in (text, text.encode()):
        back = read_json(content, "here", LibraryError)
        assert back == value and type(back) is type(value)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_whatever_comes_in_only_our_error_comes_out(content: bytes):
    try:
        value = read_json(content, "line 3", LibraryError)
    except LibraryError as error:
        assert str(error).startswith("line 3: it is not JSON")
    else:
        assert value == json.loads(content)


@given(values, st.data())
def test_damaged_documents_raise_only_our_error(value: JsonValue, data: st.DataObject):
    content = bytearray(json.dumps(value).encode())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(LibraryError):
        read_json(bytes(content), "here", LibraryError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "NaN is no number of JSON"),
        ('{"a": -Infinity}', "-Infinity is no number of JSON"),
        ("1e400", "number 1e400 is out of range"),
        ("-1e400", "out of range"),
        ("1" + "0" * 400, "the integer 10000000.* is out of range"),
        ("9223372036854775808", "is out of range"),
        ("-9223372036854775809", "is out of range"),
        ("1" * 10_000_000, "is out of range"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' stands twice"),
        ('[{"a": {"b": 1, "b": 1}}]', "the key 'b' stands twice"),
        (r'"\ud800"', "half of a surrogate pair"),
        (r'{"\uDFFF": 1}', "half of a surrogate pair"),
        ('"\ud800"', "half of a surrogate pair"),
        (b'"\xed\xa0\x80"', "can't decode byte 0xed"),
        (b"\xff", "can't decode byte 0xff"),
        ("[" * 100_000, "brackets are nested too deeply"),
        ('{"a":' * 100_000, "brackets are nested too deeply"),
        ("[" * 65 + "]" * 65, "brackets are nested more than 64 deep"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested more than 64 deep"),
        ("", "it is not JSON"),
        ("{} {}", "it is not JSON"),
        ("\ufeff{}", "it is not JSON"),
    ],
)
def test_what_only_resembles_json_is_refused(text: str | bytes, message: str):
    with pytest.raises(LibraryError, match=message):
        read_json(text, "here", LibraryError)


def test_a_document_that_is_too_long_is_not_read():
    with pytest.raises(LibraryError, match=r"16,000,001 bytes; expected at most 16,000,000"):
        read_json(b" " * (MOST_BYTES + 1), "here", LibraryError)
    with pytest.raises(LibraryError, match=r"3 bytes; expected at most 2"):
        read_json("100", "here", LibraryError, most_bytes=2)


def test_nesting_may_be_as_deep_as_said():
    for opening, closing in ("[]", ('{"a":', "}")):
        text = opening * MOST_DEPTH + ("0" if opening != "[" else "") + closing * MOST_DEPTH
        read_json(text, "here", LibraryError)
    assert read_json("[" + "[]," * 1_000 + "0]", "here", LibraryError)


def test_no_recursion_error_where_little_stack_is_left():
    def deeper(depth: int) -> None:
        if depth:
            deeper(depth - 1)
            return
        for text in ("[" * 60 + "]" * 60, "[" * 5_000):
            try:
                read_json(text, "here", LibraryError)
            except LibraryError as error:
                assert "nested too deeply" in str(error)

    limit = sys.getrecursionlimit()
    frame, depth = sys._getframe(), 0
    while frame := frame.f_back:
        depth += 1
    deeper(limit - depth - 60)


def test_a_pair_of_halves_is_a_letter():
    assert read_json(r'"\ud83d\ude00"', "here", LibraryError) == "\U0001f600"


def test_old_files_may_hold_numbers_that_are_none():
    value = read_json('{"nats": NaN, "curve": [Infinity, 1e999]}', "here", LibraryError, may_be_nan=True)
    assert str(value) == "{'nats': nan, 'curve': [inf, inf]}"


def test_an_object_is_told_from_other_values():
    assert read_object('{"a": true}', "here", LibraryError) == {"a": True}
    with pytest.raises(LibraryError, match=r"here: it holds \[1\]; expected an object"):
        read_object("[1]", "here", LibraryError)
