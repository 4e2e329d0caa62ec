"""An arm has a name in words, and a difference its interval."""

from dataclasses import replace

import pytest

from spot.strategies.arms import BASELINES, Difference, by_selection
from tests.support.toy_arms import FROZEN, PLAIN, SPOT


@pytest.mark.parametrize(
    ("arm", "title"),
    [
        (FROZEN, "the frozen model without a prompt"),
        (PLAIN, "plain prompt tuning from words of the vocabulary"),
        (replace(PLAIN, arm="plain:classes"), "plain prompt tuning from the class names"),
        (replace(PLAIN, arm="plain:text:Say yes: or no."), "plain prompt tuning from the words 'Say yes: or no.'"),
        (SPOT, "SPoT from red"),
        (replace(SPOT, source="scratch 1"), "a further start from scratch"),
        (replace(SPOT, arm="source"), "the prompt of red as it is"),
        (replace(FROZEN, arm="tfidf"), "TF-IDF and logistic regression"),
    ],
)
def test_an_arm_has_a_name_in_words(arm, title):
    assert arm.title == title and arm.is_prompt == (arm.arm not in BASELINES)
    assert arm.name == title[:1].upper() + title[1:]


def test_of_arms_that_select_alike_what_trained_less_comes_first():
    plain = replace(PLAIN, selection=88.0, tokens=100, bytes=200)
    spot = replace(SPOT, selection=88.0, tokens=176, bytes=100)
    tfidf = replace(FROZEN, arm="tfidf", selection=87.9, tokens=0, bytes=10)
    assert by_selection([tfidf, spot, plain]) == [plain, spot, tfidf]


def test_a_difference_says_whether_its_interval_is_on_one_side_of_zero():
    above, below = (
        Difference(arm="a", against="b", points=points, interval=interval)
        for points, interval in ((2.0, (0.1, 4.0)), (-2.0, (-4.0, -0.1)))
    )
    assert (above.is_above, above.is_below, below.is_above, below.is_below) == (True, False, False, True)
    assert str(above) == "+2.0 points (95 % interval +0.1 to +4.0)"
