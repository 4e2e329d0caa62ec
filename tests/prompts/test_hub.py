"""`SoftPrompt.push_to_hub` and `from_pretrained`, against a hub on this machine."""

from pathlib import Path

import pytest

from spot import SoftPrompt
from spot.errors import NotShared, PromptError, SharingError, Unreachable
from spot.library.library import Library
from spot.remote.store import Raced
from spot.sharing.door import push_library
from tests.support import hub_server
from tests.support.prompts import library_prompt
from tests.support.shared_places import on_hub


@on_hub
def test_a_prompt_comes_back_from_the_hub_as_it_was(hub):
    prompt = library_prompt()
    oid = prompt.push_to_hub("team/sst2", commit_message="The first", private=True)
    repository = hub.repositories["team/sst2"]
    assert repository.private and repository.commits[-1][0] == oid and repository.messages[-1] == "The first"
    assert SoftPrompt.from_pretrained("team/sst2").digest == prompt.digest
    assert SoftPrompt.from_pretrained("hf://team/sst2").digest == prompt.digest
    other = library_prompt("other", 2)
    other.push_to_hub("team/sst2")
    assert SoftPrompt.from_pretrained("team/sst2").digest == other.digest
    assert SoftPrompt.from_pretrained("team/sst2", revision=oid).digest == prompt.digest
    card = repository.files("main")["README.md"].decode()
    assert "# A soft prompt for other" in card and 'from_pretrained("team/sst2")' in card


@on_hub
def test_the_cache_of_the_hub_serves_without_it(hub):
    library_prompt().push_to_hub("team/sst2")
    SoftPrompt.from_pretrained("team/sst2")
    hub.status = 500
    assert SoftPrompt.from_pretrained("team/sst2", local_files_only=True).digest == library_prompt().digest
    with pytest.raises(Unreachable):
        SoftPrompt.from_pretrained("team/other", local_files_only=True)


@on_hub
def test_a_prompt_of_a_shared_library_is_read_by_its_file(hub, tmp_path: Path):
    library = Library.create(tmp_path / "ours")
    digest = library.add(library_prompt()).digest
    push_library(library, "hf://team/prompts")
    prompt = SoftPrompt.from_pretrained("team/prompts", filename=f"prompts/{digest}.safetensors")
    assert prompt.digest == digest
    with pytest.raises(PromptError, match=r"hf://team/prompts has no file 'prompt\.safetensors'"):
        SoftPrompt.from_pretrained("team/prompts")


@on_hub
def test_a_card_that_somebody_wrote_stays(hub):
    library_prompt().push_to_hub("team/sst2")
    repository = hub.repositories["team/sst2"]
    repository.add({"README.md": b"# Mine"}, "by hand")
    library_prompt("other", 2).push_to_hub("team/sst2")
    assert repository.files("main")["README.md"] == b"# Mine"


@on_hub
def test_a_token_that_is_given_is_used(hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    with pytest.raises(SharingError, match="no right to make the repository"):
        library_prompt().push_to_hub("team/sst2")
    library_prompt().push_to_hub("team/sst2", token=hub_server.WRITER, private=True)
    with pytest.raises(NotShared, match="it is private"):
        SoftPrompt.from_pretrained("team/sst2")
    SoftPrompt.from_pretrained("team/sst2", token=hub_server.READER)


@on_hub
def test_who_is_slower_is_told(hub):
    library_prompt().push_to_hub("team/sst2")
    hub.before_commit = lambda: hub.repositories["team/sst2"].add({"x": b"y"}, "meanwhile")
    with pytest.raises(SharingError, match="somebody else wrote there at the same moment") as refusal:
        library_prompt("other", 2).push_to_hub("team/sst2")
    assert isinstance(refusal.value.__cause__, Raced)


def test_a_folder_is_read_without_any_network(tmp_path: Path):
    prompt = library_prompt()
    prompt.save(tmp_path / "prompt.safetensors")
    prompt.save(tmp_path / "best.safetensors")
    assert SoftPrompt.from_pretrained(tmp_path).digest == prompt.digest
    assert SoftPrompt.from_pretrained(str(tmp_path), filename="best.safetensors").digest == prompt.digest
    with pytest.raises(PromptError, match=r"other\.safetensors"):
        SoftPrompt.from_pretrained(tmp_path, filename="other.safetensors")


@pytest.mark.parametrize("name", ["", "sst2", "a/b/c", "../x", "s3://bucket/x", "a b/c"])
def test_what_is_neither_a_folder_nor_a_repository_is_said(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path / ".." if name == "" else tmp_path)
    with pytest.raises((SharingError, PromptError)):
        SoftPrompt.from_pretrained(name)
    with pytest.raises(SharingError):
        library_prompt().push_to_hub(name)
