"""Write reading comprehension as text, and what the SPoT mixtures hold beyond GLUE and SuperGLUE.

Those are sets of inference, similarity and emotions. Questions on a text have T5's SQuAD form: every character that is
no ASCII letter, digit or underscore stands between blanks. Inference has the form of SPoT's own loaders, which make one
blank of each run of white space.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from spot.errors import TaskError
from spot.tasks.columns import Text
from spot.tasks.data_set import (
    ALIKE,
    FOLLOWS,
    FOLLOWS_THREE_WAY,
    SIMILARITIES,
    THREE_WAY,
    DataSet,
    Form,
    RawRow,
    either,
    keyed,
    rated_pair,
)

_MARK = re.compile(r"(\W)", re.ASCII)
_BLANKS = re.compile(r"[\t\n\f\r ]+")  # what the regular expressions of T5 (RE2) call white space


def spaced(text: str) -> str:
    """T5's text of questions, contexts and answers: marks between blanks, runs of white space made one blank."""
    return _collapsed(_MARK.sub(r" \1 ", text))


def question_form(question: str, context: str, answers: Sequence[str]) -> Text:
    """T5's SQuAD form.

    The answer trained on is T5's, less blanks at its ends. The answers as they were written are accepted as well,
    so that a model that never saw the spaced form is scored fairly.

    Args:
        question: as in the row.
        context: as in the row.
        answers: as in the row; none where they are to be predicted.
    """
    inputs = _collapsed(f"question: {spaced(question)} context: {spaced(context)}")
    accepted = [spaced(answer).strip() for answer in answers] + list(answers)
    return Text(inputs, tuple(dict.fromkeys(filter(None, accepted))), texts=(question, context))


def squad(row: RawRow, train: bool) -> Iterator[Text]:
    """SQuAD 1.1: the answers of up to three people."""
    answers = _filled(row, "answers", lambda: row.inner("answers").texts("text"))
    yield question_form(row.text("question"), row.text("context"), answers)


def drop(row: RawRow, train: bool) -> Iterator[Text]:
    """DROP: spans, numbers and dates; `ref_answers`, where a row has them, are accepted beside its spans."""

    def listed() -> Sequence[str]:
        spans = row.inner("answers_spans").texts("spans")
        return (*spans, *row.texts("ref_answers")) if "ref_answers" in row.fields else spans

    yield question_form(row.text("question"), row.text("passage"), _filled(row, "answers_spans", listed))


def mrqa(subset: str) -> Form:
    """The form of one of the six sets of MRQA 2019; where rows name their set, those of others are passed over.

    Args:
        subset: the set's name in the field `subset`.
    """

    def form(row: RawRow, train: bool) -> Iterator[Text]:
        if "subset" not in row.fields or row.text("subset") == subset:
            answers = _filled(row, "answers", lambda: row.texts("answers"))
            yield question_form(row.text("question"), row.text("context"), answers)

    return form


def inference(key: str, labels: tuple[str, ...]) -> Form:
    """The form of SPoT's inference loaders: `hypothesis: .. premise: ..` or `hypothesis: .. context: ..`.

    Args:
        key: in front of the premise.
        labels: in the order of their numbers; rows may also spell the label.
    """

    def form(row: RawRow, train: bool) -> Iterator[Text]:
        hypothesis, premise = row.text("hypothesis"), row.text("premise")
        value = row.fields.get("label")
        word = value if value in labels else labels[_number(row, "label", len(labels))]
        inputs = _collapsed(keyed(("hypothesis", hypothesis), (key, premise)))
        yield Text(inputs, (word,), texts=(hypothesis, premise))

    return form


def emotions(row: RawRow, train: bool) -> Iterator[Text]:
    """GoEmotions: a comment may have several emotions; the first is trained on, each is accepted."""
    text, numbers = row.text("text"), row.fields.get("labels") if row.answered else [0]
    classes = range(len(EMOTIONS))
    if not isinstance(numbers, list) or not numbers or not all(type(n) is int and n in classes for n in numbers):
        raise TaskError(
            f"{row.place}: field 'labels' holds {numbers!r:.60}, expected a list of numbers from 0 to "
            f"{len(EMOTIONS) - 1}. Mend the row or leave it out."
        )
    yield Text(keyed(("sentence", text)), tuple(EMOTIONS[number] for number in numbers), texts=(text,))


