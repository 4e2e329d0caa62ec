"""Score predictions in percent, put intervals on scores, and reduce two scores to a relative error reduction.

A prediction that is no label counts as wrong in every metric. Where official definitions exist (GLUE,
SuperGLUE, SQuAD) these are followed; scikit-learn and scipy, imported on first use, do the statistics. Metrics of
open answers stand in `spot.metrics.open_answers`.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from spot.errors import TaskError, did_you_mean
from spot.metrics.open_answers import bleu, exact_match, record, rouge, squad, token_f1, wsc_accuracy
from spot.metrics.predicted_rows import Answers, Metric, PredictedRows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# The eight tasks of each benchmark's average: WNLI and the diagnostic sets are left out (SPoT, footnote 4).
GLUE = tuple(f"glue/{name}" for name in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"))
SUPERGLUE = tuple(f"superglue/{name}" for name in ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc"))

# How digests spell metrics whose rules or names are not those of the first version, which they name by the others.
_SPELLED = {"exact_match": ("exact_match 2",), "token_f1": ("token_f1 2",), "squad": ("exact_match", "token_f1")}

_INVALID = "\0invalid"  # stands for all predictions that are no label; no label holds a NUL
_ZERO: dict[str, Any] = {"zero_division": 0}  # as one value, because scikit-learn's types know its default alone
_OF_ONE_CLASS = {"f1": "f1", "multirc": "f1a"}  # metric -> its score that is of the positive class alone


def accuracy(rows: PredictedRows) -> dict[str, float]:
    """Share of the rows whose prediction is one of their answers, letter for letter."""
    return {"accuracy": _percent([text in accepted for accepted, text in rows.pairs()])}


def f1(rows: PredictedRows) -> dict[str, float]:
    """F1 of the positive one of two labels; an invalid prediction becomes the wrong one of the two, as in T5."""
    from sklearn.metrics import f1_score

    answers = [label == rows.positive for label in rows.classes()]
    predictions = [
        text == rows.positive if text in rows.labels else not answer
        for text, answer in zip(rows.predictions, answers, strict=True)
    ]
    return {"f1": 100 * float(f1_score(answers, predictions, **_ZERO))}


def macro_f1(rows: PredictedRows) -> dict[str, float]:
    """Mean F1 of the labels that occur among the answers or the predictions, each label counting the same."""
    from sklearn.metrics import f1_score

    answers, predictions = rows.classes(), _classes(rows)
    present = [label for label in rows.labels if label in {*answers, *predictions}]
    return {"macro_f1": 100 * float(f1_score(answers, predictions, labels=present, average="macro", **_ZERO))}


def multirc(rows: PredictedRows) -> dict[str, float]:
    """MultiRC's F1 of the answers that are right, over all of them, and the share of questions all right (SuperGLUE).

    Rows of one group are the answers to one question. An invalid prediction becomes the wrong one of the two labels.

    Raises:
        TaskError: a row has no group.
    """
    if "" in rows.groups:
        raise TaskError(
            f"row {list(rows.groups).index('') + 1} has no group: the metric multirc needs the question that each row "
            "answers. Choose f1 for rows that stand alone."
        )
    right: dict[str, bool] = defaultdict(lambda: True)
    for (accepted, text), group in zip(rows.pairs(), rows.groups, strict=True):
        right[group] &= text in accepted
    return {"f1a": f1(rows)["f1"], "em": _percent(list(right.values()))}


def matthews(rows: PredictedRows) -> dict[str, float]:
    """Matthews' correlation, times 100; invalid predictions are a class of their own, as in T5.

    It is 0 where all answers or all predictions are the same.
    """
    from sklearn.metrics import matthews_corrcoef

    answers, predictions = rows.classes(), _classes(rows)
    if len(set(answers)) < 2 or len(set(predictions)) < 2:
        return {"matthews": 0.0}
    return {"matthews": 100 * float(matthews_corrcoef(answers, predictions))}


def pearson_spearman(rows: PredictedRows) -> dict[str, float]:
    """Both correlations of numbers written as text, times 100.

    A prediction that is no number becomes the end of the answers' range that is farther from its row's
    answer. Both are 0 where all answers or all predictions are the same.

    Raises:
        TaskError: an answer is no number.
    """
    from scipy.stats import pearsonr, spearmanr

    answers = []
    for row, accepted in enumerate(rows.answers, start=1):
        if (answer := _number(accepted[0])) is None:
            raise TaskError(
                f"row {row}: the answer {accepted[0]!r} is no number, which the metric pearson_spearman needs. Choose "
                "another metric for this task."
            )
        answers.append(answer)
    low, high = min(answers), max(answers)
    predictions = [
        number if (number := _number(text)) is not None else (low if answer - low > high - answer else high)
        for text, answer in zip(rows.predictions, answers, strict=True)
    ]
    return {
        "pearson": _correlation(pearsonr, answers, predictions),
        "spearman": _correlation(spearmanr, answers, predictions),
    }


def likelihood(rows: PredictedRows) -> dict[str, float]:
    """The metric of raw text, which is read from the loss and not from predictions.

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
    "squad": squad,
    "pearson_spearman": pearson_spearman,
    "multirc": multirc,
    "record": record,
    "wsc_accuracy": wsc_accuracy,
    "rouge": rouge,
    "bleu": bleu,
    "likelihood": likelihood,
}


