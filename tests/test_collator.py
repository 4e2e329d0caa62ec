"""Text to token ids and back: special tokens, cues, cuts, labels, batches."""

import logging

import pytest

from spot.collator import Collator, by_length
from spot.errors import TaskError
from spot.models.batch import IGNORED
from spot.reading import CUE, Reading
from spot.tasks.task import Example

LABELS = ("negative", "positive")


def collator(tiny, family="llama", **options) -> Collator:
    _, tokenizer = tiny(family)
    kind = "seq2seq" if family.startswith("t5") else "causal"
    labels = options.pop("labels", LABELS)
    return Collator(tokenizer, kind, Reading(**options).of_labels(labels))


def test_a_causal_row_is_text_cue_and_an_answer_after_a_blank(tiny):
    row = collator(tiny).encode([Example("1", "sentence: fine", ("positive",))])[0]
    decode = collator(tiny).tokenizer.decode
    assert decode(row.input_ids) == "sentence: fine" + CUE
    assert decode(row.target_ids) == " positive"


def test_a_seq2seq_row_ends_as_t5_ends_it(tiny):
    found = collator(tiny, "t5")
    row = found.encode([Example("1", "sentence: fine", ("positive",))])[0]
    assert row.input_ids == tuple(found.tokenizer("sentence: fine")["input_ids"])
    assert row.target_ids == tuple(found.tokenizer("positive")["input_ids"])


@pytest.mark.parametrize(("side", "kept"), [("right", "abcd"), ("left", "wxyz")])
def test_a_long_row_loses_the_chosen_side_and_keeps_the_cue_said_once(tiny, caplog, side, kept):
    found = collator(tiny, max_input_tokens=4 + len(CUE), truncate=side)
    rows = [Example(str(i), "abcdefghijklmnopqrstuvwxyz", ("positive",)) for i in range(3)]
    with caplog.at_level(logging.WARNING):
        encoded = found.encode(rows)
    assert found.tokenizer.decode(encoded[0].input_ids) == kept + CUE
    assert len(caplog.records) == 1
    assert f"3 of 3 inputs were longer than {4 + len(CUE)} tokens and lost their {side} end" in caplog.text


def test_no_room_for_text_is_refused(tiny):
    with pytest.raises(TaskError, match="leave no room for text beside"):
        collator(tiny, max_input_tokens=3).encode([Example("1", "text", ("positive",))])


def test_labels_without_tokens_or_with_the_same_ones_are_refused(tiny):
    with pytest.raises(TaskError, match="the label '' has no tokens"):
        _ = collator(tiny, labels=("", "yes")).choices
    with pytest.raises(TaskError, match="the label 'yes' is named more than once"):
        _ = collator(tiny, labels=("yes", "yes")).choices


def test_a_label_that_begins_another_gets_an_end(tiny):
    plain = collator(tiny, labels=("good", "bad")).choices
    nested = collator(tiny, labels=("good", "goodness")).choices
    end = collator(tiny).tokenizer.eos_token_id
    assert all(ids[-1] != end for ids in plain)
    assert all(ids[-1] == end for ids in nested)


def test_a_batch_pads_on_the_right_and_ignores_missing_targets(tiny):
    found = collator(tiny)
    rows = found.encode([Example("1", "a", ("negative",)), Example("2", "abc", ())])
    batch = found.batch(rows, [1, 0])
    assert batch.attention_mask.tolist() == [[1] * (1 + len(CUE)) + [0, 0], [1] * (3 + len(CUE))]
    assert batch.labels[1].tolist() == [IGNORED] * len(rows[0].target_ids)
    assert batch.prompt_index.tolist() == [1, 0]
    assert int(batch.attention_mask.sum()) == 4 + 2 * len(CUE)


def test_evaluation_batches_hold_every_row_within_the_budget(tiny):
    found = collator(tiny)
    rows = found.encode([Example(str(i), "x" * (i % 40), ("negative",)) for i in range(50)])
    batches = by_length(rows, tokens=200)
    assert sorted(number for batch in batches for number in batch) == list(range(50))
    assert all(max(len(rows[i].input_ids) for i in batch) * len(batch) <= 200 for batch in batches)


def test_long_answers_are_cut_before_their_end_and_counted(tiny, caplog):
    _, tokenizer = tiny("llama")
    collator = Collator(tokenizer, "causal", Reading(max_target_tokens=8))
    long, short = collator.encode([Example("", "a", ("twelve bytes and more",)), Example("", "a", ("four",))])
    assert len(long.target_ids) == 8 and long.target_ids[-1] == short.target_ids[-1] == tokenizer.eos_token_id
    assert "1 of 2 answers were longer than 8 tokens" in caplog.text
