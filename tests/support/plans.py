"""Rankings and learning curves that the tests of plans start from."""

from collections.abc import Sequence

from spot.retrieval.search import Ranked
from spot.training.result import CurvePoint

SHAPE = {"steps": 36, "eval_every": 6, "key_step": 24}


def ranking(*similarities: float) -> list[Ranked]:
    return [Ranked(f"digest{number}", f"task{number}", value) for number, value in enumerate(similarities)]


def curve(*scores: float, nats: Sequence[float] | None = None, every: int = 6) -> list[CurvePoint]:
    values = nats or [None] * len(scores)
    return [CurvePoint(every * at, score, value) for at, (score, value) in enumerate(zip(scores, values, strict=True))]
