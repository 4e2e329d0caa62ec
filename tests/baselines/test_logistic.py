"""A logistic regression has the strength that the selection rows choose."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from spot.baselines import logistic
from spot.baselines.tfidf import fit_tfidf
from tests.support.toy_terms import toy_rows, toy_task


def test_the_selection_rows_choose_the_strength_by_score_then_by_loss(terms):
    given = terms()
    fitted = fit_tfidf(given)
    ranks = {}
    for strength in logistic.STRENGTHS:
        pipeline = make_pipeline(
            make_union(
                TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
                TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
            ),
            LogisticRegression(C=strength, max_iter=1000),
        )
        pipeline.fit([row.inputs for row in given.train], [row.answers[0] for row in given.train])
        shares = pipeline.predict_proba([row.inputs for row in given.selection])
        right = [list(pipeline.classes_).index(row.answers[0]) for row in given.selection]
        hits = np.mean(shares.argmax(axis=1) == right)
        ranks[strength] = (hits, np.log(shares[np.arange(len(right)), right]).mean())
    assert fitted.learned.setting["C"] == max(ranks, key=ranks.__getitem__)
    assert fitted.learned.selection == pytest.approx(100 * max(ranks.values())[0])


def test_a_label_without_training_rows_is_never_answered_and_has_a_finite_loss(terms):
    train = tuple(row for row in toy_rows(30, classes=3) if row.answers[0] != "odd")
    fitted = fit_tfidf(terms(classes=3, train=train))
    report = toy_rows(200, 218, classes=3)
    baseline = fitted.on(report)
    assert {prediction.text for prediction in baseline.predictions} == {"bad", "fine"}
    evaluation = baseline.evaluation(toy_task(3), report)
    assert evaluation.primary <= 100 * 2 / 3 and np.isfinite(evaluation.nats)


def test_a_regression_that_does_not_converge_says_nothing(terms, monkeypatch):
    monkeypatch.setattr(logistic, "ITERATIONS", 1)
    given = terms()
    with pytest.warns(ConvergenceWarning):
        LogisticRegression(C=100, max_iter=1).fit(np.eye(24), [row.answers[0] for row in given.train])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_tfidf(given)
