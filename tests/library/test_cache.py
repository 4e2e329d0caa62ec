"""The index of a library is only a cache: whatever happens to it, the files are the truth."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from spot.library import library as library_module
from spot.library.library import Library
from spot.prompts.prompt import SoftPrompt
from tests.support.prompts import RECIPE
from tests.support.prompts import library_prompt as prompt


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library.create(tmp_path / "library")


def fill(library: Library, count: int = 3) -> list[str]:
    return sorted(library.add(prompt(f"task{seed}", seed)).digest for seed in range(count))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the prompt files whose headers are read."""
    names: list[str] = []
    header = library_module.header

    def counted(path: Path) -> dict:
        names.append(Path(path).stem)
        return header(path)

    monkeypatch.setattr(library_module, "header", counted)
    return names


def file_of(library: Library, digest: str) -> Path:
    return library.path / "prompts" / f"{digest}.safetensors"


def test_the_index_saves_reading_the_files(library: Library, reads: list[str]):
    digests = fill(library)
    assert sorted(reads) == digests
    reads.clear()
    again = Library(library.path)
    assert again.entries() == library.entries()
    assert [entry.key_recipe for entry in again.entries()] == [RECIPE] * 3
    assert not reads


def test_the_index_follows_the_folder(library: Library, reads: list[str], tmp_path: Path):
    digests = fill(library)
    other = Library.create(tmp_path / "other")
    moved = other.add(prompt("new", 9))
    reads.clear()
    shutil.copy(moved.path, library.path / "prompts")
    file_of(library, digests[0]).unlink()
    expected = sorted([*digests[1:], moved.digest])
    for one in (library, Library(library.path), Library(library.path)):
        assert sorted(entry.digest for entry in one.entries()) == expected
    assert reads == [moved.digest] * 1, "only the new file, and only once"
    assert next(e.path for e in library.entries() if e.digest == moved.digest).parent == library.path / "prompts"


def break_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")


def break_header(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE headers SET header = '{\"task\": 1'")


def break_entry(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute('UPDATE headers SET header = \'{"task": "x"}\'')


def break_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[200:] = np.random.default_rng(0).bytes(len(data) - 200)
    path.write_bytes(data)


BREAKAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"no database" * 1000),
    "short": lambda path: path.write_bytes(path.read_bytes()[:1500]),
    "middle": break_middle,
    "version": break_version,
    "header": break_header,
    "entry": break_entry,
}


@pytest.mark.parametrize("how", BREAKAGES)
def test_a_broken_index_is_made_anew_without_a_word(
    library: Library, how: str, reads: list[str], caplog: pytest.LogCaptureFixture
):
    fill(library)
    entries = library.entries()
    BREAKAGES[how](library.path / "index.sqlite")
    reads.clear()
    assert Library(library.path).entries() == entries
    assert len(reads) == 3
    assert Library(library.path).entries() == entries
    assert len(reads) == 3, "the index holds again after one reading"
    assert not caplog.records


@pytest.mark.parametrize("how", BREAKAGES)
def test_summaries_survive_a_broken_index(library: Library, how: str):
    fill(library)
    entries = library.entries()
    expected = np.stack([library.get(entry.digest).value[0] for entry in entries])
    assert np.array_equal(library.summaries("first", entries, lambda one: one.value[0]), expected)
    BREAKAGES[how](library.path / "index.sqlite")
    again = Library(library.path)
    assert np.array_equal(again.summaries("first", again.entries(), lambda one: one.value[0]), expected)


def test_an_index_that_cannot_be_written_stays_in_memory(library: Library, reads: list[str]):
    digests = fill(library)
    (library.path / "index.sqlite").unlink()
    (library.path / "index.sqlite").mkdir()  # as root, a folder without write permission could be written
    reads.clear()
    again = Library(library.path)
    for _ in range(3):
        assert sorted(entry.digest for entry in again.entries()) == digests
    assert sorted(reads) == digests
    assert again.add(prompt("new", 9)).task == "new"
    assert len(Library(library.path).entries()) == 4


def test_reindex(library: Library, reads: list[str]):
    fill(library)
    break_entry(library.path / "index.sqlite")
    reads.clear()
    assert library.reindex() == 3
    assert len(reads) == 3
    assert len(Library(library.path).entries()) == 3
    assert len(reads) == 3


def test_a_locked_index_delays_nobody_for_long(library: Library, reads: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spot.library.cache._PATIENCE", 0.05)
    digests = fill(library, 1)
    with closing(sqlite3.connect(library.path / "index.sqlite", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert [entry.digest for entry in Library(library.path).entries()] == digests
        added = library.add(prompt("new", 9))
    assert sorted(entry.digest for entry in Library(library.path).entries()) == sorted([*digests, added.digest])


def test_summaries_are_computed_once(library: Library):
    fill(library)
    entries = library.entries()
    seen: list[str] = []

    def total(one: SoftPrompt) -> np.ndarray:
        seen.append(one.digest)
        return one.value.sum(axis=0)

    expected = np.stack([library.get(entry.digest).value.sum(axis=0) for entry in entries])
    for source in (library, Library(library.path)):
        found = source.summaries("total", entries, total)
        assert found.dtype == np.float32 and np.array_equal(found, expected)
    assert np.array_equal(library.summaries("total", entries[::-1], total), expected[::-1])
    assert np.array_equal(library.summaries("total", entries[1:2], total), expected[1:2])
    assert seen == [entry.digest for entry in entries]
    library.summaries("another", entries, total)
    assert len(seen) == 6
    library.remove(entries[0].digest)
    library.add(prompt("task0", 0))
    library.summaries("total", library.entries(), total)
    assert len(seen) == 7, "what is removed takes its summaries along"
    assert library.summaries("total", [], total).shape == (0, 0)


def test_what_is_kept_in_the_index_is_small(library: Library):
    fill(library, 1)
    with closing(sqlite3.connect(library.path / "index.sqlite")) as database:
        text = database.execute("SELECT header FROM headers").fetchone()[0]
    assert "config" not in json.loads(text)
