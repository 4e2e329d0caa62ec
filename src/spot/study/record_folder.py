"""Take the records of a study's cells for what they must be: the plan knows what each of them says of itself.

studies/NAME/cells/<digest>.json   a record
studies/NAME/pending/              records of the last gang, until all of them are among the others

A file that is no record of its cell counts as none: it is said, with its field, and the cell is tuned again.
"""

import contextlib
import logging
import math
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from spot.config import INSTEAD
from spot.errors import StorageError, StudyError
from spot.retrieval.embeddings import RECORDED, SIMILARITIES
from spot.storage.files import cannot_write
from spot.study.records import CELLS, CellKind, LaterFormat, Record, read_record, write_record

PENDING, STAGED = "pending", ".pending."  # folders of a study's folder; the name of the last goes on with a process
IDENTITY = ("digest", "kind", "task", "seed", "start", "init_seed", "k", "needs")  # what a cell and its record share
ROWS = ("train", "select", "report", "overlap")
ROUNDING = 1e-6  # of a mean of percents
MOST_SAID = 5  # wrong files that are said one by one

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expected:
    """What the record of a cell must say, whoever wrote it; fields as in `Record`.

    Attributes:
        title: of the cell, for people.
        candidates: tasks that `sources` may be of, where the cell chose them itself: at most `k` of them.
        settings: of its run; a record lacks those that came later, which then have their default.
        defaults: of settings.
        is_run: whether it was tuned; else it is a prompt that was there already.
    """

    digest: str
    title: str
    kind: CellKind
    task: str
    seed: int
    sources: tuple[str, ...]
    start: str
    init_seed: int
    k: int
    needs: tuple[str, ...]
    candidates: frozenset[str] = frozenset()
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    defaults: Mapping[str, JsonValue] = field(default_factory=dict)
    is_run: bool = True


@dataclass(frozen=True)
class FinishedCells:
    """What a study's folder holds of its cells.

    Attributes:
        records: that count, by digest.
        wrong: file -> why it counts as no record.
    """

    records: dict[str, Record]
    wrong: dict[str, str]


def read_finished(study: Path, cells: Mapping[str, Expected]) -> FinishedCells:
    """What a study's folder holds of its cells; files of other cells are left out, such as an earlier study's.

    Args:
        study: the study's folder.
        cells: what the record of each says, by digest.

    Raises:
        StudyError: the folder of the records is a link or a file, or a record was written by a later version.
    """
    folder = study / CELLS
    check_own_folder(folder)
    records: dict[str, Record] = {}
    wrong: dict[str, str] = {}
    for digest, expected in cells.items():
        path = folder / f"{digest}.json"
        if not os.path.lexists(path):
            continue
        try:
            record = read_record(path, study)
            if mistakes := mistakes_of(record, expected):
                raise StudyError(
                    f"{path} is no record of its cell ({expected.title}): {'; '.join(mistakes)}. Delete it, and `spot "
                    "study run` makes it again."
                )
            records[digest] = record
        except LaterFormat:
            raise
        except StudyError as error:
            wrong[str(path)] = str(error)
    for digest, reason in _of_another_width(records):
        wrong[str(folder / f"{digest}.json")] = f"{folder / digest}.json is no record of its cell: {reason}"
        del records[digest]
    return FinishedCells(records, wrong)


def _of_another_width(records: Mapping[str, Record]) -> list[tuple[str, str]]:
    """Digests of records whose embeddings are not as wide as most, and what is wrong with each."""
    widths = {digest: {len(row) for row in record.embedding.values()} for digest, record in records.items()}
    counts = Counter(width for several in widths.values() for width in several)
    if len(counts) < 2:
        return []
    [(usual, _)] = counts.most_common(1)
    return [
        (digest, f"the field 'embedding' has {sorted(several)} numbers; expected {usual}, as in other records.")
        for digest, several in widths.items()
        if several and several != {usual}
    ]


