"""The classes of a task: equal to scikit-learn's numbers, and warnings where these say little."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from spot.errors import TaskError
from spot.evaluation.classes import (
    FEW_ROWS,
    FEWEST_ROWS,
    MOST_CLASSES,
    MOST_PAIRS,
    ClassReport,
    ClassScores,
    class_report,
    class_sections,
    class_table,
    confusion_table,
    titled_scores,
)
from spot.metrics.scores import invalid, score
from spot.rendering.html import render
from spot.rendering.tables import table_text

LABELS = ("a", "b", "c", "d")
INVALID = ("", "e", "A", "a ")
ROWS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from((*LABELS, *INVALID))), min_size=1, max_size=40)


def report_of(pairs, labels=LABELS) -> ClassReport:
    """The report of (answer, prediction) pairs."""
    return class_report(labels, [(answer,) for answer, _ in pairs], [prediction for _, prediction in pairs])


def fraud(answered: int, missed: int, legit: int) -> ClassReport:
    """A report of rare frauds, some of them found, beside legit rows that are all answered so."""
    pairs = [("fraud", "fraud")] * answered + [("fraud", "legit")] * missed + [("legit", "legit")] * legit
    return report_of(pairs, ("fraud", "legit"))


@given(ROWS)
def test_every_number_equals_that_of_scikit_learn(pairs):
    answers, predictions = zip(*pairs, strict=True)
    report = report_of(pairs)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        answers, predictions, labels=LABELS, zero_division=0
    )
    assert [scores.label for scores in report.classes] == list(LABELS) == list(report.confusion.labels)
    assert [scores.precision for scores in report.classes] == pytest.approx(100 * precision)
    assert [scores.recall for scores in report.classes] == pytest.approx(100 * recall)
    assert [scores.f1 for scores in report.classes] == pytest.approx(100 * f1)
    assert [scores.support for scores in report.classes] == support.tolist()
    assert [scores.predicted for scores in report.classes] == [predictions.count(label) for label in LABELS]
    words = [prediction if prediction in LABELS else "invalid" for prediction in predictions]
    expected = sk.confusion_matrix(answers, words, labels=[*LABELS, "invalid"])
    assert [list(row) for row in report.confusion.counts] == expected[:-1].tolist()
    present = [label for label in LABELS if label in answers or label in predictions]
    macro = sk.f1_score(answers, predictions, labels=present, average="macro", zero_division=0)
    assert report.macro_f1 == pytest.approx(100 * macro)
    assert report.rows == len(pairs) and report.invalid == words.count("invalid")


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(LABELS), min_size=1, max_size=3, unique=True).map(tuple),
            st.sampled_from((*LABELS, *INVALID)),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_the_report_agrees_with_the_metrics_of_the_same_rows(rows):
    answers, predictions = [accepted for accepted, _ in rows], [prediction for _, prediction in rows]
    report = class_report(LABELS, answers, predictions)
    scores = score(["accuracy", "macro_f1"], answers, predictions, labels=LABELS)
    assert report.accuracy == scores["accuracy"]
    assert report.macro_f1 == pytest.approx(scores["macro_f1"])
    assert report.invalid == invalid(predictions, LABELS)


def test_a_class_by_hand():
    report = fraud(answered=1, missed=3, legit=16)
    assert report.confusion.counts == ((1, 3, 0), (0, 16, 0))
    assert report.classes[0] == ClassScores("fraud", 100.0, 25.0, 40.0, support=4, predicted=1)
    assert report.classes[1].precision == pytest.approx(100 * 16 / 19)
    assert report.accuracy == 85 and report.invalid == 0


def test_a_row_with_several_accepted_answers_counts_for_the_one_that_was_predicted():
    report = class_report(LABELS, [("a", "b"), ("a", "b"), ("a", "b")], ["b", "c", "?"])
    assert report.confusion.counts == ((0, 0, 1, 0, 1), (0, 1, 0, 0, 0), (0,) * 5, (0,) * 5)
    assert report.accuracy == pytest.approx(100 / 3) and report.invalid == 1


def test_plain_values_hold_everything_and_are_json():
    report = fraud(answered=1, missed=3, legit=16)
    value = report.to_json()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert value["confusion"] == {"labels": ["fraud", "legit"], "counts": [[1, 3, 0], [0, 16, 0]]}
    assert value["classes"][0] == {
        "label": "fraud",
        "precision": 100.0,
        "recall": 25.0,
        "f1": 40.0,
        "support": 4,
        "predicted": 1,
    }
    assert set(value) == {"confusion", "classes", "macro_f1", "accuracy", "invalid", "rows", "majority", "warnings"}
    assert value["majority"] == {"label": report.majority[0], "accuracy": report.majority[1]}
    assert value["warnings"] == list(report.warnings)


def test_a_model_that_never_says_a_class_is_told_of():
    report = fraud(answered=0, missed=20, legit=180)
    assert report.accuracy == 90
    assert report.macro_f1 == pytest.approx(report.classes[1].f1 / 2)
    assert report.warnings == (
        "never answers 'fraud', the right answer of 20 of the 200 rows",
        "accuracy 90.0 is no better than always answering 'legit', which has 90.0",
    )


@pytest.mark.parametrize(("support", "told"), [(FEWEST_ROWS - 1, True), (FEWEST_ROWS, False)])
def test_a_class_with_few_rows_is_told_of(support: int, told: bool):
    sentence = "fewer than 5 rows have the answer 'fraud': too few to judge by"
    assert fraud(answered=support, missed=0, legit=40).warnings == ((sentence,) if told else ())


def test_a_class_without_rows_is_told_of_and_is_not_one_that_is_never_said():
    report = report_of([("a", "a")] * 15 + [("b", "b")] * 15, ("a", "b", "c"))
    assert report.warnings == ("fewer than 5 rows have the answer 'c': too few to judge by",)
    assert report.macro_f1 == 100


def test_rows_of_one_class_are_told_of():
    assert fraud(answered=0, missed=0, legit=120).warnings == (
        "all 120 rows have the answer 'legit': no other class is measured",
    )


@pytest.mark.parametrize(("rows", "told"), [(FEW_ROWS - 1, True), (FEW_ROWS, False)])
def test_few_rows_are_told_of(rows: int, told: bool):
    sentence = "29 rows are few: one row more or less moves accuracy by 3 points"
    assert fraud(answered=10, missed=0, legit=rows - 10).warnings == ((sentence,) if told else ())


def test_accuracy_stands_beside_that_of_always_giving_the_commonest_answer():
    report = fraud(answered=3, missed=2, legit=95)
    assert report.majority == ("legit", 95.0) and report.accuracy == 98.0
    assert not any("no better" in warning for warning in report.warnings)
    text = class_sections(report)[0]["text"]
    assert text.startswith("Accuracy 98.0 %, macro F1 ")
    assert " on 100 rows. Always answering 'legit' has accuracy 95.0 %." in text


def test_many_classes_are_told_of_in_one_sentence():
    labels = [f"class {number}" for number in range(30)]
    never, few, always = report_of([(label, "class 0") for label in labels], labels).warnings
    assert always == "accuracy 3.3 is no better than always answering 'class 0', which has 3.3"
    assert never.startswith("never answers 'class 1', 'class 2', ") and never.endswith("29 of the 30 rows")
    assert " and 19 more, the right answer" in never and " and 20 more: too few" in few


def test_rows_that_cannot_be_counted_are_refused():
    with pytest.raises(TaskError, match="no classes to report: found no labels"):
        class_report((), [("a",)], ["a"])
    with pytest.raises(TaskError, match="no classes to report: found no rows"):
        class_report(LABELS, [], [])
    with pytest.raises(TaskError, match="row 2: found the answers 'x', expected labels of the task, which are 'a'"):
        class_report(LABELS, [("a",), ("x",)], ["a", "x"])
    with pytest.raises(TaskError, match="row 1: found the answers none, expected labels"):
        class_report(LABELS, [()], ["a"])


def test_accuracy_and_macro_f1_stand_beside_the_scores_of_a_task():
    report = fraud(answered=0, missed=20, legit=180)
    titled = titled_scores({"accuracy": 90.0}, report)
    assert titled == {"accuracy": 90.0, "macro_f1": report.macro_f1}
    titled = titled_scores({"matthews": 0.0}, report)
    assert list(titled) == ["matthews", "accuracy", "macro_f1"]


def test_f1_says_which_class_it_is_of():
    report = fraud(answered=1, missed=3, legit=16)
    titled = titled_scores({"accuracy": 85.0}, report, "fraud")
    assert titled == {"accuracy": 85.0, "f1 of 'fraud'": 40.0, "macro_f1": report.macro_f1}
    # The metric's own number stands, which takes an invalid answer as the other label.
    assert titled_scores({"f1": 39.0}, report, "fraud")["f1 of 'fraud'"] == 39.0
    assert "f1 of 'fraud'" not in titled_scores({"f1": 39.0}, report)


def test_the_table_of_classes():
    assert table_text(**class_table(fraud(answered=1, missed=3, legit=16))).splitlines()[2:] == [
        "| fraud |         100.0 |       25.0 |   40.0 |    4 |         1 |",
        "| legit |          84.2 |      100.0 |   91.4 |   16 |        19 |",
    ]


def test_the_matrix_has_a_line_an_answer_and_a_column_a_prediction():
    assert (
        table_text(**confusion_table(fraud(answered=1, missed=3, legit=16)))
        == """\
