"""Scores against scikit-learn, scipy and arithmetic by hand, on ordinary and hostile predictions."""

import itertools
import math
import subprocess
import sys
from collections import Counter, defaultdict
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from spot.errors import TaskError
from spot.metrics.scores import (
    METRICS,
    bootstrap_interval,
    is_of_one_class,
    nested_bootstrap_interval,
    primary,
    problems,
    relative_error_reduction,
    score,
    score_title,
    spelled_metrics,
)

LABELS = ("a", "b", "c")


def single_score(name, answers, predictions, labels=()):
    """The only score of one metric, with one accepted answer a row."""
    (value,) = score([name], [(answer,) for answer in answers], predictions, labels=labels).values()
    return value


def draw(seed, labels, rows=200):
    rng = np.random.default_rng(seed)
    answers = rng.choice(labels, rows)
    predictions = np.where(rng.random(rows) < 0.6, answers, rng.choice(labels, rows))
    return answers.tolist(), predictions.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_class_metrics_equal_scikit_learn_on_random_rows(seed):
    answers, predictions = draw(seed, LABELS)
    expected = {
        "accuracy": sk.accuracy_score(answers, predictions),
        "macro_f1": sk.f1_score(answers, predictions, average="macro"),
        "matthews": sk.matthews_corrcoef(answers, predictions),
    }
    for name, share in expected.items():
        assert single_score(name, answers, predictions, LABELS) == pytest.approx(100 * share)


def test_f1_by_hand_and_without_a_name_the_last_label_is_the_positive_one():
    answers, predictions = ["p", "p", "p", "n", "n"], ["p", "p", "n", "p", "n"]
    # 2 true positives, 1 false positive, 1 false negative; then 1, 1, 1 from the other side.
    assert single_score("f1", answers, predictions, ("n", "p")) == pytest.approx(100 * 4 / 6)
    assert single_score("f1", answers, predictions, ("p", "n")) == pytest.approx(100 * 2 / 4)


@pytest.mark.parametrize("positive", ["fraud", "legit"])
def test_f1_is_of_the_class_that_is_named(positive: str):
    labels = ("fraud", "legit")
    answers, predictions = draw(7, labels)
    accepted = [(answer,) for answer in answers]
    expected = 100 * sk.f1_score(answers, predictions, pos_label=positive)
    assert score(["f1"], accepted, predictions, labels=labels, positive=positive) == {"f1": pytest.approx(expected)}
    backwards = score(["f1"], accepted, predictions, labels=labels[::-1], positive=positive)
    assert backwards == {"f1": pytest.approx(expected)}


def test_a_model_that_never_says_fraud_has_no_f1_of_it():
    answers, predictions = [("fraud",)] * 10 + [("legit",)] * 90, ["legit"] * 100
    labels = ("fraud", "legit")
    assert score(["f1"], answers, predictions, labels=labels, positive="fraud") == {"f1": 0}
    assert score(["macro_f1"], answers, predictions, labels=labels) == {"macro_f1": pytest.approx(100 * 0.9 / 1.9)}


def test_f1_of_users_tasks_must_name_its_class():
    labels = ("fraud", "legit")
    needs = 'needs to know which class it is of: write positive = "fraud" or positive = "legit", or take macro_f1'
    assert problems(["f1"], labels, "") == [f"the metric f1 {needs}"]
    assert problems(["multirc"], labels, "") == [f"the metric multirc {needs}"]
    assert problems(["accuracy", "macro_f1"], labels, "") == [] == problems(["f1"], labels, "fraud")
    with pytest.raises(TaskError, match="the metric f1 needs to know which class it is of"):
        score(["f1"], [("fraud",)], ["fraud"], labels=labels, positive="")


