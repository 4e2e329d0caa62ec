"""Lay out the cells of a study: what is tuned, each with an id from its content, and which of them share a gang.

    source    a source prompt                          sources x seeds
    plain     a target from scratch                    targets x seeds x starts and restarts
    pair      a target from one source                 sources x targets x seeds
    average   from the weighted mean of k sources      targets x seeds x k
    mixture   from a prompt tuned on k sources and it  targets x seeds x k
    model     a target by tuning the whole model       targets x seeds
    constant, tfidf, ...   what one would pick instead targets x seeds x arms

What `best`, `race`, `oracle` and `none` find is worked out from the pairs and the plain runs.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spot.config import TuneConfig, digest
from spot.prompts.overlap import Sketch
from spot.study.config import COMBINED_STRATEGIES, PAIR_STRATEGIES, Origin, Study, StudyConfig, look_up, read_study
from spot.study.record_folder import Expected, FinishedCells, log_wrong, read_finished
from spot.study.records import CELLS, CellKind, Record

GANG_SIZE = 8  # cells of a gang: the rows of a step of all of them stand in memory together
IDENTITY = ("digest", "kind", "task", "seed", "sources", "start", "init_seed", "k", "needs")  # what a record says too
CELL_FORMAT = 1  # of cells: another one gives all of them other ids
IMMATERIAL_SETTINGS = ("checkpoint_every", "gradient_checkpointing")  # settings that do not change what a cell finds


@dataclass(frozen=True)
class Cell:
    """One unit of what a study finds; see `records.Record` for what the fields mean.

    Attributes:
        kind, task, seed, sources, start, init_seed, k: as in its record.
        config: settings of its run; `config.task` is what the task is looked up by.
        revision: of the task.
        metric: similarity that chooses the sources of `average` and `mixture`.
        before: settings of the run that makes the start of a `mixture` or a multi-task `model`.
        arm: settings of what one would pick instead of a prompt.
        prompt: digest of the prompt that a `source` is, where it is there already.
        is_further: whether its learning rate is one of those beside the table's.
        needs: digests of the cells whose prompts it starts from or is compared with.
    """

    kind: CellKind
    task: str
    seed: int
    config: TuneConfig
    revision: str = ""
    sources: tuple[str, ...] = ()
    start: str = ""
    init_seed: int = 0
    k: int = 0
    metric: str = ""
    before: TuneConfig | None = None
    arm: tuple[tuple[str, Any], ...] = ()
    prompt: str = ""
    is_further: bool = False
    needs: tuple[str, ...] = ()

    @property
    def settings(self) -> TuneConfig:
        """The settings that decide what it finds, the same on every machine."""
        return _portable(self.config, self.task)

    @cached_property
    def digest(self) -> str:
        """16 hex digits over all that decides what the cell finds, but for the rows."""
        parts = [str(CELL_FORMAT), self.kind, self.task, self.revision, *self.sources, self.start, str(self.init_seed)]
        if self.before is not None:
            parts.append(digest(_portable(self.before, "before")))
        if self.arm:
            parts.append(json.dumps({name: _name_of(value) for name, value in self.arm}))
        return digest(self.settings, *parts, str(self.k), self.metric, self.prompt, *self.needs)

    @property
    def title(self) -> str:
        """For people: kind, sources, target and seed."""
        begin = " + ".join(self.sources) or self.start
        if self.k:
            begin = f"the nearest {self.k}"
        if self.init_seed:
            begin += f" {self.init_seed}"
        if self.is_further:
            begin += f" at {self.config.learning_rate}"
        return f"{self.kind} {f'{begin} -> ' if begin else ''}{self.task}, seed {self.seed}"


@dataclass(frozen=True)
class Gang:
    """Cells that differ in their seeds and draws of rows alone and walk in step; what one worker does at a time."""

    cells: tuple[Cell, ...]

    @cached_property
    def digest(self) -> str:
        """16 hex digits that name its run's folder."""
        return digest(self.cells[0].config, *[cell.digest for cell in self.cells])

    @property
    def title(self) -> str:
        """For people."""
        seeds = ", ".join(str(cell.seed) for cell in self.cells)
        first = self.cells[0].title.rpartition(", seed ")[0]
        return f"{first}, seed{'s' if len(self.cells) > 1 else ''} {seeds}"


