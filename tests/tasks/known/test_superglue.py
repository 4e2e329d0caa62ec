"""SuperGLUE's forms are T5's: equal to lm-evaluation-harness' T5 prompts on every local row, and goldens."""

import importlib.util
import re
import sys
import warnings
from ast import literal_eval
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pytest
import yaml

from spot.errors import TaskError
from spot.metrics.scores import METRICS, problems, score
from spot.tasks.data_set import RawRow
from spot.tasks.known.superglue import TABLE
from spot.tasks.loading import task_of
from spot.tasks.mixtures import MIXTURES, mixing_rates
from spot.tasks.submission import SHEETS
from tests.support.data_rows import load_split, read_split, write_split

LOCAL = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")
NAMES = {"wsc": "wsc: "}  # in front of the inputs, where it is not the set's own name and a blank
template = cache(jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True).from_string)


class Loader(yaml.SafeLoader):
    """YAML in which `!function file.name` is that text."""


Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


@pytest.fixture(scope="session")
def t5_prompts(lm_eval: Path) -> Path:
    """The folder of lm-eval's SuperGLUE tasks."""
    return lm_eval / "tasks" / "super_glue"


@pytest.fixture(scope="session")
def functions(t5_prompts: Path) -> Callable[[str], ModuleType]:
    """A function from a set to the module of its T5 prompt, loaded by itself."""

    def module(name: str) -> ModuleType:
        label = f"lm_eval_t5_{name}"
        found = importlib.util.spec_from_file_location(label, t5_prompts / name / "t5_utils.py")
        loaded = importlib.util.module_from_spec(found)
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the packages that it imports
            metrics = ModuleType("lm_eval.api.metrics")  # of which scores alone would need more than the name
            metrics.metric_max_over_ground_truths = None
            patch.setitem(sys.modules, "lm_eval.api.metrics", metrics)
            found.loader.exec_module(loaded)
        return loaded

    return module


@pytest.fixture(scope="session")
def prompt(t5_prompts: Path, functions) -> Callable[[str], tuple[dict[str, Any], Callable[[dict], str]]]:
    """A function from a set to lm-eval's definition of it, and its function from a row to T5's input."""

    def make(name: str) -> tuple[dict[str, Any], Callable[[dict], str]]:
        definition = yaml.load((t5_prompts / name / "t5-prompt.yaml").read_text(), Loader)
        text = definition["doc_to_text"]
        if text == "t5_utils.doc_to_text":
            return definition, functions(name).doc_to_text
        return definition, lambda row: template(text).render(**row)

    return make


def form(name, fields, train=False, answered=True):
    return list(TABLE[f"superglue/{name}"].form(RawRow("row", fields, answered), train))


# Every local row against lm-eval's group super-glue-t5-prompt.


@pytest.mark.sweep
@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("name", LOCAL)
def test_inputs_equal_lm_evals_on_local_rows(local_rows, prompt, name, split):
    _, text = prompt(name)
    named, plain = (load_split(local_rows, f"superglue/{name}", split, prefix) for prefix in (True, False))
    rows = {number: row for number, row in enumerate(read_split(local_rows, f"superglue/{name}", split), start=1)}
    seen = set()
    for example in named:
        number = int(re.fullmatch(rf"{split}/(\d+)(\.\d+)?", example.id)[1])
        assert example.inputs == text(rows[number]), example.id
        seen.add(number)
    left_out = {number for number, row in rows.items() if (name, split, row.get("label")) == ("wsc", "train", 0)}
    assert seen == rows.keys() - left_out
    start = NAMES.get(name, f"{name} ")
    assert all(example.inputs.startswith(start) for example in named)
    assert [example.inputs for example in plain] == [example.inputs.removeprefix(start) for example in named]
    assert [example.answers for example in plain] == [example.answers for example in named]


@pytest.mark.sweep
@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("name", [name for name in LOCAL if name not in ("record", "wsc")])
def test_answers_equal_lm_evals_choices_on_local_rows(local_rows, prompt, name, split):
    words = prompt(name)[0]["doc_to_choice"]
    rows, found = (
        read_split(local_rows, f"superglue/{name}", split),
        load_split(local_rows, f"superglue/{name}", split),
    )
    assert len(found) == len(rows) == len({example.id for example in found})
    for row, example in zip(rows, found, strict=True):
        known = words
        if name == "multirc":  # its words stand behind the number of the question, in a template
            numbered = literal_eval(template(words).render(**row))
            known = [word.removeprefix(f"{row['idx']['question']}_") for word in numbered]
        assert example.answers == (known[row["label"]],)
    assert {example.answers[0] for example in found} == set(TABLE[f"superglue/{name}"].labels)


