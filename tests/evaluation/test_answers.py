"""Rows and their answers as a page shows them, and what to do next."""

import json
import math
import shlex
from pathlib import Path

import pytest

from spot.evaluation.answers import LONGEST, answer_sections, measured_calibration, next_steps
from spot.evaluation.predictions import Prediction, ranked
from spot.reading import Reading
from spot.tasks.task import Example
from tests.support.prompts import library_prompt

LABELS = ("no", "yes")


def row(text: str, *answers: str) -> Example:
    return Example(text, text, answers or ("yes",))


def sure(share: float) -> Prediction:
    """An answer whose `yes` has this probability."""
    return ranked(LABELS, [math.log(1 - share), math.log(share)])


def test_the_most_wrong_come_first_with_their_probability():
    rows = [row("a"), row("b"), row("c"), row("d", "no")]
    worst, first = answer_sections(rows, [sure(0.4), sure(0.9), sure(0.1), sure(0.8)])
    assert [line[0] for line in worst["table"]["rows"]] == ["c", "d", "a"]
    assert worst["table"]["rows"][0][1:3] == ["yes", "no"]
    assert [line[3] for line in worst["table"]["rows"]] == pytest.approx([90, 80, 60])
    assert worst["text"].startswith("3 of 4 rows are answered wrong")
    assert [line[0] for line in first["table"]["rows"]] == ["a", "b", "c", "d"]


def test_open_answers_stand_in_their_order_without_probabilities():
    rows = [row("a", "one", "two"), row("b", "three"), row("c", "four")]
    worst, _ = answer_sections(rows, [Prediction("two"), Prediction("x"), Prediction("")])
    assert worst["table"]["columns"] == ("text", "right answer", "answer")
    assert worst["table"]["rows"] == [["b", "three", "x"], ["c", "four", "nothing"]]
    assert "in their order" in worst["text"] and measured_calibration(rows[:1], [Prediction("two")]) is None


def test_nothing_wrong_and_nothing_answered():
    worst, _ = answer_sections([row("a")], [sure(0.9)])
    assert "table" not in worst and worst["text"] == "None of these rows is answered wrong."
    assert answer_sections([row("a")], [Prediction("", (-1.0,))]) == []
    assert answer_sections([row("a")], [Prediction("", (), LABELS, is_answered=False)]) == []


def test_a_long_text_is_cut_and_harmless():
    worst, _ = answer_sections([row(f"\x1b[2J{'word ' * 500}")], [sure(0.1)])
    shown = worst["table"]["rows"][0][0]
    assert len(shown) == LONGEST and shown.endswith("...") and "\x1b" not in shown


def test_calibration_is_of_the_answers_that_are_given():
    measured = measured_calibration([row("a"), row("b")], [sure(0.9), sure(0.2)])
    assert (measured.confidence, measured.right, measured.rows) == (pytest.approx(85.0), 50.0, 2)


def test_next_steps_name_the_prompt_and_its_fields(tmp_path: Path):
    reading = Reading(template="{premise} / {claim}", labels=(("0", "no"), ("1", "yes")))
    prompt = library_prompt(reading=reading)
    path = prompt.save(tmp_path / "it's mine.safetensors")
    code = dict(next_steps(str(path))["code"])
    predict, serve, python = code.values()
    assert shlex.split(predict) == ["spot", "predict", str(path), "--input", "new.csv"]
    words = shlex.split(serve)
    assert words[:4] == ["spot", "serve", "--prompt", str(path)]
    row = {"premise": "a text", "claim": "a text"}
    assert json.loads(words[-1]) == {"model": prompt.digest, "input": row} and "/v1/classify" in serve
    compile(python, "next", "exec")
    assert repr(str(path)) in python and json.dumps(row) in python


def test_next_steps_of_a_packaged_prompt_and_of_one_that_has_gone():
    packaged = dict(next_steps("packaged:glue/sst2")["code"])
    assert any(lines.startswith("spot serve --library packaged\n") for lines in packaged.values())
    assert "spot.open_library(\"packaged\").get('glue/sst2')" in packaged["In Python:"]
    assert [words for words, _ in next_steps("gone.safetensors")["code"]] == [
        "Answer new rows, one line of JSON a row:",
        "In Python:",
    ]