def test_a_positive_class_must_be_a_label():
    misspelt = "positive is 'fraude', which is no label; did you mean 'fraud'?"
    assert problems(["f1"], ("fraud", "legit"), "fraude") == [misspelt] == problems([], ("fraud", "legit"), "fraude")
    assert problems(["accuracy"], LABELS, "c") == []
    open_answers = "positive is 'fraud', but open answers have no classes: leave it out"
    assert problems(["exact_match"], (), "fraud") == [open_answers]


def test_which_metrics_are_of_one_class_and_how_their_scores_are_called():
    assert [name for name in METRICS if is_of_one_class([name])] == ["f1", "multirc"]
    assert is_of_one_class(["accuracy", "f1"]) and not is_of_one_class(["accuracy"])
    assert score_title("f1", "equivalent") == "f1 of 'equivalent'" and score_title("f1") == "f1"
    assert score_title("accuracy", "equivalent") == "accuracy" and score_title("macro_f1", "fraud") == "macro_f1"


def test_a_row_with_several_accepted_answers_counts_for_the_one_that_was_predicted():
    answers = [("n", "p"), ("p",), ("n",)]
    scores = score(["f1", "macro_f1", "accuracy"], answers, ["p", "p", "n"], labels=("n", "p"))
    assert scores == {"f1": 100, "macro_f1": 100, "accuracy": 100}


@pytest.mark.parametrize("invalid", ["", "P", "p ", "nonsense"])
def test_an_invalid_prediction_is_never_better_than_the_wrong_label(invalid):
    labels = ("n", "p")
    answers = ["p", "p", "n", "n"]
    for name in ("accuracy", "f1"):
        for row in range(4):
            wrong = list(answers)
            wrong[row] = "n" if answers[row] == "p" else "p"
            predictions = list(answers)
            predictions[row] = invalid
            assert single_score(name, answers, predictions, labels) == single_score(name, answers, wrong, labels) < 100


def test_all_invalid_predictions_score_nothing():
    answers, predictions = ["a", "b", "c", "a"], ["x", "", "y", "a "]
    for name in ("accuracy", "macro_f1", "matthews"):
        assert single_score(name, answers, predictions, LABELS) == 0
    assert single_score("f1", ["n", "p"], ["", "?"], ("n", "p")) == 0


def test_invalid_predictions_lower_macro_f1_as_an_unknown_number_does_in_t5():
    answers, predictions = ["a", "a", "b", "b"], ["a", "junk", "b", "rubbish"]
    # each class: 1 true positive, no false positive, 1 false negative -> 2 / 3
    assert single_score("macro_f1", answers, predictions, LABELS) == pytest.approx(100 * 2 / 3)


def test_matthews_takes_all_invalid_predictions_as_one_class():
    answers, predictions = ["a", "b", "a", "b", "b"], ["a", "b", "x", "y", "z"]
    expected = sk.matthews_corrcoef([0, 1, 0, 1, 1], [0, 1, -1, -1, -1])
    assert single_score("matthews", answers, predictions, LABELS) == pytest.approx(100 * expected)


@pytest.mark.parametrize("name", ["macro_f1", "matthews", "accuracy"])
def test_constant_answers_and_predictions_give_numbers_without_warnings(name):
    for answers, predictions in ((["a"] * 4, ["b"] * 4), (["a"] * 4, list("abca")), (list("abca"), ["a"] * 4)):
        assert math.isfinite(single_score(name, answers, predictions, LABELS))
    assert single_score("matthews", ["a"] * 4, ["a"] * 4, LABELS) == 0
    assert single_score("macro_f1", ["a"] * 4, ["a"] * 4, LABELS) == 100


def test_f1_without_any_positive_is_zero():
    assert single_score("f1", ["n", "n"], ["n", "n"], ("n", "p")) == 0


def test_accuracy_accepts_any_of_several_answers():
    assert score(["accuracy"], [("a", "b"), ("a",)], ["b", "b"]) == {"accuracy": 50.0}


