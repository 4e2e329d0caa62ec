"""What an index of a shared library says, and how it is written so that any flipped byte shows.

prompts/<digest>.safetensors   the prompts
transfers/<sha256>.jsonl       records of transfers, as many files as pushes that brought some
manifests/<sha256>.json        what one push brought; written after the files that it names, and never changed
index.json                     all of these together, for readers that cannot list a folder

Every name but the last says what the content is, so that two writers never write different bytes under one name. What
the library holds is the union of all manifests. `index.json` is made anew from them at each push and may be behind.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Annotated

from pydantic import Field, with_config

from spot.errors import SharingError
from spot.storage.strict_json import MOST_BYTES
from spot.storage.values import STRICT, read_value, to_json

FORMAT = 1
INDEX = "index.json"
MANIFESTS, PROMPTS, TRANSFERS = "manifests", "prompts", "transfers"
MOST_PROMPTS = 100_000
MOST_PARTS = 20_000  # with so many prompts `index.json` is still below the bound of a document
LARGEST_PROMPT = 1_000_000_000  # bytes
LARGEST_TRANSFERS = 100_000_000  # bytes of one file of records
_MOST_COPIES = 8  # different files under one digest, as older versions may have written them

Digest = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@with_config(STRICT)
@dataclass(frozen=True, order=True)
class StoredFile:
    """What the bytes of a prompt file are."""

    sha256: Sha256
    size: Annotated[int, Field(ge=1, le=LARGEST_PROMPT)]

    @classmethod
    def of(cls, content: bytes) -> "StoredFile":
        """Of a content."""
        return cls(sha256(content).hexdigest(), len(content))


@with_config(STRICT)
@dataclass(frozen=True)
class Manifest:
    """What one push brought, or all of them together.

    Attributes:
        prompts: digest -> what its file may be.
        transfers: SHA-256 of a file of records -> its bytes.
        parts: of all together: the manifests that are in it, by their SHA-256.
        checksum: of `index.json`: the SHA-256 of the same text without it. Of a part its name says that.
        format: of this text.
    """

    prompts: Annotated[
        Mapping[Digest, Annotated[tuple[StoredFile, ...], Field(min_length=1, max_length=_MOST_COPIES)]],
        Field(max_length=MOST_PROMPTS),
    ] = field(default_factory=dict)
    transfers: Annotated[
        Mapping[Sha256, Annotated[int, Field(ge=1, le=LARGEST_TRANSFERS)]], Field(max_length=MOST_PARTS)
    ] = field(default_factory=dict)
    parts: Annotated[tuple[Sha256, ...], Field(max_length=MOST_PARTS)] = ()
    checksum: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT


def prompt_name(digest: str) -> str:
    """Where the file of a prompt is."""
    return f"{PROMPTS}/{digest}.safetensors"


def transfers_name(checksum: str) -> str:
    """Where a file of records is."""
    return f"{TRANSFERS}/{checksum}.jsonl"


def part_name(checksum: str) -> str:
    """Where a manifest is."""
    return f"{MANIFESTS}/{checksum}.json"


def part_bytes(part: Manifest) -> bytes:
    """A manifest as it is written; equal ones give equal bytes."""
    return _text(replace(part, parts=(), checksum=""))


def index_bytes(whole: Manifest) -> bytes:
    """`index.json` as it is written, checksum included; equal ones give equal bytes."""
    plain = replace(whole, parts=tuple(sorted(set(whole.parts))), checksum="")
    return _text(replace(plain, checksum=sha256(_text(plain)).hexdigest()))


def read_part(content: bytes, checksum: str, place: str) -> Manifest:
    """A manifest whose name says what its content is.

    Raises:
        SharingError: it is damaged or none.
    """
    if (actual := sha256(content).hexdigest()) != checksum:
        raise SharingError(f"{place}: this manifest is damaged: its SHA-256 is {actual}, expected that of its name.")
    return _manifest(content, place)


def read_whole(content: bytes, place: str) -> Manifest:
    """`index.json`.

    Raises:
        SharingError: it is damaged or none.
    """
    whole = _manifest(content, place)
    if index_bytes(whole) != content:
        raise SharingError(
            f"{place}: this index is damaged: it does not match its checksum. `spot library push` mends it."
        )
    return whole


def union(manifests: Iterable[Manifest], place: str) -> Manifest:
    """All that manifests name.

    Raises:
        SharingError: more than a library may hold.
    """
    prompts: dict[str, set[StoredFile]] = {}
    transfers: dict[str, int] = {}
    parts: set[str] = set()
    for manifest in manifests:
        for digest, files in manifest.prompts.items():
            prompts.setdefault(digest, set()).update(files)
        for checksum, size in manifest.transfers.items():
            transfers[checksum] = max(size, transfers.get(checksum, 0))  # a bound: the checksum decides
        parts.update(manifest.parts)
        if len(prompts) > MOST_PROMPTS or len(transfers) > MOST_PARTS or len(parts) > MOST_PARTS:
            raise SharingError(
                f"{place}: its manifests name more than {MOST_PROMPTS:,} prompts or {MOST_PARTS:,} other files; "
                "expected a library. Begin a new one at another address."
            )
    known = {digest: tuple(sorted(files))[:_MOST_COPIES] for digest, files in sorted(prompts.items())}
    return Manifest(known, dict(sorted(transfers.items())), tuple(sorted(parts)))


def _text(manifest: Manifest) -> bytes:
    """The one spelling of a manifest."""
    return f"{to_json(manifest)}\n".encode()


def _manifest(content: bytes, place: str) -> Manifest:
    """A manifest of ours, each field checked."""
    return read_value(
        Manifest, content, f"{place} is no manifest of a shared library", SharingError, most_bytes=MOST_BYTES
    )
