"""Write sets with open answers as text: translation, summarization, and the English members of GEM.

Translation and summarization have T5's forms: `translate English to German: ..` and `summarize: ..`. GEM's structured
inputs have none, so each is written on one line, fields in the order of the row; a row's references are all accepted.
"""

from collections.abc import Callable, Iterator
from typing import Any

from spot.errors import TaskError
from spot.tasks.columns import Text
from spot.tasks.data_set import DataSet, Form, RawRow

LANGUAGES = {"de": "German", "fr": "French", "ro": "Romanian"}
ACTS = (
    "AFFIRM",
    "AFFIRM_INTENT",
    "CONFIRM",
    "GOODBYE",
    "INFORM",
    "INFORM_COUNT",
    "INFORM_INTENT",
    "NEGATE",
    "NEGATE_INTENT",
    "NOTIFY_FAILURE",
    "NOTIFY_SUCCESS",
    "OFFER",
    "OFFER_INTENT",
    "REQUEST",
    "REQUEST_ALTS",
    "REQ_MORE",
    "SELECT",
    "THANK_YOU",
)


def translation(language: str) -> Form:
    """T5's translation from English; the field `translation` holds a text a language.

    Args:
        language: two letters, a key of LANGUAGES.
    """

    def form(row: RawRow, train: bool) -> Iterator[Text]:
        pair = row.inner("translation")
        english, target = pair.text("en"), pair.answer(language)
        if english.strip() and (target.strip() or not row.answered):
            yield Text(f"translate English to {LANGUAGES[language]}: {english}", (target,), texts=(english,))

    return form


def summary(source: str, target: str) -> Form:
    """T5's summarization; a row whose document or summary is blank is left out, as some sets have such rows.

    Args:
        source: field of the document.
        target: field of the summary.
    """

    def form(row: RawRow, train: bool) -> Iterator[Text]:
        document, short = row.text(source), row.answer(target)
        if document.strip() and (short.strip() or not row.answered):
            yield Text(f"summarize: {document}", (short,), texts=(document,))

    return form


def wiki_lingua(row: RawRow, train: bool) -> Iterator[Text]:
    """WikiLingua: a page holds several methods, each with a summary of its own; a page's methods are one group."""
    article = row.inner("article")
    documents = article.texts("document")
    summaries = article.texts("summary") if row.answered else ("",) * len(documents)
    if len(documents) != len(summaries):
        raise TaskError(
            f"{row.place}: field 'article' holds {len(documents)} documents and {len(summaries)} summaries, expected "
            "as many of each. Mend the row or leave it out."
        )
    for document, short in zip(documents, summaries, strict=True):
        if document.strip() and (short.strip() or not row.answered):
            yield Text(f"summarize: {document}", (short,), group=row.text("url"), texts=(document,))


def gem(key: str, write: Callable[[RawRow], str]) -> Form:
    """The form of a GEM set: `key: ..`, then the target and the other references.

    Args:
        key: in front of the input.
        write: row -> its input on one line.
    """

    def form(row: RawRow, train: bool) -> Iterator[Text]:
        line = write(row)
        references = row.texts("references") if "references" in row.fields else ()
        answers = tuple(dict.fromkeys(filter(str.strip, (row.answer("target"), *references))))
        if line.strip() and (answers or not row.answered):
            yield Text(f"{key}: {line}", answers, texts=(line,))

    return form


def concepts(row: RawRow) -> str:
    """CommonGen: `field, look, stand`."""
    return ", ".join(row.texts("concepts"))


def triples(row: RawRow) -> str:
    """DART: `subject | relation | object`, triples parted by ` ; `."""
    listed = row.fields.get("tripleset")
    if not isinstance(listed, list) or not all(_is_texts(triple) for triple in listed):
        raise TaskError(f"{row.place}: field 'tripleset' holds {listed!r:.60}, expected lists of texts. Mend the row.")
    return " ; ".join(" | ".join(triple) for triple in listed)


def joined_triples(row: RawRow) -> str:
    """WebNLG: its triples are texts such as `Aarhus | leader | Jacob_Bundsgaard`, here parted by ` ; `."""
    return " ; ".join(row.texts("input"))


def dialogue(row: RawRow) -> str:
    """Schema-guided dialogue: `CONFIRM(song_name = Carnivore) ; REQ_MORE prompt: Yes, I would.`."""
    acts = row.fields.get("dialog_acts")
    if not isinstance(acts, list) or not all(isinstance(act, dict) for act in acts):
        raise TaskError(f"{row.place}: field 'dialog_acts' holds {acts!r:.60}, expected a list of acts. Mend the row.")
    return f"{' ; '.join(_act(row, act) for act in acts)} prompt: {row.text('prompt')}"


