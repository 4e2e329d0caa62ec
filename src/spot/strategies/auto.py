"""Pick a strategy for a target: what `auto` does, in two sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spot.retrieval.ranking import Ranking
from spot.retrieval.search import Ranked
from spot.strategies.plans import RACE_BUDGET, plan_transfer, price

FEW_ROWS = 30  # selection rows below which one row more or less right decides a race
NEAR = 0.5  # similarity of tasks of one kind: 0.54 to 0.88 in docs/studies/smollm2, of others below 0.45
STANDS_OUT = 1.0  # standard deviations between the first source and the second


def nothing_near(ranking: Ranking) -> str:
    """A sentence where no source is like the target; empty where one is, or where nothing is known of the scale."""
    nearest = max(ranking.sources, key=lambda source: source.similarity, default=None)
    if nearest is None or nearest.similarity >= NEAR or ranking.rank_by in ("max", "as_is"):
        return ""
    return (
        f"The library holds nothing near: the most similar source, {nearest.task}, has {nearest.similarity:.2f}, and "
        f"tasks of one kind have {NEAR} or more, so what a source will give is a guess."
    )


@dataclass(frozen=True)
class Choice:
    """What `choose_strategy` picks.

    Attributes:
        strategy: one of `STRATEGIES`.
        k: sources that it uses; 0 for `none`.
        reason: two sentences: what, and why.
    """

    strategy: str
    k: int
    reason: str


def choose_strategy(
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
    race = plan_transfer(
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
