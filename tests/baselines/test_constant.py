"""A constant answer is the one that does best on the training rows."""

import pytest

from spot.baselines.arms import Unsuitable
from spot.baselines.constant import best_constant, fit_constant
from spot.tasks.task import Example
from tests.support.toy_terms import REPORT, toy_rows, toy_task


def test_the_most_frequent_answer_is_given_to_every_row(terms):
    fitted = fit_constant(terms(train=(*toy_rows(1, 2), *toy_rows(3))))  # fine bad fine bad, and fine
    train = (*toy_rows(1, 2), *toy_rows(3))
    assert [row.answers[0] for row in train].count("bad") == 2 == [row.answers[0] for row in train].count("fine")
    assert fitted.learned.setting == {"answer": "bad"}, "of equally frequent ones the first label"
    fitted = fit_constant(terms(train=(*train, *toy_rows(1, 2))))
    assert {prediction.text for prediction in fitted.on(REPORT).predictions} == {"fine"}
    assert fitted.learned.selection == 50.0


def test_it_goes_by_the_metric_of_the_task(terms):
    train = (*toy_rows(1, 2), *toy_rows(3), *toy_rows(1, 2))
    shares = {label: sum(row.answers[0] == label for row in train) for label in ("bad", "fine")}
    assert shares["bad"] < shares["fine"]
    assert best_constant(toy_task(metrics=("f1",)), train) == "fine", "toy tasks are positive by their last label"
    rare = toy_task(labels=("fine", "bad"), metrics=("f1",))
    assert best_constant(rare, train) == "bad", "always fine has an F1 of 0"
    assert best_constant(toy_task(metrics=("matthews",)), train) == "fine", "each has 0: the more frequent"


def test_its_probabilities_are_the_shares_of_the_training_rows_with_one_row_more_of_each(terms):
    [prediction, *_] = fit_constant(terms(train=(*toy_rows(4), *toy_rows(1, 2)))).on(REPORT).predictions
    assert prediction.probabilities == pytest.approx({"bad": 3 / 7, "fine": 4 / 7})


def test_open_answers_have_a_most_frequent_one_too(terms):
    rows = tuple(Example(str(n), f"q: {n}", (answer,)) for n, answer in enumerate(("Rome", "Oslo", "Rome")))
    task = toy_task(labels=(), metrics=("exact_match",), kind="text")
    fitted = fit_constant(terms(task=task, train=rows, selection=rows))
    assert fitted.learned.setting == {"answer": "Rome"} and fitted.learned.selection == pytest.approx(200 / 3)
    assert fitted.on(rows).evaluation(task, rows).correct == (True, False, True)


def test_unlabelled_text_has_none(terms):
    task = toy_task(labels=(), metrics=("likelihood",), kind="text")
    with pytest.raises(Unsuitable, match="unlabelled text"):
        fit_constant(terms(task=task))
