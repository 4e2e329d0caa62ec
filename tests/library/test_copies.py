"""The copy of a shared library: brought up to date when it is opened, read as it is where nothing answers."""

import logging
import re
import shutil
from pathlib import Path

import pytest

import spot as package
from spot.errors import NotShared, SharingError, Unreachable
from spot.library import copies
from spot.library.copies import copy_folder, local_copy
from spot.library.history import TransferRecord
from spot.library.library import Library, resolve
from spot.remote.address import parse
from spot.remote.manifest import prompt_name
from spot.remote.opening import open_store
from spot.sharing.door import push_library
from tests.support.prompts import library_prompt
from tests.support.shared_places import on_hub
from tests.support.small_studies import plan_small_study, write_tasks


@pytest.fixture
def ours(tmp_path: Path) -> Library:
    library = Library.create(tmp_path / "ours")
    for seed in (1, 2):
        library.add(library_prompt(f"task{seed}", seed))
    library.record_transfers([TransferRecord("a", "b", 1.0, id="first")])
    return library


@pytest.fixture
def address(ours: Library, tmp_path: Path) -> str:
    push_library(ours, f"file://{tmp_path}/shared")
    return f"file://{tmp_path}/shared"


def digests(library: Library) -> list[str]:
    return [entry.digest for entry in library.entries()]


def test_a_copy_is_brought_up_to_date_and_files_travel_once(
    ours: Library, address: str, monkeypatch: pytest.MonkeyPatch, own_cache: Path
):
    steps: list[tuple[int, int]] = []
    folder = local_copy(address, lambda *step: steps.append(step))
    assert folder.is_relative_to(own_cache) and digests(Library(folder)) == digests(ours) and steps == [(1, 2), (2, 2)]
    ours.add(library_prompt("task3", 3))
    ours.record_transfers([TransferRecord("c", "d", 1.0, id="second")])
    push_library(ours, address)
    assert local_copy(address, lambda *step: steps.append(step)) == folder and steps[2:] == [(1, 1)]
    copy = Library(folder)
    assert digests(copy) == digests(ours) and copy.verify() == []
    assert {record.id for record in copy.transfers()} == {"first", "second"}
    local_copy(address, lambda *step: steps.append(step))
    assert len(steps) == 3


def test_each_address_and_revision_has_a_copy_of_its_own():
    texts = ("hf://a/b", "hf://a/b@main", "hf://a/c", "s3://a/b", "gs://a/b")
    assert len({copy_folder(parse(text)) for text in texts}) == len(texts)


def test_where_nothing_answers_the_copy_is_read_and_that_is_said(
    ours: Library, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def silent(_: object) -> None:
        raise Unreachable("nothing answers.")

    monkeypatch.setattr(copies, "open_store", silent)
    with pytest.raises(Unreachable):
        package.open_library(address)
    monkeypatch.setattr(copies, "open_store", open_store)
    local_copy(address)
    monkeypatch.setattr(copies, "open_store", silent)
    with caplog.at_level(logging.WARNING, logger="spot"):
        assert digests(package.open_library(address)) == digests(ours)
    assert re.search(r"nothing answers\. Meanwhile its copy of \d{4}-\d\d-\d\d \d\d:\d\d is read", caplog.text)


def test_what_the_address_no_longer_names_goes(ours: Library, address: str, tmp_path: Path):
    folder = local_copy(address)
    shutil.rmtree(tmp_path / "shared")
    ours.remove("task1")
    push_library(ours, address)
    assert digests(Library(local_copy(address))) == digests(ours) and len(digests(ours)) == 1
    assert local_copy(address) == folder


def test_an_address_that_is_no_library_any_more_is_said_although_there_is_a_copy(address: str, tmp_path: Path):
    local_copy(address)
    shutil.rmtree(tmp_path / "shared")
    with pytest.raises(NotShared, match="there is no shared library at file://"):
        local_copy(address)


def test_what_is_damaged_is_left_out_with_a_warning(
    ours: Library, address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    lost = digests(ours)[0]
    (tmp_path / "shared" / prompt_name(lost)).write_bytes(b"x")
    with caplog.at_level(logging.WARNING, logger="spot"):
        assert digests(package.open_library(address)) == digests(ours)[1:]
    assert "left out: file://" in caplog.text and lost in caplog.text


def test_many_problems_are_counted(address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for number in range(9):
        (tmp_path / "shared" / "manifests" / f"{number:064x}.json").write_bytes(b"x")
    with caplog.at_level(logging.WARNING, logger="spot"):
        local_copy(address)
    assert caplog.text.count("left out: ") == 6 and "4 more files of file://" in caplog.text


def test_a_damaged_file_in_the_copy_is_no_prompt_of_it(ours: Library, address: str):
    folder = local_copy(address)
    digest = digests(ours)[0]
    (folder / prompt_name(digest)).write_bytes(b"x")
    assert digests(package.open_library(address)) == digests(ours)[1:]


@on_hub
def test_a_repository_is_read_at_its_revision(hub, ours: Library):
    push_library(ours, "hf://team/prompts")
    first = hub.repositories["team/prompts"].commits[-1][0]
    ours.add(library_prompt("task3", 3))
    push_library(ours, "hf://team/prompts")
    assert len(digests(package.open_library("hf://team/prompts"))) == 3
    assert len(digests(package.open_library(f"hf://team/prompts@{first}"))) == 2


@on_hub
def test_a_repository_that_is_no_library_is_said(hub):
    open_store("hf://team/model", make=True).write({"config.json": b"{}"}, "x")
    with pytest.raises(NotShared, match=r"there is no shared library at hf://team/model: .*no index\.json"):
        package.open_library("hf://team/model")


@pytest.mark.parametrize("name", ["hf://team/prompts", "s3://bucket/x", "memory://x"])
def test_no_file_can_have_an_address_fetched(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A prompt that names an address as the start of its run, and a study that names one as its sources."""
    asked = []
    monkeypatch.setattr(copies, "open_store", lambda address: asked.append(address))
    prompt = library_prompt(config={"init": name, "steps": 200, "library": name})
    path = prompt.save(tmp_path / "prompt.safetensors")
    package.SoftPrompt.load(path)
    Library.create(tmp_path / "library").add(prompt)
    Library(tmp_path / "library").verify()
    with pytest.raises(package.SpotError):
        resolve(name)
    write_tasks(tmp_path)
    with pytest.raises(package.SpotError, match=re.escape(name)):
        plan_small_study(tmp_path, f'sources=["{name}"]')
    assert asked == []


def test_an_unknown_scheme_is_said():
    with pytest.raises(SharingError, match="no store has the scheme 'ftp'"):
        package.open_library("ftp://host/prompts")
