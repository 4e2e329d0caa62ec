"""An arm is fitted by its name."""

import pytest

from spot.baselines import fit_baseline
from spot.errors import ConfigError
from tests.support.toy_terms import REPORT


def test_an_arm_of_a_name_answers_rows(terms):
    baseline = fit_baseline("tfidf", terms()).on(REPORT)
    assert baseline.name == "tfidf" and len(baseline.predictions) == len(REPORT)


def test_an_unknown_name_is_refused_with_the_nearest(terms):
    with pytest.raises(ConfigError, match=r"'tfdif' is no arm; did you mean 'tfidf'\?"):
        fit_baseline("tfdif", terms())
