"""Push a library to an address, pull one from it, or both: only what is missing travels, and nothing is deleted."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from spot.errors import LibraryError, NotShared, PromptError, SharingError, StorageError, Unreachable
from spot.library import history, prompt_files
from spot.library.copies import copy_folder, local_copy, no_library
from spot.library.entries import Entry, objections
from spot.library.history import TransferRecord
from spot.library.library import PACKAGED, Library, open_library
from spot.library.shared import Progress, fetch_prompt, fetch_prompts, fetch_transfers, read_records, record_key
from spot.prompts.card import README, may_replace
from spot.prompts.prompt import to_bytes
from spot.remote.address import Address, is_address, parse
from spot.remote.manifest import PROMPTS, Manifest, StoredFile, prompt_name, transfers_name
from spot.remote.opening import open_store
from spot.remote.shared_index import publish, read_index
from spot.remote.store import Raced, Store
from spot.sharing.card import shared_card
from spot.storage.files import cache_dir, lock
from spot.storage.opening import exists

_BATCH = 100  # prompts, and
_BATCH_BYTES = 64_000_000  # bytes that are held and written together
_ROUNDS = 8  # of another writer who was quicker


@dataclass(frozen=True)
class PushOutcome:
    """What a push came to.

    Attributes:
        address: where to.
        library: where from.
        sent: digests of the prompts that were not there.
        present: how many prompts were there already.
        records: how many records of transfers were sent.
        refused: digest -> why a prompt stayed here.
        problems: what is damaged at the address, a line each.
    """

    address: str
    library: str
    sent: tuple[str, ...]
    present: int
    records: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**asdict(self), "sent": list(self.sent), "problems": list(self.problems)}


@dataclass(frozen=True)
class PullOutcome:
    """What a pull came to.

    Attributes:
        address: where from.
        library: where to.
        added: digests of the prompts that were not here.
        present: how many prompts were here already.
        records: how many records of transfers were added.
        refused: digest -> why a prompt was not taken.
        problems: what else is damaged at the address, a line each.
    """

    address: str
    library: str
    added: tuple[str, ...]
    present: int
    records: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**asdict(self), "added": list(self.added), "problems": list(self.problems)}


@dataclass(frozen=True)
class SyncOutcome:
    """What a pull and then a push came to; `pulled` is None where there was nothing to pull yet."""

    pulled: PullOutcome | None
    pushed: PushOutcome

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {"pulled": self.pulled.to_json() if self.pulled else None, "pushed": self.pushed.to_json()}


def push_library(
    library: Library | Path | str, address: str, *, private: bool = False, progress: Progress | None = None
) -> PushOutcome:
    """Bring to an address what it lacks: prompts, and records of transfers. Nothing there is deleted or changed.

    Files go first, and count only once a manifest that names them is written, last: a push that is interrupted leaves
    the library at the address as it was. Pushes at the same time lose nothing of each other.

    Args:
        library: a library, its folder, or `packaged`.
        address: such as `hf://OWNER/REPO`, `s3://BUCKET/PATH` or `file:///FOLDER`.
        private: make a repository that is not there for its owners' eyes alone.
        progress: called with the number of prompts sent and in all.

    Returns:
        What was sent, and what stayed here with the reason.

    Raises:
        LibraryError: there is no library, it is empty, or its prompts do not belong beside those at the address.
        SharingError, Unreachable: the address cannot be written.
        MissingExtra: a package is not installed.
    """
    opened = _library(library)
    place = parse(address)
    for _ in range(_ROUNDS):
        store = open_store(place, make=True, private=private)
        with contextlib.suppress(Raced):
            return _push(opened, store, progress)
    raise SharingError(f"{address}: others wrote there {_ROUNDS} times while this push did. Run it again.")


def pull_library(address: str, library: Library | Path | str, *, progress: Progress | None = None) -> PullOutcome:
    """Bring to a library what an address has beyond it. Nothing here is overwritten, and nothing that comes is run.

    Every file is fetched and checked before the first one is added; one that is damaged or does not belong in the
    library is left out with the reason. A pull that was interrupted goes on where it was.

    Args:
        address: such as `hf://OWNER/REPO@REVISION`, `s3://BUCKET/PATH`, `https://HOST/PATH` or `file:///FOLDER`.
        library: a library or its folder, which is made where it is missing.
        progress: called with the number of prompts fetched and in all.

    Returns:
        What was added, and what was not with the reason.

    Raises:
        LibraryError: the folder is no library or cannot be changed.
        SharingError, Unreachable: the address cannot be read, or holds no library.
        StorageError: the disk is full; the library is as before.
        MissingExtra: a package is not installed.
    """
    place = parse(address)
    present: Library | None = library if isinstance(library, Library) else None
    folder = Path(library.path if isinstance(library, Library) else library)
    if isinstance(library, str) and (library == PACKAGED or is_address(library)):
        raise LibraryError(f"{library} is not changed by a pull. Name the folder of a library: --library DIR.")
    if present is None and exists(folder):
        present = Library.create(folder)
    store = open_store(place)
    index = read_index(store)
    if index is None:
        raise no_library(place)
    here = set(prompt_files.stamped(folder / "prompts", folder)) if present else set()
    wanted = sorted(index.whole.prompts.keys() - here)
    with _staging(place) as staging:
        refused = _stage(store, index.whole, wanted, staging, folder, progress)
        staged = Library(staging, read_only=True)
        held = present.backbone if present else None
        backbone = held or staged.backbone
        records, problems = _records(store, index.whole, backbone.width if backbone else None)
        target = present or Library.create(folder)
        known = {record_key(record) for record in target.transfers()}
        fresh = [record for key, record in records.items() if key not in known]
        added, unfit = target.merge(staged, [digest for digest in wanted if digest not in refused], fresh)
    return PullOutcome(
        str(place),
        str(folder),
        tuple(added),
        len(index.whole.prompts.keys() & here),
        len(fresh),
        dict(sorted({**refused, **unfit}.items())),
        (*index.problems, *problems),
    )


def sync_library(
    library: Library | Path | str, address: str, *, private: bool = False, progress: Progress | None = None
) -> SyncOutcome:
    """Pull, then push: afterwards both sides have what either had. A prompt that one side removed comes back to it.

    Args and errors are those of `push_library` and `pull_library`.
    """
    try:
        pulled = pull_library(address, library, progress=progress)
    except NotShared:
        pulled = None
    return SyncOutcome(pulled, push_library(library, address, private=private, progress=progress))


def _push(library: Library, store: Store, progress: Progress | None) -> PushOutcome:
    """Push to a place as it was when it was opened.

    Raises:
        Raced: somebody else has written meanwhile.
    """
    index = read_index(store)
    whole = index.whole if index else Manifest()
    entries = library.entries()
    if index is None and not entries:
        raise LibraryError(f"the library {library.path} is empty: there is nothing to push. Add a prompt first.")
    stored = store.sizes(PROMPTS) or {}
    missing = [entry for entry in entries if not _is_there(entry.digest, whole, stored)]
    usual = library.usual()
    if missing and usual:
        _check_belongs(library, usual, store, whole)
    sent: dict[str, tuple[StoredFile, ...]] = {}
    refused: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for number, entry in enumerate(missing, start=1):
        try:
            prompt = library.get(entry.digest)
        except (PromptError, LibraryError) as error:
            refused[entry.digest] = str(error)
            continue
        if reasons := objections(prompt, usual):
            refused[entry.digest] = "; ".join(reasons)
            continue
        content = to_bytes(prompt)
        sent[entry.digest] = (StoredFile.of(content),)
        files[prompt_name(entry.digest)] = content
        if len(files) == _BATCH or sum(map(len, files.values())) > _BATCH_BYTES:
            store.write(files, f"Add {len(files)} prompts")
            files = {}
        if progress:
            progress(number, len(missing))
    lines, problems = _lines_to_send(library, store, whole)
    transfers: dict[str, int] = {}
    if lines:
        checksum = sha256(lines).hexdigest()
        files[transfers_name(checksum)] = lines
        transfers[checksum] = len(lines)
    if files:
        store.write(files, f"Add {len(sent)} prompts and records of transfers")
    if sent or transfers or index is None or not index.is_current:
        cards = _card(library, store, {**whole.prompts, **sent}) if store.address.scheme == "hf" else {}
        publish(store, index, Manifest(sent, transfers), cards, f"Have {len(sent)} prompts count")
    return PushOutcome(
        str(store.address),
        str(library.path),
        tuple(sent),
        len(entries) - len(missing),
        lines.count(b"\n"),
        refused,
        (*(index.problems if index else ()), *problems),
    )


def _is_there(digest: str, whole: Manifest, stored: dict[str, int]) -> bool:
    """Whether a prompt counts at a place, and its file has a size that it may have."""
    files = whole.prompts.get(digest, ())
    return stored.get(Path(prompt_name(digest)).name) in {file.size for file in files}


def _check_belongs(library: Library, usual: Entry, store: Store, whole: Manifest) -> None:
    """Refuse to push to a place that holds prompts of another backbone or recipe.

    Raises:
        LibraryError: saying how they differ.
    """
    if whole.prompts.keys() & {entry.digest for entry in library.entries()}:
        return
    for digest, files in whole.prompts.items():
        try:
            reasons = objections(fetch_prompt(store, digest, files), usual)
        except Unreachable:
            raise
        except (SharingError, PromptError):
            continue
        if reasons:
            raise LibraryError(
                f"the library {library.path} does not belong at {store.address}, which holds the prompt {digest}: "
                f"{'; '.join(reasons)}. Push it to another address."
            )
        return


def _lines_to_send(library: Library, store: Store, whole: Manifest) -> tuple[bytes, list[str]]:
    """The records of a library that a place lacks, and what is damaged among those that it has."""
    ours = {record_key(record): record for record in library.transfers()}
    if not ours:
        return b"", []
    theirs, problems = _records(store, whole, library.backbone.width if library.backbone else None)
    return b"".join(history.line_of(record) for key, record in ours.items() if key not in theirs), problems


def _records(store: Store, whole: Manifest, width: int | None) -> tuple[dict[str, TransferRecord], list[str]]:
    """The records of a place by what tells them apart, and what is wrong with others."""
    problems: list[str] = []
    contents: dict[str, bytes] = {}
    for checksum, size in whole.transfers.items():
        try:
            contents[checksum] = fetch_transfers(store, checksum, size)
        except Unreachable:
            raise
        except SharingError as error:
            problems.append(str(error))
    records, wrong = read_records(contents, store.address, width)
    return records, [*problems, *wrong]


def _card(library: Library, store: Store, prompts: dict[str, tuple[StoredFile, ...]]) -> dict[str, bytes]:
    """The page for people, of all prompts that will be at a place; none where somebody wrote one by hand."""
    present = store.read(README, 1_000_000)
    if present is not None and not may_replace(present):
        return {}
    entries = {entry.digest: entry for entry in library.entries()}
    if prompts.keys() - entries.keys():
        copy = Library(local_copy(str(store.address)), read_only=True)
        entries = {**{entry.digest: entry for entry in copy.entries()}, **entries}
    described = [entry for digest, entry in entries.items() if digest in prompts]
    return {README: shared_card(sorted(described, key=lambda entry: (entry.task, entry.digest)), store.address)}


@contextlib.contextmanager
def _staging(address: Address) -> Iterator[Path]:
    """A folder for what a pull has fetched and checked; one that was interrupted finds it again.

    Where the disk is full, it goes.
    """
    folder = cache_dir() / "incoming" / copy_folder(address).name
    with lock(folder, waits=True):
        (folder / "prompts").mkdir(parents=True, exist_ok=True)
        try:
            yield folder
        except StorageError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _stage(
    store: Store, whole: Manifest, wanted: Sequence[str], staging: Path, target: Path, progress: Progress | None
) -> dict[str, str]:
    """Fetch prompts; those that cannot be used are returned with the reason.

    Raises:
        StorageError: there is no room for them.
    """
    here = prompt_files.stamped(staging / "prompts", staging)
    missing = [digest for digest in wanted if digest not in here]
    size = sum(max(file.size for file in whole.prompts[digest]) for digest in missing)
    for folder in (staging, next(path for path in (target, *target.absolute().parents) if path.exists())):
        if size > (free := shutil.disk_usage(folder).free):
            raise StorageError(
                f"{store.address} has {len(missing)} prompts of {size:,} bytes that {target} lacks, and {free:,} bytes "
                f"are free in {folder}. The library is as before. Free some disk space, and run the command again."
            )
    return fetch_prompts(store, whole, missing, staging, progress)


def _library(library: Library | Path | str) -> Library:
    """The library that a push starts from.

    Raises:
        LibraryError: there is none, or it is itself an address.
    """
    if is_address(library):
        raise LibraryError(f"{library} is an address: pull it into a folder first, and push from there.")
    return library if isinstance(library, Library) else open_library(library)
