"""Predictions on tiny models: votes, likelihoods, free answers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from spot.collator import Row, collator_for
from spot.errors import BackboneError
from spot.evaluation.predictions import Prediction, no_answer, predict_rows, predict_with_each, vote
from spot.evaluation.scoring import evaluate_rows
from spot.models.backbone import Backbone
from spot.prompts.prompt import BackboneId
from spot.tasks.task import Example, Task
from spot.training.run import Member, prepare_run
from spot.training.tuning import tune_runs
from tests.support.toy_runs import LABELS, OTHER, OTHER_SPLITS, SPLITS, TASK, toy_config


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def test_prompts_that_vote_answer_as_each_alone(backbone):
    collator = collator_for(backbone, OTHER)
    rows = collator.encode(OTHER_SPLITS.train)
    prompts = torch.randn(3, 4, backbone.id.width, generator=torch.Generator().manual_seed(0))
    together = predict_with_each(backbone, prompts, collator, rows)
    for prompt, found in zip(prompts, together, strict=True):
        alone = predict_rows(backbone, prompt, collator, rows)
        for ours, theirs in zip(found, alone, strict=True):
            assert ours.text == theirs.text
            np.testing.assert_allclose(ours.log_probabilities, theirs.log_probabilities, atol=1e-4)


def test_a_vote_goes_to_the_most_and_a_tie_to_the_surest():
    def ballot(*values: float) -> Prediction:
        return Prediction("ab"[int(np.argmax(values))], values)

    sure, unsure = ballot(-0.1, -3.0), ballot(-0.8, -0.6)
    assert vote([[sure], [unsure], [unsure]])[0].text == "b"
    assert vote([[sure], [unsure]])[0].text == "a"
    np.testing.assert_allclose(vote([[sure], [unsure]])[0].log_probabilities, (-0.45, -1.8))
    assert vote([[Prediction("x")], [Prediction("y")], [Prediction("y")]])[0].text == "y"


def test_likelihood_is_the_geometric_mean_of_the_tokens(backbone):
    task = Task("text", lambda split: iter(()), ("train",), (), ("likelihood",))
    examples = [Example(str(n), f"some words {n}", (f"then {n} more words follow",)) for n in range(5)]
    collator = collator_for(backbone, task)
    prompt = torch.randn(2, backbone.id.width, generator=torch.Generator().manual_seed(1))
    found = evaluate_rows(backbone, prompt, task, collator, examples)
    shares = []
    for row in collator.encode(examples):
        vectors = backbone.embeddings()[list(row.input_ids + row.target_ids)]
        logits = backbone.model(inputs_embeds=torch.cat([prompt, vectors])[None]).logits[0].log_softmax(-1)
        places = range(len(row.input_ids) + 1, len(row.input_ids) + 1 + len(row.target_ids))
        logs = [float(logits[place, token]) for place, token in zip(places, row.target_ids, strict=True)]
        shares.append(np.exp(np.mean(logs)))
    assert found.scores["likelihood"] == pytest.approx(100 * np.mean(shares), rel=1e-4)
    assert not found.is_constant and isinstance(collator.encode(examples)[0], Row)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_generated_answers_that_are_no_label_are_wrong_and_counted(tiny_folder, family):
    backbone = Backbone.load(str(tiny_folder(family)))
    collator = collator_for(backbone, TASK)
    prompt = torch.randn(3, backbone.id.width, generator=torch.Generator().manual_seed(0))
    examples = SPLITS.selection
    free = evaluate_rows(backbone, prompt, TASK, collator, examples, decode="generate")
    known = sum(prediction.text in LABELS for prediction in free.predictions)
    assert free.invalid == len(examples) - known
    assert free.scores["accuracy"] <= 100 * known / len(examples)
    assert evaluate_rows(backbone, prompt, TASK, collator, examples).invalid == 0


def test_a_causal_answer_without_an_end_is_the_label_that_it_begins_with(backbone):
    collator = collator_for(backbone, TASK)
    assert [collator.answer_in(text) for text in (" yes\nno", "no", " maybe")] == ["yes", "no", "maybe"]
    ending = collator_for(backbone, Task("ends", TASK.load, ("train",), ("no", "not"), ("accuracy",)))
    assert [ending.answer_in(text) for text in (" not", "notable")] == ["not", "notable"]


# Rows whose numbers are not finite (CASES 10, 36).


@pytest.fixture(scope="module")
def overflowing(tiny) -> Backbone:
    """A model that loads in float16, and whose numbers this cannot hold on these rows."""
    model, tokenizer = tiny("llama")
    backbone = Backbone(model.half(), tokenizer, BackboneId("big", "causal", 32, 300, "f" * 16))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "down_proj" in name or "up_proj" in name:
                parameter.mul_(400)
    return backbone


def test_a_row_without_finite_scores_has_no_answer(overflowing):
    collator = collator_for(overflowing, TASK)
    nothing = torch.zeros(0, overflowing.id.width)
    found = predict_rows(overflowing, nothing, collator, collator.encode(SPLITS.train[:3]))
    assert [(answer.is_answered, answer.text, answer.probabilities) for answer in found] == [(False, "", {})] * 3
    assert json.loads(json.dumps(found[0].to_json(), allow_nan=False)) == {"label": None, "probabilities": None}
    assert no_answer(found, overflowing) == (
        "3 of 3 rows have no answer: the model's numbers are not finite in float16; set SPOT_DTYPE=bfloat16 or "
        "float32, or give a prompt or a start of smaller numbers"
    )
    assert no_answer([Prediction("a")], overflowing) == ""


def test_nothing_is_scored_where_no_row_has_an_answer(overflowing):
    nothing = torch.zeros(0, overflowing.id.width)
    for task in (TASK, replace(TASK, labels=(), metrics=("likelihood",))):
        with pytest.raises(BackboneError, match=r"4 of 4 rows have no answer: .* not finite in float16; set"):
            evaluate_rows(overflowing, nothing, task, collator_for(overflowing, task), SPLITS.train[:4])


def test_tuning_names_the_precision_and_not_the_learning_rate(overflowing, tmp_path):
    run = prepare_run(toy_config(), (Member(TASK, SPLITS),), overflowing)
    with pytest.raises(BackboneError, match=r"rows have no answer: .* not finite in float16") as refusal:
        tune_runs([run], overflowing, tmp_path / "run")
    assert "learning" not in str(refusal.value)


def test_a_prompt_without_an_answer_has_no_vote():
    lost = Prediction("", (float("nan"),) * 2, ("a", "b"), is_answered=False)
    sure = Prediction("b", (-3.0, -0.1), ("a", "b"))
    assert vote([[lost], [sure], [lost]]) == [sure]
    assert vote([[lost], [lost]]) == [lost]


def test_generated_text_that_is_none_is_no_answer(backbone, monkeypatch):
    monkeypatch.setattr(Backbone, "generate", lambda self, batch, *_: [None] * len(batch.input_ids))
    collator = collator_for(backbone, TASK)
    rows = collator.encode(SPLITS.train[:2])
    found = predict_rows(backbone, torch.zeros(0, backbone.id.width), collator, rows, decode="generate")
    assert found == [Prediction("", is_answered=False)] * 2
    assert found[0].to_json() == {"text": None}
