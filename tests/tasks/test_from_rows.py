"""Tasks of rows in memory: every kind of rows gives the examples of a task file, and what is wrong is named."""

import csv
import pickle
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spot.errors import TaskError
from spot.tasks.splits import split_rows
from spot.tasks.task import Task
from spot.tasks.task_file import load_task

ROWS = [{"review": f"review {number}", "stars": number % 3, "id": number} for number in range(9)]


def columns_of(rows):
    return {column: [row[column] for row in rows] for column in rows[0]}


KINDS = {
    "list of dicts": lambda rows: rows,
    "tuple of dicts": tuple,
    "generator": iter,
    "dict of columns": columns_of,
    "dict of arrays": lambda rows: {column: np.array(cells) for column, cells in columns_of(rows).items()},
    "dict of series": lambda rows: dict(pd.DataFrame(rows).items()),
    "dict of Arrow columns": lambda rows: {column: pa.array(cells) for column, cells in columns_of(rows).items()},
    "numpy scalars": lambda rows: [{**row, "stars": np.int64(row["stars"])} for row in rows],
    "data frame": pd.DataFrame,
    "data frame with an index": lambda rows: pd.DataFrame(rows, index=[f"r{row['id']}" for row in rows]),
    "Arrow table": pa.Table.from_pylist,
    "Arrow batch": pa.RecordBatch.from_pylist,
    "data set": datasets.Dataset.from_list,
    "data set of arrays": lambda rows: datasets.Dataset.from_list(rows).with_format("numpy"),
    "stream": lambda rows: datasets.Dataset.from_list(rows).to_iterable_dataset(),
    "dict of datasets' columns": lambda rows: {c: datasets.Dataset.from_list(rows)[c] for c in rows[0]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_rows_gives_the_same_task(kind):
    task = Task.from_rows(KINDS[kind](ROWS), text="review", label="stars", name="reviews")
    assert (task.name, task.splits, task.labels, task.metrics, task.kind) == (
        "reviews",
        ("train",),
        ("0", "1", "2"),
        ("accuracy",),
        "label",
    )
    examples = list(task.load("train"))
    assert [(row.id, row.inputs, row.answers, row.texts) for row in examples[:2]] == [
        ("train/1", "sentence: review 0", ("0",), ("review 0",)),
        ("train/2", "sentence: review 1", ("1",), ("review 1",)),
    ]
    assert len(examples) == 9 and list(task.load("train")) == examples
    assert task.revision == Task.from_rows(ROWS, text="review", label="stars").revision
    assert task.reading.template == "sentence: {review}"
    assert task.reading.labels == (("0", "0"), ("1", "1"), ("2", "2"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "generator"])
def test_rows_may_be_given_by_split(kind):
    parts = {"test": KINDS[kind](ROWS[:2]), "train": KINDS[kind](ROWS), "validation": KINDS[kind](ROWS[2:5])}
    task = Task.from_rows(parts, text="review", label="stars")
    assert task.splits == ("train", "validation", "test")
    assert [row.texts[0] for row in task.load("validation")] == ["review 2", "review 3", "review 4"]
    assert [row.id for row in task.load("test")] == ["test/1", "test/2"]
    with pytest.raises(TaskError, match=r"rows has no split 'tset'; did you mean 'test'\?"):
        next(task.load("tset"))


def test_a_dataset_dict_gives_its_known_splits():
    data = datasets.Dataset.from_list(ROWS)
    parts = datasets.DatasetDict({"test": data, "unsupervised": data, "train": data})
    task = Task.from_rows(parts, text="review", label="stars")
    assert task.splits == ("train", "test")


def test_the_rows_may_be_used_like_those_of_a_file():
    rows = [{"text": f"text number {number}", "label": "ab"[number % 2]} for number in range(200)]
    task = Task.from_rows(rows)
    splits = split_rows(task, 50, 20, 20, 0)
    assert [len(part) for part in (splits.train, splits.selection, splits.report)] == [50, 20, 20]
    assert list(pickle.loads(pickle.dumps(task)).load("train")) == list(task.load("train"))
    rows[0]["text"] = "changed"
    assert next(task.load("train")).inputs == "sentence: text number 0"


CELL = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=8)
PART = st.lists(st.tuples(CELL, CELL, st.sampled_from(["yes", " no", "10", "9"])), min_size=1, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    parts=st.tuples(PART, PART),
    form=st.sampled_from(
        [
            ("sentence: {a}", {"text": "a"}),
            ("a: {a} b: {b}", {"text": ("a", "b")}),
            ("{{{b}}} of\n{a}{a}", {"template": "{{{b}}} of\n{a}{a}"}),
        ]
    ),
    answers=st.sampled_from(
        [
            ('label = "c"', {"label": "c"}),
            ('answer = "c"', {"answer": "c"}),
            (
                'label = "c"\nlabels = { yes = "ja", no = "nein", 10 = "zehn" }',
                {"label": "c", "labels": {"yes": "ja", "no": "nein", 10: "zehn"}},
            ),
        ]
    ),
)
def test_the_rows_of_a_file_give_the_examples_of_its_task_file(tmp_path, parts, form, answers):
    for split, part in zip(("train", "validation"), parts, strict=True):
        with (tmp_path / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("a", "b", "c"), *part])
    template, given_as = form
    (tmp_path / "task.toml").write_text(
        'name = "rows"\nrows = { train = "train.csv", validation = "validation.csv" }\n'
        f"input = '''{template}'''\n{answers[0]}\n",
        encoding="utf-8",
    )
    rows = {
        split: [dict(zip("abc", row, strict=True)) for row in part]
        for split, part in zip(("train", "validation"), parts, strict=True)
    }
    try:
        expected = load_task(tmp_path / "task.toml")
    except TaskError:
        with pytest.raises(TaskError):
            Task.from_rows(rows, **given_as, **answers[1])
        return
    task = Task.from_rows(rows, **given_as, **answers[1])
    for split in ("train", "validation"):
        assert list(task.load(split)) == list(expected.load(split))
    assert (task.labels, task.metrics, task.kind, task.splits) == (
        expected.labels,
        expected.metrics,
        expected.kind,
        expected.splits,
    )
    assert task.reading == expected.reading


