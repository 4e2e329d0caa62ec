"""Values from JSON: each wrong field is named with what it holds, and what is read is what was written."""

from dataclasses import dataclass
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AllowInfNan, with_config

from spot.errors import LibraryError
from spot.storage.values import STRICT, plain, read_value, to_json


@with_config(STRICT)
@dataclass(frozen=True)
class Point:
    step: int
    score: float | None = None
    names: tuple[str, ...] = ()


@given(
    st.integers(-(2**63), 2**63 - 1), st.none() | st.floats(allow_nan=False, allow_infinity=False), st.lists(st.text())
)
def test_what_is_written_is_read(step: int, score: float | None, names: list[str]):
    point = Point(step, score, tuple(names))
    assert read_value(Point, to_json(point), "here", LibraryError) == point


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "line 3: the field 'step' is missing"),
        ('{"step": true}', "the field 'step' holds True; it should be a valid integer"),
        ('{"step": 1.5}', "the field 'step' holds 1.5"),
        ('{"step": "1"}', "the field 'step' holds '1'"),
        ('{"step": 1, "score": NaN}', "the field 'score' holds nan; it should be a finite number"),
        ('{"step": 1, "score": 1e999}', "the field 'score' holds inf"),
        ('{"step": 1, "names": ["a", 2]}', r"the field 'names\.1' holds 2"),
        ('{"step": 1, "other": 2}', "there is a field 'other', which is not known here"),
        ('{"step": 1, "step": 2}', "it is not JSON .the key 'step' stands twice"),
        ('{"step": 1' + "0" * 400 + "}", "the integer 1000.* is out of range"),
        (r'{"step": 1, "names": ["\ud800"]}', "it is not JSON"),
        (b'{"step": 1, "names": ["\xed\xa0\x80"]}', "it is not JSON|names"),
        ('{"step": 1, "score": true}', "the field 'score' holds True"),
        ('{"step": 1' + " " * 16_000_000 + "}", "expected at most 16,000,000"),
        ("[]", r"found \[\]; it should be an object"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
    ],
)
def test_a_wrong_value_is_named(text: str | bytes, message: str):
    with pytest.raises(LibraryError, match=message):
        read_value(Point, text, "line 3", LibraryError)


def test_old_files_may_hold_numbers_that_are_none():
    kind = tuple[Annotated[float, AllowInfNan(True)], ...]
    assert str(read_value(kind, "[NaN, Infinity]", "here", LibraryError, may_be_nan=True)) == "(nan, inf)"
    with pytest.raises(LibraryError, match=r"the field 'score' holds nan; it should be a finite number"):
        read_value(Point, '{"step": 1, "score": NaN}', "here", LibraryError, may_be_nan=True)


def test_numbers_that_are_none_are_null():
    assert to_json({"nats": float("nan"), "gain": float("inf"), "curve": (1, 2.5)}) == (
        '{"curve": [1, 2.5], "gain": null, "nats": null}'
    )


def test_records_inside_records_are_objects():
    points = {"curve": (Point(1), Point(2, 0.5, ("a",)))}
    assert plain(points) == {
        "curve": [{"step": 1, "score": None, "names": []}, {"step": 2, "score": 0.5, "names": ["a"]}]
    }
