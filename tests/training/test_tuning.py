"""The loop on tiny models: learning, exact resumption, gangs, diagnosis."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spot.config import TuneConfig
from spot.errors import ConfigError, PromptError, RunError, TaskError
from spot.models.backbone import Backbone
from spot.prompts.overlap import contains
from spot.prompts.prompt import load, save
from spot.storage.run_dir import RunDir
from spot.tasks.splits import LazyRows, Splits
from spot.tasks.task import Example, Task
from spot.training import state
from spot.training.result import read_results
from spot.training.tuning import prepare, tune
from tests.support.kills import run_killed

LABELS = ("no", "yes")


def example(number: int) -> Example:
    label = LABELS[number % 2]
    text = f"row {number:03d} of the table is {'bad' if label == 'no' else 'fine'}"
    return Example(str(number), f"sentence: {text}", (label,), texts=(text,))


TASK = Task("toy", lambda split: iter(()), ("train",), LABELS, ("accuracy",))
ROWS = Splits(*(tuple(example(n) for n in range(*part)) for part in ((0, 32), (100, 116), (200, 216))))


def config(folder: Path, **settings) -> TuneConfig:
    base = {
        "task": "toy",
        "backbone": str(folder),
        "steps": 6,
        "length": 3,
        "batch_size": 4,
        "learning_rate": 0.05,
        "eval_every": 2,
        "key_step": 2,
        "checkpoint_every": 2,
    }
    return TuneConfig(**{**base, **settings})


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def run(backbone, tiny_folder, **settings) -> state.Run:
    return prepare(config(tiny_folder("llama"), **settings), TASK, backbone, ROWS)


def test_a_prompt_carries_value_key_start_sketch_and_scores(backbone, tiny_folder, tmp_path):
    prepared = run(backbone, tiny_folder)
    prompt = tune([prepared], backbone, tmp_path / "run")[0]
    assert prompt.value.shape == prompt.key.shape == prompt.start.shape == (3, 32)
    assert np.array_equal(prompt.start, prepared.start.numpy())
    assert not np.array_equal(prompt.key, prompt.start)
    assert prompt.key_recipe.step == 2 and prompt.key_recipe.learning_rate == 0.05
    assert contains(prompt.sketch, ROWS.train[3].texts[0]) and not contains(prompt.sketch, ROWS.report[3].texts[0])
    assert set(prompt.scores) == set(prompt.frozen_scores) == {"accuracy"}
    assert prompt.reading.words == ("no", "yes") and prompt.reading.cue == "\\nAnswer:"
    assert "/" not in prompt.config["backbone"]
    result = read_results(RunDir(tmp_path / "run"))[0]
    assert [point.step for point in result.curve] == [0, 2, 4, 6]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(backbone, tiny_folder, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tune([run(backbone, tiny_folder, seed=seed)], backbone, tmp_path / name)
    files = [(tmp_path / name / "prompt.safetensors").read_bytes() for name in "abc"]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
def test_a_run_stopped_after_any_step_ends_with_the_same_bytes(backbone, tiny_folder, tmp_path, optimiser):
    prepared = run(backbone, tiny_folder, optimiser=optimiser)
    whole = tune([prepared], backbone, tmp_path / "whole")[0]

    class Stopped(BaseException):
        pass

    for stop in (1, 3, 5):

        def stopping(step: int, _: int, stop: int = stop) -> None:
            if step == stop:
                raise Stopped

        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(Stopped):
            tune([prepared], backbone, folder, stopping)
        assert tune([prepared], backbone, folder)[0].digest == whole.digest
        steps = [record["step"] for record in RunDir(folder).read_log()]
        assert steps == [0, 2, 4, 6]


def test_a_finished_run_is_only_read(backbone, tiny_folder, tmp_path):
    prepared = run(backbone, tiny_folder)
    first = tune([prepared], backbone, tmp_path / "run")[0]
    calls = []
    assert tune([prepared], backbone, tmp_path / "run", lambda *step: calls.append(step))[0].digest == first.digest
    assert calls == []


def test_a_folder_of_another_run_is_refused(backbone, tiny_folder, tmp_path):
    tune([run(backbone, tiny_folder, steps=2)], backbone, tmp_path / "run")
    with pytest.raises(RunError, match="another configuration"):
        tune([run(backbone, tiny_folder, steps=4)], backbone, tmp_path / "run")


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
def test_a_gangs_run_equals_the_run_alone(backbone, tiny_folder, tmp_path, optimiser):
    settings = [{"seed": 0}, {"seed": 1, "learning_rate": 0.02}, {"seed": 2, "init": "classes"}]
    runs = [run(backbone, tiny_folder, optimiser=optimiser, **part) for part in settings]
    together = tune(runs, backbone, tmp_path / "gang")
    for number, one in enumerate(runs):
        alone = tune([one], backbone, tmp_path / str(number))[0]
        np.testing.assert_allclose(together[number].key, alone.key, atol=2e-5)
        np.testing.assert_allclose(together[number].value, alone.value, atol=2e-4)
        assert together[number].step == alone.step


def test_runs_of_one_gang_walk_in_step(backbone, tiny_folder, tmp_path):
    runs = [run(backbone, tiny_folder, steps=steps, key_step=None) for steps in (2, 4)]
    with pytest.raises(ConfigError, match=r"runs of one gang have steps = \[2, 4\]"):
        tune(runs, backbone, tmp_path / "gang")


def test_a_source_prompt_is_the_start_and_the_parent(backbone, tiny_folder, tmp_path):
    source = tune([run(backbone, tiny_folder)], backbone, tmp_path / "source")[0]
    save(source, tmp_path / "source.safetensors")
    by_path = run(backbone, tiny_folder, init=str(tmp_path / "source.safetensors"))
    assert np.array_equal(by_path.start.numpy(), source.value)
    child = tune([by_path], backbone, tmp_path / "child")[0]
    assert [(parent.digest, parent.weight) for parent in child.parents] == [(source.digest, 1.0)]
    assert child.initialiser == "prompt" and str(tmp_path) not in json.dumps(dict(child.config))


def test_a_source_of_another_backbone_is_refused(backbone, tiny_folder, tmp_path):
    source = tune([run(backbone, tiny_folder)], backbone, tmp_path / "source")[0]
    other = Backbone.load(str(tiny_folder("qwen2")))
    with pytest.raises(PromptError, match="tiny-qwen2"):
        prepare(config(tiny_folder("qwen2")), TASK, other, ROWS, source)


def test_a_loss_that_is_no_number_stops_the_run_and_says_what_to_do(backbone, tiny_folder, tmp_path, monkeypatch):
    loss = Backbone.loss
    monkeypatch.setattr(Backbone, "loss", lambda self, *args: loss(self, *args) * float("nan"))
    with pytest.raises(RunError, match=r"the loss of toy at step 1 is nan.*give a lower learning_rate"):
        tune([run(backbone, tiny_folder)], backbone, tmp_path / "run")
    assert read_results(RunDir(tmp_path / "run")) is None


def test_training_that_does_not_move_is_said_in_words(backbone, tiny_folder, tmp_path, caplog):
    tune([run(backbone, tiny_folder, learning_rate=1e-12)], backbone, tmp_path / "run")
    diagnosis = read_results(RunDir(tmp_path / "run"))[0].diagnosis
    assert any("the prompt moved by" in line and "higher learning_rate" in line for line in diagnosis)
    assert "the prompt moved by" in caplog.text


def test_tuning_lowers_the_loss_of_rows_that_it_does_not_train_on(backbone, tiny_folder, tmp_path):
    tune([run(backbone, tiny_folder, steps=40, eval_every=20)], backbone, tmp_path / "run")
    curve = read_results(RunDir(tmp_path / "run"))[0].curve
    assert curve[-1].nats < 0.9 * curve[0].nats


@pytest.mark.parametrize("family", ["t5", "t5v11", "gpt2", "opt", "gemma2"])
def test_every_family_trains(tiny_folder, tmp_path, family):
    model = Backbone.load(str(tiny_folder(family)))
    prompt = tune([prepare(config(tiny_folder(family)), TASK, model, ROWS)], model, tmp_path / "run")[0]
    assert not np.array_equal(prompt.key, prompt.start)


CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.training import test_tuning as t
from spot.models.backbone import Backbone
folder = Path(sys.argv[2])
backbone = Backbone.load(str(folder))
run = t.prepare(t.config(folder, steps=40, checkpoint_every=3), t.TASK, backbone, t.ROWS)
t.tune([run], backbone, Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(tiny_folder, tmp_path):
    folder = tiny_folder("llama")
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parents[2]), str(folder)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    run_killed([*command, str(tmp_path / "killed")], tmp_path / "killed", tmp_path / "whole", times=6)
    expected = (tmp_path / "whole" / "prompt.safetensors").read_bytes()
    assert (tmp_path / "killed" / "prompt.safetensors").read_bytes() == expected
    assert load(tmp_path / "killed" / "prompt.safetensors").step <= 40


def test_gradient_checkpointing_trains_the_same_prompt(tiny_folder, tmp_path):
    folder = tiny_folder("llama")
    prompts = []
    for checkpointing in (False, True):
        model = Backbone.load(str(folder), gradient_checkpointing=checkpointing)
        prepared = prepare(config(folder, gradient_checkpointing=checkpointing), TASK, model, ROWS)
        prompts.append(tune([prepared], model, tmp_path / str(checkpointing))[0])
    assert torch.allclose(torch.tensor(prompts[0].key), torch.tensor(prompts[1].key), atol=1e-5)


def test_a_run_is_named_by_all_that_decides_its_outcome_and_by_nothing_else(backbone, tiny_folder):
    base = run(backbone, tiny_folder)
    task = base.members[0].task
    for other in ({"metrics": ("macro_f1",)}, {"labels": LABELS[::-1]}, {"revision": "2"}):
        member = replace(base.members[0], task=replace(task, **other))
        assert replace(base, members=(member,)).digest != base.digest, other
    assert replace(base, fingerprint="another model").digest != base.digest
    assert run(backbone, tiny_folder, learning_rate=0.01).digest != base.digest
    for same in ({"checkpoint_every": 7}, {"report_rows": 9}, {"gradient_checkpointing": True}):
        assert run(backbone, tiny_folder, **same).digest == base.digest, same


def test_changed_report_rows_are_scored_anew_without_training(backbone, tiny_folder, tmp_path):
    whole = run(backbone, tiny_folder)
    first = tune([whole], backbone, tmp_path / "run")[0]
    member = whole.members[0]
    wrong = tuple(replace(row, answers=(LABELS[row.answers[0] == LABELS[0]],)) for row in member.splits.report)
    changed = replace(whole, members=(replace(member, splits=replace(member.splits, report=wrong)),))
    second = tune([changed], backbone, tmp_path / "run")[0]
    assert second.scores["accuracy"] == pytest.approx(100 - first.scores["accuracy"])
    assert np.array_equal(second.value, first.value)
    assert tune([whole], backbone, tmp_path / "run")[0].digest == first.digest


def test_a_prompt_is_kept_when_its_report_rows_cannot_be_read(backbone, tiny_folder, tmp_path):
    whole = run(backbone, tiny_folder)
    member = whole.members[0]

    def broken() -> tuple:
        raise TaskError("test.csv, row 3: no text")

    later = replace(whole, members=(replace(member, splits=replace(member.splits, report=LazyRows(broken))),))
    with pytest.raises(TaskError, match="row 3"):
        tune([later], backbone, tmp_path / "run")
    kept = load(tmp_path / "run" / "prompt.safetensors")
    finished = tune([whole], backbone, tmp_path / "run", lambda *step: None)[0]
    assert np.array_equal(kept.value, finished.value) and finished.frozen_scores


@pytest.mark.parametrize("setting", [{"dropout": 0.1}, {"batch_tokens": 60}, {"first_step": 9}, {"truncate": "left"}])
def test_a_key_that_no_recipe_describes_has_none(backbone, tiny_folder, tmp_path, setting):
    prompt = tune([run(backbone, tiny_folder, **setting)], backbone, tmp_path / "run")[0]
    assert prompt.key is not None and prompt.key_recipe is None
    assert any("no recipe" in line for line in read_results(RunDir(tmp_path / "run"))[0].diagnosis)


def test_patience_waits_for_the_key_and_ends_what_it_ends(backbone, tiny_folder, tmp_path):
    still = run(backbone, tiny_folder, steps=20, key_step=6, eval_every=1, patience=1, learning_rate=1e-12)
    prompt = tune([still], backbone, tmp_path / "run")[0]
    result = read_results(RunDir(tmp_path / "run"))[0]
    assert prompt.key is not None and 6 <= result.steps < 20
    assert result.tokens == result.curve[-1].tokens
