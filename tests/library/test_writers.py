"""One writer at a time, and a killed one leaves nothing behind."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spot.errors import LibraryError
from spot.library.history import TransferRecord
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
    "record": lambda library: library.record_transfers([TransferRecord("a", "b", 1.0)]),
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
                    own.record_transfers([TransferRecord("a", str(seed), 0.5)])
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
    assert {record.target for record in library.transfers()} == {str(seed) for seed in range(15)}
    assert library.verify() == []


def test_a_killed_writer_leaves_nothing_behind(library: Library):
    (library.path / "prompts" / f".half.safetensors.1.0123abcd{files.TEMPORARY_SUFFIX}").write_bytes(b"half")
    assert library.entries() == [] and library.verify() == []
    fill(library, 1)
    assert len(list((library.path / "prompts").iterdir())) == 1
