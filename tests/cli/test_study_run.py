"""`spot study plan`, `run`, `status` and `report`: what they print, and what they refuse."""

import json
from pathlib import Path

import pytest

from spot.library.library import Library
from spot.prompts.prompt import load
from spot.storage.files import lock
from spot.study import records, scheduler
from spot.study.executors import EXECUTORS
from spot.study.records import prompt_file
from tests.support.commands import Result, call, refused
from tests.support.small_runs import user_task

STUDY = """
name = "toy"
backbone = "{backbone}"
sources = ["red.toml", "green.toml"]
targets = ["blue.toml"]
seeds = 2
strategies = ["best", "none"]
[source]
steps = 4
length = 3
batch_size = 4
key_step = 2
eval_every = 2
learning_rate = 0.05
select_rows = 8
report_rows = 8
[target]
steps = 2
length = 3
batch_size = 4
eval_every = 1
learning_rate = 0.05
select_rows = 8
report_rows = 8
"""


@pytest.fixture
def folder(tmp_path, tiny_folder, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "240")
    for name in ("red", "green", "blue"):
        user_task(tmp_path, name)
    (tmp_path / "study.toml").write_text(STUDY.format(backbone=tiny_folder("llama")))
    return tmp_path


@pytest.fixture
def spot(capsys):
    return lambda *words: call(capsys, "study", *words)


def test_a_plan_needs_neither_rows_nor_backbone(spot, folder):
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "paper" / "study26.toml"
    found = spot("plan", recipe).out
    assert "study26: 48 sources, 30 target embeddings, 840 transfers" in found
    assert "text tokens unknown, time unknown, disk unknown" in found and "--probe fetches it" in found
    value = spot("plan", recipe, "--json").json
    assert set(value) == {
        "name",
        "records",
        "sources",
        "embeddings",
        "transfers",
        "kinds",
        "tokens",
        "seconds",
        "disk",
        "unknown",
        "cells",
    }
    assert value["kinds"]["pair"] == {"cells": 480, "finished": 0, "gangs": 480, "steps": 480 * 100_000}
    assert value["tokens"] is None and len(value["cells"]) == 945 + 10 * 3  # a constant answer a target and seed
    assert set(value["cells"][0]) == {"digest", "kind", "task", "seed", "sources", "start", "init_seed", "k", "needs"}


def test_a_plan_counts_tokens_and_times_steps_where_it_can(spot, folder):
    value = spot("plan", "study.toml", "--json").json
    finished = spot("run", "study.toml", "--json").json
    assert finished["finished"] == finished["cells"] == 4 + 4 + 4 + 2
    trained = sum(record.tokens for record in records.read_records(folder / "studies" / "toy" / "cells"))
    assert value["tokens"] == pytest.approx(trained, rel=0.1)
    assert value["seconds"] > 0 and value["disk"] > 0 and value["unknown"] == []
    again = spot("plan", "study.toml", "--json").json
    assert (again["tokens"], again["disk"], again["kinds"]["pair"]["finished"]) == (0, 0, 4)


def test_what_is_timed_once_is_kept(spot, folder, own_cache):
    untimed = spot("plan", "study.toml", "--no-probe", "--json").json
    assert untimed["seconds"] is None and untimed["unknown"] == ["not timed: --probe does"] and untimed["tokens"] > 0
    first = spot("plan", "study.toml", "--json").json
    [kept] = (own_cache / "studies" / "probes").iterdir()
    kept.write_text(json.dumps({"seconds": 10 * json.loads(kept.read_text())["seconds"]}))
    assert spot("plan", "study.toml", "--json").json["seconds"] == pytest.approx(10 * first["seconds"])


def test_run_status_and_run_again(spot, folder):
    before = spot("status", "study.toml", "--json").json
    assert before["kinds"]["source"] == {"cells": 4, "finished": 0, "failed": 0, "running": 0, "missing": 4}
    first = spot("run", "study.toml", "--json").json
    assert set(first) == {"cells", "finished", "new", "diverged", "failed", "records"} and first["new"] == 14
    after = spot("status", "study.toml", "--json").json
    assert (
        set(after) == {"name", "records", "kinds", "running", "wrong"}
        and after["running"] == []
        and after["wrong"] == {}
    )
    assert {kind: count["finished"] for kind, count in after["kinds"].items()} == {
        "source": 4,
        "plain": 4,
        "pair": 4,
        "constant": 2,
    }
    kept = {path: path.read_bytes() for path in Path(first["records"]).iterdir()}
    again = spot("run", "study.toml")
    assert "14 of 14 cells are finished, 0 of them now" in again.out
    assert {path: path.read_bytes() for path in Path(first["records"]).iterdir()} == kept


def test_settings_of_the_command_change_the_study(spot, folder):
    value = spot("plan", "study.toml", "--no-probe", "--set", "seeds=1", "--set", 'strategies=["none"]', "--json").json
    assert [cell["kind"] for cell in value["cells"]] == ["source", "source", "plain", "plain", "constant"]


def test_a_report_is_written_from_the_records(spot, folder, monkeypatch):
    pytest.importorskip("spot.study.report.page")
    refused(
        spot("report", "study.toml"),
        "studies/toy/cells holds no finished cell of toy (14 are planned)",
        "spot study run",
    )
    spot("run", "study.toml")
    value = spot("report", "study.toml", "--out", "report", "--json").json
    assert isinstance(value, dict) and (folder / "report" / "report.html").stat().st_size > 0
    assert (folder / "report" / "report.md").is_file()


