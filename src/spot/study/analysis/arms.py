"""Settle the arms of a study from its records: what each would have kept for a target, and what it would have cost.

Every choice is made within one target and one seed, by selection rows. Only `always`, `hindsight` and the arms that go
by past transfers look at other targets, all but `hindsight` at their selection rows alone. Costs are text tokens
trained on the target in all: losers count, a dropped one up to its rung, and where similarities choose, so does the run
that gave the task embedding, up to the step at which that was read.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from spot.config import INSTEAD
from spot.errors import StudyError, did_you_mean
from spot.retrieval.embeddings import SIMILARITIES
from spot.retrieval.predictor import BASIS
from spot.retrieval.search import Ranked
from spot.strategies.plans import STRATEGIES, Plan, Start, plan_transfer, resolve
from spot.study.analysis.groups import (
    TargetSeed,
    learned_rankings,
    plain_selection_score,
    ranked_sources,
    selection_score,
)
from spot.study.records import Record
from spot.training.result import amount_at

PLAIN_ARM = "plain"  # the kind of arm that gains are against: the better initial value by selection rows
RERANKED = ("best", "race")  # strategies that need no cells of their own, so that any ranking can be tried on them


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """What an arm came to on one target under one seed.

    Attributes:
        score: percent on report rows.
        cost: text tokens trained on the target, as a multiple of one plain run's; NaN where those are not known.
        tuned: parameters trained, those of losers included.
        shipped: parameters kept for the task.
        start: tasks that the run which is kept started from, or its initial value; empty for an expectation.
    """

    score: float
    cost: float
    tuned: float
    shipped: float
    start: str = ""


@dataclass(frozen=True, kw_only=True)
class ArmResults:
    """What one way to answer all targets came to.

    Attributes:
        name: for people.
        kind: a strategy, one of `INSTEAD`, `frozen`, `as_is`, `plain`, `restarts`, `random`, `always`,
            `hindsight`, `generic`, `model`, `mixture_model`, or `learned_best` and `learned_race`, whose sources
            `learned` has ranked.
        k: sources, or runs from scratch to choose from; 0 where it means nothing.
        results: one a group, None where it cannot be settled.
    """

    name: str
    kind: str
    k: int
    results: tuple[ArmResult | None, ...]


def settle_arms(
    groups: Sequence[TargetSeed], strategies: Sequence[str], ks: Sequence[int], metric: str
) -> tuple[ArmResults, ...]:
    """Settle every arm in every group: a sceptic's arms, then the strategies.

    Args:
        groups: complete ones.
        strategies: of `spot.strategies.plans`; `none` and `oracle` are always among the arms.
        ks: numbers of sources; where a group has fewer, all of them are used.
        metric: which similarity ranks the sources.

    Returns:
        `PLAIN_ARM` is among them; an arm that no group can settle is not.

    Raises:
        StudyError: a strategy or the metric is unknown, or a pair lacks this similarity.
    """
    check_choice(strategies, ks, metric)
    nearest = partial(ranked_sources, metric=metric)
    arms = [
        _arm(groups, _frozen, name="frozen model, no prompt", kind="frozen"),
        *(_arm(groups, partial(_instead, kind=kind), name=name, kind=kind) for kind, name in INSTEAD.items()),
        _arm(groups, partial(_as_is, metric=metric), name="nearest prompt as it is", kind="as_is", k=1),
        *_plain_arms(groups),
        _arm(groups, _random_source, name="a source at random", kind="random", k=1),
        _always_arm(groups, hindsight=False),
        _always_arm(groups, hindsight=True),
    ]
    for strategy in strategies:
        if strategy not in ("none", "oracle"):
            for k in ks:
                settled = partial(_strategy, strategy=strategy, k=k, rank=nearest)
                arms.append(_arm(groups, settled, name=strategy_name(strategy, k), kind=strategy, k=k))
    arms += _learned_arms(groups, [name for name in RERANKED if name in strategies], ks)
    oracle = partial(_strategy, strategy="oracle", k=1, rank=nearest)
    after_mixture = partial(_model, after_mixture=True)
    arms += [
        _arm(groups, oracle, name="oracle, best of all sources", kind="oracle"),
        _arm(groups, partial(_model, after_mixture=False), name="model tuning", kind="model"),
        _arm(groups, after_mixture, name="multi-task model tuning", kind="mixture_model"),
    ]
    return tuple(arm for arm in arms if any(arm.results))


def generic_arms(groups: Sequence[TargetSeed]) -> tuple[ArmResults, ...]:
    """For each source the arm in which every other target starts from it (generic SPoT, section 2)."""
    sources = sorted({source for group in groups for source in group.pairs})
    return tuple(
        _arm(groups, partial(_from_source, source=source), name=source, kind="generic", k=1) for source in sources
    )


def check_choice(strategies: Sequence[str], ks: Sequence[int], metric: str) -> None:
    """Refuse strategies, numbers of sources and a similarity that no study can have.

    Raises:
        StudyError: naming it and what is known.
    """
    for name in strategies:
        if name not in STRATEGIES:
            raise StudyError(f"unknown strategy {name!r}; {did_you_mean(name, STRATEGIES)}")
    if metric not in SIMILARITIES:
        raise StudyError(f"unknown metric {metric!r}; {did_you_mean(metric, SIMILARITIES)}")
    if any(k < 1 for k in ks):
        raise StudyError(f"k is {min(ks)}; expected numbers of sources, each 1 or more")


def strategy_name(strategy: str, k: int, ranked: str = "nearest") -> str:
    """A strategy over the first k sources in words."""
    sources = f"the {ranked} source" if k == 1 else f"the {k} {ranked}"
    names = {"average": f"average of {sources}", "mixture": f"mixture with {sources}", "race": f"race of {sources}"}
    return names.get(strategy, sources if k == 1 else f"best of {sources}")


def from_scratch(group: TargetSeed, count: int) -> ArmResult:
    """The best of the first `count` runs from scratch."""
    starts = tuple(Start("scratch", init_seed=number) for number in range(count))
    return _settled(group, Plan(strategy="none", starts=starts, rungs=(), steps=group.steps), group.plain[:count])


def _arm(
    groups: Sequence[TargetSeed], settled: Callable[[TargetSeed], ArmResult | None], *, name: str, kind: str, k: int = 0
) -> ArmResults:
    """An arm, settled in each group."""
    return ArmResults(name=name, kind=kind, k=k, results=tuple(settled(group) for group in groups))


def _frozen(group: TargetSeed) -> ArmResult | None:
    """The bare model, as the first run that measured it has it."""
    scores = [run.frozen for run in (*group.plain, *group.pairs.values()) if run.frozen is not None]
    return ArmResult(score=scores[0], cost=0.0, tuned=0, shipped=0) if scores else None


def _instead(group: TargetSeed, kind: str) -> ArmResult | None:
    """What one would pick instead of a prompt."""
    run = group.instead.get(kind)
    return run and _result_of_run(group, run, run.tokens)


def _as_is(group: TargetSeed, metric: str) -> ArmResult | None:
    """The prompt of the nearest source without tuning."""
    nearest = ranked_sources(group, metric)[0].task
    pair = group.pairs[nearest]
    if pair.as_is is None:
        return None
    cost = _cost(group, _embedding_tokens(group))
    return ArmResult(score=pair.as_is, cost=cost, tuned=0, shipped=pair.shipped, start=nearest)


def _plain_arms(groups: Sequence[TargetSeed]) -> list[ArmResults]:
    """Plain tuning: its first start, the better one, and the best of as many runs as every group has."""
    starts = max((group.starts for group in groups), default=1)
    runs = min((len(group.plain) for group in groups), default=0)
    arms = []
    if starts > 1:
        first = partial(from_scratch, count=1)
        arms.append(_arm(groups, first, name="plain tuning, the first start", kind="none", k=1))
    rates = {run.rate for group in groups for run in group.plain}
    better = "the better start" if len(rates) < 2 else "the better start and rate"
    name = "plain tuning" if starts == 1 else f"plain tuning, {better}"
    arms.append(_arm(groups, lambda group: from_scratch(group, group.starts), name=name, kind=PLAIN_ARM, k=starts))
    for count in range(starts + 1, runs + 1):
        best = partial(from_scratch, count=count)
        arms.append(_arm(groups, best, name=f"plain tuning, best of {count} runs", kind="restarts", k=count))
    return arms


def _random_source(group: TargetSeed) -> ArmResult:
    """What a source gives that is drawn at random: the mean over the sources."""
    figures = [(run.score, _cost(group, run.tokens), run.tuned, run.shipped) for run in group.pairs.values()]
    score, cost, tuned, shipped = np.mean(figures, axis=0).tolist()
    return ArmResult(score=score, cost=cost, tuned=tuned, shipped=shipped)


def _from_source(group: TargetSeed, source: str) -> ArmResult | None:
    """The run from one source; None where the group has none."""
    pair = group.pairs.get(source)
    return pair and _result_of_run(group, pair, pair.tokens)


def _always_arm(groups: Sequence[TargetSeed], hindsight: bool) -> ArmResults:
    """Every target starts from one source, the one with the highest mean gain over plain tuning.

    Args:
        groups: complete ones.
        hindsight: whether the gains are those of all targets on report rows; else those of the other targets on
            selection rows, so that nothing is known of the target at hand.
    """
    gains: dict[str, dict[str, list[float]]] = {}  # source -> target -> one a seed
    for group in groups:
        plain = from_scratch(group, group.starts).score if hindsight else plain_selection_score(group)
        for source, pair in group.pairs.items():
            gain = (pair.score if hindsight else selection_score(pair)) - plain
            gains.setdefault(source, {}).setdefault(group.target, []).append(gain)

    def settled(group: TargetSeed) -> ArmResult | None:
        expected = {}
        for source in sorted(group.pairs):
            means = [
                np.mean(by_seed) for target, by_seed in gains[source].items() if hindsight or target != group.target
            ]
            if means:
                expected[source] = round(float(np.mean(means)), 9)
        return _from_source(group, max(expected, key=expected.__getitem__)) if expected else None

    if hindsight:
        return _arm(groups, settled, name="always the best source, in hindsight", kind="hindsight", k=1)
    return _arm(groups, settled, name="always the best known source", kind="always", k=1)


def _learned_arms(groups: Sequence[TargetSeed], strategies: Sequence[str], ks: Sequence[int]) -> list[ArmResults]:
    """The strategies once more with sources as the other targets' results rank them; none where these say nothing."""
    similarities = [pair.similarity.get(BASIS, math.nan) for group in groups for pair in group.pairs.values()]
    if not all(map(math.isfinite, similarities)):
        return []
    rankings, any_learned = learned_rankings(groups)
    by_group = {id(group): ranking for group, ranking in zip(groups, rankings, strict=True)}
    return [
        _arm(
            groups,
            partial(_strategy, strategy=strategy, k=k, rank=lambda group: by_group[id(group)]),
            name=strategy_name(strategy, k, "most promising"),
            kind=f"learned_{strategy}",
            k=k,
        )
        for strategy in strategies
        for k in ks
        if any_learned
    ]


