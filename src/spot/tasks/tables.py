"""The known data sets, one row each: where their text and labels stand, and the words a model answers with.

Rows lie in a data folder, one JSON-lines file a split: `sst2/train.jsonl`, or `.jsonl.gz`. Inputs have T5's
form without the task's name in front. All sets of single texts share the key `sentence`, so that a prompt
meets one form in all of them. Splits are those of the folder and may be smaller than the official ones.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from spot.errors import TaskError
from spot.tasks.base import Example, Task, check_split, json_rows, text_field


def numbered(value: Any, words: tuple[str, ...]) -> str | None:
    """The word with this number; None for a value that is no number of a word."""
    return words[value] if type(value) is int and 0 <= value < len(words) else None


def spelled(value: Any, words: tuple[str, ...]) -> str | None:
    """The word itself, where the rows write underscores for blanks."""
    word = value.replace("_", " ") if isinstance(value, str) else None
    return word if word in words else None


def polarity(value: Any, words: tuple[str, ...]) -> str | None:
    """Negative or positive for a mean rating from -4 to 4; empty, so left out, within 0.5 of neutral."""
    if type(value) not in (int, float) or not -4 <= value <= 4:
        return None
    return words[value > 0] if abs(value) >= 0.5 else ""


def fifths(value: Any, words: tuple[str, ...]) -> str | None:
    """A similarity from 0 to 5 in steps of 0.2, with one decimal, as T5 writes it."""
    return words[round(value * 5)] if type(value) in (int, float) and 0 <= value <= 5 else None


@dataclass(frozen=True)
class DataSet:
    """How the rows of one data set become examples.

    Attributes:
        folder: under the data folder.
        keys: (key in the input, field of the row), in the order of the input.
        words: the label words, in the order of their numbers.
        title: one line for people.
        licence: as generally stated for the set.
        metrics: names from `spot.metrics.METRICS`.
        splits: files in the folder.
        label: field of the label.
        answer: label value and words -> the word, empty to leave the row out, None to refuse it.
        only: (field, value); rows with another value there are left out.
    """

    folder: str
    keys: tuple[tuple[str, str], ...]
    words: tuple[str, ...]
    title: str
    licence: str
    metrics: tuple[str, ...] = ("accuracy",)
    splits: tuple[str, ...] = ("train", "validation")
    label: str = "label"
    answer: Callable[[Any, tuple[str, ...]], str | None] = numbered
    only: tuple[str, str] | None = None


ALL_SPLITS = ("train", "validation", "test")
TEXT = (("sentence", "text"),)
SENTENCE = (("sentence", "sentence"),)
PAIR = (("sentence1", "sentence1"), ("sentence2", "sentence2"))
QUESTIONS = (("question1", "question1"), ("question2", "question2"))
INFERENCE = (("hypothesis", "hypothesis"), ("premise", "premise"))
ARTICLE = (("title", "title"), ("content", "content"))

POLARITY = ("negative", "positive")
DUPLICATE = ("not_duplicate", "duplicate")
ENTAILMENT = ("entailment", "not_entailment")
THREE_WAY = ("entailment", "neutral", "contradiction")
TRUTH = ("False", "True")
TOPICS = ("world", "sports", "business", "technology")
QUESTION_TYPES = ("abbreviation", "entity", "description", "human", "location", "number")
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
FIVE_WAY = ("very negative", "negative", "neutral", "positive", "very positive")
SIMILARITIES = tuple(f"{step / 5:.1f}" for step in range(26))
CATEGORIES = (
    "company", "educational institution", "artist", "athlete", "office holder", "mean of transportation", "building",
    "natural place", "village", "animal", "plant", "album", "film", "written work",
)  # fmt: skip
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
    """.replace("\n   ", "").strip().split("; ")
)  # fmt: skip

SST = "not stated (Stanford Sentiment Treebank), research use"
SUPERGLUE = "SuperGLUE terms: each task under its own licence, research use"
QUORA = "Quora terms, non-commercial"
YELP = "Yelp dataset terms, research use"
TWITTER = "per task; Twitter terms"


def _rated(domain: str, title: str) -> DataSet:
    """One domain of the VADER ratings: at least +0.5 is positive, at most -0.5 negative, the rest left out."""
    return DataSet("vader", TEXT, POLARITY, title, "MIT", answer=polarity, only=("domain", domain))


