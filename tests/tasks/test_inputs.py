"""Rows to answer: read by field name, from files of every kind and from values, and what is refused."""

import gzip
import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest

from spot.errors import TaskError
from spot.reading import Reading
from spot.tasks.formats import FileFormat, standard_input
from spot.tasks.inputs import inputs_of, read_inputs, rows_of
from spot.tasks.task_file import load_task

REVIEW = Reading(template="say: {review}")
PAIR = Reading(template="a: {premise} b: {hypothesis}")
ROWS = [{"id": "1", "review": "fine {x}"}, {"id": "2", "review": "poor"}]
EXPECTED = ["say: fine {x}", "say: poor"]


def inputs(source: Path | str, reading: Reading = REVIEW, **said: Any) -> list[str]:
    return [example.inputs for example in read_inputs(str(source), reading, FileFormat(**said))]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("new.csv", "id,review\n1,fine {x}\n2,poor\n"),
        ("new.tsv", "review\tid\nfine {x}\t1\npoor\t2\n"),
        ("new.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("new.json", json.dumps(ROWS, indent=1)),
        ("lines.json", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("new.txt", "fine {x}\npoor\n"),
        ("windows.txt", "fine {x}\r\npoor"),
    ],
)
@pytest.mark.parametrize("is_packed", [False, True])
def test_rows_are_read_by_the_fields_of_training(tmp_path: Path, name: str, content: str, is_packed: bool):
    path = tmp_path / (f"{name}.gz" if is_packed else name)
    path.write_bytes(gzip.compress(content.encode()) if is_packed else content.encode())
    assert inputs(path) == EXPECTED


def test_spare_fields_are_passed_over_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "new.json").write_text(json.dumps([{**row, "inputs": "not this", "label": "x"} for row in ROWS]))
    with caplog.at_level(logging.WARNING, logger="spot"):
        assert inputs(tmp_path / "new.json") == EXPECTED
    assert [record.message.partition("fields ")[2] for record in caplog.records] == [
        "'id', 'inputs', 'label' are passed over; read are 'review'"
    ]


