"""`spot runs`: what it says of a cache, for people and as JSON, and that nothing goes unasked."""

from pathlib import Path

import pytest

from tests.support.cached_runs import write_run
from tests.support.commands import Spot, refused


@pytest.fixture
def cached(own_cache: Path) -> Path:
    """A cache with two runs, one unfinished, and a damaged transfer."""
    write_run(own_cache / "runs" / "ab12")
    write_run(own_cache / "runs" / "cd34", rate=0.3, finished=False)
    (write_run(own_cache / "transfers" / "reviews-1" / "plain") / "result.json").write_text("{")
    return own_cache


def test_the_list_names_all_and_says_why_one_is_damaged(spot: Spot, cached: Path):
    named = {entry["name"]: entry for entry in spot("runs", "list", "--json").json}
    assert {name: entry["state"] for name, entry in named.items()} == {
        "ab12": "finished",
        "cd34": "stopped",
        "reviews-1": "damaged",
    }
    assert named["ab12"]["selection"] == 80.0 and named["ab12"]["path"] == str(cached / "runs" / "ab12")
    text = spot("runs", "list").out
    assert "2 of 4" in text and "tiny" in text and "damaged: reviews-1: " in text and "in all" in text


def test_an_empty_cache_is_no_mistake(spot: Spot):
    assert "no run is in the cache" in spot("runs", "list").out and spot("runs", "list", "--json").json == []


def test_show_and_compare_take_the_beginning_of_a_name(spot: Spot, cached: Path):
    shown = spot("runs", "show", "ab", "--json").json
    assert shown["gangs"]["."]["scores"] == {"accuracy": 79.0} and "config.toml" in shown["files"]
    text = spot("runs", "show", "ab").out
    assert "accuracy 79.0" in text and "learning_rate = 0.1" in text and "diagnosis: it looks odd" in text
    compared = spot("runs", "compare", "ab", "cd", "--json").json
    assert compared["settings"] == {"learning_rate": [0.1, 0.3]} and compared["outcomes"]["accuracy"] == [79.0, None]
    assert "learning_rate" in spot("runs", "compare", "ab", "cd").out
    refused(spot("runs", "show", "zz"), "no run in", "'zz'")


def test_nothing_goes_without_yes(spot: Spot, cached: Path):
    asked = spot("runs", "remove", "--unfinished")
    assert "cd34" in asked.out and "nothing was removed" in asked.out and "give --yes" in asked.err
    assert spot("runs", "remove", "cd", "--json").json["removed"] == []
    assert (cached / "runs" / "cd34").exists()
    done = spot("runs", "remove", "--unfinished", "--yes", "--json").json
    assert sorted(done["removed"]) == [str(cached / "runs" / "cd34"), str(cached / "transfers" / "reviews-1")]
    assert [entry["name"] for entry in spot("runs", "list", "--json").json] == ["ab12"]


def test_remove_refuses_what_is_outside_and_what_nothing_says(spot: Spot, cached: Path, tmp_path: Path):
    outside = write_run(tmp_path / "mine")
    refused(spot("runs", "remove", outside, "--yes"), "not inside the cache")
    refused(spot("runs", "remove", "--yes"), "nothing says which")
    refused(spot("runs", "remove", "ab", "--older", "soon"), "30d")
    assert (outside / "result.json").exists()