| answer / predicted | fraud | legit |
| ------------------ | ----: | ----: |
| fraud              |     1 |     3 |
| legit              |     0 |    16 |"""
    )


def test_the_matrix_has_a_column_of_invalid_answers_where_there_are_any():
    table = confusion_table(report_of([("a", "b"), ("b", "?"), ("b", "")], ("a", "b")))
    assert table == {"columns": ("answer / predicted", "a", "b", "no label"), "rows": [("a", 0, 1, 0), ("b", 0, 0, 2)]}


def test_a_wide_matrix_has_numbers_for_headings():
    labels = [f"{'very ' * 3}long label {number}" for number in range(MOST_CLASSES)]
    table = confusion_table(report_of([(label, labels[0]) for label in labels], labels))
    assert table["columns"] == ("answer / predicted", *(str(number) for number in range(1, MOST_CLASSES + 1)))
    assert [row[0] for row in table["rows"]] == [f"{number} {label}" for number, label in enumerate(labels, start=1)]
    assert [row[1:] for row in table["rows"]] == [(1, *[0] * (MOST_CLASSES - 1))] * MOST_CLASSES


def test_of_many_classes_the_most_confused_pairs_are_shown():
    labels = [f"c{number}" for number in range(MOST_CLASSES + 1)]
    pairs = [("c1", "c2")] * 3 + [("c1", "c1")] * 9 + [("c2", "?")] * 2 + [("c3", "c4")] * 2 + [("c5", "c5")] * 20
    table = confusion_table(report_of(pairs, labels))
    assert table["rows"] == [("c1", "c2", 3, 25.0), ("c2", "no label", 2, 100.0), ("c3", "c4", 2, 100.0)]
    everything = confusion_table(report_of([(a, b) for a in labels for b in labels], labels))
    assert len(everything["rows"]) == MOST_PAIRS
    assert confusion_table(report_of([(label, label) for label in labels], labels))["rows"] == []


@pytest.mark.parametrize("count", [2, MOST_CLASSES, MOST_CLASSES + 1])
def test_sections_of_a_page(count: int):
    labels = [f"<b>{number}</b>" for number in range(count)]
    report = report_of([(label, labels[0]) for label in labels * 2] + [(labels[1], "?")], labels)
    scores, matrix = class_sections(report, "the chosen prompt")
    assert scores["heading"] == "How the chosen prompt answers each class"
    assert scores["text"].startswith(f"Accuracy {report.accuracy:.1f} %, macro F1 {report.macro_f1:.1f} % on")
    assert "and 1 invalid answers." in scores["text"] and "Read this with care: never answers '<b>1" in scores["text"]
    assert scores["table"] == class_table(report) and matrix["table"] == confusion_table(report)
    page = render({"title": "t", "verdict": "v", "sections": [scores, matrix]})
    assert "<b>" not in page and "&lt;b&gt;1&lt;/b&gt;" in page
    assert page.count("<table ") == 2 and page.count("--shade-of:") == (count <= MOST_CLASSES) * count * (count + 1)


def test_a_report_without_doubts_has_no_warning():
    report = report_of([(label, label) for label in LABELS * 10])
    assert report.warnings == () and "care" not in class_sections(report)[0]["text"]


def test_the_classes_know_no_tensors():
    code = "import sys, spot.evaluation.classes; assert not {'torch', 'numpy', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
