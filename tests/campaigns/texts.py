"""Encode random texts with random tokenizers: `python -m tests.campaigns.texts --trials 3000 --seed 1`.

The oracle is a twin of each tokenizer in which special tokens have names that no text spells. What the author of a
template writes is spelled with these names; what a row brings stays as it is.
"""

import logging
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from spot.collator import Collator, Row
from spot.reading import CUE, Reading
from spot.tasks.task import Example
from tests.campaigns.trials import Campaign, Failure, main
from tests.support.random_tokenizers import HIDDEN, SPECIALS, WORDS, Drawn, draw

LABELS = (("yes", "no"), ("good", "bad film"), ("<s>", "</s>"), ("-5", "5"))
BEFORE = ("a", "word", "It ends.")
CUES = (None, None, CUE, "?\n", " answer: ", "", "<|im_start|>answer:")
ODD = (
    "caf\u00e9",
    "\u0939\u093f\u0902\u0926\u0940",
    "\u4e2d\u6587",
    "\U0001f44d",
    "a</s>b",
    "<unk>",
    "< s>",
    "s>",
    "  ",
    "\n",
    "the the",
)


def text(chance: random.Random, most: int = 12) -> str:
    """Words, odd characters and special tokens, with blanks or without."""
    parts = []
    for _ in range(chance.randint(1, most)):
        parts.append(chance.choice(chance.choice([WORDS, WORDS, SPECIALS, ODD])))
        parts.append(chance.choice([" ", " ", " ", "", "."]))
    return "".join(parts).strip() or "text"


def author(words: str) -> str:
    """What the author of a template wrote, as the twin reads it."""
    for name, hidden in HIDDEN.items():
        words = words.replace(name, hidden)
    return words


def ids(drawn: Drawn, twin_text: str) -> tuple[int, ...]:
    return tuple(drawn.twin.encode(twin_text, add_special_tokens=False).ids)


def behind(drawn: Drawn, before: str, rest: str) -> tuple[int, ...] | None:
    """The ids of a text behind another, or None where the two cannot be told apart."""
    front, whole = ids(drawn, before), ids(drawn, before + rest)
    return whole[len(front) :] if whole[: len(front)] == front else None


def try_once(seed: int) -> None:
    """Encode rows of one drawn task with one drawn tokenizer.

    Raises:
        AssertionError: a row is not what the oracle says.
    """
    drawn = draw(seed)
    chance = random.Random(f"texts {seed}")
    kind = chance.choice(["causal", "seq2seq"])
    labels = chance.choice(LABELS)
    cue, separator = chance.choice(CUES), chance.choice([None, None, "", " "])
    pieces = [(chance.choice(["sentence: ", "", "the text: ", "<s>", "<|im_start|>"]), "one")]
    if chance.random() < 0.5:
        pieces.append((chance.choice([" text: ", " | ", "</s>", " <|im_start|> "]), "two"))
    ending = chance.choice(["", "", " Is it good?", "</s>"])
    is_cut = chance.random() < 0.4
    reading = Reading(
        template="".join(f"{before}{{{field}}}" for before, field in pieces) + ending,
        cue=cue,
        separator=separator,
        end=chance.choice(["auto", "always" if drawn.end is not None else "auto", "never"]),
        max_input_tokens=chance.randint(40, 70) if is_cut else 10**6,
        truncate=chance.choice(["left", "right"]),
    ).of_labels(labels)
    spelled = reading.for_kind(kind)
    collator = Collator(drawn.tokenizer, kind, reading)
    fields = [text(chance, 12 if not is_cut else 40) for _ in pieces]
    whole = reading.render(dict(zip(("one", "two"), fields, strict=False)))
    twin_parts = [part for (before, _), field in zip(pieces, fields, strict=True) for part in (author(before), field)]
    twin_parts.append(author(ending))
    inputs = "".join(twin_parts)
    unknown = drawn.special["<unk>"]
    labels_known = not any(unknown in ids(drawn, label) for label in labels)
    [row] = collator.encode([Example("1", whole, labels[:1], texts=tuple(fields))])

    before, after = drawn.before, drawn.behind if kind == "seq2seq" else ()
    words = ids(drawn, inputs)
    assert row.unknown == words.count(unknown), f"{row.unknown} unknown, expected {words.count(unknown)}"
    cue_text = author(spelled.cue)
    in_place = behind(drawn, inputs, cue_text)
    cues = {behind(drawn, start, cue_text) for start in BEFORE} | {in_place}
    alone = ids(drawn, cue_text)
    assert row.input_ids[: len(before)] == before, "what stands before"
    assert row.input_ids[len(row.input_ids) - len(after) :] == after, "what stands behind"
    content = row.input_ids[len(before) : len(row.input_ids) - len(after)]
    fitting = [
        tokens for tokens in (*cues, alone) if tokens is not None and content[len(content) - len(tokens) :] == tokens
    ]
    assert fitting, "the cue"
    if len(cues) == 1 and in_place is not None:
        assert content[len(content) - len(in_place) :] == in_place, "the cue in its place"
        fitting = [in_place]
    if not row.lost:
        assert any(content == words + tokens for tokens in fitting), "the words of the row"
        if drawn.kind in ("bytes", "bpe") and not set(words) & set(drawn.special.values()):
            assert drawn.tokenizer.decode(words) == whole, "the text comes back"
    else:
        assert len(row.input_ids) == reading.max_input_tokens, "as long as may be"
        _check_cut(drawn, row, reading, twin_parts, content, fitting)

    if labels_known:
        _check_labels(drawn, collator, kind, inputs + cue_text, spelled.separator, labels)


