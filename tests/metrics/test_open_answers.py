"""Scores of open answers and of answers that stand in groups, by hand and by the packages that define them."""

import builtins
import math
import re
import string
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer, scoring
from sklearn import metrics as sk

from spot.errors import MissingExtra, TaskError
from spot.metrics.open_answers import refers
from spot.metrics.scores import GLUE, METRICS, SUPERGLUE, glue_average, invalid, problems, score, superglue_average

TRUTH = ("False", "True")
WORDS = ("the", "fuzzy", "bunny", "Bob's", "hat", "A", "")


def multirc(rows, labels=TRUTH):
    """Scores of (question, answer, prediction) triples."""
    groups, answers, predictions = zip(*rows, strict=True)
    return score(["multirc"], [(answer,) for answer in answers], predictions, groups, labels)


# MultiRC.


def test_multirc_by_hand():
    rows = [
        ("0/0", "True", "True"),
        ("0/0", "False", "False"),  # all right
        ("0/1", "True", "False"),
        ("0/1", "True", "True"),
        ("0/1", "False", "False"),  # one missed
        ("1/1", "False", "True"),  # one too many; the same question number of another paragraph
    ]
    scores = multirc(rows)
    # 2 true positives, 1 false positive, 1 false negative; 1 of 3 questions.
    assert scores == {"f1a": pytest.approx(100 * 4 / 6), "em": pytest.approx(100 / 3)}
    assert multirc(rows[::-1]) == pytest.approx(scores)


@given(
    st.lists(
        st.tuples(st.sampled_from(["0/0", "0/1", "1/1"]), st.sampled_from(TRUTH), st.sampled_from((*TRUTH, "", "x"))),
        min_size=1,
        max_size=30,
    )
)
@settings(deadline=None)
def test_multirc_equals_its_definition(rows):
    predictions = [text if text in TRUTH else TRUTH[answer == "False"] for _, answer, text in rows]
    answers = [answer for _, answer, _ in rows]
    expected = 100 * sk.f1_score(answers, predictions, pos_label="True", zero_division=0)
    questions = defaultdict(list)
    for (group, answer, _), text in zip(rows, predictions, strict=True):
        questions[group].append(answer == text)
    scores = multirc(rows)
    assert scores["f1a"] == pytest.approx(expected)
    assert scores["em"] == pytest.approx(100 * np.mean([all(right) for right in questions.values()]))


def test_multirc_needs_groups_and_two_labels():
    with pytest.raises(TaskError, match="row 2 has no group: the metric multirc needs the question"):
        multirc([("0/0", "True", "True"), ("", "True", "True")])
    with pytest.raises(TaskError, match="row 1 has no group"):
        score(["multirc"], [("True",)], ["True"], labels=TRUTH)
    assert problems(["multirc"], ()) == ["the metric multirc needs exactly two labels, found 0; take macro_f1"]


# ReCoRD.


def squad(text):
    """SQuAD's normalisation, a step at a time."""
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def test_record_takes_the_best_reference():
    answers = [("Benazir Bhutto", "Bhutto"), ("U.S.", "the United States"), ("St_Louis",)]
    scores = score(["record"], answers, ["bhutto", "States", "St Louis"])
    # 1, 0, 0; 1, precision 1 and recall 1/2, no shared word.
    assert scores == {"em": pytest.approx(100 / 3), "f1": pytest.approx(100 * (1 + 2 / 3 + 0) / 3)}


def test_record_gives_no_f1_without_a_shared_word_as_squad_1_does():
    assert score(["record"], [("the",)], ["a"]) == {"em": 100, "f1": 0}
    assert score(["squad"], [("the",)], ["a"]) == {"exact_match": 100, "token_f1": 100}