def field(name: str) -> Callable[[RawRow], str]:
    """The input is one text of the row."""
    return lambda row: row.text(name)


def _act(row: RawRow, act: dict[str, Any]) -> str:
    """One act of a dialogue: its name, and its slot with the values, where it has a slot."""
    name, slot, values = act.get("act"), act.get("slot"), act.get("values")
    is_act = name in ACTS or (type(name) is int and name in range(len(ACTS)))
    if not is_act or not isinstance(slot, str) or not _is_texts(values):
        raise TaskError(
            f"{row.place}: field 'dialog_acts' holds {act!r:.60}, expected an act (0 to {len(ACTS) - 1}, or its name), "
            "a slot and a list of values. Mend the row or leave it out."
        )
    word = ACTS[name] if isinstance(name, int) else str(name)
    if not slot:
        return word
    return f"{word}({slot} = {', '.join(values)})" if values else f"{word}({slot})"


def _is_texts(value: object) -> bool:
    """Whether this is a list of texts."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _wmt(language: str, *, year: int, size: int, revisions: tuple[str, str]) -> DataSet:
    """One WMT pair, from English."""
    return DataSet(
        title=f"English to {LANGUAGES[language]}, WMT {year}",
        instruction=f"Translate the text from English to {LANGUAGES[language]}.",
        form=translation(language),
        folder=f"wmt_en_{language}",
        hub=f"wmt/wmt{year % 100}:{language}-en",
        metrics=("bleu",),
        size=size,
        kind="text",
        revisions=revisions,
    )


def _gem(
    name: str,
    *,
    title: str,
    instruction: str,
    form: Form,
    hub: str = "",
    metrics: tuple[str, ...],
    size: int | None = None,
    revisions: tuple[str, str],
) -> DataSet:
    """One GEM set, in the fields of GEM 1.1."""
    return DataSet(
        title=title,
        instruction=instruction,
        form=form,
        folder=f"gem_{name}",
        hub=hub,
        metrics=metrics,
        paper="arXiv:2102.01672",
        size=size,
        kind="text",
        revisions=revisions,
    )


DATA_TO_TEXT = ("bleu", "rouge")

TABLE: dict[str, DataSet] = {
    "wmt/en_de": _wmt("de", year=2014, size=4_500_000, revisions=("96ee2e53", "945d13d0")),
    "wmt/en_fr": _wmt("fr", year=2015, size=40_850_000, revisions=("b28525e4", "022a8837")),
    "wmt/en_ro": _wmt("ro", year=2016, size=610_320, revisions=("beb4f050", "768f59d4")),
    "aeslc": DataSet(
        title="subject lines of mails",
        instruction="Write the subject line of the mail.",
        form=summary("email_body", "subject_line"),
        folder="aeslc",
        hub="Yale-LILY/aeslc",
        metrics=("rouge",),
        paper="arXiv:1906.03497",
        size=14_436,
        kind="text",
        revisions=("1fa39058", "c32378cc"),
    ),
    "billsum": DataSet(
        title="summaries of bills (the hub has no validation split: its test split stands in)",
        instruction="Summarize the bill in a paragraph.",
        form=summary("text", "summary"),
        folder="billsum",
        hub="FiscalNote/billsum",
        metrics=("rouge",),
        hub_splits={"train": "train", "validation": "test"},
        paper="arXiv:1910.00523",
        size=18_949,
        kind="text",
        revisions=("9e98b3d2", "5fd9f696"),
    ),
    "cnn_dailymail": DataSet(
        title="highlights of news",
        instruction="Write the highlights of the news article in a few sentences.",
        form=summary("article", "highlights"),
        folder="cnn_dailymail",
        hub="abisee/cnn_dailymail:3.0.0",
        metrics=("rouge",),
        size=287_113,
        kind="text",
        revisions=("2d5c9f53", "fe150fc9"),
    ),
    "wiki_lingua": DataSet(
        title="summaries of how-to pages, English (the hub has a train split only)",
        instruction="Summarize the steps of the how-to page.",
        form=wiki_lingua,
        folder="wiki_lingua",
        hub="esdurmus/wiki_lingua:english",
        metrics=("rouge",),
        splits=("train",),
        hub_splits={"train": "train"},
        paper="arXiv:2010.03093",
        kind="text",
        revisions=("47697d1d", "15edad61"),
    ),
    "gigaword": DataSet(
        title="headlines of news",
        instruction="Write the headline of the news text.",
        form=summary("document", "summary"),
        folder="gigaword",
        metrics=("rouge",),
        paper="arXiv:1509.00685",
        size=3_803_957,
        kind="text",
        revisions=("7afa1a0d", "278c6089"),
    ),
    "multi_news": DataSet(
        title="summaries of several news items",
        instruction="Summarize what the news articles say together.",
        form=summary("document", "summary"),
        folder="multi_news",
        metrics=("rouge",),
        paper="arXiv:1906.01749",
        size=44_972,
        kind="text",
        revisions=("80ce5414", "b0a3eda4"),
    ),
    "newsroom": DataSet(
        title="summaries written in newsrooms",
        instruction="Summarize the news article in a sentence or two.",
        form=summary("text", "summary"),
        folder="newsroom",
        metrics=("rouge",),
        paper="arXiv:1804.11283",
        size=995_041,
        kind="text",
        revisions=("e19d47c8", "97dbd275"),
    ),
    "samsum": DataSet(
        title="summaries of chats",
        instruction="Summarize the chat in a sentence or two.",
        form=summary("dialogue", "summary"),
        folder="samsum",
        hub="knkarthick/samsum",
        metrics=("rouge",),
        paper="arXiv:1911.12237",
        size=14_732,
        kind="text",
        revisions=("f5d1abc2", "a5039f80"),
    ),
    "xsum": DataSet(
        title="one-sentence summaries of news",
        instruction="Summarize the news article in one sentence.",
        form=summary("document", "summary"),
        folder="xsum",
        hub="EdinburghNLP/xsum",
        metrics=("rouge",),
        paper="arXiv:1808.08745",
        size=204_045,
        kind="text",
        revisions=("603f86c8", "55324e6c"),
    ),
    "gem/common_gen": _gem(
        "common_gen",
        title="a sentence from concepts",
        instruction="Write a sentence of everyday life that uses all the concepts.",
        form=gem("concepts", concepts),
        hub="allenai/common_gen",
        metrics=DATA_TO_TEXT,
        size=67_389,
        revisions=("7d2c0685", "c67e6727"),
    ),
    "gem/dart": _gem(
        "dart",
        title="text from triples of many sources",
        instruction="Say in sentences what the triples state.",
        form=gem("triples", triples),
        metrics=DATA_TO_TEXT,
        size=62_659,
        revisions=("a8fb739f", "6d933509"),
    ),
    "gem/e2e_nlg": _gem(
        "e2e_nlg",
        title="restaurants from attributes",
        instruction="Describe the restaurant that has these attributes.",
        form=gem("meaning", field("meaning_representation")),
        metrics=DATA_TO_TEXT,
        size=33_525,
        revisions=("ab4c0e6f", "4f6f7cea"),
    ),
    "gem/schema_guided_dialog": _gem(
        "schema_guided_dialog",
        title="a reply from dialogue acts",
        instruction="Write the reply to the prompt that does what the acts say.",
        form=gem("acts", dialogue),
        metrics=DATA_TO_TEXT,
        size=164_982,
        revisions=("c5f46d00", "f1ce6fc6"),
    ),
    "gem/web_nlg": _gem(
        "web_nlg",
        title="text from DBpedia triples, English",
        instruction="Say in sentences what the triples state.",
        form=gem("triples", joined_triples),
        metrics=DATA_TO_TEXT,
        size=35_426,
        revisions=("7d663493", "2488a704"),
    ),
    "gem/wiki_auto": _gem(
        "wiki_auto",
        title="simpler sentences",
        instruction="Say the same in simpler words.",
        form=gem("simplify", field("source")),
        metrics=("bleu",),
        size=483_801,
        revisions=("468456cb", "7e823afb"),
    ),
    "gem/xsum": _gem(
        "xsum",
        title="one-sentence summaries, GEM's part of XSum",
        instruction="Summarize the news article in one sentence.",
        form=gem("summarize", field("document")),
        metrics=("rouge",),
        size=23_206,
        revisions=("d19d5262", "a805bc1c"),
    ),
    "gem/wiki_lingua": _gem(
        "wiki_lingua",
        title="summaries of how-to pages, into English",
        instruction="Summarize the steps of the how-to page in English.",
        form=gem("summarize", field("source")),
        metrics=("rouge",),
        revisions=("e09e3b98", "0130eec2"),
    ),
}
