"""Which records count: those that say what the plan knows of their cells; and how they land in their folder."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spot.errors import StorageError, StudyError
from spot.study.cells import Cell, StudyPlan, finished, finished_cells, record_of
from spot.study.record_folder import Expected, RecordFolder, read_finished
from spot.study.records import Record, read_record, read_records, write_record
from spot.study.status import study_status
from spot.training.result import CurvePoint
from tests.support.small_studies import MadeUpWorker, plan_small_study, write_tasks

RECORD = Record(
    "abcd",
    "plain",
    "cr",
    1,
    scores={"accuracy": 81.5},
    score=81.5,
    curve=(CurvePoint(0, 50.0), CurvePoint(2, 62.5, 0.7, 120, 1.5)),
    steps=4,
    tokens=200,
    rows={"train": 8, "select": 4, "report": 8, "overlap": 0},
    data="rows",
    start="vocabulary",
)


def expected(record: Record, **changes: Any) -> Expected:
    """What a cell knows whose record it is."""
    names = ("digest", "kind", "task", "seed", "sources", "start", "init_seed", "k", "needs")
    return Expected(**{**{name: getattr(record, name) for name in names}, "title": "plain cr, seed 1", **changes})


CELLS = {digest: expected(replace(RECORD, digest=digest)) for digest in ("abcd", "ef")}


def test_records_that_a_killed_run_left_are_landed(tmp_path):
    write_record(RECORD, tmp_path / "pending")
    folder = RecordFolder(tmp_path, CELLS)
    assert folder.records == {"abcd": RECORD} and not (tmp_path / "pending").exists()
    assert read_records(tmp_path / "cells") == [RECORD]


def test_records_of_a_gang_are_added_all_or_none(tmp_path):
    folder = RecordFolder(tmp_path, CELLS)
    broken = replace(RECORD, digest="ef", scores={"accuracy": math.nan})
    with pytest.raises(ValueError, match="JSON"):
        folder.add([RECORD, broken])
    assert folder.records == {} and list(tmp_path.rglob("*.json")) == []
    folder.add([RECORD, replace(RECORD, digest="ef")])
    assert set(folder.records) == {"abcd", "ef"} == {path.stem for path in (tmp_path / "cells").iterdir()}


def test_files_of_other_cells_are_not_even_opened(tmp_path):
    write_record(RECORD, tmp_path / "cells")
    os.mkfifo(tmp_path / "cells" / "0123.json")
    assert read_finished(tmp_path, {"ef": CELLS["ef"]}).records == {}
    assert set(read_finished(tmp_path, CELLS).records) == {"abcd"}


def test_what_killed_runs_staged_is_swept_up_and_nothing_behind_a_link(tmp_path):
    others = tmp_path / "others"
    write_record(RECORD, others)
    study = tmp_path / "study"
    write_record(RECORD, study / ".pending.123")
    (study / f".pending.{os.getpid()}").symlink_to(others)
    RecordFolder(study, CELLS).add([RECORD])
    assert sorted(path.name for path in study.iterdir()) == ["cells"]
    assert [path.name for path in others.iterdir()] == ["abcd.json"]


@pytest.mark.parametrize("name", ["cells", "pending"])
@pytest.mark.parametrize("kind", ["link", "link to nothing", "file"])
def test_a_folder_of_records_that_leads_elsewhere_is_refused_and_nothing_moved(tmp_path, name, kind):
    others, study = tmp_path / "others", tmp_path / "study"
    write_record(RECORD, others)
    study.mkdir()
    if kind == "file":
        (study / name).write_text("mine")
    else:
        (study / name).symlink_to(others if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(StudyError, match=f"{study / name} is .*Move it away"):
        RecordFolder(study, CELLS)
    assert [path.name for path in others.iterdir()] == ["abcd.json"] and not (tmp_path / "nowhere").exists()
    assert os.path.lexists(study / name)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "study").write_text("a file")
    folder = RecordFolder(tmp_path / "study", CELLS)
    with pytest.raises(StorageError, match="Not a directory"):
        folder.add([RECORD])


# What the plan knows of a cell.


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> StudyPlan:
    """A study whose cells all have their records."""
    folder = tmp_path_factory.mktemp("study")
    write_tasks(folder)
    plan = plan_small_study(folder)
    cache = pytest.MonkeyPatch()
    cache.setenv("SPOT_CACHE", str(folder / "cache"))
    MadeUpWorker().run(plan)
    cache.undo()
    assert set(finished(plan)) == {cell.digest for cell in plan.cells}
    return plan


@pytest.fixture
def changed(planned: StudyPlan) -> Any:
    """A function that changes the file of one cell's record; it is as it was after the test."""
    kept: dict[Path, bytes] = {}

    def change(cell: Cell, content: Callable[[dict[str, Any]], Any] | bytes) -> None:
        path = planned.records / f"{cell.digest}.json"
        kept.setdefault(path, path.read_bytes())
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(json.dumps(content(json.loads(kept[path]))))

    yield change
    for path, content in kept.items():
        path.write_bytes(content)


def cell_of(plan: StudyPlan, kind: str) -> Cell:
    return next(cell for cell in plan.cells if cell.kind == kind)


