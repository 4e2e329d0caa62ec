"""Known data sets: forms and words as T5 has them, refusals that name the row, and every set on real rows."""

import re
import subprocess
import sys
from itertools import islice

import pytest

from spot.errors import TaskError
from spot.metrics.scores import METRICS, problems
from spot.tasks import registry
from spot.tasks.known.classification import INTENTS
from spot.tasks.known.classification import TABLE as CLASSES
from spot.tasks.registry import TABLE
from spot.tasks.splits import split_rows
from spot.tasks.task import Example
from tests.support.data_rows import write_jsonl

REQUIRED = {
    "glue/sst2",
    "glue/cola",
    "glue/mrpc",
    "glue/qqp",
    "glue/qnli",
    "glue/rte",
    "glue/mnli",
    "superglue/cb",
    "superglue/boolq",
    "superglue/wic",
    "snli",
    "quora_pairs",
    "trec",
    "ag_news",
    "cr",
    "mr",
    "mpqa",
    "sst5",
    "imdb",
    "yelp_polarity",
    "yelp_review_full",
    "amazon_polarity",
    "dbpedia_14",
    "tweet_eval/emotion",
    "tweet_eval/hate",
    "tweet_eval/offensive",
    "tweet_eval/sentiment",
    "banking77",
    "vader/tweets",
    "vader/amazon",
    "vader/nyt",
    "vader/movie",
}


def first(name, tmp_path, row):
    """The first example of a data set that holds this one row."""
    write_jsonl(tmp_path / TABLE[name].folder / "train.jsonl", [row])
    return next(iter(registry.get(name, tmp_path).load("train")))


@pytest.mark.parametrize(
    ("name", "row", "inputs", "answer"),
    [
        ("trec", {"text": "Who?", "coarse_label": 3, "label": 9}, "sentence: Who?", "human"),
        ("ag_news", {"text": "t", "label": 3}, "sentence: t", "technology"),
        ("amazon_polarity", {"title": "t", "content": "c", "label": 0}, "title: t content: c", "negative"),
        ("banking77", {"text": "t", "label": 11, "label_text": "card_arrival"}, "sentence: t", "card arrival"),
        ("yelp_review_full", {"text": "t", "label": 0}, "sentence: t", "1 star"),
    ],
)
def test_inputs_and_answers_have_the_form_of_t5(tmp_path, name, row, inputs, answer):
    example = first(name, tmp_path, row)
    assert example.inputs == inputs
    assert example.answers == (answer,)
    assert example.id == "train/1"
    assert set(example.texts) <= set(row.values())


def test_ratings_become_classes_by_domain_and_neutral_ones_are_left_out(tmp_path):
    ratings = [-4, -0.5, -0.49, 0, 0.49, 0.5, 3.9]
    rows = [{"text": str(rating), "label": rating, "domain": "tweets"} for rating in ratings]
    write_jsonl(tmp_path / "vader" / "train.jsonl", [*rows, {"text": "film", "label": 4, "domain": "movies"}])
    found = [(row.texts[0], row.answers[0]) for row in registry.get("vader/tweets", tmp_path).load("train")]
    assert found == [("-4", "negative"), ("-0.5", "negative"), ("0.5", "positive"), ("3.9", "positive")]
    assert [row.texts for row in registry.get("vader/movie", tmp_path).load("train")] == [("film",)]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("cr", {"text": 5, "label": 1}, "row 2: field 'text' holds 5, expected text"),
        ("cr", {"text": None, "label": 1}, "row 2: field 'text' holds None, expected text"),
        ("cr", {"sentence": "a", "label": 1}, "row 2 has no field 'text'; it has 'sentence', 'label'"),
        ("cr", {"text": "a\ud800", "label": 1}, "row 2: field 'text' holds half a surrogate pair"),
        ("cr", {"text": "a", "label": 2}, r"row 2: field 'label' is no label .*\(found 2, expected .* 0 to 1\)"),
        ("cr", {"text": "a", "label": -2}, r"no label of this data set \(found -2, "),
        ("cr", {"text": "a", "label": True}, r"no label of this data set \(found True, "),
        ("cr", {"text": "a", "label": "1"}, r"no label of this data set \(found '1', "),
        ("cr", {"text": "a"}, r"row 2 has no field 'label'; it has 'text'"),
        ("banking77", {"text": "a", "label_text": "card_arival"}, r"no label of this data set \(found 'card_arival'\)"),
        ("vader/nyt", {"text": "a", "domain": "nyt", "label": float("nan")}, "no label of this data set"),
    ],
)
def test_rows_of_another_shape_are_refused_with_their_number(tmp_path, name, row, message):
    good = {
        "cr": {"text": "fine", "label": 0},
        "banking77": {"text": "fine", "label_text": "age_limit"},
        "vader/nyt": {"text": "fine", "domain": "nyt", "label": 1},
    }[name]
    write_jsonl(tmp_path / TABLE[name].folder / "train.jsonl", [good, row])
    rows = registry.get(name, tmp_path).load("train")
    assert isinstance(next(rows), Example)
    with pytest.raises(TaskError, match=message) as caught:
        next(rows)
    assert "train.jsonl" in str(caught.value)


