"""The history of transfers: what is written is read, today's lines stay as they are, and each wrong field is named."""

import base64
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.errors import LibraryError, StorageError
from spot.library import history
from spot.library.history import TransferRecord, decode_summary, encode_summary, line_of, user_history
from spot.library.library import Library, packaged
from tests.support.commands import Spot
from tests.support.prompts import library_prompt

SUMMARY = encode_summary(np.arange(4))  # of the width that `library_prompt` has
RECORD = TransferRecord(
    source="0123456789abcdef",
    target="new",
    gain=1.5,
    id="one",
    source_task="old",
    steps=36,
    rows=100,
    seeds=3,
    embedding={"mean": SUMMARY, "token": SUMMARY},
)
REQUIRED = {"source", "target", "gain"}

counts = st.none() | st.integers(0, 2**31)
floats = st.floats(allow_nan=False, allow_infinity=False, width=32)
summaries = st.lists(floats, min_size=1, max_size=5).filter(any).map(lambda row: encode_summary(np.array(row)))
transfers = st.builds(
    TransferRecord,
    source=st.text(),
    target=st.text(),
    gain=st.floats(-1000, 1000),
    id=st.none() | st.text(),
    source_task=st.none() | st.text(),
    steps=counts,
    rows=counts,
    seeds=counts,
    embedding=st.none() | st.dictionaries(st.text(), summaries, max_size=3),
)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = Library.create(tmp_path / "library")
    made.add(library_prompt("old"))
    return made


def values_of(record: TransferRecord) -> dict[str, object]:
    return {name: value for name, value in json.loads(line_of(record)).items()}


# What is written is read.


