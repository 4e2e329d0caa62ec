"""Copies of a text have the same letters; what a terminal would obey is shown and not sent."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.storage.text import letters, printable


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        ("It 's  GREAT !", "it's great"),
        ("na\u00efve", "NAI\u0308VE"),
        ("\uff21\uff22 \u2460", "ab1"),
        ("snake_case", "snake case"),
        ("...", ""),
    ],
)
def test_spacing_case_and_punctuation_make_no_difference(text: str, copy: str):
    assert letters(text) == letters(copy)


def test_a_letter_or_digit_makes_a_difference():
    assert len({letters(text) for text in ("a1", "a2", "b1", "1a")}) == 4


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\tb\r\nc", r"a\tb\r\nc"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202ecod.exe\u202c", r"\u202ecod.exe\u202c"),
        ("\u2066a\u2069\u200f", r"\u2066a\u2069\u200f"),
        ("a\u2028b", r"a\u2028b"),
        ("\ud800", r"\ud800"),
        ("file\udcff", r"file\udcff"),
        (
            "na\u00efve \u0939\u093f\u0928\u094d\u0926\u0940 \U0001f600 \\x1b",
            "na\u00efve \u0939\u093f\u0928\u094d\u0926\u0940 \U0001f600 \\x1b",
        ),
    ],
)
def test_names_of_strangers_are_only_shown(text: str, shown: str):
    """F9: escape sequences, marks of direction, half letters; letters of every language stay."""
    assert printable(text) == shown


@given(st.text(), st.booleans())
def test_nothing_that_a_terminal_obeys_is_left(text: str, lines: bool):
    shown = printable(text, lines)
    left = {letter for letter in shown if unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"}}
    assert left <= ({"\n", "\t"} if lines else set())
    shown.encode("utf-8")
