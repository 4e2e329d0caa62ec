"""Sets of texts with a class: sentiment, topic, question type, emotion, intent, and pairs outside the benchmarks.

All sets of single texts share the key `sentence`, so that a prompt meets one form in all of them. Splits are those of
a data folder and may be smaller than the official ones.
"""

from collections.abc import Iterator
from typing import Any

from spot.errors import TaskError
from spot.tasks.data_set import ALL_SPLITS, DUPLICATE, POLARITY, THREE_WAY, DataSet, Form, Row, Text, keyed

Keys = tuple[tuple[str, str], ...]  # (key in the input, field of the row), in the order of the input


def classes(keys: Keys, words: tuple[str, ...], label: str = "label") -> Form:
    """The form of texts whose class is a number; rows of -1, on which the annotators did not agree, are left out.

    Args:
        keys: of the input.
        words: the label words, in the order of their numbers.
        label: field of the number.
    """

    def form(row: Row, train: bool) -> Iterator[Text]:
        texts = _texts(row, keys)
        if not row.answered or row.fields.get(label) != UNDECIDED:
            yield Text(_inputs(keys, texts), (row.word(label, words),), texts=texts)

    return form


def spelled(keys: Keys, words: tuple[str, ...], label: str) -> Form:
    """The form of texts whose class is a word, with underscores for blanks."""

    def form(row: Row, train: bool) -> Iterator[Text]:
        texts = _texts(row, keys)
        value = row.fields.get(label)
        word = value.replace("_", " ") if isinstance(value, str) else None
        if row.answered and word not in words:
            raise TaskError(_no_label(row, label, value))
        yield Text(_inputs(keys, texts), (word if word in words else words[0],), texts=texts)

    return form


def rated(domain: str) -> Form:
    """VADER's ratings from -4 to 4 in one domain: negative or positive; within 0.5 of neutral they are left out."""

    def form(row: Row, train: bool) -> Iterator[Text]:
        texts = _texts(row, TEXT)
        if row.answered and row.text("domain") != domain:
            return
        value = row.fields.get("label")
        if row.answered and (type(value) not in (int, float) or not -4 <= value <= 4):
            raise TaskError(_no_label(row, "label", value))
        if not row.answered or abs(value) >= 0.5:
            yield Text(_inputs(TEXT, texts), (POLARITY[row.answered and value > 0],), texts=texts)

    return form


def _texts(row: Row, keys: Keys) -> tuple[str, ...]:
    return tuple(row.text(field) for _, field in keys)


def _inputs(keys: Keys, texts: tuple[str, ...]) -> str:
    return keyed(*((key, text) for (key, _), text in zip(keys, texts, strict=True)))


def _no_label(row: Row, field: str, value: Any) -> str:
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


def _texts_set(title: str, folder: str, words: tuple[str, ...], hub: str = "", **known: Any) -> DataSet:
    """A set of single texts with numbered classes."""
    return DataSet(title, classes(TEXT, words), folder, hub, words, **known)


def _tweets(title: str, name: str, words: tuple[str, ...], **known: Any) -> DataSet:
    """One set of TweetEval."""
    known = {"licence": TWITTER_LICENCE, "splits": ALL_SPLITS, **known}
    return _texts_set(
        title,
        f"tweet_eval_{name}",
        words,
        f"cardiffnlp/tweet_eval:{name}",
        metrics=("macro_f1", "accuracy"),
        paper="arXiv:2010.12421",
        **known,
    )


def _ratings(title: str, domain: str) -> DataSet:
    """One domain of the VADER ratings."""
    return DataSet(title, rated(domain), "vader", "", POLARITY, licence="MIT")


