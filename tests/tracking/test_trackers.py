"""The programs themselves, those that are installed, on this machine alone: two runs that are open at the same time."""

import importlib.util
import json
import sqlite3
from pathlib import Path

import pytest

from spot.errors import ConfigError, MissingExtra
from spot.tracking.trackers import PROGRAMS, check_programs, close_tracker, open_tracker, write

SETTINGS = {"steps": 4, "init": "vocabulary", "rate": 0.5, "prefix": True}


def track_two(name: str, folder: Path) -> None:
    """Two runs, told in turns as those of a gang are."""
    trackers = [open_tracker(name, run, {**SETTINGS, "run": run}, folder) for run in ("alpha", "beta")]
    for step in (0, 2):
        for number, tracker in enumerate(trackers):
            write(tracker, {"selection/score": 10.0 * number + step, "train/loss": 0.5}, step)
    for tracker in reversed(trackers):
        close_tracker(tracker)


def needs(name: str) -> None:
    if importlib.util.find_spec(PROGRAMS[name].module) is None:
        pytest.skip(f"needs {PROGRAMS[name].package}, which is its user's own choice")


def test_an_unknown_tracker_is_refused_with_the_near_name(tmp_path):
    with pytest.raises(ConfigError, match=r"no tracker 'tensorbord'; did you mean 'tensorboard'\?"):
        check_programs({"tensorbord": tmp_path})


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_missing_package_is_named_with_its_pip_line(name, tmp_path, monkeypatch):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda module: None if module == PROGRAMS[name].module else object()
    )
    with pytest.raises(MissingExtra, match=r"pip install 'spot-transfer\[track\]' " + PROGRAMS[name].package):
        check_programs({name: tmp_path})


@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_two_open_runs_apart(tmp_path, monkeypatch, capsys):
    needs("mlflow")
    import mlflow

    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    track_two("mlflow", tmp_path)
    assert capsys.readouterr().out == ""
    client = mlflow.MlflowClient()
    [experiment] = client.search_experiments(filter_string="name = 'spot'")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    for number, name in enumerate(("alpha", "beta")):
        points = client.get_metric_history(runs[name].info.run_id, "selection/score")
        assert sorted((point.step, point.value) for point in points) == [(0, 10.0 * number), (2, 10.0 * number + 2)]
        assert runs[name].data.params["run"] == name and runs[name].info.status == "FINISHED"


@pytest.mark.filterwarnings("ignore")
def test_trackio_keeps_two_open_runs_apart(tmp_path, monkeypatch, capsys):
    needs("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    track_two("trackio", tmp_path)
    assert capsys.readouterr().out == ""
    [file] = tmp_path.rglob("spot.db")
    with sqlite3.connect(file) as base:
        told = base.execute("select run_name, step, metrics from metrics order by run_name, step").fetchall()
    assert [(run, step, json.loads(values)["selection/score"]) for run, step, values in told] == [
        ("alpha", 0, 0.0),
        ("alpha", 2, 2.0),
        ("beta", 0, 10.0),
        ("beta", 2, 12.0),
    ]


@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_two_open_runs_apart_offline(tmp_path, monkeypatch, capsys):
    needs("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    track_two("wandb", tmp_path)
    assert capsys.readouterr().out == ""
    assert len(list(tmp_path.rglob("offline-run-*/*.wandb"))) == 2
