"""What tells rows of a task apart: the key of a text, the digest of rows, the names of splits."""

import pytest

from spot.errors import TaskError
from spot.tasks.task import Example, check_split, data_digest, text_key


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
