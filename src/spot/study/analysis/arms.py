"""The arms of a study, settled from its records: what each would have kept for a target, and what it would have cost.

Every choice is made inside a block, one target under one seed, by selection rows. Only `always`, `hindsight` and the
arms that go by past transfers look at other targets, all but `hindsight` at their selection rows alone. Costs are text
tokens trained on the target in all: losers count, a dropped one up to its rung, and where similarities choose, so does
the run that gave the task embedding, up to the step at which that was read.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from spot.errors import StudyError, did_you_mean
from spot.retrieval.embeddings import SIMILARITIES
from spot.retrieval.search import Ranked
from spot.strategies.plans import STRATEGIES, Plan, Start, amount_at, plan, settle
from spot.study.analysis.groups import BASIS, Block, by_experience, plain_selection, ranking, selection
from spot.study.records import Record

BASELINE = "plain"  # the arm that gains are against: the better initial value by selection rows
LEARNED = ("best", "race")  # strategies that need no cells of their own, so that any ranking can be tried on them


@dataclass(frozen=True)
class Result:
    """What an arm came to in one block.

    Attributes:
        score: percent on report rows.
        cost: text tokens trained on the target, as a multiple of one plain run's; NaN where those are not known.
        tuned: parameters trained, those of losers included.
        shipped: parameters kept for the task.
        kept: tasks that the kept run started from, or its initial value; empty for an expectation.
    """

    score: float
    cost: float
    tuned: float
    shipped: float
    kept: str = ""


@dataclass(frozen=True)
class Arm:
    """One way to answer all targets.

    Attributes:
        name: for people.
        kind: a strategy, `frozen`, `as_is`, `plain`, `restarts`, `random`, `always`, `hindsight`, `generic`, `model`,
            `mixture_model`, or `learned_best` and `learned_race`, whose sources `learned` has ranked.
        k: sources, or runs from scratch to choose from; 0 where it means nothing.
        results: one a block, None where it cannot be settled.
    """

    name: str
    kind: str
    k: int
    results: tuple[Result | None, ...]


def arms(found: Sequence[Block], strategies: Sequence[str], ks: Sequence[int], metric: str) -> tuple[Arm, ...]:
    """Settle every arm in every complete block: a sceptic's arms, then the strategies.

    Args:
        found: complete blocks.
        strategies: of `spot.strategies.plans`; `none` and `oracle` are always among the arms.
        ks: numbers of sources; where a block has fewer, all of them are used.
        metric: which similarity ranks the sources.

    Returns:
        `BASELINE` is among them; an arm that no block can settle is not.

    Raises:
        StudyError: a strategy or the metric is unknown, or a pair lacks this similarity.
    """
    check(strategies, ks, metric)
    nearest = partial(ranking, metric=metric)
    most = max((block.starts for block in found), default=1)
    made = [
        _arm("frozen model, no prompt", "frozen", 0, found, _frozen),
        _arm("nearest prompt as it is", "as_is", 1, found, partial(_as_is, metric=metric)),
    ]
    if most > 1:
        made.append(_arm("plain tuning, the first start", "none", 1, found, partial(from_scratch, count=1)))
    better = "plain tuning" if most == 1 else "plain tuning, the better start"
    made.append(_arm(better, BASELINE, most, found, lambda block: from_scratch(block, block.starts)))
    for n in range(most + 1, 1 + min((len(block.plain) for block in found), default=0)):
        made.append(_arm(f"plain tuning, best of {n} runs", "restarts", n, found, partial(from_scratch, count=n)))
    made.append(_arm("a source at random", "random", 1, found, _random))
    made.append(_always("always the best known source", "always", found, peek=False))
    made.append(_always("always the best source, in hindsight", "hindsight", found, peek=True))
    for strategy in strategies:
        if strategy not in ("none", "oracle"):
            for k in ks:
                settled = partial(_strategy, strategy=strategy, k=k, rank=nearest)
                made.append(_arm(strategy_name(strategy, k), strategy, k, found, settled))
    made += _learned(found, [name for name in LEARNED if name in strategies], ks)
    oracle = partial(_strategy, strategy="oracle", k=1, rank=nearest)
    made.append(_arm("oracle, best of all sources", "oracle", 0, found, oracle))
    made.append(_arm("model tuning", "model", 0, found, partial(_model, mixed=False)))
    made.append(_arm("multi-task model tuning", "mixture_model", 0, found, partial(_model, mixed=True)))
    return tuple(arm for arm in made if any(arm.results))


def generic(found: Sequence[Block]) -> tuple[Arm, ...]:
    """For each source the arm in which every other target starts from it (generic SPoT, section 2)."""
    sources = sorted({source for block in found for source in block.pairs})
    return tuple(_arm(source, "generic", 1, found, partial(_from_source, source=source)) for source in sources)


def check(strategies: Sequence[str], ks: Sequence[int], metric: str) -> None:
    """Refuse what no study can have.

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
    of = f"the {ranked} source" if k == 1 else f"the {k} {ranked}"
    return {"average": f"average of {of}", "mixture": f"mixture with {of}", "race": f"race of {of}"}.get(
        strategy, of if k == 1 else f"best of {of}"
    )


def _arm(name: str, kind: str, k: int, found: Sequence[Block], settled: Callable[[Block], Result | None]) -> Arm:
    return Arm(name, kind, k, tuple(settled(block) for block in found))


def _frozen(block: Block) -> Result | None:
    scores = [one.frozen for one in (*block.plain, *block.pairs.values()) if one.frozen is not None]
    return Result(scores[0], 0.0, 0, 0) if scores else None


def _as_is(block: Block, metric: str) -> Result | None:
    nearest = ranking(block, metric)[0].task
    pair = block.pairs[nearest]
    return None if pair.as_is is None else Result(pair.as_is, _cost(block, _key(block)), 0, pair.shipped, nearest)


