"""Cards: requests that are JSON, and the words that an answer is read by."""

import json
import re

from huggingface_hub import ModelCard

from spot.exporting.card import Baked, checkpoint_card
from tests.support.prompts import tiny_id, tiny_prompt

SHORT = Baked("mood", "d1", "<|spot:mood|>", (300, 5), "<|spot:mood|>{text}\nAnswer:", {"up": (7,), "down": (9,)})
LONG = Baked("topic", "d2", "<|spot:topic|>", (305, 5), "<|spot:topic|>{text}", {"up": (7, 8), "down": (7, 9)}, 1, 2)
OPEN = Baked("sum", "d3", "<|spot:sum|>", (310, 5), "<|spot:sum|>{text}", {}, 1, 64)


def card(family: str, *baked: Baked) -> str:
    return checkpoint_card(tiny_id(family), [tiny_prompt(family)] * len(baked), baked, 2e-7)


def test_the_requests_of_a_causal_model_are_json_and_name_the_labels():
    text = card("llama", SHORT, LONG, OPEN)
    short, long, free = map(json.loads, re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL))
    assert short["logprob_token_ids"] == [7, 9] and short["max_tokens"] == 1 and short["prompt"] == SHORT.request
    assert "logprob_token_ids" not in long and (long["max_tokens"], long["stop_token_ids"]) == (2, [1])
    assert (free["max_tokens"], free["stop_token_ids"]) == (64, [1])
    assert "`token_id:7` is up" in text and "Labels: up, down." in text and "2.0e-07" in text


def test_an_encoder_model_is_asked_by_a_program():
    [program] = re.findall(r"```python\n(.*?)```", card("t5", LONG), flags=re.DOTALL)
    compile(program, "card", "exec")
    assert "AutoModelForSeq2SeqLM" in program and repr(LONG.request) in program


def test_the_hub_reads_what_the_prompts_reached():
    data = ModelCard(card("llama", SHORT, OPEN)).data
    assert data.library_name == "transformers"
    assert [result.task_type for result in data.eval_results] == ["text-classification", "text-generation"]
