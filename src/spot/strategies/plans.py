"""Strategies as plans (SPoT section 3.3): which prompts a target is tuned from, what is dropped, and which one is kept.

A plan is data. `transfer` trains what a plan names; a study looks the same runs up among its records. Both settle a
plan by the function below, so that a strategy's figure in a study is what the strategy would have done.

best      one run from each of the k most similar sources; the best on selection rows is kept (SPoT section 3.3)
average   one run from the mean of the k most similar sources, weighted by similarity (section 3.3)
mixture   one run from a prompt that was tuned on the k most similar tasks and the target together (section 3.3)
race      the k most similar sources and starts from scratch set out together; at each rung the worse half stops
          (successive halving: Karnin et al. 2013, Jamieson and Talwalkar 2016), and the last duel is with plain tuning
oracle    `best` over all sources: brute force
none      plain prompt tuning

A race's first start from scratch is the target's own plain run, from which its task embedding is read. It has walked
that far before the race begins, so no rung before that step drops it, and none counts it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spot.errors import ConfigError, RunError, did_you_mean
from spot.retrieval.search import Ranked
from spot.training.result import CurvePoint

STRATEGIES = ("best", "average", "mixture", "race", "oracle", "none")
RACE_BUDGET = 2.5  # trained steps of a race in all, as a multiple of one plain run's; retrieval's own run included
FEW_ROWS = 30  # selection rows below which one row more or less right decides a race
STANDS_OUT = 1.0  # standard deviations between the first source and the second

Amount = Literal["tokens", "seconds"]  # what a run takes: text tokens, time
Kind = Literal["scratch", "prompt", "average", "mixture"]


@dataclass(frozen=True)
class Start:
    """Where the runs of one candidate begin.

    Attributes:
        kind: `scratch`; one `prompt`; the weighted `average` of several; or the prompt of a `mixture` of their tasks
            and the target.
        prompts: digests of the source prompts.
        tasks: their tasks.
        weights: of the average, summing to 1.
        init_seed: which start from scratch.
    """

    kind: Kind
    prompts: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    init_seed: int = 0

    @property
    def name(self) -> str:
        """For people: the tasks, or `scratch` with its number."""
        return " + ".join(self.tasks) or ("scratch" if self.init_seed == 0 else f"scratch {self.init_seed}")


PLAIN = Start("scratch")  # the target's own plain run


@dataclass(frozen=True)
class Rung:
    """After `step` steps only the `keep` best go on of the candidates that it compares."""

    step: int
    keep: int


@dataclass(frozen=True)
class Plan:
    """What a strategy trains.

    Attributes:
        strategy: one of `STRATEGIES`.
        starts: the candidates.
        rungs: when candidates are dropped; none where all walk to the end.
        steps: of a run that is not dropped.
        joins: the step from which on the plain run is one of those that a rung compares.
    """

    strategy: str
    starts: tuple[Start, ...]
    rungs: tuple[Rung, ...]
    steps: int
    joins: int = 0

    def compares(self, number: int, step: int) -> bool:
        """Whether a rung at `step` compares this candidate with others."""
        return step >= self.joins or self.starts[number] != PLAIN

    @property
    def sources(self) -> tuple[str, ...]:
        """Digests of the source prompts that it uses."""
        return tuple(dict.fromkeys(prompt for start in self.starts for prompt in start.prompts))

    @property
    def cost(self) -> float:
        """Steps trained on the target in all, as a multiple of one run's; retrieval and mixtures not counted."""
        alive, last, spent = len(self.starts), 0, 0
        for rung in (*self.rungs, Rung(self.steps, 0)):
            spent += alive * (rung.step - last)
            waiting = sum(not self.compares(number, rung.step) for number in range(len(self.starts)))
            alive, last = min(alive - waiting, rung.keep) + waiting, rung.step
        return spent / self.steps if self.steps else 0.0


@dataclass(frozen=True)
class Outcome:
    """How a plan ended.

    Attributes:
        winner: number of the candidate that is kept.
        steps: that each candidate took.
    """

    winner: int
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Choice:
    """What `choose` picks.

    Attributes:
        strategy: one of `STRATEGIES`.
        k: sources that it uses; 0 for `none`.
        reason: two sentences: what, and why.
    """

    strategy: str
    k: int
    reason: str


