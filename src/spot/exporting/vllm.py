"""Write a prompt as vLLM takes it: the vectors as one part of a chat message, in front of the text.

vLLM reads the text itself, so a request holds the prompt and plain words. A template that writes the parts in their
order, and nothing else, puts the tokens where they stood in training.
"""

import base64
import io
import json
import shlex
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken

from spot.collator import Collator
from spot.errors import BackboneError, PromptError
from spot.exporting.card import MOST_LABELS, vllm_card
from spot.exporting.folders import check_new, whole_folder
from spot.exporting.texts import around_text, begin_text, whole_text
from spot.models.checkpoints import locate
from spot.models.loading import read_tokenizer
from spot.prompts.prompt import SoftPrompt, check_fits, reading_of
from spot.tasks.task import Example

NAME = "spot"  # of the model, as the server is started and asked
PLACE = "<prompt_embeds>"  # the token that vLLM puts where vectors go
EXAMPLE = "a film that is good"
TEXTS = (EXAMPLE, "Yes: 12 of 30 were late, and nobody said why!", " two")
TEMPLATE = (
    "{%- for message in messages -%}{%- for part in message['content'] -%}{{- part['text'] -}}{%- endfor -%}"
    "{%- endfor -%}"
)


def export_vllm(prompt: SoftPrompt, directory: Path | str, *, backbone: str | None = None) -> Path:
    """Write a folder with what vLLM needs to answer with a prompt.

    `prompt.pt` and `prompt.b64` hold the vectors, float32 [P, D]; `serve.sh` starts the server with the chat template
    beside it; `request.json` is a request, which `README.md` explains.

    Args:
        prompt: of a causal model.
        directory: a folder that is new or empty.
        backbone: the frozen model, as the user names it; left out: as the prompt names it.

    Raises:
        PromptError: the prompt belongs to another model, or one with an encoder, for which vLLM takes no prompts.
        BackboneError: the model cannot be had, or vLLM reads a text behind a prompt otherwise than it was trained on.
        StorageError: the folder holds something, or cannot be written.
    """
    directory = Path(directory)
    check_new(directory)
    checkpoint = locate(prompt.backbone if backbone is None else backbone)
    check_fits(prompt, checkpoint.id)
    if checkpoint.id.kind != "causal":
        raise PromptError(
            f"the prompt of task {prompt.task!r} belongs to a {checkpoint.id.kind} model, and vLLM takes prompts of "
            "causal models alone. Export it --to checkpoint, which transformers loads, or serve it with spot."
        )
    check_vectors_alone(checkpoint.architectures[0].config, checkpoint.id.name)
    tokenizer = read_tokenizer(checkpoint)
    collator = Collator(tokenizer, checkpoint.id.kind, reading_of(prompt))
    _check_reads_alike(read_tokenizer(checkpoint), collator)
    source = str(Path(checkpoint.source).resolve()) if Path(checkpoint.source).is_dir() else checkpoint.source
    vectors = saved_tensor(torch.tensor(prompt.value))
    encoded = base64.b64encode(vectors)
    request = _request(collator, encoded.decode())
    serve = (
        "vllm serve",
        shlex.quote(source),
        f"--served-model-name {NAME} --enable-prompt-embeds --generation-config vllm",
        "--chat-template chat_template.jinja --chat-template-content-format openai --host 127.0.0.1 --port 8000",
    )
    with whole_folder(directory) as folder:
        (folder / "prompt.pt").write_bytes(vectors)
        (folder / "prompt.b64").write_bytes(encoded)
        (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
        (folder / "request.json").write_text(f"{json.dumps(request, ensure_ascii=False)}\n", encoding="utf-8")
        script = folder / "serve.sh"
        lines = ("#!/bin/sh", "# More options of vllm serve may follow.", 'cd "$(dirname "$0")" || exit 1')
        script.write_text("\n".join((*lines, f'exec {" ".join(serve)} "$@"', "")), encoding="utf-8")
        script.chmod(0o755)
        card = vllm_card(prompt, begin_text(collator) + whole_text(collator), _words(collator), request)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return directory


def saved_tensor(vectors: torch.Tensor) -> bytes:
    """Vectors [L, D] of any precision as vLLM reads them: what `torch.save` writes of one dense tensor."""
    file = io.BytesIO()
    torch.save(vectors.detach().contiguous().clone(), file)  # of a part of a tensor it would write the whole
    return file.getvalue()


def check_vectors_alone(config: Any, name: str) -> None:
    """Refuse a model to which vectors do not say all that token ids do.

    Raises:
        BackboneError: saying so.
    """
    text = config.get_text_config(decoder=True)
    if getattr(text, "hidden_size_per_layer_input", None) or getattr(text, "ple_layer_ids", None):
        raise BackboneError(
            f"the backbone {name!r} looks token ids up a second time beside their vectors, and vLLM takes either; "
            "expected a model without that. Export the prompt --to checkpoint, or serve it with spot."
        )


def _check_reads_alike(tokenizer: Any, collator: Collator) -> None:
    """Refuse a tokenizer that reads a text otherwise behind the place of a prompt, as vLLM does it.

    Raises:
        BackboneError: with what it makes of a text.
    """
    tokenizer.add_tokens([AddedToken(PLACE, special=True)], special_tokens=True)
    before, behind = around_text(collator)
    rows = collator.encode([Example(str(number), text, ()) for number, text in enumerate(TEXTS)])
    for text, row in zip(TEXTS, rows, strict=True):
        whole = f"{PLACE}{begin_text(collator)}{before}{text}{behind}"
        given = tuple(tokenizer(whole, add_special_tokens=False)["input_ids"])[1:]
        if given != row.input_ids:
            raise BackboneError(
                f"vLLM would read {text!r} behind this prompt as the tokens {given[:6]}..., and the prompt was trained "
                f"on {row.input_ids[:6]}...; expected the same. Export it --to checkpoint, or run spot serve --engine "
                "vllm, which sends vectors of the tokens that it was trained on."
            )


def _words(collator: Collator) -> dict[str, tuple[int, ...]]:
    """Label word -> ids of its tokens; empty for open answers."""
    return dict(zip(collator.labels, collator.choices, strict=True)) if collator.labels else {}


def _request(collator: Collator, encoded: str) -> dict[str, Any]:
    """A request that can be sent as it stands; what it does not name is neutral on a server of `serve.sh`."""
    reading, words = collator.reading, _words(collator)
    row = reading.render(dict.fromkeys(reading.fields, EXAMPLE)) if reading.template else EXAMPLE
    before, behind = around_text(collator)
    parts = [
        {"type": "prompt_embeds", "data": encoded},
        {"type": "text", "text": f"{begin_text(collator)}{before}{row}{behind}"},
    ]
    request: dict[str, Any] = {
        "model": NAME,
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": max(map(len, words.values()), default=reading.max_target_tokens),
        "temperature": 0,
    }
    if collator.answer_end is not None:
        request["stop_token_ids"] = [collator.answer_end]
    firsts = sorted({ids[0] for ids in words.values()})
    if words and len(firsts) <= MOST_LABELS:
        request |= {"logprobs": True, "logprob_token_ids": firsts, "return_tokens_as_token_ids": True}
    return request