def tweet_polarity(row: RawRow, train: bool) -> Iterator[Text]:
    """Sentiment140: 0 is negative, 4 positive; the few neutral ones (2, in the test split) are left out."""
    text, value = row.text("text"), row.fields.get("sentiment") if row.answered else 0
    if type(value) is not int or value not in (0, 2, 4):
        raise TaskError(f"{row.place}: field 'sentiment' holds {value!r:.60}, expected 0, 2 or 4. Mend the row.")
    if value != 2:
        yield Text(keyed(("sentence", text)), ("positive" if value else "negative",), texts=(text,))


def _collapsed(text: str) -> str:
    """Each run of white space made one blank."""
    return _BLANKS.sub(" ", text)


def _filled(row: RawRow, field: str, answers: Callable[[], Sequence[str]]) -> Sequence[str]:
    """The answers that are not blank; refuses a row without any, unless it is to be predicted."""
    if not row.answered:
        return ()
    if filled := [answer for answer in answers() if answer.strip()]:
        return filled
    raise TaskError(f"{row.place}: field {field!r} holds no answer, expected at least one. Leave the row out.")


def _number(row: RawRow, field: str, count: int) -> int:
    """A label's number, as a number or as text; 0 where it is to be predicted."""
    if not row.answered:
        return 0
    value = row.fields.get(field)
    numbers = [str(number) for number in range(count)]
    if isinstance(value, bool) or not isinstance(value, int | str) or str(value) not in numbers:
        raise TaskError(
            f"{row.place}: field {field!r} holds {value!r:.60}, expected one of {', '.join(numbers)}. "
            "Mend the row or leave it out."
        )
    return int(value)


TWO_WAY = ("not_entailment", "entailment")  # in the order of DocNLI's numbers
EMOTIONS = (
    "admiration",
    "amusement",
    "anger",
    "annoyance",
    "approval",
    "caring",
    "confusion",
    "curiosity",
    "desire",
    "disappointment",
    "disapproval",
    "disgust",
    "embarrassment",
    "excitement",
    "fear",
    "gratitude",
    "grief",
    "joy",
    "love",
    "nervousness",
    "optimism",
    "pride",
    "realization",
    "relief",
    "remorse",
    "sadness",
    "surprise",
    "neutral",
)
ANSWER = ("squad",)
FROM_CONTEXT = "Answer the question in few words, which the context holds."


def _mrqa(name: str, *, title: str, subset: str, size: int, revisions: tuple[str, str]) -> DataSet:
    """One set of MRQA 2019, whose contexts are cut to 800 tokens in the data itself."""
    return DataSet(
        title=title,
        instruction=FROM_CONTEXT,
        form=mrqa(subset),
        folder=f"mrqa_{name}",
        hub="mrqa-workshop/mrqa",
        metrics=ANSWER,
        paper="arXiv:1910.09753",
        size=size,
        kind="text",
        revisions=revisions,
    )


def _anli(number: int, *, size: int, revisions: tuple[str, str]) -> DataSet:
    """One round of adversarial inference."""
    return DataSet(
        title=f"adversarial three-way inference, round {number}",
        instruction=FOLLOWS_THREE_WAY.replace("premise", "context"),
        form=inference("context", THREE_WAY),
        folder=f"anli_r{number}",
        hub="facebook/anli",
        labels=THREE_WAY,
        hub_splits={"train": f"train_r{number}", "validation": f"dev_r{number}"},
        paper="arXiv:1910.14599",
        licence="CC BY-NC 4.0",
        size=size,
        revisions=revisions,
    )


