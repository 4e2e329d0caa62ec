"""Where models run: the choice of device and precision, and a GPU against the CPU."""

from pathlib import Path

import pytest
import torch

from spot.errors import BackboneError
from spot.models.backbone import Backbone
from spot.models.device import placement
from spot.training.model_tuning import tune_model_run
from spot.training.tuning import tune_runs
from tests.support.batches import CHOICES, ROWS, batch_of, prompts_for, relative
from tests.support.tiny_models import FAMILIES
from tests.support.toy_runs import toy_run

CLOSE = 1e-4  # relative; both sides compute in float32
on_gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def test_the_variables_choose_where_nothing_else_does(monkeypatch):
    monkeypatch.setenv("SPOT_DEVICE", "cpu")
    monkeypatch.delenv("SPOT_DTYPE", raising=False)
    assert placement() == (torch.device("cpu"), torch.float32)
    monkeypatch.setenv("SPOT_DTYPE", "bfloat16")
    assert placement() == (torch.device("cpu"), torch.bfloat16)
    assert placement("cpu", torch.float32) == (torch.device("cpu"), torch.float32)


def test_a_model_is_loaded_where_the_variables_say(tiny_folder, monkeypatch):
    monkeypatch.setenv("SPOT_DEVICE", "cpu")
    monkeypatch.setenv("SPOT_DTYPE", "bfloat16")
    model = Backbone.load(str(tiny_folder("llama"))).model
    assert (model.device.type, model.dtype) == ("cpu", torch.bfloat16)


@pytest.mark.parametrize("device", ["gpu", "cuda:999", "cpu:x", "meta-physics"])
def test_a_device_that_is_not_there_is_refused_by_its_name(monkeypatch, device):
    monkeypatch.setenv("SPOT_DEVICE", device)
    with pytest.raises(BackboneError, match=rf"'{device}' cannot be used: .*expected auto, cpu, mps, cuda or cuda:1"):
        placement()


def test_an_unknown_precision_is_refused_with_the_near_ones(monkeypatch):
    monkeypatch.setenv("SPOT_DTYPE", "bfloat61")
    with pytest.raises(BackboneError, match="SPOT_DTYPE is 'bfloat61': did you mean 'bfloat16'"):
        placement("cpu")


@pytest.fixture
def pair(tiny_folder):
    """A function from a family to its backbone on the CPU and on the GPU, both in float32."""

    def load(family: str) -> tuple[Backbone, Backbone]:
        folder = str(tiny_folder(family))
        return (Backbone.load(folder, device="cpu"), Backbone.load(folder, device="cuda", dtype=torch.float32))

    return load


def moved(batch):
    return type(batch)(*(getattr(batch, name).to("cuda") for name in batch.__dataclass_fields__))


@on_gpu
@needs_cuda
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_on_a_gpu_equal_those_on_the_cpu(pair, family):
    results = []
    for backbone, batch in zip(pair(family), (batch_of(ROWS), moved(batch_of(ROWS))), strict=True):
        prompts = prompts_for().to(backbone.device).requires_grad_()
        losses = backbone.loss(batch, prompts)
        losses.sum().backward()
        results.append((losses.detach().cpu(), prompts.grad.cpu()))
    for ours, theirs in zip(*results, strict=True):
        assert relative(theirs, ours) < CLOSE


@on_gpu
@needs_cuda
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_and_answers_on_a_gpu_equal_those_on_the_cpu(pair, family):
    cpu, gpu = pair(family)
    prompts, batch = prompts_for(), batch_of(ROWS)
    scores = gpu.score(moved(batch), prompts.cuda(), CHOICES).cpu()
    assert relative(scores, cpu.score(batch, prompts, CHOICES)) < CLOSE
    assert gpu.generate(moved(batch), prompts.cuda(), 6) == cpu.generate(batch, prompts, 6)


@on_gpu
@needs_cuda
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_run_on_a_gpu_repeats_its_bytes_and_is_near_that_on_the_cpu(pair, tmp_path: Path, family):
    cpu, gpu = pair(family)
    models = {"a": gpu, "b": gpu, "cpu": cpu}
    prompts = {
        name: tune_runs([toy_run(model, key_step=2)], model, tmp_path / name)[0].prompt
        for name, model in models.items()
    }
    assert prompts["a"].digest == prompts["b"].digest
    key, expected = (torch.tensor(prompts[name].key) for name in ("a", "cpu"))
    assert relative(key, expected) < 100 * CLOSE  # AdamW divides small gradients by their own size


@on_gpu
@needs_cuda
def test_a_whole_model_trains_on_a_gpu(pair, tmp_path: Path):
    gpu = pair("llama")[1]
    run = toy_run(gpu, method="model", learning_rate=0.001)
    folder = tune_model_run(run, gpu, tmp_path / "run").path
    assert Backbone.load(str(folder)).device.type == "cuda"
