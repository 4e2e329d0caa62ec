"""The task file that is written for a file of rows: its guesses, and what it refuses."""

import csv
import json
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spot.errors import TaskError
from spot.tasks.columns import MISSING, several_labels
from spot.tasks.formats import UNSAID, FileFormat
from spot.tasks.instructions import proposed_instruction
from spot.tasks.scaffold import init, usual_path
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
        "instruction": "Read the sentence and say which of these it is: 0, 1, 2.",
        "label": "label",
        "labels": {"0": "0", "1": "1", "2": "2"},
    }
    assert text.count("\n#") + text.startswith("#") >= 6
    task = load_task(out)
    assert task.labels == ("0", "1", "2")
    assert task.instruction == proposed_instruction(task)
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
VALUE = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1).filter(
    lambda value: value.strip().casefold() not in MISSING
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    columns=st.tuples(COLUMN, COLUMN).filter(lambda pair: pair[0] != pair[1]),
    values=st.tuples(VALUE, VALUE).filter(
        lambda pair: pair[0].strip() != pair[1].strip() and not several_labels({value.strip() for value in pair})
    ),
)
def test_what_init_writes_is_toml_whatever_the_names_and_values_are(tmp_path, columns, values):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "task.toml"
    out.unlink(missing_ok=True)
    text, label = columns
    lines = [json.dumps({text: f"some text {number}", label: values[number % 2]}) for number in range(8)]
    rows.write_text("\n".join(lines))
    found = tomllib.loads(init(rows, out))
    assert found["rows"] == "rows.jsonl"
    if found["label"] == label:
        assert set(found["labels"]) == {value.strip() for value in values}
        assert [row.texts for row in load_task(out).load("train")] == [(f"some text {n}",) for n in range(8)]


def written(tmp_path: Path, name: str, content: str | bytes, form: FileFormat = UNSAID) -> tuple[dict[str, Any], str]:
    """The task file that is written for some rows, as keys and as text; it must load."""
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    out = tmp_path / "new.toml"
    out.unlink(missing_ok=True)
    text = init(tmp_path / name, out, form)
    load_task(out)
    return tomllib.loads(text), text


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_case24_columns_that_tell_the_label_are_left_out_and_said(tmp_path):
    names = ["card lost", "card late", "cash fee"]
    rows = [
        {
            "id": n,
            "text": f"customer note number {n} about the matter",
            "label": n % 3,
            "label_text": names[n % 3],
            "sequence": f"Note: customer {n} Label : {names[n % 3]}",
        }
        for n in range(30)
    ]
    keys, text = written(tmp_path, "rows.jsonl", lines(rows))
    assert keys["input"] == "sentence: {text}"
    assert keys["labels"] == {"0": "card lost", "1": "card late", "2": "cash fee"}
    assert 'Left out: "label_text", as it is the label in other words' in text
    assert 'Left out: "sequence", as it ends in the label of its row' in text
    assert 'Left out: "id", as it holds numbers' in text
    for row in rows:
        del row["text"]
    (tmp_path / "told.jsonl").write_text(lines(rows))
    with pytest.raises(TaskError, match=r"no column with text.*'sequence': it ends in the label"):
        init(tmp_path / "told.jsonl", tmp_path / "told.toml")


def test_case20_rows_without_a_label_are_counted_and_left_out(tmp_path, caplog):
    table = "text,label\nfine,nan\npoor,bad\nnice,good\nwarm,\ncold,N/A\nwet,bad\ndry,NULL\n"
    keys, text = written(tmp_path, "rows.csv", table)
    assert keys["labels"] == {"bad": "bad", "good": "good"}
    words = "4 of 7 rows have no label in column 'label' ('nan' 1, 'blank' 1, 'N/A' 1, 'NULL' 1) and are left out"
    assert words in text and words in caplog.text
    task = load_task(tmp_path / "new.toml")
    assert [row.id for row in task.load("train")] == ["train/2", "train/3", "train/6"]
    rows = [{"text": f"note {n} here", "label": value} for n, value in enumerate([1.0, 0.0, float("nan"), 1.0, None])]
    keys, text = written(tmp_path, "rows.jsonl", lines(rows))
    assert keys["labels"] == {"0.0": "0.0", "1.0": "1.0"} and "'NaN' 1, 'null' 1" in text


