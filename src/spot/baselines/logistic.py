"""Fit a logistic regression whose strength of regularisation the selection rows choose: the head of several arms."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from spot.baselines.arms import Rank, Terms, selection_rank
from spot.evaluation.predictions import Prediction

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # of C, the inverse of the regularisation
LEAST_LOG = -30.0  # nats of a label that no training row has: none, as a number that JSON can hold
ITERATIONS = 1000


@dataclass(frozen=True)
class Head:
    """A logistic regression over features.

    Attributes:
        regression: fitted by scikit-learn.
        labels: of the task, in its order; those that no training row has are never answered.
        rank: on the selection rows.
    """

    regression: LogisticRegression
    labels: tuple[str, ...]
    rank: Rank

    @property
    def strength(self) -> float:
        """C, which the selection rows chose."""
        return float(self.regression.C)

    @property
    def parameters(self) -> int:
        """Weights and biases; of two classes one row of them."""
        return np.size(self.regression.coef_) + np.size(self.regression.intercept_)

    @property
    def shipped(self) -> int:
        """Bytes of weights and biases as float32."""
        return 4 * self.parameters

    def answer(self, features: Any) -> list[Prediction]:
        """The likeliest label of each row of features [B, F], dense or sparse."""
        return _answer(self.regression, self.labels, features)


def fit_head(terms: Terms, train: Any, selection: Any, *, standardise: bool = False) -> Head:
    """Fit one regression for each strength and keep the best by selection rows; of equals the more regularised.

    Args:
        terms: name the answers.
        train: features of the training rows, [N, F], dense or sparse.
        selection: of the selection rows.
        standardise: regularise as if each feature had mean 0 and deviation 1 over the training rows; dense ones only.
    """
    answers = [row.answers[0] for row in terms.train]
    mean, deviation = (train.mean(axis=0), _deviations(train)) if standardise else (0.0, 1.0)
    scaled = (train - mean) / deviation if standardise else train
    heads = []
    for strength in STRENGTHS:
        regression = LogisticRegression(C=strength, max_iter=ITERATIONS)
        with warnings.catch_warnings():
            # One that has not converged yet is a candidate like any other: the selection rows say what it is worth.
            warnings.simplefilter("ignore", ConvergenceWarning)
            regression.fit(scaled, answers)
        if standardise:
            regression.coef_ = regression.coef_ / deviation
            regression.intercept_ = regression.intercept_ - regression.coef_ @ mean
        rank = selection_rank(terms, _answer(regression, terms.task.labels, selection))
        heads.append(Head(regression, terms.task.labels, rank))
    return max(heads, key=lambda head: head.rank)


def _deviations(features: np.ndarray) -> np.ndarray:
    """The deviation of each feature [F] over rows [N, F]; 1 for one that is the same in all rows."""
    deviations = features.std(axis=0)
    return np.where(deviations > 1e-12, deviations, 1.0)


def _answer(regression: LogisticRegression, labels: Sequence[str], features: Any) -> list[Prediction]:
    """As `Head.answer`."""
    # scikit-learn takes the logarithm of probabilities, and those of sure answers are 0.
    decisions = np.asarray(regression.decision_function(features), dtype=np.float64)
    if decisions.ndim == 1:
        decisions = np.stack([np.zeros_like(decisions), decisions], axis=1)
    known = decisions - np.logaddexp.reduce(decisions, axis=1, keepdims=True)
    logs = np.full((len(known), len(labels)), LEAST_LOG)
    logs[:, [labels.index(label) for label in regression.classes_]] = np.maximum(known, LEAST_LOG)
    best = [str(regression.classes_[place]) for place in known.argmax(axis=1)]
    words = tuple(labels)
    return [Prediction(label, tuple(row), words) for label, row in zip(best, logs.tolist(), strict=True)]
