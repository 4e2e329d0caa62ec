"""What csv, json and pyarrow write is read back; files that cannot be read are refused clearly."""

import csv
import gzip
import json

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spot.errors import TaskError
from spot.tasks.formats import FileFormat
from spot.tasks.readers import json_rows, read_rows

CELL = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "tsv.gz"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8))
def test_tables_written_by_the_csv_module_are_read_back(tmp_path, suffix, rows):
    path = tmp_path / f"rows.{suffix}"
    opener = gzip.open if "gz" in suffix else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if "tsv" in suffix else ",")
        writer.writerows([("text", "the, label"), *rows])
    assert list(read_rows(path)) == [(n, {"text": a, "the, label": b}) for n, (a, b) in enumerate(rows, start=1)]


JSON = st.one_of(CELL, st.integers(), st.booleans(), st.none(), st.lists(CELL, max_size=2))


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "ndjson"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.dictionaries(CELL, JSON, max_size=3), min_size=1, max_size=8), ascii_only=st.booleans())
def test_json_lines_are_read_back(tmp_path, suffix, rows, ascii_only):
    path = tmp_path / f"rows.{suffix}"
    data = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    assert list(read_rows(path)) == list(enumerate(rows, start=1))


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_arrow_files_and_streams_are_read_back(tmp_path, kind):
    rows = [{"text": f"row {number}", "label": number % 2, "score": number / 4, "none": None} for number in range(25)]
    table = pyarrow.Table.from_pylist(rows)
    path = tmp_path / "rows.arrow"
    writer = pyarrow.ipc.new_stream if kind == "stream" else pyarrow.ipc.new_file
    with pyarrow.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as out:
        out.write_table(table, max_chunksize=10)
    assert list(read_rows(path)) == list(enumerate(rows, start=1))
    damaged = tmp_path / "half.feather"
    damaged.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(TaskError, match=r"half.feather"):
        list(read_rows(damaged))


def test_a_byte_order_mark_blank_lines_and_any_line_end_are_passed_over(tmp_path):
    expected = [(1, {"text": "a", "label": "x"}), (2, {"text": "b", "label": "y"})]
    for end in ("\n", "\r\n", "\r"):
        path = tmp_path / "rows.csv"
        path.write_bytes(b"\xef\xbb\xbf" + end.join(["text,label", "", "a,x", "b,y", "", ""]).encode())
        assert list(read_rows(path)) == expected
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"}')
    assert list(read_rows(path)) == [(1, {"text": "a"}), (3, {"text": "b"})]


def test_other_encodings_are_read_when_named(tmp_path):
    path = tmp_path / "rows.csv"
    for encoding in ("cp1252", "utf-16"):
        path.write_bytes("text,label\r\ncafé,x\r\n".encode(encoding))
        assert list(read_rows(path, FileFormat(encoding=encoding))) == [(1, {"text": "café", "label": "x"})]


def test_rows_stream(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,x\nb\n")
    rows = read_rows(path)
    assert next(rows) == (1, {"text": "a", "label": "x"})  # the damaged second row is not reached
    rows.close()


BAD_FILES = [
    ("rows.csv", b"", "is empty: expected a header and rows"),
    ("rows.csv", b"\r\n\n", "is empty: expected a header and rows"),
    ("rows.jsonl", b"\n\n", "is empty: expected one JSON object a line"),
    ("rows.arrow", b"", "is empty: expected Arrow rows"),
    ("rows.csv", b"text,label\na,x\nb\n", r"row 2 \(line 3\): found 1 cells, the header has 2"),
    ("rows.csv", b"text,label\na, b,x\n", "a cell that holds a comma needs quotation marks"),
    ("rows.tsv", b"text\tlabel\na\tb\tx\n", "a cell that holds a tab needs quotation marks"),
    ("rows.csv", b"text,label,text\na,b,c\n", "column 'text' stands in the header more than once"),
    ("rows.csv", b'text,label\n"a,x\nb,y\n', "line 3: unexpected end of data.* write quotes = false"),
    ("rows.tsv", b'text\tlabel\n"a" b\tx\n', "line 2: .* write quotes = false"),
    ("rows.csv", b"text,label\na,x\ncaf\xe9,y\n", "is not utf-8 text: byte 0xe9 at offset 18, line 3.*encoding = "),
    ("rows.csv.gz", gzip.compress(b"text\n\xff", mtime=0), "is not utf-8 text: byte 0xff at offset 5, line 2"),
    ("rows.jsonl", b'{"a": 1}\n{"a": \n', "line 2: not JSON"),
    ("rows.jsonl", b"[" * 100_000, "line 1: not JSON"),
    ("rows.jsonl", b'{"a": 1}\n[1, 2]\n', r"line 2: found '\[1, 2\]', expected a JSON object"),
    ("rows.csv.gz", b"text,label\na,x\n", "is damaged"),
    ("rows.csv.gz", gzip.compress(b"text,label\na,x\n" * 99, mtime=0)[:-12], "is damaged"),
    ("rows.arrow", b"no arrow at all, but long enough", "is no Arrow IPC file or stream, or is damaged"),
    ("rows.xlsx", b"PK", "is a damaged workbook"),
    ("rows.arrow.gz", b"", "is empty: expected Arrow rows"),
]


@pytest.mark.parametrize(("name", "data", "message"), BAD_FILES)
def test_bad_row_files_are_refused_by_name(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(TaskError, match=message) as caught:
        list(read_rows(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["gone.csv", "gone.jsonl.gz", "gone.arrow"])
def test_missing_files_and_folders_are_refused(tmp_path, name):
    with pytest.raises(TaskError, match="does not exist: expected a file with rows"):
        list(read_rows(tmp_path / name))
    (tmp_path / name).mkdir()
    with pytest.raises(TaskError, match=name):
        list(read_rows(tmp_path / name))


def test_a_table_whose_marks_are_plain_text(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n"open\tx\n5" disk\ty\n')
    assert [row["text"] for _, row in read_rows(path, FileFormat(quotes=""))] == ['"open', '5" disk']


def test_json_rows_stream_without_reading_on(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\nbroken\n')
    rows = json_rows(path)
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(TaskError, match="line 2"):
        next(rows)