def test_a_column_called_inputs_is_a_column(tmp_path: Path):
    (tmp_path / "new.csv").write_text("inputs,targets\nfine,good\n")
    assert inputs(tmp_path / "new.csv", Reading(template="sentence: {inputs}")) == ["sentence: fine"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("new.csv", "id,reviews\n1,fine\n", "no field 'review'; the prompt reads 'review', and the row has 'id'"),
        ("new.jsonl", '{"review": "a"}\n{"text": "b"}\n', "row 2 has no field 'review'"),
        ("new.jsonl", '{"review": 3}\n', "row 1: field 'review' holds 3, expected text"),
        ("new.jsonl", '{"review": null}\n', "row 1: field 'review' holds None, expected text"),
        ("new.csv", "review\n \n", "row 1: no text in 'review'"),
        ("new.csv", "review\n", "holds no rows"),
        ("new.txt", "", "holds no rows"),
        ("new.json", "[]", "expected an array of objects"),
        ("new.json", "[1, 2]", "row 1: found 1, expected a JSON object"),
        ("new.json", '"text"', "expected an array of objects"),
        ("new.json", "[{", "is not JSON"),
        ("new.xyz", "fine\n", "new.xyz: no known format of rows; expected .csv"),
        ("new", "fine\n", "no known format of rows"),
    ],
)
def test_what_cannot_be_answered_is_named(tmp_path: Path, name: str, content: str, message: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(TaskError, match=message):
        inputs(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(TaskError, match="does not exist"):
        inputs(tmp_path / "none.csv")


def test_plain_lines_need_one_field(tmp_path: Path):
    (tmp_path / "new.txt").write_text("it rains\n")
    with pytest.raises(TaskError, match="is one text, and the prompt reads 2 fields, 'premise', 'hypothesis'"):
        inputs(tmp_path / "new.txt", PAIR)


def test_standard_input_must_be_told_its_format(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("review\nfine\n"))
    with pytest.raises(TaskError, match="standard input has no name that says what it holds: give --format"):
        inputs("-")
    with pytest.raises(TaskError, match="format is 'cvs'; did you mean 'csv'"):
        inputs("-", format="cvs")


def test_the_encoding_of_training_serves_a_file_that_is_not_utf8(tmp_path: Path):
    reading = Reading(template="{text}", encoding="cp1252")
    (tmp_path / "old.csv").write_bytes("text\ncafé\n".encode("cp1252"))
    (tmp_path / "new.csv").write_bytes("text\ncafé\n".encode())
    assert inputs(tmp_path / "old.csv", reading) == inputs(tmp_path / "new.csv", reading) == ["café"]
    assert inputs(tmp_path / "old.csv", Reading(template="{text}"), encoding="cp1252") == ["café"]
    with pytest.raises(TaskError, match="is not utf-8 text"):
        inputs(tmp_path / "old.csv", Reading(template="{text}"))


def test_quotes_are_as_training_read_them_unless_told(tmp_path: Path):
    (tmp_path / "new.tsv").write_text('text\n"so" he said\n')
    assert inputs(tmp_path / "new.tsv", Reading(template="{text}", quotes=False)) == ['"so" he said']
    assert inputs(tmp_path / "new.tsv", Reading(template="{text}"), quotes="") == ['"so" he said']


@pytest.mark.parametrize(
    "values",
    [ROWS, tuple(ROWS), pandas.DataFrame(ROWS), pyarrow.Table.from_pylist(ROWS), iter(ROWS)],
    ids=["list", "tuple", "pandas", "pyarrow", "iterator"],
)
def test_values_of_every_kind_are_rows(values: object):
    assert [example.inputs for example in inputs_of(rows_of(values), REVIEW)] == EXPECTED


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "no rows were given"),
        ("text", "one text was given: expected a list"),
        ({"review": "a"}, "one mapping was given"),
        (5, "found 5, expected a list"),
        ([3], "row 1 is 3, expected a text or a mapping"),
        ([None], "row 1 is None"),
        (pandas.DataFrame(), "no rows were given"),
    ],
)
def test_values_that_are_no_rows_are_refused(values: object, message: str):
    with pytest.raises(TaskError, match=message):
        rows_of(values)


def test_a_known_form_reads_its_fields_and_a_text_for_its_sentence():
    reading = Reading(form="glue/sst2")
    rows = rows_of(["fine", {"sentence": "fine"}, {"text": "fine"}])
    assert {example.inputs for example in inputs_of(rows, reading)} == {"sentence: fine"}
    prefixed = Reading(form="glue/sst2", task_prefix=True)
    assert next(inputs_of(rows_of(["fine"]), prefixed)).inputs == "sst2 sentence: fine"
    with pytest.raises(TaskError, match=r"has no field 'sentence'.* The prompt's task glue/sst2 reads it"):
        list(inputs_of(rows_of([{"review": "fine"}]), reading))


@pytest.mark.parametrize("reading", [Reading(), Reading(form="somebody/else")])
def test_where_nothing_says_what_is_read_nothing_is_guessed(reading: Reading):
    with pytest.raises(
        TaskError, match=r"does not say which fields it reads.* name the file of its task \(--task FILE\)"
    ):
        list(inputs_of(rows_of(["fine"]), reading))


INNER = "one\u2028two\x0cthree\x85four\x1cfive"  # what `str.splitlines` would cut


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_rows_end_at_line_feeds_alone(tmp_path: Path, end: str, last: bool):
    lines, packed = tmp_path / "rows.txt", tmp_path / "rows.jsonl"
    lines.write_bytes(end.join([INNER, "six", *[""] * last]).encode())
    row = json.dumps({"text": INNER.replace("\x0c", " ").replace("\x1c", " ")}, ensure_ascii=False)
    packed.write_bytes(end.join([row, '{"text": "six"}', *[""] * last]).encode())
    reading = Reading(template="{text}")
    assert [example.inputs for example in read_inputs(str(lines), reading)] == [INNER, "six"]
    inputs = [example.inputs for example in read_inputs(str(packed), reading)]
    assert inputs == [json.loads(row)["text"], "six"] and "\u2028" in inputs[0]