def test_several_texts_and_templates():
    rows = [{"premise": f"p{n}", "hypothesis": f"h{n}", "label": bool(n % 2)} for n in range(4)]
    task = Task.from_rows(rows, text=("premise", "hypothesis"))
    first = next(task.load("train"))
    assert (first.inputs, first.texts, first.answers) == ("premise: p0 hypothesis: h0", ("p0", "h0"), ("false",))
    assert task.labels == ("false", "true")
    task = Task.from_rows(rows, template="{hypothesis}? {premise}. {{}}", labels={False: "no", True: "yes"})
    assert next(task.load("train")).inputs == "h0? p0. {}"
    assert task.labels == ("no", "yes")


def test_the_text_is_found_where_a_task_file_finds_it():
    for row in (
        {"text": "t", "more": "m", "label": 1},
        {"anything": "t", "label": 1},
        {"id": 1, "sentence": "t", "label": 1},
    ):
        assert next(Task.from_rows([row, {**row, "label": 2}]).load("train")).inputs == "sentence: t"
    with pytest.raises(
        TaskError, match=r'train, row 1: which column holds the text\? Its columns: .*example text="COLUMN"'
    ):
        Task.from_rows([{"a": "t", "b": "u", "label": 1}] * 2)


def test_the_names_of_class_labels_are_the_words():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos", "never seen"])}
    )
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    data = datasets.Dataset.from_list(rows, features=features)
    task = Task.from_rows(data)
    assert task.labels == ("neg", "pos", "never seen")
    assert [row.answers for row in task.load("train")] == [("pos",), ("neg",)]
    for labels in ({0: "bad", 1: "good"}, {"neg": "bad", "pos": "good"}):
        task = Task.from_rows(data, labels=labels)
        assert task.labels == ("bad", "good")
        assert [row.answers for row in task.load("train")] == [("good",), ("bad",)]
    hidden = datasets.Dataset.from_list([{"text": "a", "label": -1}], features=features)
    with pytest.raises(TaskError, match=r"test, row 1: unknown label '-1' in column 'label'; known: 'neg', 'pos'"):
        Task.from_rows(datasets.DatasetDict(train=data, test=hidden))


def test_open_answers_and_the_other_settings():
    rows = pd.DataFrame({"question": ["how many", "which"], "reply": [" 3 ", "red"]})
    task = Task.from_rows(rows, text="question", answer="reply", title="questions", metrics="exact_match")
    assert (task.labels, task.metrics, task.kind, task.title) == ((), ("exact_match",), "text", "questions")
    assert [row.answers for row in task.load("train")] == [("3",), ("red",)]
    task = Task.from_rows(
        ROWS, text="review", label="stars", cue="\nStars:", separator="", decode="generate", end="always"
    )
    reading = task.reading
    assert (reading.cue, reading.separator, reading.decode, reading.end) == ("\nStars:", "", "generate", "always")


def test_f1_is_of_the_label_that_is_named():
    rows = [{"text": "a", "label": "spam"}, {"text": "b", "label": "ham"}]
    assert Task.from_rows(rows, metrics="f1", positive="spam").positive == "spam"
    assert Task.from_rows(rows).positive == ""
    with pytest.raises(TaskError, match="positive is 'spam', but open answers have no classes"):
        Task.from_rows(rows, answer="label", positive="spam")
    with pytest.raises(TaskError, match='positive = "ham" or positive = "spam"'):
        Task.from_rows(rows, metrics="f1")


