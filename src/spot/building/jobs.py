"""Do the work of building a library, a job at a time: plain values come in and go out, here or on another machine.

A job goes on from the checkpoint of its run's folder, in the cache of the machine that it ran on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from pydantic import with_config

from spot.baselines.constant import best_constant
from spot.config import TuneConfig, digest
from spot.errors import SpotError, StorageError
from spot.evaluation.predictions import Prediction, Progress
from spot.evaluation.scoring import Evaluation, evaluate_rows, interval, score_predictions
from spot.models.backbone import Backbone
from spot.prompts.prompt import from_bytes, to_bytes
from spot.storage.files import cache_dir
from spot.storage.values import STRICT
from spot.strategies.halving import Rung, mean_best_so_far, survivors
from spot.tasks.splits import Splits
from spot.tasks.task import Example, Task
from spot.training.loop import Diverged, Rule, gang_digest
from spot.training.result import CurvePoint, RunResult
from spot.training.run import Member, members_of, prepare_run
from spot.training.tuning import tune_runs


@dataclass(frozen=True, kw_only=True)
class Race:
    """Settings that walk as one gang on a few tasks, a part of which stops at every rung.

    Attributes:
        configs: setting by setting, within each task by task; equal but for what settings and tasks say.
        tasks: how many there are.
        rungs: at which the worse settings stop.
        confirm_rows: that neither train nor choose.
        origin: fingerprint of the model and revisions of the tasks: what a record of the job is good for.
        data: where the rows of known data sets are.
    """

    configs: tuple[TuneConfig, ...]
    tasks: int
    rungs: tuple[Rung, ...]
    confirm_rows: int
    origin: str
    data: str | None = None

    @property
    def digest(self) -> str:
        """What names its record."""
        return _named(self.configs, "race", repr(self.rungs), str(self.confirm_rows), self.origin)

    @property
    def title(self) -> str:
        """For people."""
        count = len(self.configs) // self.tasks
        return f"{count} settings" if count > 1 else "1 setting"


@dataclass(frozen=True, kw_only=True)
class Check:
    """The prompts of one setting, to be compared with the frozen model and a constant answer on rows of their own.

    Attributes:
        configs: of the runs, one a task.
        prompts: their files.
        confirm_rows, origin, data: as in `Race`.
    """

    configs: tuple[TuneConfig, ...]
    prompts: tuple[bytes, ...] = field(repr=False)
    confirm_rows: int
    origin: str
    data: str | None = None

    @property
    def digest(self) -> str:
        """What names its record."""
        contents = [sha256(content).hexdigest() for content in self.prompts]
        return _named(self.configs, "check", str(self.confirm_rows), self.origin, *contents)

    @property
    def title(self) -> str:
        """For people."""
        return "the calibrated setting beside the frozen model"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source prompt.

    Attributes:
        config: of its run.
        task: its name.
        again: a second seed, which goes no further than the key step and is not scored.
        origin, data: as in `Race`.
    """

    config: TuneConfig
    task: str
    origin: str
    again: bool = False
    data: str | None = None

    @property
    def digest(self) -> str:
        """What names its record."""
        return _named((self.config,), "again" if self.again else "source", self.origin)

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.task} again, seed {self.config.seed}" if self.again else self.task


Job = Race | Check | Source


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class TaskCheck:
    """What one setting came to on one task, on rows that chose nothing; percent.

    Attributes:
        task: its name.
        rows: how many there are.
        tuned: score of the prompt.
        frozen: of the model without one.
        constant: of giving every row the same label, that which does best on the rows that chose; None of open answers.
        low: of the 95 % interval of the gain over the better of the two.
        high: its other end.
    """

    task: str
    rows: int
    tuned: float
    frozen: float
    constant: float | None
    low: float
    high: float

    @property
    def gain(self) -> float:
        """Points over the better of the frozen model and a constant answer."""
        return self.tuned - max(self.frozen, self.constant if self.constant is not None else self.frozen)

    @property
    def learned(self) -> bool:
        """Whether the gain is more than these rows leave to chance."""
        return self.low > 0


@dataclass(frozen=True, kw_only=True)
class Done:
    """What comes back of a job.

    Attributes:
        results: of its runs.
        prompts: files: of a race those of the settings that came to the end, by number of the run; of a source its own.
        checks: of a check.
        reason: why there is nothing; empty where there is.
    """

    results: tuple[RunResult, ...] = ()
    prompts: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    checks: tuple[TaskCheck, ...] = ()
    reason: str = ""


def work(backbone: Backbone, job: Job, progress: Progress | None = None) -> Done:
    """Do a job.

    Args:
        backbone: the frozen model.
        job: what to do.
        progress: called after every step of training.

    Returns:
        Results and prompts; of a job that cannot be done, such as one whose rows are not here, the reason.

    Raises:
        StorageError: this machine's cache cannot be written.
    """
    try:
        if isinstance(job, Race):
            return _race(backbone, job, progress)
        return _check(backbone, job) if isinstance(job, Check) else _source(backbone, job, progress)
    except StorageError:
        raise
    except SpotError as error:
        return Done(reason=str(error))


def runs_folder() -> Path:
    """Where the runs of libraries are, in this machine's cache."""
    return cache_dir() / "libraries" / "runs"


def racing(results: Sequence[RunResult], tasks: int, rungs: Sequence[Rung], step: int) -> tuple[int, ...]:
    """The settings that are in a race after the rungs up to a step.

    Args:
        results: of all runs so far, setting by setting, within each task by task.
        tasks: how many there are.
        rungs: of the race.
        step: later rungs are not looked at.
    """
    by_setting = [results[at : at + tasks] for at in range(0, len(results), tasks)]
    lost = [min((result.steps for result in part if result.diverged), default=None) for part in by_setting]
    alive = tuple(range(len(by_setting)))
    for rung in rungs:
        if rung.step > step:
            break
        alive = tuple(number for number in alive if (at := lost[number]) is None or at >= rung.step)
        ranks = [mean_best_so_far(learned_curves(by_setting[number]), rung.step) for number in alive]
        alive = survivors(alive, ranks, rung.keep)
    return tuple(number for number in alive if (at := lost[number]) is None or at >= step)