def test_case39_content_says_what_is_to_be_answered(tmp_path: Path):
    rows = [{"review": "a warm day"}, {"review": "a cold, wet day"}]
    (tmp_path / "new.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "new.txt").write_text('id,review\n1,a warm day\n2,"a cold, wet day"\n')
    (tmp_path / "semi.csv").write_text("id;review\n1;a warm day\n2;a cold, wet day\n")
    (tmp_path / "bars.data").write_text("id|review\n1|a warm day\n2|a cold, wet day\n")
    (tmp_path / "packed").write_bytes(gzip.compress(json.dumps(rows).encode()))
    expected = ["say: a warm day", "say: a cold, wet day"]
    for name in ("new.json", "new.txt", "semi.csv", "packed"):
        assert inputs(tmp_path / name) == expected, name
    assert inputs(tmp_path / "bars.data", format="csv") == expected


def test_case39_a_first_line_that_is_a_name_is_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "new.txt").write_text("review\na warm, dry day\n")
    assert inputs(tmp_path / "new.txt") == ["say: a warm, dry day"]
    assert "its first line, 'review', is taken for the name of the column" in caplog.text
    assert inputs(tmp_path / "new.txt", format="txt") == ["say: review", "say: a warm, dry day"]
    assert "is answered like a text" in caplog.text


def test_case39_standard_input_is_a_table_where_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "in").write_text("id;review\n1;a warm day\n")
    for form in ("csv", "tsv"):
        with (tmp_path / "in").open("rb") as stream:
            monkeypatch.setattr("spot.tasks.inputs._standard_input", lambda stream=stream: standard_input(stream))
            assert inputs("-", format=form) == ["say: a warm day"]


def test_case37_a_task_without_an_input_trains_and_predicts_on_the_same_column(tmp_path: Path):
    (tmp_path / "lf.csv").write_text("label,review\nbad,it was broken\ngood,it was fine\n")
    (tmp_path / "new.csv").write_text("id,review\n100,it was broken\n101,it was fine\n")
    (tmp_path / "lf.toml").write_text('name = "lf"\nrows = "lf.csv"\n')
    task = load_task(tmp_path / "lf.toml")
    trained = [row.inputs for row in task.load("train")]
    assert inputs(tmp_path / "new.csv", task.reading) == trained == ["sentence: it was broken", "sentence: it was fine"]
    assert inputs(tmp_path / "lf.csv", task.reading) == trained


def test_case38_a_column_called_inputs_is_read_like_another(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("inputs,targets\nthe room is bad,bad\nthe lamp is fine,good\n")
    (tmp_path / "t.toml").write_text('name = "t"\nrows = "rows.csv"\nlabel = "targets"\n')
    task = load_task(tmp_path / "t.toml")
    assert inputs(tmp_path / "rows.csv", task.reading) == [row.inputs for row in task.load("train")]


def test_rows_without_a_header_are_read_by_the_columns_of_training(tmp_path: Path):
    (tmp_path / "new.csv").write_text("3,A warm day\n4,A cold day\n")
    assert inputs(tmp_path / "new.csv", Reading(template="{column_2}")) == ["A warm day", "A cold day"]


def test_f8_inputs_are_regular_files_within_bounds(tmp_path: Path):
    os.mkfifo(tmp_path / "new.csv")
    with pytest.raises(TaskError, match="is a pipe"):
        inputs(tmp_path / "new.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    with pytest.raises(TaskError, match="is a device"):
        inputs(tmp_path / "zero.csv")
    (tmp_path / "long.csv").write_text("review\n" + "a" * 2000 + "\n")
    with pytest.raises(TaskError, match="longer than 1,000 characters"):
        inputs(tmp_path / "long.csv", max_row=1000)