def _strategy(group: TargetSeed, strategy: str, k: int, rank: Callable[[TargetSeed], list[Ranked]]) -> ArmResult | None:
    """A strategy's result; None where its cell is not finished or no source has a similarity above 0."""
    if strategy in ("average", "mixture"):
        run = group.combined.get((strategy, k))
        return run and _result_of_run(group, run, run.tokens + _embedding_tokens(group))
    ranked, first = rank(group), group.plain[0]
    draws = {run.init_seed: run for run in group.plain if (run.start, run.rate) == (first.start, first.rate)}
    restarts = next(number for number in range(len(draws) + 1) if number not in draws)
    planned = plan_transfer(
        strategy,
        ranked,
        k=min(k, len(ranked)),
        steps=group.steps,
        eval_every=first.eval_every or group.steps,
        key_step=first.key_step,
        restarts=max(1, restarts),
    )
    runs = [group.pairs[start.tasks[0]] if start.tasks else draws[start.init_seed] for start in planned.starts]
    return _settled(group, planned, runs, pays_embedding=strategy != "oracle")


def _settled(group: TargetSeed, planned: Plan, runs: Sequence[Record], pays_embedding: bool = False) -> ArmResult:
    """What a plan keeps of finished runs, and the cost of all of them.

    Args:
        group: of the runs.
        planned: the plan.
        runs: one for each of its starts.
        pays_embedding: whether the run that gave the task embedding is paid for up to its key step, if it is not
            among them.
    """
    outcome = resolve(planned, [[run.curve] for run in runs])
    tokens = sum(_tokens(run, step) for run, step in zip(runs, outcome.steps, strict=True))
    first = group.plain[0]
    if pays_embedding:
        steps = [step for run, step in zip(runs, outcome.steps, strict=True) if run is first]
        tokens += max(0.0, _embedding_tokens(group) - _tokens(first, steps[0] if steps else 0))
    winner = runs[outcome.winner]
    return ArmResult(
        score=winner.score,
        cost=_cost(group, tokens),
        tuned=sum(run.tuned for run in runs),
        shipped=winner.shipped,
        start=_start_of(group, winner),
    )


