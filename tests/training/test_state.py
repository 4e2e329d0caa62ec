"""The checkpoint of a gang: what is saved comes back, and damage is named."""

import json
import math
import random

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from spot.errors import RunError
from spot.models.backbone import Backbone
from spot.storage.run_dir import RunDir
from spot.training.optimisers import ParameterGroup, make_optimiser
from spot.training.result import CurvePoint
from spot.training.state import Drawn, State, _checksum, first_states, restore_states, save_states
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


DAMAGE = {
    "cut": lambda data: data[: len(data) // 2],
    "cut in its head": lambda data: data[:40],
    "empty": lambda data: b"",
    "garbage": lambda data: bytes(range(256)) * 8,
    "nested": lambda data: (400_000).to_bytes(8, "little") + b"[" * 400_000,
    "longer": lambda data: data + b"\0\0\0\0",
}


@pytest.fixture
def saved(backbone, tmp_path) -> tuple[RunDir, list[State], torch.optim.Optimizer]:
    """A run folder with a checkpoint of step 2, and what wrote it."""
    states, optimiser = begun(backbone)
    states[0].prompt.sum().backward()
    optimiser.step()
    with RunDir(tmp_path) as folder:
        folder.create("", "0123")
        save_states(folder, states, optimiser, 2)
    return folder, states, optimiser


def rewritten(data: bytes, **changes: object) -> bytes:
    """A checkpoint with other metadata; a checksum is made anew, as a forger would."""
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    tensors = load_tensors(data)
    for name, value in changes.items():
        if isinstance(value, torch.Tensor):
            tensors[name] = value
        elif name in tensors:
            del tensors[name]
        else:
            metadata[name] = value
    del metadata["checksum"]
    return save_tensors(tensors, {**metadata, "checksum": _checksum(tensors, metadata)})


def check_refused(saved, content: bytes, named: str) -> None:
    folder, states, optimiser = saved
    with folder:
        folder.save_checkpoint(content)
        with pytest.raises(RunError, match=f"{named}.*Delete it to let the run begin again"):
            restore_states(folder, states, optimiser)
        (folder.path / "checkpoint").unlink()
        assert restore_states(folder, states, optimiser) == 0


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_refused_and_can_be_deleted(saved, kind):
    check_refused(saved, DAMAGE[kind](saved[0].load_checkpoint()), "checkpoint (is damaged|has no checksum)")


def test_every_flipped_bit_of_a_checkpoint_is_refused(saved):
    folder, states, optimiser = saved
    whole = folder.load_checkpoint()
    clock = random.Random(0)
    with folder:
        for place in (*range(0, 400, 7), *(clock.randrange(len(whole)) for _ in range(150))):
            content = bytearray(whole)
            content[place] ^= 1 << clock.randrange(8)
            folder.save_checkpoint(bytes(content))
            with pytest.raises(RunError, match="Delete it to let the run begin again"):
                restore_states(folder, states, optimiser)


def test_a_checkpoint_without_a_checksum_is_refused(saved):
    """Those of earlier versions too: a flipped bit in one would end as another prompt, and nobody would know."""
    data = saved[0].load_checkpoint()
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    del metadata["checksum"]
    check_refused(saved, save_tensors(load_tensors(data), metadata), "has no checksum: an earlier version of spot")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"run": "4567"}, "is of the run '4567'; expected one of 0123"),
        ({"step": "many"}, "the step is 'many'; expected a number"),
        ({"step": "-1"}, "the step is '-1'"),
        ({"runs": "[]"}, "holds 0 runs; expected 3"),
        ({"runs": "[" * 10_000}, "is not JSON"),
        ({"runs": '[{"tokens": "many"}]'}, "the field '0.tokens' holds 'many'"),
        ({"0/trained/prompt": torch.zeros(1, 1)}, r"has \[1, 1\] as trained of prompt; expected"),
        ({"1/best/prompt": None}, "run 1 has nothing as best of prompt"),
        ({"0/key": torch.zeros(2, 2)}, r"has a key \[2, 2\]"),
        ({"0/state/prompt/exp_avg": None}, "another optimiser's"),
        ({"0/state/prompt/exp_avg": torch.zeros(3)}, r"has \[3\] as exp_avg of prompt"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_whatever_its_checksum(saved, changes, named):
    check_refused(saved, rewritten(saved[0].load_checkpoint(), **changes), named)
