"""Scores of predictions in percent, intervals, and the relative error reduction between two scores.

A prediction that is no label counts as wrong in every metric. Where official definitions exist (GLUE,
SuperGLUE, SQuAD) these are followed; scikit-learn and scipy, imported on first use, do the statistics.
"""

import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

from spot.errors import TaskError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Answers = Sequence[tuple[str, ...]]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_INVALID = "\0invalid"  # stands for all predictions that are no label; no label holds a NUL


class Metric(Protocol):
    """Answers and predictions of some rows -> named scores in percent."""

    def __call__(
        self, answers: Answers, predictions: Sequence[str], groups: Sequence[str], labels: Sequence[str]
    ) -> dict[str, float]:
        """Score rows.

        Args:
            answers: the accepted answers of each row; metrics over classes take the first.
            predictions: one a row.
            groups: one a row, empty for no group.
            labels: the label words, empty for open answers.
        """
        ...


def accuracy(
    answers: Answers, predictions: Sequence[str], groups: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """Share of the rows whose prediction is one of their answers, letter for letter."""
    return {"accuracy": _percent([said in accepted for accepted, said in zip(answers, predictions, strict=True)])}


def f1(answers: Answers, predictions: Sequence[str], groups: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """F1 of the last of two labels; an invalid prediction becomes the wrong one of the two, as in T5."""
    from sklearn.metrics import f1_score

    positive = labels[-1]
    gold = [accepted[0] == positive for accepted in answers]
    said = [text == positive if text in labels else not true for text, true in zip(predictions, gold, strict=True)]
    return {"f1": 100 * float(f1_score(gold, said, zero_division=0))}


def macro_f1(
    answers: Answers, predictions: Sequence[str], groups: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """Mean F1 of the labels that occur among the answers or the predictions, each label counting the same."""
    from sklearn.metrics import f1_score

    gold, said = _classes(answers, predictions, labels)
    present = [label for label in labels if label in {*gold, *said}]
    return {"macro_f1": 100 * float(f1_score(gold, said, labels=present, average="macro", zero_division=0))}


def matthews(
    answers: Answers, predictions: Sequence[str], groups: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """Matthews' correlation, times 100; invalid predictions are a class of their own, as in T5.

    It is 0 where all answers or all predictions are the same.
    """
    from sklearn.metrics import matthews_corrcoef

    gold, said = _classes(answers, predictions, labels)
    if len(set(gold)) < 2 or len(set(said)) < 2:
        return {"matthews": 0.0}
    return {"matthews": 100 * float(matthews_corrcoef(gold, said))}


def exact_match(
    answers: Answers, predictions: Sequence[str], groups: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """Share of the rows whose prediction equals an answer after SQuAD's normalisation."""
    hits = [
        _plain(said) in {_plain(answer) for answer in accepted}
        for accepted, said in zip(answers, predictions, strict=True)
    ]
    return {"exact_match": _percent(hits)}


def token_f1(
    answers: Answers, predictions: Sequence[str], groups: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """Mean over the rows of the best F1 between the words of the prediction and of an answer, as in SQuAD."""
    rows = [
        max((_overlap(_plain(answer).split(), _plain(said).split()) for answer in accepted), default=0.0)
        for accepted, said in zip(answers, predictions, strict=True)
    ]
    return {"token_f1": _percent(rows)}


def pearson_spearman(
    answers: Answers, predictions: Sequence[str], groups: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """Both correlations of numbers written as text, times 100.

    A prediction that is no number becomes the end of the answers' range that is farther from its row's
    answer. Both are 0 where all answers or all predictions are the same.

    Raises:
        TaskError: an answer is no number.
    """
    from scipy.stats import pearsonr, spearmanr

    read = [_number(accepted[0]) for accepted in answers]
    gold = [number for number in read if number is not None]
    if len(gold) < len(read):
        raise TaskError(
            f"row {read.index(None) + 1}: the answer {answers[read.index(None)][0]!r} is no number, which the metric "
            "pearson_spearman needs. Choose another metric for this task."
        )
    low, high = min(gold), max(gold)
    said = [
        found if (found := _number(text)) is not None else (low if true - low > high - true else high)
        for text, true in zip(predictions, gold, strict=True)
    ]
    return {"pearson": _correlation(pearsonr, gold, said), "spearman": _correlation(spearmanr, gold, said)}


METRICS: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "exact_match": exact_match,
    "token_f1": token_f1,
    "pearson_spearman": pearson_spearman,
}


def problems(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """What stands in the way of scoring rows with these labels by these metrics, one sentence each."""
    found = []
    for name in names:
        if name not in METRICS:
            found.append(f"no metric {name!r}; {did_you_mean(name, METRICS)}")
        elif name == "f1" and len(labels) != 2:
            found.append(f"the metric f1 needs exactly two labels, found {len(labels)}; take macro_f1")
        elif name in ("macro_f1", "matthews") and not labels:
            found.append(f"the metric {name} needs labels; for open answers take exact_match or token_f1")
    return found


def score(
    names: Sequence[str],
    answers: Answers,
    predictions: Sequence[str],
    groups: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> dict[str, float]:
    """Score rows by several metrics.

    Args:
        names: keys of METRICS.
        answers: the accepted answers of each row.
        predictions: one a row.
        groups: one a row; empty where the rows have none.
        labels: the label words, empty for open answers; the last of two is the positive one.

    Returns:
        Named scores in percent, in the order of `names`.

    Raises:
        TaskError: a metric is unknown or does not fit the labels, or there are no rows.
    """
    if found := problems(names, labels):
        raise TaskError("; ".join(found))
    assert len(answers) == len(predictions), f"{len(answers)} answers, {len(predictions)} predictions"
    if not answers:
        raise TaskError("no rows to score: expected at least one row with its answer.")
    groups = groups or [""] * len(answers)
    return {key: value for name in names for key, value in METRICS[name](answers, predictions, groups, labels).items()}


def primary(scores: Mapping[str, float]) -> float:
    """The one number that stands for several scores, in percent: their mean."""
    if not scores:
        raise TaskError("no scores: expected at least one metric.")
    return sum(scores.values()) / len(scores)


def bootstrap_interval(correct: "ArrayLike", resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval (percentiles) of a mean over rows, or over seeds and rows.

    With several seeds both are drawn anew: the rows that all seeds share, and the seeds. So the interval
    covers which rows were asked and how a run's luck changed the prompt.

    Args:
        correct: [rows] or [seeds, rows], each row's score in [0, 1], such as right or wrong.
        resamples: how many means are drawn.
        seed: of the draws.

    Returns:
        The two ends, in percent.

    Raises:
        TaskError: there are no rows.
    """
    import numpy as np

    values = np.atleast_2d(np.asarray(correct, dtype=np.float64))
    if not values.size or values.ndim > 2:
        raise TaskError(f"no interval: expected scores of [rows] or [seeds, rows], found shape {list(values.shape)}.")
    seeds, rows = values.shape
    draws = np.random.default_rng(seed)
    means = np.empty(resamples)
    for number in range(resamples):
        taken = values[:, draws.integers(rows, size=rows)].mean(axis=1)
        means[number] = taken[draws.integers(seeds, size=seeds)].mean()
    low, high = np.percentile(means, [2.5, 97.5])
    return 100 * float(low), 100 * float(high)


def relative_error_reduction(transfer: float, baseline: float) -> float:
    """By which share of the baseline's error the transfer lowers it, in percent; negative when it raises it.

    Args:
        transfer: score in percent.
        baseline: score in percent.

    Returns:
        100 (transfer - baseline) / (100 - baseline). A baseline without error has none to lower: 0 for an
        equal transfer, minus infinity for a worse one.
    """
    if baseline >= 100:
        return 0.0 if transfer >= baseline else float("-inf")
    return 100 * (transfer - baseline) / (100 - baseline)


def _percent(values: Sequence[float]) -> float:
    """The mean in percent."""
    return 100 * sum(values) / len(values)


def _classes(answers: Answers, predictions: Sequence[str], labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """First answers and predictions, every prediction that is no label replaced by one word for all of them."""
    known = set(labels)
    return [accepted[0] for accepted in answers], [said if said in known else _INVALID for said in predictions]


def _plain(text: str) -> str:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def _overlap(answer: list[str], said: list[str]) -> float:
    """F1 of two bags of words; where one is empty, 1 if both are."""
    if not answer or not said:
        return float(answer == said)
    shared = sum((Counter(answer) & Counter(said)).values())
    return 2 * shared / (len(answer) + len(said))


def _correlation(measure: Callable[..., Any], gold: list[float], said: list[float]) -> float:
    """A correlation times 100; 0 where it is undefined, which the caller's docstring says instead of a warning."""
    if len(set(gold)) < 2 or len(set(said)) < 2:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = 100 * float(measure(gold, said).statistic)
    return value if isfinite(value) else 0.0


def _number(text: str) -> float | None:
    """A finite number that the text spells, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None