TABLE: dict[str, DataSet] = {
    "squad": DataSet(
        title="questions on Wikipedia paragraphs",
        instruction=FROM_CONTEXT,
        form=squad,
        folder="squad",
        hub="rajpurkar/squad",
        metrics=ANSWER,
        paper="arXiv:1606.05250",
        licence="CC BY-SA 4.0",
        size=87_599,
        kind="text",
        revisions=("40d73f1f", "dde0b53e"),
    ),
    "drop": DataSet(
        title="questions that need counting and arithmetic on paragraphs",
        instruction="Answer the question by the context, in few words; count or calculate where it takes that.",
        form=drop,
        folder="drop",
        hub="ucinlp/drop",
        metrics=ANSWER,
        paper="arXiv:1903.00161",
        licence="CC BY-SA 4.0",
        size=77_400,
        kind="text",
        revisions=("3179f8b1", "616a1497"),
    ),
    "mrqa/squad": _mrqa(
        "squad", title="SQuAD as in MRQA 2019", subset="SQuAD", size=86_588, revisions=("2ead6c1d", "1046d583")
    ),
    "mrqa/newsqa": _mrqa(
        "newsqa",
        title="questions on news (NewsQA as in MRQA 2019)",
        subset="NewsQA",
        size=74_160,
        revisions=("5050a9e4", "5c71e4bf"),
    ),
    "mrqa/triviaqa": _mrqa(
        "triviaqa",
        title="trivia on web pages (TriviaQA as in MRQA 2019)",
        subset="TriviaQA-web",
        size=61_688,
        revisions=("d445977f", "115fd644"),
    ),
    "mrqa/searchqa": _mrqa(
        "searchqa",
        title="Jeopardy on search results (SearchQA as in MRQA 2019)",
        subset="SearchQA",
        size=117_384,
        revisions=("b73d40f3", "b8b51e1a"),
    ),
    "mrqa/hotpotqa": _mrqa(
        "hotpotqa",
        title="questions on two paragraphs (HotpotQA as in MRQA 2019)",
        subset="HotpotQA",
        size=72_928,
        revisions=("7bf2c4f3", "5b4ab49a"),
    ),
    "mrqa/naturalquestions": _mrqa(
        "naturalquestions",
        title="search queries on Wikipedia (Natural Questions as in MRQA 2019)",
        subset="NaturalQuestionsShort",
        size=104_071,
        revisions=("f18e67cf", "6b01ad76"),
    ),
    "anli/r1": _anli(1, size=16_946, revisions=("0232a9f7", "19fad992")),
    "anli/r2": _anli(2, size=45_460, revisions=("d90495cb", "a36aae34")),
    "anli/r3": _anli(3, size=100_459, revisions=("c0b1fa5f", "d1c6ed7e")),
    "docnli": DataSet(
        title="two-way inference on documents (the hub's copy has 861,708 train rows)",
        instruction=FOLLOWS,
        form=inference("premise", TWO_WAY),
        folder="docnli",
        hub="tasksource/doc-nli",
        labels=TWO_WAY,
        paper="ACL:2021.findings-acl.435",
        size=942_314,
        revisions=("5ad423e8", "d9568cdc"),
    ),
    "cxc": DataSet(
        title="similarity of two image captions from 0.0 to 5.0 (fields sentence1, sentence2, score)",
        instruction=ALIKE,
        form=rated_pair("score"),
        folder="cxc",
        labels=SIMILARITIES,
        metrics=("pearson_spearman",),
        paper="arXiv:2004.15020",
        size=88_054,
        kind="number",
        revisions=("fb744a8e", "d521a719"),
    ),
    "goemotions": DataSet(
        title="emotions of comments, 28 classes",
        instruction=f"Say which emotion the comment shows: {either(EMOTIONS)}.",
        form=emotions,
        folder="goemotions",
        hub="google-research-datasets/go_emotions:simplified",
        labels=EMOTIONS,
        paper="arXiv:2005.00547",
        size=43_410,
        revisions=("2cc53b64", "b79888ff"),
    ),
    "sentiment140": DataSet(
        title="sentiment of tweets, labelled by their emoticons",
        instruction="Say whether the tweet is negative or positive.",
        form=tweet_polarity,
        folder="sentiment140",
        labels=("negative", "positive"),
        size=1_600_000,
        revisions=("dbd98c22", "c85a18a4"),
    ),
}