def expanded(functions, rows: list[dict]) -> list[dict]:
    """ReCoRD's rows, one an answer, by lm-eval."""
    datasets = pytest.importorskip("datasets", reason="lm-eval's ReCoRD needs the extra hub")
    datasets.disable_progress_bars()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return functions("record").process_docs(datasets.Dataset.from_list(rows)).to_list()


def test_record_trains_on_lm_evals_rows_one_an_answer(shared, functions, prompt):
    rows = read_split(shared / "data", "superglue/record", "train")
    expected = [(prompt("record")[1](row), (row["answers"],)) for row in expanded(functions, rows)]
    found = load_split(shared / "data", "superglue/record", "train", prefix=True)
    assert [(example.inputs, example.answers) for example in found] == expected
    assert len(found) == sum(len(row["answers"]) for row in rows) > len(rows) == 32
    assert len({example.id for example in found}) == len(found)
    assert len({example.group for example in found}) == len(rows)


def test_record_difference_a_query_is_evaluated_once_where_lm_eval_repeats_it(shared, functions):
    rows = read_split(shared / "data", "superglue/record", "validation")
    found = load_split(shared / "data", "superglue/record", "validation")
    assert [example.answers for example in found] == [tuple(row["answers"]) for row in rows]
    theirs = expanded(functions, rows)
    assert len(theirs) > len(found) == 32
    # What its metrics gather again by query is what our rows hold.
    gathered = {}
    for row in theirs:
        gathered.setdefault(f"{row['idx']['passage']}/{row['idx']['query']}", []).append(row["answers"])
    assert {example.group: list(example.answers) for example in found} == gathered


def test_wsc_trains_on_the_true_rows_alone_and_is_evaluated_on_all(shared):
    train, validation = (read_split(shared / "data", "superglue/wsc", split) for split in ("train", "validation"))
    found = load_split(shared / "data", "superglue/wsc", "train")
    assert [example.answers for example in found] == [(row["span1_text"],) for row in train if row["label"] == 1]
    assert (len(train), len(found)) == (554, 259)
    found = load_split(shared / "data", "superglue/wsc", "validation")
    assert [example.answers for example in found] == [
        (row["span1_text"], "True" if row["label"] == 1 else "False") for row in validation
    ]
    assert len(found) == len(validation) == 104
    candidates = [example.answers[0] for example in found]  # naming the candidate always is right on true rows
    share = 100 * sum(row["label"] for row in validation) / len(validation)
    assert score(["wsc_accuracy"], [example.answers for example in found], candidates)["accuracy"] == share


def test_multirc_groups_are_the_questions(shared):
    found = load_split(shared / "data", "superglue/multirc", "validation")
    rows = read_split(shared / "data", "superglue/multirc", "validation")
    groups = {}
    for row, example in zip(rows, found, strict=True):
        groups.setdefault(example.group, set()).add((row["paragraph"], row["question"]))
        assert example.group == f"{row['idx']['paragraph']}/{row['idx']['question']}"
    assert all(len(texts) == 1 for texts in groups.values())
    assert len(groups) == len({row["idx"]["question"] for row in rows}) == 953  # the official number of questions


# Where lm-eval departs from T5, or T5 from sense.

QUESTION = {"question": "Who <b>ran</b>?", "answer": "I<br>did", "paragraph": "<b>1: </b>I ran.<br><i>Fast</i>."}
IDS = {"paragraph": 3, "question": 14, "answer": 1}


def test_multirc_difference_lm_eval_leaves_the_markup(prompt):
    row = {**QUESTION, "idx": IDS, "label": 1}
    (text,) = form("multirc", row)
    # T5 replaces <br> by a blank and <b> and </b> by nothing, and knows no other tag.
    assert text.inputs == "question: Who ran? answer: I did paragraph: 1: I ran. <i>Fast</i>."
    assert (text.answers, text.group, text.texts) == (("True",), "3/14", tuple(QUESTION.values()))
    assert prompt("multirc")[1](row) == (
        "multirc question: Who <b>ran</b>? answer: I<br>did paragraph: <b>1: </b>I ran.<br><i>Fast</i>."
    )


