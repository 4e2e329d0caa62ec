"""Text to token ids and back: special tokens, cues, cuts, labels, batches."""

import logging
from hashlib import blake2b
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from spot.collator import Collator, by_length
from spot.errors import TaskError
from spot.models.batch import IGNORED
from spot.models.checkpoints import locate
from spot.models.loading import read_tokenizer
from spot.reading import CUE, Reading
from spot.tasks.known.raw_text import text_task
from spot.tasks.task import Example
from tests.support.forms import read_forms
from tests.support.tiny_models import byte_tokenizer

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
    assert "(of the text): 22 tokens on average, 22 at most" in caplog.text


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


# What stands around a text (CASES 4, 5), in its place (3), and what no row may write (35).


def around(single: str, *more: str):
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [*more]})
    ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("</s>", *more)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=f"{single} $B", special_tokens=ids
    )
    return tokenizer


def decoded(tokenizer, kind: str, **reading) -> tuple[str, str]:
    found = Collator(tokenizer, kind, Reading(cue="", separator="", **reading).of_labels(("x", "y")))
    row = found.encode([Example("", "ab", ("x",))])[0]
    return tokenizer.decode(row.input_ids), tokenizer.decode(row.target_ids)


def test_a_begin_that_is_the_end_token_stays_in_front_of_a_causal_text():
    assert decoded(around("</s> $A"), "causal") == ("</s>ab", "x")
    assert decoded(around("</s> $A </s>"), "causal", end="always") == ("</s>ab", "x</s>")


def test_codes_behind_a_text_stay_behind_it():
    assert decoded(around("$A </s> en_XX", "en_XX"), "seq2seq") == ("ab</s>en_XX", "x</s>")
    assert decoded(around("en_XX $A </s>", "en_XX"), "seq2seq") == ("en_XXab</s>", "en_XXx</s>")


def test_nothing_of_what_ends_a_text_stands_before_a_causal_answer():
    assert decoded(around("[CLS] $A [SEP]", "[CLS]", "[SEP]"), "causal") == ("[CLS]ab", "x")
    assert decoded(around("[CLS] $A [SEP]", "[CLS]", "[SEP]"), "seq2seq") == ("[CLS]ab[SEP]", "[CLS]x</s>")


def test_special_tokens_in_fields_answers_and_labels_are_text_and_those_of_the_author_are_not(tiny):
    tokenizer = around("$A", "<|im_start|>")
    mark = tokenizer.convert_tokens_to_ids("<|im_start|>")
    reading = Reading(template="<|im_start|>user {text}</s>", cue="<|im_start|>answer")
    rows = Collator(tokenizer, "causal", reading).encode(
        [Example("", "<|im_start|>user a</s><|im_start|></s>", ("</s> b",), texts=("a</s><|im_start|>",))]
    )
    assert rows[0].input_ids.count(mark) == 2 and rows[0].input_ids.count(1) == 1
    assert tokenizer.decode(rows[0].input_ids) == "<|im_start|>user a</s><|im_start|></s><|im_start|>answer"
    assert rows[0].target_ids.count(1) == 1 and rows[0].target_ids[-1] == 1
    labels = Collator(tokenizer, "causal", Reading().of_labels(("</s>", "<|im_start|>"))).choices
    assert [tokenizer.decode(ids) for ids in labels] == [" </s>", " <|im_start|>"]
    assert not {1, mark} & {number for ids in labels for number in ids}


def test_sentinels_of_a_form_are_special_and_the_same_words_of_a_text_are_not(tmp_path):
    words = "one two three <extra_id_0> five six seven eight nine ten".split()
    (tmp_path / "text.txt").write_text(" ".join(words))
    [example] = text_task("t", tmp_path / "text.txt", spans=True).load("train")
    tokenizer = around("$A </s>", "<extra_id_0>", "<extra_id_1>")
    [row] = Collator(tokenizer, "seq2seq").encode([example])
    first, second = (tokenizer.convert_tokens_to_ids(f"<extra_id_{number}>") for number in (0, 1))
    assert first not in (*row.input_ids, *row.target_ids)
    assert row.input_ids.count(second) == row.target_ids.count(second) == 1
    assert row.target_ids[0] == second


# Tokenizers without an end token (CASE 42), and which token ends an answer (43).


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_without_an_end_token_labels_have_none_and_such_as_need_one_are_refused(kind):
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    plain = Collator(tokenizer, kind, Reading().of_labels(("yes", "no")))
    assert [tokenizer.decode(ids).strip() for ids in plain.choices] == ["yes", "no"]
    assert plain.answer_end is None
    with pytest.raises(TaskError, match=r"the label 'good' begins the label 'goodness', and .* has no end token"):
        _ = Collator(tokenizer, kind, Reading().of_labels(("goodness", "good"))).choices
    with pytest.raises(TaskError, match='end is "always", and this backbone\'s tokenizer has no end token'):
        _ = Collator(tokenizer, kind, Reading(end="always").of_labels(("yes", "no"))).choices


def test_open_answers_without_an_end_token_are_said_to_go_on(caplog):
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    [row] = Collator(tokenizer, "causal").encode([Example("", "a", ("b",))])
    assert tokenizer.decode(row.target_ids) == " b"
    assert "no end token: open answers are trained without an end, and go on up to 64 tokens" in caplog.text


def test_the_token_that_ends_an_answer_is_said(tiny):
    assert collator(tiny).answer_end is None  # labels that need none
    assert collator(tiny, labels=()).answer_end == collator(tiny).tokenizer.eos_token_id == 1
    assert collator(tiny, "t5").answer_end == 1
    bert = around("[CLS] $A [SEP]", "[CLS]", "[SEP]")
    bert.eos_token = None
    assert Collator(bert, "seq2seq").answer_end == bert.convert_tokens_to_ids("[SEP]")


