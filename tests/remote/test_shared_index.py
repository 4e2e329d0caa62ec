"""What a shared library holds: the union of its manifests, whoever wrote them when."""

import pytest

from spot.errors import SharingError
from spot.remote.manifest import INDEX, Manifest, StoredFile, index_bytes, part_bytes
from spot.remote.opening import open_store
from spot.remote.shared_index import publish, read_index
from spot.remote.store import Store


def of(*numbers: int) -> Manifest:
    return Manifest({f"{number:016x}": (StoredFile("0" * 64, number + 1),) for number in numbers})


@pytest.fixture
def store(tmp_path) -> Store:
    return open_store(f"file://{tmp_path}/shared")


def test_nothing_is_there_at_first(store: Store):
    assert read_index(store) is None


def test_each_push_adds_a_manifest_and_the_index_has_all(store: Store):
    publish(store, None, of(1), {}, "")
    publish(store, read_index(store), of(2), {"README.md": b"x"}, "")
    index = read_index(store)
    assert index is not None and index.is_current and index.problems == ()
    assert index.whole.prompts == of(1, 2).prompts and len(index.whole.parts) == 2
    assert store.read("README.md", 10) == b"x"


def test_a_writer_who_knew_nothing_of_another_one_loses_nothing(store: Store):
    before = read_index(store)
    publish(store, before, of(1), {}, "")
    publish(store, before, of(2), {}, "")
    index = read_index(store)
    assert index is not None and index.is_current and index.whole.prompts == of(1, 2).prompts


def test_a_manifest_without_an_index_counts(store: Store):
    publish(store, None, of(1), {}, "")
    index = read_index(store)
    assert index is not None
    store.write({INDEX: index_bytes(Manifest())}, "")
    behind = read_index(store)
    assert behind is not None and behind.whole.prompts == of(1).prompts and not behind.is_current


def test_nothing_new_only_mends_the_index(store: Store):
    publish(store, None, of(1), {}, "")
    store.write({INDEX: b"damaged"}, "")
    damaged = read_index(store)
    assert damaged is not None and len(damaged.problems) == 1
    publish(store, damaged, Manifest(), {}, "")
    mended = read_index(store)
    assert mended is not None and mended.is_current and len(store.sizes("manifests") or ()) == 1


def test_a_place_that_cannot_list_is_read_by_its_index_alone(store: Store):
    publish(store, None, of(1), {}, "")

    class Web:
        address, read = store.address, store.read

        def sizes(self, folder: str) -> None:
            return None

    index = read_index(Web())
    assert index is not None and index.whole.prompts == of(1).prompts
    store.write({INDEX: b"damaged"}, "")
    with pytest.raises(SharingError, match="is no manifest of a shared library"):
        read_index(Web())


def test_other_files_among_the_manifests_are_passed_over(store: Store):
    publish(store, None, of(1), {}, "")
    store.write({"manifests/notes.txt": b"x"}, "")
    index = read_index(store)
    assert index is not None and index.problems == ()


def test_a_manifest_under_another_name_counts_for_nothing(store: Store):
    publish(store, None, of(1), {}, "")
    store.write({f"manifests/{'0' * 64}.json": part_bytes(of(2))}, "")
    index = read_index(store)
    assert index is not None and index.whole.prompts == of(1).prompts and "is damaged" in index.problems[0]