def sentence(text, index, pronoun, **more):
    return {"text": text, "span2_index": index, "span2_text": pronoun, "span1_text": "Bob", "span1_index": 0, **more}


def test_wsc_difference_a_pronoun_that_begins_or_ends_the_text(prompt):
    _, theirs = prompt("wsc")
    first, last = sentence("He ran.", 0, "He", label=1), sentence("Bob saw him", 2, "him", label=1)
    with pytest.raises(AssertionError):
        theirs(first)
    assert form("wsc", first)[0].inputs == "*He* ran."
    assert theirs(last) == "wsc: Bob saw *him* "  # T5 does so too, and says that no row is like that
    assert form("wsc", last)[0].inputs == "Bob saw *him*"


def test_wsc_difference_the_letter_x_is_no_pronoun(prompt):
    row = sentence("Bob got X rays as he fell", 5, "he", label=1)
    assert prompt("wsc")[1](row) == "wsc: Bob got *he* rays as *he* fell"  # T5 does so too; no local row is like that
    assert form("wsc", row)[0].inputs == "Bob got X rays as *he* fell"


# Goldens, worked by hand.

INFERENCE = {"premise": "It rains.", "hypothesis": "It is wet."}
GOLDENS = [
    (
        "boolq",
        {"question": "is it wet", "passage": "Rain -- It is."},
        "boolq passage: Rain -- It is. question: is it wet",
        "False True",
    ),
    ("cb", INFERENCE, "cb hypothesis: It is wet. premise: It rains.", "entailment contradiction neutral"),
    (
        "copa",
        {"premise": "It rained.", "choice1": "I sang.", "choice2": "I got wet.", "question": "effect"},
        "copa choice1: I sang. choice2: I got wet. premise: It rained. question: effect",
        "choice1 choice2",
    ),
    (
        "multirc",
        {"paragraph": "He ran.", "question": "Who?", "answer": "He", "idx": IDS},
        "multirc question: Who? answer: He paragraph: He ran.",
        "False True",
    ),
    ("rte", INFERENCE, "rte hypothesis: It is wet. premise: It rains.", "entailment not_entailment"),
    (
        "wic",
        {"word": "bank", "sentence1": "A bank.", "sentence2": "Banks.", "start1": 2, "start2": 0, "end1": 6, "end2": 5},
        "wic sentence1: A bank. sentence2: Banks. word: bank",
        "False True",
    ),
    (
        "axb",
        {"sentence1": "It rains.", "sentence2": "It is wet."},
        "rte hypothesis: It is wet. premise: It rains.",
        "entailment not_entailment",
    ),
    ("axb", INFERENCE, "rte hypothesis: It is wet. premise: It rains.", "entailment not_entailment"),
    ("axg", INFERENCE, "rte hypothesis: It is wet. premise: It rains.", "entailment not_entailment"),
]


@pytest.mark.parametrize(("name", "texts", "named", "words"), GOLDENS)
def test_forms_and_words_are_t5s(tmp_path, name, texts, named, words):
    row = TABLE[f"superglue/{name}"]
    split = "validation" if row.splits else "test"
    known = tuple(words.split())
    write_split(tmp_path, f"superglue/{name}", [{**texts, "label": number} for number in range(len(known))], split)
    assert [example.inputs for example in load_split(tmp_path, f"superglue/{name}", split, True)] == [named] * len(
        known
    )
    found = load_split(tmp_path, f"superglue/{name}", split)
    assert [example.inputs for example in found] == [named.split(" ", 1)[1]] * len(known)
    assert [example.answers for example in found] == [(word,) if row.splits else () for word in known]
    assert row.labels == known


QUERY = {
    "query": "@placeholder won.",
    "passage": 'Ann met "Bob."\n@highlight\nBob won\n@highlight\nAnn lost!\n@highlight\nIt\'s\n@highlight\nover',
    "entities": ["Bob", "Ann", "Bob's"],
    "idx": {"passage": 5, "query": 9},
}
CLEAN = "query: @placeholder won. entities: Bob, Ann, Bob's passage: Ann met \"Bob.\" Bob won. Ann lost! It's. over"


