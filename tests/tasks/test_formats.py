"""What a file is, is seen by its content; it is opened within bounds, or refused with what to do."""

import bz2
import gzip
import lzma
import os
import time
import zipfile
from pathlib import Path

import pyarrow
import pytest

from spot.errors import TaskError
from spot.tasks.formats import (
    UNSAID,
    FileFormat,
    Source,
    bounded_lines,
    check_form,
    ending_format,
    open_bytes,
    open_text,
    recognise,
    standard_input,
)
from spot.tasks.readers import read_rows
from spot.tasks.task_file import load_task

CSV = b"text,label\nwarm,good\ncold,bad\n"


def zipped(data: bytes, *names: str) -> bytes:
    path = Path(os.environ["PYTEST_ZIP"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ("rows.csv",):
            archive.writestr(name, data)
    return path.read_bytes()


def zstandard(data: bytes) -> bytes:
    return pyarrow.compress(data, "zstd", asbytes=True)


def unpacked(path: Path, form: FileFormat = UNSAID) -> int:
    """How many bytes come of a packed file."""
    with open_bytes(path, form) as stream:
        return sum(len(block) for block in iter(lambda: stream.read(1 << 20), b""))


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard, "zip": zipped}


@pytest.fixture(autouse=True)
def _zip_place(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_ZIP", str(tmp_path / "scratch.zip"))


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("name", ["rows.csv.{}", "rows.csv", "rows"])
def test_every_packing_is_seen_whatever_the_name(tmp_path, packing, name):
    path = tmp_path / name.format(packing)
    path.write_bytes(PACKERS[packing](CSV))
    assert (recognise(path).format, recognise(path).packing) == ("csv", packing)
    assert [row["text"] for _, row in read_rows(path)] == ["warm", "cold"]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.csv", b'[{"text": "a"}]', "json"),
        ("a.csv", b'\n {"text": "a"}\n{"text": "b"}\n', "jsonl"),
        ("a.jsonl", b'[{"text": "a"}, {"text": "b"}]', "json"),
        ("a.json", b'{"text": "a"}\n', "jsonl"),
        ("a.txt", b'{"text": "a"}\n', "jsonl"),
        ("a.txt", b"a line\n", "txt"),
        ("a.csv", b"[id],text\n1,a\n", "csv"),
        ("a.csv", b"{id},text\n1,a\n", "csv"),
        ("a.csv", b"PAR1....", "parquet"),
        ("a.csv", b"ARROW1\0\0", "arrow"),
        ("a.json", b'\xff\xfe[\0{\0"\0a\0"\0:\x001\0}\0]\0', "json"),
        ("a.tsv", b"", "tsv"),
        ("a.xlsx", b"text,label\na,b\n", "csv"),
        ("a.arrow", b'{"text": "a"}\n{"text": "b"}\n', "jsonl"),
    ],
)
def test_content_says_the_format_before_the_name(tmp_path, name, data, expected):
    (tmp_path / name).write_bytes(data)
    assert recognise(tmp_path / name).format == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.7", "is a PDF"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a pointer of Git LFS.*git lfs pull"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel file of the old kind.*Save it as .xlsx"),
        (b"SQLite format 3\0", "is a SQLite database"),
        (gzip.compress(gzip.compress(CSV, mtime=0), mtime=0), "is packed twice"),
        (gzip.compress(b"\0" * 257 + b"ustar" + b"\0" * 99, mtime=0), "is a tar archive"),
    ],
)
def test_what_holds_no_rows_is_called_by_its_name(tmp_path, data, words):
    (tmp_path / "rows.csv").write_bytes(data)
    with pytest.raises(TaskError, match=words):
        recognise(tmp_path / "rows.csv")


def test_a_zip_file_of_several_files_is_refused_with_their_names(tmp_path):
    path = tmp_path / "rows.zip"
    path.write_bytes(zipped(CSV, "train.csv", "test.csv"))
    with pytest.raises(TaskError, match=r"holds 2 files \('train.csv', 'test.csv'\): expected one"):
        recognise(path)
    path.write_bytes(zipped(CSV, "train.csv", "__MACOSX/._train.csv"))
    assert recognise(path).format == "csv"


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_a_packed_file_that_ends_early_is_damaged(tmp_path, packing, cut):
    data = PACKERS[packing](bytes(range(256)) * 2000 + os.urandom(5000))
    path = tmp_path / f"rows.csv.{packing}"
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(TaskError, match="damaged"):
        unpacked(path)