def plan(
    strategy: str,
    ranking: Sequence[Ranked],
    *,
    k: int,
    steps: int,
    eval_every: int,
    key_step: int = 0,
    restarts: int = 1,
    budget: float = RACE_BUDGET,
) -> Plan:
    """The plan of a strategy for one target.

    Args:
        strategy: one of `STRATEGIES`.
        ranking: sources by similarity to the target, best first.
        k: how many of them to use; `oracle` uses all, `none` none.
        steps: of a whole run on the target.
        eval_every: steps between evaluations; rungs stand on these.
        key_step: steps of the target's own run that gave its task embedding.
        restarts: starts from scratch in a race; the first is the run that gave the task embedding.
        budget: most that a race may cost (see `price`); it has fewer sources where k are too many, and at least one.

    Raises:
        ConfigError: the strategy is unknown, k is not between 1 and the number of sources, or no similarity is
            above 0 where an average needs weights.
    """
    if strategy not in STRATEGIES:
        raise ConfigError(f"unknown strategy {strategy!r}; {did_you_mean(strategy, STRATEGIES)}")
    if strategy == "none":
        return Plan(strategy, (PLAIN,), (), steps)
    if not 1 <= k <= len(ranking):
        raise ConfigError(f"k is {k}, but there are {len(ranking)} sources; choose k from 1 to {len(ranking)}")
    used = ranking if strategy == "oracle" else ranking[:k]
    prompts, tasks = tuple(one.prompt for one in used), tuple(one.task for one in used)
    if strategy == "average":
        return Plan(strategy, (Start("average", prompts, tasks, _weights(used)),), (), steps)
    if strategy == "mixture":
        return Plan(strategy, (Start("mixture", prompts, tasks),), (), steps)
    sources = [Start("prompt", (one.prompt,), (one.task,)) for one in used]
    if strategy != "race":
        return Plan(strategy, tuple(sources), (), steps)
    scratch = [Start("scratch", init_seed=number) for number in range(restarts)]
    while True:
        starts = (*sources, *scratch)
        rungs = race_rungs(len(starts), steps, eval_every, key_step)
        race = Plan(strategy, starts, rungs, steps, joins=key_step)
        if price(race, key_step) <= budget + 1e-9 or len(sources) == 1:
            return race
        sources.pop()


def price(plan: Plan, key_step: int) -> float:
    """The most that a plan can cost: steps trained on the target as a multiple of one run's, retrieval's included.

    Args:
        plan: of any strategy; a mixture's own run is not counted, `oracle` and `none` retrieve nothing, and the run
            that gives the task embedding is one of a race's own.
        key_step: steps of that run up to the embedding.
    """
    if plan.strategy in ("oracle", "none", "race") or not plan.steps:
        return plan.cost
    return plan.cost + key_step / plan.steps


def choose(
    values: Sequence[float],
    *,
    select_rows: int,
    steps: int,
    eval_every: int,
    key_step: int,
    restarts: int = 1,
    budget: float = RACE_BUDGET,
    learned: bool = False,
) -> Choice:
    """Pick a strategy for a target, and say why in two sentences.

    One source that stands out needs no race, and few selection rows cannot judge one. Otherwise a race of as many
    sources as the budget holds, which also starts from scratch, guards against a source that does harm. Retrieval
    costs a run up to the key step, so below that and one run more plain tuning is all that the budget holds.

    Args:
        values: what ranks the sources, best first: similarities, or expected results where past transfers rank.
        select_rows: rows that will choose between candidates.
        steps: of a whole run on the target.
        eval_every: steps between evaluations.
        key_step: steps of the run that gives the task embedding.
        restarts: starts from scratch that a race would have.
        budget: most that may be spent, as a multiple of one plain run.
        learned: whether `values` are expected results.
    """
    count = len(values)
    if not count:
        return Choice("none", 0, "Plain prompt tuning alone. The library holds no source for this task.")
    if budget + 1e-9 < 1 + key_step / steps:
        return Choice(
            "none",
            0,
            f"Plain prompt tuning alone. The budget of {budget:.2g} plain runs does not hold "
            f"a run from a source beside the {key_step} steps of {steps} that retrieval takes.",
        )
    if select_rows < FEW_ROWS:
        return Choice(
            "best",
            1,
            f"One run from the nearest source. The {select_rows} selection rows are too few to "
            f"judge a race, which wants {FEW_ROWS}.",
        )
    spread = float(np.std(values))
    ahead = (values[0] - values[1]) / spread if count > 2 and spread else 0.0  # of two, one is always ahead by 2
    what = "expected result" if learned else "similarity"
    if ahead >= STANDS_OUT:
        return Choice(
            "best",
            1,
            f"One run from the nearest source. Its {what} is {ahead:.1f} standard deviations "
            "above that of the next one, so there is nothing to race for.",
        )
    ranking = [Ranked(str(number), str(number), value) for number, value in enumerate(values)]
    race = plan(
        "race",
        ranking,
        k=count,
        steps=steps,
        eval_every=eval_every,
        key_step=key_step,
        restarts=restarts,
        budget=budget,
    )
    k, cost = len(race.starts) - restarts, price(race, key_step)
    if cost > budget + 1e-9:
        return Choice(
            "best",
            1,
            f"One run from the nearest source. A race costs up to {cost:.1f} plain runs, "
            f"more than the budget of {budget:.2g}.",
        )
    field = f"the {f'{k} ' if k > 1 else ''}nearest of {count} sources" if k < count else f"all {count} sources"
    field = "the only source" if count == 1 else field
    scratch = f"{restarts} start{'s' if restarts > 1 else ''} from scratch"
    why = f"The first source is only {ahead:.1f} standard deviations of {what} above the next"
    if count < 3:
        why = "There are too few sources to see whether one stands out"
    return Choice(
        "race",
        k,
        f"A race between {field} and {scratch}. {why}, and the race costs at most {cost:.1f} of "
        f"the {budget:.2g} plain runs allowed.",
    )


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


