"""Run the cells of a study that are missing: what comes next, and what is kept of it. Workers are handed in.

studies/NAME/cells/<digest>.json           a finished cell; commit these
$SPOT_CACHE/studies/prompts/<digest>.safetensors   the prompt of a cell, which others start from
$SPOT_CACHE/studies/runs/<digest>/         the run of a gang, to go on from
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spot.storage.files import lock, write_whole
from spot.study.assembly import SourceSketches, adopt_prompts, assemble, has_prompt, similarities
from spot.study.cells import Cell, Done, Gang, StudyPlan, Work, gangs
from spot.study.executors import Executor, GivenUp
from spot.study.record_folder import RecordFolder
from spot.study.records import Record, prompt_file

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # (cells finished, cells in all)


@dataclass(frozen=True)
class StudyOutcome:
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


class Queue:
    """Owns the order of work: gangs wait until no cell that they need is ahead of them.

    Args:
        waiting: gangs to tune, those that others need first.
    """

    def __init__(self, waiting: Iterable[Gang]) -> None:
        """Line the gangs up."""
        self.waiting = list(waiting)
        self._ahead = {cell.digest for gang in self.waiting for cell in gang.cells}

    def take(self) -> Gang | None:
        """The next gang that can be tuned; None while all that wait need one that is at work."""
        for gang in self.waiting:
            if not any(self._ahead.intersection(cell.needs) for cell in gang.cells):
                self.waiting.remove(gang)
                return gang
        return None

    def settle(self, gang: Gang) -> None:
        """Nobody need wait for a gang any longer: it is finished or given up."""
        self._ahead.difference_update(cell.digest for cell in gang.cells)


def run(
    plan: StudyPlan,
    executor: Executor,
    setup: Callable[[], Any],
    work: Callable[[Any, Work], Done],
    *,
    data: Path | None = None,
    progress: Progress | None = None,
) -> StudyOutcome:
    """Finish the cells of a study that have no record.

    Args:
        plan: the study and its cells.
        executor: does the gangs.
        setup: makes what a worker holds.
        work: tunes and measures a gang.
        data: where the known data sets are, for the workers too.
        progress: called when cells are finished.

    Raises:
        StudyError: the folder of the records is a link or a file, or a record was written by a later version.
        StorageError: another run of the study is at work, or a disk is full; finished cells stay.
    """
    with lock(plan.folder / "study", plan.folder):
        folder = RecordFolder(plan.folder, plan.expected)
        adopt_prompts(plan, folder)
        before = len(folder.records)
        queue = Queue(gangs(cells_to_tune(plan, folder.records)))
        failed: dict[str, str] = {}
        for item, done in executor(setup, work, _items(plan, queue, folder, SourceSketches(plan.study, data), failed)):
            queue.settle(item.gang)
            if reason := _land(item.gang, done, folder):
                _give_up(item.gang, reason, failed)
            if progress is not None:
                progress(len(folder.records), len(plan.cells))
        diverged = {folder.titles[record.digest]: record.reason for record in folder.records.values() if record.reason}
        return StudyOutcome(
            cells=len(plan.cells),
            finished=len(folder.records),
            new=len(folder.records) - before,
            diverged=diverged,
            failed=failed,
        )


def cells_to_tune(plan: StudyPlan, records: Mapping[str, Record]) -> list[Cell]:
    """The cells to tune, in the plan's order.

    A finished one is tuned again where a missing cell starts from its prompt and this machine does not have it.

    Args:
        plan: the study and its cells.
        records: of finished cells, by digest.
    """
    missing = [cell for cell in plan.cells if cell.digest not in records]
    wanted = {need for cell in missing for need in cell.needs if need in records}
    again = {digest for digest in wanted if not records[digest].reason and not has_prompt(digest)}
    if again:
        log.warning(
            "%d finished cells are tuned again: others start from their prompts, which are not in the "
            "cache of this machine",
            len(again),
        )
    chosen = {cell.digest for cell in missing} | again
    return [cell for cell in plan.cells if cell.digest in chosen]


def _items(
    plan: StudyPlan, queue: Queue, folder: RecordFolder, sketches: SourceSketches, failed: dict[str, str]
) -> Iterator[Work | None]:
    """Gangs with what they start from, each assembled when it is asked for.

    Yields:
        The next gang that can be tuned; None while all that wait need one that is at work.
    """
    while queue.waiting:
        gang = queue.take()
        if gang is None:
            yield None
            continue
        assembly = assemble(plan, gang, folder.records, sketches)
        _add(assembly.refused, folder)
        if assembly.reason:
            _give_up(gang, assembly.reason, failed)
        if assembly.work is None:
            queue.settle(gang)
        else:
            yield assembly.work


def _land(gang: Gang, done: Done | GivenUp, folder: RecordFolder) -> str:
    """Keep what a worker found: prompts first, then all records of the gang or none.

    Returns:
        Why nothing is kept; empty where it is.
    """
    if isinstance(done, GivenUp) or done.reason:
        return done.reason
    if reason := folder.on_other_rows(done.records):
        return reason
    for cell, content in zip(gang.cells, done.prompts, strict=True):
        if content:
            write_whole(prompt_file(cell.digest), content)
    records = []
    for cell, record in zip(gang.cells, done.records, strict=True):
        if cell.kind == "pair" and not record.reason:
            record = replace(record, similarity=similarities(cell))
        records.append(record)
    _add(records, folder)
    return ""


def _add(records: Sequence[Record], folder: RecordFolder) -> None:
    """Add the records of a gang that are not there yet, and say which have no score."""
    records = [record for record in records if record.digest not in folder.records]
    folder.add(records)
    for record in records:
        if record.reason:
            log.warning("%s: %s", folder.titles[record.digest], record.reason)


def _give_up(gang: Gang, reason: str, failed: dict[str, str]) -> None:
    """Leave a gang to the next run."""
    failed[gang.title] = reason
    log.warning("%s: %s", gang.title, reason)