def test_a_name_that_promises_packing_is_held_to_it(tmp_path):
    (tmp_path / "rows.csv.gz").write_bytes(CSV)
    with pytest.raises(TaskError, match=r"ends in \.gz and is not packed so"):
        recognise(tmp_path / "rows.csv.gz")


def test_f8_only_regular_files_are_read_and_none_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(TaskError, match=r"is a pipe: expected a regular file.*standard input"):
        recognise(tmp_path / "rows.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    with pytest.raises(TaskError, match="is a device: expected a regular file"):
        recognise(tmp_path / "zero.csv")
    with pytest.raises(TaskError, match="is a folder: expected a regular file"):
        recognise(tmp_path)
    (tmp_path / "task.toml").write_text('name = "a"\nrows = "rows.csv"\n')
    with pytest.raises(TaskError, match=r"rows\.csv is a pipe"):
        load_task(tmp_path / "task.toml")
    with pytest.raises(TaskError, match="is a pipe: expected a task file"):
        load_task(tmp_path / "rows.csv")


def test_f8_an_endless_line_ends_at_its_bound(tmp_path):
    path = tmp_path / "rows.csv"
    with path.open("wb") as file:
        file.truncate(60 << 30)  # sparse: no byte of it is on the disk
    begin = time.monotonic()
    with pytest.raises(TaskError, match=r"line 1: longer than 10,000,000 characters.*max_row"):
        list(read_rows(path))
    assert time.monotonic() - begin < 10


def test_f11_what_unpacks_without_end_is_refused_by_its_ratio_and_by_its_line(tmp_path):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"a" * (64 << 20)))
    with pytest.raises(TaskError, match="longer than 10,000,000 characters"):
        list(read_rows(path))
    path.write_bytes(gzip.compress(b"text,label\n" + b"a,b\n" * (24 << 20)))
    with pytest.raises(TaskError, match=r"unpacks to more than 250 times its size.*max_ratio"):
        unpacked(path)
    assert unpacked(path, FileFormat(max_ratio=5000)) == 11 + (96 << 20)


def test_case15_a_document_of_a_megabyte_is_a_cell(tmp_path):
    path = tmp_path / "rows.csv"
    text = "many words " * 100_000
    path.write_text(f'text,label\n"{text}",good\n{text[:140_000]},bad\n')
    assert [len(row["text"]) for _, row in read_rows(path)] == [1_100_000, 140_000]
    with pytest.raises(TaskError, match=r"line 2: longer than 1,000 characters.*--max-row"):
        list(read_rows(path, FileFormat(max_row=1000)))
    path.write_text('text,label\n"' + "line\n" * 1000)
    with pytest.raises(TaskError, match=r"line 2: longer than 1,000 characters"):
        list(read_rows(path, FileFormat(max_row=1000)))


def test_lines_and_texts_are_streams(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_bytes(b"\xef\xbb\xbfa\nb\r\nc")
    with open_text(path) as text:
        assert list(bounded_lines(text, path, 10)) == ["a\n", "b\r\n", "c"]
    path.write_bytes(b"a\xff")
    with pytest.raises(TaskError, match="is not utf-8 text: byte 0xff at offset 1, line 1"), open_text(path) as text:
        text.read()


def test_standard_input_is_held_up_to_a_bound(tmp_path, monkeypatch):
    (tmp_path / "in").write_bytes(CSV)
    with (tmp_path / "in").open("rb") as stream:
        source = standard_input(stream)
    assert (str(source), [row["label"] for _, row in read_rows(source)]) == ("standard input", ["good", "bad"])
    monkeypatch.setattr("spot.tasks.formats.MAX_INPUT", 10)
    with (tmp_path / "in").open("rb") as stream, pytest.raises(TaskError, match="holds more than 10 bytes"):
        standard_input(stream)


def test_what_is_said_of_a_file_is_checked_at_once():
    wrong = FileFormat(format="cvs", encoding="utf-9", delimiter=";;", quotes="*", max_row=0)
    with pytest.raises(TaskError) as caught:
        check_form(wrong)
    for word in ("did you mean 'csv'", "no encoding 'utf-9'", "delimiter is ';;'", "quotes is '*'", "max_row is 0"):
        assert word in str(caught.value)


def test_endings_and_sources():
    assert [ending_format(Path(name)) for name in ("a.CSV.gz", "a.ndjson", "a.b.parquet", "a.log")] == [
        "csv",
        "jsonl",
        "parquet",
        "",
    ]
    assert str(Source.of(Path("a.csv"))) == "a.csv"
    with pytest.raises(TaskError, match="is no path"):
        recognise(Path("a\0b"))
