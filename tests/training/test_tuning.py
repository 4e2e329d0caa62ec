"""Prompt tuning on tiny models from start to file: learning, exact resumption, gangs, diagnosis, reports."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spot.errors import ConfigError, PromptError, RunError
from spot.models.backbone import Backbone
from spot.prompts.overlap import contains
from spot.prompts.prompt import load, save
from spot.storage.run_dir import RunDir
from spot.training import tuning
from spot.training.result import read_results
from spot.training.run import Member, Run, prepare_run
from spot.training.tuning import tune_runs
from tests.support.kills import parent_of, run_killed
from tests.support.toy_runs import SPLITS, TASK, Stopped, stopping_at, toy_config, toy_run


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def run(backbone: Backbone, **settings) -> Run:
    return toy_run(backbone, **{"key_step": 2, **settings})


def test_a_prompt_carries_value_key_start_sketch_and_scores(backbone, tmp_path):
    prepared = run(backbone)
    prompt = tune_runs([prepared], backbone, tmp_path / "run")[0].prompt
    assert prompt.value.shape == prompt.key.shape == prompt.start.shape == (3, 32)
    assert np.array_equal(prompt.start, prepared.start.numpy())
    assert not np.array_equal(prompt.key, prompt.start)
    assert prompt.key_recipe.step == 2 and prompt.key_recipe.learning_rate == 0.05
    assert contains(prompt.sketch, SPLITS.train[3].texts[0]) and not contains(prompt.sketch, SPLITS.report[3].texts[0])
    assert set(prompt.scores) == set(prompt.frozen_scores) == {"accuracy"}
    assert prompt.reading.words == ("no", "yes") and prompt.reading.cue == "\nAnswer:"
    assert "/" not in prompt.config["backbone"]
    result = read_results(RunDir(tmp_path / "run"))[0]
    assert [point.step for point in result.curve] == [0, 2, 4, 6]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(backbone, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tune_runs([run(backbone, seed=seed)], backbone, tmp_path / name)
    files = [(tmp_path / name / "prompt.safetensors").read_bytes() for name in "abc"]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
def test_a_run_stopped_after_any_step_ends_with_the_same_bytes(backbone, tmp_path, optimiser):
    prepared = run(backbone, optimiser=optimiser)
    whole = tune_runs([prepared], backbone, tmp_path / "whole")[0].prompt

    for stop in (1, 3, 5):
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(Stopped):
            tune_runs([prepared], backbone, folder, stopping_at(stop))
        assert tune_runs([prepared], backbone, folder)[0].prompt.digest == whole.digest
        steps = [record["step"] for record in RunDir(folder).read_log()]
        assert steps == [0, 2, 4, 6]


def test_a_finished_run_is_only_read(backbone, tmp_path):
    prepared = run(backbone)
    first = tune_runs([prepared], backbone, tmp_path / "run")[0].prompt
    calls = []
    assert (
        tune_runs([prepared], backbone, tmp_path / "run", lambda *step: calls.append(step))[0].prompt.digest
        == first.digest
    )
    assert calls == []


def test_a_folder_of_another_run_is_refused(backbone, tmp_path):
    tune_runs([run(backbone, steps=2)], backbone, tmp_path / "run")
    with pytest.raises(RunError, match="another configuration"):
        tune_runs([run(backbone, steps=4)], backbone, tmp_path / "run")


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
def test_a_gangs_run_equals_the_run_alone(backbone, tmp_path, optimiser):
    settings = [{"seed": 0}, {"seed": 1, "learning_rate": 0.02}, {"seed": 2, "init": "classes"}]
    runs = [run(backbone, optimiser=optimiser, **part) for part in settings]
    together = tune_runs(runs, backbone, tmp_path / "gang")
    for number, one in enumerate(runs):
        alone = tune_runs([one], backbone, tmp_path / str(number))[0].prompt
        np.testing.assert_allclose(together[number].prompt.key, alone.key, atol=2e-5)
        np.testing.assert_allclose(together[number].prompt.value, alone.value, atol=2e-4)
        assert together[number].prompt.step == alone.step


def test_runs_of_one_gang_walk_in_step(backbone, tmp_path):
    runs = [run(backbone, steps=steps, key_step=None) for steps in (2, 4)]
    with pytest.raises(ConfigError, match=r"runs of one gang have steps = \[2, 4\]"):
        tune_runs(runs, backbone, tmp_path / "gang")


def test_a_source_prompt_is_the_start_and_the_parent(backbone, tmp_path):
    source = tune_runs([run(backbone)], backbone, tmp_path / "source")[0].prompt
    save(source, tmp_path / "source.safetensors")
    by_path = run(backbone, init=str(tmp_path / "source.safetensors"))
    assert np.array_equal(by_path.start.numpy(), source.value)
    child = tune_runs([by_path], backbone, tmp_path / "child")[0].prompt
    assert [(parent.digest, parent.weight) for parent in child.parents] == [(source.digest, 1.0)]
    assert child.initialiser == "prompt" and str(tmp_path) not in json.dumps(dict(child.config))


def test_a_source_of_another_backbone_is_refused(backbone, tiny_folder, tmp_path):
    source = tune_runs([run(backbone)], backbone, tmp_path / "source")[0].prompt
    other = Backbone.load(str(tiny_folder("qwen2")))
    with pytest.raises(PromptError, match="tiny-qwen2"):
        prepare_run(toy_config(), (Member(TASK, SPLITS),), other, source)


def test_a_loss_that_is_no_number_stops_the_run_and_says_what_to_do(backbone, tmp_path, monkeypatch):
    loss = Backbone.loss
    monkeypatch.setattr(Backbone, "loss", lambda self, *args: loss(self, *args) * float("nan"))
    with pytest.raises(RunError, match=r"the loss of toy at step 1 is nan.*numbers are not finite in float32"):
        tune_runs([run(backbone)], backbone, tmp_path / "run")
    assert read_results(RunDir(tmp_path / "run")) is None


def test_tuning_lowers_the_loss_of_rows_that_it_does_not_train_on(backbone, tmp_path):
    tune_runs([run(backbone, steps=40, eval_every=20)], backbone, tmp_path / "run")
    curve = read_results(RunDir(tmp_path / "run"))[0].curve
    assert curve[-1].nats < 0.9 * curve[0].nats


@pytest.mark.parametrize("family", ["t5", "t5v11", "gpt2", "opt", "gemma2"])
def test_every_family_trains(tiny_folder, tmp_path, family):
    model = Backbone.load(str(tiny_folder(family)))
    prompt = tune_runs([run(model)], model, tmp_path / "run")[0].prompt
    assert not np.array_equal(prompt.key, prompt.start)


CHILD = """
from pathlib import Path
from tests.support.toy_runs import toy_run
from spot.models.backbone import Backbone
from spot.training.tuning import tune_runs
def work(folder, model):
    backbone = Backbone.load(model)
    tune_runs([toy_run(backbone, steps=40, key_step=2, checkpoint_every=3)], backbone, Path(folder))
