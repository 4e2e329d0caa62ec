"""T5X Adafactor against its arithmetic written out in numpy; AdamW is torch's own."""

import numpy as np
import pytest
import torch
from transformers.optimization import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from spot.training.optimisers import ParameterGroup, make_optimiser, set_rates, share_at


def t5x_adafactor(prompt, gradients, *, rate, decay, first_step):
    """t5x/adafactor.py on one unfactored parameter, float64."""
    moment = np.zeros_like(prompt)
    for t, gradient in enumerate(gradients, start=first_step):
        beta = 1.0 - (t + 1.0) ** -0.8
        moment = beta * moment + (1.0 - beta) * (gradient**2 + 1e-30)
        update = gradient / np.sqrt(moment)
        update = update / max(1.0, np.sqrt(np.mean(update**2)) / 1.0)
        prompt = (1.0 - decay) * prompt - rate * update
    return prompt


@pytest.mark.parametrize("first_step", [0, 1_100_000])
@pytest.mark.parametrize("decay", [0.0, 1e-5, 0.01])
def test_adafactor_equals_the_arithmetic_for_five_steps(first_step, decay):
    random = np.random.default_rng(0)
    start = random.normal(size=(7, 5))
    # Sizes that differ by ten from step to step: the clip acts on some of them and not on others.
    gradients = [random.normal(size=(7, 5)) * scale for scale in (1.0, 0.1, 10.0, 0.01, 3.0)]
    expected = t5x_adafactor(start, gradients, rate=0.3, decay=decay, first_step=first_step)
    prompt = torch.tensor(start, dtype=torch.float32, requires_grad=True)
    group = ParameterGroup(tensors=[prompt], learning_rate=0.3, weight_decay=decay, first_step=first_step)
    optimiser = make_optimiser("adafactor", [group])
    for gradient in gradients:
        prompt.grad = torch.tensor(gradient, dtype=torch.float32)
        optimiser.step()
    np.testing.assert_allclose(prompt.detach().numpy(), expected, rtol=2e-5, atol=2e-5)


def test_each_prompt_of_a_gang_is_clipped_by_its_own_rms():
    random = np.random.default_rng(1)
    starts = random.normal(size=(2, 4, 3))
    gradients = random.normal(size=(3, 2, 4, 3)) * np.array([1.0, 100.0])[None, :, None, None]
    prompts = [torch.tensor(start, dtype=torch.float32, requires_grad=True) for start in starts]
    groups = [
        ParameterGroup(tensors=[prompt], learning_rate=0.1 * (number + 1), weight_decay=0.0)
        for number, prompt in enumerate(prompts)
    ]
    optimiser = make_optimiser("adafactor", groups)
    for step in gradients:
        for prompt, gradient in zip(prompts, step, strict=True):
            prompt.grad = torch.tensor(gradient, dtype=torch.float32)
        optimiser.step()
    for number, prompt in enumerate(prompts):
        expected = t5x_adafactor(starts[number], gradients[:, number], rate=0.1 * (number + 1), decay=0.0, first_step=0)
        np.testing.assert_allclose(prompt.detach().numpy(), expected, rtol=2e-5, atol=2e-5)


def test_adamw_is_torchs():
    prompt = torch.zeros(2, 2, requires_grad=True)
    group = ParameterGroup(tensors=[prompt], learning_rate=0.5, weight_decay=0.1, first_step=7)
    optimiser = make_optimiser("adamw", [group])
    assert type(optimiser) is torch.optim.AdamW
    assert optimiser.param_groups[0]["lr"] == 0.5 and optimiser.param_groups[0]["weight_decay"] == 0.1


@pytest.mark.parametrize(
    ("decay", "oracle"), [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)]
)
def test_a_rate_that_falls_is_that_of_transformers(decay, oracle):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = oracle(optimiser, num_warmup_steps=0, num_training_steps=9)
    for step in range(1, 10):
        share = share_at(step, warmup_steps=0, decay=decay, decay_steps=9)
        assert share == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        optimiser.step()
        scheduler.step()


@pytest.mark.parametrize("decay", ["none", "linear", "cosine"])
def test_a_rate_rises_to_its_peak_and_the_last_step_still_learns(decay):
    shares = [share_at(step, warmup_steps=4, decay=decay, decay_steps=9) for step in range(1, 11)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    assert shares[8] > 0 and shares[9] == (1.0 if decay == "none" else pytest.approx(0.0, abs=1e-12))
    assert share_at(1, warmup_steps=1, decay=decay, decay_steps=1) == 1.0


def test_each_run_of_a_gang_has_a_rate_of_its_own_and_without_a_schedule_exactly_its_own():
    tensors = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    groups = [
        ParameterGroup(tensors=[tensors[0]], learning_rate=0.3, weight_decay=0.0),
        ParameterGroup(tensors=[tensors[1]], learning_rate=0.5, weight_decay=0.0, share=lambda step: step / 4),
    ]
    optimiser = make_optimiser("adamw", groups)
    for step in (1, 2):
        set_rates(optimiser, step)
        assert [group["lr"] for group in optimiser.param_groups] == [0.3, 0.5 * step / 4]
