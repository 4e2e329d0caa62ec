"""One writer at a time, and the record of transfers that it appends to."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spot.errors import LibraryError
from spot.library.library import Library
from spot.storage import files
from tests.support.prompts import library_prompt as prompt


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library.create(tmp_path / "library")


def fill(library: Library, count: int = 3) -> list[str]:
    return sorted(library.add(prompt(f"task{seed}", seed)).digest for seed in range(count))


WRITES: dict[str, Callable[[Library], object]] = {
    "add": lambda library: library.add(prompt("new", 9)),
    "remove": lambda library: library.remove("task0"),
    "reindex": lambda library: library.reindex(),
    "record": lambda library: library.record_transfers([{"source": "a", "target": "b", "gain": 1}]),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_second_writer_is_told_at_once(library: Library, write: str):
    digests = fill(library)
    holder = (
        "import sys\nfrom spot.storage.files import lock\n"
        f"with lock({str(library.path / 'prompts')!r}):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        message = rf"cannot change the library: .*prompts is in use by another writer \(pid {process.pid}\)"
        with pytest.raises(LibraryError, match=message):
            WRITES[write](library)
        assert len(Library(library.path).entries()) == 3, "readers need no lock"
        process.stdin.close()
    assert sorted(entry.digest for entry in library.entries()) == digests
    WRITES[write](library)


def test_many_writers_lose_nothing(library: Library):
    def work(first: int) -> None:
        own = Library(library.path)
        for seed in range(first, first + 5):
            while True:
                try:
                    own.add(prompt(f"task{seed}", seed))
                    own.record_transfers([{"source": "a", "target": str(seed), "gain": 0.5}])
                    break
                except LibraryError as error:
                    assert "in use by another writer" in str(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 5, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for source in (library, Library(library.path)):
        assert len(source.entries()) == 15
    assert {record["target"] for record in library.transfers()} == {str(seed) for seed in range(15)}
    assert library.verify() == []


def test_a_killed_writer_leaves_nothing_behind(library: Library):
    (library.path / "prompts" / f".half.safetensors{files.TEMPORARY_SUFFIX}").write_bytes(b"half")
    assert library.entries() == [] and library.verify() == []
    fill(library, 1)
    assert len(list((library.path / "prompts").iterdir())) == 1


# --- transfers --------------------------------------------------------------------------------------------------------


def test_transfers_are_kept_in_order(library: Library):
    records = [{"source": "a", "target": str(n), "gain": n / 2, "steps": 36, "rows": 100} for n in range(3)]
    assert library.record_transfers(records)
    assert Library(library.path).transfers() == records
    assert len((library.path / "transfers.jsonl").read_text().splitlines()) == 3


def test_an_id_is_kept_once_also_among_those_of_one_call(library: Library):
    first, second, other = [
        {"id": name, "source": "a", "target": "b", "gain": gain} for name, gain in (("x", 1.0), ("x", 2.0), ("y", 3.0))
    ]
    nameless = {"source": "a", "target": "b", "gain": 4.0}
    library.record_transfers([first, nameless, second])
    library.record_transfers([second, nameless, other])
    assert library.transfers() == [first, nameless, nameless, other]


def test_of_records_one_of_which_is_none_nothing_is_kept(library: Library):
    with pytest.raises(LibraryError, match="a transfer is recorded with"):
        library.record_transfers([{"source": "a", "target": "b", "gain": 1.0}, {"source": "a"}])
    assert library.transfers() == []


def test_a_torn_last_line_is_dropped(library: Library):
    record = {"source": "a", "target": "b", "gain": 1.5}
    library.record_transfers([record])
    path = library.path / "transfers.jsonl"
    path.write_bytes(path.read_bytes() + b'{"source": "c", "tar')
    assert library.transfers() == [record]
    library.record_transfers([record])
    assert library.transfers() == [record, record]
    assert path.read_bytes().count(b"\n") == 2 and path.read_bytes().endswith(b"}\n")


def test_a_damaged_line_is_named(library: Library):
    path = library.path / "transfers.jsonl"
    path.write_text('{"gain": 1}\n[1, 2]\n')
    with pytest.raises(LibraryError, match=r"transfers.jsonl: line 2 is no record of a transfer \(it is no JSON"):
        library.transfers()
    assert len(library.verify()) == 1
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(LibraryError, match=r"line 1 is no record of a transfer .* Mend or delete the line"):
        library.transfers()


@pytest.mark.parametrize(
    "record",
    [
        {"source": "a", "target": "b"},
        {"source": "a", "gain": 1.0},
        {"source": 1, "target": "b", "gain": 1.0},
        {"source": "a", "target": "b", "gain": float("nan")},
        {"source": "a", "target": "b", "gain": "1"},
        {"source": "a", "target": "b", "gain": True},
    ],
)
def test_a_transfer_says_from_where_to_where_and_how_much(library: Library, record: dict):
    with pytest.raises(LibraryError, match=r"a transfer is recorded with `source` and `target` .* found "):
        library.record_transfers([record])
    assert library.transfers() == []


@pytest.mark.parametrize("extra", [float("inf"), object()])
def test_a_transfer_is_json(library: Library, extra: object):
    with pytest.raises(LibraryError, match="cannot be written as JSON"):
        library.record_transfers([{"source": "a", "target": "b", "gain": 1.0, "extra": extra}])
