"""Build a library for a model: plan, calibrate, train the sources, check, write the card; or add one more source.

Killed at any moment and started again, a build goes on: a job that is done is only read.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from spot.building import jobs
from spot.building.calibration import Trial, Winner, settle
from spot.building.card import write_card
from spot.building.jobs import Check, Done, Job, TaskCheck
from spot.building.plan import (
    BuildPlan,
    Measured,
    PlannedTask,
    find_tasks,
    measure,
    plan_task,
    rms_of,
    tasks_to_calibrate,
)
from spot.building.recipe import LibraryRecipe, Setting, check_names, differing_fields, find_title, settings_of
from spot.building.records import (
    BuildRecord,
    BuiltSource,
    Nearness,
    find_done,
    keep_done,
    read_record,
    recipe_of,
    write_record,
)
from spot.errors import ConfigError, LibraryError, RunError, StorageError
from spot.evaluation.predictions import Progress
from spot.library.library import PACKAGED, Library
from spot.models.backbone import Backbone
from spot.models.checkpoints import locate
from spot.models.embedded import NAME as EMBEDDED
from spot.prompts.prompt import SoftPrompt, from_bytes
from spot.retrieval.embeddings import embedding_of, similarity
from spot.storage.files import cache_dir, lock
from spot.storage.opening import exists
from spot.storage.values import plain
from spot.study.executors import Executor, GivenUp, serial

log = logging.getLogger(__name__)

Say = Callable[[str], None]  # called with a line when a job begins or is done


@dataclass(frozen=True, kw_only=True)
class BuildOutcome:
    """How a build ended.

    Attributes:
        library: the folder.
        plan: that was followed.
        record: of the library; None where no setting learned and nothing was filled.
        trials: of the calibration.
        checks: of the setting that won it.
        added: tasks whose prompts this call put into the library.
        failed: task -> why it has no prompt; the next call tries again.
    """

    library: Path
    plan: BuildPlan
    record: BuildRecord | None
    trials: tuple[Trial, ...]
    checks: tuple[TaskCheck, ...]
    added: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        record = self.record
        return {
            "library": None if record is None else str(self.library),
            "backbone": str(self.plan.identity),
            "setting": None if record is None else plain(record.setting),
            "trials": plain(self.trials),
            "checks": plain(self.checks),
            "nearness": [] if record is None else plain(record.nearness),
            "sources": [] if record is None else plain(record.sources),
            "added": list(self.added),
            "failed": dict(self.failed),
            "missing": dict(self.plan.missing),
            "left_out": list(self.plan.left_out),
        }


def plan_library(
    recipe: LibraryRecipe,
    backbone: Backbone | str,
    library: Path | str,
    *,
    data: Path | str | None = None,
    budget: str | None = None,
    name: str | None = None,
) -> BuildPlan:
    """Plan a library, and measure a few steps; nothing is trained and nothing written.

    Args:
        recipe: from `read_recipe`.
        backbone: the frozen model, or its name.
        library: a new folder, or one that was built before: what it has is not trained again.
        data: where the rows of known data sets are.
        budget: a time such as `2h`, or a number of text tokens: sources that it does not hold are left out.
        name: of the model as others load it, where `backbone` is one that is loaded; left out: that of its files.

    Raises:
        ConfigError: the recipe's names stand for nothing, the model is loaded with other bits than it says, or the
            budget holds no source.
        LibraryError: the library is another model's or another recipe's.
        TaskError: the rows of fewer than two tasks are here.
    """
    check_names(recipe)
    record = check_library(recipe, library, backbone)
    name = backbone if isinstance(backbone, str) else name or backbone.id.name
    model = _loaded(backbone, recipe)
    return _plan(recipe, model, name, record, None if data is None else Path(data)).within(budget)


def plan_addition(
    task: str,
    library: Path | str,
    *,
    backbone: Backbone | str | None = None,
    data: Path | str | None = None,
    name: str | None = None,
) -> BuildPlan:
    """Plan one more source of a library that was built, by its own recipe and setting.

    Args:
        task: a name or the path of a task file.
        library: its folder.
        backbone: the model, where it lies elsewhere than when the library was built.
        data: where the rows of known data sets are.
        name: as in `plan_library`.

    Raises:
        ConfigError: the model is loaded with other bits than the recipe says.
        LibraryError: the library was not built, has a prompt of the task, or is another model's.
        TaskError: the task is unknown, or its rows are not here.
    """
    record = check_addition(task, library, backbone)
    recipe = recipe_of(record, library)
    wanted = record.backbone if backbone is None else backbone
    model = _loaded(wanted, recipe)
    where = None if data is None else Path(data)
    plan = BuildPlan(
        recipe=recipe,
        backbone=_lasting(wanted if isinstance(wanted, str) else name or record.backbone),
        identity=model.id,
        data=None if where is None else str(where),
        settings=(record.setting,),
        calibrate=(),
        calibrated=True,
        sources=(plan_task(recipe, task, model, where),),
        missing={},
        measured=Measured(seconds=0.0, memory=0, rms=record.rms),
    )
    return replace(plan, measured=measure(plan, model))


def build_library(
    plan: BuildPlan,
    library: Path | str,
    *,
    backbone: Backbone | None = None,
    executor: Executor = serial,
    say: Say | None = None,
    progress: Progress | None = None,
) -> BuildOutcome:
    """Do what a plan says.

    Args:
        plan: of `plan_library` or `plan_addition`.
        library: the folder, as it was planned for.
        backbone: the model, where it is loaded already; an executor on other machines loads its own.
        executor: does the jobs.
        say: is called with a line when something begins or is done.
        progress: called after every step of training that is done in this process.

    Raises:
        ConfigError: the model is loaded with other bits than the recipe says.
        LibraryError: another process changes the library, or a prompt does not belong in it.
        RunError: every setting diverged, or a record of a job is damaged.
        StorageError: a disk is full; what is done stays.
    """
    place = Path(library)
    _check_disk(plan, place)
    locked = cache_dir() / "libraries" / sha256(os.fsencode(place.absolute())).hexdigest()[:16]
    with lock(locked, cache_dir()):
        building = _Building(plan, place, say or (lambda line: None))
        held = None if backbone is None else _loaded(backbone, plan.recipe)
        setup = (lambda: held) if held is not None and executor is serial else _Loading(plan)
        do = partial(jobs.work, progress=progress) if executor is serial else jobs.work
        for job, done in executor(setup, do, building.jobs()):
            building.land(job, done)
        return building.outcome()


def _loaded(backbone: Backbone | str, recipe: LibraryRecipe) -> Backbone:
    """The model as a recipe says that it is held.

    Raises:
        ConfigError: it is held in other bits.
    """
    model = Backbone.of(backbone, recipe.quantise)
    if model.quantise != recipe.quantise:
        raise ConfigError(
            f"the recipe {recipe.name} says quantise = {recipe.quantise!r}, and the model is loaded with "
            f"{model.quantise!r}; expected one. Load it so: Backbone.load(NAME, quantise={recipe.quantise!r})."
        )
    return model


@dataclass(frozen=True)
class _Loading:
    """Loads the model where the work is done."""

    plan: BuildPlan

    def __call__(self) -> Backbone:
        return Backbone.load(self.plan.backbone, quantise=self.plan.recipe.quantise)


@dataclass
class _Building:
    """Owns the state of one build: which jobs come next, and what came of them.

    Attributes:
        plan: that is followed.
        place: folder of the library.
        say: is called with a line when something begins or is done.
        landed: job's digest -> what came of it.
        trials, checks, record, added, failed: as in `BuildOutcome`.
    """

    plan: BuildPlan
    place: Path
    say: Say
    landed: dict[str, Done] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    checks: tuple[TaskCheck, ...] = ()
    record: BuildRecord | None = None
    added: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def jobs(self) -> Iterator[Job | None]:
        """What is to be done next, as an executor asks for it; None while what is at work must end first."""
        self.record = read_record(self.place)
        if self.record is None and not (yield from self._calibrate()):
            return
        assert self.record is not None
        if self.plan.calibrate:
            recipe = self.plan.recipe.model_dump(mode="json")
            self.record = replace(self.record, recipe=recipe, missing=self.plan.missing)
        setting = self.record.setting
        self.trials, self.checks = self.record.trials, self.record.checks
        sources = {task.title: self.plan.source(task, setting) for task in self.plan.sources}
        missing = [task for task in self.plan.sources if not self._has(task, sources[task.title])]
        again = [self.plan.source(task, setting, again=True) for task in self._to_check()]
        yield from self._all([*(sources[task.title] for task in missing), *again])
        self._compare_seeds(setting)

    def land(self, job: Job, done: Done | GivenUp) -> None:
        """Keep what came of a job; a source goes into the library."""
        done = Done(reason=done.reason) if isinstance(done, GivenUp) else done
        if not done.reason:
            keep_done(job, done)
        self._take(job, done)

    def outcome(self) -> BuildOutcome:
        """How the build ended."""
        return BuildOutcome(
            library=self.place,
            plan=self.plan,
            record=self.record,
            trials=self.trials,
            checks=self.checks,
            added=tuple(self.added),
            failed=self.failed,
        )

    def _calibrate(self) -> Iterator[Job | None]:
        """Find the setting; whether one learned."""
        plan, races = self.plan, self.plan.races
        yield from self._all(races)
        trials, winner = settle(races, [self.landed[race.digest] for race in races], plan.settings)
        self.trials = tuple(trials)
        if winner is None:
            reasons = "; ".join(dict.fromkeys(trial.ended for trial in trials))
            raise RunError(
                f"no setting of the recipe {plan.recipe.name} came to the end of its race on {plan.identity.name}: "
                f"{reasons}. Give other rates, starts or tasks."
            )
        check = _check_of(plan, winner, self.landed[winner.race.digest])
        yield from self._all([check])
        done = self.landed[check.digest]
        if done.reason:
            raise RunError(f"the setting {winner.setting} cannot be checked: {done.reason}")
        self.checks = done.checks
        if not any(part.learned for part in done.checks):
            return False
        Library.create(self.place)
        self.record = BuildRecord(
            recipe=plan.recipe.model_dump(mode="json"),
            backbone=plan.backbone,
            identity=plan.identity,
            setting=winner.setting,
            rms=plan.measured.rms,
            trials=self.trials,
            checks=self.checks,
            missing=plan.missing,
        )
        write_record(self.place, self.record)
        return True

    def _all(self, wanted: Sequence[Job]) -> Iterator[Job | None]:
        """Those of some jobs that are not done, then None until all have landed."""
        for job in wanted:
            done = find_done(job)
            if done is not None:
                self._take(job, done, known=True)
            else:
                self.say(f"{job.title} ...")
                yield job
        while any(job.digest not in self.landed for job in wanted):
            yield None

    def _take(self, job: Job, done: Done, known: bool = False) -> None:
        """Note what came of a job, and put a source into the library."""
        self.landed[job.digest] = done
        if isinstance(job, jobs.Source) and not job.again:
            task = next(task for task in self.plan.sources if task.reference == job.config.task)
            if done.reason:
                self.failed[task.title] = done.reason
                log.warning("%s: %s", task.title, done.reason)
            else:
                self._add(task, done)
        elif done.reason:
            log.warning("%s: %s", job.title, done.reason)
        if not known and not done.reason:
            self.say(_landed_line(job, done))

    def _add(self, task: PlannedTask, done: Done) -> None:
        """Put a source into the library, and bring record and card up to date."""
        assert self.record is not None
        prompt, result = from_bytes(done.prompts[0]), done.results[0]
        library = Library(self.place)
        try:
            entry = library.add(prompt)
        except LibraryError as error:
            self.failed[task.title] = str(error)
            log.warning("%s: %s", task.title, error)
            return
        source = BuiltSource(
            task=task.title,
            reference=task.reference,
            prompt=entry.digest,
            steps=result.steps,
            tokens=result.tokens,
            seconds=result.seconds,
            licence=task.licence,
            diagnosis=result.diagnosis,
        )
        others = tuple(part for part in self.record.sources if part.task != task.title)
        missing = {name: reason for name, reason in self.record.missing.items() if name != task.reference}
        self._keep(replace(self.record, sources=(*others, source), missing=missing), library)
        self.added.append(task.title)

    def _keep(self, record: BuildRecord, library: Library) -> None:
        """Write record and card."""
        self.record = record
        write_record(self.place, record)
        write_card(library, record)

    def _has(self, task: PlannedTask, job: Job) -> bool:
        """Whether the library has a prompt of the task, and the record knows of it where this build trained it."""
        assert self.record is not None
        is_there = any(entry.task == task.title for entry in Library(self.place).entries())
        is_known = any(source.task == task.title for source in self.record.sources)
        return is_there and (is_known or find_done(job) is None)

    def _to_check(self) -> list[PlannedTask]:
        """The tasks whose second seed is still to be compared."""
        assert self.record is not None
        checked = {near.task for near in self.record.nearness}
        return [task for task in self.plan.calibrate if task in self.plan.sources and task.title not in checked]

    def _compare_seeds(self, setting: Setting) -> None:
        """Whether two seeds of one task are nearer to each other than to other tasks."""
        assert self.record is not None
        library = Library(self.place)
        prompts = {entry.task: library.get(entry.digest) for entry in library.entries()}
        nearness = list(self.record.nearness)
        for task in self._to_check():
            done = self.landed.get(self.plan.source(task, setting, again=True).digest)
            if done is None or done.reason or task.title not in prompts or len(prompts) < 2:
                continue
            nearness.append(nearness_of(from_bytes(done.prompts[0]), prompts))
        if len(prompts):
            self._keep(replace(self.record, nearness=tuple(nearness)), library)


def nearness_of(again: SoftPrompt, prompts: dict[str, SoftPrompt]) -> Nearness:
    """How near a second seed of a task is to its first, and to the nearest other task.

    Args:
        again: the second seed.
        prompts: task -> prompt, two or more, the task's own among them.
    """
    embedding = embedding_of(again)
    near = {task: similarity(embedding, embedding_of(prompt)) for task, prompt in prompts.items()}
    own = near.pop(again.task)
    other = max(near, key=lambda task: near[task])
    return Nearness(task=again.task, own=own, other=other, similarity=near[other])


def _landed_line(job: Job, done: Done) -> str:
    """What came of a job, for people."""
    if isinstance(job, Check):
        return "; ".join(
            f"{part.task}: {part.tuned:.1f}, frozen {part.frozen:.1f}"
            + ("" if part.constant is None else f", constant {part.constant:.1f}")
            for part in done.checks
        )
    if isinstance(job, jobs.Source):
        [result] = done.results
        scores = ", ".join(f"{name} {value:.1f}" for name, value in result.scores.items())
        return (
            f"{job.title}: {scores} after {result.steps} steps, {result.tokens:,} text tokens, {result.seconds:.0f} s"
        )
    tokens = sum(result.tokens for result in done.results)
    return f"{job.title} raced over {tokens:,} text tokens"


def _check_of(plan: BuildPlan, winner: Winner, done: Done) -> Check:
    """The job that compares the setting that won with the frozen model and a constant answer."""
    return Check(
        configs=tuple(winner.race.configs[run] for run in winner.runs),
        prompts=tuple(done.prompts[run] for run in winner.runs),
        confirm_rows=plan.recipe.confirm_rows,
        origin=winner.race.origin,
        data=plan.data,
    )


def check_library(recipe: LibraryRecipe, library: Path | str, backbone: Backbone | str) -> BuildRecord | None:
    """What is known of the library that is to be filled; None of a new one.

    Args:
        recipe: that it is to be built by.
        library: its folder.
        backbone: the model, or its name, whose files alone are looked at.

    Raises:
        LibraryError: the folder holds other things, another model's library, another recipe's, or one made by hand.
    """
    place = Path(library)
    if str(library) == PACKAGED:
        raise LibraryError(f"`{PACKAGED}` ships with spot and is not changed: name a folder of your own.")
    if not exists(place):
        return None
    record = read_record(place)
    if record is None:
        if exists(place / "prompts"):
            if Library(place).entries():
                raise LibraryError(
                    f"{place} holds prompts and no build.json, so another recipe made it: name a new folder, or add "
                    "to it with `spot library add`."
                )
        elif place.is_dir() and any(place.iterdir()):
            raise LibraryError(f"cannot build a library at {place}: the folder holds other things. Name a new folder.")
        return None
    _check_model(record, backbone, place)
    differences = differing_fields(recipe, recipe_of(record, place))
    if differences:
        raise LibraryError(
            f"{place} was built by another recipe: {'; '.join(differences)}. Its prompts could not be compared with "
            "new ones: name another folder, or give the recipe that it was built by."
        )
    return record


def check_addition(task: str, library: Path | str, backbone: Backbone | str | None = None) -> BuildRecord:
    """What is known of a library that one more source is to be added to.

    Args:
        task: a name or the path of a task file.
        library: its folder.
        backbone: the model, or its name; that of the library where left out.

    Raises:
        LibraryError: the library was not built, has a prompt of the task, or is another model's.
        TaskError: the task is unknown.
    """
    place = Path(library)
    title = find_title(task)
    entries = Library(place).entries()
    record = read_record(place)
    if record is None:
        raise LibraryError(
            f"{place} was not made by `spot library build`, so its recipe is not known here: add a prompt with "
            "`spot tune` and `spot library add`."
        )
    if any(entry.task == title for entry in entries):
        raise LibraryError(
            f"{place} has a prompt of {title} already: expected another task. `spot library remove {title} --library "
            f"{place}` takes it out."
        )
    _check_model(record, record.backbone if backbone is None else backbone, place)
    return record


def _check_model(record: BuildRecord, backbone: Backbone | str, place: Path) -> None:
    """Refuse a library of another model.

    Raises:
        LibraryError: naming both.
    """
    identity = locate(backbone).id if isinstance(backbone, str) else backbone.id
    if not identity.is_same_model(record.identity):
        raise LibraryError(
            f"{place} is a library of {record.identity}, and the model is {identity}: expected one model. Name another "
            "folder, or the model that it was built for."
        )


def _plan(
    recipe: LibraryRecipe, model: Backbone, name: str, record: BuildRecord | None, data: Path | None
) -> BuildPlan:
    """The whole plan of a library; a setting that is known is not looked for again."""
    tasks, missing = find_tasks(recipe, model, data)
    rms = rms_of(model) if record is None else record.rms
    plan = BuildPlan(
        recipe=recipe,
        backbone=_lasting(name),
        identity=model.id,
        data=None if data is None else str(data),
        settings=settings_of(recipe, model.id.kind, rms) if record is None else (record.setting,),
        calibrate=tasks_to_calibrate(recipe, tasks),
        calibrated=record is not None,
        sources=tasks,
        missing=missing,
        measured=Measured(seconds=0.0, memory=0, rms=rms),
    )
    return replace(plan, measured=measure(plan, model))


def _lasting(name: str) -> str:
    """A model's name such that it holds in other folders too."""
    return str(Path(name).resolve()) if name != EMBEDDED and Path(name).is_dir() else name


def _check_disk(plan: BuildPlan, place: Path) -> None:
    """Refuse to begin where the disk has no room for what will be written.

    Raises:
        StorageError: with the need and what is free.
    """
    for folder in {cache_dir(), place.absolute().parent}:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(there).free
        if free < plan.disk:
            raise StorageError(
                f"the library takes about {plan.disk / 1e6:,.0f} MB of disk, and {there} has {free / 1e6:,.0f} MB: "
                "free some disk space, or set SPOT_CACHE to a folder with room. Nothing was trained."
            )
