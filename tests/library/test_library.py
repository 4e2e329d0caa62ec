"""A library folder: what goes in, what comes out, what is refused, and that its index is only a cache."""

import errno
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import spot
from spot.errors import LibraryError, PromptError, StorageError
from spot.library import library as library_module
from spot.library.entries import Entry
from spot.library.history import TransferRecord
from spot.library.library import Library, open_library, packaged
from spot.prompts.prompt import Parent, save
from tests.support.prompts import BACKBONE, RECIPE
from tests.support.prompts import library_prompt as prompt


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library.create(tmp_path / "library")


def fill(library: Library, count: int = 3) -> list[str]:
    return sorted(library.add(prompt(f"task{seed}", seed)).digest for seed in range(count))


def file_of(library: Library, digest: str) -> Path:
    return library.path / "prompts" / f"{digest}.safetensors"


def test_an_added_prompt_comes_back(library: Library, tmp_path: Path):
    ours = prompt()
    entry = library.add(ours)
    assert entry == Entry(
        digest=ours.digest,
        task="glue/sst2",
        path=file_of(library, ours.digest),
        scores={"accuracy": 84.5},
        frozen_scores={"accuracy": 51.0},
        step=180,
        length=3,
        backbone=BACKBONE,
        key_recipe=RECIPE,
        seed=0,
    )
    assert library.get(ours.digest).digest == ours.digest
    assert library.entries() == [entry]
    assert (library.backbone, library.key_recipe) == (BACKBONE, RECIPE)
    save(prompt("trec", 1), tmp_path / "one.safetensors")
    assert library.add(tmp_path / "one.safetensors").task == "trec"
    assert library.add(str(tmp_path / "one.safetensors")).task == "trec"
    assert [entry.task for entry in library.entries()] == ["glue/sst2", "trec"]


def test_an_empty_library(library: Library):
    assert (library.entries(), library.verify(), library.transfers()) == ([], [], [])
    assert library.backbone is None and library.key_recipe is None
    assert Library.create(library.path).entries() == []
    with pytest.raises(LibraryError, match=r"no prompt in .*library is called 'x': none are known here"):
        library.get("x")


def test_adding_twice_changes_nothing(library: Library):
    first = library.add(prompt())
    before = first.path.stat()
    assert library.add(prompt()) == first
    after = first.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(library.entries()) == 1


def test_adding_again_mends_a_damaged_file(library: Library):
    entry = library.add(prompt())
    entry.path.write_bytes(entry.path.read_bytes()[:-5])
    assert library.add(prompt()) == entry
    assert library.verify() == []


def test_entries_are_by_task_and_filtered_by_backbone(library: Library):
    for task, seed in [("b", 0), ("a", 1), ("b", 2)]:
        library.add(prompt(task, seed))
    entries = library.entries()
    assert [(e.task, e.digest) for e in entries] == sorted((e.task, e.digest) for e in entries)
    assert [e.task for e in entries] == ["a", "b", "b"]
    assert library.entries(replace(BACKBONE, name="a local copy")) == entries
    assert library.entries(replace(BACKBONE, fingerprint="another")) == []


