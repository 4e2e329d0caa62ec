"""A study at work: run the cells that are missing, and say how far it is. Workers and their tensors are handed in.

studies/NAME/cells/<digest>.json           a finished cell; commit these
$SPOT_CACHE/studies/prompts/<digest>.safetensors   the prompt of a cell, which others start from
$SPOT_CACHE/studies/runs/<digest>/         the run of a gang, to go on from
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spot.errors import ConfigError, PromptError, SpotError, StudyError
from spot.metrics.scores import primary
from spot.prompts.overlap import Sketch, build
from spot.prompts.prompt import SoftPrompt, load, to_bytes
from spot.retrieval import ranking as experience
from spot.retrieval.search import METRICS, rank, similarity, task_embedding
from spot.storage.files import cache_dir, lock, write_whole
from spot.storage.run_dir import RunDir
from spot.strategies import plans
from spot.study import records as files
from spot.study.cells import Cell, Done, Gang, StudyPlan, Work, gangs, record_of
from spot.study.config import Origin
from spot.study.executors import Executor, Failure
from spot.study.records import Record
from spot.tasks import registry
from spot.tasks.splits import split_rows

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # (cells finished, cells in all)


@dataclass(frozen=True)
class Outcome:
    """How a run of a study ended.

    Attributes:
        cells: of the study.
        finished: cells with a record.
        new: of these, the ones that this run finished.
        diverged: titles of cells whose record has no score -> why.
        failed: titles of gangs that were given up -> why; they are tried again by the next run.
    """

    cells: int
    finished: int
    new: int
    diverged: Mapping[str, str]
    failed: Mapping[str, str]


def run(
    plan: StudyPlan,
    executor: Executor,
    setup: Callable[[], Any],
    work: Callable[[Any, Work], Done],
    *,
    data: Path | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Finish the cells of a study that have no record.

    Args:
        plan: the study and its cells.
        executor: does the gangs.
        setup: makes what a worker holds.
        work: tunes and measures a gang.
        data: where the known data sets are, for the workers too.
        progress: called when cells are finished.

    Raises:
        StudyError: a record is damaged.
        StorageError: another run of the study is at work, or a disk is full; finished cells stay.
    """
    with lock(plan.folder / "study"):
        desk = _Desk(plan, data)
        before = len(desk.records)
        for item, found in executor(setup, work, desk.items()):
            desk.store(item.gang, found)
            if progress is not None:
                progress(len(desk.records), len(plan.cells))
        titles = {cell.digest: cell.title for cell in plan.cells}
        diverged = {titles[one.digest]: one.reason for one in desk.records.values() if one.reason}
        return Outcome(len(plan.cells), len(desk.records), len(desk.records) - before, diverged, desk.failed)


def finished(plan: StudyPlan) -> dict[str, Record]:
    """The records of a study's cells by digest; those of other cells, as an earlier study's file had them, are not.

    Raises:
        StudyError: a record is damaged.
    """
    known = {cell.digest for cell in plan.cells}
    return {record.digest: record for record in files.read_all(plan.records) if record.digest in known}


@dataclass(frozen=True)
class Count:
    """How many cells of one kind there are.

    Attributes:
        cells: in all.
        finished: with a score.
        failed: with a record that says why there is no score.
        running: begun on this machine and not finished.
        missing: the rest.
    """

    cells: int
    finished: int
    failed: int
    running: int
    missing: int


@dataclass(frozen=True)
class Begun:
    """A gang that has begun on this machine.

    Attributes:
        title: of the gang.
        step: the last that was evaluated.
        steps: in all.
        idle: seconds since it was.
    """

    title: str
    step: int
    steps: int
    idle: float


def status(plan: StudyPlan) -> tuple[dict[str, Count], list[Begun]]:
    """How far a study is: counts by kind, and the gangs at work here; only records and logs are read.

    Raises:
        StudyError: a record is damaged.
    """
    found = finished(plan)
    missing = [cell for cell in plan.cells if cell.digest not in found]
    begun = {gang: sign for gang in gangs(missing) if (sign := _sign(gang)) is not None}
    running = {cell.digest for gang in begun for cell in gang.cells}
    counts = {}
    for kind in dict.fromkeys(cell.kind for cell in plan.cells):
        cells = [cell.digest for cell in plan.cells if cell.kind == kind]
        failed = sum(digest in found and bool(found[digest].reason) for digest in cells)
        done = sum(digest in found for digest in cells) - failed
        working = sum(digest in running for digest in cells)
        counts[kind] = Count(len(cells), done, failed, working, len(cells) - done - failed - working)
    return counts, list(begun.values())


def _sign(gang: Gang) -> Begun | None:
    """How far a gang is by the log of its run; None where it has not begun."""
    log_file = runs_folder() / gang.digest / "log.jsonl"
    if not log_file.is_file():
        return None
    steps = [line["step"] for line in RunDir(log_file.parent).read_log() if "step" in line]
    idle = time.time() - log_file.stat().st_mtime
    return Begun(gang.title, max(steps, default=0), gang.cells[0].config.steps, round(idle, 1))


