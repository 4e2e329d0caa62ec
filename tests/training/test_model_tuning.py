"""Full model tuning: a plain loop as the judge, resumption, what it leaves alone."""

import os

import pytest
import torch

from spot.errors import ConfigError, RunError, TaskError
from spot.models.backbone import Backbone
from spot.storage.run_dir import RunDir
from spot.training.model_tuning import MODEL, tune_model_run
from spot.training.result import read_results
from spot.training.run import Member, prepare_run
from spot.training.sampling import sample_batches
from spot.training.tuning import tune_runs
from tests.support.toy_runs import SPLITS, TASK, Stopped, stopping_at, toy_config, toy_run, unreadable_report


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def fingerprint(model: torch.nn.Module) -> str:
    return str([float(part.double().sum()) for part in model.parameters()])


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_model_tuning_equals_a_plain_loop_and_leaves_the_backbone_alone(tiny_folder, tmp_path, family):
    backbone = Backbone.load(str(tiny_folder(family)))
    before = fingerprint(backbone.model)
    run = toy_run(backbone, method="model", learning_rate=0.001, steps=4, eval_every=4)
    tuned = tune_model_run(run, backbone, tmp_path / "run")
    assert fingerprint(backbone.model) == before
    assert not any(part.requires_grad for part in backbone.model.parameters())

    oracle = Backbone.load(str(tiny_folder(family)))
    oracle.model.requires_grad_(True)
    [member] = run.members
    collator = run.collator_of(member, backbone)
    rows = collator.encode(member.splits.train)
    optimiser = torch.optim.AdamW(oracle.model.parameters(), lr=0.001, weight_decay=0.0)
    for numbers in sample_batches([len(row.input_ids) for row in rows], 4, 4, 0):
        optimiser.zero_grad()
        total = 0.0
        for number in numbers:  # row by row, by transformers' own loss
            row = rows[number]
            if family == "t5":
                output = oracle.model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.target_ids]))
            else:
                ids = torch.tensor([row.input_ids + row.target_ids])
                labels = torch.tensor([[-100] * len(row.input_ids) + list(row.target_ids)])
                output = oracle.model(input_ids=ids, labels=labels)
            total = total + output.loss * len(row.target_ids) / 4
        total.backward()
        optimiser.step()
    assert tuned.result.step in (0, 4)
    loaded = Backbone.load(str(tuned.path))
    wanted = oracle if tuned.result.step else backbone
    for ours, theirs in zip(loaded.model.parameters(), wanted.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), atol=3e-5, rtol=0)
    assert collator.tokenizer("row")["input_ids"] == loaded.tokenizer("row")["input_ids"]


def test_model_tuning_resumes_with_the_same_bytes(backbone, tmp_path):
    run = toy_run(backbone, method="model", learning_rate=0.002)
    whole = tune_model_run(run, backbone, tmp_path / "whole").path

    with pytest.raises(Stopped):
        tune_model_run(run, backbone, tmp_path / "part", stopping_at(5))
    part = tune_model_run(run, backbone, tmp_path / "part").path
    assert (part / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert part.name == MODEL and not list((tmp_path / "part").glob(".model*"))


def test_what_a_killed_run_left_of_a_model_is_swept_up_and_nothing_behind_a_link(backbone, tmp_path):
    run = toy_run(backbone, method="model", learning_rate=0.002, steps=2)
    others = tmp_path / "others"
    (others / "mine").mkdir(parents=True)
    (tmp_path / "run" / ".model.123").mkdir(parents=True)
    (tmp_path / "run" / ".model.123" / "model.safetensors").write_bytes(b"half")
    (tmp_path / "run" / ".model.4.abcd").symlink_to(others)
    tune_model_run(run, backbone, tmp_path / "run")
    assert not list((tmp_path / "run").glob(".model*")) and (others / "mine").is_dir()


def test_a_model_is_not_written_through_a_link(backbone, tmp_path):
    run = toy_run(backbone, method="model", learning_rate=0.002, steps=2)
    (tmp_path / "others").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / MODEL).symlink_to(tmp_path / "others")
    with pytest.raises(RunError, match="is a link: expected the folder of the tuned model"):
        tune_model_run(run, backbone, tmp_path / "run")
    assert list((tmp_path / "others").iterdir()) == []


def test_a_model_needs_a_path_of_letters_which_is_said_before_it_trains(backbone, tmp_path):
    run = toy_run(backbone, method="model", steps=2)
    steps = []
    with pytest.raises(RunError, match="no UTF-8"):
        tune_model_run(run, backbone, tmp_path / os.fsdecode(b"caf\xe9"), lambda *at: steps.append(at))
    assert steps == []


def test_a_model_is_not_tuned_from_a_prompt(backbone, tmp_path):
    prompt = tune_runs([toy_run(backbone)], backbone, tmp_path / "run")[0].prompt
    with pytest.raises(ConfigError, match="method = 'model' trains no prompt"):
        prepare_run(toy_config(method="model"), (Member(TASK, SPLITS),), backbone, prompt)


def test_a_model_is_kept_when_its_report_rows_cannot_be_read(backbone, tmp_path):
    run = toy_run(backbone, method="model", learning_rate=0.002, steps=2)
    with pytest.raises(TaskError, match="row 3"):
        tune_model_run(unreadable_report(run), backbone, tmp_path / "run")
    [left] = read_results(RunDir(tmp_path / "run"))
    assert left.reported == "" and left.scores == left.selection

    steps = []
    tuned = tune_model_run(run, backbone, tmp_path / "run", lambda *at: steps.append(at))
    assert {total for _, total in steps} == {len(SPLITS.report)}, "nothing is trained again"
    assert tuned.result.curve == left.curve and tuned.result.frozen_scores
