"""How fields become text: templates word for word, and settings that cannot be read by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.config import TuneConfig
from spot.errors import TaskError
from spot.prompts.prompt import BackboneId, SoftPrompt, reading_of
from spot.reading import CUE, Reading, braced, parse_template, past_reading

TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
FIELD = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="{}"), min_size=1, max_size=8)


@given(st.lists(st.tuples(TEXT, FIELD, TEXT), min_size=1, max_size=4), TEXT)
def test_a_template_is_read_word_for_word_whatever_the_fields_hold(parts: list[tuple[str, str, str]], end: str):
    template = "".join(f"{braced(before)}{{{field}}}" for before, field, _ in parts) + braced(end)
    values = {field: value for _, field, value in parts}
    expected = "".join(before + values[field] for before, field, _ in parts) + end
    reading = Reading(template=template)
    assert reading.render(values) == expected
    assert set(reading.fields) == set(values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "a {b"}, "has a lone '{'"),
        ({"template": "a} {b}"}, "has a lone '}'"),
        ({"template": "{}"}, "has a lone '{'"),
        ({"template": "{{b}}"}, "names no field"),
        ({"template": "plain"}, "names no field"),
        ({"template": "{a}", "form": "glue/sst2"}, "both a form"),
        ({"decode": "guess"}, "decode is 'guess'"),
        ({"end": "maybe"}, "end is 'maybe'"),
        ({"truncate": "middle"}, "truncate is 'middle'"),
        ({"max_input_tokens": 0}, "max_input_tokens is 0"),
        ({"labels": (("1", "good"), ("1", "bad"))}, "the label '1' is named more than once"),
        ({"cue": "\ud800"}, "surrogate"),
        ({"chat": True, "cue": "\nAnswer:"}, r"chat stands beside the cue '\\nAnswer:'"),
        ({"system": "Judge it."}, "system .'Judge it.'. stands without chat"),
        ({"chat": True, "system": "\ud800"}, "surrogate"),
    ],
)
def test_what_cannot_be_read_by_is_refused(settings: dict, message: str):
    with pytest.raises(TaskError, match=message):
        Reading(**settings)


def test_cue_and_separator_follow_the_kind_of_model_unless_they_are_given():
    causal, seq2seq = Reading().for_kind("causal"), Reading().for_kind("seq2seq")
    assert (causal.cue, causal.separator) == (CUE, " ") and (seq2seq.cue, seq2seq.separator) == ("", "")
    given = Reading(cue="", separator="\n")
    for kind in ("causal", "seq2seq"):
        assert (given.for_kind(kind).cue, given.for_kind(kind).separator) == ("", "\n")


def test_chat_form_has_no_cue_and_no_blank_before_the_answer_unless_one_is_given():
    reading = Reading(chat=True, system="Judge it.").for_kind("causal")
    assert (reading.cue, reading.separator, reading.chat) == ("", "", True)
    assert reading.for_kind("causal") == reading, "as it stands in a prompt file"
    assert Reading(chat=True, separator=" ").for_kind("causal").separator == " "


@pytest.mark.parametrize(
    ("task", "setting", "used"),
    [(False, None, False), (False, True, True), (True, None, True), (True, False, False), (True, True, True)],
)
def test_a_run_is_in_chat_form_where_its_settings_or_else_its_task_say_so(task, setting, used):
    reading = Reading(chat=task, system="Judge it." if task else "").with_limits(TuneConfig(task="cr", chat=setting))
    assert (reading.chat, reading.system) == (used, "Judge it." if task and used else "")


def test_two_values_may_share_a_word():
    reading = Reading(labels=(("0", "bad"), ("1", "good"), ("2", "good")))
    assert reading.words == ("bad", "good") and reading.of_labels(("x", "y")) == reading


def test_only_what_is_not_the_default_enters_a_digest():
    assert Reading(template="{a}", labels=(("a", "b"),), max_input_tokens=3).spelling == ""
    assert Reading(cue="").spelling == "{'cue': ''}" and "always" in Reading(end="always").spelling
    assert Reading(chat=True, system="x").spelling == "{'chat': True, 'system': 'x'}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": "good"}, "the labels of the prompt's settings"),
        ({"labels": ["good", 3]}, "the labels of the prompt's settings"),
        ({"max_input_tokens": "96"}, "max_input_tokens of the prompt's settings"),
        ({"max_target_tokens": True}, "max_target_tokens of the prompt's settings"),
        ({"truncate": "up"}, "truncate is 'up'"),
    ],
)
def test_settings_of_an_old_prompt_are_checked(settings: dict, message: str):
    with pytest.raises(TaskError, match=message):
        past_reading("cr", settings)


def test_a_prompt_without_reading_settings_is_read_as_it_was_trained():
    backbone = BackboneId("embedded", "causal", 3, 50, "f" * 16)
    config = {"labels": ["bad", "good"], "max_input_tokens": 40, "truncate": "left", "task_prefix": True}
    prompt = SoftPrompt(value=[[1.0, 2.0, 3.0]], backbone=backbone, task="cr", step=1, config=config)
    reading = reading_of(prompt)
    assert prompt.format == 1 and reading.words == ("bad", "good") and reading.cue == CUE
    assert (reading.form, reading.max_input_tokens, reading.truncate, reading.task_prefix) == ("cr", 40, "left", True)


def test_doubled_braces_are_braces():
    assert parse_template("{{x}} {a}}}") == (("{x} ", "a"), ("}", ""))
