"""The embedded backbone: what it is, its thirty layers against concatenation by hand, and a wheel that is not there."""

from importlib import metadata
from types import SimpleNamespace

import pytest
import torch

from spot.collator import collator_for
from spot.errors import BackboneError
from spot.models import embedded
from spot.models.backbone import Backbone
from spot.tasks.task import Example, Task

REVIEWS = (
    ("a warm , funny and moving film", "positive"),
    ("a tedious , lifeless mess", "negative"),
    ("one of the best performances of the year", "positive"),
)


@pytest.fixture(scope="module")
def backbone(embedded: Backbone) -> Backbone:
    return embedded


@pytest.mark.slow
def test_the_embedded_model_is_smollm2_and_frozen(backbone):
    assert backbone.parameters == 134_515_008
    assert (backbone.id.name, backbone.id.kind, backbone.id.width, backbone.id.vocabulary) == (
        "embedded",
        "causal",
        576,
        49152,
    )
    assert backbone.shares_prefix
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


@pytest.mark.slow
def test_its_loss_and_gradient_equal_concatenation(backbone):
    task = Task("film", lambda split: iter(()), ("train",), ("negative", "positive"), ("accuracy",))
    collator = collator_for(backbone, task, length=7)
    rows = collator.encode([Example("", f"sentence: {text}", (label,)) for text, label in REVIEWS])
    prompts = backbone.embeddings()[None, 500:507].clone()
    actual_prompts, expected_prompts = prompts.clone().requires_grad_(), prompts.clone().requires_grad_()
    losses = backbone.loss(collator.batch(rows), actual_prompts)
    losses.sum().backward()
    expected = []
    for row in rows:
        ids = torch.tensor([row.input_ids + row.target_ids])
        vectors = torch.cat([expected_prompts, backbone.embed(ids)], dim=1)
        logits = backbone.model(inputs_embeds=vectors, use_cache=False).logits[0]
        first = 7 + len(row.input_ids) - 1
        target = torch.tensor(row.target_ids)
        expected.append(torch.nn.functional.cross_entropy(logits[first : first + len(target)], target, reduction="sum"))
    torch.stack(expected).sum().backward()
    torch.testing.assert_close(losses, torch.stack(expected), rtol=1e-5, atol=1e-5)
    error = (actual_prompts.grad - expected_prompts.grad).norm() / expected_prompts.grad.norm()
    assert float(error) < 1e-4  # thirty layers of float32


def test_a_wheel_that_is_not_installed_is_named_with_its_line(monkeypatch):
    def absent(name: str):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(BackboneError, match=f"needs the wheel .*, which is not installed; run: {embedded.INSTALL}"):
        embedded.gguf_file()


def test_a_wheel_without_its_file_is_named_with_the_line_that_mends_it(monkeypatch):
    monkeypatch.setattr(metadata, "distribution", lambda name: SimpleNamespace(files=None))
    with pytest.raises(BackboneError, match=f"holds no file {embedded.GGUF}; run: .* --force-reinstall"):
        embedded.gguf_file()
