"""Which texts a prompt was trained on, as a small Bloom filter: it finds overlap, no text can be read back.

A fingerprint keeps only a text's letters and digits: spacing, case and punctuation differ between copies of
one data set and must not hide an overlap.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from spot.storage.text import letters

FALSE_POSITIVES = 1e-4
MINIMUM_CHARACTERS = 20
HASHES = 13  # the optimum for 1e-4, log2(1e4) = 13.3, rounded
_WORDS = 16  # a 64-byte digest holds 16 independent 32-bit positions


@dataclass(frozen=True, eq=False)
class Sketch:
    """A Bloom filter over text fingerprints.

    Attributes:
        bits: uint8 [n_bytes], bit i of the filter is bit i % 8 of byte i // 8.
        hashes: positions that each fingerprint sets.
    """

    bits: np.ndarray
    hashes: int

    def __post_init__(self) -> None:
        """Check the shapes and take a read-only copy.

        Raises:
            ValueError: the filter is not uint8 [n_bytes] with at least one byte, or has no usable hash count.
        """
        bits = np.array(self.bits)
        if bits.dtype != np.uint8 or bits.ndim != 1 or not len(bits):
            raise ValueError(f"a sketch is uint8 [n_bytes], found {bits.dtype} {list(bits.shape)}")
        if not 1 <= self.hashes <= _WORDS:
            raise ValueError(f"a sketch has 1 to {_WORDS} hashes, found {self.hashes}")
        bits.flags.writeable = False
        object.__setattr__(self, "bits", bits)


def fingerprint(text: str) -> str | None:
    """A text's letters and digits, or None where these are under 20, too few to compare."""
    kept = letters(text)
    return kept if len(kept) >= MINIMUM_CHARACTERS else None


def build(texts: Iterable[str]) -> Sketch:
    """Sketch a set of texts; their order and repetitions make no difference.

    Args:
        texts: the raw text fields of the rows that a prompt was trained on; those too short to tell apart are
            left out.

    Returns:
        A filter of 19.2 bits a text that wrongly claims to hold one text in 10,000.
    """
    prints = sorted({digest for text in texts if (digest := fingerprint(text)) is not None})
    # Bits so that the chance that all HASHES positions of a new text are taken is FALSE_POSITIVES.
    bits_each = -HASHES / math.log1p(-(FALSE_POSITIVES ** (1 / HASHES)))
    flags = np.zeros(8 * max(1, math.ceil(len(prints) * bits_each / 8)), dtype=bool)
    flags[_positions(prints, HASHES, len(flags))] = True
    return Sketch(bits=np.packbits(flags, bitorder="little"), hashes=HASHES)


def contains(sketch: Sketch, text: str) -> bool:
    """Whether the sketch holds a text: a yes is wrong once in 10,000, a no never; too short is a no."""
    return bool(seen(sketch, [[text]])[0])


def seen(sketch: Sketch, rows: Iterable[Sequence[str]]) -> np.ndarray:
    """Which rows have a text that the sketch holds.

    Args:
        sketch: the texts to look among.
        rows: the raw text fields of each row; a row counts as seen when any one of its texts is.

    Returns:
        bool [rows].
    """
    owners: list[int] = []
    prints: list[str] = []
    count = 0
    for row, texts in enumerate(rows):
        count = row + 1
        for text in texts:
            if (digest := fingerprint(text)) is not None:
                owners.append(row)
                prints.append(digest)
    result = np.zeros(count, dtype=bool)
    positions = _positions(prints, sketch.hashes, 8 * len(sketch.bits))
    set_bits = sketch.bits[positions // 8] >> (positions % 8).astype(np.uint8) & 1
    result[np.array(owners, dtype=np.intp)[set_bits.all(axis=1)]] = True
    return result


def seen_by_any(sketches: Iterable[Sketch], rows: Sequence[Sequence[str]]) -> np.ndarray:
    """Which rows have a text that one of several sketches holds, bool [rows]; arguments are as those of `seen`."""
    known = np.zeros(len(rows), dtype=bool)
    for sketch in sketches:
        known |= seen(sketch, rows)
    return known


def _positions(prints: Sequence[str], hashes: int, n_bits: int) -> np.ndarray:
    """The bits [n, hashes] of each fingerprint.

    Each position has its own 32 bits of the digest: deriving them all from two numbers would make the
    positions of a text coincide about once in n_bits texts, far too often for the filters of small tasks.
    """
    digests = b"".join(blake2b(text.encode("utf-8", "surrogatepass")).digest() for text in prints)
    words = np.frombuffer(digests, dtype="<u4").reshape(len(prints), _WORDS)
    return words[:, :hashes].astype(np.int64) % n_bits