def test_the_revision_follows_rows_and_form():
    form = {"text": "review", "label": "stars"}
    changed = [{**ROWS[0], "review": "other"}, *ROWS[1:]]
    tasks = [
        Task.from_rows(ROWS, **form),
        Task.from_rows(changed, **form),
        Task.from_rows([{**ROWS[0], "stars": 1}, *ROWS[1:]], **form),
        Task.from_rows(ROWS[::-1], **form),
        Task.from_rows({"validation": ROWS}, **form),
        Task.from_rows({"train": ROWS, "test": ROWS}, **form),
        Task.from_rows({"train": ROWS, "test": changed}, **form),
        Task.from_rows(ROWS, label="stars", template="text: {review}"),
        Task.from_rows(ROWS, **form, cue=" ="),
        Task.from_rows(ROWS, **form, positive="1"),
        Task.from_rows(ROWS, **form, labels={0: "0", 1: "1", 2: "two"}),
    ]
    assert len({task.revision for task in tasks}) == len(tasks)
    assert Task.from_rows([{**row, "id": 0} for row in ROWS], **form).revision == tasks[0].revision
    asked = Task.from_rows(ROWS, **form, instruction="Count the stars.")
    assert (asked.instruction, tasks[0].instruction) == ("Count the stars.", "")
    assert asked.revision == tasks[0].revision, "an instruction is no part of the rows"


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        (" ", "instruction is blank"),
        (3, "instruction is 3, expected text"),
        (None, "instruction is None, expected text"),
        ("x" * 100_000, "instruction has 100,000 characters, expected at most 2,000"),
        ("a\x07b", r"instruction is a\x07b, expected printable text"),
    ],
)
def test_an_instruction_that_is_none_is_refused(instruction, words):
    with pytest.raises(TaskError) as caught:
        Task.from_rows(ROWS, text="review", label="stars", instruction=instruction)
    assert words in str(caught.value)


FORM = {"text": "review", "label": "stars"}
NAN = float("nan")


def with_label(*values):
    return [{"review": f"review {number}", "stars": value} for number, value in enumerate(values)]