# Words that the vocabulary lacks (CASE 25).


def letters_only() -> PreTrainedTokenizerFast:
    vocabulary = {token: number for number, token in enumerate(["<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz: \nA"])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>")),
        unk_token="<unk>",
        eos_token="</s>",
    )


def test_what_the_vocabulary_lacks_is_counted_and_said_once(caplog):
    found = Collator(letters_only(), "seq2seq", Reading().of_labels(("yes", "no")))
    rows = found.encode([Example("", text, ("yes",)) for text in ("plain text", "plain \u4e2d\u6587 text", "more")])
    assert [row.unknown for row in rows] == [0, 2, 0]
    assert len(caplog.records) == 1
    assert "1 of 3 inputs (33%) have text that this backbone's vocabulary lacks, such as '\u4e2d\u6587'" in caplog.text
    assert "7% of all tokens are unknown to it" in caplog.text and "next to nothing" not in caplog.text


def test_rows_in_a_script_that_the_vocabulary_lacks_are_said_to_be_unreadable(caplog):
    found = Collator(letters_only(), "seq2seq", Reading().of_labels(("yes", "no")))
    found.encode([Example("", "\u4e2d\u6587\u597d a", ("yes",))] * 4)
    assert "4 of 4 inputs (100%)" in caplog.text
    assert "the model reads next to nothing of them, take a backbone of their language" in caplog.text


def test_a_label_that_the_vocabulary_lacks_is_refused_and_an_answer_is_counted(caplog):
    with pytest.raises(TaskError, match="the label 'y\u4e2d' has characters that this backbone's vocabulary lacks"):
        _ = Collator(letters_only(), "seq2seq", Reading().of_labels(("y\u4e2d", "no"))).choices
    Collator(letters_only(), "seq2seq").encode([Example("", "a", ("\u4e2d",)), Example("", "a", ("b",))])
    assert "1 of 2 answers have text that this backbone's vocabulary lacks" in caplog.text


# What is cut (CASE 26).

ASK = "passage: {passage} question: {question} Answer yes or no."


def asked(passage: str, question: str) -> Example:
    text = Reading(template=ASK).render({"passage": passage, "question": question})
    return Example("", text, ("yes",), texts=(passage, question))


@pytest.mark.parametrize(("side", "kept"), [("right", "ppp"), ("left", "qqq")])
def test_the_longest_field_is_cut_and_the_words_of_a_template_and_the_second_text_stay(tiny, side, kept):
    passage, question = "p" * 300 + "q" * 300, "is it so?"
    found = collator(tiny, template=ASK, max_input_tokens=120, truncate=side)
    [row] = found.encode([asked(passage, question)])
    assert len(row.input_ids) == 120 and row.lost == len(ASK) - len("{passage}{question}") + 609 + len(CUE) - 120
    words = found.tokenizer.decode(row.input_ids)
    length = 120 - len(CUE) - len(ASK) + len("{passage}{question}") - len(question)
    assert words == asked(kept[0] * length, question).inputs + CUE


def test_two_long_fields_are_cut_to_one_length(tiny):
    found = collator(tiny, template="{a}|{b}|{c}", cue="", max_input_tokens=14)
    values = ("a" * 50, "bb", "c" * 20)
    [row] = found.encode([Example("", "|".join(values), ("yes",), texts=values)])
    assert found.tokenizer.decode(row.input_ids) == "aaaaa|bb|ccccc"


def test_a_template_that_leaves_no_room_is_refused(tiny):
    with pytest.raises(TaskError, match=r"the words of the template 'passage: .* are 38 tokens, and 32 have room"):
        collator(tiny, template=ASK, cue="", max_input_tokens=32).encode([asked("p" * 30, "q")])


def test_forms_of_the_benchmarks_are_cut_at_their_end_as_before(tiny):
    example = Example("", "question: is it? passage: " + "p" * 99, ("yes",), texts=("is it?", "p" * 99))
    found = collator(tiny, form="superglue/boolq", cue="", max_input_tokens=30)
    assert found.tokenizer.decode(found.encode([example])[0].input_ids) == example.inputs[:30]


# What packaged prompts and T5's rows were trained on.


def tokens_of_all_forms(tokenizer, kind: str) -> str:
    """A digest over the tokens of an example of every known data set, some of them cut."""
    digest = blake2b(digest_size=8)
    for name, record in sorted(read_forms().items()):
        found = Collator(tokenizer, kind, Reading(form=name, max_input_tokens=40).of_labels(tuple(record.labels)))
        texts = [text for examples in record.train for text in examples]
        examples = [Example("", text["inputs"], tuple(text["answers"]), texts=tuple(text["texts"])) for text in texts]
        rows = found.encode(examples)
        digest.update(b"".join(repr((row.input_ids, row.target_ids)).encode() for row in rows))
    return digest.hexdigest()


def test_known_data_sets_have_the_tokens_that_they_always_had_on_t5():
    tokenizer = AutoTokenizer.from_pretrained(Path(__file__).parent / "data" / "sandbox")
    assert tokens_of_all_forms(tokenizer, "seq2seq") == "a044697afef8c95a"


@pytest.mark.slow
def test_known_data_sets_have_the_tokens_that_packaged_prompts_were_trained_on():
    assert tokens_of_all_forms(read_tokenizer(locate("embedded")), "causal") == "73c3a2dbe8864a08"