TABLE: dict[str, DataSet] = {
    "glue/sst2": DataSet("sst2", SENTENCE, POLARITY, "sentiment of film review phrases", SST, splits=ALL_SPLITS),
    "glue/cola": DataSet(
        "cola", SENTENCE, ("unacceptable", "acceptable"), "grammatical acceptability of sentences",
        "not stated; sentences from published linguistics literature, research use", ("matthews",),
    ),
    "glue/mrpc": DataSet(
        "mrpc", PAIR, ("not_equivalent", "equivalent"), "paraphrase of news sentences",
        "Microsoft Research licence, research use", ("f1", "accuracy"), ALL_SPLITS,
    ),
    "glue/qqp": DataSet("qqp", QUESTIONS, DUPLICATE, "duplicate questions", QUORA, ("f1", "accuracy")),
    "glue/qnli": DataSet(
        "qnli", (("question", "question"), ("sentence", "sentence")), ENTAILMENT,
        "does the sentence answer the question", "CC BY-SA 4.0",
    ),
    "glue/rte": DataSet(
        "rte", (("sentence1", "premise"), ("sentence2", "hypothesis")), ENTAILMENT,
        "two-way inference on news", SUPERGLUE,
    ),
    "glue/mnli": DataSet(
        "mnli", INFERENCE, THREE_WAY, "three-way inference over genres", "OANC / CC BY-SA 3.0 / CC BY 3.0 by genre",
    ),
    "glue/stsb": DataSet(
        "stsb", PAIR, SIMILARITIES, "similarity of two sentences from 0.0 to 5.0",
        "CC BY-SA 4.0 (STS benchmark; parts carry their own terms)", ("pearson_spearman",), ALL_SPLITS, answer=fifths,
    ),
    "superglue/boolq": DataSet(
        "boolq", (("passage", "passage"), ("question", "question")), TRUTH, "yes-or-no questions on a passage",
        "CC BY-SA 3.0",
    ),
    "superglue/cb": DataSet(
        "cb", INFERENCE, ("entailment", "contradiction", "neutral"), "three-way inference on embedded clauses",
        SUPERGLUE, ("macro_f1", "accuracy"),
    ),
    "superglue/copa": DataSet(
        "copa", tuple((key, key) for key in ("choice1", "choice2", "premise", "question")), ("choice1", "choice2"),
        "the likelier cause or effect", "BSD 2-clause",
    ),
    "superglue/rte": DataSet("rte", INFERENCE, ENTAILMENT, "two-way inference on news", SUPERGLUE),
    "superglue/wic": DataSet(
        "wic", (*PAIR, ("word", "word")), TRUTH, "does a word have one sense in two sentences", "CC BY-NC 4.0",
    ),
    "snli": DataSet("snli", INFERENCE, THREE_WAY, "three-way inference on image captions", "CC BY-SA 4.0"),
    "quora_pairs": DataSet(
        "quora_pairs", QUESTIONS, DUPLICATE, "duplicate questions, a balanced partition", QUORA, ("f1", "accuracy"),
    ),
    "trec": DataSet(
        "trec", TEXT, QUESTION_TYPES, "type of a question's answer", "not stated (Li & Roth 2002), research use",
        label="coarse_label",
    ),
    "ag_news": DataSet("ag_news", TEXT, TOPICS, "topic of a news item", "not stated, non-commercial research use"),
    "dbpedia_14": DataSet("dbpedia_14", ARTICLE, CATEGORIES, "kind of thing an article is on", "CC BY-SA 3.0"),
    "banking77": DataSet(
        "banking77", TEXT, INTENTS, "intent of a bank customer's question", "CC BY 4.0", label="label_text",
        answer=spelled,
    ),
    "cr": DataSet(
        "cr", TEXT, POLARITY, "sentiment of product review sentences", "not stated (Hu & Liu 2004), research use",
    ),
    "mr": DataSet(
        "mr", TEXT, POLARITY, "sentiment of film review sentences", "not stated (Pang & Lee 2005), research use",
        splits=ALL_SPLITS,
    ),
    "mpqa": DataSet(
        "mpqa", TEXT, POLARITY, "sentiment of opinion phrases", "not stated (Wiebe et al. 2005), research use",
    ),
    "sst5": DataSet("sst5", TEXT, FIVE_WAY, "sentiment of film sentences, five steps", SST, splits=ALL_SPLITS),
    "imdb": DataSet(
        "imdb", TEXT, POLARITY, "sentiment of whole film reviews", "not stated (Maas et al. 2011), research use",
        splits=ALL_SPLITS,
    ),
    "yelp_polarity": DataSet("yelp_polarity", TEXT, POLARITY, "sentiment of local reviews", YELP, splits=ALL_SPLITS),
    "yelp_review_full": DataSet("yelp_review_full", TEXT, STARS, "stars of local reviews", YELP),
    "amazon_polarity": DataSet(
        "amazon_polarity", ARTICLE, POLARITY, "sentiment of product reviews", "not stated, research use",
    ),
    "tweet_eval/emotion": DataSet(
        "tweet_eval_emotion", TEXT, ("anger", "joy", "optimism", "sadness"), "emotion of tweets", TWITTER,
        ("macro_f1", "accuracy"), ALL_SPLITS,
    ),
    "tweet_eval/hate": DataSet(
        "tweet_eval_hate", TEXT, ("not hate", "hate"), "hate against women and immigrants in tweets", TWITTER,
        ("macro_f1", "accuracy"), ALL_SPLITS,
    ),
    "tweet_eval/offensive": DataSet(
        "tweet_eval_offensive", TEXT, ("not offensive", "offensive"), "offensive tweets", TWITTER,
        ("macro_f1", "accuracy"), ALL_SPLITS,
    ),
    "tweet_eval/sentiment": DataSet(
        "tweet_eval_sentiment", TEXT, ("negative", "neutral", "positive"), "sentiment of tweets",
        "CC BY 3.0; Twitter terms", ("macro_f1", "accuracy"),
    ),
    "vader/tweets": _rated("tweets", "rated sentiment of tweets"),
    "vader/amazon": _rated("amazon", "rated sentiment of product review sentences"),
    "vader/nyt": _rated("nyt", "rated sentiment of newspaper editorials"),
    "vader/movie": _rated("movies", "rated sentiment of film review sentences"),
}  # fmt: skip


