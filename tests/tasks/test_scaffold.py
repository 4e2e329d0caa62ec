"""The task file that is written for a file of rows: its guesses, and what it refuses."""

import json
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spot.errors import TaskError
from spot.tasks.scaffold import init
from spot.tasks.task_file import load_task

CSV = "text,label\nwell made,good\nfell apart,bad\n"


def test_init_writes_a_task_file_that_works_as_it_is(tmp_path):
    rows = tmp_path / "data" / "my reviews.v2.csv"
    rows.parent.mkdir()
    lines = [f'{n},"Review number {n}, long enough",site{n % 2},{n % 3}' for n in range(30)]
    rows.write_text("id,review,source,label\n" + "\n".join(lines))
    out = tmp_path / "task.toml"
    text = init(rows, out)
    assert out.read_text() == text
    assert tomllib.loads(text) == {
        "name": "my_reviews",
        "rows": "data/my reviews.v2.csv",
        "encoding": "utf-8",
        "delimiter": ",",
        "quotes": True,
        "header": True,
        "input": "sentence: {review}",
        "label": "label",
        "labels": {"0": "0", "1": "1", "2": "2"},
    }
    assert text.count("\n#") + text.startswith("#") >= 6
    task = load_task(out)
    assert task.labels == ("0", "1", "2")
    assert next(task.load("train")).inputs == "sentence: Review number 0, long enough"


def test_init_guesses_pairs_and_a_label_column_without_a_usual_name(tmp_path):
    rows = tmp_path / "pairs.jsonl"
    data = [{"idx": n, "q1": f"question {n}?", "q2": f"other {n}?", "same": n % 2 == 0} for n in range(20)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in data))
    found = tomllib.loads(init(rows, tmp_path / "task.toml"))
    assert (found["input"], found["label"]) == ("q1: {q1} q2: {q2}", "same")
    assert found["labels"] == {"false": "false", "true": "true"}
    assert load_task(tmp_path / "task.toml").labels == ("false", "true")


def test_init_leaves_out_columns_that_no_template_can_name(tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("{odd},body,label\n" + "".join(f"odd {n},body {n},{'xy'[n % 2]}\n" for n in range(9)))
    assert tomllib.loads(init(rows, tmp_path / "task.toml"))["input"] == "sentence: {body}"


def test_init_takes_many_different_values_for_open_answers(tmp_path):
    rows = tmp_path / "qa.tsv"
    rows.write_text("question\tanswer\n" + "".join(f"question {n}\treply {n}\n" for n in range(300)))
    found = tomllib.loads(init(rows, tmp_path / "task.toml"))
    assert found["answer"] == "answer" and "label" not in found
    assert load_task(tmp_path / "task.toml").labels == ()


def test_init_refuses_to_overwrite_and_rows_without_text(tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text(CSV)
    out = tmp_path / "task.toml"
    out.write_text("mine")
    with pytest.raises(TaskError, match=r"task\.toml exists already and is left as it is"):
        init(rows, out)
    assert out.read_text() == "mine"
    rows.write_text("a,label\n1,x\n2,y\n")
    with pytest.raises(TaskError, match=r"rows\.csv: no column with text; its columns: 'a', 'label'"):
        init(rows, tmp_path / "new.toml")
    rows.write_text("text,label\n")
    with pytest.raises(TaskError, match="has columns but no rows"):
        init(rows, tmp_path / "new.toml")
    with pytest.raises(TaskError, match="does not exist"):
        init(tmp_path / "gone.csv", tmp_path / "new.toml")
    assert not (tmp_path / "new.toml").exists()


COLUMN = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="{}\0"), min_size=1, max_size=6)
VALUE = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1).filter(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(columns=st.tuples(COLUMN, COLUMN).filter(lambda pair: pair[0] != pair[1]), values=st.tuples(VALUE, VALUE))
def test_what_init_writes_is_toml_whatever_the_names_and_values_are(tmp_path, columns, values):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "task.toml"
    out.unlink(missing_ok=True)
    text, label = columns
    lines = [json.dumps({text: f"some text {number}", label: values[number % 2]}) for number in range(8)]
    rows.write_text("\n".join(lines))
    found = tomllib.loads(init(rows, out))
    assert found["rows"] == "rows.jsonl"
    shown = {value.strip() for value in values}
    if found["label"] == label and len(shown) == 2:
        assert set(found["labels"]) == shown
        assert [row.texts for row in load_task(out).load("train")] == [(f"some text {n}",) for n in range(8)]
