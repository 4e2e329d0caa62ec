"""The probe reads the states that plain transformers computes, and its regression is scikit-learn's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel, AutoTokenizer

from spot.baselines import probe
from spot.baselines.arms import Unsuitable
from spot.baselines.logistic import fit_head
from spot.baselines.probe import fit_probe, fit_probe_behind
from spot.errors import BackboneError
from spot.evaluation.scoring import score_predictions
from spot.models.backbone import Backbone
from spot.tasks.task import Example
from tests.support.toy_terms import REPORT, toy_rows, toy_task, toy_terms


@pytest.mark.parametrize("length", [0, 3])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "t5"])
def test_answers_are_those_of_plain_states_and_scikit_learn(
    family, length, tiny_folder: Callable[[str], Path], tmp_path
):
    folder = tiny_folder(family)
    backbone = Backbone.load(str(folder))
    terms = toy_terms(backbone, tmp_path)
    prompt = torch.randn(length, 32, generator=torch.Generator().manual_seed(0))
    fitted = fit_probe_behind(terms, {"mood": prompt}) if length else fit_probe(terms)
    place = fitted.learned.setting["states"]
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def states(rows: tuple[Example, ...]) -> np.ndarray:
        found = []
        for row in rows:
            text = row.inputs if family == "t5" else f"{row.inputs}\nAnswer:"
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=family == "t5").input_ids
            body = model.encoder if family == "t5" else model
            with torch.no_grad():
                vectors = torch.cat([prompt[None], body.get_input_embeddings()(ids)], dim=1)
                output = body(inputs_embeds=vectors, output_hidden_states=True)
            last = output.last_hidden_state[0, length:]
            places = {
                "last layer": last.mean(dim=0) if family == "t5" else last[-1],
                "mean at 3/4": output.hidden_states[2][0, length:].mean(dim=0),
                "mean at 1/2": output.hidden_states[1][0, length:].mean(dim=0),
            }
            found.append(places[place])
        return torch.stack(found).numpy().astype(np.float64)

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=fitted.learned.setting["C"], max_iter=1000))
    pipeline.fit(states(terms.train), [row.answers[0] for row in terms.train])
    predictions = fitted.on(REPORT).predictions
    shares = [list(prediction.probabilities.values()) for prediction in predictions]
    np.testing.assert_allclose(shares, pipeline.predict_proba(states(REPORT)), atol=2e-3)
    learned = fitted.learned
    assert learned.parameters == backbone.id.width + 1 and learned.shipped == 4 * (learned.parameters + 32 * length)


def test_the_loss_on_selection_rows_chooses_the_place(terms):
    given = terms()
    fitted = fit_probe(given)
    kept = [probe._states(given, rows, torch.zeros(0, 32)) for rows in (given.train, given.selection)]
    heads = {name: fit_head(given, kept[0][name], kept[1][name], standardise=True) for name in probe.PLACES}
    losses = {name: -head.rank[1] for name, head in heads.items()}
    assert fitted.learned.setting["states"] == min(losses, key=losses.__getitem__) and len(losses) == 3
    assert fitted.learned.selection == heads[fitted.learned.setting["states"]].rank[0]


def test_the_loss_on_selection_rows_chooses_the_prompt(terms):
    given = terms()
    prompts = dict(
        zip(("mood", "animal"), torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(1)), strict=True)
    )
    both = fit_probe_behind(given, prompts)
    alone = {task: fit_probe_behind(given, {task: prompt}) for task, prompt in prompts.items()}
    losses = {
        task: score_predictions(given.task, given.selection, fitted.answer(given.selection)).nats
        for task, fitted in alone.items()
    }
    best = min(losses, key=losses.__getitem__)
    assert losses["mood"] != losses["animal"] and both.learned.setting == alone[best].learned.setting
    assert (both.learned.name, both.learned.setting["prompt"]) == ("probe_behind", best)
    assert both.on(REPORT).predictions == alone[best].on(REPORT).predictions


def test_the_model_reads_every_row_once(terms, monkeypatch):
    given = terms()
    first = fit_probe(given).on(REPORT)
    monkeypatch.setattr(probe, "_places", None)
    assert fit_probe(given).on(REPORT).predictions == first.predictions
    with pytest.raises(TypeError):
        fit_probe(given).on(toy_rows(300, 304))


def test_numbers_that_are_not_finite_are_refused(terms, monkeypatch):
    monkeypatch.setattr(probe, "_places", lambda _, batch, prompt: torch.full((len(batch.input_ids), 3, 32), torch.nan))
    with pytest.raises(BackboneError, match="probe: the model's numbers are not finite in float32"):
        fit_probe(terms())


def test_one_class_and_open_answers_are_refused(terms):
    with pytest.raises(Unsuitable, match="probe: all 12 training rows"):
        fit_probe(terms(train=toy_rows(24)[::2]))
    with pytest.raises(Unsuitable, match="probe: words has open answers"):
        fit_probe(terms(task=toy_task(labels=(), metrics=("exact_match",))))