WRONG = [
    ("plain", {"kind": "source"}, "'kind'"),
    ("plain", {"task": "green"}, "'task'"),
    ("plain", {"seed": 1}, "'seed'"),
    ("plain", {"start": "classes"}, "'start'"),
    ("plain", {"init_seed": 1}, "'init_seed'"),
    ("plain", {"sources": ["red"]}, "'sources'"),
    ("plain", {"needs": ["0123"]}, "'needs'"),
    ("plain", {"k": 2}, "'k'"),
    ("pair", {"sources": ["blue"]}, "'sources'"),
    ("pair", {"sources": []}, "'sources'"),
    ("pair", {"needs": []}, "'needs'"),
    ("pair", {"similarity": {}}, "'similarity'"),
    ("pair", {"similarity": {"mean": 0.1, "token": 0.1}}, "'similarity'"),
    ("average", {"sources": ["red", "pink"]}, "'sources'"),
    ("average", {"sources": ["red", "red"]}, "'sources'"),
    ("average", {"k": 1}, "'k'"),
    ("average", {"weights": [0.5]}, "'weights'"),
    ("average", {"weights": [0.5, 0.1]}, "'weights'"),
    ("plain", {"score": 12.5}, "'score'"),
    ("plain", {"score": None}, "'score'"),
    ("plain", {"reason": "it diverged"}, "'reason'"),
    ("plain", {"interval": [60.0, 50.0]}, "'interval'"),
    ("plain", {"curve": []}, "'curve'"),
    ("plain", {"curve": [{"step": 7, "score": 1.0}]}, "'curve'"),
    ("plain", {"curve": [{"step": 0, "score": 1.0, "tokens": 7}]}, "'curve'"),
    ("plain", {"steps": 9}, "'steps'"),
    ("plain", {"rows": {"train": 4}}, "'rows'"),
    ("plain", {"data": ""}, "'data'"),
    ("plain", {"answers": {"rows": "AAAAAA==", "given": "AA==", "correct": "1"}}, "'answers' has 1 rows"),
    ("plain", {"answers": {"rows": "AAAAAA==", "given": "AA==", "correct": "11"}}, "'answers' contradicts itself"),
    ("plain", {"answers": {"rows": "no", "given": "AA==", "correct": "1"}}, "'answers.rows'"),
    ("plain", {"embedding": {}}, "'embedding'"),
    ("plain", {"config": {"steps": 9}}, "'config.steps'"),
    ("plain", {"config": {}}, "'config.steps'"),
    ("source", {"digest": "0123"}, "named by its digest"),
    ("source", {"format": 0}, "of format 0"),
]


@pytest.mark.parametrize(("kind", "changes", "named"), WRONG, ids=[f"{kind} {changes}" for kind, changes, _ in WRONG])
def test_a_record_that_is_not_its_cell_counts_as_none_and_is_said(planned, changed, kind, changes, named, caplog):
    cell = cell_of(planned, kind)
    changed(cell, lambda values: {**values, **changes})
    assert set(finished(planned)) == {other.digest for other in planned.cells} - {cell.digest}
    [reason] = finished_cells(planned).wrong.values()
    assert reason in caplog.text and str(planned.records / f"{cell.digest}.json") in reason and named in reason
    status = study_status(planned)
    assert list(status.wrong.values()) == [reason] and status.kinds[kind].missing == 1


def test_a_record_of_a_later_version_is_neither_passed_over_nor_replaced(planned, changed):
    changed(cell_of(planned, "pair"), lambda values: {**values, "format": 2})
    for ask in (finished, study_status, MadeUpWorker().run):
        with pytest.raises(StudyError, match=r"of format 2.*Install a later version"):
            ask(planned)


def test_a_setting_that_a_record_lacks_had_its_default(planned, changed):
    cell = cell_of(planned, "plain")
    names = [name for name, value in planned.expected[cell.digest].defaults.items() if value is not None]
    assert cell.settings.patience is None and "mixing" in names
    changed(cell, lambda values: {**values, "config": {**values["config"], "mixing": "equal"}})
    assert cell.digest not in finished(planned)
    without = lambda values: {name: value for name, value in values["config"].items() if name != "mixing"}  # noqa: E731
    changed(cell, lambda values: {**values, "config": without(values)})
    assert cell.digest in finished(planned)


def test_a_cell_without_a_score_says_why(planned, changed):
    cell = cell_of(planned, "average")
    changed(cell, lambda values: {"format": 1, **asdict(record_of(cell, reason="no source is near")), "score": None})
    assert finished(planned)[cell.digest].reason == "no source is near"


def test_an_embedding_of_another_width_is_another_models(planned, changed):
    cell = cell_of(planned, "source")
    path = planned.records / f"{cell.digest}.json"
    narrow = {name: row[:-1] for name, row in read_record(path).embedding.items()}
    record = replace(read_record(path), embedding=narrow)
    changed(cell, path.read_bytes())  # kept, to be brought back
    write_record(record, planned.records)
    assert cell.digest not in finished(planned)
    assert "the field 'embedding' has" in finished_cells(planned).wrong[str(path)]


def test_a_wrong_record_is_made_again(planned, changed, monkeypatch):
    monkeypatch.setenv("SPOT_CACHE", str(planned.records.parents[2] / "cache"))
    cell = cell_of(planned, "mixture")
    whole = (planned.records / f"{cell.digest}.json").read_bytes()
    changed(cell, lambda values: {**values, "seed": 7})
    worker = MadeUpWorker()
    assert worker.run(planned).new == 1 and worker.done == {"mixture": 1}
    assert (planned.records / f"{cell.digest}.json").read_bytes() == whole


def test_many_wrong_records_are_counted(planned, changed, caplog):
    for cell in planned.cells[:8]:
        changed(cell, b"{")
    assert len(finished(planned)) == len(planned.cells) - 8
    assert len(caplog.records) == 6 and "and 3 more files are no records of their cells" in caplog.text


def test_embeddings_survive_the_check(planned):
    assert all(np.isfinite(row).all() for record in finished(planned).values() for row in record.embedding.values())
