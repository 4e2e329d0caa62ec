"""Each scheme has its store."""

from pathlib import Path

import pytest

from spot.errors import SharingError
from spot.remote.file_systems import FileSystemStore
from spot.remote.folders import FolderStore
from spot.remote.hub import HubStore
from spot.remote.opening import open_store
from tests.support.shared_places import on_hub


def test_each_scheme_has_its_store(tmp_path: Path):
    assert isinstance(open_store(f"file://{tmp_path}/x"), FolderStore)
    assert isinstance(open_store("memory://x"), FileSystemStore)
    assert isinstance(open_store("https://host/x"), FileSystemStore)


@on_hub
def test_a_repository_is_made_only_for_a_writer(hub):
    with pytest.raises(SharingError, match="no such repository"):
        open_store("hf://team/prompts")
    assert hub.repositories == {}
    assert isinstance(open_store("hf://team/prompts", make=True, private=True), HubStore)
    assert hub.repositories["team/prompts"].private


def test_what_is_no_address_is_refused():
    with pytest.raises(SharingError, match="is no address"):
        open_store("prompts")
