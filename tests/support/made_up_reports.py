"""The report of a transfer that nobody ran, with everything that a page shows."""

import math
import random
from dataclasses import replace
from pathlib import Path

from spot.evaluation.classes import class_report
from spot.evaluation.predictions import ranked
from spot.evaluation.scoring import Evaluation
from spot.retrieval.search import Ranked
from spot.strategies.arms import Arm, ArmPoint, CandidateSummary, Difference
from spot.strategies.report import TransferReport
from spot.tasks.task import Example

LABELS = ("negative", "positive")
ENDS = {"negative": "was a waste of everybody's time", "positive": "won praise from all sides and gave reason to hope"}
ROWS = tuple(
    Example(str(number), f"sentence: The committee's report number {number} {ENDS[label]}.", (label,))
    for number in range(120)
    for label in [LABELS[number % 2]]
)
CURVES = {
    "plain:vocabulary": ((0, 50.0), (15, 55.0), (30, 64.0)),
    "plain:classes": ((0, 50.0), (15, 80.0), (30, 86.0)),
    "spot": ((0, 88.0), (15, 94.0), (30, 95.0)),
}
SCORES = {
    "constant": 50.0,
    "tfidf": 66.8,
    "probe": 84.0,
    "frozen": 51.3,
    "plain:vocabulary": 62.3,
    "plain:classes": 88.7,
    "source": 89.8,
    "spot": 94.5,
}


def made_up_report() -> TransferReport:
    """A report of eight arms, ten sources and 120 rows."""
    random_state = random.Random(0)
    arms = tuple(_arm(name, score, random_state) for name, score in SCORES.items())
    chosen = arms[-1]
    texts = [prediction.text for prediction in chosen.evaluations[0].predictions]
    over = {arm.arm: _difference(arm.arm, "constant", arm.score - 50.0) for arm in arms[1:]}
    return TransferReport(
        target="demo/made-up",
        arms=arms,
        chosen="spot",
        gain=5.8,
        gain_interval=(2.2, 10.5),
        left_out=13,
        rows={"train": 100, "select": 60, "report": len(ROWS)},
        run=Path("/a/folder/that/is/not/there"),
        prompt_file=chosen.files[0],
        strategy="best",
        ranking=tuple(Ranked(f"{n:016x}", f"glue/task{n}", 0.6 - 0.05 * n) for n in range(10)),
        rank_by="learned",
        expected=tuple(9.0 - n for n in range(10)),
        k=1,
        reason="auto picked best with k = 1. Past transfers lead to expect +9.0 points from glue/task0.",
        candidates=(_candidate("glue/task0", "kept"), _candidate("scratch", "dropped")),
        classes=class_report(LABELS, [row.answers for row in ROWS], texts),
        lead=_difference("spot", "source", 4.7),
        rivalry=_difference("probe", "spot", -10.5),
        over_constant=over,
        not_run={"icl": "demonstrations in context: no two rows fit before a third in 256 tokens"},
        examples=ROWS,
    )


def _arm(name: str, score: float, random_state: random.Random) -> Arm:
    curve = tuple(
        ArmPoint(step=step, score=mean, scores=(mean - 3, mean, mean + 3), seconds=1.5 * step)
        for step, mean in CURVES.get(name, ())
    )
    evaluations = tuple(_evaluation(score, random_state) for _ in range(3 if curve else 1))
    arm = Arm(
        arm=name,
        source="glue/task0" if name in ("source", "spot") else None,
        score=score,
        interval=(score - 6, score + 5),
        selection=CURVES[name][-1][1] if name in CURVES else score - 2,
        curve=curve,
        scores=(score,) * len(evaluations),
        evaluations=evaluations,
        parameters=46_080,
        bytes=600_000,
        relative_cost=1.0,
        beside="the frozen model embedded",
        setting="C = 10.0",
    )
    files = tuple(Path(f"/a/folder/that/is/not/there/{name}/prompt-{seed}.safetensors") for seed in range(3))
    return replace(arm, folder=name, files=files) if curve else arm


def _evaluation(score: float, random_state: random.Random) -> Evaluation:
    predictions = []
    for row in ROWS:
        share = random_state.uniform(0.5, 1.0)
        answer = row.answers[0] if random_state.random() < score / 100 else _other(row.answers[0])
        predictions.append(ranked(LABELS, [math.log(share if label == answer else 1 - share) for label in LABELS]))
    correct = tuple(part.text in row.answers for part, row in zip(predictions, ROWS, strict=True))
    return Evaluation({"accuracy": 100 * sum(correct) / len(correct)}, correct, tuple(predictions), 0.4)


def _other(label: str) -> str:
    return LABELS[1 - LABELS.index(label)]


def _difference(arm: str, against: str, points: float) -> Difference:
    return Difference(arm=arm, against=against, points=points, interval=(points - 4, points + 4))


def _candidate(source: str, ended: str) -> CandidateSummary:
    kind = "scratch" if source == "scratch" else "prompt"
    return CandidateSummary(source=source, kind=kind, steps=30, selection=90.0, tokens=50_000, ended=ended)
