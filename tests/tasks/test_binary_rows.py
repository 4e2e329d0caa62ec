"""Parquet, Arrow, workbooks and saved folders are read value by value, or refused in words."""

import datetime
import decimal
import json
import zipfile

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from spot.errors import TaskError
from spot.tasks.binary_rows import Odd, arrow_rows, class_names, is_data_folder, saved_splits, workbook_rows
from spot.tasks.formats import UNSAID, FileFormat, Source
from spot.tasks.readers import read_rows
from spot.tasks.scaffold import init
from spot.tasks.task_file import load_task
from tests.support.workbooks import write_workbook

ROWS = {"text": [f"note {n} of somebody" for n in range(40)], "label": [n % 2 for n in range(40)]}
FEATURES = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})


def saved(folder, shards=1):
    datasets.Dataset.from_dict(ROWS, features=FEATURES).save_to_disk(str(folder), num_shards=shards)
    return folder


def write_arrow(path, table):
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)


def test_case18_a_saved_folder_is_rows_shards_and_all(tmp_path):
    folder = saved(tmp_path / "set", shards=2)
    assert is_data_folder(folder) and not is_data_folder(folder / "state.json")
    rows = [row for _, row in read_rows(folder)]
    assert [row["text"] for row in rows] == ROWS["text"]
    assert [number for number, _ in arrow_rows(Source(folder), UNSAID)] == list(range(1, 41))
    (folder / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(TaskError, match=r"data-00001-of-00002\.arrow does not exist"):
        list(read_rows(folder))


@pytest.mark.parametrize("kind", ["folder", "arrow", "parquet"])
def test_case17_classes_have_their_names(tmp_path, kind):
    rows = {"folder": "set", "arrow": "set/data-00000-of-00001.arrow", "parquet": "rows.parquet"}[kind]
    saved(tmp_path / "set")
    datasets.Dataset.from_dict(ROWS, features=FEATURES).to_parquet(str(tmp_path / "rows.parquet"))
    assert class_names(tmp_path / rows, UNSAID, kind) == {"label": ("bad", "good")}
    (tmp_path / "task.toml").write_text(f'name = "t"\nrows = "{rows}"\n')
    task = load_task(tmp_path / "task.toml")
    assert task.labels == ("bad", "good")
    assert next(task.load("train")).answers == ("bad",)
    (tmp_path / "own.toml").write_text(f'name = "t"\nrows = "{rows}"\nlabels = {{0 = "no", 1 = "yes"}}\n')
    assert load_task(tmp_path / "own.toml").labels == ("no", "yes"), "who names the numbers is believed"
    init(tmp_path / rows, tmp_path / "new.toml")
    assert load_task(tmp_path / "new.toml").labels == ("bad", "good")


def test_a_saved_dict_is_split_by_its_names(tmp_path):
    parts = {"train": 30, "validation": 8, "extra": 2}
    whole = datasets.Dataset.from_dict(ROWS, features=FEATURES)
    datasets.DatasetDict({name: whole.select(range(size)) for name, size in parts.items()}).save_to_disk(
        str(tmp_path / "sets")
    )
    assert saved_splits(tmp_path / "sets") == ("train", "validation", "extra")
    init(tmp_path / "sets", tmp_path / "new.toml")
    (tmp_path / "own.toml").write_text('name = "t"\nrows = "sets"\n')
    for name in ("new.toml", "own.toml"):
        task = load_task(tmp_path / name)
        assert {split: len(list(task.load(split))) for split in task.splits} == {"train": 30, "validation": 8}
    with pytest.raises(TaskError, match="holds the splits 'train', 'validation', 'extra': name one"):
        list(read_rows(tmp_path / "sets"))


def test_parts_of_a_set_must_all_be_there(tmp_path):
    for number in (0, 2):
        pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / f"train-{number:05}-of-00003.parquet")
    with pytest.raises(TaskError, match="holds 2 of the 3 parts"):
        list(read_rows(tmp_path))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["b"]}), tmp_path / "train-00001-of-00003.parquet")
    assert [row["text"] for _, row in read_rows(tmp_path)] == ["a", "b", "a"]
    pyarrow.parquet.write_table(pyarrow.table({"other": ["b"]}), tmp_path / "train-00001-of-00003.parquet")
    with pytest.raises(TaskError, match="expected one kind"):
        list(read_rows(tmp_path))
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "../../x.arrow"}]}')
    with pytest.raises(TaskError, match="names no files of rows"):
        list(read_rows(tmp_path))


