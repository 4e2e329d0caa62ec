"""The record of a cell: what is written is read again, by every version."""

import json
import math
import os

import numpy as np
import pytest

from spot.errors import StudyError
from spot.library.history import encode_summary
from spot.study.answers import RowAnswers
from spot.study.records import RECORD_FORMAT, Record, read_record, read_records, write_record
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
    answers=RowAnswers(rows="AAAA", given="AA==", correct="1"),
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
        (file_of(score=True), "the field 'score' holds True"),
        (file_of(score=1e9), "the field 'score' holds 1000000000.0"),
        (file_of(scores={"accuracy": -101}), "the field 'scores.accuracy' holds -101"),
        (file_of(as_is=101), "the field 'as_is' holds 101"),
        (file_of(frozen="50"), "the field 'frozen' holds '50'"),
        (file_of(interval=[0.0, 1e300]), "the field 'interval.1' holds 1e+300"),
        (file_of(similarity={"mean": 1.5}), "the field 'similarity.mean' holds 1.5"),
        (file_of(weights=[-0.5, 1.5]), "the field 'weights.0' holds -0.5"),
        (
            file_of(embedding={"mean": encode_summary(np.array([np.nan, 1.0], "<f4"))}),
            "should be finite float32 numbers",
        ),
        (file_of(embedding={"mean": ""}), "should be finite float32 numbers"),
        (file_of(curve=[{"step": 2, "score": 1.0}, {"step": 2, "score": 1.0}]), "should rise in steps"),
        (file_of(curve={"step": 2}), "the field 'curve' holds {'step': 2}"),
        (file_of(steps=-1), "the field 'steps' holds -1"),
        (file_of(k=True), "the field 'k' holds True"),
        (file_of(seed=10**30), "is out of range"),
        (file_of(rows={"report": -1}), "the field 'rows.report' holds -1"),
        (file_of(tokens=1.5), "the field 'tokens' holds 1.5"),
        (file_of(data=7), "the field 'data' holds 7"),
        (file_of(task="\ud800"), "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        (file_of(config={"steps": "deep"}).replace('"deep"', "[" * 5000 + "]" * 5000), "it is not JSON"),
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


@pytest.mark.parametrize("kind", ["FIFO", "link", "folder", "endless"])
def test_what_is_no_regular_file_is_no_record(tmp_path, kind):
    path = tmp_path / "cells" / "abcd.json"
    path.parent.mkdir()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        write_record(RECORD, tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere" / "abcd.json")
    else:
        path.touch()
        os.truncate(path, 10**12)
    with pytest.raises(StudyError, match=f"{path} is no record of a study's cell: "):
        read_record(path)


def test_no_folder_has_no_records(tmp_path):
    assert read_records(tmp_path / "none") == []
