"""Files of every format, packing, encoding and dialect are read back equal, or refused."""

import bz2
import csv
import gzip
import io
import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spot.errors import TaskError
from spot.tasks.detection import see
from spot.tasks.formats import UNSAID, FileFormat
from spot.tasks.readers import read_rows

WORDS = st.text(st.sampled_from("abc dé,;|\t\n\"'ßжя日😀:="), min_size=1, max_size=12)
LABELS = st.sampled_from(["good", "bad", "so so"])
ROWS = st.lists(st.tuples(WORDS, LABELS), min_size=1, max_size=8)
PACKERS = {"": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def read(path, form=UNSAID, *, expected=()):
    seen = see(path, form, expected, guess=True)
    return [row for _, row in read_rows(path, seen.form)]


def write(path, rows, delimiter, quoting, end, encoding, packing):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows([("text", "label"), *rows])
    path.write_bytes(PACKERS[packing](text.getvalue().encode(encoding)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=ROWS,
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]),
    packing=st.sampled_from(sorted(PACKERS)),
    name=st.sampled_from(["rows.csv", "rows.tsv", "rows"]),
)
def test_a_table_in_any_dialect_is_read_back_or_refused(
    tmp_path, rows, delimiter, quoting, end, encoding, packing, name
):
    path = tmp_path / name
    write(path, rows, delimiter, quoting, end, encoding, packing)
    expected = [{"text": text, "label": label} for text, label in rows]
    try:
        found = read(path)
    except TaskError:
        return
    assert found == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=ROWS, delimiter=st.sampled_from(",;\t|"), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_a_table_whose_settings_are_said_is_always_read_back(tmp_path, rows, delimiter, quoting):
    path = tmp_path / "rows.csv"
    write(path, rows, delimiter, quoting, "\n", "utf-8", "")
    form = FileFormat(encoding="utf-8", delimiter=delimiter, quotes='"', skip_space=False, header=True)
    assert read(path, form) == [{"text": text, "label": label} for text, label in rows]


JSON = st.one_of(WORDS, st.integers(-(10**9), 10**9), st.booleans(), st.none())
OBJECTS = st.lists(st.fixed_dictionaries({"text": WORDS, "value": JSON}), min_size=1, max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=OBJECTS,
    array=st.booleans(),
    indent=st.sampled_from([None, 1]),
    packing=st.sampled_from(sorted(PACKERS)),
    name=st.sampled_from(["rows.json", "rows.jsonl", "rows", "rows.csv"]),
)
def test_json_is_read_back_whatever_its_name(tmp_path, rows, array, indent, packing, name):
    text = json.dumps(rows, indent=indent) if array else "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / name).write_bytes(PACKERS[packing](text.encode()))
    assert read(tmp_path / name) == rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({"text": WORDS, "label": st.integers(0, 3)}), min_size=1, max_size=6))
@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_columns_are_read_back_whatever_their_name(tmp_path, kind, rows):
    table = pyarrow.Table.from_pylist(rows)
    path = tmp_path / "rows.csv"
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        writer = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
        with pyarrow.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as out:
            out.write_table(table)
    assert read(path) == rows


def test_case16_a_file_without_a_header_loses_no_row_and_says_so(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('"1","Team wins","It ended late."\n"2","Bank cuts","Shares rose."\n"1","Coach leaves","Tired."\n')
    seen = see(path)
    assert not seen.is_usual and "no header, as '1' stands below it again, in row 3" in "; ".join(seen.words)
    assert [list(row) for row in read(path)] == [["column_1", "column_2", "column_3"]] * 3
    assert [row["column_1"] for row in read(path)] == ["1", "2", "1"]
    assert len(read(path, FileFormat(header=True))) == 2, "who says that there is a header is believed"


def test_case13_a_header_that_ends_in_delimiters_and_an_old_encoding(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("v1,v2,,\r\nham,It\u2019s £5 for \u201cboth\u201d,,\r\nspam,win,now,\r\n".encode("cp1252"))
    seen = see(path, guess=True)
    assert (seen.form.encoding, seen.encoding.sample) == ("cp1252", "It\u2019s")
    assert read(path)[1] == {"v1": "spam", "v2": "win", "column_3": "now", "column_4": ""}


def test_case11_marks_that_are_text_lose_no_row(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n"The soup\tbad\ncold.\tbad\nuntil"\tbad\nwarm\tgood\n')
    assert len(read(path)) == 4
    assert "quotation marks are text: 4 rows in 5 lines" in "; ".join(see(path).words)
    assert len(read(path, FileFormat(quotes='"'))) == 2, "who says that marks enclose is believed"


def test_what_is_usual_is_not_worth_a_word(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,x\nb,y\n")
    assert see(path).is_usual
    path.write_text("text;label\na;x\nb;y\n")
    assert not see(path).is_usual
    (tmp_path / "rows.jsonl").write_text('[{"a": 1}]')
    assert not see(tmp_path / "rows.jsonl").is_usual


def test_a_folder_and_what_is_said_stand(tmp_path):
    (tmp_path / "set").mkdir()
    assert see(tmp_path / "set").form.format == "arrow"
    (tmp_path / "rows.log").write_text("a:b\nc:d\n")
    form = see(tmp_path / "rows.log", FileFormat(format="csv", delimiter=":", header=False)).form
    assert (form.delimiter, form.header, form.encoding) == (":", False, "utf-8")


def test_the_whole_file_is_looked_at_and_not_its_beginning_alone(tmp_path):
    path = tmp_path / "rows.tsv"
    lines = [f"row {n} is long enough\t{'xy'[n % 2]}\n" for n in range(5000)]
    path.write_text("text\tlabel\n" + "".join(lines) + '"swallows\tx\nthese\ty\nrows"\tx\n')
    assert len(read(path)) == 5003
