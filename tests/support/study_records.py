"""Records of small studies, as `spot study run` would have left them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spot.study.records import Record
from spot.training.result import CurvePoint

STEPS, EVERY, KEY = 40, 10, 10  # steps of a run, between evaluations, and of the key
TOKENS = 1000  # of a run
WIDTH, PROMPT = 8, 320  # of an embedding; parameters of a prompt
ROWS = {"train": 100, "select": 50, "report": 200, "overlap": 3}
CONFIG = {"steps": STEPS, "eval_every": EVERY, "key_step": KEY, "backbone": "tiny"}


def curve(selection: float, early: Sequence[float] = ()) -> tuple[CurvePoint, ...]:
    """Points of a run that ends at a selection score, on a straight line to it unless told; 25 tokens a step."""
    scores = [0.0, *(early or [selection * part for part in (0.25, 0.5, 0.75)]), selection]
    return tuple(
        CurvePoint(step=EVERY * at, score=score, nats=1.0, tokens=250 * at, seconds=1.0 * at)
        for at, score in enumerate(scores)
    )


def record(kind: str, task: str, seed: int, score: float, **changes: Any) -> Record:
    """A finished cell; its selection score is its report score unless `curve` says otherwise."""
    sources = changes.get("sources", ())
    name = "-".join(
        map(
            str,
            [kind, task, *sources, changes.get("start", ""), changes.get("init_seed", 0), seed, changes.get("k", 0)],
        )
    )
    fields: dict[str, Any] = {
        "curve": curve(score),
        "score": score,
        "scores": {"accuracy": score},
        "steps": STEPS,
        "tokens": TOKENS,
        "rows": ROWS,
        "tuned": PROMPT,
        "shipped": PROMPT,
        "config": {**CONFIG, "rows_seed": seed},
        "data": f"rows of {task} {seed}",
    }
    return Record(name.replace("/", "."), kind, task, seed, **{**fields, **changes})


def embedding(number: int) -> dict[str, np.ndarray]:
    """A row of numbers that belong to a task."""
    return {"mean": np.random.default_rng(number).normal(size=WIDTH).astype("<f4")}


def study(
    plain: Mapping[str, Sequence[float]],
    pairs: Mapping[tuple[str, str], Sequence[float]],
    similar: Mapping[tuple[str, str], float],
    **changes: Any,
) -> list[Record]:
    """Records of a study with one plain start.

    Args:
        plain: target -> score of each seed.
        pairs: (source, target) -> score of each seed.
        similar: (source, target) -> similarity by every metric, in every seed.
        changes: further fields of every pair.
    """
    sources = sorted({source for source, _ in pairs})
    made = [
        record("source", source, seed, 80.0, embedding=embedding(number), start="vocabulary")
        for number, source in enumerate(sources)
        for seed in range(max(map(len, pairs.values())))
    ]
    for number, (target, scores) in enumerate(sorted(plain.items())):
        made += [
            record("plain", target, seed, score, embedding=embedding(100 + number), start="vocabulary", frozen=40.0)
            for seed, score in enumerate(scores)
        ]
    for (source, target), scores in pairs.items():
        similarity = dict.fromkeys(("mean", "token", "max"), similar[source, target])
        made += [
            record("pair", target, seed, score, sources=(source,), similarity=similarity, as_is=score - 1, **changes)
            for seed, score in enumerate(scores)
        ]
    return made


def paper_like(sources: int = 16, targets: int = 10, seeds: int = 3, **changes: Any) -> list[Record]:
    """A study of a size of the paper's, in which similarity says a little about gains; two starts and two restarts."""
    draws = np.random.default_rng(changes.pop("draw", 0))
    names, tasks = [f"source/{n:02}" for n in range(sources)], [f"target/{n:02}" for n in range(targets)]
    help_of, base = draws.normal(0, 2, sources), draws.uniform(60, 90, targets)
    similar = {(s, t): float(draws.uniform(-0.1, 0.6)) for s in names for t in tasks}

    def scores(mean: float) -> list[float]:
        return [float(min(99.0, mean + draws.normal(0, 1))) for _ in range(seeds)]

    pairs = {
        (s, t): scores(base[column] + help_of[row] + 8 * (similar[s, t] - 0.25))
        for row, s in enumerate(names)
        for column, t in enumerate(tasks)
    }
    made = study({t: scores(base[column]) for column, t in enumerate(tasks)}, pairs, similar, **changes)
    for column, target in enumerate(tasks):
        for start, init_seed in (("classes", 0), ("vocabulary", 1), ("vocabulary", 2)):
            made += [
                record("plain", target, seed, score, start=start, init_seed=init_seed)
                for seed, score in enumerate(scores(base[column]))
            ]
    return made


def constant(gains: dict[str, float], targets: str = "tuv", seeds: int = 2, plain: float = 50.0) -> list[Record]:
    """The first source is the most similar one; each gains the same everywhere."""
    pairs = {(source, target): (plain + gain,) * seeds for source, gain in gains.items() for target in targets}
    similar = {(source, target): 0.9 - 0.1 * n for n, source in enumerate(gains) for target in targets}
    return study({target: (plain,) * seeds for target in targets}, pairs, similar)
