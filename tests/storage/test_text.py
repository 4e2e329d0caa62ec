"""Copies of a text have the same letters."""

import pytest

from spot.storage.text import letters


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