@dataclass(frozen=True)
class Work:
    """A gang with all that a worker needs beside the rows; plain values, so that it can go to another machine.

    Attributes:
        gang: the cells.
        starts: of each cell the files of the prompts that it starts from.
        sources: of each cell the tasks of these prompts, or of those that are mixed.
        weights: of each cell, where it starts from an average.
        mixed: of each cell the references of the tasks that are mixed with the target.
        sketches: of each cell, of the texts that its sources were trained on: report rows with one are left out.
        data: where the known data sets are.
    """

    gang: Gang
    starts: tuple[tuple[bytes, ...], ...] = ()
    sources: tuple[tuple[str, ...], ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    mixed: tuple[tuple[str, ...], ...] = ()
    sketches: tuple[tuple[Sketch, ...], ...] = ()
    data: str | None = None


@dataclass(frozen=True)
class Done:
    """What comes back of a gang: records and prompt files, one a cell; or why there are none.

    Attributes:
        records: in the order of the cells.
        prompts: files; of a model, and of a run that diverged, empty.
        reason: why the gang could not be tuned; empty where it was.
    """

    records: tuple[Record, ...] = ()
    prompts: tuple[bytes, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class StudyPlan:
    """A study and its cells."""

    study: Study
    cells: tuple[Cell, ...]

    @property
    def folder(self) -> Path:
        """Of the study's own files."""
        return Path(self.study.config.out or self.study.config.name)

    @property
    def records(self) -> Path:
        """Folder of the records."""
        return self.folder / CELLS

    @cached_property
    def expected(self) -> dict[str, Expected]:
        """What the record of each cell says of it, by digest."""
        tasks = {cell.digest: cell.task for cell in self.cells if cell.kind == "source"}
        return {cell.digest: _expected(cell, tasks) for cell in self.cells}


def read_plan(path: Path, overrides: Sequence[str] = ()) -> StudyPlan:
    """The study of a TOML file and its cells; neither rows nor the backbone are read.

    Args:
        path: of the study's file.
        overrides: `key=value`, see `config.read_study`.

    Raises:
        ConfigError: all mistakes in form at once, or all names that are unknown.
    """
    return plan_cells(look_up(read_study(path, list(overrides))))


def plan_cells(study: Study) -> StudyPlan:
    """Lay out the cells of a study, those that others need first."""
    prompts = _prompt_cells(study.config, study.sources, study.targets)
    return StudyPlan(study, (*prompts, *_model_cells(study), *_arm_cells(study)))


def finished(plan: StudyPlan) -> dict[str, Record]:
    """The records of a study's cells, by digest; a file that is no record of its cell counts as none, and is logged.

    Raises:
        StudyError: the folder of the records is a link or a file, or a record was written by a later version.
    """
    cells = finished_cells(plan)
    log_wrong(cells)
    return cells.records


def finished_cells(plan: StudyPlan) -> FinishedCells:
    """The records of a study's cells, and the files that count as none; errors are those of `finished`."""
    return read_finished(plan.folder, plan.expected)


def gangs(cells: Iterable[Cell]) -> list[Gang]:
    """Put cells that can walk in step together, at most `GANG_SIZE`, in the order of the first of each gang."""
    by_key: dict[tuple, list[Cell]] = {}
    for cell in cells:
        # What a gang would have to share between its runs belongs to one of them: see `training.check_gang`.
        alone = cell.seed if cell.config.dropout or cell.config.method == "model" else None
        settings = cell.settings.model_copy(update={"seed": 0, "rows_seed": 0})
        key = (cell.kind, cell.task, cell.sources, cell.start, cell.init_seed, cell.k, alone, digest(settings))
        by_key.setdefault(key, []).append(cell)
    return [
        Gang(tuple(alike[first : first + GANG_SIZE]))
        for alike in by_key.values()
        for first in range(0, len(alike), GANG_SIZE)
    ]


def _expected(cell: Cell, sources: Mapping[str, str]) -> Expected:
    """What the record of a cell says of it; `sources` are the tasks of the source cells, by digest."""
    candidates = {sources[need] for need in cell.needs if need in sources}
    return Expected(
        **cell_as_json(cell),
        title=cell.title,
        candidates=frozenset(candidates if cell.kind in COMBINED_STRATEGIES else ()),
        settings=cell.settings.model_dump(mode="json"),
        defaults={name: setting.default for name, setting in TuneConfig.model_fields.items()},
        is_run=not cell.prompt,
    )


def _portable(config: TuneConfig, task: str) -> TuneConfig:
    """Settings without what does not matter, or is called otherwise elsewhere."""
    changes = {name: TuneConfig.model_fields[name].default for name in IMMATERIAL_SETTINGS}
    return config.model_copy(update={**changes, "task": task, "backbone": _name_of(config.backbone)})


def _name_of(value: Any) -> Any:
    """A folder as its name, which is the same on every machine; anything else as it is."""
    # A name that no file can have, such as one of 300 letters, is no folder either.
    return Path(value).resolve().name if isinstance(value, str) and os.path.isdir(value) else value


def _prompt_cells(config: StudyConfig, sources: Sequence[Origin], targets: Sequence[Origin]) -> Iterator[Cell]:
    """The cells that tune prompts, those that others need first."""
    seeds = range(config.seeds)
    tuned = {(source.task, seed): _source_cell(config, source, seed) for source in sources for seed in seeds}
    yield from dict.fromkeys(tuned.values())
    keyed = {}
    for target in targets:
        for seed in seeds:
            plain = list(_plain_cells(config, target, seed, needs_key=bool(sources)))
            keyed[target.task, seed] = plain[0].digest
            yield from plain
    for target in targets:
        others = [source.task for source in sources if source.task != target.task]
        for seed in seeds:
            cells = {task: tuned[task, seed].digest for task in others}
            yield from _transfers(config, target, seed, cells, keyed[target.task, seed])


def _transfers(
    config: StudyConfig, target: Origin, seed: int, sources: Mapping[str, str], plain: str
) -> Iterator[Cell]:
    """The cells of one target and seed that start from source prompts.

    Args:
        config: of the study.
        target: that is tuned on.
        seed: of the runs.
        sources: task -> digest of the cell of its prompt.
        plain: digest of the cell that gives the target's task embedding.
    """
    for changes in _rates(config):
        run = config.tuning("target", target.reference, seed=seed, key_step=None, **changes)
        cell_of = partial(
            Cell, task=target.task, seed=seed, config=run, revision=target.revision, is_further=bool(changes)
        )
        if set(config.strategies) & set(PAIR_STRATEGIES):
            for task, cell in sources.items():
                yield cell_of("pair", sources=(task,), needs=(cell, plain))
        for kind in COMBINED_STRATEGIES:
            before = config.tuning("source", "mixture", seed=seed, key_step=None) if kind == "mixture" else None
            for k in config.k if kind in config.strategies else ():
                needs = (*sources.values(), plain)
                yield cell_of(kind, k=k, metric=config.metric, before=before, needs=needs)


def _rates(config: StudyConfig) -> list[dict[str, Any]]:
    """What runs on targets are tuned at: the rate of their table, then the further ones."""
    first = config.tuning("target", "any").learning_rate
    return [{}, *({"learning_rate": rate} for rate in config.learning_rates if rate != first)]


def _model_cells(study: Study) -> Iterator[Cell]:
    """Full model tuning, and where a mixture is given also after tuning on it (SPoT appendix C)."""
    config = study.config
    if config.models is False:
        return
    changes = {"method": "model", "learning_rate": config.models, "weight_decay": 0.0, "key_step": None}
    for target in study.targets:
        for seed in range(config.seeds):
            run = config.tuning("target", target.reference, seed=seed, **changes)
            yield Cell("model", target.task, seed, run, target.revision)
            for mixture in study.mixture:
                first = config.tuning("source", mixture.reference, seed=seed, **changes)
                revision = f"{target.revision} {mixture.task} {mixture.revision}"
                yield Cell("model", target.task, seed, run, revision, (mixture.task,), before=first)


def _arm_cells(study: Study) -> Iterator[Cell]:
    """What one would pick instead of a prompt, on the rows of the plain runs."""
    config = study.config
    for target in study.targets:
        for name in config.baselines:
            for seed in range(config.seeds):
                run = config.tuning("target", target.reference, seed=seed, key_step=None)
                yield Cell(name, target.task, seed, run, target.revision, arm=tuple(config.arm_settings(name).items()))


def _source_cell(config: StudyConfig, source: Origin, seed: int) -> Cell:
    """The cell of a source prompt; one that is there already serves all seeds."""
    if source.prompt:
        run = TuneConfig(task=source.task, backbone=config.backbone)
        return Cell("source", source.task, 0, run, prompt=source.prompt)
    run = config.tuning("source", source.reference, seed=seed)
    return Cell("source", source.task, seed, run, source.revision_from(run.init), start=run.init)


def _plain_cells(config: StudyConfig, target: Origin, seed: int, needs_key: bool) -> Iterator[Cell]:
    """The runs from scratch of one target and seed; the first has the key."""
    named = [start for start in config.starts if target.serves(start)]
    starts = [(start, 0, changes) for changes in _rates(config) for start in named]
    starts += [("vocabulary", number, {}) for number in range(1, config.restarts + 1)]
    for number, (start, init_seed, changes) in enumerate(starts):
        run = config.tuning("target", target.reference, seed=seed, init=start, init_seed=init_seed, **changes)
        if number or not needs_key:
            run = run.model_copy(update={"key_step": None})
        revision, is_further = target.revision_from(start), bool(changes)
        yield Cell("plain", target.task, seed, run, revision, start=start, init_seed=init_seed, is_further=is_further)


def record_of(cell: Cell, **measured: Any) -> Record:
    """The record of a cell.

    Args:
        cell: what the record says it is.
        measured: fields of `Record` that say what it came to, or that differ from the cell's; without a `score` the
            record has a `reason`.
    """
    settings = cell.settings.model_dump(mode="json")
    return Record(**{**cell_as_json(cell), "config": settings, "version": version("spot-transfer"), **measured})


def cell_as_json(cell: Cell) -> dict[str, Any]:
    """A cell as plain values, without its settings."""
    return {name: getattr(cell, name) for name in IDENTITY}
