"""`spot tune`: what it prints and writes, and where its settings come from."""

from pathlib import Path

from spot import config
from spot.prompts.prompt import load
from tests.support.commands import Spot
from tests.support.tuned_tasks import FAST, TunedTasks


def test_tune(spot: Spot, tuned_tasks: TunedTasks):
    words = ["tune", tuned_tasks.task(), *tuned_tasks.model, *FAST, "--out", tuned_tasks.run()]
    before = (tuned_tasks.run() / "prompt.safetensors").read_bytes()
    found = spot(*words, "--json").json
    assert {"task", "prompt", "scores", "step", "steps", "tokens", "seconds", "diagnosis"} <= set(found)
    assert (found["task"], found["steps"]) == ("mood", 4)
    assert found["prompt"] == str(tuned_tasks.run() / "prompt.safetensors")
    prompt = load(found["prompt"])
    assert (prompt.length, prompt.step, dict(prompt.scores)) == (3, found["step"], found["scores"])
    assert Path(found["prompt"]).read_bytes() == before, "a finished run is only read"
    text = spot(*words).out
    assert f"prompt: {found['prompt']}" in text and f"best step {found['step']} of 4" in text
    assert f"accuracy {found['scores']['accuracy']:.1f}" in text


def test_tune_without_out_goes_to_the_cache(spot: Spot, tuned_tasks: TunedTasks, own_cache: Path):
    found = spot("tune", tuned_tasks.task("answer"), *tuned_tasks.model, "--steps", 0, "--length", 2, "--json").json
    assert Path(found["prompt"]).parent.parent == own_cache / "runs"
    assert any("no step" in line or "same answer" in line for line in found["diagnosis"]) or found["step"] == 0


def test_tune_reads_a_configuration_and_options_win(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    file = tmp_path / "tune.toml"
    file.write_text("steps = 9\nlength = 2\nbatch_size = 4\neval_every = 1\n")
    words = ["tune", tuned_tasks.task(), *tuned_tasks.model, "--config", file, "--set", "steps=8", "--steps", 1]
    assert spot(*words, "--out", tmp_path / "run", "--json").json["steps"] == 1
    stored = load(tmp_path / "run" / "prompt.safetensors").config
    rate = config.TuneConfig(task="x").learning_rate
    assert (stored["steps"], stored["length"], stored["learning_rate"]) == (1, 2, rate)
