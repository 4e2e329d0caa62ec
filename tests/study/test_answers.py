"""What a cell answered to each row, in few bytes: numbers of labels, digests of texts, and which are right."""

import base64
import json
from dataclasses import asdict

import numpy as np
import pytest

from spot.study.answers import RowAnswers, row_answers
from spot.tasks.task import Example


def rows(*answers: str) -> list[Example]:
    return [Example(f"test/{number}", f"text {number}", (answer,)) for number, answer in enumerate(answers)]


def numbers(text: str, kind: str) -> list[int]:
    return np.frombuffer(base64.b64decode(text), kind).tolist()


def test_labels_are_numbers_and_none_is_the_highest():
    told = row_answers(rows("no", "yes", "yes", "no"), ["no", "no", None, "maybe"], ("no", "yes"))
    assert numbers(told.given, "u1") == [0, 0, 255, 255] and told.correct == "1000" and not told.problem
    assert told.right().tolist() == [True, False, False, False]


def test_open_answers_and_many_labels_are_digests_that_tell_texts_apart():
    for labels in ((), tuple(f"label {number}" for number in range(300))):
        told = row_answers(rows("label 1", "label 2", "x"), ["label 1", "label 1", None], labels)
        first, second, none = numbers(told.given, "<u4")
        assert first == second != none == 2**32 - 1 and told.correct == "100" and not told.problem


def test_rows_are_known_by_their_texts_whatever_their_numbers():
    one, other = rows("a", "b"), [Example("train/9", "text 1", ("b",)), Example("train/3", "Text  0", ("a",))]
    first, second = (numbers(row_answers(part, ["a", "b"], ()).rows, "<u4") for part in (one, other))
    assert first == second[::-1] and len(set(first)) == 2


def test_three_hundred_rows_take_the_bytes_that_are_said():
    told = row_answers(rows(*["yes"] * 300), ["yes"] * 300, ("no", "yes"))
    assert 2200 < len(json.dumps(asdict(told))) < 2450
    told = row_answers(rows(*["yes"] * 300), ["yes"] * 300, ())
    assert 3400 < len(json.dumps(asdict(told))) < 3650


@pytest.mark.parametrize(
    ("rows", "given", "correct", "word"),
    [
        ("AAAA", "AA==", "1", "3 bytes"),
        ("AAAAAA==", "AA==", "2", "other letters"),
        ("AAAAAA==", "AAA=", "1", "2 beside"),
    ],
)
def test_parts_that_contradict_each_other_are_said(rows, given, correct, word):
    assert word in RowAnswers(rows, given, correct).problem