def test_case20_a_setting_says_what_is_no_label(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\na b,none\nc d,good\ne f,bad\ng h,-\n")
    toml = 'name = "t"\nrows = "rows.csv"\n'
    for more, labels, count in (
        ("", ("-", "bad", "good"), 3),
        ('missing = ["-"]\n', ("bad", "good", "none"), 3),
        ('labels = ["none", "good", "bad", "-"]\n', ("none", "good", "bad", "-"), 4),
        ("missing = []\n", ("-", "bad", "good", "none"), 4),
    ):
        (tmp_path / "t.toml").write_text(toml + more)
        task = load_task(tmp_path / "t.toml")
        assert (task.labels, len(list(task.load("train")))) == (labels, count)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([["a"], ["a", "b"], ["b"]], "row 1: column 'label' holds ['a']"),
        (["a", "b", "a,b"], "holds 'a,b', several labels in one"),
        (["a", "b", "a | b"], "holds 'a | b', several labels in one"),
        (['["a"]', "b", "c"], "several labels in one"),
        ([{"x": 1}, {"x": 2}, {}], "row 1: column 'label' holds {'x': 1}"),
    ],
)
def test_case19_several_labels_a_row_are_refused_by_init_and_check_with_the_way_out(tmp_path, values, word):
    rows = [{"text": f"note {n} of many", "label": value} for n, value in enumerate(values)]
    (tmp_path / "rows.jsonl").write_text(lines(rows))
    (tmp_path / "own.toml").write_text('name = "t"\nrows = "rows.jsonl"\n')
    for act in (lambda: init(tmp_path / "rows.jsonl", tmp_path / "new.toml"), lambda: load_task(tmp_path / "own.toml")):
        with pytest.raises(TaskError) as caught:
            act()
        assert word in str(caught.value) and "make a task of each label, with yes or no" in str(caught.value)


def test_labels_with_commas_are_labels(tmp_path):
    keys, _ = written(tmp_path, "rows.csv", 'text,label\na b,"yes, often"\nc d,no\ne f,"yes, rarely"\n')
    assert set(keys["labels"]) == {"yes, often", "no", "yes, rarely"}


def test_case34_conversations_are_refused_with_the_way_out(tmp_path):
    turns = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "It is."}]
    rows = [{"messages": turns, "group": "ab"[n % 2], "dataset": "chat"} for n in range(6)]
    (tmp_path / "chat.jsonl").write_text(lines(rows))
    with pytest.raises(TaskError, match=r"column 'messages' holds conversations.*\"question\".*\"reply\""):
        init(tmp_path / "chat.jsonl", tmp_path / "new.toml")
    (tmp_path / "own.toml").write_text('name = "t"\nrows = "chat.jsonl"\ninput = "{messages}"\nlabel = "group"\n')
    with pytest.raises(TaskError, match="A conversation is no text: write what is asked"):
        load_task(tmp_path / "own.toml")
    shares = [{"conversations": [{"from": "human", "value": "a"}], "id": str(n)} for n in range(3)]
    (tmp_path / "share.jsonl").write_text(lines(shares))
    with pytest.raises(TaskError, match="holds conversations"):
        init(tmp_path / "share.jsonl", tmp_path / "new.toml")
    keys, _ = written(
        tmp_path,
        "pairs.jsonl",
        lines([{"prompt": f"Is {n}?", "completion": " yes no"[3 * (n % 2) :][:4]} for n in range(6)]),
    )
    assert (keys["input"], keys["label"]) == ("sentence: {prompt}", "completion")