TABLE: dict[str, DataSet] = {
    "trec": DataSet(
        "type of a question's answer",
        classes(TEXT, QUESTION_TYPES, "coarse_label"),
        "trec",
        "",
        QUESTION_TYPES,
        licence="not stated (Li & Roth 2002), research use",
        size=5_452,
    ),
    "ag_news": _texts_set(
        "topic of a news item",
        "ag_news",
        TOPICS,
        "fancyzhx/ag_news",
        size=120_000,
        paper="arXiv:1509.01626",
        hub_splits={"train": "train", "validation": "test"},
        licence="not stated, non-commercial research use",
    ),
    "dbpedia_14": DataSet(
        "kind of thing an article is on",
        classes(ARTICLE, CATEGORIES),
        "dbpedia_14",
        "fancyzhx/dbpedia_14",
        CATEGORIES,
        hub_splits={"train": "train", "validation": "test"},
        paper="arXiv:1509.01626",
        licence="CC BY-SA 3.0",
        size=560_000,
    ),
    "banking77": DataSet(
        "intent of a bank customer's question",
        spelled(TEXT, INTENTS, "label_text"),
        "banking77",
        "mteb/banking77",
        INTENTS,
        hub_splits={"train": "train", "validation": "test"},
        paper="arXiv:2003.04807",
        licence="CC BY 4.0",
        size=10_003,
    ),
    "cr": _texts_set(
        "sentiment of product review sentences", "cr", POLARITY, licence="not stated (Hu & Liu 2004), research use"
    ),
    "mr": _texts_set(
        "sentiment of film review sentences",
        "mr",
        POLARITY,
        "cornell-movie-review-data/rotten_tomatoes",
        splits=ALL_SPLITS,
        licence="not stated (Pang & Lee 2005), research use",
        size=8_530,
    ),
    "mpqa": _texts_set(
        "sentiment of opinion phrases", "mpqa", POLARITY, licence="not stated (Wiebe et al. 2005), research use"
    ),
    "sst5": _texts_set(
        "sentiment of film sentences, five steps", "sst5", FIVE_WAY, splits=ALL_SPLITS, licence=SST_LICENCE, size=8_544
    ),
    "imdb": _texts_set(
        "sentiment of whole film reviews",
        "imdb",
        POLARITY,
        "stanfordnlp/imdb",
        splits=ALL_SPLITS,
        size=25_000,
        hub_splits={"train": "train", "test": "test"},
        licence="not stated (Maas et al. 2011), research use",
    ),
    "yelp_polarity": _texts_set(
        "sentiment of local reviews",
        "yelp_polarity",
        POLARITY,
        "fancyzhx/yelp_polarity",
        splits=ALL_SPLITS,
        hub_splits={"train": "train", "test": "test"},
        size=560_000,
        paper="arXiv:1509.01626",
        licence=YELP_LICENCE,
    ),
    "yelp_review_full": _texts_set(
        "stars of local reviews",
        "yelp_review_full",
        STARS,
        "Yelp/yelp_review_full",
        paper="arXiv:1509.01626",
        hub_splits={"train": "train", "validation": "test"},
        size=650_000,
        licence=YELP_LICENCE,
    ),
    "amazon_polarity": DataSet(
        "sentiment of product reviews",
        classes(ARTICLE, POLARITY),
        "amazon_polarity",
        "fancyzhx/amazon_polarity",
        POLARITY,
        hub_splits={"train": "train", "validation": "test"},
        paper="arXiv:1509.01626",
        licence="not stated, research use",
        size=3_600_000,
    ),
    "tweet_eval/emotion": _tweets("emotion of tweets", "emotion", EMOTIONS, size=3_257),
    "tweet_eval/hate": _tweets("hate against women and immigrants in tweets", "hate", ("not hate", "hate"), size=9_000),
    "tweet_eval/offensive": _tweets("offensive tweets", "offensive", ("not offensive", "offensive"), size=11_916),
    "tweet_eval/sentiment": _tweets(
        "sentiment of tweets",
        "sentiment",
        ("negative", "neutral", "positive"),
        size=45_615,
        splits=("train", "validation"),
        licence="CC BY 3.0; Twitter terms",
    ),
    "vader/tweets": _ratings("rated sentiment of tweets", "tweets"),
    "vader/amazon": _ratings("rated sentiment of product review sentences", "amazon"),
    "vader/nyt": _ratings("rated sentiment of newspaper editorials", "nyt"),
    "vader/movie": _ratings("rated sentiment of film review sentences", "movies"),
    "snli": DataSet(
        "three-way inference on image captions",
        classes(INFERENCE, THREE_WAY),
        "snli",
        "stanfordnlp/snli",
        THREE_WAY,
        paper="arXiv:1508.05326",
        licence="CC BY-SA 4.0",
        size=549_367,
    ),
    "quora_pairs": DataSet(
        "duplicate questions, a balanced partition",
        classes(QUESTIONS, DUPLICATE),
        "quora_pairs",
        "",
        DUPLICATE,
        ("f1", "accuracy"),
        paper="arXiv:1702.03814",
        licence="Quora terms, non-commercial",
        size=384_348,
    ),
}