def test_f12_values_that_python_has_no_word_for_are_words(tmp_path):
    far = pyarrow.array([2**62, 1], pyarrow.timestamp("s"))
    table = pyarrow.table({"text": ["a b", "c d"], "when": far, "label": ["x", "y"]})
    write_arrow(tmp_path / "rows.arrow", table)
    rows = [row for _, row in read_rows(tmp_path / "rows.arrow")]
    assert isinstance(rows[0]["when"], Odd) and rows[1]["when"] == datetime.datetime(1970, 1, 1, 0, 0, 1)
    assert "when" not in init(tmp_path / "rows.arrow", tmp_path / "t.toml").partition("input = ")[2]
    for name, values in (
        ("when", far),
        ("decimal", [decimal.Decimal("1.0"), decimal.Decimal("2.0")]),
        ("bytes", [b"a", b"b"]),
        ("day", [datetime.date(2020, 1, 1)] * 2),
    ):
        write_arrow(tmp_path / f"{name}.arrow", pyarrow.table({"text": ["a b", "c d"], "label": values}))
        with pytest.raises(TaskError, match=r"row 1: column 'label' holds .*Write the labels as text"):
            init(tmp_path / f"{name}.arrow", tmp_path / f"{name}.toml")
        (tmp_path / f"{name}.own.toml").write_text(f'name = "t"\nrows = "{name}.arrow"\n')
        with pytest.raises(TaskError, match=r"row 1: field 'label' holds .*expected text"):
            load_task(tmp_path / f"{name}.own.toml")


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_f12_flipped_bytes_are_read_or_refused(tmp_path, kind):
    table = pyarrow.table({"text": [f"note {n} é" for n in range(50)], "label": [n % 2 for n in range(50)]})
    path = tmp_path / f"rows.{kind}"
    pyarrow.parquet.write_table(table, path) if kind == "parquet" else write_arrow(path, table)
    data = path.read_bytes()
    refused = 0
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            for _, row in read_rows(path):
                repr(row).encode("utf-8", "surrogatepass")
        except TaskError:
            refused += 1
    assert refused > 10


def test_a_column_that_unpacks_without_end_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    table = pyarrow.table({"text": pyarrow.array(["a" * 100_000] * 3000).dictionary_encode()})
    pyarrow.parquet.write_table(table.cast(pyarrow.schema({"text": pyarrow.string()})), path)
    with pytest.raises(TaskError, match=r"unpacks to more than 250 times its size.*max_ratio"):
        list(read_rows(path))
    assert sum(1 for _ in read_rows(path, FileFormat(max_ratio=10**6))) == 3000


def test_a_workbook_is_rows_of_text(tmp_path):
    path = tmp_path / "rows.xlsx"
    write_workbook(path, {"Data": [["text", "label", "n"], ["warm day", "good", 5], ["cold", "bad", 1.5]], "Empty": []})
    assert [row for _, row in read_rows(path)] == [
        {"text": "warm day", "label": "good", "n": "5"},
        {"text": "cold", "label": "bad", "n": "1.5"},
    ]
    init(path, tmp_path / "t.toml")
    assert load_task(tmp_path / "t.toml").labels == ("bad", "good")


def test_a_workbook_with_several_sheets_a_title_or_damage_is_refused(tmp_path):
    path = tmp_path / "rows.xlsx"
    write_workbook(path, {"A": [["text"], ["a"]], "B": [["text"], ["b"]]})
    with pytest.raises(TaskError, match=r"rows in 2 sheets, 'A', 'B': expected one.*--sheet"):
        list(read_rows(path))
    assert [row["text"] for _, row in read_rows(path, FileFormat(sheet="B"))] == ["b"]
    with pytest.raises(TaskError, match="has no sheet 'C'; it has 'A', 'B'"):
        list(read_rows(path, FileFormat(sheet="C")))
    write_workbook(path, {"A": [["My reviews", ""], ["text", "label"], ["a", "x"]]})
    with pytest.raises(TaskError, match="its first row has one cell, 'My reviews', like a title"):
        list(read_rows(path))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(TaskError, match="damaged"):
        list(read_rows(path))


def test_a_workbook_of_two_far_cells_is_not_laid_out(tmp_path):
    path = tmp_path / "rows.xlsx"
    write_workbook(path, {"A": [["text"], ["a"]]})
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["xl/worksheets/sheet1.xml"] = parts["xl/worksheets/sheet1.xml"].replace(b'r="A2"', b'r="XFD1048576"')
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    with pytest.raises(TaskError, match="a sheet of 1,048,576 rows and 16,384 columns is too large"):
        list(workbook_rows(Source(path), UNSAID))


def test_names_in_a_schema_that_are_no_names_are_passed_over(tmp_path):
    for features in ({"label": {"_type": "ClassLabel", "names": [1]}}, [], {"label": 3}):
        meta = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        write_arrow(tmp_path / "a.arrow", pyarrow.table({"label": [0]}).replace_schema_metadata(meta))
        assert class_names(tmp_path / "a.arrow", UNSAID, "arrow") == {}
