"""Columns become text and answers in one way, whoever names them; defaults of template, metrics and labels."""

import pytest

from spot.errors import TaskError
from spot.reading import Reading
from spot.tasks.columns import (
    Columns,
    Text,
    default_metrics,
    default_template,
    label_mistakes,
    label_order,
    name_mistakes,
    row_texts,
    shown_labels,
    spelled,
    template_of,
)

COLUMNS = Columns(label="label", answer="", owner="me", text_example="so")


def test_rows_become_texts_with_their_numbers():
    reading = Reading(template="{a} or {b}", labels=(("1", "one"), ("true", "yes")))
    rows = [(3, {"a": "x", "b": " y", "label": 1}), (7, {"b": "", "a": "z ", "label": True})]
    assert list(row_texts(rows, "here", COLUMNS, reading)) == [
        (3, Text("x or  y", ("one",), texts=("x", " y"))),
        (7, Text("z  or ", ("yes",), texts=("z ", ""))),
    ]


def test_rows_stream():
    reading = Reading(template="{a}", labels=(("1", "1"),))
    texts = row_texts(iter([(1, {"a": "x", "label": "1"}), (2, {"a": "x"})]), "here", COLUMNS, reading)
    assert next(texts)[0] == 1
    with pytest.raises(TaskError, match="here, row 2 has no column 'label', which me asks for; its columns: 'a'"):
        next(texts)


def test_labels_are_spelled_as_json_spells_them_and_sorted_by_size():
    assert [spelled(value) for value in (" a ", 3, True, 1.5)] == ["a", "3", "true", "1.5"]
    assert sorted(["b", "10", "9", "a", "010"], key=label_order) == ["9", "10", "010", "a", "b"]
    rows = [(number, {"label": value}) for number, value in enumerate([10, "9", "x", " ", 9])]
    assert list(shown_labels(rows, "here", COLUMNS)) == ["9", "10", "x"]


def test_defaults():
    assert template_of(["review"]) == "sentence: {review}"
    assert template_of(["premise", "hypothesis"]) == "premise: {premise} hypothesis: {hypothesis}"
    assert default_template({"id": 1, "text": "t", "sentence": "s", "label": 1}, "row 1", COLUMNS) == "sentence: {text}"
    assert default_template({"review": "t", "label": 1}, "row 1", COLUMNS) == "sentence: {review}"
    for row in ({"a": "t", "b": "u"}, {"label": 1}, {"{a}": "t", "label": 1}):
        with pytest.raises(TaskError, match=r"row 1: which column holds the text\? .* Name it in me, for example so"):
            default_template(row, "row 1", COLUMNS)
    assert default_metrics(("a", "b")) == ("accuracy",)
    assert default_metrics(()) == ("exact_match", "token_f1")


def test_mistakes_in_names_and_label_words():
    assert name_mistakes("my/reviews.v2-1") == label_mistakes(["a", "b"]) == label_mistakes([]) == []
    for name in ("two words", "", "/x", "x/", "-x"):
        assert f"name is {name!r}" in name_mistakes(name)[0]
    assert label_mistakes(["a", 1, " "]) == ["labels holds 1, ' ', expected words in quotation marks"]
    assert label_mistakes(["a", "a"]) == ["labels has the one word 'a', expected at least two"]