def test_squad_follows_squad():
    answers = [("the Eiffel Tower", "Eiffel-Tower!"), ("42",), ("red apple pie",)]
    predictions = ["Eiffel tower.", "forty-two", "an apple pie"]
    scores = score(["squad"], answers, predictions)
    assert scores["exact_match"] == pytest.approx(100 / 3)
    # 1; 0; precision 2 / 2, recall 2 / 3 -> 0.8
    assert scores["token_f1"] == pytest.approx(100 * (1 + 0 + 0.8) / 3)


def test_squad_f1_of_texts_without_words():
    for answer, prediction, expected in (("the", "", 100), ("the", "x", 0), ("x", "...", 0)):
        assert score(["squad"], [(answer,)], [prediction])["token_f1"] == expected


RIGHT = [
    ("Paris", "paris"),
    ("New  York\n", "new york"),
    ("caf\u00e9", "cafe\u0301"),
    ("Stra\u00dfe", "STRASSE"),
    ("-5", " -5 "),
]
WRONG = [
    ("5", "-5"),
    ("15", "1.5"),
    ("C", "C++"),
    ("C#", "C++"),
    ("x<y", "x>y"),
    ("A", "the"),
    ("A", "an"),
    ("A", ""),
    ("A", "B"),
    ("the", ""),
    ("1/2", "12"),
    ("50%", "50"),
    ("\u0915\u093f", "\u0915\u0940"),
    (":)", ":("),
]


@pytest.mark.parametrize(("answer", "prediction"), RIGHT)
def test_open_answers_forgive_case_spacing_and_unicode_form(answer, prediction):
    assert score(["exact_match", "token_f1"], [(answer,)], [prediction]) == {"exact_match": 100, "token_f1": 100}


@pytest.mark.parametrize(("answer", "prediction"), WRONG)
def test_open_answers_forgive_no_sign_and_nothing_is_no_answer(answer, prediction):
    assert score(["exact_match", "token_f1"], [(answer,)], [prediction]) == {"exact_match": 0, "token_f1": 0}
    assert score(["exact_match"], [(prediction,)], [answer]) == {"exact_match": 0}


def test_marks_behind_a_word_are_words_of_their_own():
    # paris . against paris: precision 1 / 2, recall 1
    scores = score(["exact_match", "token_f1"], [("Paris",)], ["Paris."])
    assert scores == {"exact_match": 0, "token_f1": pytest.approx(100 * 2 / 3)}
    assert single_score("token_f1", ["1.5, or -5"], ["1.5 , or -5"]) == 100


def test_digests_tell_new_rules_from_old_ones_and_keep_the_name_of_those_that_stayed():
    assert spelled_metrics(("squad", "accuracy")) == ("exact_match", "token_f1", "accuracy")
    assert spelled_metrics(("exact_match", "token_f1")) == ("exact_match 2", "token_f1 2")


@given(st.lists(st.sampled_from("xyz"), max_size=6), st.lists(st.sampled_from("xyz"), max_size=6))
def test_token_f1_equals_precision_and_recall_written_out(answer, prediction):
    shared = sum((Counter(answer) & Counter(prediction)).values())
    if answer and prediction and shared:
        precision, recall = shared / len(prediction), shared / len(answer)
        expected = 100 * 2 * precision * recall / (precision + recall)
    else:
        expected = 100.0 * (answer == prediction)
    assert single_score("token_f1", [" ".join(answer)], [" ".join(prediction)]) == pytest.approx(expected)


