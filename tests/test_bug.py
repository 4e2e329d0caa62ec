"""A report of a fault says what is needed, and nothing of whoever reports it."""

import getpass
import json
import platform
import socket
from pathlib import Path

import pytest
import torch
import transformers

from spot.bug import bug_report, told_setting, write_report
from spot.errors import RunError, StorageError
from tests.support.cached_runs import write_run

SECRET = "hunter2-hf_abcdefghij"


@pytest.fixture
def private(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with secrets in its environment and private names in its cache."""
    for name in ("SPOT_TOKEN", "HF_TOKEN", "WANDB_API_KEY", "SPOT_DATA"):
        monkeypatch.setenv(name, f"/home/alice/{SECRET}")
    monkeypatch.setenv("SPOT_DTYPE", "float32")
    run = write_run(own_cache / "runs" / "ab12")
    for name in ("config.toml", "result.json"):
        text = (run / name).read_text().replace("reviews.toml", "/home/alice/merger.toml").replace("reviews", "merger")
        text = text.replace("it looks odd", "merger: it looks odd").replace("/models/tiny", "/home/alice/model")
        (run / name).write_text(text + ('init = "text:the merger"\n' if name == "config.toml" else ""))


def test_nothing_private_is_in_it(private, own_cache, tmp_path):
    write_report(bug_report("ab"), tmp_path / "bug.json")
    text = (tmp_path / "bug.json").read_text()
    for word in (SECRET, "alice", "merger", "/home", str(own_cache), str(Path.home()), str(tmp_path)):
        assert word not in text, word
    assert socket.gethostname() not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text


def test_what_is_needed_is_in_it(private):
    report = bug_report("ab")
    assert report.versions["torch"] == torch.__version__ and report.versions["transformers"] == transformers.__version__
    assert report.versions["spot-transfer"] == "0.1.0" and report.extras["dev"] is True
    assert report.system["python"] == platform.python_version()
    assert report.device["place"].startswith(("cpu", "cuda")) and report.device["precision"] == "float32"
    assert report.environment["SPOT_DTYPE"] == "float32"
    assert report.environment["SPOT_TOKEN"] == report.environment["SPOT_DATA"] == "hidden"
    assert "HF_TOKEN" not in report.environment and report.backbones == {"hidden": 1}
    [gang] = report.run["gangs"]
    assert gang["diagnosis"] == ["hidden: it looks odd"] and gang["state"] == "finished"
    assert gang["settings"] == [
        {"task": "hidden", "backbone": "hidden", "steps": 4, "learning_rate": 0.1, "init": "text:hidden"}
    ]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("task", "glue/sst2", "glue/sst2"),
        ("task", "mine", "hidden"),
        ("backbone", "google/t5-base-lm-adapt", "google/t5-base-lm-adapt"),
        ("backbone", "embedded", "embedded"),
        ("backbone", "../model", "hidden"),
        ("init", "vocabulary", "vocabulary"),
        ("init", "/home/alice/prompt.safetensors", "hidden"),
        ("optimiser", "adamw", "adamw"),
        ("anything_new", "a text", "hidden"),
        ("seed", 3, 3),
    ],
)
def test_a_setting_is_told_where_its_value_is_a_word_of_this_package(key, value, told):
    assert told_setting(key, value) == told


def test_a_run_that_is_not_there_is_refused():
    with pytest.raises(RunError, match="no run in"):
        bug_report("zz")


def test_an_earlier_report_is_replaced_and_no_other_file(tmp_path):
    report = bug_report()
    for _ in range(2):
        write_report(report, tmp_path / "bug.json")
    assert json.loads((tmp_path / "bug.json").read_text())["run"] is None
    (tmp_path / "thesis.json").write_text("{}")
    with pytest.raises(StorageError, match=r"no report of `spot bug`"):
        write_report(report, tmp_path / "thesis.json")
    assert (tmp_path / "thesis.json").read_text() == "{}"
