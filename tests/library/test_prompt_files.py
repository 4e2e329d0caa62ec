"""The folder of a library may be a stranger's: what stands in it is listed, described or removed, never followed."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from spot.errors import LibraryError, PromptError
from spot.library import prompt_files
from spot.library.library import Library, open_library, resolve
from spot.prompts.prompt import save
from tests.support.commands import Spot
from tests.support.prompts import RECIPE
from tests.support.prompts import library_prompt as prompt


@pytest.fixture
def library(tmp_path: Path) -> Library:
    created = Library.create(tmp_path / "library")
    created.add(prompt())
    return created


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_are_listed_with_stamps(library: Library):
    folder = library.path / "prompts"
    (digest,) = prompt_files.stamped(folder, library.path)
    (folder / ".half.safetensors").write_bytes(b"")
    (folder / "notes.txt").write_bytes(b"")
    assert list(prompt_files.stamped(folder, library.path)) == [digest]
    entry, text = prompt_files.described(folder / f"{digest}.safetensors", library.path)
    assert entry.digest == digest and '"task": "glue/sst2"' in text


@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "folder", "sparse", "device"])
def test_what_is_no_file_is_a_problem_and_not_waited_for(library: Library, tmp_path: Path, kind: str):
    """F3, F8: in `list`, `verify`, `get`; the other prompts stay, and `remove` takes away the odd one alone."""
    (good,) = [entry.digest for entry in library.entries()]
    odd = library.path / "prompts" / f"{'0' * 16}.safetensors"
    other = save_other(tmp_path)
    match kind:
        case "link":
            odd.symlink_to(other)
        case "dangling link":
            odd.symlink_to(tmp_path / "none")
        case "fifo":
            os.mkfifo(odd)
        case "folder":
            odd.mkdir()
        case "device":
            odd.symlink_to("/dev/zero")
        case _:
            odd.write_bytes(other.read_bytes())
            os.truncate(odd, 60_000_000_000)
    began = time.monotonic()
    for source in (library, Library(library.path)):
        assert [entry.digest for entry in source.entries()] == [good]
        (problem,) = source.verify()
        assert odd.name in problem
        with pytest.raises(PromptError, match=odd.name):
            source.get("0" * 16)
    assert time.monotonic() - began < 5
    if kind == "folder":
        with pytest.raises(LibraryError, match=r"cannot remove .*Is a directory"):
            library.remove("0" * 16)
    else:
        assert library.remove("0" * 16) == "0" * 16 and library.verify() == []
    assert other.read_bytes() == save_other(tmp_path).read_bytes()


def save_other(folder: Path) -> Path:
    save(prompt("other", 1), folder / "other.safetensors")
    return folder / "other.safetensors"


def test_prompts_that_lead_elsewhere_are_refused(library: Library, tmp_path: Path):
    """F3: nothing is written into the folder that the link leads to, and nothing in it is deleted."""
    home = tmp_path / "home"
    home.mkdir()
    for name in (".mine.tmp", ".file.1.0123abcd.tmp"):
        (home / name).write_bytes(b"precious")
    shutil.rmtree(library.path / "prompts")
    (library.path / "prompts").symlink_to(home)
    before = contents(home)
    for act in (
        lambda: Library(library.path),
        lambda: Library.create(library.path),
        lambda: library.add(prompt()),
        lambda: library.remove("x"),
        library.reindex,
        library.entries,
        library.verify,
    ):
        with pytest.raises(LibraryError, match="prompts is a link"):
            act()
    assert contents(home) == before


def test_no_lock_is_taken_in_a_file_of_the_user(library: Library, tmp_path: Path):
    """F2: `library add`, `remove` and `reindex` replaced the file by a number."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious\n")
    (library.path / "prompts.lock").unlink()
    (library.path / "prompts.lock").symlink_to(precious)
    for act in (lambda: library.add(prompt("new", 9)), lambda: library.remove("glue/sst2"), library.reindex):
        with pytest.raises(LibraryError, match=r"cannot change the library: .*prompts\.lock is a link"):
            act()
    assert precious.read_bytes() == b"precious\n" and len(library.entries()) == 1


def test_a_library_that_is_reached_through_links_works(library: Library, tmp_path: Path):
    """A user's own ~/data -> /mnt/data, and a link to the library itself."""
    (tmp_path / "data").symlink_to(tmp_path)
    (tmp_path / "mine").symlink_to(library.path)
    for seed, path in enumerate(
        (tmp_path / "data" / "library", tmp_path / "mine", tmp_path / "data" / "mine"), start=1
    ):
        opened = Library.create(path)
        opened.add(prompt(f"task{seed}", seed))
        assert opened.reindex() == seed + 1 and opened.verify() == []


def test_a_run_of_a_stranger_has_no_link_for_its_prompt(tmp_path: Path):
    save_other(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "prompt.safetensors").symlink_to(tmp_path / "other.safetensors")
    with pytest.raises(PromptError, match=r"prompt\.safetensors is a link"):
        resolve(str(tmp_path / "run"))
    (tmp_path / "latest").symlink_to(tmp_path / "other.safetensors")
    assert resolve(str(tmp_path / "latest")).task == "other"


def test_a_recipe_that_names_a_file_of_its_reader_is_left_out(library: Library, tmp_path: Path):
    """Of the kind of F1: runs by a library's recipe would start from whatever a stranger names."""
    hostile = prompt("hostile", 3, key_recipe=replace(RECIPE, init="/home/user/prompt.safetensors"))
    with pytest.raises(LibraryError, match="its run started from another prompt"):
        library.add(hostile)
    save(hostile, library.path / "prompts" / f"{hostile.digest}.safetensors")
    assert [entry.task for entry in library.entries()] == ["glue/sst2"]
    assert any(
        "the recipe of its key starts from" in problem or "started from" in problem for problem in library.verify()
    )


@pytest.mark.parametrize("name", ["x" * 256, "y/" * 3_000, "\0", "\ud800"], ids=["part", "path", "zero", "surrogate"])
def test_impossible_paths_are_one_message(name: str, spot: Spot, tmp_path: Path):
    """F20: `library add`, `list`, `create`, and whatever opens a library."""
    prompt_file = save_other(tmp_path)
    for act in (lambda: open_library(name), lambda: Library.create(tmp_path / name)):
        with pytest.raises(LibraryError, match=r"cannot (read|make a library at) "):
            act()
    with pytest.raises(PromptError, match="cannot read"):
        resolve(name)
    for command in (["list"], ["create"], ["verify"], ["add", str(prompt_file)]):
        result = spot("library", *command, "--library", name)
        assert result.code == 2 and not result.out and result.err.lower().count("error: ") == 1, result
