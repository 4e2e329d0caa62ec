"""The folder of a gang, read back and held against what the training loop itself returned."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spot.errors import RunError
from spot.models.backbone import Backbone
from spot.runs.gangs import is_held, read_gang, read_settings
from spot.storage.run_dir import RunDir
from spot.training.result import read_results
from spot.training.tuning import tune_runs
from tests.support.toy_runs import Stopped, stopping_at, toy_gang, toy_run


@pytest.fixture(scope="module")
def backbone(tiny_folder: Callable[[str], Path]) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def test_a_finished_gang_says_what_its_result_says(backbone, tmp_path):
    runs = toy_gang(backbone, steps=4)
    tune_runs(runs, backbone, tmp_path)
    gang = read_gang(tmp_path)
    results = read_results(RunDir(tmp_path)) or ()
    assert (gang.state, gang.task, gang.step, gang.steps, gang.backbone) == ("finished", "toy", 4, 4, "tiny")
    assert gang.selection == pytest.approx(np.mean([max(point.score for point in each.curve) for each in results]))
    assert gang.scores["accuracy"] == pytest.approx(np.mean([each.scores["accuracy"] for each in results]))
    assert gang.curves == tuple(tuple((point.step, point.score) for point in each.curve) for each in results)
    for run, settings in zip(runs, gang.settings, strict=True):
        known = run.config.model_dump(mode="json")
        assert settings == {key: value for key, value in known.items() if value is not None}


def test_a_stopped_gang_says_how_far_it_came(backbone, tmp_path):
    with pytest.raises(Stopped):
        tune_runs([toy_run(backbone)], backbone, tmp_path, stopping_at(5))
    gang = read_gang(tmp_path)
    assert (gang.step, gang.steps, gang.scores, len(gang.curves)) == (4, 6, {}, 1)
    assert gang.selection == max(score for _, score in gang.curves[0]) and gang.tokens > 0
    # Its process is this one, which is still there; that of another number is not.
    assert gang.state == "running" and is_held(tmp_path)
    (tmp_path / "run.lock").write_text("999999999")
    assert read_gang(tmp_path).state == "stopped"


def test_settings_with_line_ends_and_quotes_are_read_back(backbone, tmp_path):
    run = toy_run(backbone, steps=0, init='text:two\n\nparts "quoted" = 5')
    tune_runs([run], backbone, tmp_path)
    assert read_settings(tmp_path)[0]["init"] == run.config.init


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.toml", b"steps = 4\n", "does not begin with '# spot run DIGEST'"),
        ("config.toml", b"# spot run 12ab\nsteps = \n", "is damaged"),
        ("result.json", b"{}", "result.json"),
        ("log.jsonl", b"no record\n{}\n", "line 1 of 2"),
    ],
)
def test_what_is_damaged_is_refused_with_its_file(backbone, tmp_path, name, content, words):
    with RunDir(tmp_path) as folder:
        folder.create("steps = 4\n", "12ab")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=words):
        read_gang(tmp_path)


def test_a_link_in_the_folder_is_not_followed(backbone, tmp_path):
    tune_runs([toy_run(backbone, steps=0)], backbone, tmp_path / "run")
    os.rename(tmp_path / "run" / "result.json", tmp_path / "elsewhere")
    (tmp_path / "run" / "result.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="link"):
        read_gang(tmp_path / "run")