def test_record_trains_on_each_answer_and_is_evaluated_on_all(tmp_path):
    row = {**QUERY, "answers": ["Bob", "Bob's"]}
    for split in ("train", "validation"):
        write_split(tmp_path, "superglue/record", [row, {**row, "answers": ["Ann"]}], split)
    train, validation = (load_split(tmp_path, "superglue/record", split) for split in ("train", "validation"))
    assert [(example.id, example.answers) for example in train] == [
        ("train/1", ("Bob",)),
        ("train/1.2", ("Bob's",)),
        ("train/2", ("Ann",)),
    ]
    assert [(example.id, example.answers) for example in validation] == [
        ("validation/1", ("Bob", "Bob's")),
        ("validation/2", ("Ann",)),
    ]
    for example in (*train, *validation):
        assert (example.inputs, example.group) == (CLEAN, "5/9")
        assert example.texts == (QUERY["query"], QUERY["passage"])
    assert {example.inputs for example in load_split(tmp_path, "superglue/record", "train", True)} == {
        f"record {CLEAN}"
    }


@pytest.mark.parametrize(
    ("text", "index", "pronoun", "marked"),
    [
        ("He saw that he fell.", 3, "he", "He saw that *he* fell."),  # an earlier word like it
        ("he saw that he fell.", 0, "he", "*he* saw that he fell."),  # a later word like it, and the first
        ("Bob saw him", 2, "him", "Bob saw *him*"),
        ("Bob  and he", 3, "he", "Bob  and *he*"),  # two blanks part an empty word
        ("Bob took his hat. ", 2, "his", "Bob took *his* hat. "),
        ("Bob saw him, and ran.", 2, "him", "Bob saw *him* , and ran."),  # punctuation attached
        ('"Good for him," he said. ', 2, "him", '"Good for *him* ," he said.'),  # as T5 mends such a row
        ("Bob said (he lied).", 2, "he", "Bob said (*he* lied)."),
        ("Bob thinks he's ill.", 2, "he", "Bob thinks *he* 's ill."),  # a verb attached
        ("Is it theirs or their's?", 4, "their", "Is it theirs or *their* 's?"),  # a possessive attached
        ("Bob wants to use it , now", 3, "it", "Bob wants to use *it* , now"),  # the number of the word before
        ("Bob wants to use it , now", 5, "it", "Bob wants to use *it* , now"),  # the number of the word after
    ],
)
def test_wsc_marks_the_pronoun(tmp_path, text, index, pronoun, marked):
    write_split(tmp_path, "superglue/wsc", [sentence(text, index, pronoun, label=1)])
    (plain,), (named,) = (load_split(tmp_path, "superglue/wsc", "train", prefix) for prefix in (False, True))
    assert (plain.inputs, named.inputs) == (marked, f"wsc: {marked}")
    assert plain.texts == (text,)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_wsc_answers_with_the_referent_and_a_possessive_one_stays_whole(index):
    row = sentence("He took it.", 0, "He", label=index % 2)
    row["span1_text"] = "Bob's brother"
    assert [text.answers for text in form("wsc", row, train=True)] == ([("Bob's brother",)] if index == 1 else [])
    assert [text.answers for text in form("wsc", row)] == [("Bob's brother", "True" if index == 1 else "False")]


# Rows to be predicted.

OPEN = {
    "record": QUERY,
    "wsc": sentence("Bob ran and he fell.", 3, "he"),
    **{name: {**texts, "idx": 3} for name, texts, _, _ in GOLDENS if name != "multirc"},
    "multirc": {**QUESTION, "idx": IDS},
}


