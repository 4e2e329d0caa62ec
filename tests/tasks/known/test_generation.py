"""Written answers: T5's translation and summarization, and each GEM set on one line; worked by hand."""

import pytest

from spot.errors import TaskError
from spot.metrics.scores import METRICS
from spot.tasks.known.generation import ACTS, TABLE
from tests.support.data_rows import load_split, write_split


def load(root, name, *rows, split="train"):
    write_split(root, name, rows, split)
    return load_split(root, name, split)


@pytest.mark.parametrize(
    ("name", "row", "inputs", "answers"),
    [
        (
            "wmt/en_de",
            {"translation": {"de": "Das ist gut.", "en": "That is good."}},
            "translate English to German: That is good.",
            ("Das ist gut.",),
        ),
        (
            "wmt/en_fr",
            {"translation": {"fr": "Bien.", "en": "Good."}},
            "translate English to French: Good.",
            ("Bien.",),
        ),
        (
            "wmt/en_ro",
            {"translation": {"ro": "Bine.", "en": "Good."}},
            "translate English to Romanian: Good.",
            ("Bine.",),
        ),
        (
            "aeslc",
            {"email_body": "Hi,\nmeet at 5.", "subject_line": "Meeting"},
            "summarize: Hi,\nmeet at 5.",
            ("Meeting",),
        ),
        ("billsum", {"text": "d", "summary": "s", "title": "t"}, "summarize: d", ("s",)),
        ("cnn_dailymail", {"article": "d", "highlights": "s"}, "summarize: d", ("s",)),
        ("gigaword", {"document": "d", "summary": "s"}, "summarize: d", ("s",)),
        ("multi_news", {"document": "d ||||| e", "summary": "s"}, "summarize: d ||||| e", ("s",)),
        ("newsroom", {"text": "d", "summary": "s"}, "summarize: d", ("s",)),
        ("samsum", {"dialogue": "A: hi", "summary": "s"}, "summarize: A: hi", ("s",)),
        ("xsum", {"document": "d", "summary": "s"}, "summarize: d", ("s",)),
        (
            "gem/common_gen",
            {"concepts": ["field", "look", "stand"], "target": "He stood.", "references": ["He stood.", "She looked."]},
            "concepts: field, look, stand",
            ("He stood.", "She looked."),
        ),
        (
            "gem/dart",
            {
                "tripleset": [["Mars Hill College", "JOINED", "1973"], ["Mars Hill College", "LOCATION", "NC"]],
                "target": "t",
                "references": [],
            },
            "triples: Mars Hill College | JOINED | 1973 ; Mars Hill College | LOCATION | NC",
            ("t",),
        ),
        (
            "gem/e2e_nlg",
            {"meaning_representation": "name[Alimentum], area[city centre]", "target": "t"},
            "meaning: name[Alimentum], area[city centre]",
            ("t",),
        ),
        (
            "gem/schema_guided_dialog",
            {
                "dialog_acts": [
                    {"act": 2, "slot": "song_name", "values": ["Carnivore", "Lion"]},
                    {"act": 13, "slot": "time", "values": []},
                    {"act": "REQ_MORE", "slot": "", "values": []},
                ],
                "prompt": "Yes, I would.",
                "target": "t",
                "references": ["t"],
            },
            "acts: CONFIRM(song_name = Carnivore, Lion) ; REQUEST(time) ; REQ_MORE prompt: Yes, I would.",
            ("t",),
        ),
        (
            "gem/web_nlg",
            {"input": ["Aarhus | leader | Jacob_Bundsgaard", "a | b | c"], "target": "t"},
            "triples: Aarhus | leader | Jacob_Bundsgaard ; a | b | c",
            ("t",),
        ),
        (
            "gem/wiki_auto",
            {"source": "A long sentence.", "target": "Short.", "references": ["Brief."]},
            "simplify: A long sentence.",
            ("Short.", "Brief."),
        ),
        ("gem/xsum", {"document": "d", "target": "t", "references": ["t"]}, "summarize: d", ("t",)),
        ("gem/wiki_lingua", {"source": "d", "target": "t"}, "summarize: d", ("t",)),
    ],
)
def test_forms(tmp_path, name, row, inputs, answers):
    (example,) = load(tmp_path, name, row)
    assert example.inputs == inputs
    assert example.answers == answers


def test_the_table_above_is_whole():
    (mark,) = test_forms.pytestmark
    assert {values[0] for values in mark.args[1]} | {"wiki_lingua"} == set(TABLE)


def test_each_method_of_a_page_is_a_row_of_one_group(tmp_path):
    article = {"section_name": ["a", "b", "c"], "document": ["d1", "d2", " "], "summary": ["s1", "s2", "s3"]}
    first, second = load(tmp_path, "wiki_lingua", {"url": "u", "article": article})
    assert (first.inputs, first.answers, second.inputs, second.answers) == (
        "summarize: d1",
        ("s1",),
        "summarize: d2",
        ("s2",),
    )
    assert first.group == second.group == "u"
    assert first.id != second.id


def test_rows_without_a_text_are_left_out(tmp_path):
    rows = [{"dialogue": "", "summary": "s"}, {"dialogue": "d", "summary": " "}, {"dialogue": "d", "summary": "s"}]
    assert [row.inputs for row in load(tmp_path, "samsum", *rows)] == ["summarize: d"]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("wmt/en_de", {"translation": {"en": "a"}}, "row 1.*'de'"),
        ("gem/dart", {"tripleset": ["a | b"], "target": "t"}, "row 1.*'tripleset'"),
        (
            "gem/schema_guided_dialog",
            {"dialog_acts": [{"act": 18, "slot": "", "values": []}], "prompt": "", "target": "t"},
            "row 1.*'dialog_acts'.*0 to 17",
        ),
        ("wiki_lingua", {"url": "u", "article": {"document": ["d"], "summary": []}}, "1 documents and 0 summaries"),
    ],
)
def test_a_bad_row_is_refused_by_number_and_field(tmp_path, name, row, message):
    with pytest.raises(TaskError, match=message):
        load(tmp_path, name, row)


def test_acts_have_the_numbers_of_gem():
    assert len(ACTS) == 18
    assert list(ACTS) == sorted(ACTS)


def test_metrics_are_known_and_answers_are_open():
    for row in TABLE.values():
        assert set(row.metrics) <= set(METRICS)
        assert not row.labels
        assert row.kind == "text"
