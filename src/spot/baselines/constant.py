"""Answer every row alike, with what does best on the training rows: the least that any arm must pass."""

import math
import time
from collections import Counter
from collections.abc import Sequence

from spot.baselines.arms import Fitted, Learned, Terms, check_answers, selection_rank
from spot.evaluation.predictions import Prediction
from spot.evaluation.scoring import score_predictions
from spot.tasks.task import Example, Task

MOST_TRIED = 20  # labels, the most frequent ones


def best_constant(task: Task, rows: Sequence[Example]) -> str:
    """The label that, as the answer to every row, scores best; of open answers the most frequent one.

    By accuracy that is the most frequent label, by the F1 of a rare class that class. Of equally good ones it is the
    more frequent, then the first in the order of the labels.
    """
    counts = Counter(dict.fromkeys(task.labels, 0))
    counts.update(row.answers[0] for row in rows)
    answers = [answer for answer, _ in counts.most_common(MOST_TRIED)]
    if not task.labels:
        return answers[0]
    return max(answers, key=lambda answer: score_predictions(task, rows, [Prediction(answer)] * len(rows)).primary)


def fit_constant(terms: Terms) -> Fitted:
    """The answer that does best on the training rows, see `best_constant`.

    Raises:
        Unsuitable: the rows have no answers.
    """
    check_answers("constant", terms.task)
    began = time.perf_counter()
    counts = Counter(dict.fromkeys(terms.task.labels, 0))
    counts.update(row.answers[0] for row in terms.train)
    answer = best_constant(terms.task, terms.train)
    labels = terms.task.labels
    logs = [math.log((counts[label] + 1) / (len(terms.train) + len(labels))) for label in labels]
    prediction = Prediction(answer, tuple(logs), labels)
    selection, _ = selection_rank(terms, [prediction] * len(terms.selection))
    learned = Learned(
        name="constant",
        setting={"answer": answer},
        selection=selection,
        seconds=time.perf_counter() - began,
        parameters=0,
        shipped=len(answer.encode()),
        beside="nothing",
    )
    return Fitted(learned, lambda rows: [prediction] * len(rows))
