"""Sentences that say what is asked of a row, proposed for tasks that hold none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.reading import Reading, braced
from spot.tasks import registry
from spot.tasks.columns import MOST_INSTRUCTION, instruction_mistakes
from spot.tasks.instructions import proposed_instruction, proposed_sentence
from spot.tasks.task import Task

MANY = tuple(f"class {number}" for number in range(77))
SOME = ", ".join(MANY[:12])


@pytest.mark.parametrize(
    ("template", "words", "sentence"),
    [
        (
            "sentence: {review}",
            ("positive", "negative"),
            "Read the sentence and say which of these it is: positive, negative.",
        ),
        ("{review_text}", ("yes", "no"), "Read the review text and say which of these it is: yes, no."),
        (
            "premise: {a} hypothesis: {b}",
            ("true", "false"),
            "Read the premise and the hypothesis and say which of these fits: true, false.",
        ),
        ("{title} | {body}\n{tags}", (), "Read the title, the body and the tags and write the answer."),
        ("{a}{b}{c}{d}{e}", (), "Read the texts and write the answer."),
        ("{a} {a}", (), "Read the a and write the answer."),
        ("{q?!}", (), "Read the text and write the answer."),
        ("{" + 50 * "long" + "}", (), "Read the text and write the answer."),
        ("", ("a", "b"), "Read the text and say which of these it is: a, b."),
        ("sentence: {text}", MANY, f"Read the sentence and say which of 77 classes it is, such as {SOME}."),
        ("sentence: {text}", ("x" * 300, "y"), "Read the sentence and say which of 2 classes it is."),
    ],
)
def test_the_sentence_names_what_is_read_and_what_may_be_answered(template, words, sentence):
    assert proposed_sentence(template, words) == sentence


@given(st.lists(st.text(min_size=1), max_size=6), st.lists(st.text(min_size=1), max_size=300, unique=True))
def test_whatever_a_task_is_called_its_sentence_is_an_instruction(names, words):
    template = " ".join(f"{braced(name)}: {{{field}}}" for field, name in enumerate(names))
    sentence = proposed_sentence(template, words)
    assert instruction_mistakes(sentence) == [] and "\n" not in sentence


def test_a_task_has_the_sentence_of_its_template_and_labels():
    rows = [{"review": "fine", "label": "good"}, {"review": "no use", "label": "bad"}]
    task = Task.from_rows(rows, text="review", instruction="Judge it.")
    assert proposed_instruction(task) == "Read the sentence and say which of these it is: bad, good."
    assert task.instruction == "Judge it."


@pytest.mark.parametrize("name", registry.names())
def test_every_known_task_says_what_is_asked_with_its_own_label_words(name):
    task = registry.get(name)
    assert instruction_mistakes(task.instruction) == [] and task.instruction[-1] == "."
    assert task.instruction.count("{") == 0, "no format string was forgotten"
    rest = task.instruction
    for word in sorted(task.labels, key=len, reverse=True):
        if task.kind == "label" and name != "banking77":
            assert word in rest, word
            rest = rest.replace(word, "", 1)
    if name == "banking77":
        assert sum(word in task.instruction for word in task.labels) >= 3, "77 labels are too many to list"


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        (" \n", "instruction is blank"),
        ("x" * (MOST_INSTRUCTION + 1), "instruction has 2,001 characters, expected at most 2,000"),
        ("Say\x1b[2J it.", r"instruction is Say\x1b[2J it., expected printable text"),
        ("Say \u202eit.", r"\u202e"),
        ("half \ud800", r"\ud800"),
    ],
)
def test_what_is_no_instruction_is_said(instruction, words):
    [mistake] = instruction_mistakes(instruction)
    assert words in mistake and len(mistake) < 200


def test_an_instruction_may_be_of_any_language_and_of_several_lines():
    for instruction in (
        "",
        "Judge it.\n- good\n- bad",
        "جمله را بخوان و بگو می\u200cپسندد یا نه.",
        "x" * MOST_INSTRUCTION,
    ):
        assert instruction_mistakes(instruction) == []


def test_an_instruction_is_no_part_of_how_rows_are_read():
    assert "instruction" not in Reading.__dataclass_fields__
