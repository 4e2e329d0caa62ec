"""Drop candidates at rungs: successive halving (Karnin et al. 2013, Jamieson and Talwalkar 2016) and its last duel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spot.training.result import CurvePoint


@dataclass(frozen=True)
class Rung:
    """After `step` steps only the `keep` best go on of the candidates that it compares."""

    step: int
    keep: int


def halving(candidates: int, steps: int, eval_every: int) -> tuple[Rung, ...]:
    """Rungs of successive halving: of n candidates the better half stays, the last halving at half of the steps.

    Args:
        candidates: how many set out.
        steps: of a whole run.
        eval_every: rungs stand on multiples of it.

    Returns:
        At steps / 2, / 4, ... in order of steps; fewer where evaluations are too far apart. None for one candidate.
    """
    keeps = []
    while candidates > 1:
        candidates = math.ceil(candidates / 2)
        keeps.append(candidates)
    rungs: list[Rung] = []
    for number, keep in enumerate(keeps):
        step = math.ceil(steps / 2 ** (len(keeps) - number) / eval_every) * eval_every
        if rungs and rungs[-1].step == step:
            rungs.pop()
        if step < steps:
            rungs.append(Rung(step, keep))
    return tuple(rungs)


def race_rungs(candidates: int, steps: int, eval_every: int, key_step: int) -> tuple[Rung, ...]:
    """Rungs of a race: all but the plain run halve, and one of them is left when the plain run has been compared.

    Args:
        candidates: how many set out, the plain run among them.
        steps: of a whole run.
        eval_every: rungs stand on multiples of it.
        key_step: the plain run walks so far in any case.

    Returns:
        Those of `halving`, and one at the key step, or at half of the steps, where that comes after them.
    """
    rungs = halving(candidates - 1, steps, eval_every)
    duel = math.ceil(max(steps / 2, key_step) / eval_every) * eval_every
    if duel < steps and (not rungs or rungs[-1].step < duel):
        return (*rungs, Rung(duel, 1))
    return rungs


def best_so_far(curve: Sequence[CurvePoint], step: int) -> tuple[float, float]:
    """How well a run has done by a step: its best selection score and, among equals, the fewest nats, sign turned.

    Args:
        curve: of the run.
        step: later points are not looked at.
    """
    points = [point for point in curve if point.step <= step]
    return max((point.score, -math.inf if point.nats is None else -point.nats) for point in points)


def mean_best_so_far(curves: Sequence[Sequence[CurvePoint]], step: int) -> tuple[float, float]:
    """How well a candidate has done by a step: `best_so_far` of its seeds, mean over them."""
    scores, nats = zip(*(best_so_far(curve, step) for curve in curves), strict=True)
    return sum(scores) / len(scores), sum(nats) / len(nats)


def survivors(alive: Sequence[int], ranks: Sequence[tuple[float, float]], keep: int) -> tuple[int, ...]:
    """The candidates that go on after a rung, in their own order; equal ranks go to the earlier one.

    Args:
        alive: numbers of the candidates that have come so far.
        ranks: of each of these, more is better.
        keep: how many go on.
    """
    order = sorted(range(len(alive)), key=lambda at: (tuple(-part for part in ranks[at]), alive[at]))
    return tuple(sorted(alive[at] for at in order[:keep]))