def test_correlations_equal_scipy_with_ties():
    rng = np.random.default_rng(0)
    answers, predictions = rng.integers(0, 6, 100) / 2, rng.integers(0, 6, 100) / 2
    scores = score(["pearson_spearman"], [(str(value),) for value in answers], [str(value) for value in predictions])
    ranks = [stats.rankdata(values) for values in (answers, predictions)]
    assert scores["pearson"] == pytest.approx(100 * np.corrcoef(answers, predictions)[0, 1])
    assert scores["spearman"] == pytest.approx(100 * np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize("junk", ["", "nan", "inf", "five", "-1e999"])
def test_a_prediction_that_is_no_number_takes_the_far_end_of_the_range(junk):
    answers = [("0.0",), ("1.0",), ("4.0",), ("5.0",)]
    expected = score(["pearson_spearman"], answers, ["0.0", "5.0", "4.0", "0.0"])
    assert score(["pearson_spearman"], answers, ["0.0", junk, "4.0", junk]) == expected


@pytest.mark.parametrize(
    ("answers", "predictions"), [(["1", "1"], ["1", "2"]), (["1", "2"], ["3", "3"]), (["1"], ["1"])]
)
def test_undefined_correlations_are_zero(answers, predictions):
    scores = score(["pearson_spearman"], [(value,) for value in answers], predictions)
    assert scores == {"pearson": 0, "spearman": 0}


@pytest.mark.parametrize("predictions", [["1e10", "10000000000.000002", "1e10"], ["-1e308", "1e308", "1e308"]])
def test_extreme_predictions_give_numbers_without_warnings(predictions):
    scores = score(["pearson_spearman"], [("1",), ("2",), ("3",)], predictions)
    assert all(math.isfinite(value) for value in scores.values())


def test_an_answer_that_is_no_number_is_refused():
    message = "row 2: the answer 'five' is no number, which the metric pearson_spearman needs"
    with pytest.raises(TaskError, match=message):
        score(["pearson_spearman"], [("1",), ("five",)], ["1", "2"])


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from((*LABELS, "", "junk"))), min_size=1, max_size=30))
def test_every_score_is_a_finite_percentage(rows):
    answers = [(answer,) for answer, _ in rows]
    names = ["accuracy", "macro_f1", "exact_match", "token_f1", "matthews"]
    scores = score(names, answers, [text for _, text in rows], labels=LABELS)
    matthews = scores.pop("matthews")
    assert -100 - 1e-9 <= matthews <= 100 + 1e-9
    assert all(0 <= value <= 100 + 1e-9 for value in scores.values())


def test_scores_keep_the_order_of_their_names_and_the_primary_is_their_mean():
    scores = score(["macro_f1", "accuracy"], [("a",), ("a",), ("b",)], ["a", "b", "b"], labels=LABELS)
    assert list(scores) == ["macro_f1", "accuracy"]
    assert primary(scores) == pytest.approx((scores["macro_f1"] + scores["accuracy"]) / 2)
    with pytest.raises(TaskError, match="no scores"):
        primary({})


def test_no_rows_and_metrics_that_do_not_fit_are_refused():
    with pytest.raises(TaskError, match="no rows to score"):
        score(["accuracy"], [], [])
    with pytest.raises(TaskError, match="no metric 'acuracy'; did you mean 'accuracy'"):
        score(["acuracy"], [("a",)], ["a"])
    assert problems(["f1"], LABELS) == ["the metric f1 needs exactly two labels, found 3; take macro_f1"]
    assert len(problems(["matthews", "macro_f1", "exact_match"], ())) == 2
    assert problems(list(METRICS), ("n", "p")) == []


def test_the_bootstrap_interval_of_rows_agrees_with_scipy_and_the_normal_one():
    correct = np.random.default_rng(1).random(400) < 0.85
    low, high = bootstrap_interval(correct)
    reference = stats.bootstrap((correct,), np.mean, n_resamples=2000, method="percentile", rng=0).confidence_interval
    assert (low, high) == pytest.approx((100 * reference.low, 100 * reference.high), abs=0.6)
    half = 196 * math.sqrt(0.85 * 0.15 / 400)
    assert high - low == pytest.approx(2 * half, rel=0.12)


