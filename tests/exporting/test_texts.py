"""How a row is written in a request: as the collator reads it, all its tokens in their places."""

from dataclasses import replace

import pytest

from spot.collator import Collator
from spot.exporting.texts import around_text, begin_text, whole_text
from spot.reading import Reading
from spot.tasks.task import Example
from tests.support.baked_models import tokenizers

TOKENIZER = tokenizers()["bytes"]
CHAT = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (Reading(), ("<s>", "{text}\nAnswer:")),
        (Reading(template="a {x} b {y}", cue=" c"), ("<s>", "a {x} b {y} c")),
        (Reading(chat=True), ("", "<s><user>{text}<a>")),
    ],
)
def test_the_text_of_a_request_gives_the_tokens_of_the_row(reading: Reading, expected: tuple[str, str]):
    tokenizer = TOKENIZER
    tokenizer.chat_template = CHAT
    collator = Collator(tokenizer, "causal", reading)
    assert (begin_text(collator), whole_text(collator)) == expected
    row = "The film"
    [encoded] = collator.encode([Example("1", row, ())])
    before, behind = around_text(collator)
    whole = f"{begin_text(collator)}{before}{row}{behind}"
    assert tuple(tokenizer(whole, add_special_tokens=False)["input_ids"]) == encoded.input_ids


def test_an_encoder_has_no_cue_by_itself():
    assert whole_text(Collator(TOKENIZER, "seq2seq", replace(Reading(), end="never"))) == "{text}"
