"""Make source tasks of unlabelled text: continue a prefix, or fill in the spans that were taken out.

Text knows no tokens, so lengths count words. A document is cut into chunks of nearly equal length, at most CHUNK
words each, words joined by single blanks (T5's vocabulary has no other spacing). A document of one word has nothing
to predict and is left out. What is cut where depends on the words of the chunk and on nothing else.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import count, pairwise
from pathlib import Path

from spot.reading import Reading
from spot.tasks.columns import Text
from spot.tasks.data_set import DataSet, RawRow, sentinels_of
from spot.tasks.formats import open_text
from spot.tasks.task import Example, Task, check_split

CHUNK = 64  # words: about 85 tokens, so that a prefix fits the default of 96 input tokens
DENSITY = 0.15  # share of the words that span corruption takes out (T5)
SPAN = 3  # mean words of a span (T5)
BLOCK = 1 << 16  # characters of a text file that are read at once

# Of text files as tasks: raised by hand when the examples of a text change, see `DataSet.revisions`.
PREFIX_REVISION = "27d6e3fc"
SPANS_REVISION = "706d42ed"

Split = Callable[[Sequence[str]], tuple[str, str]]


def chunks(words: Sequence[str], size: int = CHUNK) -> Iterator[Sequence[str]]:
    """Cut words into as few parts of at most `size` as it takes, whose lengths differ by at most 1."""
    parts = -(-len(words) // size)
    start = 0
    for number in range(parts):
        end = (number + 1) * len(words) // parts
        yield words[start:end]
        start = end


def prefix_split(words: Sequence[str]) -> tuple[str, str]:
    """Cut a chunk into a prefix and its continuation, the first of 1 to n - 1 words, each length as likely.

    This is T5's prefix language model with noise density 0.5 (SPoT section 2.1.3): half of the words on average.

    Args:
        words: of the chunk, at least two.

    Returns:
        Prefix and continuation; with a blank between them they are the chunk.
    """
    cut = 1 + _below(_generator(words), len(words) - 1)
    return " ".join(words[:cut]), " ".join(words[cut:])


def corrupt(words: Sequence[str]) -> tuple[str, str]:
    """Take random spans out of a chunk: 15 % of its words in spans of 3 on average, as T5's pre-training does.

    The chunk starts with words that stay and ends with words that go, as in T5. The k-th span leaves the sentinel
    `<extra_id_k>` behind, and the answer has that sentinel in front of the span. One that the chunk spells itself is
    passed over.

    Args:
        words: of the chunk, at least two.

    Returns:
        The corrupted chunk and the spans.
    """
    gone = min(max(round(len(words) * DENSITY), 1), len(words) - 1)
    spans = max(round(gone / SPAN), 1)
    generator = _generator(words)
    taken = _lengths(generator, gone, spans)
    staying = _lengths(generator, len(words) - gone, spans)
    text = " ".join(words)
    free = (sentinel for number in count() if (sentinel := f"<extra_id_{number}>") not in text)
    inputs: list[str] = []
    answer: list[str] = []
    at = 0
    for sentinel, stay, go in zip(free, staying, taken, strict=False):
        inputs += [*words[at : at + stay], sentinel]
        answer += [sentinel, *words[at + stay : at + stay + go]]
        at += stay + go
    return " ".join(inputs), " ".join(answer)


def text_task(name: str, path: Path, spans: bool = False) -> Task:
    """The source task of a plain text file, `.gz` or not; all its chunks are train rows.

    The file is one running text: chunks of CHUNK words follow each other over line ends, and the last is shorter.

    Args:
        name: of the task.
        path: the text, UTF-8; read as a stream, not before its rows are.
        spans: corrupt spans instead of cutting off a continuation.
    """
    split = corrupt if spans else prefix_split

    def load(asked: str) -> Iterator[Example]:
        check_split(name, asked, ("train",))
        for number, words in enumerate(_packed(_file_words(path)), start=1):
            text = _text(words, split)
            sentinels = sentinels_of(text) if spans else ()
            yield Example(f"train/{number}", text.inputs, text.answers, texts=text.texts, sentinels=sentinels)

    title = f"{'spans' if spans else 'continuation'} of {path.name}"
    reading = Reading(template="{text}")
    return Task(
        name,
        load,
        ("train",),
        (),
        ("likelihood",),
        SPANS_REVISION if spans else PREFIX_REVISION,
        title,
        kind="text",
        reading=reading,
        instruction=FILL_IN if spans else CONTINUE,
    )


def _form(split: Split) -> Callable[[RawRow, bool], Iterable[Text]]:
    """The form that makes an example of each chunk of the field `text`."""

    def form(row: RawRow, train: bool) -> Iterator[Text]:
        document = row.text("text").split()
        group = blake2b(" ".join(document).encode(), digest_size=8).hexdigest()
        for words in chunks(document):
            if len(words) > 1:
                yield _text(words, split, group)

    return form


def _text(words: Sequence[str], split: Split, group: str = "") -> Text:
    """The example that a chunk makes."""
    inputs, answer = split(words)
    return Text(inputs, (answer,), group, (" ".join(words),))


def _generator(words: Sequence[str]) -> random.Random:
    """A source of random numbers that is the same wherever these words stand."""
    return random.Random(int.from_bytes(blake2b(" ".join(words).encode(), digest_size=8).digest()))


def _below(generator: random.Random, limit: int) -> int:
    """A number from 0 to limit - 1 that no version of Python draws otherwise."""
    return int(generator.random() * limit)


def _lengths(generator: random.Random, total: int, parts: int) -> list[int]:
    """Cut `total` into so many parts of at least 1, each cut as likely."""
    places = list(range(1, total))
    for number in range(parts - 1):
        other = number + _below(generator, len(places) - number)
        places[number], places[other] = places[other], places[number]
    ends = [0, *sorted(places[: parts - 1]), total]
    return [end - start for start, end in pairwise(ends)]


def _file_words(path: Path) -> Iterator[str]:
    """Stream the words of a text file, by blocks: a file may be one long line."""
    with open_text(path) as text:
        rest = ""
        while block := text.read(BLOCK):
            words = (rest + block).split()
            rest = words.pop() if words and not block[-1].isspace() else ""
            yield from words
        if rest:
            yield rest


def _packed(words: Iterable[str]) -> Iterator[list[str]]:
    """Gather words into chunks of CHUNK; the last may be shorter, a last single word is left out."""
    chunk: list[str] = []
    for word in words:
        chunk.append(word)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if len(chunk) > 1:
        yield chunk


CONTINUE = "Continue the text."
FILL_IN = "Write the words that are missing at each mark of the text."
C4_DOCUMENTS = 364_868_892
C4_LICENCE = "ODC-BY; Common Crawl terms"
NLTK_LICENCE = "per corpus (see NLTK index): ABC non-commercial, speeches public domain, webtext non-commercial"

TABLE: dict[str, DataSet] = {
    "c4": DataSet(
        title="continuation of web pages",
        instruction=CONTINUE,
        form=_form(prefix_split),
        folder="c4",
        hub="allenai/c4:en",
        metrics=("likelihood",),
        paper="arXiv:1910.10683",
        licence=C4_LICENCE,
        size=C4_DOCUMENTS,
        kind="text",
        name="",
        revisions=("47c75da3", "33098a32"),
    ),
    "c4/spans": DataSet(
        title="missing spans of web pages",
        instruction=FILL_IN,
        form=_form(corrupt),
        folder="c4",
        hub="allenai/c4:en",
        metrics=("likelihood",),
        paper="arXiv:1910.10683",
        licence=C4_LICENCE,
        size=C4_DOCUMENTS,
        kind="text",
        name="",
        revisions=("a6bef077", "f4132e65"),
        has_sentinels=True,
    ),
    "nltk_text": DataSet(
        title="continuation of news, speeches and chat",
        instruction=CONTINUE,
        form=_form(prefix_split),
        folder="nltk_text",
        metrics=("likelihood",),
        licence=NLTK_LICENCE,
        kind="text",
        name="",
        revisions=("81553e75", "38846317"),
    ),
    "nltk_text/spans": DataSet(
        title="missing spans of news, speeches and chat",
        instruction=FILL_IN,
        form=_form(corrupt),
        folder="nltk_text",
        metrics=("likelihood",),
        licence=NLTK_LICENCE,
        kind="text",
        name="",
        revisions=("320cc9cb", "f31a63b1"),
        has_sentinels=True,
    ),
}
