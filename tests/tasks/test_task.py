"""What tells rows of a task apart: the key of a text, the digest of rows, the names of splits."""

import pytest

from spot.errors import TaskError
from spot.tasks.task import Example, check_split, data_digest, place_key, text_key


def test_texts_without_letters_are_told_apart():
    first, second = (Example("1", "", (), texts=(text,)) for text in (":-)", ":-("))
    assert text_key(first) != text_key(second)
    assert text_key(Example("1", "", (), texts=("a", "b c"))) != text_key(Example("1", "", (), texts=("a b", "c")))


def test_the_digest_reads_inputs_answers_and_order_but_no_ids():
    rows = [Example("1", "a", ("x",)), Example("2", "b", ("y",))]
    same = [Example("7", "a", ("x",)), Example("8", "b", ("y",))]
    assert data_digest(rows) == data_digest(iter(same))
    assert len(data_digest(rows)) == 16
    others = [rows[::-1], rows[:1], [rows[0], Example("2", "b", ("z",))], [Example("1", "ax", ()), rows[1]], []]
    assert len({data_digest(other) for other in [rows, *others]}) == 6


def test_an_unknown_split_is_refused_with_a_near_name():
    with pytest.raises(TaskError, match=r"toy has no split 'validaton'; did you mean 'validation'\?"):
        check_split("toy", "validaton", ("train", "validation"))


def test_symbols_and_marks_tell_rows_apart_and_copies_are_copies():
    def key(text):
        return text_key(Example("1", "", (), texts=(text,)))

    apart = ("I use C", "I use C++", "I use C#", "x>y", "x<y", "it is -5", "it is 5", "\u0915\u093f", "\u0915\u0940")
    assert len({*map(key, apart)}) == len(apart)
    assert key("Caf\u00e9 is  GOOD .") == key("cafe\u0301 is good")


def test_the_place_of_a_text_is_as_it_always_was():
    """Which part of a split a row falls into must not change, or rows that trained would report."""
    rows = [Example("1", "", (), texts=texts) for texts in (("It 's C++, OK?", "b"), (":-)",), ("\u0915\u093f",))]
    assert [place_key(row) for row in rows] == ["itscok\x1fb", ":-)", "\u0915"]
