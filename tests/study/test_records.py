"""The record of a cell: what is written is read again, by every version."""

import json
import math

import numpy as np
import pytest

from spot.errors import StudyError
from spot.study.records import FORMAT, Record, read, read_all, write
from spot.training.result import CurvePoint

RECORD = Record(
    "abcd",
    "pair",
    "cr",
    1,
    sources=("glue/sst2",),
    weights=(0.25, 0.75),
    scores={"accuracy": 81.5},
    score=81.5,
    interval=(70.0, 90.5),
    as_is=60.0,
    similarity={"mean": -0.25},
    embedding={"mean": np.array([1.5, -2.25], "<f4")},
    curve=(CurvePoint(0, 50.0), CurvePoint(2, 62.5, 0.7, 120, 1.5)),
    steps=4,
    tokens=100,
    rows={"report": 8},
    needs=("ef", "01"),
    config={"steps": 4},
)


def test_a_record_survives_its_file(tmp_path):
    path = write(RECORD, tmp_path / "cells")
    found = read(path)
    assert path.name == "abcd.json" and found == RECORD
    np.testing.assert_array_equal(found.embedding["mean"], RECORD.embedding["mean"])
    assert path.read_bytes() == write(found, tmp_path / "again").read_bytes()


def test_a_cell_without_a_score_is_nan_with_a_reason(tmp_path):
    found = read(write(Record("abcd", "plain", "cr", 0, reason="it diverged"), tmp_path))
    assert math.isnan(found.score) and found.reason == "it diverged" and found.interval is None


def test_files_of_an_older_version_are_read_and_unknown_fields_passed_over(tmp_path):
    path = tmp_path / "abcd.json"
    path.write_text(json.dumps({"format": 1, "digest": "abcd", "kind": "plain", "task": "cr", "seed": 2, "later": [1]}))
    assert read(path) == Record("abcd", "plain", "cr", 2) or math.isnan(read(path).score)
    assert read(path).task == "cr" and read(path).needs == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format": 99}',
        '{"format": 1}',
        "\x00",
        "null",
        '{"format": 1, "digest": "abcd", "kind": "plain", "task": "cr", "seed": 0, "embedding": {"mean": "abc"}}',
        '{"format": 1, "digest": "abcd", "kind": "plain", "task": "cr", "seed": 0, "curve": [{"step": 2}]}',
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, text):
    (tmp_path / "abcd.json").write_text(text)
    with pytest.raises(StudyError) as error:
        read_all(tmp_path)
    assert str(tmp_path / "abcd.json") in str(error.value) and "Delete it" in str(error.value)


def test_a_file_of_a_later_format_says_so(tmp_path):
    (tmp_path / "abcd.json").write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(StudyError, match=f"format up to {FORMAT}"):
        read_all(tmp_path)


def test_a_renamed_record_is_refused(tmp_path):
    write(RECORD, tmp_path).rename(tmp_path / "ffff.json")
    with pytest.raises(StudyError, match="named by its digest"):
        read_all(tmp_path)


def test_no_folder_has_no_records(tmp_path):
    assert read_all(tmp_path / "none") == []
