"""The committed study on SmolLM2: its records count as finished, are rewritten byte for byte, and make its report."""

import re
from pathlib import Path

import pytest

from spot.library.library import open_library
from spot.storage import files
from spot.study.cells import StudyPlan, finished, read_plan
from spot.study.records import Record, write_record
from spot.study.report import page
from spot.study.report.figures import Picture
from spot.study.teaching import lessons

ROOT = Path(__file__).resolve().parents[2]
CELLS = ROOT / "studies" / "smollm2" / "cells"
REPORT = ROOT / "docs" / "studies" / "smollm2"
COUNT = 577


@pytest.fixture(scope="module")
def planned() -> StudyPlan:
    return read_plan(ROOT / "studies" / "smollm2.toml")


@pytest.fixture(scope="module")
def records(planned: StudyPlan) -> list[Record]:
    return list(finished(planned).values())


def test_every_committed_record_is_a_finished_cell_of_the_plan(planned: StudyPlan, records: list[Record]):
    files = {path.stem for path in CELLS.glob("*.json")}
    assert len(files) == COUNT
    assert {cell.digest for cell in planned.cells} == files == {record.digest for record in records}


def test_a_cell_says_of_itself_what_its_record_says(planned: StudyPlan, records: list[Record]):
    by_digest = {record.digest: record for record in records}
    for cell in planned.cells:
        record = by_digest[cell.digest]
        names = ("kind", "task", "seed", "start", "init_seed", "k", "needs")
        assert [getattr(cell, name) for name in names] == [getattr(record, name) for name in names]


def test_a_record_that_is_read_and_written_keeps_its_bytes(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: None)  # it would take most of the time
    for record in records:
        assert write_record(record, tmp_path).read_bytes() == (CELLS / f"{record.digest}.json").read_bytes()


def report(planned: StudyPlan, records: list[Record], folder: Path) -> dict[str, bytes]:
    """The files of the report that are committed too."""
    config = planned.study.config
    page.write_report(config.name, records, folder, strategies=config.strategies, ks=config.k, metric=config.metric)
    return {path.name: path.read_bytes() for path in folder.iterdir() if (REPORT / path.name).exists()}


def test_the_texts_of_the_report_are_the_committed_ones(
    planned: StudyPlan, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    titles = re.findall(r"!\[(.*)\]\((.*)\.png\)", (REPORT / "report.md").read_text())
    pictures = tuple(Picture(name, title, svg="<svg></svg>", png=b"") for title, name in titles)
    monkeypatch.setattr(page, "draw", lambda findings: pictures)
    written = report(planned, records, tmp_path)
    for name in ("report.md", "cells.csv", "strategies.csv"):
        assert written[name] == (REPORT / name).read_bytes()


@pytest.mark.slow
def test_the_whole_report_is_the_committed_one(planned: StudyPlan, records: list[Record], tmp_path: Path):
    written = report(planned, records, tmp_path)
    committed = {path.name: path.read_bytes() for path in REPORT.iterdir()}
    assert written.keys() == committed.keys()
    # Other builds of matplotlib draw other pixels; `test_figures` says what is in them.
    assert [name for name in committed if written[name] != committed[name] and not name.endswith(".png")] == []


def test_the_records_teach_what_the_packaged_library_knows(planned: StudyPlan, records: list[Record]):
    library = open_library("packaged")
    transfers = {transfer.id: transfer for transfer in library.transfers()}
    taught = lessons(planned, records, {entry.digest for entry in library.entries()})
    assert {transfer.id: transfer for transfer in taught} == transfers
