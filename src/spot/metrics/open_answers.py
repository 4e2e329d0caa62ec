"""Score open answers in percent: what a model wrote, compared with the accepted texts of each row.

The packages that count n-grams are imported on first use.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from spot.errors import MissingExtra, TaskError
from spot.metrics.predicted_rows import PredictedRows

# Words that a referent may lack or have: the list of T5's `wsc_simple`.
_DETERMINERS = frozenset(
    "a an few her his each every many much my our some that the their these this those which whose your".split()
)
_SENTENCE_MARKS = re.compile(r"(?<=\w)([.,;:!?]+)(?=\s|$)")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_TRUTH = {"False": False, "True": True}


def exact_match(rows: PredictedRows) -> dict[str, float]:
    """Share of the rows whose prediction equals an answer but for case, spacing and the form of its letters in Unicode.

    Every other sign counts: `-5` is not `5`, `1.5` not `15`, `C++` not `C`, and an empty prediction is no answer.
    """
    return {"exact_match": _mean(_best(_same, rows, _plain_words))}


def token_f1(rows: PredictedRows) -> dict[str, float]:
    """Mean over the rows of the best F1 between the words of the prediction and of an answer, see `exact_match`.

    Words stand between blanks; marks that end a sentence or a part of one, behind a word, are words of their own.
    """
    return {"token_f1": _mean(_best(_overlap, rows, _marked_words))}


def squad(rows: PredictedRows) -> dict[str, float]:
    """SQuAD's exact match and word F1: case, punctuation and the articles a, an and the do not count (SQuAD 2).

    Of texts without any other word F1 is 1 if both are so.
    """
    return {"exact_match": _mean(_best(_same, rows, _words)), "token_f1": _mean(_best(_overlap, rows, _words))}


def record(rows: PredictedRows) -> dict[str, float]:
    """ReCoRD's exact match and word F1, each the best over the references of a query (SuperGLUE).

    Both are those of SQuAD 1.1, in which texts that share no word have an F1 of 0 even where both have none. Each row
    is one query with all its references.
    """
    em = _best(_same, rows, _words)
    f1 = _best(lambda answer, prediction: _overlap(answer, prediction) if prediction else 0.0, rows, _words)
    return {"em": _mean(em), "f1": _mean(f1)}


def wsc_accuracy(rows: PredictedRows) -> dict[str, float]:
    """Share of the rows where naming the referent, or not naming it, agrees with the label (T5's `wsc_simple`).

    An empty prediction is always wrong.

    Args:
        rows: answers (referent, "True" or "False"), and predictions of what the pronoun stands for, free text.

    Raises:
        TaskError: a row's answers have another form.
    """
    hits = []
    for number, (accepted, prediction) in enumerate(rows.pairs(), start=1):
        if len(accepted) != 2 or accepted[1] not in _TRUTH:
            raise TaskError(
                f"row {number}: found the answers {accepted!r}, but the metric wsc_accuracy needs a referent and then "
                "'True' or 'False'. Choose another metric for this task."
            )
        hits.append(refers(prediction, accepted[0]) is _TRUTH[accepted[1]])
    return {"accuracy": _mean(hits)}


def refers(prediction: str, referent: str) -> bool | None:
    """Whether a free prediction names a referent, by the rule of T5's `wsc_simple`.

    Case and determiners don't count; the words of one must all be among those of the other, and a possessive never
    names what is none.

    Args:
        prediction: such as `fuzzy bunny`.
        referent: such as `The bunny`.

    Returns:
        None for a prediction without words, which is wrong under either label.
    """
    predicted, meant = _bare(prediction), _bare(referent)
    if not predicted:
        return None
    if ("'" in predicted) != ("'" in meant):
        return False
    predicted_words, meant_words = set(predicted.split(" ")), set(meant.split(" "))
    return predicted_words <= meant_words or meant_words <= predicted_words


def rouge(rows: PredictedRows) -> dict[str, float]:
    """Mean F of ROUGE-1, ROUGE-2 and ROUGE-L over the rows, each the best over a row's references, without stemming.

    As in T5, ROUGE-L is the summary-level `rougeLsum` with a sentence ending at " . ", equal to `rougeL` on texts of
    one sentence. T5 reports the middle of a bootstrap of these means, which differs in the second decimal.

    Raises:
        MissingExtra: rouge-score is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise _needs("rouge-score", "rouge") from error
    kinds = ["rouge1", "rouge2", "rougeLsum"]
    scorer = RougeScorer(kinds)
    values = [
        scorer.score_multi([_sentences(answer) for answer in accepted], _sentences(prediction))
        for accepted, prediction in rows.pairs()
    ]
    return {kind: _mean([float(value[kind].fmeasure) for value in values]) for kind in kinds}


def bleu(rows: PredictedRows) -> dict[str, float]:
    """BLEU of all rows together against all their references, by sacreBLEU with T5's settings.

    These are exponential smoothing, case kept, and the tokenizer `intl`.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    try:
        from sacrebleu import corpus_bleu
    except ImportError as error:
        raise _needs("sacrebleu", "bleu") from error
    most = max(map(len, rows.answers))
    # The n-th list holds the n-th reference of each row, None where a row has fewer; sacreBLEU's types lack the None.
    references: list[list[Any]] = [
        [accepted[place] if place < len(accepted) else None for accepted in rows.answers] for place in range(most)
    ]
    result = corpus_bleu(list(rows.predictions), references, smooth_method="exp", tokenize="intl", force=True)
    return {"bleu": float(result.score)}


def _best(
    measure: Callable[[list[str], list[str]], float], rows: PredictedRows, words: Callable[[str], list[str]]
) -> list[float]:
    """For each row the best of a measure of words over its answers; 0 for a row without any."""
    return [
        max((measure(words(answer), words(prediction)) for answer in accepted), default=0.0)
        for accepted, prediction in rows.pairs()
    ]


def _plain_words(text: str) -> list[str]:
    """What stands between blanks, without difference of case or of the form of a letter in Unicode."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split()


def _marked_words(text: str) -> list[str]:
    """Words as `_plain_words` has them, with the marks behind a word apart."""
    return _plain_words(_SENTENCE_MARKS.sub(r" \1", text))


def _words(text: str) -> list[str]:
    """SQuAD's normalisation: lower case, no punctuation, no articles, split at blanks."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def _same(answer: list[str], prediction: list[str]) -> float:
    return float(answer == prediction)


def _overlap(answer: list[str], prediction: list[str]) -> float:
    """F1 of two bags of words; where either is empty, 1 if both are."""
    if not answer or not prediction:
        return float(answer == prediction)
    shared = sum((Counter(answer) & Counter(prediction)).values())
    return 2 * shared / (len(answer) + len(prediction))


def _bare(text: str) -> str:
    """A referent in lower case without determiners; single blanks part its words, as in T5."""
    return " ".join(word for word in text.strip().lower().split(" ") if word not in _DETERMINERS)


def _sentences(text: str) -> str:
    """A text with a line for each sentence, which is how the summary-level ROUGE-L finds them."""
    return text.replace(" . ", " .\n")


def _mean(values: Sequence[Any]) -> float:
    """The mean in percent."""
    return 100 * float(sum(values)) / len(values)


def _needs(package: str, metric: str) -> MissingExtra:
    return MissingExtra(
        f"the metric {metric} needs the package {package}, which is not installed: pip install 'spot-transfer[metrics]'"
    )
