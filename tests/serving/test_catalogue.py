"""The catalogue follows the folder: what comes, goes, is damaged or belongs to another model."""

import logging
import shutil
import time

import numpy as np
import pytest

from spot.errors import PromptError
from spot.library.library import Library
from spot.serving.catalogue import LibraryCatalogue
from spot.serving.requests import Refusal
from tests.support.tiny_libraries import READINGS, task_prompt, tiny_backbone, tiny_library

TASKS = sorted(READINGS)


@pytest.fixture
def catalogue_of(tiny):
    """A function from a library to a catalogue of it that is closed in the end."""
    opened = []

    def make(library, refresh_s=60.0, family="llama"):
        opened.append(LibraryCatalogue(library, tiny_backbone(tiny, family), refresh_s, 64))
        return opened[-1]

    yield make
    for catalogue in opened:
        catalogue.close()


def refused(catalogue, name: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        catalogue.find(name)
    return caught.value


def test_a_model_is_called_by_task_digest_or_the_beginning_of_one(tmp_path, catalogue_of):
    library = tiny_library(tmp_path)
    catalogue = catalogue_of(library)
    assert [served.name for served in catalogue.served()] == ["base", *TASKS]
    for entry in library.entries():
        for name in (entry.task, entry.digest, entry.digest[:6]):
            served = catalogue.find(name)
            assert (served.digest, served.length) == (entry.digest, entry.length)
            np.testing.assert_array_equal(served.read_vectors(), library.get(entry.digest).value)
    assert catalogue.find("base").read_vectors().shape == (0, 32)
    assert catalogue.problems == ()


def test_an_unknown_name_is_refused_with_near_misses(tmp_path, catalogue_of):
    catalogue = catalogue_of(tiny_library(tmp_path))
    refusal = refused(catalogue, "review")
    assert refusal.status == 404 and "did you mean 'reviews'?" in str(refusal)
    for name in ("", "../reviews", "c" * 100_000, "\x00", catalogue.served()[1].digest[:3]):
        refusal = refused(catalogue, name)
        assert refusal.status == 404 and len(str(refusal)) < 600


def test_two_prompts_of_a_task_are_called_by_digest(tmp_path, catalogue_of):
    library = tiny_library(tmp_path, tasks=("reviews", "letters"))
    second = library.add(task_prompt("reviews", seed=1))
    catalogue = catalogue_of(library)
    refusal = refused(catalogue, "reviews")
    assert refusal.status == 400 and second.digest in str(refusal)
    assert catalogue.find(second.digest).name == second.digest
    library.remove(second.digest)
    catalogue.refresh()
    assert catalogue.find("reviews").name == "reviews"


def test_a_task_that_is_called_base_is_not_the_model_alone(tmp_path, catalogue_of):
    library = tiny_library(tmp_path, tasks=("letters",))
    entry = library.add(task_prompt("letters", seed=1, name="base"))
    catalogue = catalogue_of(library)
    assert catalogue.find("base").digest == ""
    assert catalogue.find(entry.digest).digest == entry.digest


def test_prompts_come_and_go_without_a_new_start(tmp_path, catalogue_of):
    library = tiny_library(tmp_path, tasks=("reviews",))
    catalogue = catalogue_of(library, refresh_s=0.02)
    entry = library.add(task_prompt("pairs"))
    deadline = time.monotonic() + 20
    while len(catalogue.served()) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    held = catalogue.find("pairs")
    library.remove(entry.digest)
    while len(catalogue.served()) > 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [served.name for served in catalogue.served()] == ["base", "reviews"]
    with pytest.raises(PromptError, match=entry.digest):
        held.read_vectors()


@pytest.mark.parametrize("place", [0, 9, 200, -1])
def test_a_damaged_file_is_reported_and_passed_over(tmp_path, catalogue_of, caplog, place):
    library = tiny_library(tmp_path)
    path = library.entries()[0].path
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        catalogue = catalogue_of(library)
    assert len(catalogue.served()) == len(TASKS)
    assert len(catalogue.problems) == 1 and path.stem in catalogue.problems[0]
    caplog.clear()
    catalogue.refresh()
    assert not caplog.messages  # once is enough


def test_prompts_of_another_model_are_reported_and_passed_over(tmp_path, catalogue_of):
    catalogue = catalogue_of(tiny_library(tmp_path, family="gpt2"))
    assert [served.name for served in catalogue.served()] == ["base"]
    assert len(catalogue.problems) == len(TASKS)
    assert all("belongs to the backbone" in problem for problem in catalogue.problems)


def test_a_folder_that_vanishes_is_a_problem_and_the_prompts_that_were_seen_stay(tmp_path, catalogue_of, caplog):
    library = tiny_library(tmp_path / "library")
    catalogue = catalogue_of(library)
    shutil.move(tmp_path / "library", tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING):
        catalogue.refresh()
        catalogue.refresh()
    assert len(caplog.messages) == 1 and str(tmp_path / "library") in caplog.messages[0]
    assert len(catalogue.served()) == 1 + len(TASKS) and len(catalogue.problems) == 1
    with pytest.raises(PromptError):
        catalogue.find("reviews").read_vectors()
    shutil.move(tmp_path / "elsewhere", tmp_path / "library")
    catalogue.refresh()
    assert catalogue.problems == ()


def test_all_prompts_share_what_is_known_of_the_tokenizer(tmp_path, catalogue_of):
    served = catalogue_of(tiny_library(tmp_path)).served()
    assert len({id(model.collator.tokens) for model in served}) == 1


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_prompt_that_is_still_being_copied_appears_when_it_is_whole(tmp_path, catalogue_of, kept):
    path = tiny_library(tmp_path, tasks=("reviews",)).entries()[0].path
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    catalogue = catalogue_of(Library(tmp_path))
    assert len(catalogue.served()) == 1 and len(catalogue.problems) == 1
    path.write_bytes(content)
    catalogue.refresh()
    assert catalogue.find("reviews").digest == path.stem and catalogue.problems == ()


def test_a_prompt_that_could_not_be_read_for_a_moment_is_served_when_it_can_be(tmp_path, catalogue_of, monkeypatch):
    library = tiny_library(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(library, "get", lambda _: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        catalogue = catalogue_of(library)
        assert len(catalogue.served()) == 1 and len(catalogue.problems) == len(TASKS)
    catalogue.refresh()
    assert [served.name for served in catalogue.served()] == ["base", *TASKS] and catalogue.problems == ()


@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), RecursionError("deep"), RuntimeError("changed size")])
def test_no_fault_of_a_look_ends_the_looking(tmp_path, catalogue_of, monkeypatch, error):
    library = tiny_library(tmp_path, tasks=("reviews",))
    catalogue = catalogue_of(library, refresh_s=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(library, "entries", lambda: (_ for _ in ()).throw(error))
        deadline = time.monotonic() + 20
        while not catalogue.problems and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(catalogue.problems) == 1 and len(catalogue.served()) == 2
    Library(tmp_path).add(task_prompt("pairs"))
    while len(catalogue.served()) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [served.name for served in catalogue.served()] == ["base", "pairs", "reviews"]
