"""Count words: TF-IDF of words, pairs of words and parts of words, and a logistic regression over them."""

import pickle
import time
from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion

from spot.baselines.arms import Fitted, Learned, Terms, Unsuitable, check_labels
from spot.baselines.logistic import fit_head
from spot.evaluation.predictions import Prediction
from spot.tasks.task import Example


def fit_tfidf(terms: Terms) -> Fitted:
    """Learn words and weights from the training rows; the selection rows choose C.

    Raises:
        Unsuitable: the task has no labels, the training rows are of one class, or hold no word.
    """
    check_labels("tfidf", terms)
    began = time.perf_counter()
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    vectoriser = FeatureUnion([("words", words), ("parts", parts)])
    try:
        train = vectoriser.fit_transform([row.inputs for row in terms.train])
    except ValueError as error:
        raise Unsuitable(f"tfidf: the training rows of {terms.task.name} hold no word ({error})") from error
    head = fit_head(terms, train, vectoriser.transform([row.inputs for row in terms.selection]))
    seconds = time.perf_counter() - began

    def answer(rows: Sequence[Example]) -> list[Prediction]:
        return head.answer(vectoriser.transform([row.inputs for row in rows]))

    learned = Learned(
        name="tfidf",
        setting={"C": head.strength},
        selection=head.rank[0],
        seconds=seconds,
        parameters=head.parameters,
        shipped=len(pickle.dumps((vectoriser, head.regression))),
        beside="scikit-learn",
    )
    return Fitted(learned, answer)
