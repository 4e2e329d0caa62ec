"""Demonstrations stand before rows as text that plain transformers reads."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from spot.baselines import icl
from spot.baselines.arms import Unsuitable
from spot.baselines.icl import fit_icl
from spot.evaluation.predictions import Prediction
from spot.tasks.task import Example
from tests.support.toy_terms import LABELS, REPORT, toy_rows, toy_task


def shown_text(train: tuple[Example, ...], inputs: list[str]) -> str:
    answers = {f"{row.inputs}": row.answers[0] for row in train}
    return "".join(f"{text}\nAnswer: {answers[text]}\n\n" for text in inputs)


@pytest.mark.parametrize("calibrates", [False, True])
def test_labels_have_the_log_probabilities_of_the_whole_text(
    terms, tiny_folder: Callable[[str], Path], monkeypatch, calibrates
):
    monkeypatch.setattr(icl, "DRAWS", 1)
    if not calibrates:
        monkeypatch.setattr(icl, "CONTENT_FREE", ())
        monkeypatch.setattr(icl, "_bias", lambda *_: ())
    given = terms(demonstrations=3)
    shown = icl._shown(given, 0)
    found = icl._calibrated(icl._answers(given, shown, REPORT[:4]), shown.bias)
    folder = tiny_folder("llama")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    before = tokenizer.decode(_ids(shown.prompt, model))
    assert before.count("\nAnswer: ") == 3 and before.endswith("\n\n")
    inputs = [part.partition("\nAnswer: ")[0] for part in before.split("\n\n")[:-1]]
    assert before == shown_text(given.train, inputs), "rows that train, with their own answers"

    def scores(text: str) -> np.ndarray:
        logs = []
        for label in LABELS[:2]:
            ids = tokenizer(f"{before}{text}\nAnswer:", return_tensors="pt", add_special_tokens=False).input_ids
            answer = tokenizer(f" {label}", return_tensors="pt", add_special_tokens=False).input_ids
            with torch.no_grad():
                logits = model(torch.cat([ids, answer], dim=1)).logits[0, ids.shape[1] - 1 : -1].log_softmax(-1)
            logs.append(float(logits.gather(1, answer[0][:, None]).sum()))
        return np.array(logs) - np.logaddexp.reduce(logs)

    bias = 0.0
    if calibrates:
        empty = [scores(f"sentence: {word}") for word in icl.CONTENT_FREE]
        bias = np.log(np.exp(empty).mean(axis=0))
    for row, prediction in zip(REPORT[:4], found, strict=True):
        expected = scores(row.inputs) - bias
        logs = np.array(prediction.log_probabilities)
        np.testing.assert_allclose(
            logs - np.logaddexp.reduce(logs), expected - np.logaddexp.reduce(expected), atol=1e-4
        )
        assert prediction.text == LABELS[int(expected.argmax())]


def _ids(prompt: torch.Tensor, model: torch.nn.Module) -> list[int]:
    """The tokens whose vectors these are."""
    table = model.get_input_embeddings().weight.detach()
    return torch.cdist(prompt, table).argmin(dim=1).tolist()


def test_demonstrations_are_of_each_label_in_turn(terms, tiny_folder: Callable[[str], Path]):
    given = terms(classes=3, demonstrations=6)
    folder = tiny_folder("llama")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer.decode(_ids(icl._shown(given, draw).prompt, model)) for draw in range(3)]
    for text in texts:
        answers = [part.partition("\nAnswer: ")[2] for part in text.split("\n\n")[:-1]]
        assert Counter(answers) == {"bad": 2, "fine": 2, "odd": 2}
    assert len(set(texts)) == 3


def test_the_selection_rows_choose_the_draw_and_the_calibration(terms, monkeypatch):
    given = terms(demonstrations=2)
    right = [row.answers[0] for row in given.selection]

    def answers(terms, shown, rows):
        best = shown.draw == 1 and len(rows) == len(right)
        texts = (
            [label if best else LABELS[label == "bad"] for label in right] if len(rows) == len(right) else ["bad"] * 3
        )
        return [
            Prediction(text, tuple(0.0 if label == text else -9.0 for label in LABELS[:2]), LABELS[:2])
            for text in texts
        ]

    monkeypatch.setattr(icl, "_answers", answers)
    fitted = fit_icl(given)
    learned = fitted.learned
    assert learned.setting == {"demonstrations": 2, "draw": 1, "calibrated": "no"}
    assert (learned.selection, learned.parameters) == (100.0, 0)


def test_as_many_demonstrations_stand_there_as_the_model_has_room_for(terms):
    given = terms(demonstrations=24, max_input_tokens=200)
    fitted = fit_icl(given)
    assert 1 <= fitted.learned.setting["demonstrations"] < 24 and len(fitted.on(REPORT).predictions) == len(REPORT)
    with pytest.raises(Unsuitable, match=r"no demonstration fits: .* has 512 positions"):
        fit_icl(terms(max_input_tokens=500))


def test_open_answers_are_generated_behind_them(terms):
    rows = tuple(Example(str(n), f"q: {n}", (f"a{n}",), texts=(str(n),)) for n in range(6))
    task = toy_task(labels=(), metrics=("exact_match",), kind="text")
    fitted = fit_icl(terms(task=task, train=rows, selection=rows, demonstrations=2, max_target_tokens=4))
    assert fitted.learned.setting["calibrated"] == "no" and len(fitted.on(rows).predictions) == 6
    unlabelled = toy_task(labels=(), metrics=("likelihood",), kind="text")
    with pytest.raises(Unsuitable, match="unlabelled text"):
        fit_icl(terms(task=unlabelled))


def test_rows_without_content_keep_the_words_of_the_template():
    [row] = toy_rows(1)
    assert icl._without_content(row, "N/A").inputs == "sentence: N/A"
    assert icl._without_content(Example("1", "whole", ("x",)), "N/A").inputs == "N/A"
