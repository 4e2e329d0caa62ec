"""The report of a study: its files, its sentences, and that the page is whole, escaped and needs nothing else."""

import builtins
import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spot.errors import StudyError
from spot.study.analysis.table import read_table, summarise
from spot.study.records import Record
from spot.study.report import page
from spot.study.report.page import write_report
from tests.support.html_outline import Outline, stands_alone
from tests.support.study_records import ROWS, constant, paper_like

HOSTILE = "<script>alert(1)</script>&<b>a|b</b>"
STRATEGIES, KS = ("best", "race", "oracle", "none"), (1, 3)


def report(records: list[Record], folder: Path, **changes: Any) -> dict[str, Any]:
    return write_report("small", records, folder, **{"strategies": STRATEGIES, "ks": KS, "metric": "mean", **changes})


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return paper_like(4, 3, 2)


@pytest.fixture(scope="module")
def written(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("report")
    return folder, report(records, folder)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take time, and some tests are not about them."""
    monkeypatch.setattr(page, "draw", lambda found: ())


def test_all_files_are_written(written: tuple[Path, dict[str, Any]]):
    assert sorted(path.name for path in written[0].iterdir()) == [
        "cells.csv",
        "cost-quality.png",
        "heat-map.png",
        "report.html",
        "report.md",
        "similarity-gain.png",
        "similarity-map.png",
        "strategies.csv",
    ]


def test_the_page_is_well_formed_and_needs_nothing_else(written: tuple[Path, dict[str, Any]]):
    outline = stands_alone((written[0] / "report.html").read_text())
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert outline.names().count("svg") == 4


def test_the_page_has_its_sections_in_order(written: tuple[Path, dict[str, Any]]):
    outline = Outline((written[0] / "report.html").read_text())
    assert outline.text["h1"] == ["Transfer study small"]
    assert outline.text["h2"] == [
        "Findings",
        "What is there",
        "What each way of tuning reaches",
        "Against the doubts",
        "Cost against quality",
        "Each source on each target",
        "One source for all targets",
        "Similarity against gain",
        "How well similarities rank",
        "How alike the tasks are",
        "How to read this",
    ]
    assert {"oracle, best of all sources", "always the best known source", "a source at random"} <= set(
        outline.text["th"]
    )


def test_markdown_says_the_same_and_shows_the_pictures(written: tuple[Path, dict[str, Any]]):
    text, value = (written[0] / "report.md").read_text(), written[1]
    assert text.startswith("# Transfer study small\n\n" + value["verdict"])
    for sentence in value["findings"]:
        assert sentence.replace("<", "&lt;") in text
    for name in re.findall(r"!\[.+\]\((.+)\)", text):
        assert (written[0] / name).exists()
    assert len(re.findall(r"^!\[", text, flags=re.MULTILINE)) == 4


def test_replay_reads_the_cells(written: tuple[Path, dict[str, Any]]):
    replayed, value = summarise(read_table(written[0] / "cells.csv")), written[1]
    counted = value["pairs"]
    assert (replayed.cells, replayed.improved, replayed.worsened, replayed.tied) == (
        counted["cells"],
        counted["improved"],
        counted["worsened"],
        counted["tied"],
    )
    assert [(gain.source, gain.target) for gain in replayed.above_10] == [
        (gain["source"], gain["target"]) for gain in counted["above_10"]
    ]
    assert [gain.rer for gain in replayed.above_10] == pytest.approx([gain["rer"] for gain in counted["above_10"]])
    always = next(one for one in value["arms"] if one["kind"] == "hindsight")
    assert always["score"] == pytest.approx(replayed.source_means[replayed.always_best])


def test_the_table_of_strategies_has_every_arm(written: tuple[Path, dict[str, Any]]):
    with (written[0] / "strategies.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    arms = [*written[1]["arms"], *written[1]["generic"]]
    assert [row["arm"] for row in rows] == [arm["arm"] for arm in arms]
    for row, arm in zip(rows, arms, strict=True):
        assert float(row["score"]) == arm["score"]
        assert [float(row["gain_interval_low"]), float(row["gain_interval_high"])] == arm["gain_interval"]
        assert row["tuned_share"] == ""  # no record tells the size of the model


def test_the_value_is_json(written: tuple[Path, dict[str, Any]]):
    value = written[1]
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert set(value) == {
        "name",
        "verdict",
        "findings",
        "pairs",
        "metric",
        "seeds",
        "counts",
        "failures",
        "targets",
        "transfers",
        "arms",
        "generic",
        "learned_arms",
        "learned_comparisons",
        "comparisons",
        "correlations",
        "rankings",
        "tasks",
        "backbone",
    }
    assert value["counts"]["pair"] == {"finished": 24, "failed": 0, "missing": 0}
    assert value["targets"][0]["rows"] == ROWS


@pytest.mark.usefixtures("no_pictures")
def test_equal_records_give_equal_bytes(records: list[Record], tmp_path: Path):
    values = [report(some, tmp_path / name) for name, some in (("one", records), ("two", records[::-1]))]
    assert values[0] == values[1]
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.usefixtures("no_pictures")
def test_names_are_text(tmp_path: Path):
    records = [
        replace(one, task=one.task.replace("target", HOSTILE), sources=tuple(HOSTILE + name for name in one.sources))
        for one in paper_like(1, 2, 1)
    ]
    write_report(HOSTILE, records, tmp_path, strategies=("best",), ks=(1,), metric="mean")
    html, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    outline = Outline(html)
    assert not {"script", "b"} & set(outline.names())
    assert outline.text["h1"] == [f"Transfer study {HOSTILE}"]
    assert any(HOSTILE in cell for cell in outline.text["th"])
    assert "<script" not in text and "&lt;script&gt;" in text
    with (tmp_path / "cells.csv").open(newline="") as file:
        assert {row["target"] for row in csv.DictReader(file)} == {f"{HOSTILE}/00", f"{HOSTILE}/01"}


def test_without_matplotlib_there_is_a_report_without_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    report(paper_like(3, 2, 1), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cells.csv",
        "report.html",
        "report.md",
        "strategies.csv",
    ]
    outline = Outline((tmp_path / "report.html").read_text())
    assert "svg" not in outline.names()
    assert any("There are no pictures: pictures need matplotlib" in text for text in outline.text["p"])


def test_nothing_is_written_without_a_finished_cell(tmp_path: Path):
    with pytest.raises(StudyError, match="there is nothing to report"):
        report([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_pictures")
def test_a_study_that_has_just_begun_has_a_report(tmp_path: Path):
    begun = [one for one in constant({"a": 1.0}) if one.kind in ("source", "plain")]
    value = report(begun, tmp_path)
    assert value["verdict"] == "No target has all its cells yet, so the arms cannot be compared."
    assert "Left out of the arms, because no seed has all its cells: t, u, v." in value["findings"]
    Outline((tmp_path / "report.html").read_text())
    assert report([one for one in begun if one.kind == "source"], tmp_path)["findings"] == []


# What the sentences say.


@pytest.mark.usefixtures("no_pictures")
def test_failures_have_a_table_with_their_reasons(tmp_path: Path):
    records = constant({"a": 6.0, "b": 2.0})
    records[-1] = replace(records[-1], score=float("nan"), reason="the loss was not finite")
    report(records, tmp_path)
    outline = Outline((tmp_path / "report.html").read_text())
    assert "Cells without a score" in outline.text["h2"] and "the loss was not finite" in outline.text["td"]


def test_names_that_no_file_can_hold_are_escaped_everywhere(tmp_path: Path):
    names = {"half \ud800": 2.0, "bell \x1b[2J": 1.0, "turned \u202e": 0.5}
    value = report(constant(names, targets="t\ud801"), tmp_path)
    assert json.dumps(value)
    for path in tmp_path.iterdir():
        if path.suffix != ".png":
            assert not set("\x1b\u202e") & set(path.read_text(encoding="utf-8")), path
    assert r"half \ud800" in (tmp_path / "report.md").read_text(encoding="utf-8")
