"""Read and write the records of a study's finished cells: a small JSON file each, which counts as finished.

studies/NAME/cells/<digest>.json                   a record
studies/NAME/pending/                              records of the last gang, until all of them are among the others
$SPOT_CACHE/studies/prompts/<digest>.safetensors   the prompt of a cell, which others start from
$SPOT_CACHE/studies/runs/<digest>/                 the run of a gang, to go on from

Everything that a report says can be worked out from the records alone; prompts and checkpoints stay in the user's
cache.
"""

import json
import math
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, JsonValue, PlainValidator, ValidatorFunctionWrapHandler, WrapValidator, with_config

from spot.errors import StudyError
from spot.library.history import decode_summary, encode_summary
from spot.storage.files import cache_dir, write_whole
from spot.storage.values import STRICT, read_value
from spot.training.result import CurvePoint

RECORD_FORMAT = 1
# A field of a later version is passed over.
LENIENT = ConfigDict(**{**STRICT, "extra": "ignore"})

CellKind = Literal["source", "plain", "pair", "average", "mixture", "model"]


def _score(value: object, read: ValidatorFunctionWrapHandler) -> float:
    """A score from a file, in which null stands for the NaN of a cell without one."""
    return math.nan if value is None else read(value)


def _summary(value: object) -> np.ndarray:
    """A summary of a task embedding from a file."""
    if not isinstance(value, str):
        raise ValueError("should be float32 numbers in base64")
    return decode_summary(value)


Summary = Annotated[np.ndarray, PlainValidator(_summary)]


@with_config(LENIENT)
@dataclass(frozen=True)
class Record:
    """What one cell came to.

    Attributes:
        digest: of the cell; the file's name.
        kind: `source` tunes a source prompt; on a target, `plain` tunes from scratch, `pair` from one source, `average`
            from the weighted mean of k sources, `mixture` from a prompt tuned on k sources and the target, and `model`
            tunes the whole model.
        task: that was tuned on.
        sources: tasks of the prompts that it started from, or of the mixture that a model was tuned on before.
        weights: of an average.
        start: initial value of a run from scratch, such as `vocabulary`; empty for the others.
        init_seed: of that value.
        seed: of the run; cells of one seed belong together.
        k: of `average` and `mixture`; 0 for the others.
        scores: metric -> percent on report rows.
        score: their mean; what a study compares.
        interval: 95 % bootstrap interval of the score over the report rows, percent.
        as_is: the score of the start itself on the same rows; None where it was not measured.
        frozen: the score without a prompt; None where it was not measured.
        similarity: metric -> similarity of source and target; of a `pair`.
        embedding: `mean`, `token` -> float32 [D], summary of the task embedding; of `source` and `plain` with a key.
        curve: evaluations on selection rows.
        steps: taken.
        tokens: text tokens trained, those of the mixture before included.
        seconds: of training, the mixture before included.
        rows: `train`, `select`, `report` -> number of rows; `overlap` -> report rows left out.
        data: digest of the rows.
        tuned: parameters that were trained; `shipped` are kept for the task.
        config: settings of the run.
        needs: digests of the cells that it started from.
        version: of spot.
        reason: why there is no score; empty where there is one.
    """

    digest: str
    kind: CellKind
    task: str
    seed: int
    sources: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    start: str = ""
    init_seed: int = 0
    k: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    score: Annotated[float, WrapValidator(_score)] = math.nan
    interval: tuple[float, float] | None = None
    as_is: float | None = None
    frozen: float | None = None
    similarity: Mapping[str, float] = field(default_factory=dict)
    embedding: Mapping[str, Summary] = field(default_factory=dict, repr=False, compare=False)
    curve: tuple[CurvePoint, ...] = field(default=(), repr=False)
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    rows: Mapping[str, int] = field(default_factory=dict)
    data: str = ""
    tuned: int = 0
    shipped: int = 0
    config: Mapping[str, JsonValue] = field(default_factory=dict, repr=False)
    needs: tuple[str, ...] = ()
    version: str = ""
    reason: str = ""

    @property
    def key_step(self) -> int:
        """The step at which the run's task embedding was read; 0 where it was not."""
        return self._setting("key_step")

    @property
    def eval_every(self) -> int:
        """Steps between the run's evaluations; 0 where its settings do not say."""
        return self._setting("eval_every")

    @property
    def backbone_parameters(self) -> int:
        """Parameters of the frozen model; 0 where the settings do not say."""
        return self._setting("backbone_parameters")

    def _setting(self, name: str) -> int:
        value = self.config.get(name)
        return value if isinstance(value, int) else 0


