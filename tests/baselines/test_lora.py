"""LoRA learns as PEFT's own does: the same loss, the same gradient, in the loop that prompts train in."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from spot.baselines import lora
from spot.baselines.arms import Unsuitable
from spot.baselines.lora import adapted, check_lora, fit_lora, target_modules
from spot.collator import collator_for
from spot.errors import BackboneError, MissingExtra, RunError
from spot.models.backbone import Backbone
from tests.support.toy_terms import REPORT, toy_rows, toy_task, toy_terms


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
@pytest.mark.parametrize(
    ("family", "modules"), [("llama", ("q_proj", "v_proj")), ("gpt2", ("c_attn",)), ("t5", ("q", "v"))]
)
def test_loss_and_gradient_are_those_of_peft(family, modules, tiny_folder: Callable[[str], Path]):
    folder = tiny_folder(family)
    backbone = Backbone.load(str(folder))
    assert target_modules(backbone, ()) == modules
    copy, trained = adapted(backbone, 4, modules, seed=3)
    auto = AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM
    config = LoraConfig(r=4, lora_alpha=8, target_modules=list(modules), fan_in_fan_out=family == "gpt2")
    theirs = get_peft_model(auto.from_pretrained(folder).eval(), config).eval()
    own = {
        name.removeprefix("base_model.model."): part for name, part in theirs.named_parameters() if part.requires_grad
    }
    assert own.keys() == trained.keys()
    with torch.no_grad():
        for number, (name, part) in enumerate(trained.items()):
            part.copy_(torch.randn(part.shape, generator=torch.Generator().manual_seed(number)) / 10)
            own[name].copy_(part)
    collator = collator_for(copy, toy_task())
    rows = collator.encode(REPORT[:3])
    nats = copy.loss(collator.batch(rows), torch.zeros(1, 0, copy.id.width))
    nats.sum().backward()
    expected = []
    for row in rows:
        ids, target = torch.tensor([row.input_ids]), torch.tensor([row.target_ids])
        if family == "t5":
            logits = theirs(input_ids=ids, labels=target).logits
        else:
            logits = theirs(input_ids=torch.cat([ids, target], dim=1)).logits[:, ids.shape[1] - 1 : -1]
        expected.append(-logits.log_softmax(-1).gather(2, target[:, :, None]).sum())
    torch.stack(expected).sum().backward()
    torch.testing.assert_close(nats, torch.stack(expected), rtol=1e-4, atol=1e-4)
    for name, part in trained.items():
        torch.testing.assert_close(part.grad, own[name].grad, rtol=1e-3, atol=1e-5)


def test_nothing_is_added_at_the_start_and_the_backbone_stays_as_it_is(backbone):
    before = {name: part.clone() for name, part in backbone.model.state_dict().items()}
    copy, trained = adapted(backbone, 4, ("q_proj",), seed=0)
    collator = collator_for(backbone, toy_task())
    batch = collator.batch(collator.encode(REPORT[:3]))
    nothing = torch.zeros(1, 0, 32)
    torch.testing.assert_close(copy.loss(batch, nothing), backbone.loss(batch, nothing))
    assert all(torch.equal(part, before[name]) for name, part in backbone.model.state_dict().items())
    assert {name.split(".")[-3] for name in trained} == {"lora_A", "lora_B"}


def test_the_selection_rows_choose_the_step_size_and_what_was_trained_is_read_again(terms, monkeypatch):
    given = terms(lora_rates=(1e-5, 0.02), steps=12, eval_every=6, batch_size=8)
    fitted = fit_lora(given)
    first, learned = fitted.on(REPORT), fitted.learned
    assert (learned.steps, learned.setting["rank"]) == (12, 8)
    assert learned.parameters == 2 * 2 * 8 * 32 + 2 * 8 * (32 + 16)
    monkeypatch.setattr(lora, "train", None)
    again = fit_lora(given)
    assert (again.learned.setting, again.learned.tokens) == (learned.setting, learned.tokens)
    assert again.on(REPORT).predictions == first.predictions
    alone = [fit_lora(terms(lora_rates=(rate,), steps=12, eval_every=6, batch_size=8)) for rate in (1e-5, 0.02)]
    assert learned.selection == max(part.learned.selection for part in alone)
    assert learned.tokens == sum(part.learned.tokens for part in alone)
    path = next(given.out.glob("lora-*/adapter.safetensors"))
    path.write_bytes(b"none")
    for broken in given.out.glob("lora-*/adapter.safetensors"):
        broken.write_bytes(b"none")
    with pytest.raises(RunError, match=r"adapter\.safetensors is damaged .* to train it again"):
        fit_lora(given)


@pytest.mark.slow
def test_it_learns(terms):
    fitted = fit_lora(terms(lora_rates=(0.01,), steps=80, eval_every=20, batch_size=16))
    assert fitted.learned.selection > 90


def test_a_step_size_that_diverges_is_passed_over(terms, monkeypatch):
    fitted = fit_lora(terms(lora_rates=(1e-3,), steps=4))
    assert fitted.learned.setting["learning_rate"] == 1e-3
    loss = Backbone.loss

    def broken(self: Backbone, batch, prompts):
        return loss(self, batch, prompts) * (float("nan") if self.model.training is False else 1)

    monkeypatch.setattr(Backbone, "loss", broken)
    with pytest.raises(Unsuitable, match="lora: the loss of words at step 1 is nan"):
        fit_lora(terms(lora_rates=(2e-3,), steps=4))


def test_a_model_without_the_named_modules_is_refused_with_those_there_are(terms, backbone, monkeypatch):
    with pytest.raises(BackboneError, match=r"lora_modules names 'query'.*\(there are: .*q_proj"):
        check_lora(terms(lora_modules=("query",)))
    monkeypatch.setattr(lora, "PROJECTIONS", ())
    monkeypatch.setattr(backbone.model.config, "model_type", "unheard_of")
    with pytest.raises(BackboneError, match=r"finds no projections .* its linear modules are: .*q_proj.*lora_modules"):
        check_lora(terms())
    assert check_lora(terms(lora_modules=("k_proj",))) is None


def test_peft_that_is_missing_is_said_with_the_command(terms, monkeypatch):
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"needs peft: pip install 'spot-transfer\[baselines\]'"):
        check_lora(terms())


def test_unlabelled_text_is_refused(backbone, tmp_path):
    task = toy_task(labels=(), metrics=("likelihood",), kind="text")
    with pytest.raises(Unsuitable, match="unlabelled text"):
        fit_lora(toy_terms(backbone, tmp_path, task=task, train=toy_rows(4)))
