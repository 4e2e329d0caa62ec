"""The campaign over the files of model folders sees what is loaded wrongly, hangs or fails."""

import pytest

from tests.campaigns import models


def hang() -> None:
    raise models.Hang


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda folder: "two loads give two models", "two loads give two models"),
        (lambda folder: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda folder: hang(), "no end after 20 s"),
    ],
)
def test_the_campaign_sees_errors(wrong, words, tiny_folder, monkeypatch):
    monkeypatch.setattr(models, "bases", lambda: (tiny_folder("llama"),))
    monkeypatch.setattr(models, "judged", wrong)
    [problem] = models.run(1, first=3)
    assert problem.startswith("seed 3, tiny-llama, ") and words in problem


def test_a_folder_that_is_right_is_no_error(tiny_folder, monkeypatch):
    monkeypatch.setattr(models, "bases", lambda: (tiny_folder("llama"),))
    assert models.judged(tiny_folder("llama")) == ""
