"""GLUE's forms and words are T5's: goldens worked by hand, T5's rules on every local row, rows to be predicted."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.errors import TaskError
from spot.metrics.scores import METRICS, problems
from spot.tasks import registry
from spot.tasks.data_set import RawRow
from spot.tasks.known.glue import TABLE
from spot.tasks.loading import task_of
from spot.tasks.submission import SHEETS
from tests.support.data_rows import load_split, read_split, write_split

LOCAL = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte")
PAIR = {"sentence1": "It rains.", "sentence2": "It is wet."}
INFERENCE = {"premise": "It rains.", "hypothesis": "It is wet."}
AS_PAIR = "sentence1: It rains. sentence2: It is wet."
AS_INFERENCE = "hypothesis: It is wet. premise: It rains."

# Set, its texts, T5's form of them, T5's words in the order of the label numbers (TensorFlow Datasets).
GOLDENS = [
    ("cola", {"sentence": "Him ran."}, "cola sentence: Him ran.", "unacceptable acceptable"),
    ("sst2", {"sentence": "a joy "}, "sst2 sentence: a joy ", "negative positive"),
    ("mrpc", PAIR, f"mrpc {AS_PAIR}", "not_equivalent equivalent"),
    (
        "qqp",
        {"question2": "Who is it?", "question1": "Who?"},
        "qqp question1: Who? question2: Who is it?",
        "not_duplicate duplicate",
    ),
    ("mnli", INFERENCE, f"mnli {AS_INFERENCE}", "entailment neutral contradiction"),
    ("mnli_mismatched", INFERENCE, f"mnli {AS_INFERENCE}", "entailment neutral contradiction"),
    (
        "qnli",
        {"question": "Who ran?", "sentence": "He ran."},
        "qnli question: Who ran? sentence: He ran.",
        "entailment not_entailment",
    ),
    ("rte", PAIR, f"rte {AS_PAIR}", "entailment not_entailment"),
    ("rte", INFERENCE, f"rte {AS_PAIR}", "entailment not_entailment"),  # SuperGLUE's copy of the rows
    ("wnli", PAIR, f"wnli {AS_PAIR}", "not_entailment entailment"),
    ("ax", INFERENCE, f"mnli {AS_INFERENCE}", "entailment neutral contradiction"),
]
TEXTS = {name: texts for name, texts, _, _ in GOLDENS} | {"stsb": PAIR}


@pytest.mark.parametrize(("name", "texts", "form", "words"), GOLDENS)
def test_forms_and_words_are_t5s(tmp_path, name, texts, form, words):
    split = "validation" if "validation" in TABLE[f"glue/{name}"].splits else "test"
    known = words.split()
    write_split(
        tmp_path, f"glue/{name}", [{**texts, "label": number, "idx": number} for number in range(len(known))], split
    )
    found, named = (load_split(tmp_path, f"glue/{name}", split, prefix) for prefix in (False, True))
    assert [row.inputs for row in named] == [form] * len(known)
    assert [row.inputs for row in found] == [form.split(" ", 1)[1]] * len(known)
    answers = [(word,) for word in known] if split == "validation" else [()] * len(known)
    assert [row.answers for row in found] == [row.answers for row in named] == answers
    assert TABLE[f"glue/{name}"].labels == tuple(known)
    assert all(sorted(row.texts) == sorted(texts.values()) for row in found)


@pytest.mark.parametrize(
    ("rating", "word"),
    [
        (0, "0.0"),
        (0.1, "0.0"),
        (0.3, "0.4"),
        (0.5, "0.4"),
        (0.7, "0.8"),
        (0.9, "0.8"),
        (1, "1.0"),
        (2.5, "2.4"),
        (2.75, "2.8"),
        (3.2, "3.2"),
        (3.25, "3.2"),
        (3.29, "3.2"),
        (3.31, "3.4"),
        (4.9, "4.8"),
        (4.91, "5.0"),
        (5.0, "5.0"),
    ],
)
def test_stsb_rounds_to_the_nearest_fifth_with_ties_to_the_even_one(tmp_path, rating, word):
    write_split(tmp_path, "glue/stsb", [{**PAIR, "label": rating}], "train")
    (plain,), (named,) = (load_split(tmp_path, "glue/stsb", "train", prefix) for prefix in (False, True))
    assert (plain.inputs, named.inputs) == (AS_PAIR, f"stsb {AS_PAIR}")
    assert plain.answers == named.answers == (word,)


def t5_rating(rating: float) -> str:
    """T5's `round(label * 5) / 5` with one decimal; TensorFlow Datasets holds the label in single precision."""
    return f"{np.round(np.float32(rating) * np.float32(5)) / np.float32(5):.1f}"


@pytest.mark.parametrize(("name", "field"), [("glue/stsb", "label"), ("cxc", "score")])
@given(st.integers(0, 5000))
def test_ratings_are_rounded_as_t5_does_in_single_precision(name, field, thousandths):
    rating = thousandths / 1000
    (text,) = registry.TABLE[name].form(RawRow("row", {**PAIR, field: rating}), True)
    assert (text.inputs, text.answers) == (AS_PAIR, (t5_rating(rating),))


