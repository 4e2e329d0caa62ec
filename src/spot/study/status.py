"""Count the cells of a study that are finished, at work or missing, also while another process runs it."""

import time
from dataclasses import dataclass

from spot.storage.run_dir import RunDir
from spot.study.cells import Gang, StudyPlan, finished_cells, gangs
from spot.study.records import runs_folder


@dataclass(frozen=True)
class KindStatus:
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
class RunningGang:
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


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is.

    Attributes:
        kinds: counts by kind of cell.
        running: gangs at work on this machine.
        wrong: file -> why it counts as no record.
    """

    kinds: dict[str, KindStatus]
    running: tuple[RunningGang, ...]
    wrong: dict[str, str]


def study_status(plan: StudyPlan) -> StudyStatus:
    """How far a study is; only records and logs are read.

    Raises:
        StudyError: the folder of the records is a link or a file, or a record was written by a later version.
    """
    cells_there = finished_cells(plan)
    records = cells_there.records
    missing = [cell for cell in plan.cells if cell.digest not in records]
    running = {gang: status for gang in gangs(missing) if (status := _running(gang)) is not None}
    at_work = {cell.digest for gang in running for cell in gang.cells}
    kinds = {}
    for kind in dict.fromkeys(cell.kind for cell in plan.cells):
        cells = [cell.digest for cell in plan.cells if cell.kind == kind]
        failed = sum(digest in records and bool(records[digest].reason) for digest in cells)
        scored = sum(digest in records for digest in cells) - failed
        working = sum(digest in at_work for digest in cells)
        kinds[kind] = KindStatus(
            cells=len(cells),
            finished=scored,
            failed=failed,
            running=working,
            missing=len(cells) - scored - failed - working,
        )
    return StudyStatus(kinds, tuple(running.values()), cells_there.wrong)


def _running(gang: Gang) -> RunningGang | None:
    """How far a gang is by the log of its run; None where it has not begun."""
    log_file = runs_folder() / gang.digest / "log.jsonl"
    if not log_file.is_file():
        return None
    steps = [line["step"] for line in RunDir(log_file.parent).read_log() if "step" in line]
    idle = time.time() - log_file.stat().st_mtime
    return RunningGang(gang.title, max(steps, default=0), gang.cells[0].config.steps, round(idle, 1))
