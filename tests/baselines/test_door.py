"""An arm is fitted by its name, once: what it came to is read again."""

import json

import pytest

from spot.baselines import check_baselines, door, fit_baseline
from spot.baselines.tfidf import fit_tfidf
from spot.errors import ConfigError, RunError
from tests.support.toy_terms import REPORT, toy_rows


def test_an_arm_of_a_name_answers_rows(terms):
    given = terms()
    baseline = fit_baseline("tfidf", given).on(REPORT)
    assert baseline.predictions == fit_tfidf(given).on(REPORT).predictions
    assert (baseline.learned.name, baseline.learned.setting) == ("tfidf", fit_tfidf(given).learned.setting)


def test_what_it_came_to_is_read_again_with_its_seconds(terms, monkeypatch):
    given = terms()
    first = fit_baseline("tfidf", given).on(REPORT)
    monkeypatch.setattr(door, "FITS", {})
    assert fit_baseline("tfidf", given).on(REPORT) == first
    with pytest.raises(KeyError):
        fit_baseline("tfidf", given).on(toy_rows(300, 304))
    with pytest.raises(KeyError):
        fit_baseline("tfidf", terms(train=toy_rows(20)))


def test_other_rows_are_answered_anew_and_what_was_learned_stays(terms):
    given = terms()
    first = fit_baseline("tfidf", given).on(REPORT)
    again = fit_baseline("tfidf", given).on(REPORT[:4])
    assert again.predictions == first.predictions[:4] and again.learned.seconds == first.learned.seconds


def test_a_damaged_file_is_named(terms):
    given = terms()
    fit_baseline("constant", given).on(REPORT)
    (path,) = given.out.iterdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), "rows": 3}))
    with pytest.raises(RunError, match=rf"{path.name}: the field 'rows' holds 3.*Delete it to let the arm learn again"):
        fit_baseline("constant", given)


def test_an_unknown_name_is_refused_with_the_nearest(terms):
    with pytest.raises(ConfigError, match=r"'tfdif' is no arm; did you mean 'tfidf'\?"):
        check_baselines(("tfdif",), terms())
