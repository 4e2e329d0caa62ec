"""Arms of a toy target, with the selection scores and the answers that a test wants."""

from pathlib import Path

from spot.evaluation.predictions import Prediction
from spot.evaluation.scoring import Evaluation
from spot.strategies.arms import Arm, ArmPoint
from tests.support.toy_runs import SPLITS

ANSWERS = tuple(row.answers[0] for row in SPLITS.report)


def answered(right: int) -> Evaluation:
    """The first rows are answered right, the others wrong."""
    correct = tuple(number < right for number in range(len(ANSWERS)))
    other = {"no": "yes", "yes": "no"}
    texts = [answer if is_right else other[answer] for answer, is_right in zip(ANSWERS, correct, strict=True)]
    predictions = tuple(Prediction(text) for text in texts)
    return Evaluation({"accuracy": 100 * right / len(ANSWERS)}, correct, predictions, 0.5)


def tuned(name: str, right: int, *scores: tuple[float, ...], **changes: object) -> Arm:
    """An arm of tuned runs: of each evaluation the selection score of every seed."""
    curve = tuple(
        ArmPoint(step=2 * at, score=sum(seeds) / len(seeds), scores=seeds, seconds=float(at))
        for at, seeds in enumerate(scores)
    )
    values = {
        "arm": name,
        "source": None,
        "score": 100 * right / len(ANSWERS),
        "interval": (0.0, 100.0),
        "selection": max(point.score for point in curve),
        "curve": curve,
        "folder": name,
        "tokens": 100,
        "evaluations": (answered(right),) * len(scores[0]),
        "files": tuple(Path(f"{name}-{seed}") for seed in range(len(scores[0]))),
    }
    return Arm(**{**values, **changes})


PLAIN = tuned("plain:vocabulary", 6, (50.0, 50.0), (60.0, 70.0))


WORSE = tuned("plain:classes", 12, (50.0, 50.0), (55.0, 60.0))


SPOT = tuned("spot", 9, (55.0, 60.0), (65.0, 65.0), (70.0, 90.0), source="red", tokens=250)


FROZEN = Arm(arm="frozen", source=None, score=0.0, interval=(0.0, 0.0), evaluations=(answered(0),) * 2)