def check_own_folder(path: Path) -> None:
    """Refuse a folder of a study that leads elsewhere, or is none.

    Raises:
        StudyError: it is a link or a file.
    """
    if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):
        kind = "a link, and a study's records stay in its own folder" if path.is_symlink() else "no folder"
        raise StudyError(f"{path} is {kind}: expected a folder, or nothing. Move it away, and run the command again.")


def mistakes_of(record: Record, cell: Expected) -> list[str]:
    """How a record differs from what its cell must have come to; a field each."""
    mistakes = [
        f"the field {name!r} holds {getattr(record, name)!r:.80}; expected {getattr(cell, name)!r:.80}"
        for name in IDENTITY
        if getattr(record, name) != getattr(cell, name)
    ]
    chosen = set(record.sources)
    if not cell.candidates and record.sources != cell.sources:
        mistakes.append(f"the field 'sources' holds {record.sources!r:.80}; expected {cell.sources!r:.80}")
    elif cell.candidates and not (chosen <= cell.candidates and len(chosen) == len(record.sources) <= cell.k):
        mistakes.append(f"the field 'sources' holds {record.sources!r:.80}; expected at most {cell.k} of the study's")
    settings = {**cell.defaults, **record.config}
    mistakes += [
        f"the field 'config.{name}' holds {settings.get(name)!r:.80}; expected {value!r:.80}"
        for name, value in cell.settings.items()
        if not _is_equal(settings.get(name), value)
    ]
    if record.interval is not None and record.interval[0] > record.interval[1]:
        mistakes.append(f"the field 'interval' holds {record.interval}; expected the lower end first")
    if record.weights and (len(record.weights) != len(record.sources) or not math.isclose(sum(record.weights), 1)):
        mistakes.append(f"the field 'weights' holds {record.weights!r:.80}; expected shares of the sources, 1 in sum")
    if not cell.is_run:
        return mistakes
    return mistakes + (_mistakes_without_score(record) if record.reason else _mistakes_of_score(record, cell))


def _mistakes_without_score(record: Record) -> list[str]:
    """What the record of a cell without a score may not have."""
    return [] if math.isnan(record.score) else [f"the field 'reason' holds {record.reason!r:.80} beside a score"]


def _mistakes_of_score(record: Record, cell: Expected) -> list[str]:
    """What the record of a cell that was tuned and measured must have."""
    if math.isnan(record.score):
        return ["the field 'score' holds nothing, and no 'reason' says why"]
    mistakes = []
    percents = record.scores.values()
    if percents and not min(percents) - ROUNDING <= record.score <= max(percents) + ROUNDING:
        mistakes.append(f"the field 'score' holds {record.score}, which is no mean of 'scores'")
    if not record.curve:
        mistakes.append("the field 'curve' is empty")
    elif record.curve[-1].step > record.steps or record.curve[-1].tokens > record.tokens:
        mistakes.append("the field 'curve' goes on after the last step or token")
    steps = cell.settings.get("steps")
    if isinstance(steps, int) and record.steps > steps and cell.kind not in INSTEAD:  # which may try several runs
        mistakes.append(f"the field 'steps' holds {record.steps}; expected at most {steps}")
    if missing := [name for name in ROWS if name not in record.rows]:
        mistakes.append(f"the field 'rows' lacks {', '.join(missing)}")
    if record.answers is not None and (problem := record.answers.problem):
        mistakes.append(f"the field 'answers' contradicts itself: {problem}")
    elif record.answers is not None and len(record.answers.correct) != record.rows.get("report"):
        mistakes.append(f"the field 'answers' has {len(record.answers.correct)} rows; expected those of 'rows.report'")
    if not record.data:
        mistakes.append("the field 'data' is empty; expected the digest of the rows")
    if cell.kind == "pair" and record.similarity.keys() != set(SIMILARITIES):
        mistakes.append(f"the field 'similarity' has {sorted(record.similarity)!r:.80}; expected {list(SIMILARITIES)}")
    if cell.settings.get("key_step") is not None and record.embedding.keys() != set(RECORDED):
        mistakes.append(f"the field 'embedding' has {sorted(record.embedding)!r:.80}; expected {list(RECORDED)}")
    return mistakes