def test_cells_that_cannot_be_tuned_are_said_and_the_exit_code_tells(spot, folder, tmp_path):
    result = spot("run", "study.toml", "--set", 'targets=["blue.toml", "cr"]', "--data", "nowhere", "--json")
    assert result.code == 2 and "gangs could not be tuned" in result.err and "nowhere/cr" in result.err
    value = json.loads(result.out)
    assert value["finished"] == 14 and "plain vocabulary -> cr, seeds 0, 1" in value["failed"]


def test_ctrl_c_ends_with_130_and_keeps_what_is_finished(spot, folder, monkeypatch):
    land = scheduler._land

    def interrupted(gang, done, folder):
        land(gang, done, folder)
        if gang.cells[0].kind == "plain":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "_land", interrupted)
        result = spot("run", "study.toml")
    assert result.code == 130 and "goes on" in result.err
    assert len(records.read_records(folder / "studies" / "toy" / "cells")) == 6
    assert spot("run", "study.toml", "--json").json["new"] == 8


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("run", "none.toml"), ("none.toml: there is no such file",)),
        (("run", "study.toml", "--executor", "rey"), ("the executor is 'rey'", "did you mean 'ray'?")),
        (("plan", "study.toml", "--set", 'strategies=["bst"]'), ("did you mean 'best'?",)),
        (("status", "study.toml", "--set", "k=[3]"), ("k: 3 is beyond the 2 sources",)),
        (("run", "study.toml", "--set", 'targets=["blue.tml"]'), ("no task 'blue.tml'",)),
        (("report", "study.toml", "--set", "nme=x"), ("unknown key 'nme'; did you mean 'name'?",)),
    ],
)
def test_mistakes_are_one_message(spot, folder, words, parts):
    refused(spot(*words), *parts)


def test_a_study_that_is_running_is_refused(spot, folder):
    with lock(Path("studies/toy/study")):
        refused(spot("run", "study.toml"), "studies/toy/study is in use by another writer")
        assert spot("status", "study.toml").code == 0


def test_a_damaged_record_is_named_and_made_again(spot, folder):
    spot("run", "study.toml")
    path = next(Path("studies/toy/cells").iterdir())
    path.write_text("{")
    for command in ("status", "plan", "report"):
        result = spot(command, "study.toml")
        assert result.code == 0 and f"{path} is no record" in result.out + result.err
    assert spot("status", "study.toml", "--json").json["wrong"].keys() == {str(path)}
    result = spot("run", "study.toml")
    assert "1 of them now" in result.out and str(path) in result.err
    assert spot("status", "study.toml", "--json").json["wrong"] == {}


@pytest.mark.slow  # the unit tests may open no socket
def test_a_cluster_that_is_not_there(spot, folder):
    pytest.importorskip("ray")
    refused(spot("run", "study.toml", "--address", "127.0.0.1:1"), "no Ray cluster answers at 127.0.0.1:1")


def test_the_commands_are_listed(spot):
    result: Result = spot("--help")
    for name in ("plan", "run", "status", "report", "replay"):
        assert name in result.out
    assert EXECUTORS == ("serial", "ray")


def test_a_library_learns_what_a_study_showed_and_once(spot, folder):
    spot("run", "study.toml")
    found = records.read_records(folder / "studies" / "toy" / "cells")
    library = Library.create(folder / "library")
    prompts = {one.digest: load(prompt_file(one.digest)) for one in found if one.kind == "source"}
    for prompt in prompts.values():
        library.add(prompt)
    value = spot("teach", "study.toml", "--library", library.path, "--json").json
    assert value == {"library": str(library.path), "transfers": 4, "new": 4}
    best = {one.digest: max(point.score for point in one.curve) for one in found if one.curve}
    plain = {seed: max(best[one.digest] for one in found if (one.kind, one.seed) == ("plain", seed)) for seed in (0, 1)}
    gains = {prompts[one.needs[0]].digest: best[one.digest] - plain[one.seed] for one in found if one.kind == "pair"}
    lessons = library.transfers()
    assert {one.source: one.gain for one in lessons} == pytest.approx(gains)
    assert {(one.target, one.steps, one.seeds) for one in lessons} == {("blue", 2, 1)}
    assert [one.embedding is not None for one in lessons] == [True, False, False, False]
    assert spot("teach", "study.toml", "--library", library.path, "--json").json["new"] == 0
    assert library.transfers() == lessons


def test_only_a_library_of_the_studys_sources_can_be_taught(spot, folder):
    spot("run", "study.toml")
    Library.create(folder / "other")
    refused(
        spot("teach", "study.toml", "--library", "other"),
        "no finished pair of",
        "expected the library that the study's sources are in",
    )
    assert not (folder / "other" / "transfers.jsonl").exists()


def test_a_study_is_followed_gang_by_gang(spot, folder):
    outcome = spot("run", "study.toml", "--track", "tensorboard:logs", "--json")
    assert outcome.json["finished"] == outcome.json["cells"] and "tracked: tensorboard" in outcome.err
    tracked = {path.name.rpartition("-")[0] for path in (folder / "logs").iterdir()}
    # Plain runs of each task from each start, and the target's from its source, each with two seeds.
    for name in ("red-vocabulary", "green-vocabulary", "blue-vocabulary", "blue-prompt"):
        assert {f"{name}-seed0", f"{name}-seed1"} <= tracked, tracked
