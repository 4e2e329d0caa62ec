"""PEFT folders, in and out: PEFT itself says whether a folder is right."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from spot.errors import PromptError, StorageError
from spot.interchange import export_peft, import_peft
from tests.support.prompts import LENGTH, WIDTH
from tests.support.prompts import tiny_id as backbone
from tests.support.prompts import tiny_prompt as prompt

# PEFT 0.21 asks a model of transformers 5 by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TASK_TYPES = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}


def save_with_peft(model: Any, folder: Path, kind: type = peft.PromptTuningConfig, **settings: Any) -> Any:
    """A folder as PEFT writes it, and the model that it wrote it from."""
    name = settings.pop("adapter_name", "default")
    safe = settings.pop("safe_serialization", True)
    task_type = TASK_TYPES["seq2seq" if model.config.is_encoder_decoder else "causal"]
    with torch.random.fork_rng():
        torch.manual_seed(11)
        made = peft.get_peft_model(
            model, kind(**{"task_type": task_type, "num_virtual_tokens": LENGTH, **settings}), adapter_name=name
        ).eval()
    made.save_pretrained(folder, safe_serialization=safe)
    return made


def logits_of(model: Any, ids: torch.Tensor, vectors: torch.Tensor | None = None) -> torch.Tensor:
    """Of unpadded rows; with `vectors` [P, D] before the embedded text, put there by hand."""
    inputs: dict[str, torch.Tensor] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if vectors is not None:
        before = vectors.expand(len(ids), *vectors.shape)
        inputs = {"inputs_embeds": torch.cat([before, model.get_input_embeddings()(ids)], dim=1)}
        inputs["attention_mask"] = torch.ones(inputs["inputs_embeds"].shape[:2], dtype=torch.long)
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([[0, 9, 17]] * len(ids))
    with torch.no_grad():
        return model(**inputs).logits


def test_equal_prompts_give_equal_folders(tmp_path: Path):
    """The weights too, whose metadata the library's own writer puts into another order each time."""
    folders = [export_peft(prompt("llama"), tmp_path / str(number)) for number in range(12)]
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name
    data = (folders[0] / "adapter_model.safetensors").read_bytes()
    assert int.from_bytes(data[:8], "little") % 8 == 0, "the numbers of a tensor begin at a multiple of 8"


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "opt", "gemma2", "t5", "t5v11"])
def test_peft_computes_the_same_logits_from_an_export(tiny: Callable, tmp_path: Path, family: str):
    ours = prompt(family)
    assert export_peft(ours, tmp_path / "out") == tmp_path / "out"
    ids = torch.randint(3, 250, (3, 8), generator=torch.Generator().manual_seed(1))
    expected = logits_of(tiny(family)[0], ids, torch.tensor(ours.value))
    loaded = peft.PeftModel.from_pretrained(tiny(family)[0], tmp_path / "out").eval()
    assert torch.allclose(logits_of(loaded, ids), expected, atol=1e-5)
    bare = logits_of(tiny(family)[0], ids)
    assert not torch.allclose(bare, expected[:, -bare.shape[1] :], atol=1e-2), "the prompt makes a difference"


@pytest.mark.filterwarnings("ignore:Could not find a config file in tiny:UserWarning")
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_an_export_survives_peft_bit_for_bit(tiny: Callable, tmp_path: Path, family: str):
    ours = prompt(family)
    export_peft(ours, tmp_path / "out")
    peft.PeftModel.from_pretrained(tiny(family)[0], tmp_path / "out").save_pretrained(tmp_path / "again")
    back = import_peft(tmp_path / "again", backbone(family), "mine")
    assert back.value.tobytes() == ours.value.tobytes()
    assert (back.task, back.backbone, back.step, back.initialiser) == (
        "mine",
        backbone(family),
        0,
        "imported from PEFT",
    )
    assert (back.key, back.start, back.sketch, back.parents) == (None, None, None, ())
    assert back.config["imported"] == {"peft_type": "PROMPT_TUNING", "base_model_name_or_path": "tiny"}


