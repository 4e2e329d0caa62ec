"""A user's task file: what it may say, and what is refused and how."""

import gzip
import json
import re

import pyarrow
import pytest

from spot.errors import TaskError
from spot.tasks import registry
from spot.tasks.checks import check_task
from spot.tasks.splits import split_rows
from spot.tasks.task_file import load_task

CSV = "text,label\nwell made,good\nfell apart,bad\n"


@pytest.fixture
def make(tmp_path):
    """Writes rows and a task file beside them, and returns the task file."""

    def build(toml='rows = "rows.csv"', rows=CSV, file="rows.csv", name='name = "my/task"\n'):
        (tmp_path / file).write_bytes(rows if isinstance(rows, bytes) else rows.encode())
        path = tmp_path / "task.toml"
        path.write_text(name + toml, encoding="utf-8")
        return path

    return build


def refusal(path):
    """The message with which a task file is refused."""
    with pytest.raises(TaskError) as caught:
        load_task(path)
    return str(caught.value)


def test_the_smallest_task_file(make):
    task = load_task(make())
    assert (task.name, task.splits, task.labels, task.metrics) == (
        "my/task",
        ("train",),
        ("bad", "good"),
        ("accuracy",),
    )
    rows = list(task.load("train"))
    assert [(row.id, row.inputs, row.answers, row.texts) for row in rows] == [
        ("train/1", "sentence: well made", ("good",), ("well made",)),
        ("train/2", "sentence: fell apart", ("bad",), ("fell apart",)),
    ]
    assert list(task.load("train")) == rows  # may be read again


def test_everything_a_task_file_may_say(make, tmp_path):
    toml = r"""
        title = "a task"
        input = "{{premise}}: {first text} | {b}!"
        label = "gold"
        labels = { 1 = "yes", 0 = "no" }
        metrics = ["f1", "accuracy"]
        positive = "yes"
        encoding = "CP1252"
        quotes = false
        [rows]
        test = "sub/test.tsv"
        train = "rows.tsv"
    """
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "test.tsv").write_bytes("first text\tb\tgold\ncafé\t{b}\t0\n".encode("cp1252"))
    rows = 'first text\tb\tgold\n"a\tx\t1\nb\ty\t 0 \n'
    task = load_task(make(toml, rows, "rows.tsv"))
    assert (task.splits, task.labels, task.metrics, task.title) == (
        ("train", "test"),
        ("yes", "no"),
        ("f1", "accuracy"),
        "a task",
    )
    assert [(row.inputs, row.answers) for row in task.load("train")] == [
        ('{premise}: "a | x!', ("yes",)),
        ("{premise}: b | y!", ("no",)),
    ]
    (only,) = task.load("test")
    assert (only.inputs, only.texts) == ("{premise}: café | {b}!", ("café", "{b}"))
    with pytest.raises(TaskError, match="my/task has no split 'validation'"):
        next(task.load("validation"))


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "arrow", "feather"])
def test_every_format_gives_the_same_examples(make, tmp_path, suffix):
    rows = [{"text": f"row, {number}", "label": number % 2} for number in range(8)]
    path = tmp_path / f"rows.{suffix}"
    if suffix in ("arrow", "feather"):
        table = pyarrow.Table.from_pylist(rows)
        with pyarrow.ipc.new_stream(str(path), table.schema) as out:
            out.write_table(table)
        data = path.read_bytes()
    elif "json" in suffix:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    else:
        delimiter = "\t" if suffix == "tsv" else ","
        data = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in [rows[0], *map(dict.values, rows)])
        data = data.encode()
    data = gzip.compress(data) if suffix.endswith("gz") else data
    task = load_task(make(f'rows = "rows.{suffix}"\nlabels = {{0 = "even", 1 = "odd"}}', data, path.name))
    assert [(row.texts, row.answers) for row in task.load("train")] == [
        ((f"row, {number}",), (("even", "odd")[number % 2],)) for number in range(8)
    ]


