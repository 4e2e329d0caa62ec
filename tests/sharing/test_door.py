"""Push, pull and sync: what travels, what does not, and that no interruption, race or damage loses anything."""

import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import spot as package
from spot.errors import LibraryError, NotShared, SharingError, StorageError
from spot.library.history import TransferRecord, encode_summary
from spot.library.library import Library
from spot.prompts.prompt import BackboneId, KeyRecipe
from spot.remote.manifest import LARGEST_PROMPT, Manifest, StoredFile, part_bytes, part_name, prompt_name
from spot.remote.opening import open_store
from spot.remote.shared_index import read_index
from spot.sharing import door
from spot.sharing.door import pull_library, push_library, sync_library
from tests.support.prompts import library_prompt
from tests.support.shared_places import KINDS, on_hub

Place = Callable[[str], str]
KEPT = (".safetensors", ".jsonl", ".json")


def library_of(folder: Path, *seeds: int, records: int = 0) -> Library:
    library = Library.create(folder)
    for seed in seeds:
        library.add(library_prompt(f"task{seed}", seed))
    summary = {"mean": encode_summary(np.ones(4))}
    library.record_transfers(
        [
            TransferRecord(f"source{n}", "target", 1.0, id=f"{folder.name}-{n}", embedding=summary)
            for n in range(records)
        ]
    )
    return library


