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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    with_config,
)

from spot.config import Instead
from spot.errors import StorageError, StudyError
from spot.library.history import decode_summary, encode_summary
from spot.storage.files import cache_dir, write_whole
from spot.storage.opening import read_bounded
from spot.storage.values import STRICT, read_value
from spot.study.answers import RowAnswers
from spot.training.result import Count, Curve, Percent, Seconds

RECORD_FORMAT = 1
MOST_BYTES = 16_000_000  # of a record: a curve of 100,000 points; those of a study are some 5,000
CELLS = "cells"  # folder of the records, in a study's folder

Share = Annotated[float, Field(ge=0, le=1.001)]
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]
# A field of a later version is passed over.
LENIENT = ConfigDict(**{**STRICT, "extra": "ignore"})

CellKind = Literal["source", "plain", "pair", "average", "mixture", "model", Instead]


class LaterFormat(StudyError):
    """A record was written by a later version of spot, which knows more of it; nothing may replace it."""


def _score(value: object, read: ValidatorFunctionWrapHandler) -> float:
    """A score from a file, in which null stands for the NaN of a cell without one."""
    return math.nan if value is None else read(value)


def _summary(value: object) -> np.ndarray:
    """A summary of a task embedding from a file."""
    if not isinstance(value, str):
        raise ValueError("should be float32 numbers in base64")
    row = decode_summary(value)
    if not (row.size and np.isfinite(row).all()):
        raise ValueError("should be finite float32 numbers in base64")
    return row


Summary = Annotated[np.ndarray, PlainValidator(_summary)]


@with_config(LENIENT)
@dataclass(frozen=True)
class Record:
    """What one cell came to.

    Attributes:
        digest: of the cell; the file's name.
        kind: `source` tunes a source prompt; on a target, `plain` tunes from scratch, `pair` from one source, `average`
            from the weighted mean of k sources, `mixture` from a prompt tuned on k sources and the target, and `model`
            tunes the whole model; the others are what one would pick instead, such as `constant` and `tfidf`.
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
        answers: to the report rows; None of a source, of a mixture's rows, and in records of earlier versions.
        tuned: parameters that were trained; `shipped` are kept for the task.
        config: settings of the run.
        needs: digests of the cells that it started from.
        version: of spot.
        reason: why there is no score; empty where there is one.
    """

    digest: str
    kind: CellKind
    task: str
    seed: Count
    sources: tuple[str, ...] = ()
    weights: tuple[Share, ...] = ()
    start: str = ""
    init_seed: Count = 0
    k: Count = 0
    scores: Mapping[str, Percent] = field(default_factory=dict)
    score: Annotated[Percent, WrapValidator(_score)] = math.nan
    interval: tuple[Percent, Percent] | None = None
    as_is: Percent | None = None
    frozen: Percent | None = None
    similarity: Mapping[str, Cosine] = field(default_factory=dict)
    embedding: Mapping[str, Summary] = field(default_factory=dict, repr=False, compare=False)
    curve: Curve = field(default=(), repr=False)
    steps: Count = 0
    tokens: Count = 0
    seconds: Seconds = 0.0
    rows: Mapping[str, Count] = field(default_factory=dict)
    data: str = ""
    answers: RowAnswers | None = field(default=None, repr=False)
    tuned: Count = 0
    shipped: Count = 0
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
    def rate(self) -> str:
        """The learning rate of its settings, a number or `auto`; empty where they do not say."""
        return str(self.config.get("learning_rate", ""))

    @property
    def rows_seed(self) -> int:
        """The seed that its rows were drawn by; records of one task and draw were measured on the same rows."""
        return self._setting("rows_seed")

    @property
    def backbone_parameters(self) -> int:
        """Parameters of the frozen model; 0 where the settings do not say."""
        return self._setting("backbone_parameters")

    def _setting(self, name: str) -> int:
        value = self.config.get(name)
        return value if type(value) is int else 0


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
    if record.answers is None:  # as records were before
        del values["answers"]
    text = json.dumps({"format": RECORD_FORMAT, **values}, indent=1, sort_keys=True, allow_nan=False)
    path = folder / f"{record.digest}.json"
    write_whole(path, f"{text}\n".encode())
    return path


def read_record(path: Path, study: Path | None = None) -> Record:
    """Read one record; older formats are read too, and fields of newer ones that are not known here passed over.

    Args:
        path: of the record.
        study: the study's folder, behind which no link is followed; left out: that of the record.

    Raises:
        StudyError: the file cannot be read or is not named by its digest; or naming each field that is wrong.
    """
    place = f"{path} is no record of a study's cell"
    try:
        content = read_bounded(path, MOST_BYTES, study or path.parent)
    except StorageError as error:
        raise StudyError(f"{place}: {error}") from error
    if content is None:
        raise StudyError(f"{place}: there is no such file.")
    try:
        written = read_value(_Format, content, place, StudyError, may_be_nan=True).format
        if written > RECORD_FORMAT:
            raise LaterFormat(
                f"{place}: it is of format {written}, and this version of spot reads formats up to {RECORD_FORMAT}. "
                "Install a later version."
            )
        if written < 1:
            raise StudyError(f"{place}: it is of format {written}.")
        record = read_value(Record, content, place, StudyError)
    except LaterFormat:
        raise
    except StudyError as error:
        raise StudyError(f"{error} Delete it, and `spot study run` makes it again.") from error
    if record.digest != path.stem:
        raise StudyError(
            f"{path} holds the record of {record.digest!r:.40}; a record is named by its digest: rename it."
        )
    return record


def read_records(folder: Path) -> list[Record]:
    """All records in a folder, by name; a folder that is not there has none.

    Raises:
        StudyError: a file is no record.
    """
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def runs_folder() -> Path:
    """Where the runs of gangs are on this machine."""
    return cache_dir() / "studies" / "runs"


def prompt_file(cell: str) -> Path:
    """Where the prompt of a cell, given by its digest, is on this machine."""
    return cache_dir() / "studies" / "prompts" / f"{cell}.safetensors"