def test_labels_may_be_a_list_of_words_or_left_out(make):
    assert load_task(make('rows = "rows.csv"\nlabels = ["good", "bad"]')).labels == ("good", "bad")
    rows = "text,label\n" + "".join(f"t{number},{number}\n" for number in (10, 9, 2, 10))
    assert load_task(make(rows=rows)).labels == ("2", "9", "10")
    both = '{"text": "a", "label": true}\n{"text": "b", "label": false}\n{"text": "c", "label": 1.5}\n'
    assert load_task(make('rows = "r.jsonl"', both, "r.jsonl")).labels == ("1.5", "false", "true")
    merged = 'rows = "rows.csv"\nlabels = {good = "fine", bad = "poor", awful = "poor"}'
    assert load_task(make(merged)).labels == ("fine", "poor")


def test_open_answers(make):
    rows = "question,reply\nwhat colour,red\nhow many,3 or 4\n"
    task = load_task(make('rows = "rows.csv"\nanswer = "reply"\ninput = "question: {question}"', rows))
    assert (task.labels, task.metrics) == ((), ("exact_match", "token_f1"))
    assert [row.answers for row in task.load("train")] == [("red",), ("3 or 4",)]
    assert load_task(make('rows = "rows.csv"\nanswer = "reply"', rows)).labels == ()  # the only other column
    message = refusal(make('rows = "rows.csv"\nanswer = "reply"', "question,reply\na,x\nb, \n"))
    assert "rows.csv, row 2: blank answer in column 'reply'" in message


def test_the_revision_follows_the_bytes_of_rows_and_task_file(make, tmp_path):
    first = load_task(make()).revision
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert load_task(make()).revision == first
    assert load_task(make(rows=CSV + "new,good\n")).revision != first
    assert load_task(make('rows = "rows.csv" # changed')).revision != first


@pytest.mark.parametrize(
    "lines",
    [
        'instruction = "Judge it."\n',
        "instruction = 'Judge it.'\n",
        'instruction="Say \\"good\\" or # bad." # a guess\n',
        '"instruction"\t= """\nJudge it:\ninstruction = \'none\'\ngood or bad.\n"""\n',
        "  'instruction' = '''Judge ''it''.'''\r\n",
        'instruction = """Judge \\\n\n   "it\\""."""\n',
    ],
)
@pytest.mark.parametrize(
    "others", ['rows = "rows.csv"\n', 'title = """\ninstruction = \'x\'\nend"""\nrows = "rows.csv"\n']
)
def test_an_instruction_is_read_and_leaves_the_revision_as_it_is(make, lines, others):
    plain, asked = load_task(make(others)), load_task(make(others + lines))
    assert plain.instruction == "" and asked.instruction.startswith(("Judge", "Say"))
    assert asked.revision == plain.revision
    assert load_task(make(lines + others)).revision == plain.revision
    assert list(asked.load("train")) == list(plain.load("train"))


def test_an_instruction_that_cannot_be_told_from_the_rest_counts_as_bytes_do(make):
    lines = "\n".join(f"instruction = '{number}'" for number in range(1000))
    others = f'title = """\n{lines}\n"""\nrows = "rows.csv"\n'
    first, second = (load_task(make(f'{others}instruction = "{word}"')) for word in ("Judge it.", "Judge."))
    assert (first.instruction, second.instruction) == ("Judge it.", "Judge.")
    assert first.revision != second.revision


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('instruction = ""', "instruction is empty: write a value or leave the key out"),
        ('instruction = " "', "instruction is blank, expected words"),
        ("instruction = 3", "instruction is 3, expected text"),
        (f'instruction = "{"x" * 100_000}"', "instruction has 100,000 characters, expected at most 2,000"),
        ('instruction = "a\\u001bb"', "instruction is a\\x1bb, expected printable text"),
    ],
)
def test_an_instruction_that_is_none_is_refused(make, line, message):
    assert message in refusal(make(f'rows = "rows.csv"\n{line}'))


