"""Keep what is known of a library that was built: `build.json` in its folder, and the jobs that are done in the cache.

LIBRARY/build.json                                   recipe, setting, the calibration's table, checks, sources
$SPOT_CACHE/libraries/jobs/<digest>.json             what came of a job; its prompts beside it
$SPOT_CACHE/libraries/runs/<digest>/                 the run of a job, to go on from
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError, with_config

from spot.building.calibration import Trial
from spot.building.jobs import Done, Job, TaskCheck
from spot.building.recipe import LibraryRecipe, Setting
from spot.errors import LibraryError, RunError, StorageError
from spot.prompts.prompt import BackboneId
from spot.storage.files import cache_dir, write_whole
from spot.storage.opening import read_bounded
from spot.storage.values import STRICT, read_value, to_json
from spot.training.result import RunResult

FILE = "build.json"
MOST_BYTES = 64_000_000


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class BuiltSource:
    """One source prompt of a library.

    Attributes:
        task: its name.
        reference: what it was looked up by.
        prompt: digest.
        steps: taken.
        tokens: text tokens trained.
        seconds: of training.
        licence: of its data.
        diagnosis: what looks wrong with the run, in words.
    """

    task: str
    reference: str
    prompt: str
    steps: int
    tokens: int
    seconds: float
    licence: str
    diagnosis: tuple[str, ...] = ()


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class Nearness:
    """How near two seeds of one task are, and how near the nearest other task is, by the similarity `mean`."""

    task: str
    own: float
    other: str
    similarity: float

    @property
    def ranks(self) -> bool:
        """Whether the task's own second seed is the nearest."""
        return self.own > self.similarity


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class BuildRecord:
    """What is known of a library that was built; the content of `build.json`.

    Attributes:
        recipe: as plain values, see `recipe_of`.
        backbone: the model by the user's name.
        identity: of the model.
        setting: that all sources are trained by.
        rms: of the model's input embeddings.
        trials: of the calibration.
        checks: of the setting, on rows that chose nothing.
        nearness: of two seeds of a task.
        sources: that are in the library.
        missing: task -> why it was passed over.
    """

    recipe: Mapping[str, Any]
    backbone: str
    identity: BackboneId
    setting: Setting
    rms: float
    trials: tuple[Trial, ...] = ()
    checks: tuple[TaskCheck, ...] = ()
    nearness: tuple[Nearness, ...] = ()
    sources: tuple[BuiltSource, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


def write_record(library: Path, record: BuildRecord) -> None:
    """Write `build.json`.

    Raises:
        StorageError: it cannot be written; the old one is intact.
    """
    content = {**vars(record), "identity": record.identity.to_json()}
    write_whole(library / FILE, f"{to_json(content)}\n".encode(), library)


def read_record(library: Path) -> BuildRecord | None:
    """What is known of a library; None where it was not built, or is not there.

    Raises:
        LibraryError: the file is damaged.
    """
    place = library / FILE
    try:
        content = read_bounded(place, MOST_BYTES, library)
    except StorageError as error:
        raise LibraryError(str(error)) from error
    if content is None:
        return None
    record = read_value(BuildRecord, content, str(place), LibraryError)
    recipe_of(record, place)
    return record


def recipe_of(record: BuildRecord, place: Path | str = FILE) -> LibraryRecipe:
    """The recipe of a record.

    Raises:
        LibraryError: it holds something else.
    """
    try:
        return LibraryRecipe.model_validate(dict(record.recipe))
    except ValidationError as error:
        entry = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in entry["loc"])
        raise LibraryError(f"{place}: the recipe's {name} is {entry['input']!r:.80}; {entry['msg']}.") from error


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class _DoneFile:
    """What is kept of a job that is done; its prompts are files beside it."""

    results: tuple[RunResult, ...]
    checks: tuple[TaskCheck, ...]
    prompts: tuple[int, ...]


def keep_done(job: Job, done: Done) -> None:
    """Keep what came of a job: prompts first, then the record, which says that it is done.

    Raises:
        StorageError: the cache cannot be written.
    """
    for number, content in done.prompts.items():
        write_whole(_prompt(job, number), content)
    kept = _DoneFile(results=done.results, checks=done.checks, prompts=tuple(done.prompts))
    write_whole(_file(job), f"{to_json(kept)}\n".encode())


def find_done(job: Job) -> Done | None:
    """What came of a job on this machine; None where it has not been done.

    Raises:
        RunError: the record is damaged.
    """
    path = _file(job)
    try:
        content = read_bounded(path, MOST_BYTES)
        if content is None:
            return None
        kept = read_value(_DoneFile, content, str(path), RunError)
        prompts = {number: read_bounded(_prompt(job, number), MOST_BYTES * 10) for number in kept.prompts}
    except (StorageError, RunError) as error:
        raise RunError(f"{error} Delete it to have the work done again.") from error
    whole = {number: data for number, data in prompts.items() if data is not None}
    return Done(results=kept.results, checks=kept.checks, prompts=whole) if len(whole) == len(prompts) else None


def jobs_folder() -> Path:
    """Where it is kept what came of jobs, in this machine's cache."""
    return cache_dir() / "libraries" / "jobs"


def _file(job: Job) -> Path:
    return jobs_folder() / f"{job.digest}.json"


def _prompt(job: Job, number: int) -> Path:
    return jobs_folder() / f"{job.digest}-{number}.safetensors"
