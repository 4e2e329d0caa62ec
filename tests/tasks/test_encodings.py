"""The encoding of a text is certain, likely by two means, or refused."""

from pathlib import Path

import pytest

from spot.errors import TaskError
from spot.tasks.encodings import see_encoding
from spot.tasks.formats import FileFormat, Source

FRENCH = "text,label\nle café était très bon,bien\nla pièce était froide là,mal\nl'élève est déjà né à côté,bien\n"
TEXTS = [
    (FRENCH, "cp1252"),
    ("text,label\ncafé is warm,good\nnaïve and cold,bad\nmild € 5,good\nwet,bad\n", "cp1252"),
    ("text,label\nit\u2019s \u201cfine\u201d \u2013 for £5,good\nplain,bad\n", "cp1252"),
    ("text,label\ndas Zimmer war schön,gut\nüber die Straße gehen,schlecht\n", "cp1252"),
    ("text,label\nkomnata: комната была холодной,плохо\nобед был вкусный,хорошо\n", "cp1251"),  # noqa: RUF001
    ("text,label\n部屋は寒かった,悪い\n料理は美味しい,良い\n", "cp932"),
    ("text,label\n今天天气很好,好\n昨天很冷,坏\n", "gb18030"),
    ("text,label\n오늘은 좋다,좋음\n어제는 춥다,나쁨\n", "cp949"),
    ("text,label\n部屋は寒かった,悪い\n", "iso2022_jp"),
]


def seen(data: bytes, *, guess: bool = True) -> str:
    return see_encoding(Source(Path("x"), data), FileFormat(), guess=guess).name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_unicode_is_certain(encoding):
    data = FRENCH.encode(encoding)
    assert data.decode(seen(data, guess=False)).lstrip("\ufeff") == FRENCH


@pytest.mark.parametrize(("text", "encoding"), TEXTS)
def test_case14_other_encodings_are_guessed_where_they_are_likely(text, encoding):
    data = text.encode(encoding)
    assert data.decode(seen(data)) == text
    sample = see_encoding(Source(Path("x"), data), FileFormat(), guess=True).sample
    assert not sample.isascii() and sample in text


def test_a_guess_must_be_asked_for():
    with pytest.raises(TaskError, match=r'not utf-8 text: byte 0xe9 at offset 17, line 2.*encoding = "cp1252".*café'):
        seen(FRENCH.encode("cp1252"), guess=False)
    assert see_encoding(Source(Path("x"), b"\xff"), FileFormat(encoding="cp1252")).name == "cp1252"


def test_a_control_character_alone_is_no_encoding():
    assert seen(b"a,\x1b$\nb,c\n", guess=False) == seen("a,\x1b$B é\n".encode(), guess=False) == "utf-8"


def test_what_could_be_two_things_is_refused_with_both():
    with pytest.raises(TaskError, match=r"too little of it is telling.*'őrült'.*--encoding"):
        seen("text,label\na szoba őrült fű,jó\nelső idő ők,rossz\n".encode("cp1250"))


def test_utf8_with_a_few_other_bytes_is_not_another_encoding():
    with pytest.raises(TaskError, match="is UTF-8 text but for 1 of its bytes"):
        seen(FRENCH.encode() + b"\xe9\n")


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(TaskError, match="is no text"):
        seen(bytes(range(256)) + bytes(200))


def test_a_long_text_is_judged_by_its_telling_lines():
    data = b"plain words in a row,good\n" * 40_000 + FRENCH.encode("cp1252") * 40
    assert data.decode(seen(data)).endswith(FRENCH)
