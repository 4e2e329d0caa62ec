"""The record of a cell: what is written is read again, by every version."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from spot.errors import StudyError
from spot.study.records import (
    RECORD_FORMAT,
    Record,
    RecordFolder,
    read_finished,
    read_record,
    read_records,
    write_record,
)
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
    path = write_record(RECORD, tmp_path / "cells")
    found = read_record(path)
    assert path.name == "abcd.json" and found == RECORD
    np.testing.assert_array_equal(found.embedding["mean"], RECORD.embedding["mean"])
    assert path.read_bytes() == write_record(found, tmp_path / "again").read_bytes()


def test_a_cell_without_a_score_is_nan_with_a_reason(tmp_path):
    found = read_record(write_record(Record("abcd", "plain", "cr", 0, reason="it diverged"), tmp_path))
    assert math.isnan(found.score) and found.reason == "it diverged" and found.interval is None


def test_files_of_an_older_version_are_read_and_unknown_fields_passed_over(tmp_path):
    path = tmp_path / "abcd.json"
    path.write_text(json.dumps({"format": 1, "digest": "abcd", "kind": "plain", "task": "cr", "seed": 2, "later": [1]}))
    assert read_record(path) == Record("abcd", "plain", "cr", 2) or math.isnan(read_record(path).score)
    assert read_record(path).task == "cr" and read_record(path).needs == ()


def file_of(**changes) -> str:
    """A record's file with some fields changed; of None the field is missing."""
    values = {"format": 1, "digest": "abcd", "kind": "plain", "task": "cr", "seed": 0, **changes}
    return json.dumps({name: value for name, value in values.items() if value is not None})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("\x00", "it is not JSON"),
        ("[]", "found []"),
        ("null", "found None"),
        ("{}", "the field 'format' is missing"),
        ('{"format": 1}', "the field 'digest' is missing; the field 'kind' is missing"),
        (file_of(format="1"), "the field 'format' holds '1'"),
        (file_of(format=0), "it is of format 0"),
        (file_of(kind="plane"), "the field 'kind' holds 'plane'"),
        (file_of(seed=None), "the field 'seed' is missing"),
        (file_of(seed=1.5), "the field 'seed' holds 1.5"),
        (file_of(tokens="many"), "the field 'tokens' holds 'many'"),
        (file_of(score="81"), "the field 'score' holds '81'"),
        (file_of(score=math.inf), "the field 'score' holds inf"),
        (file_of(scores={"accuracy": [1]}), "the field 'scores.accuracy' holds [1]"),
        (file_of(sources=["cr", 3]), "the field 'sources.1' holds 3"),
        (file_of(interval=[1.0]), "the field 'interval.1' is missing"),
        (file_of(embedding={"mean": "abc"}), "the field 'embedding.mean' holds 'abc'"),
        (file_of(embedding={"mean": 3}), "the field 'embedding.mean' holds 3; it should be float32 numbers in base64"),
        (file_of(curve=[{"step": 2}]), "the field 'curve.0.score' is missing"),
    ],
)
def test_a_damaged_file_is_named_with_its_fields_and_what_to_do(tmp_path, text, problem):
    (tmp_path / "abcd.json").write_text(text)
    with pytest.raises(StudyError) as error:
        read_records(tmp_path)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'abcd.json'} is no record of a study's cell: ")
    assert problem in message and "Delete it" in message


def test_a_file_of_a_later_format_says_so(tmp_path):
    (tmp_path / "abcd.json").write_text(json.dumps({"format": RECORD_FORMAT + 1}))
    with pytest.raises(StudyError, match=f"reads formats up to {RECORD_FORMAT}"):
        read_records(tmp_path)


def test_a_renamed_record_is_refused(tmp_path):
    write_record(RECORD, tmp_path).rename(tmp_path / "ffff.json")
    with pytest.raises(StudyError, match="named by its digest"):
        read_records(tmp_path)


def test_no_folder_has_no_records(tmp_path):
    assert read_records(tmp_path / "none") == []


def test_records_that_a_killed_run_left_are_landed(tmp_path):
    write_record(RECORD, tmp_path / "pending")
    folder = RecordFolder(tmp_path, {"abcd": "pair glue/sst2 -> cr, seed 1"})
    assert folder.records == {"abcd": RECORD} and not (tmp_path / "pending").exists()
    assert read_records(tmp_path / "cells") == [RECORD]


def test_records_of_a_gang_are_added_all_or_none(tmp_path):
    folder = RecordFolder(tmp_path, {"abcd": "", "ef": ""})
    broken = replace(RECORD, digest="ef", scores={"accuracy": math.nan})
    with pytest.raises(ValueError, match="JSON"):
        folder.add([RECORD, broken])
    assert folder.records == {} and list(tmp_path.rglob("*.json")) == []
    folder.add([RECORD, replace(RECORD, digest="ef")])
    assert set(folder.records) == {"abcd", "ef"} == {path.stem for path in (tmp_path / "cells").iterdir()}


def test_records_of_other_cells_are_left_out(tmp_path):
    write_record(RECORD, tmp_path)
    assert read_finished(tmp_path, {"ef"}) == {} and set(read_finished(tmp_path, {"abcd", "ef"})) == {"abcd"}