def standing(curve: Sequence[CurvePoint], step: int) -> tuple[float, float]:
    """How well a run has done by a step: its best selection score and, among equals, the fewest nats.

    Args:
        curve: of the run.
        step: later points are not looked at.
    """
    points = [point for point in curve if point.step <= step]
    return max((point.score, -math.inf if point.nats is None else -point.nats) for point in points)


def survivors(alive: Sequence[int], ranks: Sequence[tuple[float, float]], keep: int) -> tuple[int, ...]:
    """The candidates that go on after a rung, in their own order; equal ranks go to the earlier one.

    Args:
        alive: numbers of the candidates that have come so far.
        ranks: of each of these, more is better.
        keep: how many go on.
    """
    order = sorted(range(len(alive)), key=lambda at: (tuple(-part for part in ranks[at]), alive[at]))
    return tuple(sorted(alive[at] for at in order[:keep]))


def standing_after(
    plan: Plan, curves: Sequence[Sequence[Sequence[CurvePoint]]], step: int, failed: Mapping[int, int] = {}
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which candidates go on after the rungs up to a step, and how far each one walks.

    Args:
        plan: of any strategy.
        curves: for each candidate the curve of each seed; a candidate that was dropped needs no points after that.
        step: later rungs are not looked at.
        failed: candidate -> the step at which one of its runs diverged; it is out from then on.

    Returns:
        Numbers of the candidates, and for each one of the plan the step at which it stops.
    """
    taken = [failed.get(number, plan.steps) for number in range(len(plan.starts))]
    alive = tuple(range(len(plan.starts)))
    for rung in plan.rungs:
        if rung.step > step:
            break
        alive = tuple(number for number in alive if failed.get(number, plan.steps + 1) > rung.step)
        racing = [number for number in alive if plan.compares(number, rung.step)]
        left = survivors(racing, [_rank(curves[number], rung.step) for number in racing], rung.keep)
        dropped = set(racing) - set(left)
        taken = [rung.step if number in dropped else last for number, last in enumerate(taken)]
        alive = tuple(number for number in alive if number not in dropped)
    return tuple(number for number in alive if failed.get(number, plan.steps + 1) > step), tuple(taken)


def settle(plan: Plan, curves: Sequence[Sequence[Sequence[CurvePoint]]], failed: Mapping[int, int] = {}) -> Outcome:
    """Which candidate a plan keeps, and what it trains on the way.

    Args:
        plan: of any strategy.
        curves: for each candidate the curve of each seed; a candidate that was dropped needs no points after that.
        failed: candidate -> the step at which one of its runs diverged; it is out from then on.

    Returns:
        The winner is the best of those that came to the end, by the mean over the seeds.

    Raises:
        RunError: every candidate diverged.
    """
    alive, taken = standing_after(plan, curves, plan.steps, failed)
    if not alive:
        raise RunError(
            f"no candidate of the strategy {plan.strategy!r} came to the end: training diverged from "
            f"{', '.join(plan.starts[number].name for number in failed)}; expected one that did not. Take other "
            "sources, or the strategy `none`."
        )
    return Outcome(survivors(alive, [_rank(curves[number], plan.steps) for number in alive], 1)[0], taken)


def amount_at(curve: Sequence[CurvePoint], step: int, name: Amount = "tokens") -> float:
    """What a run has taken by a step, such as text tokens; between two points of its curve in proportion to steps."""
    return float(np.interp(step, [point.step for point in curve], [getattr(point, name) for point in curve]))


def _rank(curves: Sequence[Sequence[CurvePoint]], step: int) -> tuple[float, float]:
    """How well a candidate has done by a step: `standing` as the mean over its seeds."""
    scores, nats = zip(*(standing(curve, step) for curve in curves), strict=True)
    return sum(scores) / len(scores), sum(nats) / len(nats)


def _weights(used: Sequence[Ranked]) -> tuple[float, ...]:
    """Similarities as weights that sum to 1; a source of negative similarity gets none."""
    kept = [max(0.0, one.similarity) for one in used]
    if not sum(kept):
        values = ", ".join(f"{one.task} {one.similarity:.3f}" for one in used)
        raise ConfigError(f"no source has a similarity above 0 ({values}), so there is no average of them: use `best`")
    return tuple(value / sum(kept) for value in kept)
