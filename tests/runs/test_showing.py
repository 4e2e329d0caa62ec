"""One run, or the runs of a transfer, with its files."""

import pytest

from spot.errors import RunError
from spot.runs.showing import show_run
from tests.support.cached_runs import write_run


def test_a_run_of_the_cache_is_shown_by_its_name(own_cache):
    path = write_run(own_cache / "runs" / "ab12")
    shown = show_run("ab")
    assert shown.path == path and list(shown.gangs) == ["."]
    assert set(shown.files) == {"config.toml", "log.jsonl", "result.json"}
    assert shown.files["result.json"] == (path / "result.json").stat().st_size
    value = shown.to_json()["gangs"]["."]
    assert value["scores"] == {"accuracy": 79.0} and value["diagnosis"] == ("it looks odd",)
    assert value["curves"] == (((0, 16.0), (2, 48.0), (4, 80.0)),)


def test_a_folder_elsewhere_is_shown_by_its_path_with_what_is_damaged(tmp_path):
    write_run(tmp_path / "transfer" / "plain")
    (write_run(tmp_path / "transfer" / "spot") / "result.json").write_text("{}")
    shown = show_run(str(tmp_path / "transfer"))
    assert list(shown.gangs) == ["plain"] and list(shown.damaged) == ["spot"]


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        show_run(str(tmp_path))