def content(library: Library) -> tuple[set[str], set[str | None]]:
    """The prompts and the ids of the records, each checked to its last byte."""
    assert library.verify() == []
    return {entry.digest for entry in library.entries()}, {record.id for record in library.transfers()}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.suffix in KEPT}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_pushed_is_pulled_and_only_what_is_missing_travels(kind: str, place_of: Place, tmp_path: Path):
    address = place_of(kind)
    ours, theirs = library_of(tmp_path / "ours", 1, 2, 3, records=2), library_of(tmp_path / "theirs", 3, 4, records=1)
    first = push_library(ours, address)
    assert (set(first.sent), first.present, first.records) == (content(ours)[0], 0, 2)
    assert (first.refused, first.problems) == ({}, ())
    again = push_library(ours, address)
    assert (again.sent, again.present, again.records) == ((), 3, 0)

    outcome = sync_library(theirs, address)
    assert outcome.pulled is not None
    assert len(outcome.pulled.added) == 2 and outcome.pulled.present == 1 and outcome.pulled.records == 2
    assert len(outcome.pushed.sent) == 1 and outcome.pushed.records == 1
    pulled = pull_library(address, ours)
    assert len(pulled.added) == 1 and pulled.records == 1
    assert content(ours) == content(theirs) and len(content(ours)[0]) == 4 and len(content(ours)[1]) == 3

    fresh = pull_library(address, tmp_path / "fresh")
    assert len(fresh.added) == 4 and content(Library(tmp_path / "fresh")) == content(ours)
    assert pull_library(address, tmp_path / "fresh").added == ()
    assert not list(tmp_path.glob("cache*/incoming/*/prompts"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_address_can_be_read_as_a_library(kind: str, place_of: Place, tmp_path: Path):
    address = place_of(kind)
    ours = library_of(tmp_path / "ours", 1, 2, records=1)
    push_library(ours, address)
    shared = package.open_library(address)
    assert content(shared) == content(ours) and shared.read_only
    with pytest.raises(LibraryError, match="is the copy of a shared library and is not changed"):
        shared.add(library_prompt("task9", 9))
    ours.add(library_prompt("task3", 3))
    push_library(ours, address)
    assert content(package.open_library(address)) == content(ours)


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_is_shared_is_said(kind: str, place_of: Place, tmp_path: Path):
    address = place_of(kind)
    for read in (lambda: pull_library(address, tmp_path / "new"), lambda: package.open_library(address)):
        with pytest.raises(NotShared, match=r"spot library push"):
            read()
    assert not (tmp_path / "new").exists()
    outcome = sync_library(library_of(tmp_path / "ours", 1), address)
    assert outcome.pulled is None and len(outcome.pushed.sent) == 1


def test_an_empty_library_is_not_pushed_to_an_empty_place(tmp_path: Path):
    with pytest.raises(LibraryError, match="is empty: there is nothing to push"):
        push_library(library_of(tmp_path / "ours"), f"file://{tmp_path}/shared")
    assert not (tmp_path / "shared").exists()


def test_what_one_side_removed_comes_back(tmp_path: Path):
    ours, address = library_of(tmp_path / "ours", 1, 2), f"file://{tmp_path}/shared"
    push_library(ours, address)
    ours.remove("task1")
    outcome = sync_library(ours, address)
    assert outcome.pulled is not None and len(outcome.pulled.added) == 1 and outcome.pushed.sent == ()
    assert len(ours.entries()) == 2


# --- other backbones --------------------------------------------------------------------------------------------------


def test_prompts_of_another_backbone_are_left_out_each_with_the_reason(tmp_path: Path):
    address = f"file://{tmp_path}/shared"
    theirs = library_of(tmp_path / "theirs", 1, 2)
    push_library(theirs, address)
    other = BackboneId("other", "causal", 4, 64, "fedcba9876543210")
    recipe = KeyRecipe(60, 3, "vocabulary", 0, "adamw", 0.005, 0.0, 16, 96)
    ours = Library.create(tmp_path / "ours")
    ours.add(library_prompt("mine", 7, backbone=other, key_recipe=recipe))
    before = snapshot(ours.path)
    outcome = pull_library(address, ours)
    assert outcome.added == () and set(outcome.refused) == content(theirs)[0]
    assert all(
        "belongs to the backbone" in reason and "another recipe" in reason for reason in outcome.refused.values()
    )
    assert snapshot(ours.path) == before
    shared = snapshot(tmp_path / "shared")
    with pytest.raises(LibraryError, match=r"does not belong at file://.*Push it to another address"):
        push_library(ours, address)
    assert snapshot(tmp_path / "shared") == shared


def test_of_a_mixed_address_the_kind_that_most_prompts_have_comes_into_an_empty_library(tmp_path: Path):
    address = f"file://{tmp_path}/shared"
    push_library(library_of(tmp_path / "theirs", 1, 2, 3), address)
    other = Library.create(tmp_path / "other")
    other.add(library_prompt("mine", 7, backbone=BackboneId("other", "causal", 4, 64, "fedcba9876543210")))
    elsewhere = f"file://{tmp_path}/elsewhere"
    push_library(other, elsewhere)
    for path in (tmp_path / "elsewhere").rglob("*.*"):
        if path.name != "index.json":
            (tmp_path / "shared" / path.relative_to(tmp_path / "elsewhere")).write_bytes(path.read_bytes())
    outcome = pull_library(address, tmp_path / "new")
    assert len(outcome.added) == 3 and set(outcome.refused) == {entry.digest for entry in other.entries()}


def test_what_does_not_belong_here_is_not_pushed(tmp_path: Path):
    ours = library_of(tmp_path / "ours", 1, 2)
    keyless = library_prompt("odd", 9, key=None, key_recipe=None)
    keyless.save(ours.path / "prompts" / f"{keyless.digest}.safetensors")
    outcome = push_library(ours, f"file://{tmp_path}/shared")
    assert len(outcome.sent) == 2 and "it has no key" in outcome.refused[keyless.digest]


# --- interruptions and races ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What no code of ours catches, as a kill."""


class CountingStore:
    """A store that is killed before its n-th file is written; the files before are there."""

    def __init__(self, store: object, left: list[int]) -> None:
        self._store, self._left = store, left
        self.address = store.address
        self.read, self.sizes = store.read, store.sizes

    def write(self, files: Mapping[str, bytes], message: str) -> None:
        for name, data in files.items():
            if self._left[0] == 0:
                raise Killed
            self._left[0] -= 1
            self._store.write({name: data}, message)


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that lets pushes write so many files and then kills them; -1 for no kill."""
    left = [-1]
    monkeypatch.setattr(
        door, "open_store", lambda address, **options: CountingStore(open_store(address, **options), left)
    )

    def allow(count: int) -> None:
        left[0] = count

    return allow


def shared_digests(address: str) -> set[str]:
    index = read_index(open_store(address))
    return set(index.whole.prompts) if index else set()


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_push_killed_before_any_write_leaves_the_old_library_whole_and_is_done_by_the_next(
    kind: str, place_of: Place, tmp_path: Path, killed_after: Callable[[int], None]
):
    base, ours = library_of(tmp_path / "base", 1, records=1), library_of(tmp_path / "ours", 1, 2, 3, records=2)
    before, after = content(base)[0], content(base)[0] | content(ours)[0]
    seen = set()
    for writes in range(20):
        killed_after(-1)
        address = f"{place_of(kind)}{writes}"
        push_library(base, address)
        killed_after(writes)
        try:
            push_library(ours, address)
            finished = True
        except Killed:
            finished = False
        killed_after(-1)
        shown = shared_digests(address)
        assert shown in (before, after)
        seen.add((finished, len(shown)))
        new = tmp_path / f"new{writes}"
        pull_library(address, new)
        assert content(Library(new))[0] == shown
        push_library(ours, address)
        assert shared_digests(address) == after
        index = read_index(open_store(address))
        assert index is not None and index.is_current and index.problems == ()
        pull_library(address, new)
        assert content(Library(new))[0] == after and len(content(Library(new))[1]) == 3
        if finished:
            break
    assert (False, 1) in seen and (False, 3) in seen and (True, 3) in seen


def interleaved(address: str, libraries: list[Library], order: random.Random, kills: bool) -> list[Library]:
    """Run pushes whose reads and writes take turns, each in a thread of its own; which of them were not killed."""
    finished = []
    turn, done = threading.Condition(), [False] * len(libraries)
    current = [0]

    def next_turn() -> None:
        alive = [number for number, is_done in enumerate(done) if not is_done]
        current[0] = order.choice(alive) if alive else -1
        turn.notify_all()

    class TakingTurns:
        def __init__(self, number: int, store: object) -> None:
            self.number, self.store, self.address = number, store, store.address

        def _mine(self, work: Callable[[], object]) -> object:
            with turn:
                turn.wait_for(lambda: current[0] == self.number)
                if kills and order.random() < 0.05:
                    raise Killed
                try:
                    return work()
                finally:
                    next_turn()

        def read(self, name: str, most_bytes: int) -> object:
            return self._mine(lambda: self.store.read(name, most_bytes))

        def sizes(self, folder: str) -> object:
            return self._mine(lambda: self.store.sizes(folder))

        def write(self, files: Mapping[str, bytes], message: str) -> None:
            for name, data in files.items():
                self._mine(lambda name=name, data=data: self.store.write({name: data}, message))

    def push(number: int) -> None:
        try:
            door._push(libraries[number], TakingTurns(number, open_store(address)), None)
            finished.append(libraries[number])
        except Killed:
            pass
        finally:
            with turn:
                done[number] = True
                next_turn()

    threads = [threading.Thread(target=push, args=(number,)) for number in range(len(libraries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return finished


@pytest.mark.parametrize("kills", [False, True])
def test_pushers_at_the_same_time_lose_nothing_in_any_order(kills: bool, tmp_path: Path):
    libraries = [
        library_of(tmp_path / f"of{number}", 0, *range(10 * number + 1, 10 * number + 3), records=1)
        for number in range(3)
    ]
    everything = set().union(*(content(library)[0] for library in libraries))
    for seed in range(25):
        address = f"memory://turns-{kills}-{seed}-{os.getpid()}/shared"
        finished = interleaved(address, libraries, random.Random(seed), kills)
        assert kills or len(finished) == len(libraries)
        before = shared_digests(address)
        assert before >= set().union(*(content(library)[0] for library in finished))
        for library in libraries:
            push_library(library, address)
            assert before <= shared_digests(address)
        index = read_index(open_store(address))
        assert index is not None and set(index.whole.prompts) == everything
        assert index.is_current and index.problems == () and len(index.whole.transfers) >= 3


@on_hub
def test_a_pusher_who_was_slower_on_the_hub_begins_anew(hub, tmp_path: Path):
    ours, theirs = library_of(tmp_path / "ours", 1, 2), library_of(tmp_path / "theirs", 2, 3)
    hub.before_commit = lambda: push_library(theirs, "hf://team/prompts")
    push_library(ours, "hf://team/prompts")
    assert shared_digests("hf://team/prompts") == content(ours)[0] | content(theirs)[0]
    card = hub.repositories["team/prompts"].files("main")["README.md"].decode()
    assert all(f"task{number}" in card for number in (1, 2, 3))


def test_who_is_always_slower_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def slow(*_: object) -> None:
        raise door.Raced

    monkeypatch.setattr(door, "_push", slow)
    with pytest.raises(SharingError, match="others wrote there 8 times"):
        push_library(library_of(tmp_path / "ours", 1), f"file://{tmp_path}/shared")


def test_a_pull_killed_at_any_write_leaves_a_whole_library_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_cache: Path
):
    address = f"file://{tmp_path}/shared"
    theirs = library_of(tmp_path / "theirs", 1, 2, 3, records=2)
    push_library(theirs, address)
    replace, left = os.replace, [-1]

    def killed(*args: object, **options: object) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        replace(*args, **options)

    monkeypatch.setattr(os, "replace", killed)
    for writes in range(30):
        left[0] = -1
        ours = library_of(tmp_path / f"ours{writes}", 3)
        left[0] = writes
        try:
            pull_library(address, ours)
            finished = True
        except Killed:
            finished = False
        left[0] = -1
        here = content(Library(ours.path))
        assert content(ours)[0] <= here[0] <= content(theirs)[0]
        pull_library(address, ours.path)
        assert content(Library(ours.path)) == content(theirs)
        if finished:
            break
    assert finished and writes > 3
    assert not list(own_cache.glob("incoming/*/prompts"))


@pytest.mark.parametrize("fails_at", range(7))
def test_a_full_disk_leaves_the_library_as_it_was(
    fails_at: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_cache: Path
):
    address = f"file://{tmp_path}/shared"
    push_library(library_of(tmp_path / "theirs", 1, 2, 3, records=2), address)
    ours = library_of(tmp_path / "ours", 3, records=1)
    before, calls = snapshot(ours.path), [0]
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 50:  # no lock file
            calls[0] += 1
            if calls[0] > fails_at:
                raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    if fails_at < 5:  # two prompts come, twice, and then the records
        with pytest.raises(StorageError, match="No space left on device"):
            pull_library(address, ours)
        monkeypatch.undo()
        os.environ["SPOT_CACHE"] = str(own_cache)
        assert snapshot(ours.path) == before
    else:
        assert len(pull_library(address, ours).added) == 2


def test_a_pull_that_has_no_room_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    address = f"file://{tmp_path}/shared"
    push_library(library_of(tmp_path / "theirs", 1, 2), address)
    monkeypatch.setattr(door.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(StorageError, match=r"has 2 prompts of [\d,]+ bytes .* 100 bytes are free in"):
        pull_library(address, tmp_path / "new")
    assert not (tmp_path / "new").exists()


# --- damage and malice ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Library]:
    folder = tmp_path_factory.mktemp("small")
    library = library_of(folder / "ours", 1, 2, records=2)
    push_library(library, f"file://{folder}/shared")
    return folder / "shared", library


@given(data=st.data())
def test_every_flipped_byte_of_any_file_is_refused(data: st.DataObject, small_place: tuple[Path, Library]):
    folder, library = small_place
    index = folder / "index.json"
    has_index = data.draw(st.booleans(), label="has index.json")  # without it every manifest is read
    files = sorted(path for path in folder.rglob("*.*") if path.is_file() and (has_index or path != index))
    path = data.draw(st.sampled_from(files))
    original, whole_index = path.read_bytes(), index.read_bytes()
    flipped = bytearray(original)
    flipped[data.draw(st.integers(0, len(original) - 1), label="place")] ^= 1 << data.draw(st.integers(0, 7))
    target = folder.parent / "pulled"
    if not has_index:
        index.unlink()
    path.write_bytes(flipped)
    try:
        outcome = pull_library(f"file://{folder}", target)
        pulled, everything = content(Library(target)), content(library)
        assert pulled[0] <= everything[0] and pulled[1] <= everything[1]
        if has_index and path.parent.name == "manifests":  # what it says stands in the index: it is not read
            assert pulled == everything
        else:
            assert outcome.refused or outcome.problems
    finally:
        index.write_bytes(whole_index)
        path.write_bytes(original)
        shutil.rmtree(target, ignore_errors=True)


def hostile(folder: Path, manifest: Manifest | bytes) -> str:
    """A place whose one manifest says what it likes, under the name that its content has."""
    text = manifest if isinstance(manifest, bytes) else part_bytes(manifest)
    path = folder / part_name(sha256(text).hexdigest())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    return f"file://{folder}"


@pytest.mark.parametrize(
    "name", ["../../../../evil", "..", "/etc/passwd", "c50132546eead3dé", "C50132546EEAD3DE", "a" * 15, "a" * 17, ""]
)
def test_names_in_a_manifest_are_digests_and_no_paths(name: str, tmp_path: Path):
    text = json.dumps({"format": 1, "prompts": {name: [{"sha256": "0" * 64, "size": 5}]}}).encode()
    with_one = hostile(tmp_path / "shared", text)
    outcome = pull_library(with_one, tmp_path / "new")
    assert outcome.added == () and "no manifest of a shared library" in outcome.problems[0]
    assert not (tmp_path.parent / "evil.safetensors").exists()


@pytest.mark.parametrize(
    "text",
    [
        b'{"format": 1, "prompts": {"%s": [{"sha256": "%s", "size": %d}]}}' % (b"a" * 16, b"0" * 64, 10**15),
        b'{"format": 1, "prompts": {"%s": [{"sha256": "%s", "size": -1}]}}' % (b"a" * 16, b"0" * 64),
        b'{"format": 1, "prompts": {"%s": []}}' % (b"a" * 16),
        b'{"format": 2, "prompts": {}}',
        b'{"format": 1, "run": "import os"}',
        b"[" * 100_000,
        b"\x80\x04\x95",
        b"",
    ],
)
def test_a_manifest_of_anything_else_counts_for_nothing(text: bytes, tmp_path: Path):
    outcome = pull_library(hostile(tmp_path / "shared", text), tmp_path / "new")
    assert outcome.added == () and len(outcome.problems) == 1


def test_a_manifest_of_a_million_prompts_is_bounded(tmp_path: Path):
    entries = ",".join(f'"{number:016x}":[{{"sha256":"{"0" * 64}","size":5}}]' for number in range(1_000_000))
    text = f'{{"format": 1, "prompts": {{{entries}}}}}'.encode()
    outcome = pull_library(hostile(tmp_path / "shared", text), tmp_path / "new")
    assert outcome.added == () and "16,000,000" in outcome.problems[0]


def test_many_manifests_of_many_prompts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spot.remote.manifest.MOST_PROMPTS", 50)
    stored = (StoredFile("0" * 64, 5),)
    for number in range(6):
        address = hostile(tmp_path / "shared", Manifest({f"{number * 100 + n:016x}": stored for n in range(10)}))
    with pytest.raises(SharingError, match="name more than 50 prompts"):
        pull_library(address, tmp_path / "new")


def test_prompts_that_would_fill_the_disk_are_not_fetched(tmp_path: Path):
    stored = (StoredFile("0" * 64, LARGEST_PROMPT),)
    address = hostile(tmp_path / "shared", Manifest({f"{n:016x}": stored for n in range(20_000)}))
    with pytest.raises(StorageError, match="20000 prompts of 20,000,000,000,000 bytes"):
        pull_library(address, tmp_path / "new")


@pytest.mark.parametrize("what", ["pickle", "other", "foreign", "missing", "longer", "link", "fifo"])
def test_a_file_that_is_not_the_prompt_is_left_out_and_the_others_come(what: str, tmp_path: Path):
    address = f"file://{tmp_path}/shared"
    theirs = library_of(tmp_path / "theirs", 1, 2)
    push_library(theirs, address)
    digest = theirs.entries()[0].digest
    path = tmp_path / "shared" / prompt_name(digest)
    whole = path.read_bytes()
    path.unlink()
    lies = {"pickle": b"\x80\x04K\x01.", "other": library_prompt("x", 8).save(tmp_path / "x").read_bytes()}
    if what == "fifo":
        os.mkfifo(path)
    elif what == "link":
        (tmp_path / "elsewhere").write_bytes(whole)
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "longer":
        path.write_bytes(whole + b"more")
    elif what in lies:  # a manifest names what lies there, so that only the digest of the prompt is wrong
        path.write_bytes(lies[what])
        hostile(tmp_path / "shared", Manifest({digest: (StoredFile.of(lies[what]),)}))
    elif what == "foreign":
        path.write_bytes(lies["other"])
    outcome = pull_library(address, tmp_path / "new")
    assert set(outcome.refused) == {digest} and len(outcome.added) == 1
    shared = package.open_library(address)
    assert [entry.digest for entry in shared.entries()] == list(outcome.added)


@pytest.mark.parametrize("numbers", [3, 5])
def test_records_that_no_ranking_could_read_are_left_out(numbers: int, tmp_path: Path):
    address = f"file://{tmp_path}/shared"
    theirs = library_of(tmp_path / "theirs", 1, records=1)
    bad = TransferRecord("unknown", "t", 1.0, id="bad", embedding={"mean": encode_summary(np.ones(numbers))})
    theirs.record_transfers([bad])
    push_library(theirs, address)
    outcome = pull_library(address, tmp_path / "new")
    assert outcome.records == 1 and "expected 4, the width of the backbone" in outcome.problems[0]
    library = Library(tmp_path / "new")
    assert [record.id for record in library.transfers()] == ["theirs-0"]
    assert len(package.open_library(address).transfers()) == 1


def test_a_record_that_is_here_is_never_overwritten(tmp_path: Path):
    address = f"file://{tmp_path}/shared"
    ours, theirs = library_of(tmp_path / "ours", 1), library_of(tmp_path / "theirs", 1)
    ours.record_transfers([TransferRecord("s", "t", 1.0, id="same"), TransferRecord("s", "t", 2.0)])
    theirs.record_transfers([TransferRecord("s", "t", 9.0, id="same"), TransferRecord("s", "t", 2.0)])
    before = (ours.path / "transfers.jsonl").read_bytes()
    push_library(theirs, address)
    outcome = sync_library(ours, address)
    assert outcome.pulled is not None and outcome.pulled.records == 0 and outcome.pushed.records == 0
    assert (ours.path / "transfers.jsonl").read_bytes() == before


def test_a_file_that_is_here_is_never_overwritten_damaged_or_not(tmp_path: Path):
    address = f"file://{tmp_path}/shared"
    push_library(library_of(tmp_path / "theirs", 1, 2), address)
    pull_library(address, tmp_path / "ours")
    damaged, cut = sorted((tmp_path / "ours" / "prompts").glob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    cut.write_bytes(b"")
    before = snapshot(tmp_path / "ours")
    outcome = pull_library(address, tmp_path / "ours")
    assert (outcome.added, outcome.present) == ((), 2) and snapshot(tmp_path / "ours") == before


def test_a_damaged_index_is_made_anew_by_the_next_push(tmp_path: Path):
    ours, address = library_of(tmp_path / "ours", 1, 2), f"file://{tmp_path}/shared"
    push_library(ours, address)
    index = tmp_path / "shared" / "index.json"
    whole = index.read_bytes()
    for damage in (b"", whole[:50], whole.replace(b"a", b"b")):
        index.write_bytes(damage)
        outcome = push_library(ours, address)
        assert outcome.sent == () and len(outcome.problems) == 1
        assert index.read_bytes() == whole


def test_a_prompt_whose_file_is_lost_or_cut_is_sent_again(tmp_path: Path):
    ours, address = library_of(tmp_path / "ours", 1, 2), f"file://{tmp_path}/shared"
    push_library(ours, address)
    lost, cut = (tmp_path / "shared" / prompt_name(entry.digest) for entry in ours.entries())
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    assert len(push_library(ours, address).sent) == 2
    assert len(pull_library(address, tmp_path / "new").added) == 2


def test_a_prompt_that_two_versions_wrote_otherwise_is_taken_in_either_spelling(tmp_path: Path):
    ours, address = library_of(tmp_path / "ours", 1), f"file://{tmp_path}/shared"
    push_library(ours, address)
    digest = ours.entries()[0].digest
    hostile(tmp_path / "shared", Manifest({digest: (StoredFile("f" * 64, 5),)}))
    assert pull_library(address, tmp_path / "new").added == (digest,)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_changed_is_no_target_of_a_pull(tmp_path: Path):
    push_library(library_of(tmp_path / "ours", 1), f"file://{tmp_path}/shared")
    for target in ("packaged", "s3://bucket/x"):
        with pytest.raises(LibraryError, match="is not changed by a pull"):
            pull_library(f"file://{tmp_path}/shared", target)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(LibraryError, match="holds other things"):
        pull_library(f"file://{tmp_path}/shared", tmp_path / "other")
    with pytest.raises(LibraryError, match="is an address: pull it into a folder first"):
        push_library(f"file://{tmp_path}/shared", f"file://{tmp_path}/else")


def test_an_address_is_no_folder_to_make_a_library_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LibraryError, match="is the address of a shared library"):
        Library.create("s3://bucket/prompts")
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_prompts(tmp_path: Path):
    steps: list[tuple[int, int]] = []
    push_library(
        library_of(tmp_path / "ours", 1, 2), f"file://{tmp_path}/shared", progress=lambda *step: steps.append(step)
    )
    pull_library(f"file://{tmp_path}/shared", tmp_path / "new", progress=lambda *step: steps.append(step))
    assert steps == [(1, 2), (2, 2)] * 2


def test_outcomes_are_json(tmp_path: Path):
    address = f"file://{tmp_path}/shared"
    outcome = sync_library(library_of(tmp_path / "ours", 1), address)
    assert json.loads(json.dumps(outcome.to_json()))["pushed"]["sent"] == list(outcome.pushed.sent)
    pulled = pull_library(address, tmp_path / "new")
    assert json.loads(json.dumps(pulled.to_json()))["added"] == list(pulled.added)