@given(
    st.lists(
        st.tuples(
            st.lists(st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join), min_size=1, max_size=3),
            st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join),
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(deadline=None)
def test_record_equals_its_definition(rows):
    def overlap(answer, prediction):
        shared = sum((Counter(squad(answer)) & Counter(squad(prediction))).values())
        if not shared:
            return 0
        precision, recall = shared / len(squad(prediction)), shared / len(squad(answer))
        return 2 * precision * recall / (precision + recall)

    em = np.mean([max(squad(answer) == squad(prediction) for answer in accepted) for accepted, prediction in rows])
    f1 = np.mean([max(overlap(answer, prediction) for answer in accepted) for accepted, prediction in rows])
    scores = score(["record"], [tuple(accepted) for accepted, _ in rows], [prediction for _, prediction in rows])
    assert scores == {"em": pytest.approx(100 * em), "f1": pytest.approx(100 * f1)}


# WSC.


@pytest.mark.parametrize(
    ("prediction", "referent", "expected"),
    [
        ("bunny", "The fuzzy bunny", True),
        ("THE fuzzy bunny ", "bunny", True),
        ("fuzzy hat", "fuzzy bunny", False),
        ("Bob", "Bob's hat", False),
        ("Bob's", "Bob's hat", True),
        ("his hat", "her hat", True),
        ("anyone", "Bob", False),
        ("", "Bob", None),
        (" the ", "the bunny", None),
        ("Bob", "her", False),
    ],
)
def test_refers(prediction, referent, expected):
    assert refers(prediction, referent) is expected


def test_wsc_accuracy_compares_naming_the_referent_with_the_label():
    answers = [("the bunny", "True"), ("the bunny", "False"), ("Bob", "True"), ("Bob", "False"), ("Bob", "False")]
    predictions = ["fuzzy bunny", "fuzzy bunny", "Ann", "Ann", ""]
    assert score(["wsc_accuracy"], answers, predictions) == {"accuracy": pytest.approx(100 * 2 / 5)}


@pytest.mark.parametrize("answers", [("Bob",), ("Bob", "yes"), ("True", "Bob"), ("Bob", "True", "False"), ()])
def test_wsc_accuracy_refuses_other_answers(answers):
    with pytest.raises(TaskError, match=r"row 2: found the answers .* needs a referent and then 'True' or 'False'"):
        score(["wsc_accuracy"], [("Bob", "True"), answers], ["Bob", "Bob"])


# ROUGE and BLEU.


def test_rouge_by_hand():
    scores = score(["rouge"], [("the cat sat on the mat",)], ["the cat lay on a mat"])
    # 4 of 6 words on either side, 1 of 5 pairs, the cat on mat in order.
    assert scores == pytest.approx({"rouge1": 100 * 4 / 6, "rouge2": 100 / 5, "rougeLsum": 100 * 4 / 6})


def test_rouge_l_sums_over_sentences_as_t5_marks_them():
    # As one text the longest common subsequence is one sentence; sentence by sentence all words are found.
    answer, prediction = "cats sleep . dogs bark . end", "dogs bark . cats sleep . end"
    plain = rouge_scorer.RougeScorer(["rougeL"]).score(answer, prediction)["rougeL"].fmeasure
    assert 100 * plain == pytest.approx(60)
    assert score(["rouge"], [(answer,)], [prediction])["rougeLsum"] == pytest.approx(100)
    assert score(["rouge"], [("a b c",)], ["c a b"])["rougeLsum"] == pytest.approx(
        100 * rouge_scorer.RougeScorer(["rougeL"]).score("a b c", "c a b")["rougeL"].fmeasure
    )


def test_rouge_is_the_mean_that_t5_bootstraps():
    rng = np.random.default_rng(0)
    texts = [[" ".join(rng.choice(list("abcdef."), 9)) for _ in range(60)] for _ in range(2)]
    scores = score(["rouge"], [(answer,) for answer in texts[0]], texts[1])
    scorer = rouge_scorer.RougeScorer(list(scores))
    aggregator = scoring.BootstrapAggregator(n_samples=400)
    for answer, prediction in zip(*texts, strict=True):
        answer, prediction = (text.replace(" . ", " .\n") for text in (answer, prediction))
        aggregator.add_scores(scorer.score(target=answer, prediction=prediction))
    for name, interval in aggregator.aggregate().items():
        assert interval.low.fmeasure < scores[name] / 100 < interval.high.fmeasure
        assert scores[name] == pytest.approx(100 * interval.mid.fmeasure, abs=0.5)


def test_rouge_takes_the_best_reference_of_each_kind():
    assert score(["rouge"], [("x", "the cat")], ["the cat"])["rouge1"] == 100


def test_bleu_by_hand():
    answers = [("the cat sat on the mat",), ("it rained",)]
    # 6 + 0 words, 5, 4 and 3 longer n-grams agree, of 7, 5, 4 and 3; 7 words against 8: a brevity penalty.
    expected = 100 * (6 / 7) ** 0.25 * math.exp(1 - 8 / 7)
    assert score(["bleu"], answers, ["the cat sat on the mat", "snow"])["bleu"] == pytest.approx(expected)


def test_bleu_of_rows_with_unequal_numbers_of_references():
    first = "the cat sat on the mat"
    assert score(["bleu"], [(first,), ("a b c d", "e f g h")], [first, "e f g h"])["bleu"] == pytest.approx(100)
    assert score(["bleu"], [("a b c d", "e f g h"), (first,)], ["e f g h", first])["bleu"] == pytest.approx(100)


@pytest.mark.parametrize("prediction", ["", " ", "."])
def test_predictions_without_words_score_nothing(prediction):
    scores = score(["rouge", "bleu", "exact_match", "token_f1", "record"], [("the cat",)] * 3, [prediction] * 3)
    assert set(scores.values()) == {0.0} and len(scores) == 8
    assert set(score(["squad"], [("the cat",)], [prediction]).values()) == {0.0}


@pytest.mark.parametrize(("name", "package"), [("rouge", "rouge_score"), ("bleu", "sacrebleu")])
def test_a_missing_package_is_named_with_its_install_line(name, package, monkeypatch):
    real = builtins.__import__

    def without(module, *rest):
        if module.split(".")[0] == package:
            raise ImportError(module)
        return real(module, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=rf"the metric {name} needs .* pip install 'spot-transfer\[metrics\]'"):
        score([name], [("a",)], ["a"])


# What belongs to all metrics.


def test_invalid_predictions_are_counted():
    assert invalid(["True", "true", "", "False", "True "], TRUTH) == 3
    assert invalid(["anything", ""], ()) == 0
    assert invalid([], TRUTH) == 0


def test_likelihood_is_known_but_not_scored():
    assert problems(["likelihood"], ()) == [] == problems(["likelihood"], TRUTH)
    with pytest.raises(TaskError, match="the metric likelihood is read from a model's loss"):
        score(["likelihood"], [("a",)], ["a"])


@given(
    st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=5),
    st.sampled_from(["record", "rouge", "bleu", "exact_match", "token_f1", "squad"]),
)
@settings(deadline=None)
def test_any_text_gets_a_finite_percentage_and_itself_the_most(rows, name):
    answers = [(answer,) for answer, _ in rows]
    for predictions in ([text for _, text in rows], [answer for answer, _ in rows]):
        assert all(0 <= value <= 100 + 1e-9 for value in score([name], answers, predictions).values())
    if name in ("exact_match", "token_f1"):
        assert score([name], answers, [answer for answer, _ in rows]) == {name: 100}


