"""Scores and intervals of predictions, against the definitions computed anew."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from spot.evaluation.predictions import Prediction
from spot.evaluation.scoring import Evaluation, interval, score_predictions
from spot.tasks.task import Example, Task

LABELS = ("False", "True")
MULTIRC = Task("questions", lambda split: iter(()), ("validation",), LABELS, ("multirc",))
F1 = Task("pairs", lambda split: iter(()), ("validation",), LABELS, ("f1",))


def examples_of(answers: np.ndarray, groups: np.ndarray | None) -> list[Example]:
    names = [""] * len(answers) if groups is None else [f"question {group}" for group in groups]
    return [
        Example(f"validation/{n}", "", (LABELS[answer],), name)
        for n, (answer, name) in enumerate(zip(answers, names, strict=True))
    ]


def evaluated(task: Task, examples: list[Example], said: np.ndarray) -> Evaluation:
    return score_predictions(task, examples, [Prediction(LABELS[answer]) for answer in said])


def multirc_score(answers: np.ndarray, said: np.ndarray, groups: np.ndarray) -> float:
    """The mean of F1a and EM, percent."""
    em = np.mean([np.all((answers == said)[groups == group]) for group in np.unique(groups)])
    return 100 * (f1_score(answers, said, zero_division=0) + em) / 2


def test_scores_are_those_of_the_definition():
    random = np.random.default_rng(0)
    answers, said, groups = random.integers(2, size=60), random.integers(2, size=60), np.repeat(np.arange(20), 3)
    found = evaluated(MULTIRC, examples_of(answers, groups), said)
    assert found.primary == pytest.approx(multirc_score(answers, said, groups))
    assert found.correct == tuple(answers == said) and found.invalid == 0 and np.isnan(found.nats)


@pytest.mark.parametrize("against", [False, True])
def test_an_interval_draws_whole_groups_and_counts_one_that_is_drawn_twice_as_two(against):
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(12), random.integers(1, 6, size=12))
    answers = random.integers(2, size=len(groups))
    seeds = [np.where(random.random(len(groups)) < 0.8, answers, 1 - answers) for _ in range(4)]
    examples = examples_of(answers, groups)
    found = [evaluated(MULTIRC, examples, said) for said in seeds]
    ours, other = (found[:2], found[2:]) if against else (found, [])

    draws = np.random.default_rng(0)
    values = []
    for _ in range(40):
        picked = draws.integers(12, size=12)
        rows = np.concatenate([np.flatnonzero(groups == group) for group in picked])
        new = np.concatenate([np.full((groups == group).sum(), n) for n, group in enumerate(picked)])
        scores = [multirc_score(answers[rows], said[rows], new) for said in seeds]
        taken = draws.integers(len(ours), size=len(ours))
        values.append(np.mean([scores[seed] - (scores[seed + 2] if against else 0) for seed in taken]))
    assert interval(ours, MULTIRC, examples, other, resamples=200) == pytest.approx(np.percentile(values, [2.5, 97.5]))


def test_rows_of_one_group_are_never_parted():
    answers, said = np.array([1, 1, 0, 1]), np.array([1, 1, 0, 0])
    examples = examples_of(answers, np.zeros(4, dtype=int))
    found = evaluated(MULTIRC, examples, said)
    assert interval([found], MULTIRC, examples, resamples=100) == pytest.approx((found.primary,) * 2)


def test_rows_without_a_group_are_drawn_one_by_one():
    random = np.random.default_rng(2)
    answers = random.integers(2, size=30)
    said = np.where(random.random(30) < 0.7, answers, 1 - answers)
    examples = examples_of(answers, None)
    draws = np.random.default_rng(0)
    values = []
    for _ in range(40):
        rows = draws.integers(30, size=30)
        draws.integers(1, size=1)  # which seed
        values.append(100 * f1_score(answers[rows], said[rows], zero_division=0))
    found = interval([evaluated(F1, examples, said)], F1, examples, resamples=200)
    assert found == pytest.approx(np.percentile(values, [2.5, 97.5]))


def test_a_row_without_an_answer_counts_as_wrong_and_never_as_a_class():
    lost = Prediction("", (float("nan"),) * 2, LABELS, is_answered=False)
    sure = Prediction("True", (-2.0, -0.2), LABELS)
    task = replace(F1, metrics=("accuracy", "f1", "macro_f1"))
    examples = examples_of(np.array([0, 0, 1, 1]), None)
    found = score_predictions(task, examples, [lost, lost, sure, lost])
    assert (found.unanswered, found.invalid, found.correct) == (3, 0, (False, False, True, False))
    assert found.scores["accuracy"] == 25
    assert found.scores["f1"] == pytest.approx(100 * 2 / (2 + 2 + 1))  # two of "False" taken for it, one missed
    assert found.nats == pytest.approx(np.log1p(np.exp(-1.8)))
    assert interval([found], replace(F1, metrics=("accuracy",)), examples)[1] <= 100


@pytest.mark.parametrize("metric", ["exact_match", "token_f1", "squad"])
def test_no_answer_is_no_open_answer_by_any_rule(metric):
    task = replace(F1, labels=(), metrics=(metric,))
    found = score_predictions(task, [Example("1", "", ("the",))], [Prediction("", is_answered=False)])
    assert set(found.scores.values()) == {0} and found.unanswered == 1 and found.invalid == 0