def _model(group: TargetSeed, after_mixture: bool) -> ArmResult | None:
    """Model tuning, alone or after tuning on a mixture; None where there is no such cell."""
    runs = [run for run in group.models if bool(run.sources) is after_mixture]
    return _result_of_run(group, runs[0], runs[0].tokens) if runs else None


def _result_of_run(group: TargetSeed, run: Record, tokens: float) -> ArmResult:
    """One run as the result of an arm, which trained so many text tokens in all."""
    return ArmResult(
        score=run.score, cost=_cost(group, tokens), tuned=run.tuned, shipped=run.shipped, start=_start_of(group, run)
    )


def _start_of(group: TargetSeed, run: Record) -> str:
    """What a run started from, and its learning rate where that is not the first run's."""
    start = " + ".join(run.sources) or (f"{run.start} {run.init_seed}" if run.init_seed else run.start)
    is_other = run.kind not in (*INSTEAD, "model") and run.rate != group.plain[0].rate
    return f"{start} at {run.rate}" if is_other else start


def _tokens(run: Record, step: int) -> float:
    """Text tokens that a run has trained by a step."""
    if step >= run.steps:
        return run.tokens
    return amount_at(run.curve, step) if step else 0.0


def _embedding_tokens(group: TargetSeed) -> float:
    """Tokens of the run that gave the task embedding, up to the step at which it was read."""
    return _tokens(group.plain[0], group.plain[0].key_step)


def _cost(group: TargetSeed, tokens: float) -> float:
    """Text tokens as a multiple of one plain run's; NaN where those are not known."""
    return tokens / group.plain[0].tokens if group.plain[0].tokens else math.nan
