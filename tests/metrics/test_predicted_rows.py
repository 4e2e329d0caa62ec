"""Rows with their accepted answers and predictions, and the class that each counts for."""

import pytest

from spot.metrics.predicted_rows import PredictedRows, answer_class


@pytest.mark.parametrize(
    ("accepted", "prediction", "expected"),
    [(("a",), "a", "a"), (("a",), "b", "a"), (("a", "b"), "b", "b"), (("a", "b"), "c", "a")],
)
def test_a_row_counts_for_the_accepted_answer_that_was_given(accepted: tuple[str, ...], prediction: str, expected: str):
    assert answer_class(accepted, prediction) == expected


def test_each_answer_stands_beside_its_prediction():
    rows = PredictedRows([("a",), ("a", "b")], ["b", "b"])
    assert list(rows.pairs()) == [(("a",), "b"), (("a", "b"), "b")]
    assert rows.classes() == ["a", "b"]


def test_a_prediction_too_few_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        list(PredictedRows([("a",), ("b",)], ["a"]).pairs())
