"""Scores of predictions in percent, intervals, and the relative error reduction between two scores.

A prediction that is no label counts as wrong in every metric. Where official definitions exist (GLUE,
SuperGLUE, SQuAD) these are followed; scikit-learn and scipy, imported on first use, do the statistics. Metrics of
open answers stand in `spot.metrics.open_answers`.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

from spot.errors import TaskError, did_you_mean
from spot.metrics.open_answers import Answers, bleu, exact_match, record, rouge, token_f1, wsc_accuracy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# The eight tasks of each benchmark's average: WNLI and the diagnostic sets are left out (SPoT, footnote 4).
GLUE = tuple(f"glue/{name}" for name in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"))
SUPERGLUE = tuple(f"superglue/{name}" for name in ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc"))

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


def multirc(
    answers: Answers, predictions: Sequence[str], groups: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """MultiRC's F1 of the answers that are right, over all of them, and the share of questions all right (SuperGLUE).

    Rows of one group are the answers to one question. An invalid prediction becomes the wrong one of the two labels.

    Raises:
        TaskError: a row has no group.
    """
    if "" in groups:
        raise TaskError(
            f"row {list(groups).index('') + 1} has no group: the metric multirc needs the question that each row "
            "answers. Choose f1 for rows that stand alone."
        )
    right: dict[str, bool] = defaultdict(lambda: True)
    for accepted, said, group in zip(answers, predictions, groups, strict=True):
        right[group] &= said == accepted[0]
    return {"f1a": f1(answers, predictions, groups, labels)["f1"], "em": _percent(list(right.values()))}


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


def likelihood(
    answers: Answers, predictions: Sequence[str], groups: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """The metric of unlabelled text, which is read from the loss and not from predictions.

    Raises:
        TaskError: always.
    """
    raise TaskError(
        "the metric likelihood is read from a model's loss and cannot be computed from predictions: `spot evaluate` "
        "gives it. To score predicted texts choose exact_match, token_f1, rouge or bleu."
    )


METRICS: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "exact_match": exact_match,
    "token_f1": token_f1,
    "pearson_spearman": pearson_spearman,
    "multirc": multirc,
    "record": record,
    "wsc_accuracy": wsc_accuracy,
    "rouge": rouge,
    "bleu": bleu,
    "likelihood": likelihood,
}


def problems(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """What stands in the way of scoring rows with these labels by these metrics, one sentence each."""
    found = []
    for name in names:
        if name not in METRICS:
            found.append(f"no metric {name!r}; {did_you_mean(name, METRICS)}")
        elif name in ("f1", "multirc") and len(labels) != 2:
            found.append(f"the metric {name} needs exactly two labels, found {len(labels)}; take macro_f1")
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


def answer_class(accepted: Sequence[str], prediction: str) -> str:
    """The class that a row counts for: the accepted answer that was predicted, else the first accepted one."""
    return prediction if prediction in accepted else accepted[0]


def invalid(predictions: Sequence[str], labels: Sequence[str]) -> int:
    """How many predictions are no label; every metric over labels counts them as wrong.

    Args:
        predictions: of some rows.
        labels: the label words; without any, as for open answers, no prediction is invalid.
    """
    known = set(labels)
    return sum(said not in known for said in predictions) if known else 0


def glue_average(scores: Mapping[str, Mapping[str, float]]) -> float:
    """The GLUE score as in T5 and SPoT: the mean over eight tasks of each task's mean metric, in percent.

    Args:
        scores: task -> metric -> percent. WNLI, the diagnostic set and tasks of other benchmarks don't count.

    Raises:
        TaskError: one of the eight is missing.
    """
    return _average("GLUE", GLUE, scores)


def superglue_average(scores: Mapping[str, Mapping[str, float]]) -> float:
    """The SuperGLUE score: the mean over eight tasks of each task's mean metric, in percent.

    Args:
        scores: task -> metric -> percent. The diagnostic sets and tasks of other benchmarks don't count.

    Raises:
        TaskError: one of the eight is missing.
    """
    return _average("SuperGLUE", SUPERGLUE, scores)


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


def _average(title: str, tasks: Sequence[str], scores: Mapping[str, Mapping[str, float]]) -> float:
    """The mean of the tasks' means, if all are there."""
    if missing := [name for name in tasks if not scores.get(name)]:
        raise TaskError(
            f"no {title} average: {len(missing)} of its {len(tasks)} tasks have no score: {', '.join(missing)}. Score "
            "these, or report the tasks one by one."
        )
    return sum(primary(scores[name]) for name in tasks) / len(tasks)


def _percent(values: Sequence[float]) -> float:
    """The mean in percent."""
    return 100 * sum(values) / len(values)


def _classes(answers: Answers, predictions: Sequence[str], labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """Classes of rows and of predictions, every prediction that is no label replaced by one word for all of them."""
    words = set(labels)
    rows = [answer_class(accepted, text) for accepted, text in zip(answers, predictions, strict=True)]
    return rows, [text if text in words else _INVALID for text in predictions]


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
