"""Plan a transfer (SPoT section 3.3): which prompts a target is tuned from, what is dropped, and which one is kept.

A plan is data. `transfer` trains what a plan names; a study looks the same runs up among its records. Both resolve a
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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from spot.errors import ConfigError, RunError, did_you_mean
from spot.retrieval.search import Ranked
from spot.strategies.halving import Rung, mean_best_so_far, race_rungs, survivors
from spot.training.result import CurvePoint

STRATEGIES = ("best", "average", "mixture", "race", "oracle", "none")
RACE_BUDGET = 2.5  # trained steps of a race in all, as a multiple of one plain run's; retrieval's own run included

Kind = Literal["scratch", "prompt", "average", "mixture"]
Curves = Sequence[Sequence[CurvePoint]]  # of a candidate: one a seed


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
class Remaining:
    """Which candidates of a plan are left.

    Attributes:
        candidates: their numbers.
        steps: of each candidate of the plan, where it stops as far as is known.
    """

    candidates: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """How a plan ended.

    Attributes:
        winner: number of the candidate that is kept.
        steps: that each candidate took.
    """

    winner: int
    steps: tuple[int, ...]


def plan_transfer(
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
    prompts, tasks = tuple(source.prompt for source in used), tuple(source.task for source in used)
    if strategy == "average":
        return Plan(strategy, (Start("average", prompts, tasks, _weights(used)),), (), steps)
    if strategy == "mixture":
        return Plan(strategy, (Start("mixture", prompts, tasks),), (), steps)
    sources = [Start("prompt", (source.prompt,), (source.task,)) for source in used]
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


def remaining(plan: Plan, curves: Sequence[Curves], step: int, failed: Mapping[int, int] = {}) -> Remaining:
    """Which candidates go on after the rungs up to a step, and how far each one walks.

    Args:
        plan: of any strategy.
        curves: for each candidate the curve of each seed; a candidate that was dropped needs no points after that.
        step: later rungs are not looked at.
        failed: candidate -> the step at which one of its runs diverged; it is out from then on.
    """
    taken = [failed.get(number, plan.steps) for number in range(len(plan.starts))]
    alive = tuple(range(len(plan.starts)))
    for rung in plan.rungs:
        if rung.step > step:
            break
        alive = tuple(number for number in alive if failed.get(number, plan.steps + 1) > rung.step)
        racing = [number for number in alive if plan.compares(number, rung.step)]
        winners = survivors(racing, [mean_best_so_far(curves[number], rung.step) for number in racing], rung.keep)
        dropped = set(racing) - set(winners)
        taken = [rung.step if number in dropped else last for number, last in enumerate(taken)]
        alive = tuple(number for number in alive if number not in dropped)
    return Remaining(tuple(number for number in alive if failed.get(number, plan.steps + 1) > step), tuple(taken))


def resolve(plan: Plan, curves: Sequence[Curves], failed: Mapping[int, int] = {}) -> Outcome:
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
    finished = remaining(plan, curves, plan.steps, failed)
    if not finished.candidates:
        raise RunError(
            f"no candidate of the strategy {plan.strategy!r} came to the end: training diverged from "
            f"{', '.join(plan.starts[number].name for number in failed)}; expected one that did not. Take other "
            "sources, or the strategy `none`."
        )
    ranks = [mean_best_so_far(curves[number], plan.steps) for number in finished.candidates]
    return Outcome(survivors(finished.candidates, ranks, 1)[0], finished.steps)


def _weights(used: Sequence[Ranked]) -> tuple[float, ...]:
    """Similarities as weights that sum to 1; a source of negative similarity gets none."""
    positive = [max(0.0, source.similarity) for source in used]
    if not sum(positive):
        values = ", ".join(f"{source.task} {source.similarity:.3f}" for source in used)
        raise ConfigError(f"no source has a similarity above 0 ({values}), so there is no average of them: use `best`")
    return tuple(value / sum(positive) for value in positive)
