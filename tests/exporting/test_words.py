"""A written token becomes the ids of its prompt, and the text behind it what it is alone."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from spot.errors import BackboneError, PromptError
from spot.exporting.words import Written, first_free_id, with_prompts
from tests.support.baked_models import SENTENCES, tokenizers, tokenizers_of_families
from tests.support.random_tokenizers import draw

KINDS = tokenizers() | tokenizers_of_families()
PROMPTS = [Written("mood", 4), Written("glue/sst2", 30), Written("A-b_1.c", 1)]


def reader(kind: str) -> Tokenizer:
    return Tokenizer.from_str(with_prompts(KINDS[kind], PROMPTS, ()))


READERS = {kind: reader(kind) for kind in KINDS}


def ids(kind: str, text: str) -> list[int]:
    return READERS[kind].encode(text).ids


def alone(kind: str, text: str) -> list[int]:
    return KINDS[kind](text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_name_becomes_its_ids_and_the_text_behind_is_read_as_alone(kind: str):
    first = first_free_id(KINDS[kind])
    for prompt in PROMPTS:
        expected = list(range(first, first + prompt.size))
        for text in SENTENCES:
            assert ids(kind, f"{prompt.text}{text}") == expected + alone(kind, text), (prompt, text)
        first += prompt.size


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_without_a_name_is_read_as_before(kind: str):
    for text in SENTENCES:
        assert ids(kind, text) == alone(kind, text)


@given(
    text=st.text(alphabet=sorted({letter for text in SENTENCES for letter in text}), min_size=1),
    kind=st.sampled_from(sorted(KINDS)),
)
def test_any_text_behind_a_name_is_read_as_alone(text: str, kind: str):
    start = first_free_id(KINDS[kind])
    assert ids(kind, f"{PROMPTS[0].text}{text}") == [*range(start, start + 4), *alone(kind, text)]


@pytest.mark.parametrize("name", ["", "two words", "a|b", "a:0", "é", "<s>"])
def test_a_name_that_cannot_stand_in_a_token_is_refused(name: str):
    with pytest.raises(PromptError, match="cannot stand in a token"):
        with_prompts(KINDS["bytes"], [Written(name, 2)], ())


def test_two_prompts_of_one_name_and_a_name_that_is_taken_are_refused():
    with pytest.raises(PromptError, match="2 prompts belong to the task 'mood'"):
        with_prompts(KINDS["bytes"], [Written("mood", 2), Written("mood", 2)], ())
    tokenizer = tokenizers()["bytes"]
    tokenizer.add_tokens(["<|spot:mood:1|>"])
    with pytest.raises(PromptError, match=re.escape("a token '<|spot:mood:1|>' already")):
        with_prompts(tokenizer, [Written("mood", 2)], ())


def test_a_tokenizer_that_is_a_program_and_one_with_holes_are_refused():
    class Program:
        backend_tokenizer = None

    with pytest.raises(BackboneError, match="is a Python program"):
        first_free_id(Program())
    tokenizer = tokenizers()["bytes"]
    content = tokenizer.backend_tokenizer.to_str().replace('"Z":', '"removed":', 1)
    vocabulary = KINDS["bytes"].backend_tokenizer.get_vocab()
    last = max(vocabulary, key=vocabulary.get)
    content = content.replace(f":{vocabulary[last]}}}", f":{vocabulary[last] + 7}}}")
    tokenizer._tokenizer = Tokenizer.from_str(content)
    with pytest.raises(BackboneError, match="expected no holes"):
        first_free_id(tokenizer)


def test_what_stands_behind_a_text_stays():
    tokenizer = KINDS["bytes"]
    encoder = Tokenizer.from_str(with_prompts(tokenizer, PROMPTS[:1], (2, 2)))
    start = first_free_id(tokenizer)
    assert encoder.encode("<|spot:mood|>a").ids == [*range(start, start + 4), *alone("bytes", "a"), 2, 2]


@given(seed=st.integers(0, 10**6), text=st.text(alphabet="the film wasABC\n.,?", min_size=1, max_size=20))
def test_any_tokenizer_reads_a_text_behind_a_name_as_alone(seed: int, text: str):
    tokenizer = draw(seed).tokenizer
    encoder = Tokenizer.from_str(with_prompts(tokenizer, PROMPTS[:1], ()))
    start = first_free_id(tokenizer)
    alone_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert encoder.encode(f"<|spot:mood|>{text}").ids == [*range(start, start + 4), *alone_ids]
