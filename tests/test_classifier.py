"""The classifier in scikit-learn's manner: cloned, searched, piped, and checked by scikit-learn's own checks."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from spot.classifier import SoftPromptClassifier
from spot.errors import TaskError
from spot.evaluation.door import predict
from spot.models.backbone import Backbone

TEXTS = [f"{'a poor' if number % 2 else 'a fine'} film, number {number}" for number in range(24)]
LABELS = np.array(["bad" if number % 2 else "good" for number in range(24)])


@pytest.fixture
def classifier(tiny_folder: Callable[[str], Path]) -> SoftPromptClassifier:
    settings = {"eval_every": 1, "learning_rate": 0.05}
    return SoftPromptClassifier(str(tiny_folder("llama")), steps=2, length=2, batch_size=4, settings=settings)


def test_it_answers_with_the_classes_that_it_was_given(classifier: SoftPromptClassifier):
    fitted = classifier.fit(TEXTS, LABELS)
    shares = fitted.predict_proba(TEXTS[:3])
    assert fitted is classifier and fitted.classes_.tolist() == ["bad", "good"]
    assert shares.shape == (3, 2) and np.allclose(shares.sum(axis=1), 1)
    assert fitted.predict(TEXTS[:3]).tolist() == fitted.classes_[shares.argmax(axis=1)].tolist()
    answers = predict(fitted.prompt_, Backbone.load(str(classifier.backbone)), TEXTS[:3])
    assert [tuple(answer.probabilities.values()) for answer in answers] == [pytest.approx(tuple(row)) for row in shares]


def test_numbers_are_classes_and_words_may_be_given(classifier: SoftPromptClassifier):
    targets = [number % 2 for number in range(24)]
    fitted = clone(classifier).set_params(labels={0: "good", 1: "bad"}).fit(TEXTS, targets)
    assert fitted.prompt_.reading.labels == (("0", "good"), ("1", "bad"))
    assert set(fitted.predict(TEXTS).tolist()) <= {0, 1}


@pytest.mark.parametrize("kind", ["array", "column", "series", "frame", "dicts"])
def test_rows_of_every_kind(classifier: SoftPromptClassifier, kind: str):
    rows = {
        "array": np.array(TEXTS),
        "column": np.array(TEXTS).reshape(-1, 1),
        "series": pandas.Series(TEXTS),
        "frame": pandas.DataFrame({"text": TEXTS}),
        "dicts": [{"text": text} for text in TEXTS],
    }[kind]
    probabilities = classifier.fit(rows, LABELS).predict_proba(rows)
    assert np.array_equal(probabilities, classifier.fit(TEXTS, LABELS).predict_proba(TEXTS))


def test_several_fields_by_a_template(classifier: SoftPromptClassifier):
    rows = [{"premise": text, "hypothesis": "it is good"} for text in TEXTS]
    fitted = classifier.set_params(template="{premise} so {hypothesis}").fit(rows, LABELS)
    assert fitted.prompt_.reading.fields == ("premise", "hypothesis")
    with pytest.raises(TaskError, match="has no field 'hypothesis'"):
        fitted.predict([{"premise": "x"}])


def test_searches_folds_and_pipelines(classifier: SoftPromptClassifier):
    assert len(cross_val_score(classifier, TEXTS, LABELS, cv=2)) == 2
    search = GridSearchCV(classifier, {"steps": [1, 2]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_params_["steps"] in (1, 2)
    pipeline = Pipeline(
        [("lower", FunctionTransformer(lambda texts: [text.lower() for text in texts])), ("spot", classifier)]
    )
    assert len(pipeline.fit(TEXTS, LABELS).predict(TEXTS)) == 24


def test_it_can_be_pickled_and_cloned(classifier: SoftPromptClassifier):
    fitted = classifier.fit(TEXTS, LABELS)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(TEXTS[:4]), fitted.predict_proba(TEXTS[:4]))
    assert clone(fitted).get_params() == fitted.get_params() and not hasattr(clone(fitted), "prompt_")


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (TEXTS, ["one"] * 24, "y has one class, .*one.*: expected two or more"),
        (TEXTS, LABELS[:3], "y has 3 classes; expected one for each of the 24 rows"),
        (TEXTS, None, "requires y to be passed, but the target y is None"),
        (TEXTS, np.linspace(0, 1, 24), "Unknown label type"),
        (np.zeros((24, 3)), LABELS, r"X has shape \(24, 3\); expected texts"),
    ],
)
def test_what_cannot_be_fitted_is_a_value_error(
    classifier: SoftPromptClassifier, texts: Any, labels: Any, message: str
):
    with pytest.raises(ValueError, match=message):
        classifier.fit(texts, labels)


@pytest.mark.parametrize(("texts", "message"), [([3] * 24, "row 1 is 3"), ([""] * 24, "no text"), ([], "no rows")])
def test_rows_that_are_none_are_refused(classifier: SoftPromptClassifier, texts: list, message: str):
    with pytest.raises(TaskError, match=message):
        classifier.fit(texts, LABELS[: len(texts)])


def test_two_classes_of_one_word_are_refused(classifier: SoftPromptClassifier):
    with pytest.raises(ValueError, match="two classes the same word"):
        classifier.set_params(labels={"good": "yes", "bad": "yes"}).fit(TEXTS, LABELS)


def test_predicting_before_fitting(classifier: SoftPromptClassifier):
    with pytest.raises(NotFittedError):
        classifier.predict(TEXTS)


def test_scikit_learns_checks_of_an_estimator_of_texts(classifier: SoftPromptClassifier):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)  # those that want a table of numbers are left out by its tags
        results = check_estimator(classifier, on_skip=None)
    assert results and all(result["status"] != "failed" for result in results)


@pytest.mark.parametrize(("settings", "budget"), [({}, None), ({"budget": "2x"}, "2x")])
def test_no_clock_decides_what_is_fitted_unless_a_budget_is_named(
    classifier: SoftPromptClassifier, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], budget: str | None
):
    calls = []

    def transferred(*_: Any, **settings: Any) -> Any:
        calls.append(settings)
        raise TaskError("far enough")

    monkeypatch.setattr("spot.classifier.transfer", transferred)
    with pytest.raises(TaskError, match="far enough"):
        SoftPromptClassifier(classifier.backbone, library="packaged", settings=settings).fit(TEXTS, LABELS)
    assert calls[0]["budget"] == budget and calls[0]["strategy"] == "best"