@with_config(LENIENT)
@dataclass(frozen=True)
class _Format:
    """What a record's file says of itself."""

    format: int


def write_record(record: Record, folder: Path) -> Path:
    """Write a record into the folder of a study's cells; it is there whole or not at all.

    Raises:
        StorageError: it cannot be written; an older record is intact.
    """
    values = asdict(replace(record, embedding={}))
    values["score"] = None if math.isnan(record.score) else record.score
    values["embedding"] = {name: encode_summary(row) for name, row in record.embedding.items()}
    text = json.dumps({"format": RECORD_FORMAT, **values}, indent=1, sort_keys=True, allow_nan=False)
    path = folder / f"{record.digest}.json"
    write_whole(path, f"{text}\n".encode())
    return path


def read_record(path: Path) -> Record:
    """Read one record; older formats are read too, and fields of newer ones that are not known here passed over.

    Raises:
        StudyError: the file cannot be read or is not named by its digest; or naming each field that is wrong.
    """
    place = f"{path} is no record of a study's cell"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StudyError(f"cannot read {path}: {error.strerror or error}.") from error
    try:
        written = read_value(_Format, content, place, StudyError, may_be_nan=True).format
        if not 1 <= written <= RECORD_FORMAT:
            raise StudyError(
                f"{place}: it is of format {written}, and this version of spot reads formats up to {RECORD_FORMAT}."
            )
        record = read_value(Record, content, place, StudyError)
    except StudyError as error:
        raise StudyError(f"{error} Delete it, and `spot study run` makes it again.") from error
    if record.digest != path.stem:
        raise StudyError(f"{path} holds the record of {record.digest}; a record is named by its digest: rename it.")
    return record


def read_records(folder: Path) -> list[Record]:
    """All records in a folder, by name; a folder that is not there has none.

    Raises:
        StudyError: a file is no record.
    """
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def read_finished(folder: Path, cells: Collection[str]) -> dict[str, Record]:
    """The records of some cells by digest; those of other cells, as an earlier study's file had them, are left out.

    Args:
        folder: of the records.
        cells: digests.

    Raises:
        StudyError: a file is no record.
    """
    return {record.digest: record for record in read_records(folder) if record.digest in cells}


def runs_folder() -> Path:
    """Where the runs of gangs are on this machine."""
    return cache_dir() / "studies" / "runs"


def prompt_file(cell: str) -> Path:
    """Where the prompt of a cell, given by its digest, is on this machine."""
    return cache_dir() / "studies" / "prompts" / f"{cell}.safetensors"


class RecordFolder:
    """Owns the records of a study while a run holds its lock.

    Records of a gang land together: they are staged in a folder that is renamed, so that a kill leaves all of them or
    none. Were it to part a gang, the rest would walk as another gang, and a float would round otherwise.

    Args:
        study: the study's folder.
        titles: of its cells, by digest.
    """

    def __init__(self, study: Path, titles: Mapping[str, str]) -> None:
        """Land what a killed run left, and read what is there.

        Raises:
            StudyError: a record is damaged.
        """
        self.titles = titles
        self.path = study / "cells"
        self._pending = study / "pending"
        self._staged = study / f".pending.{os.getpid()}"
        self._land()
        self.records = read_finished(self.path, titles)

    def add(self, records: Sequence[Record]) -> None:
        """Write records, all or none.

        Raises:
            StorageError: they cannot be written.
        """
        shutil.rmtree(self._staged, ignore_errors=True)
        try:
            for record in records:
                write_record(record, self._staged)
            if records:
                self._staged.rename(self._pending)
        finally:
            shutil.rmtree(self._staged, ignore_errors=True)
        self._land()
        self.records |= {record.digest: record for record in records}

    def on_other_rows(self, records: Sequence[Record]) -> str:
        """Why records of one gang may not stand beside those that are there: arms share a target's report rows.

        Returns:
            Empty where they may.
        """
        task = records[0].task
        ours = {record.data for record in records if record.data and record.kind != "source"}
        others = [
            record
            for record in self.records.values()
            if record.task == task and record.kind != "source" and record.data and record.data not in ours
        ]
        if not ours or not others:
            return ""
        return (
            f"its report rows are not those of {len(others)} finished cells of {task}: the data differ, or a "
            "new source has seen some of these rows. Delete these to have them made again, or restore the data: "
            + " ".join(str(self.path / f"{record.digest}.json") for record in others)
        )

    def _land(self) -> None:
        """Move the records of the last gang to the others."""
        if self._pending.is_dir():
            self.path.mkdir(parents=True, exist_ok=True)
            for path in sorted(self._pending.glob("*.json")):
                path.replace(self.path / path.name)
            shutil.rmtree(self._pending)