REFUSALS = {
    "backbone": (
        {"backbone": replace(BACKBONE, fingerprint="another", name="other")},
        r"it belongs to the backbone other \(.*fingerprint another\), and the library to embedded \(",
    ),
    "recipe": (
        {"key_recipe": replace(RECIPE, step=60, optimiser="adafactor")},
        "its key was made by another recipe than those in the library: step is 60 here and 40 there, "
        "optimiser is 'adafactor' here and 'adamw' there: tune it by the library's recipe",
    ),
    "no recipe": (
        {"key_recipe": None},
        "its key was made by another recipe .*: the key recipe of one of them is unknown",
    ),
    "no key": ({"key": None, "key_recipe": None}, "it has no key, which a task embedding is read from"),
    "parents": (
        {"parents": (Parent("aaaa", 0.5), Parent("bbbb", 0.5))},
        r"its run started from another prompt \(aaaa, bbbb\), whose mark its key bears",
    ),
    "not moved": (
        {"key": np.eye(3, 4), "start": np.eye(3, 4) * [[2], [1], [1]]},
        r"2 of 3 tokens of its key \(the first is token 1\) are those of its start",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_belong_is_refused(library: Library, case: str):
    library.add(prompt())
    changes, reason = REFUSALS[case]
    stranger = prompt("trec", 1, **changes)
    message = f"the prompt {stranger.digest} of task 'trec' does not belong in .*library: {reason}"
    with pytest.raises(LibraryError, match=message):
        library.add(stranger)
    assert len(library.entries()) == 1
    assert sorted(path.name for path in library.path.glob("prompts/*")) == [library.entries()[0].path.name]


def test_all_reasons_are_given_at_once(library: Library):
    library.add(prompt())
    changes = {name: value for case in ("backbone", "recipe", "parents") for name, value in REFUSALS[case][0].items()}
    with pytest.raises(LibraryError) as caught:
        library.add(prompt("trec", 1, **changes))
    for text in ("it belongs to the backbone", "its run started from", "its key was made by another recipe"):
        assert text in str(caught.value)


def test_the_first_prompt_needs_a_key_too(library: Library):
    with pytest.raises(LibraryError, match="it has no key"):
        library.add(prompt(key=None))
    assert library.add(prompt(start=None, key_recipe=None))  # an imported one: the key alone


def test_what_is_no_prompt_file_is_refused(library: Library, tmp_path: Path):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(PromptError, match="text: "):
        library.add(tmp_path / "text")
    with pytest.raises(PromptError, match=r"cannot read the prompt file .*nowhere"):
        library.add(tmp_path / "nowhere")


def test_references(library: Library):
    for task, seed in [("glue/sst2", 0), ("glue/sst2", 1), ("trec", 2)]:
        library.add(prompt(task, seed))
    trec = next(entry.digest for entry in library.entries() if entry.task == "trec")
    twins = sorted(entry.digest for entry in library.entries() if entry.task == "glue/sst2")
    assert {library.get(name).digest for name in (trec, "trec", trec[:8])} == {trec}
    for other in (library, Library(library.path)):
        with pytest.raises(LibraryError, match=f"2 prompts in .* called 'glue/sst2': {', '.join(twins)}. Name one by"):
            other.get("glue/sst2")
        with pytest.raises(LibraryError, match=r"is called 'glue/sst': did you mean 'glue/sst2'\?"):
            other.get("glue/sst")
        with pytest.raises(LibraryError, match="is called '': "):
            other.get("")


def test_a_task_may_be_called_like_the_beginning_of_a_digest(library: Library):
    other = library.add(prompt("trec", 1)).digest
    named = library.add(prompt(other[:2], 2)).digest
    assert library.get(other[:2]).digest == named


def test_an_ambiguous_beginning_lists_the_digests(library: Library):
    digests = fill(library, 40)
    first = next(d[0] for d in digests if sum(other[0] == d[0] for other in digests) > 1)
    with pytest.raises(LibraryError, match=f"prompts in .* are called '{first}': {first}"):
        library.get(first)


def test_the_hint_stays_short_in_a_large_library(library: Library):
    fill(library, 60)
    with pytest.raises(LibraryError, match=r"`spot library list --library .*` shows its 60 prompts"):
        library.get("zzz")


def test_remove(library: Library):
    digests = fill(library)
    assert library.remove(digests[0][:10]) == digests[0]
    assert sorted(entry.digest for entry in library.entries()) == digests[1:]
    with pytest.raises(LibraryError, match=f"is called '{digests[0]}'"):
        library.get(digests[0])
    file_of(library, digests[1]).write_bytes(b"damaged")
    assert Library(library.path).remove(digests[1]) == digests[1]
    assert [entry.digest for entry in library.entries()] == digests[2:]


def test_a_folder_that_does_not_exist(tmp_path: Path):
    message = (
        f"there is no prompt library at {tmp_path}/none. Check the path, or make a library there with `spot library "
        f"add PROMPT --library {tmp_path}/none`; `packaged` is the one that ships with spot."
    )
    with pytest.raises(LibraryError, match=f"^{re.escape(message)}$"):
        open_library(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_folder_that_is_something_else(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LibraryError, match="is not a prompt library: it has no folder `prompts`"):
        open_library(str(tmp_path))
    with pytest.raises(LibraryError, match=r"cannot make a library at .*: the folder holds other things"):
        Library.create(tmp_path)
    with pytest.raises(LibraryError, match=r"cannot make a library at .*file: "):
        Library.create(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_verify_finds_every_kind_of_damage(library: Library, tmp_path: Path):
    digests = fill(library, 5)
    assert library.verify() == []
    flipped, short, renamed = (file_of(library, digest) for digest in digests[:3])
    data = bytearray(flipped.read_bytes())
    data[-3] ^= 1
    flipped.write_bytes(data)
    short.write_bytes(short.read_bytes()[:100])
    inside = renamed.rename(renamed.with_stem("my favourite"))
    other = Library.create(tmp_path / "other").add(prompt(backbone=replace(BACKBONE, fingerprint="another")))
    stranger = Path(shutil.copy(other.path, library.path / "prompts"))
    save(ours := prompt(parents=(Parent("aaaa", 1.0),)), file_of(library, ours.digest))
    found = {line.partition(": ")[0]: line for line in library.verify()}
    assert found.keys() == {str(path) for path in (flipped, short, inside, stranger, file_of(library, ours.digest))}
    assert "do not match their checksum" in found[str(flipped)]
    assert "cut short" in found[str(short)]
    assert f"the file holds the prompt {digests[2]}, and a library names files by their digest" in found[str(inside)]
    assert "it belongs to the backbone embedded" in found[str(stranger)]
    assert "its run started from another prompt" in found[str(file_of(library, ours.digest))]


def test_a_file_that_cannot_be_read_is_left_out_with_one_warning(library: Library, caplog: pytest.LogCaptureFixture):
    digests = fill(library)
    damaged = library.path / "prompts" / "mine.safetensors"
    damaged.write_bytes(b"hello")
    for _ in range(2):
        assert sorted(entry.digest for entry in library.entries()) == digests
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
        f"left out of the library {library.path}"
    ]
    with pytest.raises(PromptError, match=r"mine.safetensors: "):
        library.get("mine")
    damaged.unlink()
    assert sorted(entry.digest for entry in library.entries()) == digests


def test_a_damaged_prompt_is_never_returned(library: Library):
    digests = fill(library)
    path = file_of(library, digests[0])
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(PromptError, match="do not match their checksum"):
        library.get(digests[0])
    path.write_bytes(file_of(library, digests[1]).read_bytes())
    with pytest.raises(LibraryError, match=f"the file holds the prompt {digests[1]}"):
        library.get(digests[0])


def test_a_full_disk_leaves_the_library_as_it_was(library: Library, monkeypatch: pytest.MonkeyPatch):
    digests = fill(library)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="No space left on device"):
        library.add(prompt("new", 9))
    with pytest.raises(StorageError, match=r"cannot write .*transfers.jsonl .*No space left on device"):
        library.record_transfers([TransferRecord("a", "b", 1.0)])
    monkeypatch.undo()
    assert sorted(path.stem for path in library.path.glob("prompts/*")) == digests
    assert library.verify() == [] and library.transfers() == []


# --- the library that ships -------------------------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_packaged_library_is_never_changed(library: Library, monkeypatch: pytest.MonkeyPatch):
    digests = fill(library)
    (library.path / "index.sqlite").unlink()
    monkeypatch.setattr(library_module, "packaged", lambda: library.path)
    before = snapshot(library.path)
    shipped = open_library("packaged")
    assert sorted(entry.digest for entry in shipped.entries()) == digests
    assert shipped.summaries("one", shipped.entries(), lambda one: one.value[0]).shape == (3, 4)
    assert shipped.verify() == []
    assert shipped.record_transfers([TransferRecord("a", "b", 1.0)]) is False
    for change in (lambda: shipped.add(prompt("new", 9)), lambda: shipped.remove("task0"), shipped.reindex):
        with pytest.raises(LibraryError, match=r"ships with spot and is not changed. Make a library of your own"):
            change()
    assert snapshot(library.path) == before


def test_the_packaged_library_lies_in_the_package():
    assert packaged() == Path(spot.__file__).parent / "packaged"


def test_an_installation_without_the_packaged_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(library_module, "packaged", lambda: tmp_path / "packaged")
    with pytest.raises(LibraryError, match="this installation of spot has no packaged library"):
        open_library("packaged")
