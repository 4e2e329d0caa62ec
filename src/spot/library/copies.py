"""Keep a copy of a shared library in the user's cache, brought up to date whenever it is opened.

The copy is a library folder like any other. Files come into it whole and checked, and one that the address no longer
names goes. Where nothing answers, the copy is as it was.
"""

import logging
import time
from hashlib import sha256
from pathlib import Path

from spot.errors import NotShared, PromptError, SharingError, Unreachable
from spot.library import history, prompt_files
from spot.library.shared import Progress, fetch_prompts, fetch_transfers, read_records
from spot.prompts.prompt import header
from spot.remote.address import Address, parse
from spot.remote.manifest import Manifest, transfers_name
from spot.remote.opening import open_store
from spot.remote.shared_index import read_index
from spot.remote.store import Store
from spot.storage.files import cache_dir, lock, remove_leftovers, write_whole
from spot.storage.opening import read_bounded

log = logging.getLogger(__name__)

_SHOWN = 5  # problems that are said one by one


def local_copy(text: str, progress: Progress | None = None) -> Path:
    """The folder of a copy of a shared library, as the address has it now or, where nothing answers, had it.

    Args:
        text: the address, given by the user and never by a file.
        progress: called with the number of prompts fetched and in all.

    Raises:
        SharingError: it is no address, there is no shared library, or no right to it.
        Unreachable: nothing answers, and there is no copy.
        StorageError: the copy cannot be written; what it held it still holds.
        MissingExtra: a package is not installed.
    """
    address = parse(text)
    folder = copy_folder(address)
    with lock(folder, waits=True):
        try:
            store = open_store(address)
            index = read_index(store)
            if index is None:
                raise no_library(address)
            remove_leftovers(folder / "prompts", folder)
            problems = [*index.problems, *_refresh(store, index.whole, folder, progress)]
            write_whole(folder / "address.txt", f"{address}\n".encode(), folder)
        except Unreachable as error:
            if not (folder / "address.txt").exists():
                raise
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime((folder / "address.txt").stat().st_mtime))
            log.warning("%s Meanwhile its copy of %s is read.", error, when)
            return folder
    for problem in problems[:_SHOWN]:
        log.warning("left out: %s", problem)
    if len(problems) > _SHOWN:
        log.warning("left out: %d more files of %s", len(problems) - _SHOWN, address)
    return folder


def copy_folder(address: Address) -> Path:
    """Where the copy of an address is; it need not exist."""
    return cache_dir() / "shared" / sha256(str(address).encode()).hexdigest()[:16]


def no_library(address: Address) -> NotShared:
    """The error for an address that can be read and holds no library."""
    return NotShared(
        f"there is no shared library at {address}: it has no index.json and no manifests. Check the address, or make "
        f"one with `spot library push {address} --library DIR`."
    )


def _refresh(store: Store, whole: Manifest, folder: Path, progress: Progress | None) -> list[str]:
    """Bring a copy up to date; what was left out is returned, a line each."""
    prompts = folder / "prompts"
    prompts.mkdir(parents=True, exist_ok=True)
    here = prompt_files.stamped(prompts, folder)
    missing = sorted(whole.prompts.keys() - here.keys())
    problems = list(fetch_prompts(store, whole, missing, folder, progress).values())
    for digest in here.keys() - whole.prompts.keys():
        prompt_files.remove(_file(prompts, digest), folder)
    return problems + _refresh_history(store, whole, folder)


def _refresh_history(store: Store, whole: Manifest, folder: Path) -> list[str]:
    """Bring the history of a copy up to date; what was left out is returned, a line each."""
    problems, contents = [], {}
    for checksum, size in whole.transfers.items():
        path = folder / transfers_name(checksum)
        content = read_bounded(path, size, folder)
        if content is None or sha256(content).hexdigest() != checksum:
            try:
                content = fetch_transfers(store, checksum, size)
            except Unreachable:
                raise
            except SharingError as error:
                problems.append(str(error))
                continue
            write_whole(path, content, folder)
        contents[checksum] = content
    records, wrong = read_records(contents, store.address, _width(folder))
    problems += wrong
    whole_history = b"".join(map(history.line_of, records.values()))
    path = folder / "transfers.jsonl"
    if whole_history != (
        read_bounded(path, len(whole_history) + 1, folder) if _is_short(path, whole_history) else None
    ):
        write_whole(path, whole_history, folder)
    return problems


def _is_short(path: Path, content: bytes) -> bool:
    """Whether a file may hold a content, by its size."""
    return path.exists() and path.stat().st_size == len(content)


def _width(folder: Path) -> int | None:
    """The width of the backbone of the prompts in a copy; None while it has none."""
    for path in sorted((folder / "prompts").glob(f"*{prompt_files.SUFFIX}")):
        try:
            return int(header(path, folder)["width"])
        except PromptError:
            continue
    return None


def _file(prompts: Path, digest: str) -> Path:
    """The file of a prompt in a copy."""
    return prompts / f"{digest}{prompt_files.SUFFIX}"
