"""Answer every row alike, with what most training rows have: the least that any arm must pass."""

import math
import time
from collections import Counter

from spot.baselines.arms import Fitted, Terms, check_answers, selection_rank
from spot.evaluation.predictions import Prediction


def fit_constant(terms: Terms) -> Fitted:
    """The most frequent answer; of equally frequent ones the first in the order of the labels, else of the rows.

    Raises:
        Unsuitable: the rows have no answers.
    """
    check_answers("constant", terms.task)
    began = time.perf_counter()
    counts = Counter(dict.fromkeys(terms.task.labels, 0))
    counts.update(row.answers[0] for row in terms.train)
    [(answer, _)] = counts.most_common(1)
    labels = terms.task.labels
    logs = [math.log((counts[label] + 1) / (len(terms.train) + len(labels))) for label in labels]
    prediction = Prediction(answer, tuple(logs), labels)
    selection, _ = selection_rank(terms, [prediction] * len(terms.selection))
    return Fitted(
        name="constant",
        setting={"answer": answer},
        selection=selection,
        seconds=time.perf_counter() - began,
        parameters=0,
        shipped=len(answer.encode()),
        beside="nothing",
        answer=lambda rows: [prediction] * len(rows),
    )
