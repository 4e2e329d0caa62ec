import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from spot.reading import Reading
from spot.serving.completions import (
    CHUNK,
    CHUNK_LETTERS,
    LEAST_LOGPROB,
    LEAST_TEMPERATURE,
    WINDOW,
    Detokeniser,
    StopSearch,
    chat_logprobs,
    chat_text,
    chunks_of,
    completion_logprobs,
    decoded,
    encoded,
    examples_of,
    merged,
    pieces,
    prompts_of,
    reads_one_field,
    sampling_of,
    seed_of,
    stops_of,
    together,
    whole,
    whole_inputs,
)
from spot.serving.requests import Refusal, Sampling, Token
from spot.serving.wire import ChatRequest, CompletionRequest, read_request
from tests.support.random_tokenizers import draw
from tests.support.serving import READINGS, FakeCatalogue, FakeEngine
from tests.support.tiny_models import FAMILIES, byte_tokenizer

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2's: a blank is part of a word, and bytes stand for characters that the vocabulary lacks."""
    words = ["<unk>", "<s>", "</s>", *BYTES, "\u2581", "\u2581the", "\u2581film", "ab", "a", "é", ".", "\u2581\u2581"]
    backend = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, [], byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=True,
    )


TOKENIZERS = {
    **{f"drawn {seed}": draw(seed).tokenizer for seed in range(15)},
    **{family: byte_tokenizer(family) for family in FAMILIES[:3]},
    "sentencepiece": sentencepiece_tokenizer(),
}
MODELS = {model.name: model for model in FakeCatalogue().models}


def streamed(tokenizer, ids, window=WINDOW):
    detokeniser = Detokeniser(tokenizer, window)
    return [*(detokeniser.add(token) for token in ids), detokeniser.finish()]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
@settings(derandomize=True)
def test_the_pieces_of_a_stream_are_the_whole_text(name, data):
    tokenizer = TOKENIZERS[name]
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=60))
    assert "".join(streamed(tokenizer, ids)) == decoded(tokenizer, ids)
    for window in (1, 9, 14):
        assert "".join(streamed(tokenizer, ids, window)) == decoded(tokenizer, ids)