def _check_cut(drawn, row: Row, reading: Reading, parts: list[str], content, cues) -> None:
    """What an author wrote is whole, and of the fields the longest lost first and at the right end."""
    encoding = drawn.twin.encode("".join(parts), add_special_tokens=False)
    starts = [0, *accumulate(map(len, parts))]

    def owner(span: tuple[int, int]) -> int:
        touched = {bisect_right(starts, place) - 1 for place in range(*span) if not "".join(parts)[place].isspace()}
        if not touched:
            touched = {bisect_right(starts, min(span[0], starts[-1] - 1)) - 1}
        authors = [number for number in touched if number % 2 == 0]
        return min(authors or touched)

    owners = [owner(span) for span in encoding.offsets]
    fields = sorted({number for number in owners if number % 2})
    sizes = {number: owners.count(number) for number in fields}
    kept = dict(sizes)
    for _ in range(row.lost):  # one token at a time from the longest, of equals the last
        longest = max(fields, key=lambda number: (kept[number], number))
        kept[longest] -= 1
    expected = []
    seen = dict.fromkeys(fields, 0)
    for token, number in zip(encoding.ids, owners, strict=True):
        if number % 2:
            place = seen[number]
            seen[number] += 1
            if not (place < kept[number] if reading.truncate == "right" else place >= sizes[number] - kept[number]):
                continue
        expected.append(token)
    assert any(content == (*expected, *cue) for cue in cues), f"the cut: {parts}"


def _check_labels(drawn, collator: Collator, kind: str, before: str, separator: str, labels) -> None:
    """Labels are tokenised as they stand, and end where they must."""
    plain = []
    for label in labels:
        alone = ids(drawn, author(separator) + label)
        if kind == "seq2seq":
            plain.append((drawn.before + alone,))
        else:
            in_place = behind(drawn, before, separator + label)
            ways = {behind(drawn, start, author(separator) + label) for start in BEFORE} | {in_place}
            plain.append((in_place,) if len(ways) == 1 and in_place else (*filter(None, ways), alone))
    try:
        choices = collator.choices
    except Exception as error:
        assert "same tokens" in str(error) or "begins the label" in str(error) or "has no tokens" in str(error), error
        return
    for ids_of_label, ways in zip(choices, plain, strict=True):
        assert any(ids_of_label in (way, (*way, drawn.end)) for way in ways), "a label"
        if collator.reading.end == "never":
            assert ids_of_label in ways, "a label without an end"
        if collator.reading.end == "always":
            assert ids_of_label[-1] == drawn.end, "a label with its end"


def campaign(folder: Path) -> Campaign:
    """Trials that need no folder; the number of each, drawn from its seed, makes tokenizer, task and row."""

    def trial(chance: random.Random, folder: Path, number: int) -> Sequence[Failure]:
        seed = chance.getrandbits(32)
        logging.disable(logging.WARNING)  # what is cut or unknown is said of every row
        try:
            try_once(seed)
        except Exception as error:
            return [Failure(number, f"try_once({seed})", "encode", f"{type(error).__name__}: {error}"[:300])]
        finally:
            logging.disable(logging.NOTSET)
        return []

    return trial


if __name__ == "__main__":
    main("texts", campaign)
