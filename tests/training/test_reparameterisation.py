"""Networks over a prompt: their arithmetic, that the first prompt is the start, and that nothing of them is left."""

import numpy as np
import pytest
import torch

from spot.errors import ConfigError
from spot.models.backbone import Backbone
from spot.prompts.prompt import load
from spot.storage.run_dir import RunDir
from spot.training.loop import train
from spot.training.reparameterisation import folded, parameters
from spot.training.tuning import tune_runs
from tests.support.toy_runs import Stopped, stopping_at, toy_config, toy_run

NETWORKS = ("residual", "mlp")
START = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def test_a_residual_is_its_arithmetic_written_out():
    drawn = parameters("residual", START, bottleneck=4, seed=0)
    drawn["up"] = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    prompt, down, up = (drawn[name].double().numpy() for name in ("prompt", "down", "up"))
    centred = prompt - prompt.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt(prompt.var(axis=1, keepdims=True) + 1e-5)
    expected = prompt + np.maximum(normed @ down, 0) @ up
    np.testing.assert_allclose(folded(drawn).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_mlp_is_its_arithmetic_written_out():
    drawn = parameters("mlp", START, bottleneck=4, seed=0)
    drawn["up"] = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    prompt, codes, hidden, up = (drawn[name].double().numpy() for name in ("prompt", "codes", "hidden", "up"))
    np.testing.assert_allclose(folded(drawn).numpy(), prompt + np.maximum(codes @ hidden, 0) @ up, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["none", *NETWORKS])
def test_the_first_prompt_is_the_start_and_seeds_draw_the_network(kind):
    drawn = parameters(kind, START, bottleneck=4, seed=0)
    assert torch.equal(folded(drawn), START) and drawn["prompt"] is not START
    same, other = (parameters(kind, START, bottleneck=4, seed=seed) for seed in (0, 1))
    assert all(torch.equal(drawn[name], same[name]) for name in drawn)
    differing = {name for name in drawn if not torch.equal(drawn[name], other[name])}
    assert differing == {"none": set(), "residual": {"down"}, "mlp": {"codes", "hidden"}}[kind]


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_tensor_of_a_network_learns_and_what_is_kept_is_a_prompt(backbone, tmp_path, kind):
    run = toy_run(backbone, reparameterise=kind, bottleneck=4, key_step=4, network_learning_rate=0.02)
    with RunDir(tmp_path / "bare") as folder:
        folder.create("", run.digest)
        [state] = train([run], backbone, folder)
    begun = parameters(kind, run.start, bottleneck=4, seed=0)
    assert state.trained.keys() == begun.keys()
    assert not any(torch.equal(state.trained[name], begun[name]) for name in begun)
    [tuned] = tune_runs([run], backbone, tmp_path / "run")
    prompt = load(tuned.path)
    np.testing.assert_array_equal(prompt.value, state.best_prompt.detach().numpy())
    np.testing.assert_array_equal(prompt.start, run.start.numpy())
    assert prompt.length == run.config.length and prompt.key is not None
    assert prompt.key_recipe is not None and prompt.key_recipe.reparameterise == kind
    plain = tune_runs([toy_run(backbone)], backbone, tmp_path / "plain")[0]
    assert tuned.result.curve[0].nats == plain.result.curve[0].nats
    assert tuned.result.curve[-1].nats != plain.result.curve[-1].nats


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
def test_a_network_that_cannot_move_is_plain_tuning(backbone, tmp_path, optimiser):
    still = {"network_learning_rate": 1e-30, "optimiser": optimiser}
    plain, residual = (
        tune_runs([toy_run(backbone, reparameterise=kind, **still)], backbone, tmp_path / kind)[0].prompt
        for kind in ("none", "residual")
    )
    np.testing.assert_allclose(residual.value, plain.value, atol=1e-6)


def mixed_gang(backbone: Backbone) -> list:
    """A plain run beside one of each network, one with a rate that rises and falls."""
    settings = {"steps": 8, "checkpoint_every": 3, "key_step": 5}
    return [
        toy_run(backbone, **settings),
        toy_run(backbone, reparameterise="residual", bottleneck=4, warmup_steps=2, decay="linear", **settings),
        toy_run(backbone, reparameterise="mlp", bottleneck=5, init_seed=3, decay="cosine", **settings),
    ]


def test_a_gang_of_plain_and_reparameterised_runs_gives_each_what_it_is_alone(backbone, tmp_path):
    together = tune_runs(mixed_gang(backbone), backbone, tmp_path / "gang")
    for number, run in enumerate(mixed_gang(backbone)):
        alone = tune_runs([run], backbone, tmp_path / str(number))[0].prompt
        np.testing.assert_allclose(together[number].prompt.value, alone.value, atol=2e-4)
        np.testing.assert_allclose(together[number].prompt.key, alone.key, atol=2e-4)


@pytest.mark.parametrize("stop", [2, 3, 4, 7])
def test_a_mixed_gang_that_is_killed_ends_with_the_same_bytes(backbone, tmp_path, stop):
    tune_runs(mixed_gang(backbone), backbone, tmp_path / "whole")
    with pytest.raises(Stopped):
        tune_runs(mixed_gang(backbone), backbone, tmp_path / "part", stopping_at(stop))
    tune_runs(mixed_gang(backbone), backbone, tmp_path / "part")
    for number in range(3):
        name = f"prompt-{number}.safetensors"
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_whole_model_has_no_network():
    with pytest.raises(ValueError, match="which trains no prompt"):
        toy_config(method="model", reparameterise="residual")


def test_a_network_of_another_width_does_not_go_on(backbone, tmp_path):
    """Its run has another digest, so its folder is refused before its tensors are."""
    with pytest.raises(Stopped):
        tune_runs(
            [toy_run(backbone, reparameterise="residual", bottleneck=4)], backbone, tmp_path / "run", stopping_at(3)
        )
    with pytest.raises(Exception, match="another configuration") as caught:
        tune_runs([toy_run(backbone, reparameterise="residual", bottleneck=5)], backbone, tmp_path / "run")
    assert not isinstance(caught.value, ConfigError)