def from_scratch(block: Block, count: int) -> Result:
    """The best of the first `count` runs from scratch."""
    starts = tuple(Start("scratch", init_seed=number) for number in range(count))
    return _settled(block, Plan("none", starts, (), block.steps), block.plain[:count])


def _random(block: Block) -> Result:
    """What a source gives that is drawn at random: the mean over the sources."""
    found = [_from_source(block, source) for source in block.pairs]
    means = np.mean([(one.score, one.cost, one.tuned, one.shipped) for one in found], axis=0)
    return Result(*means.tolist())


def _from_source(block: Block, source: str) -> Result | None:
    pair = block.pairs.get(source)
    return pair and Result(pair.score, _cost(block, pair.tokens), pair.tuned, pair.shipped, source)


def _always(name: str, kind: str, found: Sequence[Block], peek: bool) -> Arm:
    """Every target starts from one source, the one with the highest mean gain over plain tuning.

    Args:
        name: of the arm.
        kind: of the arm.
        found: complete blocks.
        peek: whether the gains are those of all targets on report rows; else those of the other targets on selection
            rows, so that nothing is known of the target at hand.
    """
    gains: dict[str, dict[str, list[float]]] = {}
    for block in found:
        base = from_scratch(block, block.starts).score if peek else plain_selection(block)
        for source, pair in block.pairs.items():
            gain = (pair.score if peek else selection(pair)) - base
            gains.setdefault(source, {}).setdefault(block.target, []).append(gain)

    def settled(block: Block) -> Result | None:
        known = {}
        for source in sorted(block.pairs):
            means = [np.mean(own) for target, own in gains[source].items() if peek or target != block.target]
            if means:
                known[source] = round(float(np.mean(means)), 9)
        return _from_source(block, max(known, key=known.__getitem__)) if known else None

    return _arm(name, kind, 1, found, settled)


def _learned(found: Sequence[Block], strategies: Sequence[str], ks: Sequence[int]) -> list[Arm]:
    """The strategies once more with sources as the other targets' results rank them; none where these say nothing."""
    similar = [pair.similarity.get(BASIS, math.nan) for block in found for pair in block.pairs.values()]
    if not all(map(math.isfinite, similar)):
        return []
    ranked, knows = by_experience(found)
    order = {id(block): own for block, own in zip(found, ranked, strict=True)}
    return [
        _arm(
            strategy_name(strategy, k, "most promising"),
            f"learned_{strategy}",
            k,
            found,
            partial(_strategy, strategy=strategy, k=k, rank=lambda block: order[id(block)]),
        )
        for strategy in strategies
        for k in ks
        if knows
    ]


def _strategy(block: Block, strategy: str, k: int, rank: Callable[[Block], list[Ranked]]) -> Result | None:
    """A strategy's result; None where its cell is not finished or no source has a similarity above 0."""
    if strategy in ("average", "mixture"):
        one = block.combined.get((strategy, k))
        return one and Result(one.score, _cost(block, one.tokens + _key(block)), one.tuned, one.shipped, _kept(one))
    ranked, first = rank(block), block.plain[0]
    draws = {one.init_seed: one for one in block.plain if one.start == first.start}
    restarts = next(number for number in range(len(draws) + 1) if number not in draws)
    eval_every = int(first.config.get("eval_every") or block.steps)
    planned = plan(
        strategy,
        ranked,
        k=min(k, len(ranked)),
        steps=block.steps,
        eval_every=eval_every,
        key_step=_key_step(block),
        restarts=max(1, restarts),
    )
    runs = [block.pairs[start.tasks[0]] if start.tasks else draws[start.init_seed] for start in planned.starts]
    return _settled(block, planned, runs, keyed=strategy != "oracle")


def _settled(block: Block, planned: Plan, runs: Sequence[Record], keyed: bool = False) -> Result:
    """What a plan keeps of finished runs, and the cost of all of them.

    Args:
        block: of the runs.
        planned: the plan.
        runs: one for each of its starts.
        keyed: whether the run that gave the task embedding is paid for up to its key step, if it is not among them.
    """
    outcome = settle(planned, [[run.curve] for run in runs])
    tokens = sum(_tokens(run, step) for run, step in zip(runs, outcome.steps, strict=True))
    if keyed:
        own = [step for run, step in zip(runs, outcome.steps, strict=True) if run is block.plain[0]]
        tokens += max(0.0, _key(block) - _tokens(block.plain[0], own[0] if own else 0))
    winner = runs[outcome.winner]
    return Result(winner.score, _cost(block, tokens), sum(run.tuned for run in runs), winner.shipped, _kept(winner))


def _kept(run: Record) -> str:
    """What a run started from."""
    return " + ".join(run.sources) or (f"{run.start} {run.init_seed}" if run.init_seed else run.start)


def _model(block: Block, mixed: bool) -> Result | None:
    found = [one for one in block.models if bool(one.sources) is mixed]
    if not found:
        return None
    one = found[0]
    return Result(one.score, _cost(block, one.tokens), one.tuned, one.shipped, _kept(one))


def _tokens(record: Record, step: int) -> float:
    """Text tokens that a run has trained by a step."""
    if step >= record.steps:
        return record.tokens
    return amount_at(record.curve, step) if step else 0.0


def _key_step(block: Block) -> int:
    return int(block.plain[0].config.get("key_step") or 0)


def _key(block: Block) -> float:
    """Tokens of the run that gave the task embedding, up to the step at which it was read."""
    return _tokens(block.plain[0], _key_step(block))


def _cost(block: Block, tokens: float) -> float:
    return tokens / block.plain[0].tokens if block.plain[0].tokens else math.nan
