"""Splits never share a text, are the same every time and respect their limits; row readers refuse clearly."""

import csv
import gzip
import json
import random
import weakref
from collections import Counter
from dataclasses import replace

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spot.errors import TaskError
from spot.tasks.readers import json_rows, read_rows
from spot.tasks.splits import split_rows
from spot.tasks.task import Example, Task, check_split, data_digest, text_key

ROLES = ("train", "selection", "report")


def task_of(splits, groups=None):
    """A task over texts in memory: split -> texts."""

    def load(split):
        for number, text in enumerate(splits[split]):
            group = (groups or {}).get(text, "")
            yield Example(f"{split}/{number}", f"sentence: {text}", ("yes",), group, (text,))

    return Task("toy", load, tuple(splits), ("no", "yes"), ("accuracy",))


def words(count, start=0):
    return [f"row number {number} of many" for number in range(start, start + count)]


def test_validation_selects_and_test_reports():
    task = task_of({"train": words(50), "validation": words(30, 100), "test": words(20, 200)})
    found = split_rows(task, None, 10, 400, seed=0)
    assert [len(getattr(found, role)) for role in ROLES] == [50, 10, 20]
    assert {row.id.split("/")[0] for row in found.selection} == {"validation"}
    assert {row.id.split("/")[0] for row in found.report} == {"test"}


def test_validation_alone_is_halved():
    found = split_rows(task_of({"train": words(50), "validation": words(1000, 100)}), None, None, None, seed=0)
    assert len(found.selection) + len(found.report) == 1000
    assert 440 <= len(found.selection) <= 560
    assert len(found.train) == 50


def test_test_without_validation_leaves_a_fifth_of_train_to_select():
    found = split_rows(task_of({"train": words(1000), "test": words(50, 2000)}), None, None, None, seed=0)
    assert len(found.train) + len(found.selection) == 1000
    assert 160 <= len(found.selection) <= 240
    assert {row.id.split("/")[0] for row in found.report} == {"test"}


def test_train_alone_is_parted_60_20_20():
    found = split_rows(task_of({"train": words(2000)}), None, None, None, seed=0)
    assert [len(getattr(found, role)) / 2000 for role in ROLES] == pytest.approx([0.6, 0.2, 0.2], abs=0.03)


def test_the_parts_are_the_same_under_every_seed_and_for_more_rows():
    task = task_of({"train": words(300)})
    whole = split_rows(task, None, None, None, seed=0)
    for seed in range(5):
        sample = split_rows(task, 20, 20, 20, seed)
        for role in ROLES:
            assert set(getattr(sample, role)) < set(getattr(whole, role))
    assert split_rows(task, 20, 20, 20, 0) != split_rows(task, 20, 20, 20, 1)
    more = split_rows(task_of({"train": words(400)}), None, None, None, seed=0)
    for role in ROLES:
        assert {row.inputs for row in getattr(whole, role)} <= {row.inputs for row in getattr(more, role)}


def test_a_smaller_sample_is_a_part_of_a_larger_one_in_the_order_of_the_file():
    task = task_of({"train": words(300)})
    small, large = split_rows(task, 10, 5, 5, 7), split_rows(task, 40, 5, 5, 7)
    assert set(small.train) < set(large.train)
    numbers = [int(row.id.split("/")[1]) for row in large.train]
    assert numbers == sorted(set(numbers))


def test_samples_are_spread_over_the_rows():
    task = task_of({"train": words(400), "validation": words(400, 1000), "test": words(9, 5000)})
    counts = Counter(row.id for seed in range(60) for row in split_rows(task, 40, 5, 5, seed).train)
    assert len(counts) > 390  # each row is drawn 6 times on average
    assert max(counts.values()) < 20


def test_the_order_of_the_file_does_not_change_the_parts():
    found = split_rows(task_of({"train": words(200)}), None, None, None, seed=0)
    shuffled = words(200)
    random.Random(0).shuffle(shuffled)
    moved = split_rows(task_of({"train": shuffled}), None, None, None, seed=0)
    for role in ROLES:
        assert {row.inputs for row in getattr(moved, role)} == {row.inputs for row in getattr(found, role)}


