"""The card of a shared library: scores, data, licences, how to use, from what the prompt files say."""

import re
from pathlib import Path

import yaml

from spot.library.entries import Entry, entry_of, kept_text
from spot.library.library import open_library
from spot.prompts.card import may_replace
from spot.prompts.prompt import BackboneId, described_by, to_bytes
from spot.remote.address import parse
from spot.sharing.card import shared_card
from spot.tasks.registry import TABLE
from tests.support.prompts import library_prompt

ADDRESS = parse("hf://team/prompts")


def entry(**changes: object) -> Entry:
    prompt = library_prompt(**changes)
    return entry_of(Path(f"{prompt.digest}.safetensors"), kept_text(described_by(to_bytes(prompt), "x")))


def head(card: str) -> dict[str, object]:
    match = re.match(r"---\n(.*?)\n---\n", card, flags=re.DOTALL)
    assert match is not None
    return yaml.safe_load(match[1])


def test_the_card_of_the_library_that_ships():
    entries = open_library("packaged").entries()
    card = shared_card(entries, ADDRESS).decode()
    for prompt in entries:
        line = next(line for line in card.splitlines() if prompt.digest in line and line.startswith("|"))
        assert TABLE[prompt.task].licence in line and all(f"{score:.1f}" in line for score in prompt.scores.values())
    assert "does not beat the frozen model (-0.1 against 0.0)" in card
    hubs = {TABLE[prompt.task].hub.partition(":")[0] for prompt in entries} - {""}
    assert set(head(card)["datasets"]) == hubs and head(card)["library_name"] == "spot"
    assert "spot library pull hf://team/prompts --library my_library" in card and may_replace(card.encode())


def test_the_model_is_named_where_the_hub_has_it():
    backbone = BackboneId("google/t5-base-lm-adapt", "seq2seq", 4, 64, "0123456789abcdef")
    assert head(shared_card([entry(backbone=backbone)], ADDRESS).decode())["base_model"] == backbone.name


def test_a_task_that_nobody_knows_has_no_licence_and_no_marks():
    card = shared_card([entry(task="mine | <b>")], ADDRESS).decode()
    assert "not known here" in card and "<b>" not in card.replace("\\<b", "")


def test_equal_entries_give_equal_bytes():
    assert shared_card([entry()], ADDRESS) == shared_card([entry()], ADDRESS)
    assert b"0 soft prompts" in shared_card([], ADDRESS)
