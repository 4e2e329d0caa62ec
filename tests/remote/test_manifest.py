"""What an index says comes back as it was, and nothing else is one."""

import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.errors import SharingError
from spot.remote.manifest import (
    LARGEST_TRANSFERS,
    MOST_PARTS,
    MOST_PROMPTS,
    Manifest,
    StoredFile,
    index_bytes,
    part_bytes,
    part_name,
    prompt_name,
    read_part,
    read_whole,
    transfers_name,
    union,
)
from spot.storage.strict_json import MOST_BYTES

checksums = st.text("0123456789abcdef", min_size=64, max_size=64)
stored = st.builds(StoredFile, checksums, st.integers(1, 10**9))
digests = st.text("0123456789abcdef", min_size=16, max_size=16)
manifests = st.builds(
    Manifest,
    prompts=st.dictionaries(digests, st.lists(stored, min_size=1, max_size=3, unique=True).map(tuple), max_size=4),
    transfers=st.dictionaries(checksums, st.integers(1, 10**8), max_size=3),
    parts=st.lists(checksums, max_size=3, unique=True).map(lambda names: tuple(sorted(names))),
)


@given(manifests)
def test_a_manifest_comes_back_as_it_was(manifest: Manifest):
    part = part_bytes(manifest)
    back = read_part(part, sha256(part).hexdigest(), "place")
    assert (back.prompts, back.transfers, back.parts) == (manifest.prompts, manifest.transfers, ())
    whole = read_whole(index_bytes(manifest), "place")
    assert (whole.prompts, whole.transfers, whole.parts) == (manifest.prompts, manifest.transfers, manifest.parts)
    assert index_bytes(whole) == index_bytes(manifest)


@given(manifests, st.data())
def test_every_flipped_byte_shows(manifest: Manifest, data: st.DataObject):
    for content, read in (
        (part_bytes(manifest), lambda text: read_part(text, sha256(part_bytes(manifest)).hexdigest(), "place")),
        (index_bytes(manifest), lambda text: read_whole(text, "place")),
    ):
        damaged = bytearray(content)
        damaged[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        with pytest.raises(SharingError):
            read(bytes(damaged))


@given(st.lists(manifests, max_size=4))
def test_a_union_holds_all_in_any_order(several: list[Manifest]):
    whole = union(several, "place")
    assert whole == union(reversed(several), "place") == union([whole, *several], "place")
    assert set(whole.prompts) == {digest for manifest in several for digest in manifest.prompts}
    assert set(whole.transfers) == {name for manifest in several for name in manifest.transfers}
    for manifest in several:
        for digest, files in manifest.prompts.items():
            assert set(files) <= set(whole.prompts[digest]) or len(whole.prompts[digest]) == 8


def test_names_say_where_files_are():
    assert prompt_name("ab") == "prompts/ab.safetensors"
    assert transfers_name("ab") == "transfers/ab.jsonl"
    assert part_name("ab") == "manifests/ab.json"


@pytest.mark.parametrize("change", [{"extra": 1}, {"format": 2}, {"parts": ["x"]}, {"transfers": {"a": 1}}])
def test_an_index_with_a_wrong_field_is_refused(change: dict[str, object]):
    content = json.loads(index_bytes(Manifest()))
    with pytest.raises(SharingError, match="is no manifest of a shared library"):
        read_whole(json.dumps({**content, **change}).encode(), "place")


def test_the_largest_library_has_an_index_that_can_be_read():
    def size(prompts: int, parts: int) -> int:
        names = tuple(f"{number:064x}" for number in range(parts))
        files = {f"{number:016x}": (StoredFile("0" * 64, 999_999_999),) for number in range(prompts)}
        return len(index_bytes(Manifest(files, dict.fromkeys(names, LARGEST_TRANSFERS), names)))

    base = size(10, 10)  # every entry has one length, so that the size of any number of them follows
    a_prompt, a_part = (size(110, 10) - base) / 100, (size(10, 110) - base) / 100
    assert size(500, 300) == base + 490 * a_prompt + 290 * a_part
    assert base + MOST_PROMPTS * a_prompt + MOST_PARTS * a_part < MOST_BYTES