TEXT = st.sampled_from(
    ["Good film!", "good  film", "Bad film", "A b c", ":-)", ":-(", "?", "ünïcode", "x1", "x2", "x3"]
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(st.one_of(TEXT, st.text(min_size=1, max_size=4)), min_size=3, max_size=60),
    shape=st.sampled_from([("train",), ("train", "validation"), ("train", "test"), ("train", "validation", "test")]),
    limits=st.tuples(*[st.one_of(st.none(), st.integers(1, 20))] * 3),
    seed=st.integers(0, 5),
)
def test_roles_share_no_text_are_deterministic_and_respect_limits(rows, shape, limits, seed):
    cut = [rows[part :: len(shape)] for part in range(len(shape))]
    task = task_of(dict(zip(shape, cut, strict=True)))
    try:
        found = split_rows(task, *limits, seed)
        assert found.report
    except TaskError as error:
        assert "has no row left for" in str(error)
        return
    parts = [getattr(found, role) for role in ROLES]
    keys = [{text_key(row) for row in part} for part in parts]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    assert len({row.id for part in parts for row in part}) == sum(map(len, parts))
    assert found == split_rows(task, *limits, seed)
    everything = split_rows(task, None, None, None, seed)
    for role, part, limit in zip(ROLES, parts, limits, strict=True):
        whole = getattr(everything, role)
        assert len(part) == len(whole) if limit is None else len(part) == min(limit, len(whole))


def test_a_text_of_two_splits_selects_rather_than_trains_and_a_test_row_gives_way():
    task = task_of(
        {
            "train": ["shared text", "own text"],
            "validation": ["Shared TEXT.", "v"],
            "test": ["shared, text!", "v!", "own text", "t"],
        }
    )
    found = split_rows(task, None, None, None, 0)
    assert [row.texts[0] for row in found.train] == ["own text"]
    assert [row.texts[0] for row in found.selection] == ["Shared TEXT.", "v"]
    assert [row.texts[0] for row in found.report] == ["t"]
    task = task_of({"train": ["shared text", "own text"], "validation": ["Shared TEXT."], "test": ["own, text!"]})
    found = split_rows(task, None, None, None, 0)
    with pytest.raises(TaskError, match="report: found 1 for train, 1 for selection, 0 for report"):
        len(found.report)


def test_the_test_split_is_closed_until_its_rows_are_asked_for():
    rows = {"train": ["a text", "more text"], "validation": ["v"], "test": ["t"]}
    opened = []

    def load(split):
        opened.append(split)
        return task_of(rows).load(split)

    found = split_rows(replace(task_of(rows), load=load), None, None, None, 0)
    assert len(found.train) == 2 and len(found.selection) == 1 and "test" not in opened
    assert [row.texts[0] for row in found.report] == ["t"] and "test" in opened


def test_texts_without_letters_are_told_apart():
    first, second = (Example("1", "", (), texts=(text,)) for text in (":-)", ":-("))
    assert text_key(first) != text_key(second)
    assert text_key(Example("1", "", (), texts=("a", "b c"))) != text_key(Example("1", "", (), texts=("a b", "c")))


def test_rows_of_one_group_stay_together():
    texts = words(300)
    groups = {text: f"passage {number // 10}" for number, text in enumerate(texts)}
    found = split_rows(task_of({"train": texts}, groups), None, None, None, 0)
    seen = [{row.group for row in getattr(found, role)} for role in ROLES]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert all(seen)


GROUPED = st.lists(st.integers(1, 6), min_size=1, max_size=12)  # rows of each group


def grouped_task(sizes, split):
    """A task whose rows of one split stand in groups of these sizes, in mixed order."""
    names = [f"question {number}" for number, size in enumerate(sizes) for _ in range(size)]
    random.Random(0).shuffle(names)
    texts = [f"answer {number} to it" for number in range(len(names))]
    splits = {"train": ["a train row"], "validation": ["a validation row"], split: texts}
    return task_of(splits, dict(zip(texts, names, strict=True)))


@pytest.mark.parametrize(("split", "role"), [("validation", "selection"), ("test", "report")])
@given(sizes=GROUPED, limits=st.tuples(st.integers(1, 30), st.integers(1, 30)), seed=st.integers(0, 3))
def test_what_selects_and_reports_is_sampled_by_whole_groups(split, role, sizes, limits, seed):
    task = grouped_task(sizes, split)
    if split == "validation":  # all of it selects where a test split reports
        task = replace(task, splits=("train", "validation", "test"))
    whole = Counter(row.group for row in task.load(split))
    samples = []
    for limit in sorted(limits):
        rows = getattr(split_rows(task, None, limit, limit, seed), role)
        found = Counter(row.group for row in rows)
        assert found and all(found[group] == whole[group] for group in found)
        assert len(rows) <= limit or len(found) == 1
        left = [size for group, size in whole.items() if group not in found]
        assert not left or len(rows) + max(left) > limit, "all that is left would have fitted"
        assert [int(row.id.split("/")[1]) for row in rows] == sorted(int(row.id.split("/")[1]) for row in rows)
        samples.append(set(rows))
    assert samples[0] <= samples[1]