@given(st.lists(transfers, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, records: list[TransferRecord]):
    path = tmp_path_factory.mktemp("history") / "transfers.jsonl"
    path.write_bytes(b"".join(map(line_of, records)))
    assert history.read(path) == records
    assert history.problems(path) == []
    assert b"".join(map(line_of, history.read(path))) == path.read_bytes()


@given(st.lists(floats, max_size=9))
def test_a_summary_survives_its_encoding(row: list[float]):
    summary = np.array(row, np.float32)
    assert np.array_equal(decode_summary(encode_summary(summary)), summary)
    assert base64.b64decode(encode_summary(summary)) == summary.astype("<f4").tobytes()


def test_the_shipped_lines_load_and_are_written_alike():
    path = packaged() / "transfers.jsonl"
    records = history.read(path)
    assert len(records) == 90 and sum(record.embedding is not None for record in records) == 9
    assert b"".join(map(line_of, records)) == path.read_bytes()


def test_a_line_holds_the_fields_that_are_known(tmp_path: Path):
    assert values_of(TransferRecord("a", "b", 1.0)) == {"source": "a", "target": "b", "gain": 1.0}
    assert (
        line_of(TransferRecord("a", "b", 0.5, steps=0)) == b'{"gain": 0.5, "source": "a", "steps": 0, "target": "b"}\n'
    )
    assert set(values_of(RECORD)) == {field.name for field in fields(TransferRecord)}


# What is no record is refused, with file, line and field.

WRONG = {
    "source": [None, 1, ["a"]],
    "target": [None, 2.5, {}],
    "gain": [None, "1", True, float("nan"), float("inf"), -float("inf"), 1e9, 10**400, -(10**400), [], {}],
    "id": [7, []],
    "source_task": [7, False],
    "steps": [-1, 1.5, "36", True, 2**40, 10**400],
    "rows": [-1, 0.5, "many", float("nan")],
    "seeds": [-1, 2.5, [3], float("inf")],
    "embedding": [
        SUMMARY,
        [SUMMARY],
        {"mean": None},
        {"mean": [0.5]},
        {"mean": "no base64!"},
        {"mean": SUMMARY[:-1]},
        {"mean": base64.b64encode(b"12345").decode()},
        {"mean": ""},
        {"mean": encode_summary(np.array([1, np.nan, 0, 0]))},
        {"mean": SUMMARY, "token": encode_summary(np.array([np.inf, 0, 0, 0]))},
        {"mean": SUMMARY, "token": encode_summary(np.arange(5))},
        {"mean": encode_summary(np.zeros(4))},
    ],
    "another": ["field"],
}
CASES = [(name, value) for name, wrong in WRONG.items() for value in wrong]


@pytest.mark.parametrize("place", ["transfers.jsonl", "experience.jsonl"])
@pytest.mark.parametrize(("name", "value"), [*CASES, *((name, ...) for name in sorted(REQUIRED))])
def test_a_wrong_field_is_named_by_file_line_and_field(library: Library, own_cache: Path, place, name, value):
    good = values_of(replace(RECORD, source=library.entries()[0].digest))
    bad = {key: field for key, field in {**good, name: value}.items() if field is not ...}
    path = library.path / place if place == "transfers.jsonl" else own_cache / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n{json.dumps(good)}\n")
    (problem,) = library.verify()
    assert problem.startswith(f"{path}: line 2 is no record of a transfer: ")
    assert f"field '{name}" in problem or ("it is not JSON" in problem and value in (10**400, -(10**400)))
    assert problem.endswith("Mend or delete the line.") and len(problem) < 600
    with pytest.raises(LibraryError, match=f"line 2 is no record of a transfer: .*field '{name}"):
        history.read(path, library.entries())


def test_every_wrong_line_and_field_is_a_problem(library: Library):
    path = library.path / "transfers.jsonl"
    path.write_bytes(
        b"{}\n[1, 2]\nno JSON\n\xff\xfe\n\n" + line_of(RECORD) + b'{"source": 1, "target": "b"}\n{"torn": '
    )
    found = library.verify()
    assert [problem.split(" is no record")[0] for problem in found] == [f"{path}: line {n}" for n in (1, 2, 3, 4, 5, 7)]
    for name in REQUIRED:
        assert f"the field {name!r} is missing" in found[0]
    assert "found [1, 2]" in found[1] and all("it is not JSON" in problem for problem in found[2:5])
    assert "the field 'source' holds 1" in found[5] and "the field 'gain' is missing" in found[5]


@pytest.mark.parametrize(("name", "value"), [case for case in CASES if case[0] not in ("another",)])
def test_a_wrong_field_is_not_written(library: Library, name: str, value: object):
    record = replace(RECORD, **{name: value})
    if name == "embedding" and isinstance(value, dict) and value.get("token") == encode_summary(np.arange(5)):
        return  # its width is wrong for one source and right for another
    with pytest.raises(LibraryError, match=f"the transfer from .* cannot be recorded: .*field '{name}"):
        library.record_transfers([RECORD, record])
    assert library.transfers() == []


def test_what_is_no_json_is_not_written(library: Library):
    with pytest.raises(LibraryError, match="cannot be recorded: Object of type object is not JSON serializable"):
        library.record_transfers([replace(RECORD, steps=object())])


def test_widths_are_those_of_the_sources_backbone(library: Library):
    ours, wide = library.entries()[0].digest, encode_summary(np.ones(6))
    foreign = replace(RECORD, embedding={"mean": wide})  # of a source that is not here: perhaps of another model
    library.record_transfers([foreign, replace(RECORD, id="two", source=ours)])
    assert library.verify() == [] and len(library.transfers()) == 2
    library.record_transfers([replace(RECORD, id="three", source=ours, embedding={"mean": wide})])
    message = (
        rf"transfers\.jsonl: line 3 is no record of a transfer: the field 'embedding\.mean' holds 6 numbers, and the "
        rf"backbone of the source {ours} has width 4; expected that many"
    )
    with pytest.raises(LibraryError, match=message):
        library.transfers()


ODD_LINES = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"3",
    b"\xff",
    b"[" * 100_000,
    b'{"a":' * 5_000,
    b'{"source": "a", "target": "b", "gain": 1, "gain": 2}',
    b'{"source": "a", "target": "\\ud800", "gain": 1}',
    b'{"source": "a", "target": "b", "gain": 1' + b"0" * 400 + b"}",
    b'{"source": "a", "target": "' + b"b" * 10_001 + b'", "gain": 1}',
    b'{"source": "a", "target": "b", "gain": 1' + b" " * 4_000_000 + b"}",
]