def problems(names: Sequence[str], labels: Sequence[str], positive: str | None = None) -> list[str]:
    """What stands in the way of scoring rows by these metrics.

    Args:
        names: of metrics.
        labels: the label words, empty for open answers.
        positive: the label that f1 is of, empty where the task names none; None where the order of the labels says
            it, as in the tables of the benchmarks: the last of two is the positive one.

    Returns:
        One sentence each, without a full stop.
    """
    reasons = []
    for name in names:
        if name not in METRICS:
            reasons.append(f"no metric {name!r}; {did_you_mean(name, METRICS)}")
        elif name in _OF_ONE_CLASS and len(labels) != 2:
            reasons.append(f"the metric {name} needs exactly two labels, found {len(labels)}; take macro_f1")
        elif name in _OF_ONE_CLASS and positive == "":
            choice = " or ".join(f'positive = "{label}"' for label in labels)
            reasons.append(f"the metric {name} needs to know which class it is of: write {choice}, or take macro_f1")
        elif name in ("macro_f1", "matthews") and not labels:
            reasons.append(f"the metric {name} needs labels; for open answers take exact_match or token_f1")
    if positive and not labels:
        reasons.append(f"positive is {positive!r}, but open answers have no classes: leave it out")
    elif positive and positive not in labels:
        reasons.append(f"positive is {positive!r}, which is no label; {did_you_mean(positive, labels)}")
    return reasons


def spelled_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """The metrics as digests spell them: one whose rules changed has another word, so that no old score is reused."""
    return tuple(word for name in names for word in _SPELLED.get(name, (name,)))


def is_of_one_class(names: Sequence[str]) -> bool:
    """Whether some of these metrics score one class alone, so that a task must name it."""
    return any(name in _OF_ONE_CLASS for name in names)


def score_title(name: str, positive: str = "") -> str:
    """The name of a score as people read it, such as `f1 of 'equivalent'`.

    Args:
        name: of a score.
        positive: the label that f1 is of; empty where the task names none.
    """
    return f"{name} of {positive!r}" if positive and name in _OF_ONE_CLASS.values() else name


def score(
    names: Sequence[str],
    answers: Answers,
    predictions: Sequence[str],
    groups: Sequence[str] = (),
    labels: Sequence[str] = (),
    *,
    positive: str | None = None,
) -> dict[str, float]:
    """Score rows by several metrics.

    Args:
        names: keys of METRICS.
        answers: the accepted answers of each row.
        predictions: one a row.
        groups: one a row; empty where the rows have none.
        labels: the label words, empty for open answers.
        positive: the label that f1 is of; None for the last one, see `problems`.

    Returns:
        Named scores in percent, in the order of `names`.

    Raises:
        TaskError: a metric is unknown or does not fit the labels, or there are no rows.
    """
    if reasons := problems(names, labels, positive):
        raise TaskError("; ".join(reasons))
    assert len(answers) == len(predictions), f"{len(answers)} answers, {len(predictions)} predictions"
    if not answers:
        raise TaskError("no rows to score: expected at least one row with its answer.")
    if positive is None:
        positive = labels[-1] if labels else ""
    rows = PredictedRows(answers, predictions, groups or [""] * len(answers), labels, positive)
    return {key: percent for name in names for key, percent in METRICS[name](rows).items()}


def primary(scores: Mapping[str, float]) -> float:
    """The one number that stands for several scores, in percent: their mean."""
    if not scores:
        raise TaskError("no scores: expected at least one metric.")
    return sum(scores.values()) / len(scores)


def invalid(predictions: Sequence[str], labels: Sequence[str]) -> int:
    """How many predictions are no label; every metric over labels counts them as wrong.

    Args:
        predictions: of some rows.
        labels: the label words; without any, as for open answers, no prediction is invalid.
    """
    return sum(text not in labels for text in predictions) if labels else 0


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


def nested_bootstrap_interval(
    scores: "ArrayLike", groups: Sequence[str], resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % bootstrap interval (percentiles) of a mean over groups of means within them.

    Groups are drawn anew, then the scores within each, such as targets and then their seeds: other than in
    `bootstrap_interval`, groups share nothing, and each counts the same however many scores it has.

    Args:
        scores: [N], in any unit.
        groups: [N], of which group each is.
        resamples: how many means are drawn.
        seed: of the draws.

    Returns:
        The two ends, in the unit of the scores.

    Raises:
        TaskError: there are no scores.
    """
    import numpy as np

    values, names = np.asarray(scores, dtype=np.float64), np.asarray(groups)
    if not values.size:
        raise TaskError("no interval: expected at least one score with its group.")
    members = [values[names == name] for name in sorted(set(groups))]
    random = np.random.default_rng(seed)
    drawn = random.integers(len(members), size=(resamples, len(members)))
    means = np.empty(drawn.shape)
    for number, group in enumerate(members):
        places = drawn == number
        # A group that is drawn twice draws its scores twice.
        means[places] = group[random.integers(len(group), size=(int(places.sum()), len(group)))].mean(axis=1)
    low, high = np.percentile(means.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


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


def _classes(rows: PredictedRows) -> list[str]:
    """The predictions, every one that is no label replaced by one word for all of them."""
    labels = set(rows.labels)
    return [text if text in labels else _INVALID for text in rows.predictions]


def _correlation(measure: Callable[..., Any], answers: list[float], predictions: list[float]) -> float:
    """A correlation times 100; 0 where it is undefined, which the caller's docstring says instead of a warning."""
    if len(set(answers)) < 2 or len(set(predictions)) < 2:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = 100 * float(measure(answers, predictions).statistic)
    return value if isfinite(value) else 0.0


def _number(text: str) -> float | None:
    """A finite number that the text spells, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None
