"""Tune the candidates of a plan on one target, drop some at rungs, and keep the best by selection rows.

Where a plan has rungs, its candidates walk as one gang with all their seeds, and those that a rung drops stand still
from there. Otherwise each candidate is a gang of its own, so that another k or strategy finds it finished.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from torch import Tensor

from spot.config import INITS, digest
from spot.library.library import Library
from spot.prompts.prompt import SoftPrompt
from spot.storage.run_dir import RunDir
from spot.strategies.arms import CandidateSummary
from spot.strategies.plans import PLAIN, Outcome, Plan, Start, remaining, resolve
from spot.strategies.source_mixtures import TunedMixture
from spot.strategies.target import TargetRuns
from spot.training.loop import Diverged, Rule
from spot.training.result import Amount, CurvePoint, RunResult, amount_at, mean_amount, mean_best_score
from spot.training.run import Run, prepare_run_from
from spot.training.tuning import TunedPrompt

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One start and the runs that set out from it.

    Attributes:
        start: where they began.
        initial: [P, D], their initial prompt.
        results: of the runs, one a seed.
        prompts: that they ended with, one a seed; none where all diverged.
        files: of these prompts.
        folder: below the transfer's.
        mixture: what the run that made the start for this target took; None where the start was there.
    """

    start: Start
    initial: Tensor
    results: tuple[RunResult, ...]
    prompts: tuple[SoftPrompt, ...] = ()
    files: tuple[Path, ...] = ()
    folder: str = ""
    mixture: RunResult | None = None

    @property
    def diverged(self) -> str:
        """Why the candidate is out, if a run of it diverged; empty otherwise."""
        return next((result.diverged for result in self.results if result.diverged), "")

    @property
    def dropped(self) -> bool:
        """Whether its runs stopped at a rung."""
        return any(result.dropped for result in self.results)

    @property
    def selection(self) -> float:
        """The best selection score of each seed, averaged, percent."""
        return mean_best_score(self.results)

    @property
    def curves(self) -> list[tuple[CurvePoint, ...]]:
        """The learning curves, one a seed."""
        return [result.curve for result in self.results]

    def spent(self, name: Amount) -> float:
        """Text `tokens` or `seconds` of training, mean over the seeds, with what made the start."""
        start = 0.0 if self.mixture is None else getattr(self.mixture, name)
        return start + mean_amount(self.results, name)

    def spent_by(self, name: Amount, step: int) -> float:
        """Text `tokens` or `seconds` of training by a step, mean over the seeds; what made the start is not counted."""
        return float(np.mean([amount_at(curve, step, name) for curve in self.curves]))


@dataclass(frozen=True)
class ExecutedPlan:
    """A plan whose candidates are tuned: these, in its order, and which one is kept."""

    plan: Plan
    candidates: tuple[Candidate, ...]
    outcome: Outcome

    @property
    def winner(self) -> Candidate:
        """The candidate that is kept."""
        return self.candidates[self.outcome.winner]

    def spent_on(self, number: int, name: Amount) -> float:
        """What one candidate took, as `Candidate.spent`; the plain run, which goes on anyway, until it is dropped."""
        candidate = self.candidates[number]
        if candidate.start == PLAIN:
            return candidate.spent_by(name, self.outcome.steps[number])
        return candidate.spent(name)

    def spent(self, name: Amount, plain: Candidate | None = None, key_step: int = 0) -> float:
        """What all candidates took, and with `plain` the run that retrieval needs, up to its key step."""
        parts = [self.spent_on(number, name) for number in range(len(self.candidates))]
        if plain is not None:
            pairs = zip(parts, self.candidates, strict=True)
            counted = sum(part for part, candidate in pairs if candidate.start == PLAIN)
            parts.append(max(0.0, plain.spent_by(name, key_step) - counted))
        return sum(parts)

    def summaries(self) -> tuple[CandidateSummary, ...]:
        """The candidates as a report shows them."""
        summaries = []
        for number, (candidate, steps) in enumerate(zip(self.candidates, self.outcome.steps, strict=True)):
            ended = "kept" if number == self.outcome.winner else "dropped" if steps < self.plan.steps else "lost"
            summaries.append(
                CandidateSummary(
                    source=candidate.start.name,
                    kind=candidate.start.kind,
                    steps=steps,
                    selection=candidate.selection,
                    tokens=round(self.spent_on(number, "tokens")),
                    ended=candidate.diverged or ended,
                )
            )
        return tuple(summaries)


def tune_plain(target: TargetRuns, init: str) -> Candidate:
    """Plain prompt tuning from an initial value of the kind `init`.

    Raises:
        Diverged: every seed did.
    """
    run = target.prepare(target.config.model_copy(update={"init": init}))
    folder = _plain_folder(init)
    return _candidate(PLAIN, run, target.tune(folder, target.with_seeds(run)), folder)


def tune_plain_at_best_rate(target: TargetRuns, init: str) -> Candidate:
    """Plain prompt tuning at the learning rate that selection rows choose.

    Raises:
        Diverged: every seed did at every rate.
    """
    run = target.prepare(target.raced_config.model_copy(update={"init": init}))
    folder = f"{_plain_folder(init)}-rates"
    return _candidate(PLAIN, run, target.tune(folder, target.with_seeds(run)), folder)


