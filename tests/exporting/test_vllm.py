"""The folder for vLLM: the request as it stands is what vLLM would read as the prompt's rows."""

import base64
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import jinja2
import numpy as np
import pytest
import torch

from spot.collator import Collator
from spot.errors import BackboneError, PromptError
from spot.exporting import export_vllm
from spot.exporting.vllm import EXAMPLE, PLACE
from spot.models.checkpoints import locate
from spot.models.loading import read_tokenizer
from spot.prompts.prompt import reading_of
from spot.reading import Reading
from spot.tasks.task import Example
from tests.support.baked_models import prompts_for, tokenizers
from tests.support.families import FAMILIES

READING = Reading(template="sentence: {text}", labels=(("yes", "y"), ("no", "n")))


def test_the_request_holds_the_prompt_and_the_text_as_it_was_trained_on(tiny_folder, tmp_path: Path):
    folder = tiny_folder("llama")
    [prompt] = prompts_for(folder, {"mood": 5}, READING)
    out = export_vllm(prompt, tmp_path / "out", backbone=str(folder))
    request = json.loads((out / "request.json").read_text())
    [message] = request["messages"]
    template = jinja2.Environment().from_string((out / "chat_template.jinja").read_text())
    # vLLM puts a token in the place of the vectors before the template sees them.
    vectors, *texts = message["content"]
    written = template.render(messages=[{"role": "user", "content": [{"text": PLACE}, *texts]}])
    assert vectors["type"] == "prompt_embeds" and written.startswith(PLACE)
    tokenizer = read_tokenizer(locate(str(folder)))
    collator = Collator(tokenizer, "causal", reading_of(prompt))
    [row] = collator.encode([Example("1", f"sentence: {EXAMPLE}", ())])
    assert tuple(tokenizer(written.removeprefix(PLACE), add_special_tokens=False)["input_ids"]) == row.input_ids
    for content in (base64.b64decode(vectors["data"]), (out / "prompt.pt").read_bytes()):
        tensor = torch.load(io.BytesIO(content), weights_only=True)
        assert tensor.dtype == torch.float32 and tensor.layout == torch.strided
        assert np.array_equal(tensor.numpy(), prompt.value)
    assert (out / "prompt.b64").read_text() == vectors["data"]
    assert not [name for name in request if "penalty" in name]


def test_the_labels_of_the_request_are_those_of_the_prompt(tiny_folder, tmp_path: Path):
    folder = tiny_folder("llama")
    [prompt] = prompts_for(
        folder, {"mood": 5}, Reading(template="{text}", separator="", labels=(("1", "y"), ("0", "n")))
    )
    out = export_vllm(prompt, tmp_path / "out", backbone=str(folder))
    request = json.loads((out / "request.json").read_text())
    tokenizer = read_tokenizer(locate(str(folder)))
    expected = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in "yn"]
    assert request["logprob_token_ids"] == sorted(expected) and request["max_tokens"] == 1
    card = (out / "README.md").read_text()
    assert f"`token_id:{expected[0]}` is y" in card and f"`token_id:{expected[1]}` is n" in card


def test_the_script_starts_the_model_that_is_here(tiny_folder, tmp_path: Path):
    folder = tmp_path / "a model's"
    shutil.copytree(tiny_folder("llama"), folder)
    [prompt] = prompts_for(folder, {"mood": 5}, READING)
    out = export_vllm(prompt, tmp_path / "out", backbone=str(folder))
    script = out / "serve.sh"
    assert os.access(script, os.X_OK)
    fake = tmp_path / "bin" / "vllm"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    path = {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    ended = subprocess.run([script, "--dtype", "float32"], env=path, capture_output=True, text=True, check=True)
    lines = ended.stdout.splitlines()
    assert lines[:3] == [str(out), "serve", str(folder)] and lines[-2:] == ["--dtype", "float32"]
    for option in ("--enable-prompt-embeds", "--generation-config", "chat_template.jinja"):
        assert option in lines


def test_a_model_that_vllm_cannot_take_prompts_of_is_refused(tiny_folder, tmp_path: Path):
    [prompt] = prompts_for(tiny_folder("t5"), {"mood": 5}, READING)
    with pytest.raises(PromptError, match="causal models alone"):
        export_vllm(prompt, tmp_path / "out", backbone=str(tiny_folder("t5")))
    FAMILIES["gemma4_text"].save(tmp_path / "gemma4")
    [prompt] = prompts_for(tmp_path / "gemma4", {"mood": 5}, READING)
    with pytest.raises(BackboneError, match="a second time"):
        export_vllm(prompt, tmp_path / "out", backbone=str(tmp_path / "gemma4"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "is_exact"), [("bytes", True), ("mark always", True), ("mark first", False)])
def test_a_tokenizer_that_reads_a_text_otherwise_behind_a_prompt_is_refused(
    kind, is_exact, tiny_folder, tmp_path: Path
):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("llama"), folder, ignore=shutil.ignore_patterns("tokenizer*"))
    tokenizers()[kind].save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}))
    [prompt] = prompts_for(folder, {"mood": 5}, Reading(template="{text}", cue="", labels=(("1", "y"), ("0", "n"))))
    if is_exact:
        export_vllm(prompt, tmp_path / "out", backbone=str(folder))
    else:
        with pytest.raises(BackboneError, match="vLLM would read"):
            export_vllm(prompt, tmp_path / "out", backbone=str(folder))
