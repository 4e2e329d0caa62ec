"""Calibration: bins and error against scikit-learn and a walk by hand."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from spot.evaluation.calibration import BINS, calibration, calibration_section


def test_bins_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    shares = random.uniform(0.4, 1.0, 500)
    correct = random.uniform(size=500) < shares
    measured = calibration(shares.tolist(), correct.tolist())
    right, confidence = calibration_curve(correct, shares, n_bins=BINS)
    filled = [part for part in measured.bins if part.rows]
    assert [part.right for part in filled] == pytest.approx(100 * right)
    assert [part.confidence for part in filled] == pytest.approx(100 * confidence)
    weights = np.array([part.rows for part in filled]) / 500
    assert measured.error == pytest.approx(100 * np.sum(weights * np.abs(right - confidence)))
    assert sum(part.rows for part in measured.bins) == measured.rows == 500


def test_the_error_by_hand():
    measured = calibration([0.95, 0.95, 0.55, 0.65], [True, False, True, False])
    # |50 - 95| twice, |100 - 55| and |0 - 65| once each, over four rows.
    assert measured.error == pytest.approx((45 + 45 + 45 + 65) / 4)
    assert (measured.confidence, measured.right) == (pytest.approx(77.5), 50.0)


def test_an_end_of_a_bin_belongs_to_it():
    measured = calibration([0.0, 0.1, 1.0], [False, False, True])
    assert [part.rows for part in measured.bins] == [2, *[0] * 8, 1]


def test_without_answers_there_is_nothing_to_compare():
    assert calibration([], []) is None


@pytest.mark.parametrize(
    ("shares", "correct", "words"),
    [
        ([0.9] * 4, [True, False] * 2, "too sure of itself"),
        ([0.6] * 4, [True] * 4, "less sure of itself than it could be"),
        ([0.75] * 4, [True] * 3 + [False], "about as sure of itself as it is right"),
    ],
)
def test_the_section_says_which_way_it_leans_and_what_the_error_is(shares, correct, words):
    section = calibration_section(calibration(shares, correct))
    assert words in section["text"] and "expected calibration error (ECE)" in section["text"]
    assert "4 rows are few" in section["text"] and "<rect" in section["chart"]
