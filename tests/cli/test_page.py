"""`spot page` from the command line."""

import json

import pytest

from tests.support.commands import refused
from tests.support.pages import filled, prompts, write_run, write_study


@pytest.fixture
def library(tmp_path):
    return filled(tmp_path / "library", prompts("a", "b", "c")).path


def test_a_page_is_written(spot, library, tmp_path):
    study, transfer = write_study(tmp_path / "study"), write_run(tmp_path / "runs" / "plain-x", [[(0, 40.0)]]).parent
    out = tmp_path / "new" / "page.html"
    result = spot("page", "--library", library, "--study", study, "--transfer", transfer, "--out", out, "--json")
    assert result.json == {"page": str(out), "bytes": out.stat().st_size, "prompts": 3, "studies": 1, "transfers": 1}
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_people_read_one_line(spot, library, tmp_path):
    result = spot("page", "--library", library, "--out", tmp_path / "page.html")
    assert result.code == 0 and "3 prompts, 0 studies, 0 transfers" in result.out


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--library", "nowhere"], ["no prompt library at nowhere"]),
        (["--study", "nowhere.toml"], ["no study at nowhere.toml"]),
        (["--transfer", "nowhere"], ["nowhere"]),
        (["--out", "."], []),
    ],
    ids=str,
)
def test_mistakes_are_one_message(spot, library, tmp_path, monkeypatch, options, parts):
    monkeypatch.chdir(tmp_path)
    refused(spot("page", "--library", library, "--out", "page.html", *options), *parts)
    assert not (tmp_path / "page.html").exists()


def test_a_damaged_study_is_refused(spot, library, tmp_path):
    study = write_study(tmp_path / "study")
    next((study / "cells").iterdir()).write_text(json.dumps({"format": 1}))
    refused(spot("page", "--library", library, "--study", study, "--out", tmp_path / "page.html"), "is no record")
