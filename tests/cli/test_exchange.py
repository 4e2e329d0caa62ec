"""`spot export` and `spot import`: every bit is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
from peft import AutoPeftModelForCausalLM

from spot.models.checkpoints import locate
from spot.prompts.prompt import load
from tests.support.commands import Spot, refused
from tests.support.tuned_tasks import TunedTasks


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks by the old name
def test_an_export_names_the_folder_that_peft_finds_the_model_in(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    folder = tuned_tasks.model[1]
    locate(folder)  # as each command does that loads the model
    for number, options in enumerate(([], ["--backbone", folder])):
        out = tmp_path / str(number)
        spot("export", tuned_tasks.run(), "--to", "peft", "--out", out, *options)
        base = json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"]
        assert base == str(Path(folder).resolve())
        AutoPeftModelForCausalLM.from_pretrained(out)


def test_an_export_for_another_model_is_refused(spot: Spot, tuned_tasks: TunedTasks, tiny_folder, tmp_path: Path):
    words = ("export", tuned_tasks.run(), "--to", "peft", "--out", tmp_path / "peft", "--backbone", tiny_folder("gpt2"))
    refused(spot(*words), "belongs to the backbone tiny-llama", "expected one model")
    assert not (tmp_path / "peft").exists()


def test_export_and_import_keep_every_bit(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    prompt = load(tuned_tasks.run() / "prompt.safetensors")
    peft = spot("export", tuned_tasks.run(), "--to", "peft", "--out", tmp_path / "peft", "--json").json
    assert peft == {"prompt": prompt.digest, "format": "peft", "path": str(tmp_path / "peft")}
    for out in (tmp_path / "folder", tmp_path / "mood.npy"):
        plain = spot("export", tuned_tasks.run(), "--to", "numpy", "--out", out, "--json").json
        assert np.array_equal(np.load(plain["path"]), prompt.value)
    for number, source in enumerate((peft["path"], plain["path"])):
        out = tmp_path / f"{number}.safetensors"
        found = spot("import", source, *tuned_tasks.model, "--task", "mood", "--out", out, "--json").json
        assert (found["path"], found["task"], found["length"]) == (str(out), "mood", 3)
        assert np.array_equal(load(out).value, prompt.value)


def test_prompts_are_baked_into_a_copy_of_their_model(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    out = tmp_path / "baked"
    prompts = [tuned_tasks.run("mood"), tuned_tasks.run("answer")]
    value = spot("export", *prompts, "--to", "checkpoint", "--out", out, *tuned_tasks.model, "--json").json
    assert (value["format"], value["path"]) == ("checkpoint", str(out))
    assert [entry["token"] for entry in value["prompts"]] == ["<|spot:mood|>", "<|spot:answer|>"]
    assert [entry["request"] for entry in value["prompts"]] == [
        f"<|spot:{task}|>sentence: {{text}}\nAnswer:" for task in ("mood", "answer")
    ]
    shown = spot("export", *prompts, "--to", "checkpoint", "--out", tmp_path / "again", *tuned_tasks.model)
    assert shown.code == 0 and "<|spot:answer|>  answer, 3 ids from" in shown.out


def test_a_prompt_is_written_for_vllm(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    out = tmp_path / "vllm"
    value = spot("export", tuned_tasks.run(), "--to", "vllm", "--out", out, *tuned_tasks.model, "--json").json
    assert value["path"] == str(out)
    names = ["README.md", "chat_template.jinja", "prompt.b64", "prompt.pt", "request.json", "serve.sh"]
    assert sorted(path.name for path in out.iterdir()) == names


def test_what_cannot_be_exported_is_refused(spot: Spot, tuned_tasks: TunedTasks, tiny_folder, tmp_path: Path):
    run, other = tuned_tasks.run("mood"), tuned_tasks.run("answer")
    for kind in ("peft", "numpy", "vllm"):
        words = ("export", run, other, "--to", kind, "--out", tmp_path / "out", *tuned_tasks.model)
        refused(spot(*words), "2 prompts are given", "--to checkpoint")
    words = ("export", run, run, "--to", "checkpoint", "--out", tmp_path / "out", *tuned_tasks.model)
    refused(spot(*words), "2 prompts belong to the task 'mood'")
    for kind in ("checkpoint", "vllm"):
        words = ("export", run, "--to", kind, "--out", tmp_path / "out", "--backbone", tiny_folder("gpt2"))
        refused(spot(*words), "belongs to the backbone tiny-llama")
        words = ("export", run, "--to", kind, "--out", tuned_tasks.folder, *tuned_tasks.model)
        refused(spot(*words), "holds other things")
    assert not (tmp_path / "out").exists()
