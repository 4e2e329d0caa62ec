"""Tasks by name, by task file and by text file, and their examples beside the rows that they were made of."""

from pathlib import Path

import pytest

from spot.errors import TaskError
from spot.tasks import registry
from tests.support.data_rows import write_split
from tests.support.small_runs import user_task


def test_names_are_those_of_all_tables_in_order():
    assert registry.names() == sorted(registry.TABLE)
    assert {"glue/sst2", "superglue/cb", "trec", "squad", "piqa", "xsum", "c4"} <= set(registry.names())


def test_a_task_is_found_by_name_by_file_and_by_text(tmp_path: Path):
    (tmp_path / "story.txt").write_text("once upon a time\n")
    assert registry.get("glue/sst2").name == "glue/sst2"
    assert registry.get(user_task(tmp_path)).name == registry.get(str(tmp_path / "mood.toml")).name == "mood"
    assert registry.get(tmp_path / "story.txt").name == "story"


def test_an_option_is_no_part_of_a_name(tmp_path: Path):
    write_split(tmp_path, "glue/sst2", [{"sentence": "fine", "label": 1}])
    inputs = [next(registry.get("glue/sst2", tmp_path, prefix).load("train")).inputs for prefix in (False, True)]
    assert inputs == ["sentence: fine", "sst2 sentence: fine"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("glue/sst", r"no task 'glue/sst'; did you mean 'glue/sst2'.*`spot tasks init ROWS`"),
        ("reviews", r"no task 'reviews'; .*`spot tasks init ROWS`"),
        ("no/such.toml", "no/such.toml does not exist"),
    ],
)
def test_what_is_no_task_is_refused(name: str, message: str):
    with pytest.raises(TaskError, match=message):
        registry.get(name)


def test_examples_stand_beside_their_rows(tmp_path: Path):
    rows = [{"text": f"row {number}", "label": label} for number, label in enumerate((1, -1, 0))]
    write_split(tmp_path, "cr", rows)
    pairs = list(registry.paired("cr", tmp_path, "train"))
    assert [(fields["text"], example.inputs) for fields, example in pairs] == [
        ("row 0", "sentence: row 0"),
        ("row 2", "sentence: row 2"),
    ], "a row that makes no example is passed over"
    path = user_task(tmp_path)
    fields, example = next(registry.paired(path, None, "train"))
    assert example.inputs == f"say: {fields['text']}"
    (tmp_path / "story.txt").write_text("once upon a time\n")
    fields, example = next(registry.paired(tmp_path / "story.txt", None, "train"))
    assert fields == {"text": example.texts[0]}
