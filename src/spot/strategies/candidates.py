"""A plan carried out on one target: its starts are tuned, stop at rungs, and the best by selection rows is kept.

Where a plan has rungs, its candidates walk as one gang with all their seeds, and those that a rung drops stand still
from there. Otherwise each candidate is a gang of its own, so that another k or strategy finds it finished.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from spot.config import TuneConfig, digest
from spot.errors import TaskError
from spot.prompts.overlap import Sketch, build, seen
from spot.prompts.prompt import SoftPrompt
from spot.storage.run_dir import RunDir
from spot.strategies.comparison import Bench, mean_of, selection
from spot.strategies.plans import PLAIN, Amount, Outcome, Plan, Start, amount_at, settle, standing_after
from spot.strategies.report import CandidateSummary
from spot.tasks import mixtures, registry
from spot.tasks.splits import split_rows
from spot.training.loop import Diverged, Rule
from spot.training.result import CurvePoint, RunResult
from spot.training.run import Member, Run, mixed, prepare_run, prepare_run_from
from spot.training.tuning import TunedPrompt

log = logging.getLogger(__name__)

Get = Callable[[str], SoftPrompt]  # a prompt by its digest


@dataclass(frozen=True)
class Candidate:
    """One start and the runs that set out from it.

    Attributes:
        start: where they began.
        value: [P, D], their initial prompt.
        results: of the runs, one a seed.
        files: their prompt files, one a seed; none where all diverged.
        folder: below the transfer's.
        before: what the run that made the start for this target took, a mixture's: `tokens` and `seconds`.
    """

    start: Start
    value: Tensor
    results: tuple[RunResult, ...]
    files: tuple[Path, ...] = ()
    folder: str = ""
    before: Mapping[str, float] = field(default_factory=dict)

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
        return selection(self.results)

    def spent(self, name: Amount, step: int | None = None) -> float:
        """Text `tokens` or `seconds` of training, mean over the seeds.

        Args:
            name: which.
            step: by which; left out: in all, with what made the start.
        """
        if step is not None:
            return float(np.mean([amount_at(result.curve, step, name) for result in self.results]))
        return self.before.get(name, 0.0) + mean_of(self.results, name)


@dataclass(frozen=True)
class Carried:
    """A plan that was carried out: its candidates, in its order, and which one is kept."""

    plan: Plan
    candidates: tuple[Candidate, ...]
    outcome: Outcome

    @property
    def winner(self) -> Candidate:
        """The candidate that is kept."""
        return self.candidates[self.outcome.winner]

    def spent_by(self, number: int, name: Amount) -> float:
        """What one candidate took, as `Candidate.spent`; the plain run, which goes on anyway, until it is dropped."""
        one = self.candidates[number]
        return one.spent(name, self.outcome.steps[number]) if one.start == PLAIN else one.spent(name)

    def spent(self, name: Amount, plain: Candidate | None = None, key_step: int = 0) -> float:
        """What all candidates took, and with `plain` the run that retrieval needs, up to its key step."""
        parts = [self.spent_by(number, name) for number in range(len(self.candidates))]
        if plain is not None:
            own = [part for part, one in zip(parts, self.candidates, strict=True) if one.start == PLAIN]
            parts.append(max(0.0, plain.spent(name, key_step) - sum(own)))
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
                    tokens=round(self.spent_by(number, "tokens")),
                    ended=candidate.diverged or ended,
                )
            )
        return tuple(summaries)


def from_scratch(bench: Bench, init: str) -> Candidate:
    """Plain prompt tuning from an initial value of the kind `init`.

    Raises:
        Diverged: every seed did.
    """
    run = prepare_run(
        bench.config.model_copy(update={"init": init}), (Member(bench.task, bench.splits),), bench.backbone
    )
    runs, folder = bench.runs(run), f"plain-{init}"
    return _candidate(PLAIN, run, bench.tune(folder, runs), folder)


def carry_out(
    bench: Bench,
    plan: Plan,
    get: Get,
    plain: Candidate,
    mixture: Callable[[Start], tuple[SoftPrompt, Mapping[str, float]]],
) -> Carried:
    """Tune what a plan names, drop candidates at its rungs, and settle it.

    Args:
        bench: the target.
        plan: of any strategy.
        get: source prompts.
        plain: the finished plain run, which is a plan's first start from scratch.
        mixture: gives the prompt that a mixture's start is, and what it took.

    Raises:
        RunError: every candidate diverged.
    """
    runs, before = {}, {}
    for number, start in enumerate(plan.starts):
        if start.kind == "mixture":
            prompt, before[number] = mixture(start)
            runs[number] = prepare_run(_keyless(bench), (Member(bench.task, bench.splits),), bench.backbone, prompt)
        elif start != PLAIN:
            runs[number] = _run(bench, start, get)
    if plan.rungs:
        found = _race(bench, plan, runs, plain)
    else:
        found = {number: _alone(bench, plan.starts[number], run, number) for number, run in runs.items()}
    candidates = tuple(
        replace(found[number], before=before.get(number, {})) if number in found else plain
        for number in range(len(plan.starts))
    )
    failed = _failed([candidate.results for candidate in candidates])
    for number in failed:
        log.warning(
            "%s: going on without the start from %s: %s",
            bench.task.name,
            plan.starts[number].name,
            candidates[number].diverged,
        )
    outcome = settle(plan, [_curves(candidate.results) for candidate in candidates], failed)
    return Carried(plan, candidates, outcome)


def _run(bench: Bench, start: Start, get: Get) -> Run:
    """The run that sets out from a start."""
    config = _keyless(bench)
    if start.kind == "scratch":
        config = config.model_copy(update={"init_seed": config.init_seed + start.init_seed})
        return prepare_run(config, (Member(bench.task, bench.splits),), bench.backbone)
    sources = [get(prompt) for prompt in start.prompts]
    return prepare_run_from(config, (Member(bench.task, bench.splits),), bench.backbone, sources, start.weights)


def _keyless(bench: Bench) -> TuneConfig:
    """The settings of a run whose embedding nobody asks for."""
    return bench.config.model_copy(update={"key_step": None})


def _alone(bench: Bench, start: Start, run: Run, number: int) -> Candidate:
    """One candidate as a gang of its own; one whose every seed diverged has results and no file."""
    runs = bench.runs(run)
    folder = f"spot-{number}-{runs[0].digest[:8]}"
    try:
        return _candidate(start, run, bench.tune(folder, runs), folder)
    except Diverged as error:
        return Candidate(start, run.start, error.results, folder=folder)


def _race(bench: Bench, plan: Plan, runs: Mapping[int, Run], plain: Candidate) -> dict[int, Candidate]:
    """All candidates but the finished plain one in one gang, a part of which stops at every rung."""
    # As many rows in memory at a time as one candidate alone has with its seeds.
    config = {"micro_batch": bench.config.batch_size * bench.seeds}
    numbers = [number for number in runs for _ in range(bench.seeds)]
    gang = [
        replace(one, config=one.config.model_copy(update=config)) for run in runs.values() for one in bench.runs(run)
    ]

    def losers(gang_results: Sequence[RunResult], step: int) -> list[int]:
        results: list[Sequence[RunResult]] = [plain.results] * len(plan.starts)
        for number in runs:
            pairs = zip(numbers, gang_results, strict=True)
            results[number] = [result for owner, result in pairs if owner == number]
        alive, _ = standing_after(plan, [_curves(part) for part in results], step, _failed(results))
        return [place for place, number in enumerate(numbers) if number not in alive]

    shape = repr((plan.starts, plan.rungs, plan.joins))
    mark = digest(bench.config, shape, RunDir(bench.out / plain.folder).digest() or "")
    folder = f"race-{digest(gang[0].settings, mark, *[run.digest for run in gang])[:8]}"
    try:
        tuned = bench.tune(folder, gang, Rule(mark, losers))
        results, files = tuple(entry.result for entry in tuned), tuple(entry.path for entry in tuned)
    except Diverged as error:
        results, files = error.results, ()
    parts = {number: slice(at * bench.seeds, (at + 1) * bench.seeds) for at, number in enumerate(runs)}
    return {
        number: Candidate(plan.starts[number], run.start, results[parts[number]], files[parts[number]], folder)
        for number, run in runs.items()
    }


def _candidate(start: Start, run: Run, tuned: Sequence[TunedPrompt], folder: str) -> Candidate:
    """A candidate of finished runs."""
    results, files = tuple(entry.result for entry in tuned), tuple(entry.path for entry in tuned)
    return Candidate(start, run.start, results, files, folder)


def _curves(results: Sequence[RunResult]) -> list[tuple[CurvePoint, ...]]:
    """The learning curves, one a seed."""
    return [result.curve for result in results]


def _failed(candidates: Sequence[Sequence[RunResult]]) -> dict[int, int]:
    """Candidate -> the first step that a run of it could not take because it diverged."""
    steps = {
        number: [result.steps + 1 for result in results if result.diverged] for number, results in enumerate(candidates)
    }
    return {number: min(found) for number, found in steps.items() if found}


def check_rows(tasks: Sequence[str], k: int, data: Path | None) -> None:
    """Refuse a mixture before anything is trained where the rows of fewer than k of the sources' tasks are at hand.

    Raises:
        TaskError: naming each that is missing.
    """
    missing = []
    for name in tasks:
        try:
            next(iter(registry.get(name, data).load("train")), None)
        except TaskError as error:
            missing.append(f"{name} ({error})")
    if len(tasks) - len(missing) < k:
        raise _not_at_hand(missing, len(tasks))


def _not_at_hand(missing: Sequence[str], count: int) -> TaskError:
    """The error for a mixture whose tasks' rows are missing; each comes with its reason."""
    return TaskError(
        f"a mixture trains on the rows of its sources' tasks, and those of {len(missing)} of {count} are not at hand: "
        f"{'; '.join(missing)}. Name the data folder that has them (--data DIR), or take the strategy best, average or "
        "race, which need the prompts alone."
    )