@pytest.mark.parametrize("more", [{"label": -1, "answers": []}, {}], ids=["-1", "absent"])
@pytest.mark.parametrize("name", sorted(OPEN))
def test_rows_to_be_predicted_have_no_answer(tmp_path, name, more):
    write_split(tmp_path, f"superglue/{name}", [{**OPEN[name], **more}] * 2, "test")
    found = load_split(tmp_path, f"superglue/{name}", "test")
    assert [example.answers for example in found] == [(), ()]
    (answered,) = form(name, {**OPEN[name], "label": 0, "answers": ["Bob"]})
    assert {example.inputs for example in found} == {answered.inputs}
    assert {example.group for example in found} == {answered.group}
    with pytest.raises(TaskError, match=r"^row.*'(label|answers)'"):
        form(name, {**OPEN[name], **more})


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("wsc", sentence("Bob ran and he fell.", 0, "he", label=1), r"'span2_text' holds 'he', .* not word 0 of"),
        ("wsc", sentence("Bob ran.", 9, "he", label=1), r"'span2_text' holds 'he', .* not word 9 of"),
        ("wsc", sentence("Bob saw hers", 2, "he", label=1), "'span2_text' holds 'he'"),
        ("wsc", sentence("He ran.", -1, "He", label=1), "'span2_index' holds -1"),
        ("wsc", sentence("He ran.", True, "He", label=1), "'span2_index' holds True"),
        ("wsc", sentence("He ran.", 0, "He", label=2), "found 2, expected a number from 0 to 1"),
        ("record", {**QUERY, "answers": []}, "'answers' is empty, expected at least one"),
        ("record", {**QUERY, "answers": "Bob"}, "'answers' holds 'Bob', expected a list of texts"),
        ("record", {**QUERY, "answers": ["Bob"], "idx": 4}, "'idx' holds 4, expected fields of its own"),
        ("multirc", {**QUESTION, "label": 1, "idx": {"paragraph": 1}}, "idx: field 'question' holds None"),
        ("axb", {"premise": "It rains."}, "no field 'hypothesis'"),
        ("cb", {**INFERENCE, "label": 3}, "found 3, expected a number from 0 to 2"),
    ],
)
def test_a_bad_row_is_refused_by_number_and_field(tmp_path, name, row, message):
    split = "train" if TABLE[f"superglue/{name}"].splits else "test"
    write_split(tmp_path, f"superglue/{name}", [row], split)
    with pytest.raises(TaskError, match=rf"{split}.jsonl, row 1.*{message}"):
        load_split(tmp_path, f"superglue/{name}", split)


# The table.


def test_the_table_is_sound_and_holds_what_the_server_asks_for():
    assert set(TABLE) == {sheet.task for sheet in SHEETS["superglue"]} and len(TABLE) == 10
    for sheet in SHEETS["superglue"]:
        row = TABLE[sheet.task]
        assert row.hidden_labels == ("test",), sheet.task
        assert set(row.labels) == set(sheet.written) or sheet.task == "superglue/wsc", sheet.task
        assert row.labels == TABLE[sheet.source].labels, sheet.task
    for name, row in TABLE.items():
        assert set(row.metrics) <= set(METRICS) and problems(row.metrics, row.labels) == [], name
        assert row.hub.startswith("aps/super_glue:") and re.fullmatch(r"(arXiv|ACL):[\w.-]+", row.paper), name
        assert (row.kind == "label") == bool(row.labels) and (row.size is None) == (row.splits == ()), name
    assert len({task_of(name, row).revision for name, row in TABLE.items()}) == len(TABLE)


def test_sizes_count_examples_so_that_record_is_three_quarters_of_the_mixture():
    assert TABLE["superglue/record"].size == 138_854  # of 100,730 train rows, one for each answer
    names = MIXTURES["superglue"].tasks
    shares = mixing_rates({name: TABLE[name].size for name in names}, "proportional", 2**19, 1.0)
    assert round(100 * dict(zip(names, shares, strict=True))["superglue/record"]) == 75


def test_licences_and_sizes_agree_with_the_sources(shared):
    text = (shared / "data" / "SOURCES.md").read_text()
    for name in LOCAL:
        section = text.split(f"## {name}\n")[1].split("\n## ")[0]
        row = TABLE[f"superglue/{name}"]
        assert row.licence == re.search(r"- licence: (.*)", section)[1], name
        rows = int(re.search(r"- official size: (\d+)", section)[1])
        if name == "record":
            assert row.size > rows, "a train row with several answers is several examples"
        elif name == "wsc":
            assert row.size == int(re.search(r'"train": {"0": \d+, "1": (\d+)}', section)[1]), "only true rows train"
        else:
            assert row.size == rows, name
