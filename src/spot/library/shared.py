"""Fetch prompts and records of transfers of a shared library, and believe none before its every byte is checked."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path
from threading import Event

from spot.errors import PromptError, SharingError, Unreachable
from spot.library import history
from spot.library.history import TransferRecord
from spot.prompts.prompt import SoftPrompt, from_bytes, save
from spot.remote.address import Address
from spot.remote.manifest import LARGEST_PROMPT, Manifest, StoredFile, prompt_name, transfers_name
from spot.remote.store import Store

Progress = Callable[[int, int], None]  # from the prompts done and in all
_AT_ONCE = 8  # files


def fetch_prompt(store: Store, digest: str, files: Sequence[StoredFile]) -> SoftPrompt:
    """A prompt of a shared library.

    Args:
        store: where it lies.
        digest: of the prompt.
        files: what the index says that its file may be.

    Raises:
        SharingError: the file is not there, or its size or SHA-256 is none of those.
        PromptError: it is no prompt, or another one.
        Unreachable: nothing answers.
    """
    name = prompt_name(digest)
    content = store.read(name, min(LARGEST_PROMPT, max(file.size for file in files)))
    place = f"{store.address}/{name}"
    if content is None:
        raise SharingError(f"{place} stands in the index and is not there.")
    if StoredFile.of(content) not in files:
        raise SharingError(f"{place} is damaged: its size or SHA-256 is not what the index says.")
    prompt = from_bytes(content, place)
    if prompt.digest != digest:
        raise PromptError(f"{place} holds the prompt {prompt.digest}; expected the one that its name says.")
    return prompt


def fetch_prompts(
    store: Store, whole: Manifest, digests: Sequence[str], folder: Path, progress: Progress | None = None
) -> dict[str, str]:
    """Bring prompts of a shared library into a folder, several at a time; each file is whole and checked, or not there.

    Args:
        store: where they lie.
        whole: what the index says.
        digests: of the prompts.
        folder: of a library, ours.
        progress: called with the number of prompts that were looked at and in all.

    Returns:
        Why prompts were left out, by digest.

    Raises:
        Unreachable: nothing answers.
        StorageError: the disk is full.
    """
    is_gone = Event()

    def bring(digest: str) -> str | None:
        if is_gone.is_set():
            return None
        try:
            save(fetch_prompt(store, digest, whole.prompts[digest]), folder / prompt_name(digest), folder)
        except Unreachable:
            is_gone.set()
            raise
        except (SharingError, PromptError) as error:
            return str(error)
        return None

    refused = {}
    with ThreadPoolExecutor(_AT_ONCE) as executor:
        futures = {executor.submit(bring, digest): digest for digest in digests}
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                if (reason := future.result()) is not None:
                    refused[futures[future]] = reason
                if progress:
                    progress(number, len(digests))
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return dict(sorted(refused.items()))


def fetch_transfers(store: Store, checksum: str, size: int) -> bytes:
    """A file of records of a shared library; what its lines say is not checked.

    Raises:
        SharingError: it is not there, or damaged.
        Unreachable: nothing answers.
    """
    name = transfers_name(checksum)
    content = store.read(name, size)
    if content is None:
        raise SharingError(f"{store.address}/{name} stands in the index and is not there.")
    if sha256(content).hexdigest() != checksum:
        raise SharingError(f"{store.address}/{name} is damaged: its SHA-256 is not that of its name.")
    return content


def record_key(record: TransferRecord) -> str:
    """What tells a record from every other: its id, or without one all that it says."""
    return record.id if record.id is not None else history.line_of(record).decode()


def read_records(
    contents: Mapping[str, bytes], address: Address, width: int | None
) -> tuple[dict[str, TransferRecord], list[str]]:
    """The records in files of a place by what tells them apart, each once, and what is wrong with others.

    Args:
        contents: by checksum, as `fetch_transfers` gives them.
        address: of the place, for messages.
        width: of the backbone whose prompts they stand beside; None where there is none.
    """
    records: dict[str, TransferRecord] = {}
    problems: list[str] = []
    for checksum, content in contents.items():
        parsed, wrong = history.parse(content, f"{address}/{transfers_name(checksum)}")
        problems += wrong
        for record in parsed:
            if (reason := objection(record, width)) is not None:
                problems.append(reason)
            else:
                records.setdefault(record_key(record), record)
    return records, problems


def objection(record: TransferRecord, width: int | None) -> str | None:
    """Why a record does not belong beside prompts of a width, if it does not."""
    for name, text in (record.embedding or {}).items():
        if (numbers := len(history.decode_summary(text))) != width:
            return (
                f"the record of {record.source} on {record.target!r:.80} holds {numbers} numbers under {name!r:.40}; "
                f"expected {width}, the width of the backbone"
            )
    return None
