"""`spot library push`, `pull`, `sync` and `--library URL` on the command line."""

import sys
from pathlib import Path

import pytest

from spot.library.library import Library
from tests.support.commands import Spot, refused
from tests.support.prompts import library_prompt


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    library = Library.create(tmp_path / "mine")
    for seed in (1, 2):
        library.add(library_prompt(f"task{seed}", seed))
    return library.path


def test_a_library_goes_there_and_back(spot: Spot, mine: Path, tmp_path: Path):
    url = f"file://{tmp_path}/shared"
    pushed = spot("library", "push", url, "--library", mine)
    assert pushed.code == 0 and f"{url}: sent 2 prompts and 0 records of transfers; 0 prompts were there" in pushed.out
    pulled = spot("library", "pull", url, "--library", tmp_path / "new", "--json").json
    assert len(pulled["added"]) == 2 and pulled["refused"] == {}
    synced = spot("library", "sync", url, "--library", mine)
    assert "added 0 prompts" in synced.out and "sent 0 prompts" in synced.out
    assert "pulling" not in synced.out and f"syncing with {url}" in synced.err
    listed = spot("library", "list", "--library", url, "--json").json
    assert [entry["task"] for entry in listed] == ["task1", "task2"]
    assert spot("library", "show", "task1", "--library", url, "--json").json["task"] == "task1"
    assert spot("library", "verify", "--library", url).code == 0


def test_what_is_left_out_is_shown_and_the_exit_code_says_so(spot: Spot, mine: Path, tmp_path: Path):
    url = f"file://{tmp_path}/shared"
    spot("library", "push", url, "--library", mine)
    damaged = next((tmp_path / "shared" / "prompts").iterdir())
    damaged.write_bytes(b"x")
    result = spot("library", "pull", url, "--library", tmp_path / "new")
    assert result.code == 2 and "added 1 prompts" in result.out and "is damaged" in result.out
    assert damaged.stem in result.out and "Traceback" not in result.err
    as_json = spot("library", "pull", url, "--library", tmp_path / "new", "--json")
    assert as_json.code == 2 and damaged.stem in as_json.out


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("s4://bucket/x", "no store has the scheme 's4'"),
        ("nowhere", "is no address; expected one such as hf://OWNER/REPO"),
        ("file:///no/such/folder", "there is no shared library at file:///no/such/folder"),
        ("http://example.com/x", "Give an https:// address"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line(url: str, named: str, spot: Spot, tmp_path: Path):
    result = spot("library", "pull", url, "--library", tmp_path / "new")
    refused(result, named)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", ["push", "pull", "sync"])
def test_a_missing_package_is_one_line(command: str, spot: Spot, mine: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused(
        spot("library", command, "hf://team/prompts", "--library", mine),
        "hf:// needs huggingface_hub, which is not installed; run: pip install 'spot-transfer[remote]'",
    )


def test_a_full_disk_is_one_line(spot: Spot, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    url = f"file://{tmp_path}/shared"
    spot("library", "push", url, "--library", mine)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spot.storage.files.write_all", full)
    refused(spot("library", "pull", url, "--library", tmp_path / "new"), "No space left on device")
    monkeypatch.undo()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [("add", "packaged:cr"), ("remove", "task1"), ("reindex",), ("create",)])
def test_a_shared_library_is_only_read(words: tuple[str, ...], spot: Spot, mine: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = f"file://{tmp_path}/shared"
    spot("library", "push", url, "--library", mine)
    before = {path: path.read_bytes() for path in (tmp_path / "shared").rglob("*.*")}
    prompt = library_prompt("task9", 9).save(tmp_path / "new.safetensors")
    words = ("add", str(prompt)) if words[0] == "add" else words
    result = spot("library", *words, "--library", url)
    assert result.code == 2 and result.err.count("error:") == 1
    assert "is not changed" in result.err or "is the address of a shared library" in result.err
    assert before == {path: path.read_bytes() for path in (tmp_path / "shared").rglob("*.*")}
    assert not (tmp_path / "file:").exists()
