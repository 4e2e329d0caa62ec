"""The card of a library: what it says of sources, settings and similarity, in any state of the build."""

from dataclasses import replace
from pathlib import Path

import pytest

from spot.building.card import card, nearness_sentences
from spot.building.door import build_library
from spot.building.plan import BuildPlan
from spot.building.records import BuildRecord, Nearness
from spot.library.library import Library
from spot.prompts.card import may_replace
from tests.support.made_up_builds import worker


@pytest.fixture
def built(planned: BuildPlan, tmp_path: Path) -> tuple[BuildRecord, Library]:
    record = build_library(planned, tmp_path / "library", executor=worker(planned)).record
    assert record is not None
    return record, Library(tmp_path / "library")


def test_a_source_that_does_not_beat_the_frozen_model_is_said(built: tuple[BuildRecord, Library]):
    record, library = built
    entries = [replace(entry, scores={"accuracy": 49.9}) for entry in library.entries()]
    assert card(record, entries, "lib").count("does not beat the frozen model (49.9 against 50.0)") == 3
    assert "does not beat" not in card(record, library.entries(), "lib")


def test_a_source_that_was_added_by_hand_and_names_that_break_tables_stand_in_the_card(built):
    record, library = built
    entries = [replace(entry, task="a|b", digest="by hand") for entry in library.entries()]
    text = card(record, entries, "lib")
    assert "a\\|b" in text and "by hand" in text


def test_a_card_without_sources_or_checks_is_a_card(built):
    record, _ = built
    bare = replace(record, sources=(), checks=(), trials=(), nearness=(), missing={"trec": "no rows"})
    text = card(bare, [], "lib")
    assert "- trec is not here: no rows" in text and "Not checked" in text


def test_commands_of_a_card_name_the_folder(built):
    record, library = built
    text = card(record, library.entries(), "here/it/is")
    assert "spot transfer mine.toml" in text and text.count("--library here/it/is") == 3


def test_similarity_that_ranks_for_one_task_and_not_for_another_is_said_for_both():
    good = Nearness(task="a", own=0.9, other="b", similarity=0.5)
    bad = Nearness(task="b", own=0.2, other="a", similarity=0.5)
    lines = nearness_sentences([good, bad], 24)
    assert "are nearer" in lines[0] and "NOT nearer" in lines[1] and "key_step = 48" in lines[2]
    assert len(nearness_sentences([good], 24)) == 1
    assert not replace(bad, own=0.5).ranks  # as near is no nearer


def test_the_head_is_the_hubs_and_the_page_is_not_replaced_by_the_librarys_own(built):
    record, library = built
    text = card(record, library.entries(), "lib")
    assert text.startswith("---\nlibrary_name: spot\n") and "model-index:" in text
    assert not may_replace(text.encode())