def table_task(name: str, data: Path | None = None) -> Task:
    """A task of the table; nothing is read before one of its splits is.

    Args:
        name: a key of TABLE.
        data: the folder that holds the data sets; without it `$SPOT_DATA`, looked up when rows are read.
    """
    row = TABLE[name]
    load = partial(_load, name, row, data)
    return Task(name, load, row.splits, row.words, row.metrics, _revision(row), row.title)


def _load(name: str, row: DataSet, data: Path | None, split: str) -> Iterator[Example]:
    """Stream one split of a known data set."""
    check_split(name, split, row.splits)
    path = _file(name, row.folder, data, split)
    for number, record in json_rows(path):
        place = f"{path}, row {number}"
        if row.only and text_field(record, row.only[0], place) != row.only[1]:
            continue
        texts = tuple(text_field(record, field, place) for _, field in row.keys)
        value = record.get(row.label)
        word = row.answer(value, row.words)
        if word is None:
            found = f"found {value!r:.60}" if row.label in record else "missing"
            raise TaskError(
                f"{place}: field {row.label!r} is no label of {name} ({found}). Is {path.parent} this data set, with "
                "the hub's field names and label numbers?"
            )
        if word:
            inputs = " ".join(f"{key}: {text}" for (key, _), text in zip(row.keys, texts, strict=True))
            yield Example(f"{split}/{number}", inputs, (word,), texts=texts)


def _file(name: str, folder: str, data: Path | None, split: str) -> Path:
    """The file of a split in the data folder."""
    root = data or os.environ.get("SPOT_DATA")
    if not root:
        raise TaskError(
            f"no data folder for {name}: give one with --data DIR (data=... in Python) or in the environment variable "
            f"SPOT_DATA; it holds a folder a data set, here {folder}/{split}.jsonl or {split}.jsonl.gz"
        )
    plain = Path(os.path.expanduser(root)) / folder / f"{split}.jsonl"
    packed = plain.with_name(f"{split}.jsonl.gz")
    for path in (plain, packed):
        if path.is_file():
            return path
    raise TaskError(
        f"no rows for {name}, split {split}: expected {plain} or {packed.name} beside it. Give another data folder "
        "with --data DIR or SPOT_DATA, or put the file there."
    )


def _revision(row: DataSet) -> str:
    """Eight hex digits that change with the form, the words or the files of a data set."""
    form = (row.folder, row.keys, row.words, row.label, row.answer.__name__, row.only)
    return blake2b(repr(form).encode(), digest_size=4).hexdigest()