@pytest.mark.parametrize("line", ODD_LINES, ids=[repr(line[:12]) for line in ODD_LINES])
def test_any_line_that_is_no_record_is_named(library: Library, line: bytes):
    """F6, F14: `verify` and every reader name the file and the line; none ends in a traceback."""
    path = library.path / "transfers.jsonl"
    path.write_bytes(line_of(RECORD) + line + b"\n" + line_of(replace(RECORD, id="two")))
    (problem,) = library.verify()
    assert problem.startswith(f"{path}: line 2 is no record of a transfer: ")
    for read in (library.transfers, lambda: library.record_transfers([replace(RECORD, id=None)])):
        with pytest.raises(LibraryError) as caught:
            read()
        assert str(caught.value) == problem
    assert path.read_bytes().count(b"\n") == 3


def test_what_cannot_be_read_is_not_written(library: Library):
    """F14: one contract for both ends."""
    for change in ({"gain": 1e9}, {"target": "\ud800"}, {"steps": 2**40}, {"target": "x" * 10_001}):
        with pytest.raises(LibraryError, match="cannot be recorded: "):
            library.record_transfers([replace(RECORD, **change)])
    assert library.transfers() == []


def test_a_history_behind_a_link_is_neither_read_nor_written(library: Library, tmp_path: Path):
    """F3: `transfers.jsonl` of a stranger's library leads to a file of the user's."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"a torn line")
    (library.path / "transfers.jsonl").symlink_to(precious)
    assert any("transfers.jsonl is a link" in problem for problem in library.verify())
    for read in (library.transfers, lambda: library.record_transfers([RECORD])):
        with pytest.raises((LibraryError, StorageError), match=r"transfers\.jsonl is a link"):
            read()
    assert precious.read_bytes() == b"a torn line"


def test_a_history_that_cannot_be_read_is_named(library: Library):
    path = library.path / "transfers.jsonl"
    path.mkdir()
    with pytest.raises(LibraryError, match=r"cannot read .*transfers\.jsonl: it is a folder, expected a regular file"):
        library.transfers()
    assert [problem.split(":")[0] for problem in library.verify()] == [f"cannot read {path}"]


def test_verify_exits_with_2_where_the_users_history_is_damaged(spot: Spot, library: Library):
    user_history().parent.mkdir(exist_ok=True)
    user_history().write_text("{}\n")
    result = spot("library", "verify", "--library", library.path)
    assert result.code == 2 and "experience.jsonl: line 1 is no record of a transfer" in result.out
    user_history().unlink()
    assert spot("library", "verify", "--library", library.path).code == 0


# Appending.


def test_records_are_kept_in_order(library: Library):
    records = [TransferRecord("a", str(n), n / 2, steps=36, rows=100) for n in range(3)]
    assert library.record_transfers(records)
    assert Library(library.path).transfers() == records
    assert len((library.path / "transfers.jsonl").read_text().splitlines()) == 3


def test_an_id_is_kept_once_also_among_those_of_one_call(library: Library):
    first, second, other = (
        TransferRecord("a", "b", gain, id=name) for name, gain in (("x", 1.0), ("x", 2.0), ("y", 3.0))
    )
    nameless = TransferRecord("a", "b", 4.0)
    library.record_transfers([first, nameless, second])
    library.record_transfers([second, nameless, other])
    assert library.transfers() == [first, nameless, nameless, other]


def test_a_torn_last_line_is_dropped(library: Library):
    record = TransferRecord("a", "b", 1.5)
    library.record_transfers([record])
    path = library.path / "transfers.jsonl"
    path.write_bytes(path.read_bytes() + b'{"source": "c", "tar')
    assert library.transfers() == [record] and library.verify() == []
    library.record_transfers([record])
    assert library.transfers() == [record, record]
    assert path.read_bytes().count(b"\n") == 2 and path.read_bytes().endswith(b"}\n")


def test_nothing_is_appended_behind_a_line_that_is_no_record(library: Library):
    path = library.path / "transfers.jsonl"
    path.write_text("{}\n")
    with pytest.raises(LibraryError, match="line 1 is no record of a transfer"):
        library.record_transfers([RECORD])
    assert path.read_text() == "{}\n"
