"""The index of a library is only a cache: whatever happens to it, the files are the truth."""

import json
import os
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from spot.library import cache, prompt_files
from spot.library.library import Library
from spot.prompts.prompt import SoftPrompt
from spot.retrieval.search import SUMMARIES, nearest
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
    header = prompt_files.header

    def counted(path: Path, inside: Path) -> dict:
        names.append(Path(path).stem)
        return header(path, inside)

    monkeypatch.setattr(prompt_files, "header", counted)
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


def change(path: Path, *statements: str | tuple[str, tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(*((statement,) if isinstance(statement, str) else statement))


def break_header(path: Path) -> None:
    change(path, "UPDATE headers SET header = '{\"task\": 1'")


def break_entry(path: Path) -> None:
    change(path, 'UPDATE headers SET header = \'{"task": "x"}\'')


def break_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[200:] = np.random.default_rng(0).bytes(len(data) - 200)
    path.write_bytes(data)


def signed(path: Path, **headers: object) -> None:
    """Headers that say something else, by someone who also made their checksums right."""
    with closing(sqlite3.connect(path)) as database, database:
        for digest, stamp, text in database.execute("SELECT digest, stamp, header FROM headers").fetchall():
            new = json.dumps({**json.loads(text), **headers})
            values = (new, cache._checksum("", digest, stamp, new.encode()), digest)
            database.execute("UPDATE headers SET header = ?, checksum = ? WHERE digest = ?", values)


def infinite(path: Path) -> None:
    """Tables that are views of rows without end."""
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT"
    change(
        path,
        "DROP TABLE headers",
        f"CREATE VIEW headers AS {endless} x AS digest, '1' AS stamp, '{{}}' AS header, x'' AS checksum FROM n",
    )


BREAKAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"no database" * 1000),
    "short": lambda path: path.write_bytes(path.read_bytes()[:1500]),
    "middle": break_middle,
    "version": break_version,
    "header": break_header,
    "entry": break_entry,
    "other text": lambda path: change(path, "UPDATE headers SET header = replace(header, 'task', 'PWNED')"),
    "number for text": lambda path: change(path, "UPDATE headers SET header = 7, stamp = 7"),
    "blob for text": lambda path: change(path, "UPDATE headers SET header = x'ff00', checksum = 3"),
    "deep": lambda path: change(path, ("UPDATE headers SET header = ?", ("[" * 100_000,))),
    "no text": lambda path: change(path, "UPDATE headers SET stamp = CAST(x'ff' AS TEXT)"),
    "view": infinite,
    "trigger": lambda path: change(
        path, "CREATE TRIGGER t AFTER INSERT ON headers BEGIN DELETE FROM headers; END", "DELETE FROM headers"
    ),
    "journal": lambda path: path.with_name("index.sqlite-journal").write_bytes(
        b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" * 99
    ),
    "write-ahead log": lambda path: path.with_name("index.sqlite-wal").write_bytes(b"x" * 99),
    "other mode": lambda path: change(path, "PRAGMA journal_mode = WAL"),
    "signed, of another type": lambda path: signed(path, task=3, scores="high"),
    "signed, out of range": lambda path: signed(path, step=-1),
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


def tear(path: Path, value: np.ndarray) -> None:
    change(path, ("UPDATE vectors SET vector = ?", (value.astype("<f4").tobytes(),)))


WRONG_VECTORS = [np.full(4, np.nan), np.zeros(4), np.array([1, np.inf, 0, 0]), np.ones(4), np.ones(3), np.ones(0)]


@pytest.mark.parametrize("vector", WRONG_VECTORS, ids=str)
def test_vectors_of_the_index_never_change_a_ranking(library: Library, vector: np.ndarray):
    """F5: a page that was torn, or a stranger's index: the order is that of the files, and `verify` says so."""
    fill(library)
    target = prompt("new", 9)
    expected = nearest(target, library, k=3)
    assert library.verify(SUMMARIES) == []
    tear(library.path / "index.sqlite", vector)
    problems = Library(library.path).verify(SUMMARIES)
    assert len(problems) == 3 and all("index.sqlite: what the index says of the prompt" in line for line in problems)
    assert Library(library.path).verify(SUMMARIES) == problems, "`verify` mends nothing"
    assert nearest(target, Library(library.path), k=3) == expected
    assert Library(library.path).verify(SUMMARIES) == []


def test_verify_compares_what_is_signed_with_the_files(library: Library):
    """F5: checksums and stamps are right, the content is not: only the files can tell."""
    digests = fill(library)
    entries = library.entries()
    library.summaries("mean", entries, SUMMARIES["mean"])
    path = library.path / "index.sqlite"
    signed(path, task="PWNED")
    assert len([line for line in Library(library.path).verify() if "what the index says" in line]) == 3
    Library(library.path).reindex()
    assert library.verify(SUMMARIES) == []
    library.summaries("mean", entries, SUMMARIES["mean"])
    with closing(sqlite3.connect(path)) as database, database:
        digest, stamp = database.execute("SELECT digest, stamp FROM vectors").fetchone()
        row = np.ones(4, "<f4").tobytes()
        values = (row, cache._checksum("mean", digest, stamp, row), digest)
        database.execute("UPDATE vectors SET vector = ?, checksum = ? WHERE digest = ?", values)
    (problem,) = Library(library.path).verify(SUMMARIES)
    assert digest in digests and f"what the index says of the prompt {digest}" in problem


def test_a_strangers_index_is_not_believed(library: Library, tmp_path: Path):
    """F5: copied with every time that a copy can keep, as archives do, with checksums that are right."""
    fill(library)
    library.summaries("mean", library.entries(), SUMMARIES["mean"])
    expected = [entry.task for entry in library.entries()]
    signed(library.path / "index.sqlite", task="PWNED")
    shutil.copytree(library.path, tmp_path / "copy")  # with times of change
    assert [entry.task for entry in Library(tmp_path / "copy").entries()] == expected


def test_a_file_that_changed_is_read_again(library: Library, reads: list[str]):
    """F5: of the same name and size, by the same `Library` and by a new one."""
    digests = fill(library)
    path = file_of(library, digests[0])
    again = Library(library.path)
    again.entries()
    good = path.read_bytes()
    path.write_bytes(good.replace(b"accuracy", b"accurac9"))
    for source in (again, Library(library.path)):
        assert sorted(entry.digest for entry in source.entries()) == digests[1:]
    path.write_bytes(good)
    for source in (again, Library(library.path)):
        assert sorted(entry.digest for entry in source.entries()) == digests


def test_another_programs_database_is_left_alone(library: Library, tmp_path: Path, reads: list[str]):
    """F3: by a hard link, or put there by mistake: nothing is written into it, and it stays."""
    digests = fill(library)
    (library.path / "index.sqlite").unlink()
    change(tmp_path / "other.sqlite", "CREATE TABLE a(x)")
    before = (tmp_path / "other.sqlite").read_bytes()
    (library.path / "index.sqlite").hardlink_to(tmp_path / "other.sqlite")
    reads.clear()
    for _ in range(2):
        assert sorted(entry.digest for entry in Library(library.path).entries()) == digests
    assert len(reads) == 6 and (tmp_path / "other.sqlite").read_bytes() == before
    (problem,) = library.verify()
    assert "index.sqlite is not used: it is a database of another program" in problem
    library.reindex()
    assert library.verify() == [] and (tmp_path / "other.sqlite").read_bytes() == before


@pytest.mark.parametrize("target", ["other.sqlite", "none", "fifo", "lines"])
def test_an_index_behind_a_link_is_neither_read_nor_written(library: Library, tmp_path: Path, target: str):
    """F3: two tables were written into a database of the user's by `library list`."""
    digests = fill(library)
    shutil.copy(library.path / "index.sqlite", tmp_path / "other.sqlite")
    (tmp_path / "lines").write_text("precious")
    os.mkfifo(tmp_path / "fifo")
    before = (tmp_path / "other.sqlite").read_bytes()
    (library.path / "index.sqlite").unlink()
    (library.path / "index.sqlite").symlink_to(tmp_path / target)
    again = Library(library.path)
    assert sorted(entry.digest for entry in again.entries()) == digests
    again.add(prompt("new", 9))
    (problem,) = again.verify()
    assert "index.sqlite is a link" in problem
    assert again.reindex() == 4 and again.verify() == []
    assert not (library.path / "index.sqlite").is_symlink()
    assert (tmp_path / "other.sqlite").read_bytes() == before and (tmp_path / "lines").read_text() == "precious"
    assert not (tmp_path / "none").exists()


def test_a_journal_that_names_a_file_of_the_user_deletes_nothing(library: Library, tmp_path: Path):
    """Of the kind of F3: sqlite deletes the file that a hot journal names as the one that rules it."""
    fill(library)
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious\0")
    name, magic = str(precious).encode(), bytes.fromhex("d9d505f920a163d7")
    page, pages = 4096, (library.path / "index.sqlite").stat().st_size // 4096
    head = magic + struct.pack(">IIIII", 0, 1, pages, 512, page)
    tail = struct.pack(">I", page + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    (library.path / "index.sqlite-journal").write_bytes(head.ljust(512, b"\0") + tail)
    for source in (Library(library.path), Library(library.path, read_only=True)):
        assert len(source.entries()) == 3
    library.add(prompt("new", 9))
    assert precious.read_bytes() == b"precious\0"


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
