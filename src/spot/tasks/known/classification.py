"""Write sets of texts with a class as text: sentiment, topic, question type, emotion, intent, other pairs.

All sets of single texts share the key `sentence`, so that a prompt meets one form in all of them. Splits are those of
a data folder and may be smaller than the official ones.
"""

from collections.abc import Iterator
from typing import Any

from spot.errors import TaskError
from spot.tasks.columns import Text
from spot.tasks.data_set import (
    ALL_SPLITS,
    DUPLICATE,
    FOLLOWS_THREE_WAY,
    POLARITY,
    SAME_QUESTION,
    THREE_WAY,
    DataSet,
    Form,
    RawRow,
    either,
    keyed,
)

Keys = tuple[tuple[str, str], ...]  # (key in the input, field of the row), in the order of the input


def numbered_classes(keys: Keys, words: tuple[str, ...], label: str = "label") -> Form:
    """The form of texts whose class is a number; rows of -1, on which the annotators did not agree, are left out.

    Args:
        keys: of the input.
        words: the label words, in the order of their numbers.
        label: field of the number.
    """

    def form(row: RawRow, train: bool) -> Iterator[Text]:
        texts = _texts(row, keys)
        if not row.answered or row.fields.get(label) != UNDECIDED:
            yield Text(_inputs(keys, texts), (row.word(label, words),), texts=texts)

    return form


def named_classes(keys: Keys, words: tuple[str, ...], label: str) -> Form:
    """The form of texts whose class is a word, with underscores for blanks."""

    def form(row: RawRow, train: bool) -> Iterator[Text]:
        texts = _texts(row, keys)
        value = row.fields.get(label)
        word = value.replace("_", " ") if isinstance(value, str) else None
        if row.answered and word not in words:
            raise TaskError(_no_label(row, label, value))
        yield Text(_inputs(keys, texts), (word if word in words else words[0],), texts=texts)

    return form


def rated_texts(domain: str) -> Form:
    """VADER's ratings from -4 to 4 in one domain: negative or positive; within 0.5 of neutral they are left out."""

    def form(row: RawRow, train: bool) -> Iterator[Text]:
        texts = _texts(row, TEXT)
        if row.answered and row.text("domain") != domain:
            return
        value = row.fields.get("label")
        if not row.answered:
            yield Text(_inputs(TEXT, texts), POLARITY[:1], texts=texts)
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not -4 <= value <= 4:
            raise TaskError(_no_label(row, "label", value))
        if abs(value) >= 0.5:
            yield Text(_inputs(TEXT, texts), (POLARITY[value > 0],), texts=texts)

    return form


def _texts(row: RawRow, keys: Keys) -> tuple[str, ...]:
    return tuple(row.text(field) for _, field in keys)


def _inputs(keys: Keys, texts: tuple[str, ...]) -> str:
    return keyed(*((key, text) for (key, _), text in zip(keys, texts, strict=True)))


def _no_label(row: RawRow, field: str, value: Any) -> str:
    return (
        f"{row.place}: field {field!r} is no label of this data set (found {value!r:.60}). Are these its rows, with "
        "the hub's field names and labels?"
    )


TEXT = (("sentence", "text"),)
ARTICLE = (("title", "title"), ("content", "content"))
QUESTIONS = (("question1", "question1"), ("question2", "question2"))
INFERENCE = (("hypothesis", "hypothesis"), ("premise", "premise"))