@pytest.mark.sweep
@pytest.mark.parametrize("name", LOCAL)
def test_local_rows_have_t5s_form_and_word(local_rows, name):
    row = TABLE[f"glue/{name}"]
    for split in row.splits:
        rows, found = (read_split(local_rows, f"glue/{name}", split), load_split(local_rows, f"glue/{name}", split))
        assert len(found) == len(rows) == len({example.id for example in found})
        names = {"premise": "sentence1", "hypothesis": "sentence2"} if name == "rte" else {}
        for fields, example, named in zip(
            rows, found, load_split(local_rows, f"glue/{name}", split, True), strict=True
        ):
            # T5's rule: all fields but the label and the number, in the order of their names.
            texts = {names.get(key, key): value for key, value in fields.items() if key not in ("label", "idx", "copy")}
            assert example.inputs == " ".join(f"{key}: {texts[key]}" for key in sorted(texts))
            assert named.inputs == f"{name} {example.inputs}"
            word = t5_rating(fields["label"]) if name == "stsb" else row.labels[fields["label"]]
            assert example.answers == named.answers == (word,) and word in row.labels
        if name != "stsb":
            assert Counter(example.answers[0] for example in found).keys() == set(row.labels)


@pytest.mark.parametrize("label", [{"label": -1}, {"label": -1.0}, {}])
@pytest.mark.parametrize("name", [name for name in TEXTS if "test" not in TABLE[f"glue/{name}"].splits])
def test_rows_to_be_predicted_have_no_answer(tmp_path, name, label):
    write_split(tmp_path, f"glue/{name}", [{**TEXTS[name], **label, "idx": 7}], "test")
    (found,) = load_split(tmp_path, f"glue/{name}", "test")
    assert found.answers == ()
    (answered,) = TABLE[f"glue/{name}"].form(RawRow("row", {**TEXTS[name], "label": 0}), False)
    assert found.inputs == answered.inputs


@pytest.mark.parametrize("name", TEXTS)
def test_forms_take_rows_to_be_predicted_and_refuse_such_rows_elsewhere(name):
    form = TABLE[f"glue/{name}"].form
    for label in ({"label": -1}, {}):
        fields = {**TEXTS[name], **label}
        assert len(list(form(RawRow("row", fields, answered=False), False))) == 1
        with pytest.raises(TaskError, match=r"^row.*'label'"):
            list(form(RawRow("row", fields), True))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("stsb", {**PAIR, "label": 5.1}, "'label' holds 5.1, expected a number from 0 to 5"),
        ("stsb", {**PAIR, "label": float("nan")}, "'label' holds nan"),
        ("stsb", {**PAIR, "label": True}, "'label' holds True"),
        ("stsb", {**PAIR, "label": "3"}, "'label' holds '3'"),
        ("rte", {**PAIR, "label": 2}, "found 2, expected a number from 0 to 1"),
        ("rte", {"text": "It rains.", "label": 1}, "no field 'sentence1'"),
        ("mnli", {**PAIR, "label": 1}, "no field 'hypothesis'; it has 'sentence1', 'sentence2', 'label'"),
        ("cola", {"sentence": 5, "label": 1}, "'sentence' holds 5, expected text"),
    ],
)
def test_a_bad_row_is_refused_by_number_and_field(tmp_path, name, fields, message):
    write_split(tmp_path, f"glue/{name}", [fields], "train")
    with pytest.raises(TaskError, match=f"train.jsonl, row 1.*{message}"):
        load_split(tmp_path, f"glue/{name}", "train")


def test_the_table_is_sound_and_holds_what_the_server_asks_for():
    assert set(TABLE) == {sheet.task for sheet in SHEETS["glue"]} and len(TABLE) == 11
    for sheet in SHEETS["glue"]:
        row = TABLE[sheet.task]
        assert row.hidden_labels == ("test",) and row.kind == sheet.kind, sheet.task
        assert set(row.labels) == set(sheet.written) or row.kind == "number", sheet.task
        assert set(row.labels) <= set(TABLE[sheet.source].labels), sheet.task
    for name, row in TABLE.items():
        assert set(row.metrics) <= set(METRICS) and problems(row.metrics, row.labels) == [], name
        assert row.hub.startswith("nyu-mll/glue:") and re.fullmatch(r"(arXiv|ACL):[\w.-]+", row.paper), name
        assert ("train" in row.splits) == (row.size is not None), name
    assert {name for name, row in TABLE.items() if "train" not in row.splits} == {"glue/mnli_mismatched", "glue/ax"}
    assert len({task_of(name, row).revision for name, row in TABLE.items()}) == len(TABLE)


def test_licences_and_sizes_agree_with_the_sources(shared):
    text = (shared / "data" / "SOURCES.md").read_text()
    for name in LOCAL:
        section = text.split(f"## {name}\n")[1].split("\n## ")[0]
        row = TABLE[f"glue/{name}"]
        assert row.licence == re.search(r"- licence: (.*)", section)[1], name
        assert row.size == int(re.search(r"- official size: (\d+)", section)[1]), name
