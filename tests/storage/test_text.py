"""Copies of a text have the same letters; what a terminal would obey is shown and not sent."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.storage.text import copy_key, letters, printable


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


COPIES = [
    ("It 's a  Charming , \n journey .", "it's a charming, journey"),
    ("Stra\u00dfe", "STRASSE"),
    ("na\u00efve", "NAI\u0308VE"),
    ("\u1e9b\u0323", "\u017f\u0323\u0307"),
    ("a top-up card", "a top up card"),
    ('"Great!"', "\u201cgreat\u201d"),
    ("well\u00adknown", "wellknown"),
    ("I \u2764\ufe0f it", "i \u2764 it"),
    ("C++.", "C++"),
    ("great :)!", "Great :)"),
    ("\u0939\u093f\u0902\u0926\u0940.", "\u0939\u093f\u0902\u0926\u0940"),
    ("really??", "Really."),
]
DIFFERENT = [
    ("C", "C++", "C#", "F#", "C-", "C*"),
    ("great :)", "great :(", "great ;)", "great", "great :'(", "great :-)"),
    ("\u0915\u093f", "\u0915\u0940", "\u0915\u0941", "\u0915"),  # one Hindi letter with its vowel signs
    ("\u0e01\u0e31\u0e19", "\u0e01\u0e34\u0e19", "\u0e01\u0e19"),  # Thai
    ("-5", "5", "+5", ".5", "\u22125", "$5", "\u20ac5", "5%"),
    ("1.5", "15", "1 5", "1,5", "1:5", "1/5"),
    ("x>y", "x<y", "x=y", "x!=y", "xy"),
    ("a & b", "a | b", "a b"),
    ("\U0001f44d", "\U0001f44e", "\U0001f44d\U0001f3fd"),
    ("resume", "r\u00e9sum\u00e9"),
    ("user_name", "username"),
]


@pytest.mark.parametrize(("text", "copy"), COPIES)
def test_copies_have_one_key(text: str, copy: str):
    assert copy_key(text) == copy_key(copy)


@pytest.mark.parametrize("texts", DIFFERENT, ids=lambda texts: texts[0])
def test_signs_marks_and_numbers_tell_texts_apart(texts: tuple[str, ...]):
    assert len({copy_key(f"{before}{text}") for text in texts for before in ("", "we say ")}) == 2 * len(texts)


@given(st.text())
def test_a_key_is_of_the_text_and_not_of_its_form(text: str):
    key = copy_key(text)
    for form in ("NFC", "NFD"):
        assert copy_key(unicodedata.normalize(form, text)) == key
    assert copy_key(f"  {text}\n") == key


def test_texts_of_marks_alone_are_told_by_them():
    assert len({copy_key(text) for text in ("...", "!!!", "?", "'", "")}) == 5


def test_a_long_text_takes_no_longer_than_its_length_asks():
    began = time.process_time()
    copy_key("a.b " * 250_000)
    assert time.process_time() - began < 5
