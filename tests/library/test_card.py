"""The card of a library's folder: made by whoever writes the library, and never over a page of somebody else."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from spot.library.card import MOST, library_card
from spot.library.library import Library, open_library
from spot.prompts.card import may_replace
from tests.support.prompts import library_prompt


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library.create(tmp_path / "library")


def card(library: Library) -> str:
    return (library.path / "README.md").read_text()


def test_the_card_follows_the_prompts(library: Library):
    first = library.add(library_prompt("a"))
    library.add(library_prompt("b", 1))
    assert "2 soft prompts" in card(library) and "| a " in card(library)
    assert card(library).encode() == library_card(library.entries())
    library.remove(first.digest)
    assert "1 soft prompt for" in card(library) and "| a " not in card(library)


def test_the_card_is_the_same_however_the_prompts_came(library: Library, tmp_path: Path):
    prompts = [library_prompt("a"), library_prompt("b", 1)]
    for prompt in prompts:
        library.add(prompt)
    other = Library.create(tmp_path / "elsewhere" / "other")
    other.merge(library, [prompt.digest for prompt in reversed(prompts)])
    assert card(other) == card(library)
    (other.path / "README.md").unlink()
    other.reindex()
    assert card(other) == card(library)


def test_a_page_that_somebody_wrote_stays(library: Library):
    (library.path / "README.md").write_text("# Ours")
    library.add(library_prompt("a"))
    assert card(library) == "# Ours"


def test_a_card_that_cannot_be_written_stops_nothing(library: Library, caplog: pytest.LogCaptureFixture):
    (library.path / "README.md").mkdir()
    entry = library.add(library_prompt("a"))
    assert [other.digest for other in library.entries()] == [entry.digest]
    assert "card of the library is not up to date" in caplog.text


def test_the_hub_reads_the_scores_of_every_prompt():
    entries = open_library("packaged").entries()
    results = ModelCard(library_card(entries).decode()).data.eval_results
    assert len(results) == sum(len(entry.scores) for entry in entries)
    assert {"stanfordnlp/sst2", "nyu-mll/glue"} & {result.dataset_type for result in results}


def test_a_library_of_thousands_has_a_short_card():
    entry = open_library("packaged").entries()[0]
    whole = library_card([entry] * (MOST + 7)).decode()
    assert "7 more are not listed." in whole and may_replace(whole.encode())
