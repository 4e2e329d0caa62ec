"""PEFT folders that are no soft prompt, do not fit or are damaged: what is said, and that nothing runs."""

import json
import logging
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import save_file

from spot.errors import PromptError
from spot.interchange import export_peft, import_peft
from tests.support.prompts import WIDTH
from tests.support.prompts import tiny_id as backbone
from tests.support.prompts import tiny_prompt as prompt

# PEFT 0.21 asks a model of transformers 5 by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TASK_TYPES = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}


def rewritten(folder: Path, tensors: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
    """An export as another program would have written it, with changes in its configuration."""
    export_peft(prompt(), folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    held = {"prompt_embeddings": torch.tensor(prompt().value)} if tensors is None else tensors
    save_file(held, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def test_another_base_model_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    folder = rewritten(tmp_path, base_model_name_or_path="google/t5-base")
    for name, said in [("t5-base", False), ("/models/t5-base", False), ("google/t5-large", True)]:
        caplog.clear()
        import_peft(folder, backbone(name=name), "t")
        assert bool(caplog.records) is said
    assert "was trained on google/t5-base and is imported for google/t5-large" in caplog.text


REFUSED = {
    "lora": (peft.LoraConfig, "of PEFT type LORA (it changes the weights of the model, and spot leaves them frozen)"),
    "prefix": (peft.PrefixTuningConfig, "of PEFT type PREFIX_TUNING (it sets the keys and values of every layer"),
    "ia3": (peft.IA3Config, "of PEFT type IA3; spot imports PROMPT_TUNING, P_TUNING, MULTITASK_PROMPT_TUNING. Tune a"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_adapters_are_refused_by_name(tiny: Callable, tmp_path: Path, name: str):
    kind, message = REFUSED[name]
    made = peft.get_peft_model(
        tiny("llama")[0], kind(task_type="CAUSAL_LM", **({"num_virtual_tokens": 5} if name == "prefix" else {}))
    )
    made.save_pretrained(tmp_path)
    with pytest.raises(PromptError, match=re.escape(f"{tmp_path}: the adapter is {message}")):
        import_peft(tmp_path, backbone(), "t")


@pytest.mark.parametrize("kind", ["PROMPT_TUNING_LORA", "CPT", None, 3, ["PROMPT_TUNING"], {}])
def test_unknown_kinds_are_refused(tmp_path: Path, kind: Any):
    with pytest.raises(PromptError, match=re.escape(f"{tmp_path}: the adapter is of PEFT type {kind}")):
        import_peft(rewritten(tmp_path, peft_type=kind), backbone(), "t")


@pytest.mark.parametrize("task_type", ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"])
def test_prompts_with_a_classifier_are_refused(tmp_path: Path, task_type: str):
    with pytest.raises(PromptError, match=f"of task type {task_type}: its prompt works only together with a trained"):
        import_peft(rewritten(tmp_path, task_type=task_type), backbone(), "t")


def test_prompts_with_other_weights_are_refused(tmp_path: Path):
    held = {"prompt_embeddings": torch.tensor(prompt().value), "base_model.score.weight": torch.ones(2, 2)}
    message = (
        "also hold base_model.score.weight; expected prompt_embeddings and nothing else. A prompt that was trained"
    )
    with pytest.raises(PromptError, match=message):
        import_peft(rewritten(tmp_path, held), backbone(), "t")
    with pytest.raises(PromptError, match="the weights lack prompt_embeddings; expected prompt_embeddings"):
        import_peft(rewritten(tmp_path / "other", {"vectors": torch.ones(2, 2)}), backbone(), "t")
    with pytest.raises(PromptError, match="the weights lack prefix_task_cols"):
        import_peft(rewritten(tmp_path / "multi", peft_type="MULTITASK_PROMPT_TUNING"), backbone(), "t")


def test_a_model_of_the_other_kind_is_refused(tmp_path: Path):
    message = (
        "the adapter is of task type CAUSAL_LM, for 'tiny', but the backbone big is seq2seq (SEQ_2_SEQ_LM). Choose the "
        "backbone that it was trained on."
    )
    with pytest.raises(PromptError, match=re.escape(message)):
        import_peft(rewritten(tmp_path), backbone("t5", name="big"), "t")
    assert import_peft(rewritten(tmp_path / "any", task_type=None), backbone("llama"), "t")


def test_another_width_is_refused(tmp_path: Path):
    wide = replace(backbone(), width=64)
    with pytest.raises(
        PromptError, match=re.escape(f"{tmp_path}: the prompt of task 't' has value [5, 32]; expected [P,")
    ):
        import_peft(rewritten(tmp_path), wide, "t")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_must_be_finite(tmp_path: Path, bad: float):
    vectors = torch.tensor(prompt().value)
    vectors[1, 1] = bad
    with pytest.raises(PromptError, match="has value with 1 of 160 numbers NaN or infinite"):
        import_peft(rewritten(tmp_path, {"prompt_embeddings": vectors}), backbone(), "t")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_virtual_tokens": 7}, "prompt_embeddings is [5, 32]; expected 7 rows, 1 times the 7 tokens"),
        ({"num_virtual_tokens": None}, "has num_virtual_tokens None; expected a whole number from 1 up"),
        ({"num_virtual_tokens": True}, "has num_virtual_tokens True"),
        ({"num_virtual_tokens": "5"}, "has num_virtual_tokens '5'"),
        ({"num_transformer_submodules": 2}, "has num_transformer_submodules 2; expected a whole number from 1 to 1"),
        ({"num_transformer_submodules": 0}, "has num_transformer_submodules 0"),
    ],
)
def test_numbers_of_tokens_must_agree(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(PromptError, match=re.escape(message)):
        import_peft(rewritten(tmp_path, **changes), backbone(), "t")


@pytest.mark.parametrize("columns", [(), (3,), (1, 5, 3), (1, 4, 2), (0, 5, 2)])
def test_multitask_shapes_must_agree(tmp_path: Path, columns: tuple[int, ...]):
    held = {
        "prompt_embeddings": torch.tensor(prompt().value),
        "prefix_task_cols": torch.ones(columns),
        "prefix_task_rows": torch.ones(columns[0] if columns else 1, 2, WIDTH),
    }
    with pytest.raises(PromptError, match=r"prefix_task_cols is .*expected \[tasks, 5|the prompts of 0 tasks"):
        import_peft(rewritten(tmp_path, held, peft_type="MULTITASK_PROMPT_TUNING"), backbone(), "t")


def test_whole_numbers_are_no_prompt(tmp_path: Path):
    with pytest.raises(PromptError, match="prompt_embeddings is no tensor of floating-point numbers"):
        import_peft(rewritten(tmp_path, {"prompt_embeddings": torch.ones(5, 32, dtype=torch.int64)}), backbone(), "t")


@pytest.mark.parametrize("kind", ["FIFO", "link", "endless"])
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_what_is_no_regular_file_of_the_folder_is_refused(tmp_path: Path, name: str, kind: str):
    path = rewritten(tmp_path / "peft") / name
    whole = path.read_bytes()
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "link":
        (tmp_path / "elsewhere").write_bytes(whole)
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.touch()
        os.truncate(path, 10**12)
    with pytest.raises(PromptError, match=r"is a FIFO|is a link|expected at most|holds no adapter_config.json"):
        import_peft(path.parent, backbone(), "t")


def test_missing_files_are_named(tmp_path: Path):
    with pytest.raises(PromptError, match=r"none does not exist; expected a folder with adapter_config.json"):
        import_peft(tmp_path / "none", backbone(), "t")
    with pytest.raises(PromptError, match=r"holds no adapter_config.json; expected a folder as PEFT saves it"):
        import_peft(tmp_path, backbone(), "t")
    config = rewritten(tmp_path) / "adapter_config.json"
    with pytest.raises(PromptError, match=r"adapter_config.json is a file; expected a folder"):
        import_peft(config, backbone(), "t")
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(PromptError, match=r"holds neither adapter_model.safetensors nor adapter_model.bin"):
        import_peft(tmp_path, backbone(), "t")
    config.write_bytes(b"\xff{")
    with pytest.raises(PromptError, match=r"adapter_config.json: it is not JSON.*Save the adapter again"):
        import_peft(tmp_path, backbone(), "t")


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


WEIGHTS = {"empty": b"", "text": b"hello", "list": pickle.dumps([1, 2]), "number": pickle.dumps(3)}


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("content", WEIGHTS)
def test_damaged_weights_are_named(tmp_path: Path, suffix: str, content: str):
    rewritten(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    (tmp_path / f"adapter_model.{suffix}").write_bytes(WEIGHTS[content])
    with pytest.raises(PromptError, match=rf"adapter_model.{suffix}: the weights are damaged, or hold more than plain"):
        import_peft(tmp_path, backbone(), "t")


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_in_a_pickle_is_run(tmp_path: Path, zipped: bool):
    rewritten(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    trap, path = {"prompt_embeddings": Trap(tmp_path / "sprung")}, tmp_path / "adapter_model.bin"
    torch.save(trap, path) if zipped else path.write_bytes(pickle.dumps(trap, protocol=2))
    with pytest.raises(
        PromptError, match=r"adapter_model.bin: the weights are damaged, or hold more than plain tensors"
    ):
        import_peft(tmp_path, backbone(), "t")
    assert not (tmp_path / "sprung").exists()