def test_the_share_of_whole_groups_is_the_same_on_a_sample():
    """MultiRC's exact match of a predictor that errs on every tenth row, so on half of all questions of five."""
    task = grouped_task([5] * 400, "validation")
    task = replace(task, splits=("train", "validation", "test"))

    def exact_match(rows):
        wrong = {row.group for row in rows if int(row.id.split("/")[1]) % 10 == 0}
        return 1 - len(wrong) / len({row.group for row in rows})

    whole = exact_match(list(task.load("validation")))
    sample = exact_match(split_rows(task, None, 500, None, 0).selection)
    assert sample == pytest.approx(whole, abs=0.1)


def test_no_row_need_be_reported_and_a_test_split_then_stays_closed():
    for splits in (["train"], ["train", "validation"], ["train", "test"], ["train", "validation", "test"]):
        opened = []
        task = task_of({split: words(100, 200 * number) for number, split in enumerate(splits)})

        def load(split, task=task, opened=opened):
            opened.append(split)
            return task.load(split)

        found = split_rows(replace(task, load=load), 5, 5, 0, 0)
        assert (len(found.train), len(found.selection), len(found.report)) == (5, 5, 0)
        assert "test" not in opened
        assert found.selection == split_rows(task, 5, 5, 5, 0).selection


@pytest.mark.parametrize("splits", [("train",), ("train", "test")])
def test_rows_that_train_are_not_kept_before_they_are_drawn(splits):
    alive, most = weakref.WeakSet(), 0

    def load(split):
        nonlocal most
        for row in task_of({split: words(2000)}).load(split):
            alive.add(row)
            most = max(most, len(alive))
            yield row

    found = split_rows(replace(task_of(dict.fromkeys(splits, ())), load=load), 10, 10, 0, 0)
    assert len(found.train) == 10
    held = 0.4 if splits == ("train",) else 0.2  # share of the rows that select or report
    assert most < 2000 * (held + 0.1)


@pytest.mark.parametrize("limits", [(0, 5, 5), (5, 0, 5)])
def test_an_empty_role_is_refused(limits):
    role = ROLES[limits.index(0)]
    with pytest.raises(TaskError, match=rf"no row left for {role}: .* and 0 were asked for"):
        split_rows(task_of({"train": words(100)}), *limits, 0)


def test_a_task_without_train_rows_is_refused():
    with pytest.raises(TaskError, match="toy has no train split; it has 'test'"):
        split_rows(task_of({"test": words(3)}), None, 5, 5, 0)


def test_the_digest_reads_inputs_answers_and_order_but_no_ids():
    rows = [Example("1", "a", ("x",)), Example("2", "b", ("y",))]
    same = [Example("7", "a", ("x",)), Example("8", "b", ("y",))]
    assert data_digest(rows) == data_digest(iter(same))
    assert len(data_digest(rows)) == 16
    others = [rows[::-1], rows[:1], [rows[0], Example("2", "b", ("z",))], [Example("1", "ax", ()), rows[1]], []]
    assert len({data_digest(other) for other in [rows, *others]}) == 6


def test_an_unknown_split_is_refused_with_a_near_name():
    with pytest.raises(TaskError, match=r"toy has no split 'validaton'; did you mean 'validation'\?"):
        check_split("toy", "validaton", ("train", "validation"))


# Row files: what the csv and json modules write is read back.

CELL = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "tsv.gz"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
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
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
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
        assert list(read_rows(path, encoding)) == [(1, {"text": "café", "label": "x"})]


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
    ("rows.xlsx", b"PK", "no known format of rows; expected .csv, .tsv, .jsonl"),
    ("rows.arrow.gz", b"", "no known format of rows"),
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
    assert [row["text"] for _, row in read_rows(path, quotes=False)] == ['"open', '5" disk']


def test_json_rows_stream_without_reading_on(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\nbroken\n')
    rows = json_rows(path)
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(TaskError, match="line 2"):
        next(rows)