UNDECIDED = -1
TOPICS = ("world", "sports", "business", "technology")
QUESTION_TYPES = ("abbreviation", "entity", "description", "human", "location", "number")
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
FIVE_WAY = ("very negative", "negative", "neutral", "positive", "very positive")
EMOTIONS = ("anger", "joy", "optimism", "sadness")
CATEGORIES = (
    "company",
    "educational institution",
    "artist",
    "athlete",
    "office holder",
    "mean of transportation",
    "building",
    "natural place",
    "village",
    "animal",
    "plant",
    "album",
    "film",
    "written work",
)
INTENTS = tuple(
    """
    Refund not showing up; activate my card; age limit; apple pay or google pay; atm support; automatic top up;
    balance not updated after bank transfer; balance not updated after cheque or cash deposit; beneficiary not allowed;
    cancel transfer; card about to expire; card acceptance; card arrival; card delivery estimate; card linking;
    card not working; card payment fee charged; card payment not recognised; card payment wrong exchange rate;
    card swallowed; cash withdrawal charge; cash withdrawal not recognised; change pin; compromised card;
    contactless not working; country support; declined card payment; declined cash withdrawal; declined transfer;
    direct debit payment not recognised; disposable card limits; edit personal details; exchange charge; exchange rate;
    exchange via app; extra charge on statement; failed transfer; fiat currency support; get disposable virtual card;
    get physical card; getting spare card; getting virtual card; lost or stolen card; lost or stolen phone;
    order physical card; passcode forgotten; pending card payment; pending cash withdrawal; pending top up;
    pending transfer; pin blocked; receiving money; request refund; reverted card payment?;
    supported cards and currencies; terminate account; top up by bank transfer charge; top up by card charge;
    top up by cash or cheque; top up failed; top up limits; top up reverted; topping up by card;
    transaction charged twice; transfer fee charged; transfer into account; transfer not received by recipient;
    transfer timing; unable to verify identity; verify my identity; verify source of funds; verify top up;
    virtual card not working; visa or mastercard; why verify identity; wrong amount of cash received;
    wrong exchange rate for cash withdrawal
    """.replace("\n   ", "")
    .strip()
    .split("; ")
)


SST_LICENCE = "not stated (Stanford Sentiment Treebank), research use"
YELP_LICENCE = "Yelp dataset terms, research use"
TWITTER_LICENCE = "per task; Twitter terms"


def _tweets(
    name: str,
    *,
    title: str,
    asked: str,
    labels: tuple[str, ...],
    size: int,
    splits: tuple[str, ...] = ALL_SPLITS,
    licence: str = TWITTER_LICENCE,
    revisions: tuple[str, str],
) -> DataSet:
    """One set of TweetEval."""
    return DataSet(
        title=title,
        instruction=f"{asked}: {either(labels)}.",
        form=numbered_classes(TEXT, labels),
        folder=f"tweet_eval_{name}",
        hub=f"cardiffnlp/tweet_eval:{name}",
        labels=labels,
        metrics=("macro_f1", "accuracy"),
        splits=splits,
        paper="arXiv:2010.12421",
        licence=licence,
        size=size,
        revisions=revisions,
    )


def _ratings(domain: str, *, title: str, what: str, revisions: tuple[str, str]) -> DataSet:
    """One domain of the VADER ratings."""
    return DataSet(
        title=title,
        instruction=f"Say whether the {what} is {either(POLARITY)}.",
        form=rated_texts(domain),
        folder="vader",
        labels=POLARITY,
        licence="MIT",
        revisions=revisions,
    )