def test_all_mistakes_in_a_task_file_come_at_once(make):
    message = refusal(
        make(
            """
            row = "rows.csv"
            lable = "x"
            input = "sentence: {text"
            metrics = ["acuracy"]
            encoding = "utf-9"
            labels = ["only"]
            quotes = "no"
            title = ""
            """,
            name='name = "two words"\n',
        )
    )
    for part in (
        "task.toml cannot be used:",
        "unknown key 'row'; did you mean 'rows'",
        "unknown key 'lable'; did you mean 'label'",
        "no key 'rows', which every task file has",
        "name is 'two words', expected letters, digits",
        "input 'sentence: {text' has a lone '{'",
        "no metric 'acuracy'; did you mean 'accuracy' or",
        "no encoding 'utf-9' of text",
        "labels has the one word 'only', expected at least two",
        "quotes is 'no', expected true, false or the mark",
        "title is empty",
    ):
        assert part in message, part
    assert len(message.splitlines()) == 11


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("rows = 3", "rows is 3, expected text or a table"),
        ("rows = {}", "rows is empty"),
        ('rows = {trian = "rows.csv"}', "rows has an unknown split 'trian'; did you mean 'train'?"),
        ("rows = {train = 3}", "rows: train is 3, expected the path of a file"),
        ('rows = "a\\u0000b"', "expected the path of a file"),
        ('rows = {train = "rows.csv", test = "./rows.csv"}', "rows: train and test are the same file"),
        ('rows = "rows.csv"\nlabels = {a = 1, b = ""}', "labels holds 1, '', expected words in quotation marks"),
        ('rows = "rows.csv"\nlabels = [0, 1]', "labels holds 0, 1, expected words in quotation marks"),
        ('rows = "rows.csv"\nanswer = "a"\nlabel = "b"', "answer stands beside label or labels"),
        ('rows = "rows.csv"\ninput = "no column"', "input 'no column' names no field"),
        ('rows = "rows.csv"\ninput = "{}"', "has a lone '{'"),
        ('rows = "rows.csv"\nencoding = "hex"', "no encoding 'hex' of text"),
        ('rows = "rows.csv"\nencoding = "a\\u0000"', "no encoding"),
        ('rows = "rows.csv"\nmetrics = ["f1"]\nlabels = ["a", "b", "c"]', "f1 needs exactly two labels, found 3"),
        ('rows = "rows.csv"\nmetrics = ["matthews"]\nanswer = "label"', "matthews needs labels"),
        ("rows = ", "is not a task file in TOML (Invalid value"),
    ],
)
def test_each_mistake_in_a_task_file_is_named(make, toml, message):
    found = refusal(make(toml))
    assert message in found and "task.toml" in found


def test_a_wrong_kind_of_name_is_one_mistake(make):
    message = refusal(make('rows = "rows.csv"', name="name = 7\n"))
    assert message.splitlines()[1:] == ["  - name is 7, expected text"]