def _is_equal(value: JsonValue, expected: JsonValue) -> bool:
    """Whether two plain values are the same; true is no 1."""
    return value == expected and isinstance(value, bool) == isinstance(expected, bool)


class RecordFolder:
    """Owns the records of a study while a run holds its lock.

    Records of a gang land together: they are staged in a folder that is renamed, so that a kill leaves all of them or
    none. Were it to part a gang, the rest would walk as another gang, and a float would round otherwise.

    Args:
        study: the study's folder.
        cells: what the record of each of its cells says, by digest.
    """

    def __init__(self, study: Path, cells: Mapping[str, Expected]) -> None:
        """Land what a killed run left, and read what is there; a file that is no record counts as none, and is logged.

        Raises:
            StudyError: a folder of records is a link or a file.
        """
        self.titles = {digest: cell.title for digest, cell in cells.items()}
        self.path = study / CELLS
        self._study = study
        self._pending = study / PENDING
        self._sweep()
        self._land()
        finished = read_finished(study, cells)
        log_wrong(finished)
        self.records = finished.records

    def add(self, records: Sequence[Record]) -> None:
        """Write records, all or none.

        Raises:
            StorageError: they cannot be written.
        """
        if not records:
            return
        staged = self._study / f"{STAGED}{os.getpid()}.{secrets.token_hex(4)}"
        try:
            staged.mkdir(parents=True)
            for record in records:
                write_record(record, staged)
            staged.rename(self._pending)
        except OSError as error:
            raise StorageError(cannot_write(self._pending, 0, error)) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self._land()
        self.records |= {record.digest: record for record in records}

    def on_other_rows(self, records: Sequence[Record]) -> str:
        """Why records of one gang may not stand beside those that are there: arms share the report rows of a draw.

        Returns:
            Empty where they may.
        """
        task = records[0].task
        ours = {record.rows_seed: record.data for record in records if record.data and record.kind != "source"}
        others = [
            record
            for record in self.records.values()
            if record.task == task
            and record.kind != "source"
            and record.data
            and record.data != ours.get(record.rows_seed, record.data)
        ]
        if not others:
            return ""
        return (
            f"its report rows are not those of {len(others)} finished cells of {task}: the data differ, or a "
            "new source has seen some of these rows. Delete these to have them made again, or restore the data: "
            + " ".join(str(self.path / f"{record.digest}.json") for record in others)
        )

    def _land(self) -> None:
        """Move the records of the last gang to the others.

        Raises:
            StudyError: one of the folders is a link or a file.
            StorageError: they cannot be moved.
        """
        check_own_folder(self._pending)
        check_own_folder(self.path)
        if not os.path.isdir(self._pending):
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for path in sorted(self._pending.glob("*.json")):
                path.replace(self.path / path.name)
            shutil.rmtree(self._pending)
        except OSError as error:
            raise StorageError(cannot_write(self.path, 0, error)) from error

    def _sweep(self) -> None:
        """Delete what killed runs staged; no other run is at work, which the study's lock says."""
        for leftover in self._study.glob(f"{STAGED}*"):
            with contextlib.suppress(OSError):
                if leftover.is_symlink():
                    leftover.unlink()
                else:
                    shutil.rmtree(leftover)


def log_wrong(finished: FinishedCells) -> None:
    """Say which files count as no record, and why."""
    for reason in list(finished.wrong.values())[:MOST_SAID]:
        log.warning("%s", reason)
    if len(finished.wrong) > MOST_SAID:
        log.warning("and %d more files are no records of their cells", len(finished.wrong) - MOST_SAID)
