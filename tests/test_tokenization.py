"""Texts to token ids, by who wrote them and where they stand."""

from collections.abc import Callable
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import ByT5Tokenizer, CanineTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from spot.errors import TaskError
from spot.tokenization import Around, Part, Tokenization, levelled
from tests.support.tiny_models import byte_tokenizer

TYPED = ("<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<pad>", "<extra_id_0>", "<unk>")


def around(single: str, **special: int) -> PreTrainedTokenizerFast:
    """A byte tokenizer that puts special tokens around a text: `$A` is the text."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [name for name in special if name != "</s>"]})
    names = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("</s>", *special)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=f"{single} $B", special_tokens=names
    )
    return tokenizer


@pytest.mark.parametrize(
    ("single", "before", "behind"),
    [
        ("$A", [], []),
        ("</s> $A", ["</s>"], []),  # OPT: the begin token is the end token
        ("$A </s>", [], ["</s>"]),  # T5
        ("$A </s> xx", [], ["</s>", "xx"]),  # mBART
        ("xx $A </s>", ["xx"], ["</s>"]),  # mBART-50 and NLLB
        ("</s> $A </s>", ["</s>"], ["</s>"]),
        ("xx </s> $A", ["xx", "</s>"], []),
    ],
)
def test_what_stands_around_a_text_is_what_the_tokenizer_puts_there(single, before, behind):
    tokenizer = around(single, xx=0)
    ids = tokenizer.convert_tokens_to_ids
    assert Tokenization(tokenizer).around_input == Around(tuple(map(ids, before)), tuple(map(ids, behind)))


def test_an_end_is_the_end_token_or_what_stands_behind_a_text_or_none():
    assert Tokenization(byte_tokenizer()).end == 1
    without = byte_tokenizer()
    without.eos_token = None
    assert Tokenization(without).end is None
    classifier = around("$A xx", xx=0)
    classifier.eos_token = None
    assert Tokenization(classifier).end == classifier.convert_tokens_to_ids("xx")


def unigram() -> PreTrainedTokenizerFast:
    """As T5's: special tokens are pieces of the vocabulary, and the best ones, which longest matches would take."""
    pieces = [(token, 0.0) for token in TYPED]
    pieces += [(letter, -3.0) for letter in "\u2581abcdefghijklmnopqrstuvwxyz<>/|_0"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=TYPED.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", additional_special_tokens=list(TYPED)
    )


def llama() -> PreTrainedTokenizerFast:
    """As Llama's: byte pairs over blanks that are characters, merges that lead to a special token, a blank in front."""
    alphabet = ["\u2581", *"abcdefghijklmnopqrstuvwxyzA<>/|_0:", "<s", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {token: number for number, token in enumerate([*TYPED, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("<", "s"), ("<s", ">")], byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", bos_token="<s>", additional_special_tokens=list(TYPED)
    )


def bytes_with_special() -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<s>", "<|endoftext|>", "<|im_start|>", "<extra_id_0>"]}
    )
    return tokenizer


@lru_cache
def made_once(make: Callable[[], PreTrainedTokenizerBase]) -> PreTrainedTokenizerBase:
    return make()


@pytest.mark.parametrize("make", [bytes_with_special, unigram, llama, ByT5Tokenizer])
@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([*TYPED, "a", " ", "the", "<", "s>"]), min_size=1, max_size=8).map("".join))
def test_special_tokens_that_a_row_spells_are_text(make, text):
    text = f"x{text}x"
    tokenizer = made_once(make)
    [ids] = Tokenization(tokenizer).encode([(Part(text),)])
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    assert special.isdisjoint(ids)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("make", [bytes_with_special, unigram, llama, ByT5Tokenizer])
def test_the_author_of_a_template_may_write_a_special_token_and_the_row_beside_it_may_not(make):
    tokenizer = make()
    mark = tokenizer.convert_tokens_to_ids("<extra_id_0>")
    [ids] = Tokenization(tokenizer).encode([(Part("a "), Part("<extra_id_0>", is_row=False), Part("<extra_id_0> b"))])
    assert ids.count(mark) == 1
    assert tokenizer.decode(ids).replace(" ", "") == "a<extra_id_0><extra_id_0>b"


def test_a_border_cannot_spell_a_special_token_together():
    tokenizer = bytes_with_special()
    [ids] = Tokenization(tokenizer).encode([(Part("<", is_row=False), Part("s"), Part(">", is_row=False))])
    assert tokenizer.convert_tokens_to_ids("<s>") not in ids and tokenizer.decode(ids) == "<s>"


def test_added_words_are_words_and_marks_of_a_chat_are_not():
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["covid", AddedToken("<|user|>", special=False), AddedToken("[INST]", special=False)])
    tokenizer.chat_template = "[INST]{{ messages[0].content }}"
    [ids] = Tokenization(tokenizer).encode([(Part("covid <|user|> [INST]"),)])
    assert tokenizer.convert_tokens_to_ids("covid") in ids
    assert {tokenizer.convert_tokens_to_ids(token) for token in ("<|user|>", "[INST]")}.isdisjoint(ids)


def test_a_text_that_can_only_be_read_as_a_special_token_is_refused():
    with pytest.raises(
        TaskError, match=r"spells the special token '.ue000', and this tokenizer cannot read it as text"
    ):
        Tokenization(CanineTokenizer()).encode([(Part("a \ue000"),)])


def test_a_text_is_tokenised_as_it_stands_behind_another():
    tokens = Tokenization(llama())
    plain = [number for text in ("a:", "a: b") for number in tokens.encode([(Part(text),)])[0]]
    assert plain  # both are tokenised with a blank in front
    [cue] = tokens.behind_any([(Part("\nA:", is_row=False),)])
    assert tokens.tokenizer.convert_ids_to_tokens(cue) == ["<0x0A>", "A", ":"]  # alone it would begin with a blank
    [alone] = tokens.encode([(Part("b"),)])
    [behind] = tokens.behind((Part("a:"),), [(Part("b"),)])
    assert alone[-1:] == behind and len(alone) == 2


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(0, 40))
def test_the_longest_loses_one_token_at_a_time(lengths, room):
    expected = list(lengths)
    while sum(expected) > room:
        longest = max(expected)
        expected[len(expected) - 1 - expected[::-1].index(longest)] -= 1
    assert levelled(lengths, room) == expected


def test_a_token_over_a_border_belongs_to_the_author_but_for_the_blank_in_front():
    vocabulary = {token: number for number, token in enumerate(["a", "b", " ", ".", "a.", " b"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "."), (" ", "b")]))
    tokens = Tokenization(PreTrainedTokenizerFast(tokenizer_object=backend))
    ids, owners = tokens.owners((Part("a", is_row=False), Part("a"), Part(". ", is_row=False), Part("b")))
    assert [tokens.tokenizer.decode([number]) for number in ids] == ["a", "a.", " b"]
    assert owners == [0, 2, 3]
