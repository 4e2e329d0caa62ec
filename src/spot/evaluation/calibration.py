"""Measure whether answers are right as often as the model says: reliability in bins, and the expected error of it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spot.rendering.drawings import reliability_diagram
from spot.rendering.html import Section

BINS = 10  # of equal width, as Guo et al. 2017 plot them
FEW = 100  # rows below which a bin holds a handful


@dataclass(frozen=True)
class Bin:
    """Answers of like probability.

    Attributes:
        low, high: their probability is above the one and at most the other, percent.
        confidence: mean probability of the answers, percent; 0 without rows.
        right: share that is right, percent; 0 without rows.
        rows: how many there are.
    """

    low: float
    high: float
    confidence: float
    right: float
    rows: int


@dataclass(frozen=True)
class Calibration:
    """How well the probabilities of answers agree with how often these are right.

    Attributes:
        bins: by probability, ascending.
        error: expected calibration error (ECE), points: the mean over all rows of how far the share that is right lies
            from the mean probability in the row's bin (Naeini et al. 2015).
        confidence: mean probability of the answers, percent.
        right: share that is right, percent.
        rows: how many there are.
    """

    bins: tuple[Bin, ...]
    error: float
    confidence: float
    right: float
    rows: int

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain values."""
        return {**asdict(self), "bins": [asdict(part) for part in self.bins]}


def calibration(probabilities: Sequence[float], correct: Sequence[bool]) -> Calibration | None:
    """Compare the probability of each answer with whether it is right; None without answers.

    Args:
        probabilities: of the answers that were given, each the largest among its row's labels, from 0 to 1.
        correct: whether each is right.
    """
    if not probabilities:
        return None
    places = [min(BINS - 1, max(0, math.ceil(share * BINS) - 1)) for share in probabilities]
    bins = []
    for number in range(BINS):
        inside = [row for row, place in enumerate(places) if place == number]
        bins.append(
            Bin(
                low=100 * number / BINS,
                high=100 * (number + 1) / BINS,
                confidence=100 * _mean([probabilities[row] for row in inside]),
                right=100 * _mean([correct[row] for row in inside]),
                rows=len(inside),
            )
        )
    rows = len(probabilities)
    return Calibration(
        bins=tuple(bins),
        error=sum(part.rows * abs(part.right - part.confidence) for part in bins) / rows,
        confidence=100 * _mean(probabilities),
        right=100 * _mean(correct),
        rows=rows,
    )


def calibration_section(measured: Calibration) -> Section:
    """The reliability diagram of answers, and what its error means."""
    lean = measured.confidence - measured.right
    tendency = "too sure of itself" if lean > 0 else "less sure of itself than it could be"
    text = (
        f"Its answers have a mean probability of {measured.confidence:.1f} %, and {measured.right:.1f} % of them are "
        f"right: the model is {tendency if abs(lean) >= 1 else 'about as sure of itself as it is right'}. The expected "
        f"calibration error (ECE) is {measured.error:.1f} points: in {BINS} bins of equal width by the probability of "
        "the answer among the labels, the distance between the share that is right and the mean probability, averaged "
        "over the rows."
    )
    if measured.rows < FEW:
        text += f"\n\n{measured.rows} rows are few for this: chance alone moves the bins apart, and the error up."
    return {
        "heading": "Whether its probabilities can be believed",
        "text": text,
        "chart": reliability_diagram([(part.low, part.high, part.right, part.rows) for part in measured.bins]),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
