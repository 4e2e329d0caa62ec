"""The checkpoint of a gang: what is saved comes back, and damage is named."""

import json
import math

import pytest
import torch

from spot.errors import RunError
from spot.models.backbone import Backbone
from spot.storage.run_dir import RunDir
from spot.training.optimisers import ParameterGroup, make_optimiser
from spot.training.result import CurvePoint
from spot.training.state import Drawn, State, first_states, restore_states, save_states
from tests.support.toy_runs import toy_gang


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def begun(backbone: Backbone) -> tuple[list[State], torch.optim.Optimizer]:
    states = first_states(toy_gang(backbone), backbone)
    groups = [
        ParameterGroup(tensors=list(state.trained.values()), learning_rate=0.1, weight_decay=0.0) for state in states
    ]
    return states, make_optimiser("adamw", groups)


def noted(state: State) -> dict:
    skipped = ("run", "members", "batches", "trained", "best", "key")
    return {name: value for name, value in vars(state).items() if name not in skipped}


def test_runs_that_share_rows_encode_them_once(backbone):
    states, _ = begun(backbone)
    assert states[0].members[0].train is states[1].members[0].train
    assert [state.run.config.seed for state in states] == [0, 1, 2] and states[0].batches != states[1].batches


def test_a_checkpoint_holds_all_that_the_rest_depends_on(backbone, tmp_path):
    states, optimiser = begun(backbone)
    states[0].prompt.sum().backward()
    optimiser.step()
    states[0].key = states[0].prompt.detach().clone()
    states[0].curve = [CurvePoint(0, 50.0, None), CurvePoint(2, 62.5, 0.7, 120, 1.5)]
    states[0].best_scores, states[0].best_step, states[0].drawn = {"accuracy": 62.5}, 2, [Drawn(8, 4.5)]
    states[0].best_rank = (62.5, -math.inf)
    states[1].diverged, states[2].dropped = "the loss is nan", True
    with RunDir(tmp_path) as folder:
        folder.create("", "0123")
        save_states(folder, states, optimiser, 2)
        others, fresh = begun(backbone)
        assert restore_states(folder, others, fresh) == 2
    for state, other in zip(states, others, strict=True):
        assert noted(other) == noted(state) and torch.equal(other.prompt, state.prompt)
        assert torch.equal(other.best["prompt"], state.best["prompt"])
    assert torch.equal(others[0].key, states[0].key) and others[1].key is None
    moments = fresh.state[others[0].trained["prompt"]]
    assert torch.equal(moments["exp_avg"], optimiser.state[states[0].trained["prompt"]]["exp_avg"])
    assert others[1].stopped and others[2].stopped and not others[0].stopped


def test_without_a_checkpoint_a_run_begins_with_an_empty_log(backbone, tmp_path):
    states, optimiser = begun(backbone)
    with RunDir(tmp_path) as folder:
        folder.create("", "0123")
        folder.log({"step": 0})
        assert restore_states(folder, states, optimiser) == 0
        assert folder.read_log() == []


def test_a_damaged_checkpoint_is_named(backbone, tmp_path):
    states, optimiser = begun(backbone)
    with RunDir(tmp_path) as folder:
        folder.create("", "0123")
        save_states(folder, states, optimiser, 2)
        data = folder.load_checkpoint()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        notes = json.loads(header["__metadata__"]["runs"])
        header["__metadata__"]["runs"] = json.dumps([{**entry, "tokens": "many"} for entry in notes])
        wrong = json.dumps(header).encode()
        for content, named in (
            (data[:40], r"checkpoint is damaged .*Delete it to let the run begin again"),
            (
                len(wrong).to_bytes(8, "little") + wrong + data[8 + size :],
                r"checkpoint: the field '0.tokens' holds 'many'",
            ),
        ):
            folder.save_checkpoint(content)
            with pytest.raises(RunError, match=named):
                restore_states(folder, states, optimiser)
