"""States of prompts for rows: whose they are, that they stay as they were, and that the gradient comes back."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.cache_utils import DynamicSlidingWindowLayer

from spot.models.causal import CausalRows
from spot.models.network import Network
from spot.models.prompt_states import empty_states, states_of_rows
from tests.support import odd_models
from tests.support.batches import prompts_for
from tests.support.tiny_models import tiny_config

CONFIGS = {"llama": lambda: tiny_config("llama"), "convolution": odd_models.convolution, "hybrid": odd_models.hybrid}


def states_of(name: str, prompts: torch.Tensor):
    torch.manual_seed(0)
    return CausalRows(Network(AutoModelForCausalLM.from_config(CONFIGS[name]()))).prefix(prompts).states


def tensors_of(layer) -> list[torch.Tensor]:
    parts = [*vars(layer).values()]
    parts += [inner for part in parts if isinstance(part, dict) for inner in part.values()]
    return [part for part in parts if isinstance(part, torch.Tensor)]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", CONFIGS)
def test_each_row_has_the_states_of_its_prompt_and_the_prompts_keep_theirs(name, count):
    states = states_of(name, prompts_for(count=count))
    before = [[part.clone() for part in tensors_of(layer)] for layer in states.layers]
    index = torch.tensor([count - 1, 0, 0])
    rows = states_of_rows(states, index)
    for layer, of_rows, kept in zip(states.layers, rows.layers, before, strict=True):
        for part, now, then in zip(tensors_of(layer), tensors_of(of_rows), kept, strict=True):
            assert torch.equal(part, then)
            assert torch.equal(now, then[index])
            now.data.mul_(0) if len(then) > 1 else None
        assert all(torch.equal(part, then) for part, then in zip(tensors_of(layer), kept, strict=True))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_gradient_comes_back_to_the_prompts_of_the_rows_alone(name):
    prompts = prompts_for(count=2).requires_grad_()
    rows = states_of_rows(states_of(name, prompts), torch.tensor([1, 1]))
    sum(part.float().sum() for layer in rows.layers for part in tensors_of(layer)).backward()
    assert prompts.grad[1].norm() > 0
    assert prompts.grad[0].norm() == 0


def test_layers_with_a_window_keep_all_positions():
    states = empty_states(tiny_config("gemma2"))
    assert not any(isinstance(layer, DynamicSlidingWindowLayer) for layer in states.layers)
    assert len(states.layers) == 2