def _plain_folder(init: str) -> str:
    """The folder of the plain runs from a start; words of a text are none."""
    return f"plain-{init}" if init in INITS else f"plain-{sha256(init.encode()).hexdigest()[:8]}"


def run_plan(
    target: TargetRuns, plan: Plan, library: Library, plain: Candidate, mixture: TunedMixture | None = None
) -> ExecutedPlan:
    """Tune what a plan names, drop candidates at its rungs, and resolve it.

    Args:
        target: the target.
        plan: of any strategy.
        library: source prompts.
        plain: the finished plain run, which is a plan's first start from scratch.
        mixture: the tuned start of a plan that starts from a mixture.

    Raises:
        RunError: every candidate diverged.
    """
    runs = {
        number: _prepared(target, start, library, mixture) for number, start in enumerate(plan.starts) if start != PLAIN
    }
    if plan.rungs:
        tuned = _race(target, plan, runs, plain)
    else:
        tuned = {number: _tune_alone(target, plan.starts[number], run, number) for number, run in runs.items()}
    if mixture is not None:
        tuned = {
            number: replace(candidate, mixture=mixture.result) if candidate.start.kind == "mixture" else candidate
            for number, candidate in tuned.items()
        }
    candidates = tuple(tuned.get(number, plain) for number in range(len(plan.starts)))
    failed = _failed([candidate.results for candidate in candidates])
    for number in failed:
        log.warning(
            "%s: going on without the start from %s: %s",
            target.task.name,
            plan.starts[number].name,
            candidates[number].diverged,
        )
    return ExecutedPlan(plan, candidates, resolve(plan, [candidate.curves for candidate in candidates], failed))


def _prepared(target: TargetRuns, start: Start, library: Library, mixture: TunedMixture | None) -> Run:
    """The run that sets out from a start."""
    config = target.raced_config
    if start.kind == "scratch":
        return target.prepare(config.model_copy(update={"init_seed": config.init_seed + start.init_seed}))
    if start.kind == "mixture":
        assert mixture is not None, "a plan that starts from a mixture comes with the mixture's prompt"
        return target.prepare(config, mixture.prompt)
    sources = [library.get(prompt) for prompt in start.prompts]
    return prepare_run_from(config, (target.member,), target.backbone, sources, start.weights)


def _candidate(start: Start, run: Run, tuned: Sequence[TunedPrompt], folder: str) -> Candidate:
    """A candidate of runs that have ended."""
    return Candidate(
        start=start,
        initial=run.start,
        results=tuple(entry.result for entry in tuned),
        prompts=tuple(entry.prompt for entry in tuned),
        files=tuple(entry.path for entry in tuned),
        folder=folder,
    )


def _tune_alone(target: TargetRuns, start: Start, run: Run, number: int) -> Candidate:
    """One candidate as a gang of its own; one whose every seed diverged has results and no prompt."""
    runs = target.with_seeds(run)
    folder = f"spot-{number}-{runs[0].digest[:8]}"
    try:
        return _candidate(start, run, target.tune(folder, runs), folder)
    except Diverged as error:
        return Candidate(start=start, initial=run.start, results=error.results, folder=folder)


def _race(target: TargetRuns, plan: Plan, runs: Mapping[int, Run], plain: Candidate) -> dict[int, Candidate]:
    """All candidates but the finished plain one in one gang, a part of which stops at every rung."""
    # As many rows in memory at a time as one candidate alone has with its seeds.
    memory = {"micro_batch": target.config.batch_size * target.seeds}
    gang = [
        replace(seeded, config=seeded.config.model_copy(update=memory))
        for run in runs.values()
        for seeded in target.with_seeds(run)
    ]
    slices = {number: slice(at * target.seeds, (at + 1) * target.seeds) for at, number in enumerate(runs)}

    def losers(gang_results: Sequence[RunResult], step: int) -> list[int]:
        results = {number: gang_results[part] for number, part in slices.items()}
        by_candidate = [results.get(number, plain.results) for number in range(len(plan.starts))]
        curves = [[result.curve for result in candidate] for candidate in by_candidate]
        racing = remaining(plan, curves, step, _failed(by_candidate)).candidates
        places = range(len(gang_results))
        return [place for number, part in slices.items() if number not in racing for place in places[part]]

    shape = repr((plan.starts, plan.rungs, plan.joins))
    rule = Rule(digest(target.config, shape, RunDir(target.out / plain.folder).digest() or ""), losers)
    folder = f"race-{digest(gang[0].settings, rule.digest, *[run.digest for run in gang])[:8]}"
    try:
        tuned = target.tune(folder, gang, rule)
    except Diverged as error:
        return {
            number: Candidate(
                start=plan.starts[number], initial=run.start, results=error.results[slices[number]], folder=folder
            )
            for number, run in runs.items()
        }
    return {number: _candidate(plan.starts[number], run, tuned[slices[number]], folder) for number, run in runs.items()}


def _failed(candidates: Sequence[Sequence[RunResult]]) -> dict[int, int]:
    """Candidate -> the first step that a run of it could not take because it diverged."""
    steps = {
        number: [result.steps + 1 for result in results if result.diverged] for number, results in enumerate(candidates)
    }
    return {number: min(failed) for number, failed in steps.items() if failed}