def test_without_a_data_folder_the_message_says_how_to_give_one(monkeypatch, tmp_path):
    monkeypatch.delenv("SPOT_DATA", raising=False)
    task = registry.get("trec")
    assert task.splits == ("train", "validation")  # known without any rows
    with pytest.raises(TaskError, match=r"no data folder for trec: give one with --data DIR .*SPOT_DATA"):
        next(task.load("train"))
    monkeypatch.setenv("SPOT_DATA", str(tmp_path))
    with pytest.raises(TaskError, match=r"no rows for trec, split train: expected .*train.jsonl or train.jsonl.gz"):
        next(task.load("train"))
    write_jsonl(tmp_path / "trec" / "train.jsonl", [{"text": "Where?", "coarse_label": 4}])
    assert next(task.load("train")).answers == ("location",)


def test_an_unknown_split_and_an_unknown_name_are_refused_with_near_names(tmp_path):
    with pytest.raises(TaskError, match=r"cr has no split 'tset'; known: train, validation"):
        next(registry.get("cr", tmp_path).load("tset"))
    with pytest.raises(TaskError, match=r"no task 'glue/sst'; did you mean 'glue/sst2'.*spot tasks init ROWS"):
        registry.get("glue/sst")
    with pytest.raises(TaskError, match=r"mytask\.toml does not exist: expected a task file"):
        registry.get(tmp_path / "mytask.toml")


def test_rows_that_nobody_agreed_on_are_left_out(tmp_path):
    pair = {"premise": "p", "hypothesis": "h"}
    write_jsonl(tmp_path / "snli" / "train.jsonl", [pair | {"label": -1}, pair | {"label": 2}])
    assert [row.answers for row in registry.get("snli", tmp_path).load("train")] == [("contradiction",)]


def test_the_table_is_complete_and_sound():
    assert set(TABLE) >= REQUIRED
    assert registry.names() == sorted(TABLE)
    for name, row in TABLE.items():
        task = registry.get(name)
        assert len(set(row.labels)) == len(row.labels) and len(row.labels) != 1, name
        assert bool(row.labels) == (row.kind != "text"), name
        assert all(word == word.strip() for word in row.labels), name
        assert problems(row.metrics, row.labels) == [] and set(row.metrics) <= set(METRICS), name
        assert row.title and row.licence and re.fullmatch("[0-9a-f]{8}", task.revision), name
    assert len(INTENTS) == 77


def test_a_revision_changes_with_form_words_and_prefix():
    for name in TABLE:
        assert registry.get(name).revision != registry.get(name, prefix=True).revision or TABLE[name].name == "", name
    assert len({registry.get(name).revision for name in CLASSES}) == len(CLASSES)


def test_a_prefix_is_the_name_in_front(tmp_path):
    write_jsonl(tmp_path / "cr" / "train.jsonl", [{"text": "fine", "label": 1}])
    assert next(registry.get("cr", tmp_path, prefix=True).load("train")).inputs == "cr sentence: fine"


def test_the_tasks_import_without_heavy_packages():
    code = (
        "import sys; import spot.tasks.registry as tasks; tasks.get('cr'); "
        "heavy = ('torch', 'transformers', 'pyarrow', 'sklearn', 'scipy', 'numpy'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_data_set_loads_from_the_shared_folder(shared, name):
    task = registry.get(name, shared / "data")
    for split in task.splits:
        rows = list(islice(task.load(split), 200))
        assert rows, split
        assert len({row.id for row in rows}) == len(rows)
        for row in rows:
            assert len(row.answers) == 1 and row.answers[0] in task.labels
            assert all(text in row.inputs for text in row.texts)
    missing = set(task.labels)
    for row in task.load("train"):
        missing.discard(row.answers[0])
        if not missing:
            break
    assert not missing, f"no row of train has the label {missing}"


@pytest.mark.parametrize("name", ["cr", "trec", "superglue/cb"])
def test_roles_of_real_rows_share_no_text(shared, name):
    found = split_rows(registry.get(name, shared / "data"), 100, 100, 400, 0)
    texts = [
        {"".join(filter(str.isalnum, " ".join(row.texts).lower())) for row in part}
        for part in (found.train, found.selection, found.report)
    ]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]


def test_licences_and_category_names_agree_with_the_sources(shared):
    text = (shared / "data" / "SOURCES.md").read_text()
    section = text.split("## dbpedia_14\n")[1].split("\n## ")[0]
    named = re.search(r"- labels: (.*)", section)[1]
    assert [part.split(" ", 1)[1].lower() for part in named.split(", ")] == list(TABLE["dbpedia_14"].labels)
    for name, row in TABLE.items():
        if f"## {row.folder}\n" not in text:
            continue
        section = text.split(f"## {row.folder}\n")[1].split("\n## ")[0]
        assert row.licence == re.search(r"- licence: (.*)", section)[1], name
