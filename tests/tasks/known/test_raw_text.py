"""Source tasks from text: nothing is lost between input and answer, and the shares are T5's."""

import gzip
import json
import re
import statistics
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.errors import TaskError
from spot.tasks import registry
from spot.tasks.known.raw_text import BLOCK, CHUNK, TABLE, chunks, corrupt, prefix_split, text_task

WORD = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=8).filter(
    lambda word: word.split() == [word] and "<extra_id_" not in word
)
WORDS = st.lists(WORD, min_size=2, max_size=CHUNK)


def interleaved(inputs, answer):
    """The words of a corrupted chunk with its spans put back where their sentinels stand."""
    spans, name = {}, None
    for word in answer.split(" "):
        if re.fullmatch(r"<extra_id_\d+>", word):
            name = word
            spans[name] = []
        else:
            spans[name].append(word)
    kept = inputs.split(" ")
    assert [word for word in kept if word in spans] == list(spans) == [f"<extra_id_{n}>" for n in range(len(spans))]
    return [put for word in kept for put in spans.get(word, [word])]


@given(WORDS)
def test_prefix_and_continuation_are_the_chunk(words):
    prefix, continuation = prefix_split(words)
    assert prefix and continuation
    assert f"{prefix} {continuation}" == " ".join(words)
    assert prefix_split(words) == (prefix, continuation)


@given(WORDS)
def test_spans_put_back_give_the_chunk(words):
    inputs, answer = corrupt(words)
    assert interleaved(inputs, answer) == words
    gone = sum(not word.startswith("<extra_id_") for word in answer.split(" "))
    assert gone == min(max(round(len(words) * 0.15), 1), len(words) - 1)
    assert inputs.endswith(">") and not inputs.startswith("<extra_id_")
    assert corrupt(words) == (inputs, answer)


@given(st.lists(st.integers(), max_size=1000), st.integers(1, 100))
def test_chunks_are_the_words_in_nearly_equal_parts(words, size):
    parts = list(chunks(words, size))
    assert [word for part in parts for word in part] == words
    lengths = {len(part) for part in parts}
    assert len(parts) == -(-len(words) // size)
    assert not lengths or (max(lengths) <= size and max(lengths) - min(lengths) <= 1)


def test_prefixes_have_every_length_and_spans_a_mean_of_three():
    texts = [[f"w{number}", *"abcdefghi"] for number in range(2000)]
    lengths = [len(prefix_split(words)[0].split()) for words in texts]
    assert set(lengths) == set(range(1, 10))
    assert statistics.mean(lengths) == pytest.approx(5, abs=0.2)
    long = [f"w{number}" for number in range(60)]
    answer = corrupt(long)[1].split()
    assert sum(word.startswith("<") for word in answer) == 3  # 9 words in spans of 3
    starts = {corrupt([f"w{number}", *long])[0].split().index("<extra_id_0>") for number in range(300)}
    assert len(starts) > 15


@pytest.mark.sweep
@pytest.mark.parametrize("name", sorted(TABLE))
def test_local_documents_come_back(local_rows, name):
    row = TABLE[name]
    task = registry.get(name, local_rows)
    assert (task.labels, task.metrics, task.kind) == ((), ("likelihood",), "text")
    for split in row.splits:
        (path,) = (local_rows / row.folder).glob(f"{split}.jsonl*")
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            documents = [json.loads(line)["text"].split() for line in lines]
        found = []
        for example in task.load(split):
            (answer,) = example.answers
            words = interleaved(example.inputs, answer) if "spans" in name else f"{example.inputs} {answer}".split(" ")
            assert example.texts == (" ".join(words),)
            assert 2 <= len(words) <= CHUNK
            found += words
        assert found == [word for words in documents if len(words) > 1 for word in words]


def test_chunks_of_a_document_are_one_group(tmp_path):
    (tmp_path / "c4").mkdir()
    rows = [{"text": " ".join(f"{name}{number}" for number in range(150))} for name in "ab"] + [{"text": "alone"}]
    (tmp_path / "c4" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(registry.get("c4", tmp_path).load("train"))
    assert len({row.id for row in found}) == len(found) == 6
    assert len({row.group for row in found}) == 2
    assert len({row.group for row in found[:3]}) == 1


@given(text=st.text(st.sampled_from("ab \n\t\r\u2003"), max_size=400))
def test_a_file_is_read_as_one_running_text(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "file.txt"
    path.write_bytes(text.encode())
    rows = list(text_task("mine", path).load("train"))
    words = text.split()
    kept = len(words) - (len(words) % CHUNK == 1)
    assert [word for row in rows for word in f"{row.inputs} {row.answers[0]}".split(" ")] == words[:kept]
    assert [row.id for row in rows] == [f"train/{number}" for number in range(1, len(rows) + 1)]


def test_one_long_line_is_streamed(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("word " * (BLOCK * 20))
    tracemalloc.start()
    count = sum(1 for _ in text_task("mine", path, spans=True).load("train"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == BLOCK * 20 // CHUNK
    assert peak < 4_000_000 < path.stat().st_size


def test_a_text_task_names_its_split_and_its_file(tmp_path):
    task = text_task("mine", tmp_path / "none.txt", spans=True)
    assert (task.splits, task.metrics, task.kind) == (("train",), ("likelihood",), "text")
    with pytest.raises(TaskError, match="no split 'test'"):
        list(task.load("test"))
    with pytest.raises(TaskError, match=r"none\.txt does not exist"):
        list(task.load("train"))
    assert task.revision != text_task("mine", tmp_path / "none.txt").revision