def runs_folder() -> Path:
    """Where the runs of gangs are on this machine."""
    return cache_dir() / "studies" / "runs"


def prompt_file(cell: str) -> Path:
    """Where the prompt of a cell is on this machine."""
    return cache_dir() / "studies" / "prompts" / f"{cell}.safetensors"


class _Desk:
    """Owns the folder of a study's records while a run holds its lock: what is finished, and what comes next."""

    def __init__(self, plan: StudyPlan, data: Path | None):
        """Read what is there."""
        self.plan = plan
        self.data = data
        self.failed: dict[str, str] = {}
        self.cells = {cell.digest: cell for cell in plan.cells}
        self._settled: set[str] = set()  # cells that nobody need wait for: finished or given up
        self._sketches: dict[str, tuple[Sketch, ...]] = {}
        self._pending = plan.folder / "pending"
        self._land()
        self.records = finished(plan)
        for origin in plan.study.sources:
            if origin.prompt:
                self._adopt(origin)

    def items(self) -> Iterator[Work | None]:
        """Gangs with what they start from, each made when it is asked for.

        Yields:
            The next gang that can be tuned; None while all that are left wait for one that is at work.
        """
        left = gangs(self._todo())
        waits = {cell.digest for gang in left for cell in gang.cells}
        while left:
            ready = next((gang for gang in left if not any(waits & set(cell.needs) for cell in gang.cells)), None)
            if ready is None:
                yield None
                waits -= self._settled
                continue
            left.remove(ready)
            try:
                item = self._item(ready)
            except SpotError as error:
                self._give_up(ready, str(error))
                item = None
            if item is not None:
                yield item
            else:
                self._settled |= {cell.digest for cell in ready.cells}
            waits -= self._settled

    def _todo(self) -> list[Cell]:
        """The cells to tune, in the plan's order.

        A finished one is tuned again where a missing cell starts from its prompt and this machine does not have it.
        """
        missing = [cell for cell in self.plan.cells if cell.digest not in self.records]
        wanted = {need for cell in missing for need in cell.needs if need in self.records}
        again = {digest for digest in wanted if not self.records[digest].reason and not _is_there(digest)}
        if again:
            log.warning(
                "%d finished cells are tuned again: others start from their prompts, which are not in the "
                "cache of this machine",
                len(again),
            )
        chosen = {cell.digest for cell in missing} | again
        return [cell for cell in self.plan.cells if cell.digest in chosen]

    def _give_up(self, gang: Gang, reason: str) -> None:
        """Leave a gang to the next run."""
        self.failed[gang.title] = reason
        log.warning("%s: %s", gang.title, reason)

    def store(self, gang: Gang, found: Done | Failure) -> None:
        """Keep what a worker found: prompts first, then all records of the gang or none."""
        self._settled |= {cell.digest for cell in gang.cells}
        if reason := found.reason or self._on_other_rows(found.records):
            self._give_up(gang, reason)
            return
        for cell, content in zip(gang.cells, found.prompts, strict=True):
            if content:
                write_whole(prompt_file(cell.digest), content)
        done = [self._compared(cell, record) for cell, record in zip(gang.cells, found.records, strict=True)]
        self._keep([record for record in done if record.digest not in self.records])

    def _on_other_rows(self, found: Sequence[Record]) -> str:
        """Why records may not stand beside those that are there: the arms of a target share their report rows."""
        ours = {record.data for record in found if record.data and record.kind != "source"}
        same = [one for one in self.records.values() if one.data and one.kind != "source" and one.task == found[0].task]
        theirs = [record for record in same if record.data not in ours]
        if not ours or not theirs:
            return ""
        return (
            f"its report rows are not those of {len(theirs)} finished cells of {found[0].task}: the data differ, or a "
            "new source has seen some of these rows. Delete these to have them made again, or restore the data: "
            + " ".join(str(self.plan.records / f"{record.digest}.json") for record in theirs)
        )

    def _keep(self, found: Sequence[Record]) -> None:
        """Write records, all or none: were a kill to part a gang, the rest of it would walk as another gang."""
        staged = self.plan.folder / f".pending.{os.getpid()}"
        shutil.rmtree(staged, ignore_errors=True)
        try:
            for record in found:
                files.write(record, staged)
            if found:
                staged.rename(self._pending)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self._land()
        self.records |= {record.digest: record for record in found}
        for record in found:
            if record.reason:
                log.warning("%s: %s", self.cells[record.digest].title, record.reason)

    def _land(self) -> None:
        """Move the records of the last gang to the others, also those that a killed run left."""
        if self._pending.is_dir():
            self.plan.records.mkdir(parents=True, exist_ok=True)
            for path in sorted(self._pending.glob("*.json")):
                path.replace(self.plan.records / path.name)
            shutil.rmtree(self._pending)

    def _adopt(self, origin: Origin) -> None:
        """Make the cell of a prompt that is there already."""
        cell = next(cell for cell in self.plan.cells if cell.prompt == origin.prompt)
        prompt = load(origin.reference)
        if not _is_there(cell.digest):
            write_whole(prompt_file(cell.digest), to_bytes(prompt))
        if cell.digest not in self.records:
            embedding = experience.single_rows(prompt)
            scores = dict(prompt.scores)
            score = primary(scores) if scores else float("nan")
            size = prompt.length * prompt.width
            self._keep([record_of(cell, scores=scores, score=score, embedding=embedding, tuned=size, shipped=size)])

    def _item(self, gang: Gang) -> Work | None:
        """A gang with what it starts from; None where nothing of it can be tuned."""
        data = None if self.data is None else str(self.data)
        sketches = () if gang.cells[0].kind == "source" else self._seen_by_sources(gang.cells[0].task)
        if not gang.cells[0].needs:
            return Work(gang, sketches=sketches, data=data)
        begun = {cell: begin for cell in gang.cells if (begin := self._begin(cell)) is not None}
        if not begun:
            return None
        prompts = [prompts for prompts, _ in begun.values()]
        return Work(
            Gang(tuple(begun)),
            starts=tuple(tuple(to_bytes(one) for one in some) for some in prompts),
            sources=tuple(tuple(one.task for one in some) for some in prompts),
            weights=tuple(weights for _, weights in begun.values()),
            mixed=tuple(self._rows_of(some) for some in prompts) if gang.cells[0].kind == "mixture" else (),
            sketches=sketches,
            data=data,
        )

    def _begin(self, cell: Cell) -> tuple[list[SoftPrompt], tuple[float, ...]] | None:
        """The prompts that a cell starts from, and their weights; None, with a record, where there can be none."""
        for need in cell.needs:
            if need not in self.records or not (self.records[need].reason or prompt_file(need).is_file()):
                raise StudyError(f"it starts from {self.cells[need].title}, which could not be tuned")
            if self.records[need].reason:
                reason = f"it starts from {self.cells[need].title}, which has no prompt: {self.records[need].reason}"
                self._keep([record_of(cell, reason=reason)])
                return None
        *sources, target = [load(prompt_file(need)) for need in cell.needs]
        if cell.kind == "pair":
            return sources, ()
        embedding = task_embedding(target.key, target.start)
        ranking = rank(embedding, sources, cell.metric, len(sources))
        try:
            chosen = plans.plan(
                cell.kind, ranking, k=cell.k, steps=cell.config.steps, eval_every=cell.config.eval_every
            ).starts[0]
        except ConfigError as error:
            self._keep([record_of(cell, reason=str(error))])
            return None
        by_digest = {one.digest: one for one in sources}
        return [by_digest[digest] for digest in chosen.prompts], chosen.weights

    def _compared(self, cell: Cell, record: Record) -> Record:
        """The record of a pair, with the similarities of source and target."""
        if cell.kind != "pair" or record.reason:
            return record
        source, target = (task_embedding(one.key, one.start) for one in (load(prompt_file(n)) for n in cell.needs))
        return replace(record, similarity={metric: similarity(target, source, metric) for metric in METRICS})

    def _seen_by_sources(self, target: str) -> tuple[Sketch, ...]:
        """Sketches of the texts that the sources of a target train on, but for its own."""
        found: list[Sketch] = []
        for origin in self.plan.study.sources:
            if origin.task == target:
                continue
            for reference in origin.members or (origin.reference,):
                if reference != target:
                    found += self._sketch(origin, reference)
        return tuple(found)

    def _sketch(self, origin: Origin, reference: str) -> tuple[Sketch, ...]:
        """The sketch of one task's train rows, or of an existing prompt; none where a prompt has none."""
        if reference not in self._sketches:
            if origin.prompt:
                sketch = load(origin.reference).sketch
                self._sketches[reference] = () if sketch is None else (sketch,)
            else:
                config = self.plan.study.config.tuning("source", reference)
                task = registry.get(reference, self.data, config.task_prefix)
                train = split_rows(task, config.train_rows, config.select_rows, 0, config.rows_seed).train
                self._sketches[reference] = (build(text for row in train for text in row.texts),)
        return self._sketches[reference]

    def _rows_of(self, prompts: Sequence[SoftPrompt]) -> tuple[str, ...]:
        """References of the tasks that prompts were tuned on, which a mixture takes rows from."""
        origins = {origin.task: origin for origin in self.plan.study.sources}
        found: list[str] = []
        for prompt in prompts:
            origin = origins[prompt.task]
            members = origin.members or ((prompt.task,) if prompt.task in registry.TABLE else ())
            if not members:
                raise StudyError(
                    f"a mixture needs the rows of {prompt.task}, and only its prompt is known: name its "
                    "task file as a source in the place of the prompt"
                )
            found += members
        return tuple(dict.fromkeys(found))


def _is_there(cell: str) -> bool:
    """Whether the prompt of a cell is in the cache, every byte of it."""
    try:
        load(prompt_file(cell))
    except PromptError:
        return False
    return True
