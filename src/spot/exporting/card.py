"""Write the README of an exported folder: what it is, and requests that work as they stand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from spot.prompts.card import Measured, metadata
from spot.prompts.prompt import BackboneId, SoftPrompt, reading_of

MOST_LABELS = 128  # that vLLM tells the log-probabilities of at a place


@dataclass(frozen=True)
class Baked:
    """A prompt in a checkpoint.

    Attributes:
        task: of the prompt.
        digest: of the prompt.
        token: what is written in front of a text.
        ids: that the token becomes: the first, and how many.
        request: a text as the model is to read it, with `{text}` or the template's fields where the row stands.
        labels: label word -> ids of its tokens; empty for open answers.
        end: the token id that ends an answer; None where none does.
        most: longest answer in tokens.
        form: the known data set whose form makes the text of a row; empty where the request says all.
    """

    task: str
    digest: str
    token: str
    ids: tuple[int, int]
    request: str
    labels: dict[str, tuple[int, ...]] = field(default_factory=dict)
    end: int | None = None
    most: int = 1
    form: str = ""


def checkpoint_card(backbone: BackboneId, prompts: Sequence[SoftPrompt], baked: Sequence[Baked], likely: float) -> str:
    """The README of a checkpoint with baked prompts.

    Args:
        backbone: whose copy it is.
        prompts: that were baked.
        baked: what came of each.
        likely: the largest probability that all new ids together had where model and copy were compared.
    """
    causal = backbone.kind == "causal"
    table = "\n".join(
        f"- `{entry.token}`: {entry.task}, prompt {prompt.digest}, ids {entry.ids[0]} to {sum(entry.ids) - 1}"
        f"{''.join(f', {name} {percent:.1f}' for name, percent in prompt.scores.items())}"
        for entry, prompt in zip(baked, prompts, strict=True)
    )
    examples = "\n\n".join(map(_served if causal else _encoded, baked))
    measured = [_measured(prompt, is_class=bool(entry.labels)) for prompt, entry in zip(prompts, baked, strict=True)]
    head = metadata(backbone.name, (), measured=measured, library="transformers")
    return f"""{head}

# {backbone.name} with {len(baked)} soft prompt{"s" * (len(baked) != 1)}

A copy of `{backbone.name}` (fingerprint {backbone.fingerprint}). Its weights are those of the model; its vocabulary
has more rows, which are the vectors of soft prompts. The tokenizer reads each written token below as all rows of its
prompt, so a prompt is part of the text, and every server's prefix cache keeps it.

{table}

## How to ask

The written token comes first, then the text as the prompt was trained on it, ending included. Texts without a written
token go to the model alone; this tokenizer puts no begin token in front of them, so write it where the model wants it.

{examples}

## What to know

- The new ids are never the likeliest: their rows in the head are the mean of all others. Where this folder was made,
  all of them together had a probability of {likely:.1e} at most. `generation_config.json` suppresses them besides.
  A server that ties head and table whatever the files say (vLLM 0.32: Gemma 2, Gemma 3n and Cohere; llama.cpp: Gemma)
  can write them: give each a `logit_bias` of -100 there.
- A row's text can name a prompt too: who may send texts may send `<|spot:...|>`.
- To be exact to the last token, send token ids; where the end of a text and what follows it are read as one token, one
  text gives other ids than the prompt was trained on.
- Keep the table of input vectors in 16 bits or more when you quantise: prompts have larger numbers than words.
- llama.cpp: run its `convert_hf_to_gguf.py` on this folder. Its tokenizer does not know the written token: write the
  tokens themselves, `<|spot:NAME:0|><|spot:NAME:1|>...`, all of them. With a quantised type give
  `--token-embedding-type f16`.
