"""What a comparison says in words follows the selection rows, and the report rows say how sure that is."""

from dataclasses import replace

import pytest

from spot.strategies.advice import advice, best_sentence, gain_sentence, warnings
from spot.strategies.arms import Arm, Difference
from tests.support.toy_arms import FROZEN, SPOT

CONSTANT = replace(FROZEN, arm="constant", selection=55.0, score=50.0, setting="answer = yes", interval=(40.0, 60.0))
TFIDF = replace(
    FROZEN, arm="tfidf", selection=90.0, score=85.0, seconds=3.0, bytes=40_000, beside="scikit-learn", setting="C = 1.0"
)
LORA = replace(TFIDF, arm="lora", selection=99.0, seconds=300.0, beside="a copy of the model")


def over(points: float, low: float, high: float, arm: str = "tfidf", against: str = "spot") -> Difference:
    return Difference(arm=arm, against=against, points=points, interval=(low, high))


def advised(best: Arm, rivalry: Difference | None = None, low: float = 5.0) -> str:
    arms = (CONSTANT, best, *(arm for arm in (TFIDF, SPOT) if arm.arm != best.arm))
    constant = {arm.arm: over(20.0, low, 30.0, arm.arm, "constant") for arm in arms[1:]}
    return advice(arms, constant, rivalry, prompt_file="best.safetensors")


def test_the_first_sentence_names_the_best_by_selection_rows_and_how_far_it_is_above_the_next():
    sentence = best_sentence((TFIDF, SPOT), over(5.0, -1.0, 11.0))
    assert sentence == (
        "TF-IDF and logistic regression is best by selection rows (90.0): 85.0 on report rows, +5.0 points (95 % "
        "interval -1.0 to +11.0) against the next, SPoT from red."
    )
    assert "both answer every row alike" in best_sentence((TFIDF, SPOT), replace(over(0, 0, 0), alike=True))


@pytest.mark.parametrize(
    ("best", "rivalry", "words"),
    [
        (
            TFIDF,
            over(9.0, 1.0, 17.0),
            ("use logistic regression: TF-IDF", "3 s to learn, 40.0 kB", "scikit-learn", "+9.0"),
        ),
        (TFIDF, over(1.0, -5.0, 7.0), ("undecided, and this is the cheaper of the two",)),
        (TFIDF, over(-9.0, -17.0, -1.0), ("report rows contradict the selection rows",)),
        (
            replace(SPOT, selection=95.0, seconds=100.0),
            over(-1.0, -5.0, 3.0),
            ("use the prompt best.safetensors: SPoT from red", "+1.0 points", "logistic regression is the cheaper of"),
        ),
        (
            replace(SPOT, selection=95.0),
            over(-9.0, -17.0, -1.0),
            ("that is +9.0 points (95 % interval +1.0 to +17.0).",),
        ),
        (
            LORA,
            over(1.0, 0.5, 7.0, arm="lora"),
            ("adapt the weights, if they may be: LoRA", "beside a copy of the model"),
        ),
        (replace(FROZEN, selection=99.0), None, ("no prompt: the frozen model as it is does best",)),
        (replace(SPOT, arm="source", selection=99.0), None, ("tune nothing: the prompt of red as it is",)),
        (replace(TFIDF, arm="icl", selection=99.0, setting="demonstrations = 8"), None, ("train nothing", "= 8")),
    ],
)
def test_the_recommendation_is_the_best_by_selection_rows_with_how_sure_that_is(best, rivalry, words):
    text = advised(best, rivalry)
    assert text.startswith("Recommendation: ") and all(part in text for part in words), text


def test_where_no_arm_passes_a_constant_answer_nothing_is_recommended():
    text = advised(TFIDF, over(9.0, 1.0, 17.0), low=-1.0)
    assert "none of these. No arm passes a constant answer here: always answer = yes has 50.0" in text


def test_few_report_rows_and_arms_below_a_constant_are_said():
    arms = (CONSTANT, replace(TFIDF, interval=(60.0, 98.0)))
    few = warnings(arms, {"tfidf": over(1.0, -3.0, 4.0)}, 26)
    assert "26 report rows are few: one of them is 3.8 points, and the interval of a score is up to 38 points" in few[0]
    assert few[1] == "No arm is clearly above a constant answer (answer = yes), which has 50.0."
    [below] = warnings(arms, {"tfidf": over(-2.0, -8.0, 4.0)}, 300)
    assert below.startswith("Every arm is at or below a constant answer")
    assert warnings(arms, {"tfidf": over(9.0, 3.0, 14.0)}, 300) == []


def test_a_gain_of_nothing_says_why_it_is_that():
    nothing = Difference(arm="spot", against="plain", points=0.0, interval=(0.0, 0.0), alike=True)
    assert "the plain run itself did best" in gain_sentence(nothing, "scratch", (), is_plain=True)
    assert "answers every report row as plain prompt tuning does" in gain_sentence(nothing, "red", (), is_plain=False)
    assert "is plain prompt tuning" in gain_sentence(None, None, (), is_plain=False)
