"""Cards: metadata that YAML reads, and no text of a file that could change the page."""

import re
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from spot.prompts.card import may_replace, mean_score, metadata, plain_text, prompt_card, score_text
from spot.prompts.prompt import described_by, to_bytes
from spot.reading import Reading
from tests.support.prompts import library_prompt


def head(card: str) -> dict[str, Any]:
    match = re.match(r"---\n(.*?)\n---\n", card, flags=re.DOTALL)
    assert match is not None
    return yaml.safe_load(match[1])


def card_of(**changes: Any) -> str:
    prompt = library_prompt(**changes)
    return prompt_card(described_by(to_bytes(prompt), "x"), "prompt.safetensors", "team/x")


def test_the_head_is_what_the_hub_reads():
    assert head(metadata("google/t5-base-lm-adapt", ["b", "a", "b"], "apache-2.0")) == {
        "library_name": "spot",
        "license": "apache-2.0",
        "base_model": "google/t5-base-lm-adapt",
        "tags": ["soft-prompt", "prompt-tuning", "spot"],
        "datasets": ["a", "b"],
    }
    assert set(head(metadata("mine", ()))) == {"library_name", "tags"}
    assert head(metadata("embedded", ()))["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_the_head_is_yaml_whatever_a_file_says(backbone: str, data_set: str, licence: str):
    values = head(metadata(f"{backbone}/x", [data_set], licence))
    assert values["datasets"] == [data_set] and values.get("license", "") == licence
    assert values.get("base_model", f"{backbone}/x") == f"{backbone}/x"


def test_a_card_says_what_the_file_says():
    card = card_of()
    for text in ("# A soft prompt for glue/sst2", "accuracy 84.5", "accuracy 51.0", "step 180", "steps 200"):
        assert text in card
    assert library_prompt().digest in card and may_replace(card.encode())


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "[x](javascript:1)", "a\n# Title", "![x](http://y)", "`code`", "\x1b[31m"]
)
def test_text_of_a_file_is_only_text(text: str):
    card = card_of(task=text)
    line = next(line for line in card.splitlines() if line.startswith("# A soft prompt for"))
    assert line == f"# A soft prompt for {plain_text(text)}"
    assert not re.search(r"(?<!\\)[<\[`]", line) and "\x1b" not in card


@given(st.text())
def test_plain_text_is_one_line_without_marks(text: str):
    plain = plain_text(text)
    assert plain.isprintable() and not re.search(r"(?<!\\)[`*_\[\]<>|#&!]", re.sub(r"\\\\", "", plain))


def test_only_pages_of_ours_are_replaced():
    assert may_replace(b"") and may_replace(b" \n") and not may_replace(b"# Mine")


def test_scores_in_words():
    assert score_text({"accuracy": 86.34, "f1": 80.0}) == "accuracy 86.3, f1 80.0" and score_text({}) == "-"
    assert mean_score({"a": 1.0, "b": 2.0}) == 1.5 and mean_score({}) is None


def test_the_hub_reads_the_scores_of_a_card():
    """What `huggingface_hub` itself makes of the head."""
    card = ModelCard(card_of(reading=Reading(labels=(("0", "no"), ("1", "yes")))))
    [result] = card.data.eval_results
    assert (result.task_type, result.dataset_name, result.metric_type, result.metric_value) == (
        "text-classification",
        "glue/sst2",
        "accuracy",
        84.5,
    )
    assert card.data.metrics == ["accuracy"] and card.data.library_name == "spot"
    assert ModelCard(card_of()).data.eval_results[0].task_type == "text-generation"


def test_a_card_without_scores_has_no_results():
    values = head(card_of(scores={}))
    assert "model-index" not in values and "metrics" not in values


def test_a_card_in_a_folder_loads_the_file_beside_it():
    content = described_by(to_bytes(library_prompt()), "x")
    assert "spot.SoftPrompt.load('mine.safetensors')" in prompt_card(content, "mine.safetensors")


def test_a_prompt_is_saved_with_a_card_where_that_is_asked_for(tmp_path):
    prompt = library_prompt()
    prompt.save(tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    prompt.save(tmp_path / "a.safetensors", card=True)
    card = tmp_path / "a.md"
    assert card.read_text() == prompt_card(described_by(to_bytes(prompt), "x"), "a.safetensors")
    library_prompt(scores={"accuracy": 11.5}).save(tmp_path / "a.safetensors", card=True)
    assert "accuracy 11.5" in card.read_text()
    card.write_text("# Mine")
    prompt.save(tmp_path / "a.safetensors", card=True)
    assert card.read_text() == "# Mine"