TABLE: dict[str, DataSet] = {
    "trec": DataSet(
        title="type of a question's answer",
        instruction="Read the question and say what kind of answer it asks for: an abbreviation, an entity, "
        "a description, a human being, a location or a number.",
        form=numbered_classes(TEXT, QUESTION_TYPES, "coarse_label"),
        folder="trec",
        labels=QUESTION_TYPES,
        licence="not stated (Li & Roth 2002), research use",
        size=5_452,
        revisions=("adea993d", "edee4366"),
    ),
    "ag_news": DataSet(
        title="topic of a news item",
        instruction=f"Say what the news item is about: {either(TOPICS)}.",
        form=numbered_classes(TEXT, TOPICS),
        folder="ag_news",
        hub="fancyzhx/ag_news",
        labels=TOPICS,
        hub_splits={"train": "train", "validation": "test"},
        paper="arXiv:1509.01626",
        licence="not stated, non-commercial research use",
        size=120_000,
        revisions=("a2094226", "f27c677a"),
    ),
    "dbpedia_14": DataSet(
        title="kind of thing an article is on",
        instruction=f"Say what the article is on: {either(CATEGORIES)}.",
        form=numbered_classes(ARTICLE, CATEGORIES),
        folder="dbpedia_14",
        hub="fancyzhx/dbpedia_14",
        labels=CATEGORIES,
        hub_splits={"train": "train", "validation": "test"},
        paper="arXiv:1509.01626",
        licence="CC BY-SA 3.0",
        size=560_000,
        revisions=("f117d8b5", "e2bb09a6"),
    ),
    "banking77": DataSet(
        title="intent of a bank customer's question",
        instruction=f"Say which of {len(INTENTS)} intents the bank customer has, such as {either(INTENTS[12:15])}.",
        form=named_classes(TEXT, INTENTS, "label_text"),
        folder="banking77",
        hub="mteb/banking77",
        labels=INTENTS,
        hub_splits={"train": "train", "validation": "test"},
        paper="arXiv:2003.04807",
        licence="CC BY 4.0",
        size=10_003,
        revisions=("aba65b96", "52d22735"),
    ),
    "cr": DataSet(
        title="sentiment of product review sentences",
        instruction=f"Say whether the sentence from a product review is {either(POLARITY)}.",
        form=numbered_classes(TEXT, POLARITY),
        folder="cr",
        labels=POLARITY,
        licence="not stated (Hu & Liu 2004), research use",
        revisions=("b006d66b", "7501a1ef"),
    ),
    "mr": DataSet(
        title="sentiment of film review sentences",
        instruction=f"Say whether the sentence from a film review is {either(POLARITY)}.",
        form=numbered_classes(TEXT, POLARITY),
        folder="mr",
        hub="cornell-movie-review-data/rotten_tomatoes",
        labels=POLARITY,
        splits=ALL_SPLITS,
        licence="not stated (Pang & Lee 2005), research use",
        size=8_530,
        revisions=("8050545e", "fdcd7ace"),
    ),
    "mpqa": DataSet(
        title="sentiment of opinion phrases",
        instruction=f"Say whether the opinion in the phrase is {either(POLARITY)}.",
        form=numbered_classes(TEXT, POLARITY),
        folder="mpqa",
        labels=POLARITY,
        licence="not stated (Wiebe et al. 2005), research use",
        revisions=("c904c244", "a662d794"),
    ),
    "sst5": DataSet(
        title="sentiment of film sentences, five steps",
        instruction=f"Say how the sentence from a film review judges: {either(FIVE_WAY)}.",
        form=numbered_classes(TEXT, FIVE_WAY),
        folder="sst5",
        labels=FIVE_WAY,
        splits=ALL_SPLITS,
        licence=SST_LICENCE,
        size=8_544,
        revisions=("336504e6", "dd0b5022"),
    ),
    "imdb": DataSet(
        title="sentiment of whole film reviews",
        instruction=f"Say whether the film review is {either(POLARITY)}.",
        form=numbered_classes(TEXT, POLARITY),
        folder="imdb",
        hub="stanfordnlp/imdb",
        labels=POLARITY,
        splits=ALL_SPLITS,
        hub_splits={"train": "train", "test": "test"},
        licence="not stated (Maas et al. 2011), research use",
        size=25_000,
        revisions=("6ad8d324", "b65c53b0"),
    ),
    "yelp_polarity": DataSet(
        title="sentiment of local reviews",
        instruction=f"Say whether the review of a local business is {either(POLARITY)}.",
        form=numbered_classes(TEXT, POLARITY),
        folder="yelp_polarity",
        hub="fancyzhx/yelp_polarity",
        labels=POLARITY,
        splits=ALL_SPLITS,
        hub_splits={"train": "train", "test": "test"},
        paper="arXiv:1509.01626",
        licence=YELP_LICENCE,
        size=560_000,
        revisions=("d3d61399", "f73c65c6"),
    ),
    "yelp_review_full": DataSet(
        title="stars of local reviews",
        instruction=f"Say how many stars the review of a local business gives: {either(STARS)}.",
        form=numbered_classes(TEXT, STARS),
        folder="yelp_review_full",
        hub="Yelp/yelp_review_full",
        labels=STARS,
        hub_splits={"train": "train", "validation": "test"},
        paper="arXiv:1509.01626",
        licence=YELP_LICENCE,
        size=650_000,
        revisions=("f8f59391", "e057b717"),
    ),
    "amazon_polarity": DataSet(
        title="sentiment of product reviews",
        instruction=f"Say whether the product review is {either(POLARITY)}.",
        form=numbered_classes(ARTICLE, POLARITY),
        folder="amazon_polarity",
        hub="fancyzhx/amazon_polarity",
        labels=POLARITY,
        hub_splits={"train": "train", "validation": "test"},
        paper="arXiv:1509.01626",
        licence="not stated, research use",
        size=3_600_000,
        revisions=("36e2c446", "47a1765b"),
    ),
    "tweet_eval/emotion": _tweets(
        "emotion",
        title="emotion of tweets",
        asked="Say which emotion the tweet shows",
        labels=EMOTIONS,
        size=3_257,
        revisions=("8640e7a2", "50aa682c"),
    ),
    "tweet_eval/hate": _tweets(
        "hate",
        title="hate against women and immigrants in tweets",
        asked="Say whether the tweet is hate against women or immigrants",
        labels=("not hate", "hate"),
        size=9_000,
        revisions=("3a3373b6", "65601130"),
    ),
    "tweet_eval/offensive": _tweets(
        "offensive",
        title="offensive tweets",
        asked="Say whether the tweet offends",
        labels=("not offensive", "offensive"),
        size=11_916,
        revisions=("bbf185a0", "d65c8d0d"),
    ),
    "tweet_eval/sentiment": _tweets(
        "sentiment",
        title="sentiment of tweets",
        asked="Say what feeling the tweet shows",
        labels=("negative", "neutral", "positive"),
        splits=("train", "validation"),
        licence="CC BY 3.0; Twitter terms",
        size=45_615,
        revisions=("49a705b2", "afd53488"),
    ),
    "vader/tweets": _ratings(
        "tweets", title="rated sentiment of tweets", what="tweet", revisions=("b0142c37", "fc7c82c9")
    ),
    "vader/amazon": _ratings(
        "amazon",
        title="rated sentiment of product review sentences",
        what="sentence from a product review",
        revisions=("5eeaecbf", "d27cc0dc"),
    ),
    "vader/nyt": _ratings(
        "nyt",
        title="rated sentiment of newspaper editorials",
        what="sentence from an editorial",
        revisions=("0016585b", "3f445c1b"),
    ),
    "vader/movie": _ratings(
        "movies",
        title="rated sentiment of film review sentences",
        what="sentence from a film review",
        revisions=("36e459c2", "15f92dc8"),
    ),
    "snli": DataSet(
        title="three-way inference on image captions",
        instruction=FOLLOWS_THREE_WAY,
        form=numbered_classes(INFERENCE, THREE_WAY),
        folder="snli",
        hub="stanfordnlp/snli",
        labels=THREE_WAY,
        paper="arXiv:1508.05326",
        licence="CC BY-SA 4.0",
        size=549_367,
        revisions=("4111acf1", "01327c2b"),
    ),
    "quora_pairs": DataSet(
        title="duplicate questions, a balanced partition",
        instruction=SAME_QUESTION,
        form=numbered_classes(QUESTIONS, DUPLICATE),
        folder="quora_pairs",
        labels=DUPLICATE,
        metrics=("f1", "accuracy"),
        paper="arXiv:1702.03814",
        licence="Quora terms, non-commercial",
        size=384_348,
        revisions=("2f1308c6", "b647321c"),
    ),
}
