"""Reading sets: T5's SQuAD form letter for letter, every form worked, every local row."""

import re

import pytest

from spot.errors import TaskError
from spot.tasks import registry
from spot.tasks.known.reading_comprehension import TABLE
from tests.support.data_rows import check_split, only_example, write_split

LOCAL = ("squad", "drop", "anli/r3")


def test_squad_is_t5s_byte_for_byte(tmp_path):
    row = {
        "question": "What's the \u201ccost\u201d of a caf\u00e9_table?",
        "context": "It was\t$50.5\n(in\u00a0total).",
        "answers": {"text": ["$50.5", "50.5", "$50.5"], "answer_start": [7, 8, 7]},
    }
    example = only_example(tmp_path, "squad", row)
    # Worked by hand from T5's two substitutions, (\W) -> " \1 " and \s+ -> " ", which know ASCII only.
    assert example.inputs == (
        "question: What ' s the \u201c cost \u201d of a caf \u00e9 _table ? "
        "context: It was $ 50 . 5 ( in \u00a0 total ) . "
    )
    assert example.answers == ("$ 50 . 5", "50 . 5", "$50.5", "50.5")
    assert example.texts == (row["question"], row["context"])


@pytest.mark.parametrize(
    ("name", "row", "inputs", "answers"),
    [
        (
            "drop",
            {
                "question": "How many?",
                "passage": "Two, or 3.",
                "answers_spans": {"spans": ["5"]},
                "ref_answers": ["5", "five"],
            },
            "question: How many ? context: Two , or 3 . ",
            ("5", "five"),
        ),
        (
            "mrqa/newsqa",
            {"subset": "NewsQA", "question": "Who", "context": "He", "answers": ["He"]},
            "question: Who context: He",
            ("He",),
        ),
        (
            "mrqa/triviaqa",
            {"question": "Who", "context": "He", "answers": ["He", "him"]},
            "question: Who context: He",
            ("He", "him"),
        ),
        (
            "anli/r1",
            {"hypothesis": "h  h", "premise": "p\np", "label": 2},
            "hypothesis: h h context: p p",
            ("contradiction",),
        ),
        (
            "docnli",
            {"hypothesis": "h", "premise": "p", "label": "not_entailment"},
            "hypothesis: h premise: p",
            ("not_entailment",),
        ),
        ("docnli", {"hypothesis": "h", "premise": "p", "label": 1}, "hypothesis: h premise: p", ("entailment",)),
        ("cxc", {"sentence1": "a", "sentence2": "b", "score": 3.26}, "sentence1: a sentence2: b", ("3.2",)),
        ("goemotions", {"text": "t", "labels": [27, 0]}, "sentence: t", ("neutral", "admiration")),
        ("sentiment140", {"text": "t", "sentiment": 4}, "sentence: t", ("positive",)),
    ],
)
def test_forms(tmp_path, name, row, inputs, answers):
    example = only_example(tmp_path, name, row)
    assert example.inputs == inputs
    assert example.answers == answers


def test_rows_of_another_mrqa_set_and_neutral_tweets_are_passed_over(tmp_path):
    row = {"question": "Who", "context": "He", "answers": ["He"]}
    write_split(tmp_path, "mrqa/squad", [{**row, "subset": "NewsQA"}, {**row, "subset": "SQuAD"}])
    assert len(list(registry.get("mrqa/squad", tmp_path).load("train"))) == 1
    write_split(tmp_path, "sentiment140", [{"text": str(value), "sentiment": value} for value in (0, 2, 4)])
    found = [(row.texts, row.answers) for row in registry.get("sentiment140", tmp_path).load("train")]
    assert found == [(("0",), ("negative",)), (("4",), ("positive",))]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("squad", {"question": "q", "context": "c", "answers": {"text": []}}, "row 1.*'answers'.*no answer"),
        ("drop", {"question": "q", "passage": "p", "answers_spans": {"spans": [" "]}}, "row 1.*'answers_spans'"),
        ("anli/r2", {"hypothesis": "h", "premise": "p", "label": 3}, "row 1.*'label' holds 3.*0, 1, 2"),
        ("docnli", {"hypothesis": "h", "premise": "p", "label": True}, "row 1.*'label' holds True"),
        ("cxc", {"sentence1": "a", "sentence2": "b", "score": 5.1}, "row 1.*'score' holds 5.1"),
        ("goemotions", {"text": "t", "labels": [28]}, r"row 1.*'labels' holds \[28\]"),
        ("sentiment140", {"text": "t", "sentiment": 1}, "row 1.*0, 2 or 4"),
    ],
)
def test_a_bad_row_is_refused_by_number_and_field(tmp_path, name, row, message):
    write_split(tmp_path, name, [row])
    with pytest.raises(TaskError, match=message):
        list(registry.get(name, tmp_path).load("train"))


@pytest.mark.sweep
@pytest.mark.parametrize("name", LOCAL)
def test_local_rows_parse(local_rows, name):
    for split in TABLE[name].splits:
        check_split(local_rows, name, split)


@pytest.mark.sweep
def test_t5s_form_of_local_squad_rows_holds_its_answer(local_rows):
    for split in ("train", "validation"):
        for example in registry.get("squad", local_rows).load(split):
            question, context = example.inputs.removeprefix("question: ").split(" context: ", 1)
            assert not re.search(r"[\t\n\f\r ]{2}", example.inputs)
            squeezed = re.sub(r"\s", "", "".join(example.texts))
            assert re.sub(r"\s", "", question + context) == squeezed
            assert example.answers[0] in example.inputs