def learned_curves(results: Sequence[RunResult]) -> list[Sequence[CurvePoint]]:
    """The curves of runs without their starts, which all settings of one start share; a lone start stays."""
    return [result.curve[1:] or result.curve for result in results]


def split_choosing(member: Member, select_rows: int, confirm_rows: int) -> tuple[Member, Sequence[Example]]:
    """A task whose first selection rows choose, and the others, which confirm; where they are few, half of them each.

    Args:
        member: with `select_rows` + `confirm_rows` selection rows, or as many as there are.
        select_rows: that choose.
        confirm_rows: that confirm.
    """
    rows = member.splits.selection
    share = min(select_rows, max(1, round(len(rows) * select_rows / (select_rows + confirm_rows))))
    # Rows stand in the order of their file, which may be sorted by label: every part takes rows from all over it.
    chosen = {round(at) for at in np.linspace(0, len(rows) - 1, share)}
    choosing = tuple(row for number, row in enumerate(rows) if number in chosen)
    confirming = tuple(row for number, row in enumerate(rows) if number not in chosen)
    return Member(member.task, Splits(member.splits.train, choosing, ())), confirming or choosing


def _named(configs: Sequence[TuneConfig], *extra: str) -> str:
    """What names a job: settings, and what else decides its outcome; not the folder that the model is in."""
    plain = [config.model_copy(update={"backbone": "given"}) for config in configs]
    return digest(plain[0], *[digest(config) for config in plain], *extra)


def _members(config: TuneConfig, confirm_rows: int, data: str | None) -> tuple[Member, Sequence[Example]]:
    """The task of a run of the calibration, and the rows that confirm."""
    wider = config.model_copy(update={"select_rows": config.select_rows + confirm_rows, "report_rows": 0})
    [member], _ = members_of(wider, None if data is None else Path(data))
    return split_choosing(member, config.select_rows, confirm_rows)


def _race(backbone: Backbone, job: Race, progress: Progress | None) -> Done:
    """Let settings race; the prompts of those that came to the end go back."""
    members = {config.task: _members(config, job.confirm_rows, job.data)[0] for config in job.configs[: job.tasks]}
    starts: dict[tuple[str, ...], torch.Tensor] = {}
    runs = []
    for config in job.configs:
        run = prepare_run(config, (members[config.task],), backbone)
        # Runs of one start share its tensor, so that it is evaluated once.
        start = starts.setdefault((config.task, config.init, str(config.length)), run.start)
        runs.append(replace(run, start=start))

    def losers(results: Sequence[RunResult], step: int) -> list[int]:
        stay = racing(results, job.tasks, job.rungs, step)
        return [number for number in range(len(runs)) if number // job.tasks not in stay]

    rule = Rule(digest(job.configs[0], "race", repr(job.rungs)), losers) if job.rungs else None
    try:
        tuned = tune_runs(runs, backbone, runs_folder() / gang_digest(runs, rule), progress, rule)
    except Diverged as error:
        return Done(results=error.results)
    ended = {
        number: to_bytes(entry.prompt)
        for number, entry in enumerate(tuned)
        if not entry.result.dropped and not entry.result.diverged
    }
    return Done(results=tuple(entry.result for entry in tuned), prompts=ended)


def _check(backbone: Backbone, job: Check) -> Done:
    """Compare prompts with the frozen model and a constant answer on rows that chose nothing."""
    checks = []
    for config, content in zip(job.configs, job.prompts, strict=True):
        member, confirming = _members(config, job.confirm_rows, job.data)
        prompt = from_bytes(content)
        run = prepare_run(config, (member,), backbone)
        collator = run.collator_of(member, backbone)
        vectors = torch.tensor(prompt.value), torch.zeros(0, backbone.id.width)
        tuned, frozen = (
            evaluate_rows(backbone, part.to(backbone.device), member.task, collator, confirming) for part in vectors
        )
        constant = constant_answer(member.task, member.splits.train, confirming)
        best = max((part for part in (frozen, constant) if part is not None), key=lambda part: part.primary)
        low, high = interval((tuned,), member.task, confirming, (best,))
        checks.append(
            TaskCheck(
                task=member.task.name,
                rows=len(confirming),
                tuned=tuned.primary,
                frozen=frozen.primary,
                constant=None if constant is None else constant.primary,
                low=low,
                high=high,
            )
        )
    return Done(checks=tuple(checks))


def constant_answer(task: Task, train: Sequence[Example], rows: Sequence[Example]) -> Evaluation | None:
    """What giving all rows one label scores, which does best on those that train.

    Returns:
        None where the task has no labels.
    """
    if not task.labels:
        return None
    return score_predictions(task, rows, [Prediction(best_constant(task, train))] * len(rows))


def _source(backbone: Backbone, job: Source, progress: Progress | None) -> Done:
    """Tune a source and score it."""
    members, name = members_of(job.config, None if job.data is None else Path(job.data))
    if job.again:
        members = tuple(member.unreported for member in members)
    run = prepare_run(job.config, members, backbone, name=name)
    [tuned] = tune_runs([run], backbone, runs_folder() / run.digest, progress)
    if tuned.result.diverged:
        return Done(reason=tuned.result.diverged)
    return Done(results=(tuned.result,), prompts={0: to_bytes(tuned.prompt)})