def test_the_configuration_has_every_key_that_peft_writes(tiny: Callable, tmp_path: Path):
    export_peft(prompt(), tmp_path / "ours")
    save_with_peft(tiny("llama")[0], tmp_path / "theirs")
    ours, theirs = (json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    differing = {name for name in ours if ours[name] != theirs[name]}
    assert differing == {"base_model_name_or_path", "num_attention_heads", "num_layers", "peft_version"}
    export_peft(prompt("t5"), tmp_path / "t5")
    settings = json.loads((tmp_path / "t5" / "adapter_config.json").read_text())
    assert (settings["task_type"], settings["num_transformer_submodules"]) == ("SEQ_2_SEQ_LM", 1)
    assert settings["base_model_name_or_path"] == "tiny"


def test_an_export_comes_back_with_its_history(tmp_path: Path):
    ours = prompt()
    back = import_peft(export_peft(ours, tmp_path), backbone(name="a local copy"), "renamed")
    expected = replace(
        ours, task="renamed", backbone=backbone(name="a local copy"), key=None, start=None, key_recipe=None
    )
    assert back.digest == expected.digest


def test_an_export_of_another_backbone_is_refused(tmp_path: Path):
    export_peft(prompt(), tmp_path)
    other = replace(backbone(), name="other", fingerprint="another")
    with pytest.raises(PromptError, match=r"adapter_model.safetensors: the prompt .* belongs to .*tiny .* is other \("):
        import_peft(tmp_path, other, "t")


def test_changed_vectors_have_no_history(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    weights = export_peft(prompt(), tmp_path) / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    back = import_peft(tmp_path, backbone(), "t")
    assert (back.step, back.parents, back.scores) == (0, (), {})
    assert "the vectors are no longer those that spot exported" in caplog.text


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"parents": 3}', "[" * 100_000])
def test_a_damaged_history_is_named(tmp_path: Path, text: str):
    export_peft(prompt(), tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    save_file(load_file(weights), weights, metadata={"format": "pt", "spot": text})
    with pytest.raises(PromptError, match=r"safetensors: what spot wrote into the metadata is damaged"):
        import_peft(tmp_path, backbone(), "t")


# --- what a folder may hold already -----------------------------------------------------------------------------------


def test_an_earlier_export_is_replaced(tmp_path: Path):
    export_peft(prompt(), tmp_path)
    (tmp_path / ".adapter_config.json.1.0123abcd.tmp").write_text("a killed writer's")
    other = prompt(value=np.ones((2, WIDTH)), key=None, start=None)
    assert import_peft(export_peft(other, tmp_path), backbone(), "glue/sst2").value.tobytes() == other.value.tobytes()
    (tmp_path / "adapter_config.json").unlink()  # as if the export was cut short
    export_peft(other, tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", "adapter_config.json", "adapter_model.safetensors", "README.md"])
def test_other_things_are_never_overwritten(tmp_path: Path, name: str):
    (tmp_path / name).write_text("mine")
    message = f"{tmp_path} holds other things than an earlier export ({name}); they stay as they are. Name a new or"
    with pytest.raises(StorageError, match=re.escape(message)):
        export_peft(prompt(), tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_an_adapter_of_peft_is_not_overwritten(tiny: Callable, tmp_path: Path):
    save_with_peft(tiny("llama")[0], tmp_path)
    (tmp_path / "README.md").unlink()
    with pytest.raises(StorageError, match=r"\(adapter_config.json, adapter_model.safetensors\); they stay"):
        export_peft(prompt(), tmp_path)


def test_an_export_needs_a_folder(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match=r"cannot export to .*file: Not a directory. Name a new folder"):
        export_peft(prompt(), tmp_path / "file")
    assert export_peft(prompt(), tmp_path / "deep" / "new").is_dir()


# --- what PEFT wrote --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize(("family", "parts"), [("llama", None), ("t5", None), ("t5", 1)])
def test_a_prompt_of_peft_comes_in_bit_for_bit(
    tiny: Callable, tmp_path: Path, family: str, parts: int | None, safe: bool
):
    made = save_with_peft(tiny(family)[0], tmp_path, num_transformer_submodules=parts, safe_serialization=safe)
    assert (tmp_path / f"adapter_model.{'safetensors' if safe else 'bin'}").exists()
    rows = made.get_prompt_embedding_to_save("default")
    assert len(rows) == (2 * LENGTH if family == "t5" and parts is None else LENGTH)
    back = import_peft(tmp_path, backbone(family), "t")
    assert back.value.tobytes() == rows[:LENGTH].numpy().tobytes()
    ids = torch.randint(3, 250, (2, 6), generator=torch.Generator().manual_seed(2))
    ours = logits_of(tiny(family)[0], ids, torch.tensor(back.value))
    assert torch.allclose(logits_of(made, ids), ours, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_p_tuning_comes_in_as_the_prompt_that_it_computes(tiny: Callable, tmp_path: Path, family: str):
    made = save_with_peft(tiny(family)[0], tmp_path, peft.PromptEncoderConfig, encoder_hidden_size=8)
    back = import_peft(tmp_path, backbone(family), "t")
    assert back.value.tobytes() == made.get_prompt_embedding_to_save("default")[:LENGTH].numpy().tobytes()


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_multitask_prompt_tuning_comes_in_task_by_task(tiny: Callable, tmp_path: Path, family: str):
    settings = {"num_tasks": 3, "num_ranks": 2}
    made = save_with_peft(tiny(family)[0], tmp_path, peft.MultitaskPromptTuningConfig, **settings)
    for task in range(3):
        expected = made.get_prompt(batch_size=1, task_ids=torch.tensor([task]))[0, :LENGTH]
        back = import_peft(tmp_path, backbone(family), "t", task_index=task)
        assert np.allclose(back.value, expected.detach().numpy(), atol=1e-7)
    with pytest.raises(PromptError, match="holds the prompts of 3 tasks; name one by its index from 0 to 2"):
        import_peft(tmp_path, backbone(family), "t")
    for index in (-1, 3):
        with pytest.raises(PromptError, match=f"from 0 to 2, found {index}"):
            import_peft(tmp_path, backbone(family), "t", task_index=index)


def test_one_task_needs_no_index(tiny: Callable, tmp_path: Path):
    save_with_peft(tiny("llama")[0], tmp_path, peft.MultitaskPromptTuningConfig, num_tasks=1, num_ranks=2)
    assert import_peft(tmp_path, backbone(), "t").length == LENGTH


def test_an_adapter_that_was_saved_by_name(tiny: Callable, tmp_path: Path):
    made = save_with_peft(tiny("llama")[0], tmp_path, adapter_name="mine")
    assert (tmp_path / "mine" / "adapter_config.json").exists()
    expected = made.get_prompt_embedding_to_save("mine").numpy().tobytes()
    assert import_peft(tmp_path, backbone(), "t").value.tobytes() == expected
    assert import_peft(tmp_path / "mine", backbone(), "t").value.tobytes() == expected
    save_with_peft(tiny("llama")[0], tmp_path, adapter_name="yours")
    with pytest.raises(PromptError, match=r"holds several adapters \(mine, yours\). Name the folder of one of them"):
        import_peft(tmp_path, backbone(), "t")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path: Path, dtype: torch.dtype):
    export_peft(prompt(), tmp_path)
    vectors = torch.tensor(prompt().value).to(dtype)
    save_file({"prompt_embeddings": vectors}, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    back = import_peft(tmp_path, backbone(), "t")
    assert back.value.dtype == np.float32
    assert np.array_equal(back.value, vectors.float().numpy())
