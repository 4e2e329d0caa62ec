"""Sketches: what they hold, what they wrongly claim, and the overlaps that are known to exist."""

import gzip
import json
import math
import random
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spot.prompts.overlap import Sketch, build, contains, fingerprint, seen


def rows(path: Path) -> Iterator[dict[str, object]]:
    """The rows of a JSONL file, compressed or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        yield from map(json.loads, file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It 's a Charming, and often affecting journey .", "itsacharmingandoftenaffectingjourney"),
        ("1234567890 abcdefghi_J", "1234567890abcdefghij"),
        ("1234567890 abcdefghi !", None),  # 19 letters and digits
        ("", None),
        ("ÉTÉ " * 7, "été" * 7),
        ("E\u0301te\u0301 " * 7, "été" * 7),  # the same letters with combining accents
        ("\uff21" * 20, "a" * 20),  # full-width letters
        ("今日はとても良い天気なので散歩に行きましょう", "今日はとても良い天気なので散歩に行きましょう"),
    ],
)
def test_fingerprint(text: str, expected: str | None) -> None:
    """Letters and digits of every script, lower case, at least 20 of them."""
    assert fingerprint(text) == expected


def test_bits_are_as_defined() -> None:
    """The filter against a few lines of plain arithmetic: later versions must find what old files hold."""
    texts = [f"a text long enough to count, number {i}" for i in range(50)]
    sketch = build(texts)
    expected = bytearray(len(sketch.bits))
    for text in texts:
        digest = blake2b("".join(c for c in text if c.isalnum()).encode()).digest()
        for i in range(13):
            bit = int.from_bytes(digest[4 * i : 4 * i + 4], "little") % (8 * len(expected))
            expected[bit // 8] |= 1 << bit % 8
    assert sketch.bits.tobytes() == bytes(expected)
    assert sketch.hashes == 13


def test_order_repetition_spelling_and_short_texts_make_no_difference() -> None:
    """Equal sets of fingerprints give equal bits."""
    texts = [f"Some text of this Set: number {i}" for i in range(30)]
    other = [text.upper().replace(" ", " . ") for text in reversed(texts)] + texts[:10] + ["short", ""]
    assert np.array_equal(build(texts).bits, build(other).bits)


def test_size_is_that_of_an_optimal_filter() -> None:
    """-n ln(p) / ln(2)^2 bits and not more than a thousandth above, in whole bytes."""
    for n in (1, 10, 1_000, 20_000):
        bits = 8 * len(build(f"the text with the number {i:06}" for i in range(n)).bits)
        optimum = n * -math.log(1e-4) / math.log(2) ** 2
        assert optimum <= bits <= 1.001 * optimum + 8


@pytest.mark.parametrize("n", [3, 60, 2_000])
def test_false_positives_are_one_in_ten_thousand(n: int) -> None:
    """Also for small filters, where positions derived from two numbers would fail more often."""
    sketch = build(f"a text that is in the set {i}" for i in range(n))
    trials = 100_000
    wrong = int(seen(sketch, ((f"another text that is not in it {i}",) for i in range(trials))).sum())
    assert wrong <= 10 + 5 * math.sqrt(10)  # 10 expected; five standard deviations


@settings(deadline=None)
@given(texts=st.lists(st.text(min_size=15, max_size=60), max_size=20))
def test_no_false_negatives(texts: list[str]) -> None:
    """What went in is found, unless it is too short to tell apart; lone surrogates are only text as well."""
    texts = [*texts, "\ud800" + "abcdefghij" * 2]
    sketch = build(texts)
    assert [contains(sketch, text) for text in texts] == [fingerprint(text) is not None for text in texts]


def test_seen_needs_one_text_of_a_row() -> None:
    """A pair counts as seen when either text was; rows without texts do not."""
    sketch = build(["the premise that was trained on"])
    new = "a hypothesis that was not trained on"
    old = "The premise -- that was trained on!"
    found = seen(sketch, [(new, old), (new,), (), (old,), ("short",)])
    assert found.tolist() == [True, False, False, True, False]
    assert found.dtype == bool
    assert seen(sketch, []).tolist() == []
    assert seen(sketch, [("short",), ()]).tolist() == [False, False]


def test_empty_sketch_holds_nothing() -> None:
    """No text, one byte."""
    sketch = build([])
    assert sketch.bits.tolist() == [0]
    assert not contains(sketch, "any text that is long enough to be told apart")


def test_bits_cannot_change() -> None:
    """A sketch is a value: it keeps its own, read-only copy."""
    mine = np.ones(4, dtype=np.uint8)
    sketch = Sketch(bits=mine, hashes=13)
    mine[0] = 0
    assert sketch.bits.tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="read-only"):
        sketch.bits[0] = 0


@pytest.mark.parametrize(
    ("bits", "hashes", "message"),
    [
        (np.zeros(4, dtype=np.float32), 13, r"uint8 \[n_bytes\], found float32 \[4\]"),
        (np.zeros((2, 2), dtype=np.uint8), 13, r"uint8 \[n_bytes\], found uint8 \[2, 2\]"),
        (np.zeros(0, dtype=np.uint8), 13, r"found uint8 \[0\]"),
        (np.zeros(4, dtype=np.uint8), 0, "1 to 16 hashes, found 0"),
        (np.zeros(4, dtype=np.uint8), 17, "1 to 16 hashes, found 17"),
    ],
)
def test_wrong_arrays_are_refused(bits: np.ndarray, hashes: int, message: str) -> None:
    """Type, shape and hash count."""
    with pytest.raises(ValueError, match=message):
        Sketch(bits=bits, hashes=hashes)


def test_sixty_thousand_texts_take_seconds() -> None:
    """Building and asking, on one core that others may be using."""
    generator = random.Random(0)
    words = ["film", "plot", "charming", "dull", "brilliant", "the", "and", "never", "funny", "journey"]
    texts = [" ".join(generator.choices(words, k=12)) for _ in range(60_000)]
    began = time.process_time()
    assert seen(build(texts), [(text,) for text in texts]).all()
    assert time.process_time() - began < 5


def test_vader_amazon_sentences_are_found_in_cr(shared: Path) -> None:
    """222 evaluation texts of cr are also in vader's Amazon part; an exact comparison is the oracle."""
    amazon = [str(row["text"]) for row in rows(shared / "data/vader/train.jsonl.gz") if row["domain"] == "amazon"]
    cr = [str(row["text"]) for row in rows(shared / "data/cr/validation.jsonl")]
    exact = {fingerprint(text) for text in amazon} - {None}
    expected = [fingerprint(text) in exact for text in cr]
    assert sum(expected) == 222
    found = seen(build(amazon), [(text,) for text in cr])
    assert found.sum() - 222 <= 2
    assert found[expected].all()


def test_trec_is_not_found_in_sst2(shared: Path) -> None:
    """Questions and film reviews share nothing: at most a false positive."""
    sketch = build(str(row["text"]) for row in rows(shared / "data/trec/train.jsonl"))
    sst2 = [(str(row["sentence"]),) for row in rows(shared / "data/sst2/validation.jsonl")]
    assert len(sst2) == 872
    assert seen(sketch, sst2).sum() <= 1