def test_the_interval_is_deterministic_and_certain_rows_have_none():
    correct = [0, 1, 1, 0, 1]
    assert bootstrap_interval(correct, seed=3) == bootstrap_interval(correct, seed=3)
    assert bootstrap_interval(correct, seed=3) != bootstrap_interval(np.tile(correct, 5), seed=3)
    assert bootstrap_interval([1, 1, 1]) == (100.0, 100.0)
    assert bootstrap_interval([[0, 0], [0, 0]]) == (0.0, 0.0)


def test_seeds_that_disagree_widen_the_interval_and_seeds_that_agree_do_not():
    rows = np.random.default_rng(2).random(200) < 0.7
    agree = bootstrap_interval(np.stack([rows, rows, rows]))
    alone = bootstrap_interval(rows)
    assert agree[1] - agree[0] == pytest.approx(alone[1] - alone[0], rel=0.15)
    disagree = np.stack([np.ones(200), np.zeros(200), rows])
    low, high = bootstrap_interval(disagree)
    assert high - low > 2 * (alone[1] - alone[0])
    assert low <= 100 * disagree.mean() <= high


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_interval(rng.random(100) < 0.6, resamples=300)
        hits += low <= 60 <= high
    assert 180 <= hits <= 199


@pytest.mark.parametrize("empty", [[], [[]], np.zeros((2, 2, 2))])
def test_no_interval_without_rows(empty):
    with pytest.raises(TaskError, match=r"no interval: expected scores of \[rows\] or \[seeds, rows\]"):
        bootstrap_interval(empty)


def test_the_nested_interval_is_that_of_all_draws():
    scores = {"a": [50.0, 52.0], "b": [80.0, 83.0], "c": [60.0, 66.0, 61.5]}
    chances: dict[float, float] = defaultdict(float)
    for drawn in itertools.product(scores.values(), repeat=3):
        means = [[fmean(draw) for draw in itertools.product(values, repeat=len(values))] for values in drawn]
        for three in itertools.product(*means):
            chances[fmean(three)] += 1 / 27 / math.prod(map(len, means))
    values = sorted(chances)
    reached = np.cumsum([chances[value] for value in values])
    assert reached[-1] == pytest.approx(1)
    exact = [values[int(np.searchsorted(reached, share))] for share in (0.025, 0.975)]
    groups = [name for name, members in scores.items() for _ in members]
    flat = [value for members in scores.values() for value in members]
    assert nested_bootstrap_interval(flat, groups, resamples=40_000) == pytest.approx(tuple(exact), abs=0.3)
    assert nested_bootstrap_interval(flat, groups) == nested_bootstrap_interval(flat, groups)
    assert nested_bootstrap_interval(flat, groups, seed=1) != nested_bootstrap_interval(flat, groups)


def test_the_nested_interval_draws_groups_and_then_their_scores():
    # Of one group only its scores are drawn; of groups with one score each only these.
    assert nested_bootstrap_interval([7.0, 7.0], ["a", "a"]) == (7.0, 7.0)
    assert nested_bootstrap_interval([0.0, 10.0], ["a", "b"]) == (0.0, 10.0)
    many = nested_bootstrap_interval([0.0] * 50 + [10.0] * 50, ["a"] * 50 + ["b"] * 50)
    assert many == (0.0, 10.0)  # as many scores as one likes: it is two groups
    with pytest.raises(TaskError, match="no interval: expected at least one score with its group"):
        nested_bootstrap_interval([], [])


def test_relative_error_reduction():
    assert relative_error_reduction(90, 80) == pytest.approx(50)
    assert relative_error_reduction(70, 80) == pytest.approx(-50)
    assert relative_error_reduction(80, 80) == 0
    assert relative_error_reduction(100, 100) == 0
    assert relative_error_reduction(99, 100) == -math.inf


def test_importing_metrics_imports_no_heavy_package():
    heavy = ("sklearn", "scipy", "numpy", "torch")
    code = f"import sys, spot.metrics.scores; print([name for name in {heavy} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"
