"""Records of one target under one seed, with selection scores of their own."""

import numpy as np

from spot.study.records import Record
from tests.support.study_records import CONFIG, curve, record

NAN = float("nan")


def pair(source: str, target: str, seed: int, score: float, selected: float, similar: float, **changes) -> Record:
    """A pair whose selection score says something else than its report score."""
    return record(
        "pair",
        target,
        seed,
        score,
        sources=(source,),
        similarity={"mean": similar},
        as_is=score - 5,
        curve=changes.pop("curve", curve(selected)),
        **changes,
    )


def plain(target: str, seed: int, score: float, selected: float, start: str = "vocabulary", draw: int = 0) -> Record:
    key = {"embedding": {"mean": np.ones(2, "<f4")}} if (start, draw) == ("vocabulary", 0) else {}
    config = {**CONFIG, "rows_seed": seed, **({} if key else {"key_step": None})}
    return record(
        "plain",
        target,
        seed,
        score,
        curve=curve(selected),
        start=start,
        init_seed=draw,
        frozen=30.0,
        config=config,
        **key,
    )


def one_group(*more: Record) -> list[Record]:
    """One target, one seed: a is nearest, b best by selection rows, c best on report rows."""
    return [
        plain("t", 0, 50.0, 52.0),
        plain("t", 0, 49.0, 60.0, "classes"),
        plain("t", 0, 58.0, 55.0, draw=1),
        pair("a", "t", 0, 55.0, 56.0, 0.9),
        pair("b", "t", 0, 57.0, 70.0, 0.5),
        pair("c", "t", 0, 66.0, 65.0, -0.2),
        *more,
    ]
