"""What the page knows of studies and transfers is what their files say."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.errors import SpotError
from spot.page import runs
from spot.page.runs import mean_curve, study_curves, transfer_folders, view_study, view_transfer
from spot.prompts.prompt import Parent
from spot.study.analysis.findings import analyse
from spot.study.cells import read_plan
from spot.study.records import CELLS, read_records
from tests.support.pages import filled, prompts, write_run, write_study
from tests.support.small_studies import STUDY, MadeUpWorker, plan_small_study, write_tasks
from tests.support.study_records import record

CURVES = st.lists(
    st.dictionaries(st.integers(0, 30), st.floats(0, 100), min_size=1).map(lambda curve: tuple(sorted(curve.items()))),
    min_size=1,
    max_size=4,
)


def test_a_folder_of_records_is_a_study(tmp_path):
    folder = write_study(tmp_path / "mine")
    view = view_study(folder)
    expected = analyse(read_records(folder / CELLS), runs.STRATEGIES, runs.KS, "mean")
    assert view.name == "mine" and view.findings is not None
    assert view.findings.arms == expected.arms and view.findings.transfers == expected.transfers
    assert set(view.curves) == {target.name for target in expected.targets}
    assert view.kinds == {} and view.verdict


def test_a_study_is_read_by_its_file_and_by_its_folder_beside_it(tmp_path):
    write_tasks(tmp_path)
    (tmp_path / "toy.toml").write_text('out = "toy"\n' + STUDY)
    plan = read_plan(tmp_path / "toy.toml")
    MadeUpWorker().run(plan)
    view = view_study(tmp_path / "toy.toml")
    assert view.name == "toy" and view.findings is not None
    assert sum(count.finished for count in view.kinds.values()) == len(plan.cells)
    assert view_study(tmp_path / "toy").kinds == view.kinds


def test_a_study_without_a_finished_cell_says_so(tmp_path):
    write_tasks(tmp_path)
    plan = plan_small_study(tmp_path)
    view = view_study(tmp_path / "study.toml")
    assert view.findings is None and view.curves == {} and "nothing to report" in view.verdict
    assert sum(count.missing for count in view.kinds.values()) == len(plan.cells)


def test_new_records_are_seen(tmp_path):
    write_tasks(tmp_path)
    plan = plan_small_study(tmp_path)
    assert view_study(tmp_path / "study.toml").findings is None
    MadeUpWorker().run(plan)
    assert view_study(tmp_path / "study.toml").findings is not None


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_what_is_no_study_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpotError, match=name):
        view_study(tmp_path / name)


@given(CURVES)
def test_a_mean_curve_is_the_mean_at_shared_steps(curves):
    points = mean_curve(curves)
    steps = set.intersection(*[{step for step, _ in curve} for curve in curves])
    assert [step for step, _ in points] == sorted(steps)
    for step, score in points:
        assert score == pytest.approx(sum(dict(curve)[step] for curve in curves) / len(curves))


def test_a_long_curve_is_thinned_out_and_keeps_its_ends():
    curve = tuple((step, float(step)) for step in range(10_000))
    points = mean_curve([curve])
    assert len(points) == runs.MOST_POINTS and points[0] == curve[0] and points[-1] == curve[-1]


def test_curves_are_by_target_plain_tuning_first():
    records = [
        record("pair", "t", 0, 60.0, sources=("s",)),
        record("plain", "t", 0, 50.0, start="vocabulary"),
        record("plain", "t", 1, 70.0, start="vocabulary"),
        record("plain", "t", 0, 1.0, start="vocabulary", init_seed=1),
    ]
    [plain, pair] = study_curves(records)["t"]
    assert (plain.label, pair.label) == ("plain tuning, vocabulary", "from s")
    assert plain.points[-1] == (40, 60.0)


def test_the_runs_of_a_transfer(tmp_path):
    write_run(tmp_path / "plain-vocabulary", [[(0, 40.0), (2, 60.0)], [(0, 50.0), (2, 50.0)]])
    write_run(tmp_path / "spot-0-abcdef01", [[(0, 70.0), (2, 80.0)]])
    (tmp_path / "selection-rows").mkdir()
    view = view_transfer(tmp_path)
    assert view.target == "toy" and not view.is_running and not view.problems
    [plain, started] = view.runs
    assert (plain.label, started.label) == ("plain tuning, vocabulary start", "candidate 0")
    assert (plain.state, plain.seeds, plain.step, plain.curve) == ("finished", 2, 2, ((0, 45.0), (2, 55.0)))
    assert plain.best == 55.0 and plain.report == 54.0 and plain.seconds == 1.0


def test_a_run_that_began_from_a_prompt_names_its_task(tmp_path):
    [source] = prompts("movies")
    library = filled(tmp_path / "library", [source])
    folder = write_run(tmp_path / "out" / "spot-0-abcdef01", [[(0, 70.0)]])
    [tuned] = prompts("toy", parents=(Parent(source.digest, 1.0),))
    tuned.save(folder / "prompt-0.safetensors")
    assert view_transfer(tmp_path / "out", library).runs[0].label == "from movies"
    assert view_transfer(tmp_path / "out").runs[0].label == f"from {source.digest}"


def test_a_run_without_a_result_goes_on_or_has_stopped(tmp_path):
    folder = write_run(tmp_path / "plain-classes", [[(0, 40.0)]], is_finished=False)
    assert view_transfer(tmp_path).is_running
    before = time.time() - 2 * runs.QUIET
    os.utime(folder / "log.jsonl", (before, before))
    assert [run.state for run in view_transfer(tmp_path).runs] == ["stopped"]


def test_a_damaged_run_is_said_and_the_others_are_shown(tmp_path):
    write_run(tmp_path / "plain-classes", [[(0, 40.0)]])
    folder = write_run(tmp_path / "spot-0-ab", [[(0, 40.0)]])
    (folder / "result.json").write_text("{")
    view = view_transfer(tmp_path)
    assert [run.name for run in view.runs] == ["plain-classes"] and "spot-0-ab" in view.problems[0]


def test_a_transfer_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SpotError, match="nothing"):
        view_transfer(tmp_path / "nothing")


def test_transfers_in_the_cache_are_those_of_the_user(own_cache):
    assert transfer_folders() == []
    folder = own_cache / "transfers" / "reviews"
    write_run(folder / "plain-vocabulary", [[(0, 40.0)]])
    assert transfer_folders() == [folder]