"""


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(tiny_folder, tmp_path):
    with parent_of(CHILD, tiny_folder("llama")) as parent:
        run_killed(parent, tmp_path / "killed", tmp_path / "whole", times=6)
    expected = (tmp_path / "whole" / "prompt.safetensors").read_bytes()
    assert (tmp_path / "killed" / "prompt.safetensors").read_bytes() == expected
    assert load(tmp_path / "killed" / "prompt.safetensors").step <= 40


def test_gradient_checkpointing_trains_the_same_prompt(tiny_folder, tmp_path):
    folder = tiny_folder("llama")
    prompts = []
    for checkpointing in (False, True):
        model = Backbone.load(str(folder), gradient_checkpointing=checkpointing)
        prepared = run(model, gradient_checkpointing=checkpointing)
        prompts.append(tune_runs([prepared], model, tmp_path / str(checkpointing))[0].prompt)
    assert torch.allclose(torch.tensor(prompts[0].key), torch.tensor(prompts[1].key), atol=1e-5)


def test_a_prompt_is_written_once_with_the_scores_of_its_report_rows(backbone, tmp_path, monkeypatch):
    written: list[Path] = []
    monkeypatch.setattr(tuning, "save", lambda prompt, path: written.append(path) or save(prompt, path))
    runs = [run(backbone, seed=seed) for seed in (0, 1)]
    tuned = tune_runs(runs, backbone, tmp_path / "gang")
    assert written == [entry.path for entry in tuned] == tuning.prompt_paths(tmp_path / "gang", 2)
    for entry, again in zip(tuned, tune_runs(runs, backbone, tmp_path / "gang"), strict=True):
        assert load(entry.path).digest == entry.prompt.digest == again.prompt.digest and again.result == entry.result
        assert entry.prompt.scores == entry.result.scores and entry.prompt.frozen_scores == entry.result.frozen_scores
    assert len(written) == 2


@pytest.mark.parametrize("setting", [{"dropout": 0.1}, {"batch_tokens": 60}, {"first_step": 9}, {"truncate": "left"}])
def test_a_key_that_no_recipe_describes_has_none(backbone, tmp_path, setting):
    prompt = tune_runs([run(backbone, **setting)], backbone, tmp_path / "run")[0].prompt
    assert prompt.key is not None and prompt.key_recipe is None
    assert any("no recipe" in line for line in read_results(RunDir(tmp_path / "run"))[0].diagnosis)


def test_patience_waits_for_the_key_and_ends_what_it_ends(backbone, tmp_path):
    still = run(backbone, steps=20, key_step=6, eval_every=1, patience=1, learning_rate=1e-12)
    prompt = tune_runs([still], backbone, tmp_path / "run")[0].prompt
    result = read_results(RunDir(tmp_path / "run"))[0]
    assert prompt.key is not None and 6 <= result.steps < 20
    assert result.tokens == result.curve[-1].tokens


def test_a_result_that_is_not_that_of_its_prompt_is_made_again(backbone, tmp_path):
    run = toy_run(backbone)
    [tuned] = tune_runs([run], backbone, tmp_path)
    path = tmp_path / "result.json"
    whole = path.read_bytes()
    content = json.loads(whole)
    content["runs"][0]["scores"] = {"accuracy": 99.5}
    path.write_text(json.dumps(content))
    [again] = tune_runs([run], backbone, tmp_path)
    assert again.result.scores == tuned.result.scores and path.read_bytes() == whole


def test_a_result_of_another_step_than_its_prompts_is_refused(backbone, tmp_path):
    run = toy_run(backbone)
    [tuned] = tune_runs([run], backbone, tmp_path)
    path = tmp_path / "result.json"
    content = json.loads(path.read_text())
    steps = [point["step"] for point in content["runs"][0]["curve"] if point["step"] != tuned.result.step]
    content["runs"][0]["step"] = steps[0]
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"expected one run. Delete result.json"):
        tune_runs([run], backbone, tmp_path)
    path.unlink()
    [again] = tune_runs([run], backbone, tmp_path)
    assert again.result.scores == tuned.result.scores