BAD_ROWS = [
    ("", "rows.csv is empty: expected a header and rows"),
    ("text,label\n", "rows.csv has columns but no rows: expected at least one row below the header"),
    (
        "txt,lable\na,b\n",
        "row 1 has no column 'label', which {task} asks for; its columns: 'txt', 'lable'; did you mean 'lable'?",
    ),
    ("x,y\na,b\n", "row 1 has no column 'label', which {task} asks for; its columns: 'x', 'y'. Name another column"),
    ("a,b,label\n1,2,x\n3,4,y\n", "which column holds the text? Its columns: 'a', 'b', 'label'"),
    (
        "text,label\na,good\nb,good\n",
        "rows.csv: all 2 rows have the label 'good'; expected at least two different labels",
    ),
    ("text,label\na,\nb,N/A\n", "rows.csv: 2 of 2 rows have no label in column 'label' ('blank' 1, 'N/A' 1)"),
    ("text,label\na,good\nb,good|bad\nc,bad\n", "column 'label' holds 'good|bad', several labels in one"),
    ("text,label\na,good\n \t,bad\n", "row 2: no text in 'text'"),
    ("text,label\na,good\nb\n", "row 2 (line 3): found 1 cells, the header has 2"),
    ("text,label,text\na,good,b\n", "column 'text' stands in the header more than once"),
    (b"text,label\na,good\nb\xe4,bad\n", "is not utf-8 text: byte 0xe4 at offset 19, line 3"),
    ("text,label\n" + "".join(f"t,{n}\n" for n in range(201)), "holds 201 different values, more than 200"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS)
def test_bad_rows_are_refused_with_file_and_place(make, rows, message):
    path = make(rows=rows)
    found = refusal(path)
    assert message.format(task=path) in found
    assert "rows.csv" in found


def test_an_unknown_label_is_refused_with_row_value_and_known_labels(make):
    toml = 'rows = "rows.csv"\nlabels = {good = "good", bad = "bad"}'
    found = refusal(make(toml, CSV + "so so,avarage\n"))
    assert "rows.csv, row 3: unknown label 'avarage' in column 'label'; known: 'good', 'bad'." in found
    assert "list the label under labels" in found


def test_the_first_split_shows_the_labels_and_later_ones_may_lack_some(make, tmp_path):
    toml = 'rows = {train = "rows.csv", validation = "more.csv"}'
    (tmp_path / "more.csv").write_text("text,label\nnice,good\n")
    assert load_task(make(toml)).splits == ("train", "validation")
    (tmp_path / "more.csv").write_text("text,label\nnice,good\nso so,fair\n")
    assert "more.csv, row 2: unknown label 'fair'" in refusal(make(toml))
    (tmp_path / "more.csv").write_text("text,label\n")
    assert "more.csv has columns but no rows" in refusal(make(toml))
    (tmp_path / "more.csv").unlink()
    assert "more.csv does not exist" in refusal(make(toml))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": 3, "label": "x"}, "r.jsonl, row 2: field 'text' holds 3, expected text"),
        ({"text": None, "label": "x"}, "r.jsonl, row 2: field 'text' holds None, expected text"),
        ({"text": "a", "label": ["x"]}, "row 2: column 'label' holds ['x'], expected one label"),
        ({"text": "\ud800", "label": "x"}, "row 2: field 'text' holds half a surrogate pair"),
        ({"label": "x"}, "row 2 has no column 'text'"),
    ],
)
def test_json_rows_of_another_shape_are_refused(make, row, message):
    rows = json.dumps({"text": "a", "label": "x"}) + "\n" + json.dumps(row)
    assert message in refusal(make('rows = "r.jsonl"\ninput = "{text}"', rows, "r.jsonl"))


def test_a_named_column_that_is_blank_beside_a_full_one_is_accepted(make):
    rows = "title,body,label\n,some text,x\na title,,y\n"
    task = load_task(make('rows = "rows.csv"\ninput = "title: {title} body: {body}"', rows))
    assert [row.inputs for row in task.load("train")] == ["title:  body: some text", "title: a title body: "]


def test_a_test_file_that_is_not_there_is_refused_before_the_report(make, tmp_path):
    toml = 'rows = { train = "rows.csv", test = "tset.csv" }\nlabel = "label"\n'
    message = refusal(make(toml))
    assert message == f"{tmp_path / 'tset.csv'} does not exist: expected a file with rows. Check the path."
    (tmp_path / "tset.csv").mkdir()
    (tmp_path / "tset.csv").rmdir()
    (tmp_path / "tset.csv").write_text("rows that are no table\n")
    assert load_task(make(toml)).splits == ("train", "test"), "what stands in it is read for the report"


def test_rows_instead_of_a_task_file_are_refused_with_the_way_out(make, tmp_path):
    make()
    message = refusal(tmp_path / "rows.csv")
    assert "rows.csv is not a task file in TOML" in message
    assert f"`spot tasks init {tmp_path / 'rows.csv'}` writes one" in message
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "is not a task file in TOML" in refusal(tmp_path / "binary.toml")
    assert "is a folder: expected a task file" in refusal(tmp_path)


def test_the_registry_reads_task_files_and_their_roles_are_disjoint(make):
    rows = "text,label\n" + "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(300))
    task = registry.get(make(rows=rows))
    found = split_rows(task, 100, 30, 400, 0)
    assert (len(found.train), len(found.selection)) == (100, 30)
    assert 40 <= len(found.report) <= 80
    (split,) = check_task(task)
    assert (split.rows, split.labels, split.blank, split.duplicates) == (300, {"a": 150, "b": 150}, 0, 0)
