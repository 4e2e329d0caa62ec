"""Runs side by side: settings that differ, and what each came to."""

import pytest

from spot.errors import RunError
from spot.runs.comparison import compare_runs
from tests.support.cached_runs import write_run


def test_only_settings_that_differ_stand_beside_the_scores(own_cache):
    write_run(own_cache / "runs" / "ab12", rate=0.1, score=70.0)
    write_run(own_cache / "runs" / "cd34", rate=0.3, score=90.0, finished=False)
    compared = compare_runs(["ab", "cd"])
    assert compared.runs == ("ab12", "cd34") and compared.settings == {"learning_rate": (0.1, 0.3)}
    outcomes = compared.outcomes
    assert outcomes["state"] == ("finished", "stopped") and outcomes["selection"] == (70.0, pytest.approx(54.0))
    assert outcomes["accuracy"] == (69.0, None) and outcomes["accuracy, no prompt"] == (50.0, None)
    assert outcomes["step"] == (4, 2) and outcomes["diagnosis"] == ("it looks odd", None)


def test_each_gang_of_a_transfer_is_a_run(own_cache):
    for name in ("plain-classes", "spot-0"):
        write_run(own_cache / "transfers" / "reviews-1" / name)
    compared = compare_runs(["reviews"])
    assert compared.runs == ("reviews-1/plain-classes", "reviews-1/spot-0") and compared.settings == {}


def test_one_run_alone_is_refused(own_cache):
    write_run(own_cache / "runs" / "ab12")
    with pytest.raises(RunError, match="two or more"):
        compare_runs(["ab"])
