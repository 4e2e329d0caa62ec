"""The task of a known data set: nothing is read before a split is, and a row's examples bear its number."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from spot.errors import TaskError
from spot.tasks.columns import Text
from spot.tasks.data_set import DataSet, RawRow
from spot.tasks.loading import data_set_rows, task_of
from tests.support.data_rows import write_jsonl


def words_form(row: RawRow, train: bool) -> Iterator[Text]:
    """One example a word where it trains, one of all words elsewhere."""
    words = row.text("text").split()
    for word in words if train else [" ".join(words)]:
        yield Text(word, (row.answer("reply"),), group="g", texts=(word,))


WORDS = DataSet(
    title="words", form=words_form, revisions=("1", "2"), kind="text", metrics=("exact_match",), hidden_labels=("test",)
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split in ("train", "validation", "test"):
        rows = [{"text": f"{split} words", "reply": "yes"}, {"text": "x", "reply": "no"}]
        write_jsonl(tmp_path / "toy_words" / f"{split}.jsonl", rows)
    return tmp_path


def test_nothing_is_read_before_a_split_is(tmp_path: Path):
    task = task_of("toy/words", WORDS, tmp_path / "nowhere")
    assert (task.name, task.title, task.revision, task.kind) == ("toy/words", "words", "1", "text")
    assert (task.splits, task.hidden_labels) == (("train", "validation"), ("test",))
    assert task_of("toy/words", WORDS, prefix=True).revision == "2"
    with pytest.raises(TaskError, match="no rows for toy/words, split train"):
        next(task.load("train"))


def test_examples_of_one_row_share_its_number(data: Path):
    task = task_of("toy/words", WORDS, data)
    examples = [(example.id, example.inputs) for example in task.load("train")]
    assert examples == [("train/1", "train"), ("train/1.2", "words"), ("train/2", "x")]
    assert [example.id for example in task.load("validation")] == ["validation/1", "validation/2"]
    assert {(example.answers, example.group) for example in task.load("train")} == {(("yes",), "g"), (("no",), "g")}


def test_answers_of_a_hidden_split_are_none(data: Path):
    assert [example.answers for example in task_of("toy/words", WORDS, data).load("test")] == [(), ()]


def test_the_name_stands_in_front_of_each_input_where_it_is_asked_for(data: Path):
    task = task_of("toy/words", WORDS, data, prefix=True)
    assert [example.inputs for example in task.load("validation")] == ["words validation words", "words x"]
    assert task.reading.task_prefix and task.reading.form == "toy/words"


def test_raw_rows_are_numbered_as_their_examples_are(data: Path):
    rows = list(data_set_rows("toy/words", WORDS, data, "train"))
    assert [(number, fields["text"]) for number, fields in rows] == [(1, "train words"), (2, "x")]


def test_an_unknown_split_is_refused(data: Path):
    with pytest.raises(TaskError, match=r"toy/words has no split 'valid'; did you mean 'validation'"):
        next(task_of("toy/words", WORDS, data).load("valid"))