def test_case38_inputs_and_targets(tmp_path):
    keys, _ = written(tmp_path, "rows.csv", "inputs,targets\nthe room is bad,bad\nthe lamp is fine,good\n")
    assert (keys["input"], keys["label"]) == ("sentence: {inputs}", "targets")


def test_what_was_seen_of_a_file_is_written_down_and_obeyed(tmp_path):
    content = "sep=;\ntext;label\nthe lamp broke, twice;bad\nit’s nice;good\n".encode("cp1252")  # noqa: RUF001
    keys, text = written(tmp_path, "rows.csv", content)
    assert (keys["encoding"], keys["delimiter"], keys["quotes"], keys["header"]) == ("cp1252", ";", True, True)
    assert "guessed: a word of it is" in text and "semicolon between cells" in text
    (tmp_path / "rows.csv").write_bytes(b"a,b\n1,2\n")
    with pytest.raises(TaskError, match="has no column 'text'"):
        load_task(tmp_path / "new.toml")
    keys, _ = written(tmp_path, "plain.tsv", 'text\tlabel\n"The soup\tbad\ncold.\tbad\nuntil"\tbad\nwarm\tgood\n')
    assert keys["quotes"] is False
    keys, _ = written(tmp_path, "none.csv", "1,Team wins a cup\n2,Bank cuts its rate\n1,Coach leaves the team\n")
    assert (keys["header"], keys["label"], keys["input"]) == (False, "column_1", "sentence: {column_2}")
    assert len(list(load_task(tmp_path / "new.toml").load("train"))) == 3
    keys, _ = written(tmp_path, "rows.jsonl", '[{"text": "a b", "label": "x"}, {"text": "c d", "label": "y"}]')
    assert keys["format"] == "json"


def test_what_is_said_of_a_file_stands_in_the_task_file(tmp_path):
    form = FileFormat(format="csv", delimiter=":", header=False, max_row=500)
    keys, _ = written(tmp_path, "rows.log", "a warm day:good\na cold day:bad\n", form)
    assert (keys["format"], keys["delimiter"], keys["header"], keys["max_row"]) == ("csv", ":", False, 500)
    with pytest.raises(TaskError, match="did you mean 'csv'"):
        init(tmp_path / "rows.log", tmp_path / "x.toml", FileFormat(format="cvs"))


def test_f12_names_and_labels_that_are_no_text_leave_no_file_behind(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "\\ud800"}\n{"text": "b", "label": "x"}\n')
    with pytest.raises(TaskError, match="half a letter"):
        init(tmp_path / "rows.jsonl", tmp_path / "new.toml")
    assert not (tmp_path / "new.toml").exists()


def test_rows_without_text_are_said(tmp_path):
    rows = [{"text": None if n == 2 else f"note {n} here", "label": "ab"[n % 2]} for n in range(6)]
    (tmp_path / "rows.jsonl").write_text(lines(rows))
    text = init(tmp_path / "rows.jsonl", tmp_path / "new.toml")
    assert '1 rows have no text in "text"' in text
    with pytest.raises(TaskError, match=r"row 3: field 'text' holds None, expected text\. Fill it in"):
        load_task(tmp_path / "new.toml")


@pytest.mark.parametrize(
    ("name", "out"), [("a.csv", "a.toml"), ("a.csv.gz", "a.toml"), ("a.b.jsonl.zst", "a.b.toml"), ("set", "set.toml")]
)
def test_a_task_file_stands_beside_its_rows(name, out):
    assert usual_path(Path("x") / name) == Path("x") / out


def test_sixty_thousand_rows_are_read_in_ten_seconds(tmp_path):
    words = "the room was warm and quiet, though a little small; we would come again, perhaps".split()
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([" ".join(words[n % 7 :] + words), "good" if n % 3 else "bad"] for n in range(60_000))
    begin = time.process_time()
    init(tmp_path / "rows.csv", tmp_path / "new.toml")
    assert sum(1 for _ in load_task(tmp_path / "new.toml").load("train")) == 60_000
    assert time.process_time() - begin < 10