"""


def _served(entry: Baked) -> str:
    """A request to a server for a causal model."""
    ids = sorted({choice[0] for choice in entry.labels.values()})
    is_short = bool(entry.labels) and all(len(choice) == 1 for choice in entry.labels.values())
    body: dict[str, Any] = {"model": "MODEL", "prompt": entry.request, "max_tokens": entry.most, "temperature": 0}
    if entry.end is not None:
        body["stop_token_ids"] = [entry.end]
    text = f"### {entry.task}\n\n{_form(entry.form)}"
    if is_short and len(ids) == len(entry.labels) and len(ids) <= MOST_LABELS:
        body |= {"logprobs": len(ids), "logprob_token_ids": ids, "return_tokens_as_token_ids": True}
        names = ", ".join(f"`token_id:{choice[0]}` is {word}" for word, choice in entry.labels.items())
        text += f"vLLM tells the log-probability of every label: {names}.\n\n"
    elif entry.labels:
        text += f"Labels: {', '.join(entry.labels)}.\n\n"
    return f"{text}POST `/v1/completions`\n\n```json\n{json.dumps(body, indent=2, ensure_ascii=False)}\n```"


def _measured(prompt: SoftPrompt, *, is_class: bool) -> Measured:
    """What the head of a card says of a prompt."""
    name = f"{prompt.task} {prompt.digest}"
    return Measured(prompt=name, task=prompt.task, is_class=is_class, scores=prompt.scores)


def _form(form: str) -> str:
    """What a row's text is, where a form makes it."""
    if not form:
        return ""
    return f"`{{text}}` is a row in the form of `{form}`, as `spot tasks show {form}` prints it.\n\n"


def _encoded(entry: Baked) -> str:
    """A program for an encoder-decoder model."""
    labels = f"Labels: {', '.join(entry.labels)}.\n\n" if entry.labels else ""
    return f"""### {entry.task}

{_form(entry.form)}{labels}```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("."), AutoModelForSeq2SeqLM.from_pretrained(".")
text = {entry.request!r}
rows = tokenizer(text, return_tensors="pt")
print(tokenizer.batch_decode(model.generate(**rows, max_new_tokens={entry.most}), skip_special_tokens=True))
```"""


def vllm_card(prompt: SoftPrompt, text: str, words: dict[str, tuple[int, ...]], request: dict[str, Any]) -> str:
    """The README of a folder for vLLM.

    Args:
        prompt: that was written.
        text: of a request, with `{text}` or the template's fields where a row stands.
        words: label word -> ids of its tokens; empty for open answers.
        request: that stands in `request.json`.
    """
    firsts = [ids[0] for ids in words.values()]
    is_short = bool(words) and all(len(ids) == 1 for ids in words.values()) and "logprob_token_ids" in request
    answer = "The answer is the text of the first choice."
    if is_short:
        names = ", ".join(f"`token_id:{token}` is {word}" for word, token in zip(words, firsts, strict=True))
        answer = (
            "The answer's `choices[0].logprobs.content[0].top_logprobs` has the log-probability of each label: "
            f"{names}. The largest is the label."
        )
    elif words:
        answer = (
            f"The labels are {', '.join(words)}; some have several tokens. Greedy text is not always the likeliest "
            "label: `spot serve --engine vllm` ranks them exactly."
        )
    return f"""{metadata(prompt.backbone.name, (), measured=[_measured(prompt, is_class=bool(words))])}

# The prompt of {prompt.task} for vLLM

{prompt.length} vectors of width {prompt.width} for `{prompt.backbone.name}` (fingerprint
{prompt.backbone.fingerprint}); digest {prompt.digest}.

    ./serve.sh                       # another port, dtype, GPU: options of vllm serve behind it
    curl -s http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' -d @request.json

## A request

One message with two parts, in this order: the prompt, which is `prompt.b64`, and the text as the prompt was trained on
it, ending included:

```
{text}
```

{_form(reading_of(prompt).form)}{answer}

`prompt.pt` is the same tensor for `llm.generate({{"prompt_embeds": ...}})` and for `/v1/completions`, where the vectors
of the text's tokens must follow in the same tensor, since `prompt` beside `prompt_embeds` is another request.

## What to know

- Send no `presence_penalty`, `frequency_penalty` or `repetition_penalty` with a prompt: they can end the server.
  `serve.sh` says `--generation-config vllm`, so that the model's own settings bring none in.
- vLLM itself says to take vectors from trusted users only: keep the server where only your own programs reach it.
- The chat template writes the parts in their order and nothing else; do not serve chats of people with it.
"""
