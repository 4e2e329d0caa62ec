"""Fetch prompts and records of transfers of a shared library, and believe none before its every byte is checked."""

from collections.abc import Sequence
from hashlib import sha256

from spot.errors import PromptError, SharingError
from spot.library import history
from spot.library.history import TransferRecord
from spot.prompts.prompt import SoftPrompt, from_bytes
from spot.remote.manifest import LARGEST_PROMPT, StoredFile, prompt_name, transfers_name
from spot.remote.store import Store


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


def objection(record: TransferRecord, width: int | None) -> str | None:
    """Why a record does not belong beside prompts of a width, if it does not."""
    for name, text in (record.embedding or {}).items():
        if (numbers := len(history.decode_summary(text))) != width:
            return (
                f"the record of {record.source} on {record.target!r:.80} holds {numbers} numbers under {name!r:.40}; "
                f"expected {width}, the width of the backbone"
            )
    return None