def test_passages_that_hold_their_answers_are_texts(tmp_path):
    rows = [
        {"context": f"It was {n} people of {n} towns.", "question": f"How many at {n}?", "answer": f"{n} people"}
        for n in range(60)
    ]
    assert written(tmp_path, "rows.jsonl", lines(rows))[0]["input"] == "context: {context} question: {question}"
    more = [{**row, "same": row["answer"].upper()} for row in rows]
    keys, text = written(tmp_path, "more.jsonl", lines(more))
    assert "{same}" not in keys["input"] and 'Left out: "same", as it holds the label' in text


@pytest.mark.parametrize(
    "content",
    [
        '{"text": ["a b", "c d"], "label": ["x", "y"]}',
        '{"text": {"0": "a b", "1": "c d"}, "label": {"0": "x", "1": "y"}}',
        '{"version": "1", "data": [{"text": "a b", "label": "x"}]}',
    ],
)
def test_one_object_with_all_rows_is_refused_with_the_way_out(tmp_path, content):
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(TaskError, match=r"holds one object with a list .*expected one object a row"):
        init(tmp_path / "rows.json", tmp_path / "new.toml")


def test_a_text_file_with_columns_is_a_table(tmp_path):
    rows = 'ham\tIt\'s late, "they" said\nspam\tWin now; win\nham\t"Is it\nspam\tCall us now\n'
    keys, _ = written(tmp_path, "SMS.txt", rows)
    assert (keys["format"], keys["header"], keys["quotes"], keys["input"]) == (
        "tsv",
        False,
        False,
        "sentence: {column_2}",
    )
    assert len(list(load_task(tmp_path / "new.toml").load("train"))) == 4


def test_blank_texts_are_said(tmp_path):
    text = init_of(tmp_path, "text,label\na b,x\n ,y\nc d,x\n")
    assert "1 rows are blank" in text


def test_a_header_in_the_middle_is_no_row(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\na b,x\ntext,label\nc d,y\n")
    with pytest.raises(TaskError, match="row 2: the header stands here again"):
        init(tmp_path / "rows.csv", tmp_path / "new.toml")


def init_of(tmp_path: Path, content: str) -> str:
    (tmp_path / "rows.csv").write_text(content)
    return init(tmp_path / "rows.csv", tmp_path / "new.toml")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.md", "| text | label |\n|---|---|\n| a b | x |\n", "is a table of Markdown"),
        ("rows.csv", "text:label\na b:x\nc d:y\n", "another mark parts its cells, say --delimiter"),
        ("rows.csv", "text,label\na b,x\nc d,x\n", "all 2 rows have the label 'x'"),
        ("rows.json", '{\n "text": "a b",\n "label": "x"\n}\n', "Objects over several lines are read in an array"),
        ("rows.csv", 'text,label\n"so \\"it\\" is, now",x\nc d,y\n', "no backslash before it counts"),
    ],
)
def test_what_is_no_table_of_ours_is_refused_with_what_to_do(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(TaskError) as caught:
        init(tmp_path / name, tmp_path / "new.toml")
    assert words in str(caught.value)
    assert not (tmp_path / "new.toml").exists()


def test_a_row_of_json_without_the_column_has_no_label(tmp_path):
    rows = [{"text": "a b", "label": "x"}, {"text": "c d"}, {"text": "e f", "label": "y"}]
    _, text = written(tmp_path, "rows.jsonl", lines(rows))
    assert "1 of 3 rows have no label" in text
    assert len(list(load_task(tmp_path / "new.toml").load("train"))) == 2


def test_texts_without_blanks_between_words_are_texts(tmp_path):
    content = "text,label\n" + "".join(
        f"\u90e8\u5c4b\u306f\u5bd2\u304b\u3063\u305f{n},{'xy'[n % 2]}\n" for n in range(9)
    )
    keys, _ = written(tmp_path, "rows.csv", content.encode("utf-16-le"))
    assert (keys["input"], keys["encoding"]) == ("sentence: {text}", "utf-16-le")