@given(st.text(max_size=20))
@settings(derandomize=True)
def test_characters_of_several_bytes_come_whole(text):
    tokenizer = TOKENIZERS["llama"]
    parts = streamed(tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"])
    assert "".join(parts) == text
    assert all(part in text for part in parts)


def test_a_broken_character_is_told_at_the_end():
    tokenizer = TOKENIZERS["llama"]
    ids = tokenizer("né", add_special_tokens=False)["input_ids"][:-1]
    assert streamed(tokenizer, ids) == ["n", "", "\ufffd"]


def test_bytes_that_turn_out_to_be_no_characters_were_not_given_out():
    # E9 alone is no character, and behind it ByteFallback takes the whole run for none.
    tokenizer = TOKENIZERS["sentencepiece"]
    ids = [tokenizer.convert_tokens_to_ids(token) for token in ("a", "<0xC3>", "<0xA9>", "<0xE9>")]
    assert "".join(streamed(tokenizer, ids)) == decoded(tokenizer, ids) == "a\ufffd\ufffd\ufffd"
    assert streamed(tokenizer, ids)[:4] == ["a", "", "", ""]


def cut_whole(text, stops):
    """The text before the string that is complete first, by looking at every place."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
    st.lists(st.integers(0, 30), max_size=8),
)
@settings(derandomize=True)
def test_a_text_is_cut_at_the_same_place_whatever_its_pieces(text, stops, cuts):
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    search, shown, is_met = StopSearch(stops), "", False
    for start, end in pairwise(bounds):
        part, is_met = search.add(text[start:end])
        shown += part
        assert cut_whole(text, stops)[0].startswith(shown)
        if is_met:
            break
    assert (shown if is_met else shown + search.finish(), is_met) == cut_whole(text, stops)


def answer(engine, model="base", text="abc", sampling=None, stops=(), with_tokens=False):
    served = MODELS[model]
    [row] = encoded(served.collator, prompts_of(text, served.collator.reading))
    parts = pieces(engine, served, row, sampling or Sampling(max_tokens=50), stops, with_tokens=with_tokens)
    return asyncio.run(whole(parts))


def test_an_answer_ends_where_its_tokens_do():
    assert (answer(FakeEngine(text="hello")).text, answer(FakeEngine(text="hello")).finish) == ("hello", "stop")
    short = answer(FakeEngine(text="hello"), sampling=Sampling(max_tokens=3))
    assert (short.text, short.finish, short.count) == ("hel", "length", 3)


@pytest.mark.parametrize("stops", [("lo w",), ("o world", "lo"), ("l",), ("zzz",), ("hello world",), ("d",)])
def test_an_answer_ends_before_a_stop_string_and_frees_the_engine(stops):
    engine = FakeEngine(text="hello world")
    result = answer(engine, stops=stops)
    text, is_met = cut_whole("hello world", stops)
    assert (result.text, result.finish) == (text, "stop")
    assert engine.running == 0
    assert result.count == (
        min("hello world".find(stop) + len(stop) for stop in stops if stop in "hello world") if is_met else 11
    )


@given(
    text=st.text("aé\n ", min_size=1, max_size=12),
    stops=st.lists(st.text("aé\n ", min_size=1, max_size=3), max_size=2),
    logprobs=st.integers(0, 3),
)
@settings(derandomize=True)
def test_each_token_is_told_once_and_where_it_begins(text, stops, logprobs):
    result = answer(
        FakeEngine(text=text), sampling=Sampling(max_tokens=60, logprobs=logprobs), stops=stops, with_tokens=True
    )
    offsets = [token.offset for token in result.tokens]
    assert offsets == sorted(offsets)
    content = b"".join(bytes(token.bytes or ()) for token in result.tokens)
    assert content.startswith(result.text.encode())
    if not cut_whole(text, stops)[1]:
        assert content == text.encode() and len(result.tokens) == result.count
    assert all(offset < len(result.text) for offset in offsets) or not cut_whole(text, stops)[1]
    assert all(len(token.top) == logprobs for token in result.tokens)


def test_log_probabilities_in_both_shapes():
    result = answer(FakeEngine(text="né"), sampling=Sampling(max_tokens=9, logprobs=2), with_tokens=True)
    shape = completion_logprobs(result.tokens)
    assert shape["tokens"] == ["n", "bytes:\\xc3", "bytes:\\xa9"]
    assert shape["text_offset"] == [0, 1, 1]
    assert shape["token_logprobs"] == [-0.5, -0.75, -0.5]
    assert shape["top_logprobs"][0] == {"n": -0.5, "m": -1.5}
    chat = chat_logprobs(result.tokens)["content"]
    assert [token["bytes"] for token in chat] == [[110], [0xC3], [0xA9]]
    assert [place["token"] for place in chat[0]["top_logprobs"]] == ["n", "m"]


def test_a_word_keeps_its_blank_where_the_tokenizer_has_it_in_the_word():
    tokenizer = TOKENIZERS["sentencepiece"]
    ids = [tokenizer.convert_tokens_to_ids(token) for token in ("\u2581the", "\u2581film", ".")]
    assert decoded(tokenizer, ids) == "the film."

    class Engine(FakeEngine):
        async def generate(self, served, row, sampling):
            for number in ids:
                yield Token(number, float("-inf"), ((ids[1], float("-inf")),))

    base = MODELS["base"]
    served = type(base)(base.name, type(base.collator)(tokenizer, "causal", base.collator.reading))
    parts = pieces(Engine(), served, None, Sampling(max_tokens=5), (), with_tokens=True)
    tokens = asyncio.run(whole(parts)).tokens
    assert [token.text for token in tokens] == ["the", " film", "."]
    assert tokens[1].top[0].text == " film" and tokens[1].logprob == tokens[1].top[0].logprob == LEAST_LOGPROB


def test_several_answers_come_as_they_are_ready():
    async def run():
        engine = FakeEngine(pause=0.001)
        served = MODELS["base"]
        rows = encoded(served.collator, prompts_of(["abc", "defgh"], served.collator.reading))
        items = [
            item async for item in merged([pieces(engine, served, row, Sampling(max_tokens=9), ()) for row in rows])
        ]
        texts = ["".join(piece.text for number, piece in items if number == answer) for answer in (0, 1)]
        assert texts == ["ABC", "DEFGH"]
        assert len({number for number, _ in items[:4]}) == 2
        assert engine.running == 0

    asyncio.run(run())


async def listed(stream):
    return [item async for item in stream]


def test_where_one_answer_fails_the_others_end():
    async def run(gathers):
        engine = FakeEngine(text="a" * 40, pause=0.001)
        failing = FakeEngine(text="b", fault=Refusal("too many", 429, "busy"))
        served = MODELS["base"]
        [row] = encoded(served.collator, prompts_of("x", served.collator.reading))
        parts = [pieces(e, served, row, Sampling(max_tokens=50), ()) for e in (engine, failing)]
        work = together([whole(part) for part in parts]) if gathers else listed(merged(parts))
        with pytest.raises(Refusal, match="too many"):
            await work
        assert (engine.running, engine.ended) == (0, 1)

    asyncio.run(run(True))
    asyncio.run(run(False))


def test_a_stream_that_is_closed_frees_the_engine():
    async def run():
        engine = FakeEngine(text="a" * 40, pause=0.001)
        served = MODELS["base"]
        rows = encoded(served.collator, prompts_of(["x", "y"], served.collator.reading))
        stream = merged([pieces(engine, served, row, Sampling(max_tokens=50), ()) for row in rows])
        await anext(stream)
        assert engine.running == 2
        await stream.aclose()
        assert (engine.running, engine.ended) == (0, 2)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("model", "values", "inputs"),
    [
        ("mood", "fine", ["mood: fine"]),
        ("mood", ["fine", {"text": "well", "spare": 1}], ["mood: fine", "mood: well"]),
        ("pair", {"first": "a", "second": "b"}, ["a / b"]),
        ("mixture", ["whole input"], ["whole input"]),
        ("base", "  ", ["  "]),
    ],
)
def test_rows_are_read_by_the_fields_of_the_prompt(model, values, inputs):
    examples = examples_of(values, MODELS[model].collator.reading)
    assert [example.inputs for example in examples] == inputs


@pytest.mark.parametrize(
    ("model", "values", "words"),
    [
        ("pair", "one text", "2 fields"),
        ("pair", {"first": "a"}, "second"),
        ("pair", [{"first": "a", "second": "b"}, {"first": "a", "second": 5}], "row 2"),
        ("mood", "  ", "no text"),
        ("mood", {"text": None}, "expected text"),
        ("mood", {"text": {"text": "a"}}, "expected text"),
        ("mixture", {"text": "a"}, "whole input"),
    ],
)
def test_rows_that_are_none_are_refused(model, values, words):
    with pytest.raises(Refusal, match=words) as refused:
        examples_of(values, MODELS[model].collator.reading)
    assert (refused.value.status, refused.value.param) == (400, "input")


@pytest.mark.parametrize(
    ("reading", "inputs", "is_field"),
    [
        (READINGS["mood"], "mood: a", True),
        (READINGS["pair"], "a", False),
        (Reading(form="glue/sst2"), "sst2 sentence: a", True),
        (Reading(form="glue/mnli"), "a", False),
        (Reading(form="a form of next year"), "a", False),
        (Reading(), "a", False),
    ],
)
def test_a_text_is_the_only_field_or_the_whole_input(reading, inputs, is_field):
    assert reads_one_field(reading) is is_field
    [example] = prompts_of("a", reading)
    assert example.inputs.endswith(inputs.removeprefix("sst2 "))


@given(st.lists(st.integers(0, CHUNK_LETTERS), max_size=8), st.integers(0, 200))
@settings(derandomize=True)
def test_rows_are_encoded_in_parts_that_leave_others_their_turn(sizes, short):
    examples = whole_inputs(["a" * size for size in sizes] + ["a"] * short)
    parts = list(chunks_of(examples))
    assert [example for part in parts for example in part] == examples
    assert all(part and len(part) <= CHUNK for part in parts)
    assert all(sum(len(example.inputs) for example in part) <= CHUNK_LETTERS for part in parts)


def test_a_text_that_would_hold_up_all_others_is_refused():
    with pytest.raises(Refusal, match="text 2 has 100,001 characters") as refused:
        list(chunks_of(whole_inputs(["a", "a" * (CHUNK_LETTERS + 1)])))
    assert (refused.value.status, refused.value.code) == (413, "text_too_long")


def chat(*turns, model="talk"):
    messages = [{"role": role, "content": content} for role, content in turns]
    asked = read_request(ChatRequest, {"model": model, "messages": messages})
    return chat_text(asked.messages, MODELS[model].collator.reading, model)


def test_a_conversation_is_one_turn_of_a_user_behind_the_systems_own():
    assert chat(("user", "hello")) == "hello"
    assert (
        chat(("system", "Be kind."), ("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])) == "ab"
    )


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([("system", "Be rude."), ("user", "a")], "Be kind"),
        ([("system", "Be kind.")], "expected one"),
        ([("user", "a"), ("user", "b")], "expected one"),
        ([("user", "a"), ("assistant", "b"), ("user", "c")], "expected one"),
        ([("assistant", "a")], "expected one"),
        ([("tool", "a")], "expected one"),
        ([("user", "a"), ("system", "Be kind.")], "expected one"),
        ([("user", "")], "empty"),
    ],
)
def test_other_conversations_are_refused(turns, words):
    with pytest.raises(Refusal, match=words) as refused:
        chat(*turns)
    assert refused.value.status == 400 and refused.value.param.startswith("messages")


def test_a_prompt_that_was_trained_on_plain_text_says_where_it_answers():
    with pytest.raises(Refusal, match="/v1/completions") as refused:
        chat(("user", "a"), model="mood")
    assert refused.value.code == "no_chat_form"


def sampling(kind=CompletionRequest, model="story", **fields):
    value = {"model": model, "prompt": "a", "messages": [{"role": "user", "content": "a"}], **fields}
    return sampling_of(read_request(kind, value), MODELS[model], 40)


def test_without_a_word_a_model_answers_as_predict_does():
    assert sampling(seed=3) == Sampling(max_tokens=12, seed=3)
    assert sampling(model="mood").max_tokens == max(map(len, MODELS["mood"].collator.choices))
    assert sampling(model="base").max_tokens == 40
    assert sampling().seed != sampling().seed


def test_what_a_request_says_holds():
    asked = sampling(max_tokens=40, temperature=0.7, top_p=0.5, seed=-1, logprobs=2)
    assert asked == Sampling(max_tokens=40, temperature=0.7, top_p=0.5, seed=2**63 - 1, logprobs=2)
    assert sampling(temperature=1e-300).temperature == LEAST_TEMPERATURE
    assert sampling(ChatRequest, max_completion_tokens=5, max_tokens=9).max_tokens == 5
    assert sampling(ChatRequest, logprobs=True, top_logprobs=3).logprobs == 3
    assert sampling(ChatRequest, top_logprobs=3).logprobs == 0
    with pytest.raises(Refusal, match="at most 40"):
        sampling(max_tokens=41)
    with pytest.raises(Refusal, match="at most 40"):
        sampling(ChatRequest, max_completion_tokens=2**62)


def test_several_answers_to_a_row_have_seeds_of_their_own():
    assert [seed_of(2**63 - 1, choice) for choice in range(3)] == [2**63 - 1, 0, 1]


@pytest.mark.parametrize(("stop", "stops"), [(None, ()), ("a", ("a",)), ([], ()), (["a", "b"], ("a", "b"))])
def test_stops_come_alone_or_in_a_list(stop, stops):
    assert stops_of(stop) == stops