REFUSED = [
    ("reviews.csv", {}, r"found the text 'reviews.csv', expected a pandas DataFrame, .*`spot tasks init ROWS`"),
    (Path("reviews.csv"), {}, r"found the text 'reviews.csv'"),
    (b"rows", {}, "found a value of type bytes"),
    (7, {}, "found a value of type int"),
    (None, {}, "found a value of type NoneType"),
    (pd.Series(["a"]), {}, "found a value of type Series"),
    (["a review"], {}, "train, row 1: found 'a review', expected a dict: column -> value"),
    ([("a review", 1)], {}, r"row 1: found \('a review', 1\), expected a dict"),
    ([], {}, "train holds no rows: expected at least one"),
    (pd.DataFrame(columns=["review", "stars"]), {}, "train holds no rows"),
    ({"review": [], "stars": []}, {}, "train holds no rows"),
    ({"train": ROWS, "validation": []}, {}, "validation holds no rows"),
    ({"train": ROWS, "dev": ROWS}, {}, "unknown split 'dev', expected 'train', 'validation', 'test'. Rename it"),
    (datasets.DatasetDict(dev=datasets.Dataset.from_list(ROWS)), {}, "unknown split 'dev'"),
    ({"review": "good", "stars": 1}, {}, "column 'review' is 'good', expected a list .* Put a single row into a list"),
    ({"review": ["a", "b"], "stars": [1]}, {}, r"not equally long \('review' 2, 'stars' 1\)"),
    (pd.DataFrame([["a", 1, 2]], columns=["review", "stars", "stars"]), {}, "more than one column is called 'stars'"),
    (ROWS, {"text": "reviews"}, r"row 1 has no column 'reviews', which Task.from_rows asks for; .* mean 'review'\?"),
    (ROWS, {"label": "star"}, r"row 1 has no column 'star', which Task.from_rows asks for; .* did you mean 'stars'\?"),
    (pd.DataFrame([["a", 1]]), {}, r"has no column 'stars', .*; its columns: 0, 1"),
    (with_label(1, None, 2, NAN), {}, "2 of 4 rows have no label in column 'stars', the first is row 2. Fill it in or"),
    (with_label("a", " ", "b"), {}, "1 of 3 rows have no label in column 'stars', the first is row 2"),
    (pd.DataFrame(with_label(1, None, 2)), {}, "1 of 3 rows have no label in column 'stars', the first is row 2"),
    (pd.DataFrame(with_label(1, pd.NA, 2)), {}, "1 of 3 rows have no label"),
    (pd.DataFrame(with_label("a", None, "b"), dtype="string"), {}, "1 of 3 rows have no label"),
    (with_label(np.float32("nan"), 1), {}, "1 of 2 rows have no label"),
    (with_label("a", "nan", "b"), {}, "1 of 3 rows have no label in column 'stars', the first is row 2"),
    (with_label("a", ["a", "b"]), {}, r"row 2: column 'stars' holds \['a', 'b'\], expected one text or number: a "),
    (with_label("a", np.array([1, 2])), {}, "row 2: column 'stars' holds array.*expected one text or number"),
    (with_label("a", b"b"), {}, "row 2: field 'stars' holds b'b', expected text"),
    (with_label("a", "a"), {}, "train: all 2 rows have the label 'a'; expected at least two different labels"),
    (with_label(*range(300)), {}, "holds 300 different values, more than 200: no labels. For open answers"),
    ({"train": with_label(1, 2), "test": with_label(3)}, {}, "test, row 1: unknown label '3' in column 'stars'; known"),
    ([{"review": " ", "stars": 1}, *ROWS], {}, "train, row 1: no text in 'review'. Leave the row out"),
    ([{"review": None, "stars": 1}, *ROWS], {}, "train, row 1: field 'review' holds None, expected text"),
    (pd.DataFrame([{"review": NAN, "stars": 1}, *ROWS]), {}, "train, row 1: field 'review' holds nan, expected text"),
    ([{"review": "a\ud800", "stars": 1}, *ROWS], {}, "train, row 1: field 'review' holds half a surrogate pair"),
    (ROWS, {"answer": "review"}, "answer stands beside label or labels"),
    (ROWS, {"template": "{review}"}, r"both text \('review'\) and a template"),
    (ROWS, {"text": "", "template": "{review"}, r"template '\{review' has a lone '\{'"),
    (ROWS, {"text": "", "template": "review"}, "names no field"),
    (ROWS, {"text": ("review", 1)}, "text holds 1, expected the name of a column"),
    (ROWS, {"text": "{review}"}, r"no template can name the column '\{review\}'"),
    (ROWS, {"labels": ["a", "b", "c"]}, r"labels is \['a', 'b', 'c'\], expected a dict: value in the rows -> word"),
    (ROWS, {"labels": {}}, "labels is empty"),
    (ROWS, {"labels": {0: "a", 1: 1}}, "labels holds 1, expected words"),
    (ROWS, {"labels": {0: "a", 1: "a"}}, "labels has the one word 'a'"),
    (ROWS, {"labels": {0: "a", 1: "b"}}, "train, row 3: unknown label '2' in column 'stars'; known: '0', '1'"),
    (ROWS, {"labels": {0: "a", "0": "b"}}, "the label '0' is named more than once"),
    (ROWS, {"labels": {None: "a", 1: "b"}}, "labels has the value None"),
    (ROWS, {"metrics": ["acuracy"]}, r"no metric 'acuracy'; did you mean 'accuracy'"),
    (ROWS, {"metrics": "f1"}, "f1 needs exactly two labels, found 3"),
    (ROWS, {"name": "two words"}, "name is 'two words', expected letters, digits"),
    (datasets.DatasetDict(), {}, "found no split, expected one of 'train'"),
    (ROWS, {"lable": "stars"}, r"unknown keyword 'lable'; did you mean 'label' or 'labels'"),
    (ROWS, {"decode": "guess"}, "decode is 'guess'"),
]


@pytest.mark.parametrize(("rows", "settings", "message"), REFUSED)
def test_what_cannot_be_used_is_named(rows, settings, message):
    with pytest.raises(TaskError, match=message):
        Task.from_rows(rows, **{**FORM, **settings})


def test_missing_and_listed_answers_are_counted_too():
    for replies, message in (
        (["a", None, " "], "2 of 3 rows have no answer in column 'reply', the first is row 2"),
        (["a", ["b"], "c"], r"row 2: column 'reply' holds \['b'\], expected one text: a row has one answer"),
    ):
        rows = [{"text": "question", "reply": reply} for reply in replies]
        with pytest.raises(TaskError, match=message):
            Task.from_rows(rows, answer="reply")


def test_no_library_of_rows_is_imported_for_rows_of_ones_own():
    code = (
        "import sys; from spot.tasks import Task; "
        "task = Task.from_rows([{'text': 'a', 'label': 0}, {'text': 'b', 'label': 1}]); "
        "print(task.labels, sorted({'pandas', 'datasets', 'pyarrow', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('0', '1') []"


def test_a_label_that_is_spelled_like_nothing_counts_where_it_is_listed():
    rows = [{"text": "a b", "label": "nan"}, {"text": "c d", "label": "naan"}]
    assert Task.from_rows(rows, labels={"nan": "nan", "naan": "naan"}).labels == ("nan", "naan")