def test_averages_are_means_of_the_tasks_means():
    scores = {name: {"accuracy": 10.0 * place} for place, name in enumerate(GLUE)}
    scores["glue/mrpc"] = {"f1": 90.0, "accuracy": 70.0}
    scores |= {"glue/wnli": {"accuracy": 0.0}, "glue/ax": {"matthews": 0.0}, "superglue/rte": {"accuracy": 0.0}}
    # 0, 10, 80, 30, 40, 50, 60, 70
    assert glue_average(scores) == pytest.approx(340 / 8)
    scores = {name: {"accuracy": 50.0} for name in SUPERGLUE}
    scores["superglue/record"] = {"em": 70.0, "f1": 74.0}
    assert superglue_average({**scores, "superglue/axb": {"matthews": 1.0}}) == pytest.approx((7 * 50 + 72) / 8)


def test_an_incomplete_average_names_what_is_missing():
    scores = {name: {"accuracy": 50.0} for name in GLUE if name != "glue/rte"}
    with pytest.raises(TaskError, match="no GLUE average: 2 of its 8 tasks have no score: glue/cola, glue/rte"):
        glue_average({**scores, "glue/cola": {}, "superglue/rte": {"accuracy": 1.0}})
    with pytest.raises(TaskError, match="no SuperGLUE average: 8 of its 8"):
        superglue_average(scores)


def test_importing_metrics_imports_none_of_their_packages():
    code = (
        "import sys, spot.metrics.scores; assert not {'rouge_score', 'sacrebleu', 'nltk', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(METRICS) >= {"multirc", "record", "wsc_accuracy", "rouge", "bleu", "likelihood"}
