"""A raw row gives texts, lists, labels and inner rows, and names what it lacks; the forms that families share."""

from dataclasses import replace
from typing import Any

import pytest

from spot.errors import TaskError
from spot.tasks.data_set import DataSet, RawRow, keyed, rated_pair, with_name

FIELDS = {"text": "It rains.", "words": ["a", "b"], "inner": {"text": "deep"}, "label": 1, "number": 2.5}
ROW = RawRow("cr.jsonl, row 7", FIELDS)


def test_a_row_gives_its_fields():
    assert ROW.text("text") == ROW.answer("text") == "It rains."
    assert ROW.texts("words") == ("a", "b")
    assert ROW.inner("inner").text("text") == "deep"
    assert ROW.word("label", ("bad", "good")) == "good"


def test_a_row_to_be_predicted_needs_no_answer():
    row = replace(ROW, fields={"text": "It rains."}, answered=False)
    assert row.word("label", ("bad", "good")) == "bad" and row.answer("reply") == ""


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda row: row.text("title"), "row 7 has no field 'title'"),
        (lambda row: row.texts("text"), "row 7: field 'text' holds 'It rains.', expected a list of texts"),
        (lambda row: row.inner("text"), "row 7: field 'text' holds 'It rains.', expected fields of its own"),
        (lambda row: row.inner("inner").text("title"), "row 7, inner has no field 'title'"),
        (lambda row: row.word("number", ("bad", "good")), r"no label of this data set \(found 2.5, .* from 0 to 1"),
        (lambda row: row.word("label", ("bad",)), "found 1, expected a number from 0 to 0"),
    ],
)
def test_what_a_row_lacks_is_named_with_its_place(ask: Any, message: str):
    with pytest.raises(TaskError, match=message):
        ask(ROW)


def test_texts_stand_behind_their_keys():
    assert keyed(("premise", "It rains."), ("hypothesis", "It is wet.")) == "premise: It rains. hypothesis: It is wet."


@pytest.mark.parametrize(("rating", "word"), [(0, "0.0"), (5, "5.0"), (2.5, "2.4"), (2.7, "2.8"), (3.31, "3.4")])
def test_ratings_are_rounded_to_the_nearest_fifth(rating: float, word: str):
    row = RawRow("here", {"sentence1": "a", "sentence2": "b", "score": rating})
    (text,) = rated_pair("score")(row, True)
    assert (text.inputs, text.answers, text.texts) == ("sentence1: a sentence2: b", (word,), ("a", "b"))


@pytest.mark.parametrize("rating", [True, "3", None, 5.1, -0.1])
def test_what_is_no_rating_is_refused(rating: object):
    row = RawRow("here", {"sentence1": "a", "sentence2": "b", "score": rating})
    with pytest.raises(TaskError, match=r"here: field 'score' holds .*, expected a number from 0 to 5"):
        list(rated_pair("score")(row, True))


def test_the_name_in_front_is_the_last_part_of_the_tasks_or_what_the_set_says():
    plain = DataSet(title="t", form=lambda row, train: (), revisions=("1", "2"))
    assert with_name("sentence: x", "glue/sst2", plain) == "sst2 sentence: x"
    assert with_name("x", "glue/sst2", replace(plain, name="")) == "x"
