"""The page of a report on a prompt: complete where rows are at hand, and honest where they are not."""

from dataclasses import replace
from pathlib import Path

import pytest

from spot.evaluation.classes import class_report
from spot.evaluation.door import MixtureScores, TaskScores
from spot.evaluation.predictions import Prediction, ranked
from spot.rendering.html import render
from spot.reporting.page import report_page
from spot.reporting.subject import Subject, read_subject
from spot.tasks.task import Example
from tests.support.html_outline import Outline, stands_alone
from tests.support.prompts import library_prompt

LABELS = ("no", "yes")
HOSTILE = "<script>alert(1)</script>"


def scores(task: str = "mood", rows: int = 8) -> TaskScores:
    examples = tuple(Example(str(n), f"text {n}", (LABELS[n % 2],)) for n in range(rows))
    predictions = tuple(ranked(LABELS, [-0.3, -1.4]) for _ in examples)
    classes = class_report(LABELS, [row.answers for row in examples], [part.text for part in predictions])
    measured = {"accuracy": classes.accuracy}
    return TaskScores(
        task=task,
        split="validation",
        rows=rows,
        scores=measured,
        classes=classes,
        predictions=predictions,
        examples=examples,
    )


def outline_of(subject: Subject, scored: TaskScores | MixtureScores | None = None, *missing: str) -> Outline:
    return stands_alone(render(report_page(subject, scored, missing, "spot report x")))


@pytest.fixture
def subject(tuned_run: Path) -> Subject:
    return read_subject(tuned_run)


def test_everything_that_rows_show_is_there(subject: Subject):
    outline = outline_of(subject, scores())
    assert outline.text["h1"] == ["A run on mood"]
    assert outline.text["h2"] == [
        "Scores",
        "Learning curves",
        "How the prompt answers each class",
        "Which class is taken for which",
        "Whether its probabilities can be believed",
        "Rows it gets most wrong",
        "Rows and their answers",
        "Where it comes from",
        "Settings of its run",
        "Next",
        "Make this report again",
    ]
    assert "mood validation, 8 rows: accuracy 50.0" in outline.text["p"][0]
    assert "this prompt" in outline.text["span"] and "always 'no'" in outline.text["span"]


def test_without_rows_the_page_says_what_is_not_there(subject: Subject):
    outline = outline_of(subject, None, "Give --task FILE.")
    assert outline.text["h2"][0] == "What is not shown" and "Give --task FILE." in outline.text["p"]
    assert "Which class is taken for which" not in outline.text["h2"]
    assert "It was not asked any rows" in outline.text["p"][0]


def test_settings_and_provenance_are_those_of_the_file(subject: Subject):
    outline = outline_of(subject)
    names, values = outline.text["th"], outline.text["td"]
    assert {"learning_rate", "training rows, digest", "seed"} <= set(names)
    assert {"0.05", subject.prompt.data_digest} <= set(values)


def test_the_tasks_of_a_mixture_have_their_own_sections():
    mixed = MixtureScores(task="both", members=(scores("a"), scores("b")), missing={}, averages={})
    outline = outline_of(read_subject(library_prompt()), mixed)
    assert {"a: Rows it gets most wrong", "b: Rows it gets most wrong"} <= set(outline.text["h2"])
    assert {"a: this prompt", "b: this prompt"} <= set(outline.text["span"])


def test_open_answers_have_neither_matrix_nor_calibration():
    rows = (Example("1", "a text", ("one",)), Example("2", "b", ("two",)))
    answered = TaskScores(
        task="open",
        split="validation",
        rows=2,
        scores={"exact_match": 50.0},
        predictions=(Prediction("one"), Prediction("three")),
        examples=rows,
    )
    outline = outline_of(read_subject(library_prompt()), answered)
    assert "Which class is taken for which" not in outline.text["h2"]
    assert "Whether its probabilities can be believed" not in outline.text["h2"]
    assert "three" in outline.text["td"]


def test_a_stranger_s_names_are_text():
    prompt = library_prompt(HOSTILE, config={HOSTILE: HOSTILE}, initialiser=HOSTILE, task_revision=HOSTILE)
    member = scores(HOSTILE)
    rows = (replace(member.examples[0], inputs=HOSTILE), *member.examples[1:])
    outline = outline_of(read_subject(prompt), replace(member, examples=rows), HOSTILE)
    assert "script" not in outline.names() and HOSTILE in outline.text["td"]