def mixture_members(start: Start, get: Get, target: Member, data: Path | None) -> tuple[tuple[Member, ...], Sketch]:
    """The tasks of a mixture (SPoT section 3.3): those of its sources, with the rows that these had, and the target.

    Source rows whose text a selection row of the target has are left out.

    Args:
        start: names the sources.
        get: their prompts, whose settings say which rows they had.
        target: with its rows; the report rows are not looked at.
        data: where the rows of known data sets are.

    Returns:
        Members with shares in proportion to their rows, and a sketch of what the sources' rows hold.

    Raises:
        TaskError: the rows of a source's task are not at hand; each is named.
    """
    held = build(text for row in target.splits.selection for text in row.texts)
    parts, missing = [], []
    for name, prompt in dict(zip(start.tasks, start.prompts, strict=True)).items():
        settings = get(prompt).config
        try:
            task = registry.get(name, data, bool(settings.get("task_prefix", False)))
            limits = (settings.get("train_rows"), int(settings.get("select_rows", 100)))
            rows = split_rows(task, *limits, 0, int(settings.get("rows_seed", 0)))
        except TaskError as error:
            missing.append(f"{name} ({error})")
            continue
        known = seen(held, [row.texts for row in rows.train])
        train = tuple(row for row, is_known in zip(rows.train, known, strict=True) if not is_known)
        parts.append((task, replace(rows, train=train)))
    if missing:
        raise _not_at_hand(missing, len(set(start.tasks)))
    sketch = build(text for _, rows in parts for row in rows.train for text in row.texts)
    parts.append((target.task, target.splits))
    return mixed(parts, TuneConfig(task=target.task.name)), sketch


def tune_mixture(bench: Bench, members: Sequence[Member], steps: int) -> tuple[SoftPrompt, dict[str, float]]:
    """Tune one prompt on a mixture; its last checkpoint is the source prompt (SPoT section 3.3).

    Returns:
        The prompt, and the text `tokens` and `seconds` that it took.
    """
    config = _keyless(bench).model_copy(update={"steps": steps, "eval_every": steps})
    name = mixtures.PREFIX + "+".join(member.task.name for member in members)
    run = replace(prepare_run(config, members, bench.backbone, name=name), keep="last")
    folder = f"mixture-{run.digest[:8]}"
    [tuned] = bench.tune(folder, [run])
    return tuned.prompt, {"tokens": tuned.result.tokens, "seconds": tuned.result.seconds}
