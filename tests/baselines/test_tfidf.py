"""TF-IDF and logistic regression answer as scikit-learn's own do."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from spot.baselines.arms import Unsuitable
from spot.baselines.tfidf import fit_tfidf
from tests.support.toy_terms import LABELS, REPORT, toy_rows, toy_task


@pytest.mark.parametrize("classes", [2, 3])
def test_answers_and_probabilities_are_those_of_scikit_learn_written_out(terms, classes):
    given = terms(classes=classes)
    fitted = fit_tfidf(given)
    report = toy_rows(200, 216, classes=classes)
    pipeline = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
        ),
        LogisticRegression(C=fitted.learned.setting["C"], max_iter=1000),
    )
    pipeline.fit([row.inputs for row in given.train], [row.answers[0] for row in given.train])
    predictions = fitted.on(report).predictions
    texts = [row.inputs for row in report]
    assert [prediction.text for prediction in predictions] == list(pipeline.predict(texts))
    expected = pipeline.predict_proba(texts)
    order = [list(pipeline.classes_).index(label) for label in LABELS[:classes]]
    shares = np.array([list(prediction.probabilities.values()) for prediction in predictions])
    np.testing.assert_allclose(shares, expected[:, order], rtol=1e-6)
    weights = pipeline[-1]
    assert fitted.learned.parameters == weights.coef_.size + weights.intercept_.size


def test_one_class_and_rows_without_a_word_are_refused_with_the_reason(terms):
    with pytest.raises(Unsuitable, match=r"all 12 training rows have the answer 'bad'"):
        fit_tfidf(terms(train=toy_rows(24)[::2]))
    empty = tuple(replace(row, inputs="", texts=("",)) for row in toy_rows(24))
    with pytest.raises(Unsuitable, match="hold no word"):
        fit_tfidf(terms(train=empty))
    with pytest.raises(Unsuitable, match="open answers"):
        fit_tfidf(terms(task=toy_task(labels=(), metrics=("exact_match",))))


def test_empty_texts_among_others_are_rows_like_any(terms):
    rows = tuple(replace(row, inputs="", texts=("",)) if n % 5 == 0 else row for n, row in enumerate(toy_rows(24)))
    assert len(fit_tfidf(terms(train=rows, selection=rows)).on((*REPORT, rows[0])).predictions) == 17
