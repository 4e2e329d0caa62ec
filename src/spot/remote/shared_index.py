"""Read what a shared library holds, and write what a push has brought to it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

from spot.errors import SharingError
from spot.remote.manifest import (
    INDEX,
    MANIFESTS,
    MOST_PARTS,
    Manifest,
    index_bytes,
    part_bytes,
    part_name,
    read_part,
    read_whole,
    union,
)
from spot.remote.store import Store
from spot.storage.strict_json import MOST_BYTES

_PART = re.compile(r"[0-9a-f]{64}\.json")
_ROUNDS = 5  # of writers that each find a manifest of another one once they have written the index


@dataclass(frozen=True)
class SharedIndex:
    """What a shared library holds.

    Attributes:
        whole: the union of all manifests.
        is_current: whether `index.json` says the same.
        problems: manifests that are damaged and count for nothing.
    """

    whole: Manifest
    is_current: bool
    problems: tuple[str, ...] = ()


def read_index(store: Store) -> SharedIndex | None:
    """What a shared library holds; None where there is none.

    Raises:
        SharingError: there is an index, and it cannot be used.
        Unreachable: nothing answers.
    """
    content = store.read(INDEX, MOST_BYTES)
    listed = store.sizes(MANIFESTS)
    if content is None and not listed:
        return None
    known, problems = Manifest(), []
    if content is not None:
        try:
            known = read_whole(content, f"{store.address}/{INDEX}")
        except SharingError as error:
            if listed is None:
                raise
            problems.append(str(error))
    names = sorted(name for name in listed or () if _PART.fullmatch(name))
    if len(names) > MOST_PARTS:
        raise SharingError(f"{store.address} has {len(names):,} manifests; expected at most {MOST_PARTS:,}.")
    manifests, parts = [known], []
    for name in names:
        checksum = name.removesuffix(".json")
        if checksum in known.parts:
            continue
        try:
            manifest = _part(store, checksum)
        except SharingError as error:
            problems.append(str(error))
            continue
        manifests.append(manifest)
        parts.append(checksum)
    whole = union([*manifests, Manifest(parts=tuple(parts))], str(store.address))
    return SharedIndex(whole, content is not None and index_bytes(whole) == content, tuple(problems))


def publish(
    store: Store, index: SharedIndex | None, brought: Manifest, beside: Mapping[str, bytes], message: str
) -> None:
    """Have what a push has brought count, once all its files are there.

    Args:
        store: of the library.
        index: what it held; None where it was none.
        brought: what is new.
        beside: other files that are written last, such as a page for people.
        message: for a store that keeps messages.

    Raises:
        SharingError, Unreachable: it cannot be written; what the library held before it still holds.
        Raced: as `Store.write`.
    """
    before = index.whole if index else Manifest()
    files = {}
    if brought.prompts or brought.transfers:
        part = part_bytes(brought)
        checksum = sha256(part).hexdigest()
        files[part_name(checksum)] = part
        brought = replace(brought, parts=(checksum,))
    whole = index_bytes(union([before, brought], str(store.address)))
    store.write({**files, INDEX: whole, **beside}, message)
    for _ in range(_ROUNDS):  # a manifest that another writer has brought meanwhile stands in no index.json
        if (seen := read_index(store)) is None or seen.is_current:
            return
        store.write({INDEX: index_bytes(seen.whole)}, message)


def _part(store: Store, checksum: str) -> Manifest:
    """A manifest that a list has named."""
    name = part_name(checksum)
    content = store.read(name, MOST_BYTES)
    if content is None:
        raise SharingError(f"{store.address}/{name} is listed and cannot be read.")
    return read_part(content, checksum, f"{store.address}/{name}")
