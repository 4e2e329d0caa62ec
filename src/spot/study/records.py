"""The record of a finished cell of a study: one small JSON file, which a study keeps and which counts as finished.

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
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spot.errors import StudyError
from spot.library.history import decode_summary, encode_summary
from spot.storage.files import cache_dir, write_whole
from spot.training.result import CurvePoint

FORMAT = 1

CellKind = Literal["source", "plain", "pair", "average", "mixture", "model"]


@dataclass(frozen=True)
class Record:
    """What one cell found.

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
    score: float = math.nan
    interval: tuple[float, float] | None = None
    as_is: float | None = None
    frozen: float | None = None
    similarity: Mapping[str, float] = field(default_factory=dict)
    embedding: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    curve: tuple[CurvePoint, ...] = field(default=(), repr=False)
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    rows: Mapping[str, int] = field(default_factory=dict)
    data: str = ""
    tuned: int = 0
    shipped: int = 0
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
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


def write(record: Record, folder: Path) -> Path:
    """Write a record into the folder of a study's cells; it is there whole or not at all.

    Raises:
        StorageError: it cannot be written; an older record is intact.
    """
    plain = asdict(replace(record, embedding={}))
    plain["score"] = None if math.isnan(record.score) else record.score
    plain["embedding"] = {name: encode_summary(row) for name, row in record.embedding.items()}
    text = json.dumps({"format": FORMAT, **plain}, indent=1, sort_keys=True, allow_nan=False)
    path = folder / f"{record.digest}.json"
    write_whole(path, f"{text}\n".encode())
    return path


def read(path: Path) -> Record:
    """Read one record; older formats are read too, and fields of newer ones that are not known here passed over.

    Raises:
        StudyError: the file is no record, or is not named by its digest.
    """
    try:
        plain = json.loads(path.read_bytes())
        if not isinstance(plain, dict) or not 1 <= plain["format"] <= FORMAT:
            raise ValueError(f"it is not of a format up to {FORMAT}, which this version of spot reads")
        known = {one.name for one in fields(Record)}
        values = {name: value for name, value in plain.items() if name in known}
        values["score"] = math.nan if values.get("score") is None else float(values["score"])
        values["embedding"] = {name: decode_summary(row) for name, row in values.get("embedding", {}).items()}
        values["curve"] = tuple(CurvePoint(**point) for point in values.get("curve", ()))
        for name in ("sources", "weights", "needs"):
            values[name] = tuple(values.get(name, ()))
        if values.get("interval") is not None:
            values["interval"] = tuple(values["interval"])
        record = Record(**values)
    except OSError as error:
        raise StudyError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path} is no record of a study's cell ({error}). Delete it, and `spot study run` makes it again."
        ) from error
    if record.digest != path.stem:
        raise StudyError(f"{path} holds the record of {record.digest}; a record is named by its digest: rename it.")
    return record


def read_all(folder: Path) -> list[Record]:
    """All records in a folder, by name; a folder that is not there has none.

    Raises:
        StudyError: a file is no record.
    """
    return [read(path) for path in sorted(folder.glob("*.json"))]


def read_finished(folder: Path, cells: Collection[str]) -> dict[str, Record]:
    """The records of some cells by digest; those of other cells, as an earlier study's file had them, are left out.

    Args:
        folder: of the records.
        cells: digests.

    Raises:
        StudyError: a file is no record.
    """
    return {record.digest: record for record in read_all(folder) if record.digest in cells}


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
                write(record, self._staged)
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
