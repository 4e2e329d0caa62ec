"""Assemble what a gang is tuned from: the prompts that its cells start from, their weights, and what sources saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spot.errors import ConfigError, PromptError, SpotError, StudyError
from spot.metrics.scores import primary
from spot.prompts.overlap import Sketch, build
from spot.prompts.prompt import SoftPrompt, load, to_bytes
from spot.retrieval.embeddings import SIMILARITIES, recorded_summaries, similarity, task_embedding
from spot.retrieval.search import rank
from spot.storage.files import write_whole
from spot.strategies.plans import plan_transfer
from spot.study.cells import Cell, Gang, StudyPlan, Work, record_of
from spot.study.config import Origin, Study
from spot.study.record_folder import RecordFolder
from spot.study.records import Record, prompt_file
from spot.tasks import registry
from spot.tasks.splits import split_rows


@dataclass(frozen=True)
class Assembly:
    """A gang as far as it can be tuned.

    Attributes:
        work: for a worker; None where nothing of the gang can be tuned.
        refused: records of the cells that have nothing to start from, with the reason.
        reason: why the gang is left to the next run; empty where it is not.
    """

    work: Work | None = None
    refused: tuple[Record, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class _CellStart:
    """What one cell starts from.

    Attributes:
        prompts: files of the source prompts.
        tasks: that these were tuned on.
        weights: of their average; empty for the other kinds.
        mixed: references of the tasks that are mixed with the target, of a `mixture`.
    """

    prompts: tuple[bytes, ...]
    tasks: tuple[str, ...]
    weights: tuple[float, ...] = ()
    mixed: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceSketches:
    """What the sources of a study were trained on; each draw of a task's rows is read once.

    Attributes:
        study: whose sources.
        data: where the known data sets are.
        by_draw: the sketches that have been made, by reference and seed of the rows.
    """

    study: Study
    data: Path | None
    by_draw: dict[tuple[str, int], tuple[Sketch, ...]] = field(default_factory=dict)

    def beside(self, target: str, seed: int) -> tuple[Sketch, ...]:
        """Sketches of the texts that the sources of a target train on under one seed, but for its own."""
        return tuple(
            sketch
            for origin in self.study.sources
            if origin.task != target
            for reference in origin.members or (origin.reference,)
            if reference != target
            for sketch in self._of(origin, reference, seed)
        )

    def _of(self, origin: Origin, reference: str, seed: int) -> tuple[Sketch, ...]:
        """The sketch of one task's train rows, or of an existing prompt; none where a prompt has none."""
        config = self.study.config.tuning("source", reference, seed=seed)
        draw = (reference, config.rows_seed)
        if draw not in self.by_draw:
            if origin.prompt:
                sketch = load(origin.reference).sketch
                self.by_draw[draw] = () if sketch is None else (sketch,)
            else:
                task = registry.get(reference, self.data, config.task_prefix)
                train = split_rows(task, config.train_rows, config.select_rows, 0, config.rows_seed).train
                self.by_draw[draw] = (build(text for row in train for text in row.texts),)
        return self.by_draw[draw]


def assemble(plan: StudyPlan, gang: Gang, records: Mapping[str, Record], sketches: SourceSketches) -> Assembly:
    """Bring together what a gang is tuned from.

    Args:
        plan: the study and its cells.
        gang: of cells whose needs are finished or given up.
        records: of finished cells, by digest.
        sketches: of the study's sources.
    """
    first = gang.cells[0]
    titles = {cell.digest: cell.title for cell in plan.cells}
    starts: dict[Cell, _CellStart] = {}
    refused: list[Record] = []
    try:
        for cell in gang.cells if first.needs else ():
            start = _refusal(cell, records, titles) or _start(cell, plan.study)
            if isinstance(start, _CellStart):
                starts[cell] = start
            else:
                refused.append(record_of(cell, reason=start))
        if first.needs and not starts:
            return Assembly(refused=tuple(refused))
        gang = Gang(tuple(starts)) if starts else gang
        seen = tuple(() if first.kind == "source" else sketches.beside(first.task, cell.seed) for cell in gang.cells)
    except SpotError as error:
        return Assembly(refused=tuple(refused), reason=str(error))
    work = Work(
        gang=gang,
        starts=tuple(start.prompts for start in starts.values()),
        sources=tuple(start.tasks for start in starts.values()),
        weights=tuple(start.weights for start in starts.values()),
        mixed=tuple(start.mixed for start in starts.values()) if first.kind == "mixture" else (),
        sketches=seen,
        data=None if sketches.data is None else str(sketches.data),
    )
    return Assembly(work, tuple(refused))


def adopt_prompts(plan: StudyPlan, folder: RecordFolder) -> None:
    """Make the cells of the sources that are prompts already.

    Raises:
        PromptError: the file of one is damaged.
        StorageError: a prompt or record cannot be written.
    """
    for origin in plan.study.sources:
        if origin.prompt:
            cell = next(cell for cell in plan.cells if cell.prompt == origin.prompt)
            prompt = load(origin.reference)
            if not has_prompt(cell.digest):
                write_whole(prompt_file(cell.digest), to_bytes(prompt))
            if cell.digest not in folder.records:
                folder.add([_record_of_prompt(cell, prompt)])


def has_prompt(cell: str) -> bool:
    """Whether the prompt of a cell, given by its digest, is in the cache, every byte of it."""
    try:
        load(prompt_file(cell))
    except PromptError:
        return False
    return True


def similarities(cell: Cell) -> dict[str, float]:
    """The similarities of the source and the target of a pair that was tuned, by metric."""
    source, target = map(_embedding, _needed_prompts(cell))
    return {metric: similarity(target, source, metric) for metric in SIMILARITIES}


def _refusal(cell: Cell, records: Mapping[str, Record], titles: Mapping[str, str]) -> str:
    """Why a cell has nothing to start from: a cell that it needs has no prompt; empty where all have one.

    Raises:
        StudyError: a cell that it needs was given up in this run.
    """
    for need in cell.needs:
        record = records.get(need)
        if record is not None and record.reason:
            return f"it starts from {titles[need]}, which has no prompt: {record.reason}"
        if record is None or not prompt_file(need).is_file():
            raise StudyError(f"it starts from {titles[need]}, which could not be tuned")
    return ""


def _start(cell: Cell, study: Study) -> _CellStart | str:
    """What a cell starts from; or why there is nothing: an average has no source with a similarity above 0.

    Raises:
        PromptError: the file of a prompt is damaged.
        StudyError: the rows of a task that is mixed are not known.
    """
    *sources, target = _needed_prompts(cell)
    if cell.kind == "pair":
        return _cell_start(sources)
    ranked = rank(_embedding(target), sources, cell.metric, len(sources))
    try:
        plan = plan_transfer(cell.kind, ranked, k=cell.k, steps=cell.config.steps, eval_every=cell.config.eval_every)
    except ConfigError as error:
        return str(error)
    [start] = plan.starts
    by_digest = {prompt.digest: prompt for prompt in sources}
    chosen = [by_digest[digest] for digest in start.prompts]
    return _cell_start(chosen, start.weights, _references(study, chosen) if cell.kind == "mixture" else ())


def _cell_start(
    prompts: Sequence[SoftPrompt], weights: tuple[float, ...] = (), mixed: tuple[str, ...] = ()
) -> _CellStart:
    """What a cell starts from, with the prompts as files."""
    return _CellStart(
        prompts=tuple(to_bytes(prompt) for prompt in prompts),
        tasks=tuple(prompt.task for prompt in prompts),
        weights=weights,
        mixed=mixed,
    )


def _needed_prompts(cell: Cell) -> list[SoftPrompt]:
    """The prompts of the cells that a cell needs, in their order."""
    return [load(prompt_file(need)) for need in cell.needs]


def _embedding(prompt: SoftPrompt) -> np.ndarray:
    """The task embedding [P, D] of a prompt.

    Raises:
        StudyError: it has no key.
    """
    if prompt.key is None:
        raise StudyError(
            f"the prompt of {prompt.task} has no key: expected one that was tuned with a key_step. Delete its record, "
            "and `spot study run` makes it again."
        )
    return task_embedding(prompt.key, prompt.start)


def _references(study: Study, prompts: Sequence[SoftPrompt]) -> tuple[str, ...]:
    """References of the tasks that prompts were tuned on, which a mixture takes rows from."""
    origins = {origin.task: origin for origin in study.sources}
    references: list[str] = []
    for prompt in prompts:
        origin = origins[prompt.task]
        members = origin.members or ((prompt.task,) if prompt.task in registry.TABLE else ())
        if not members:
            raise StudyError(
                f"a mixture needs the rows of {prompt.task}, and only its prompt is known: name its "
                "task file as a source in the place of the prompt"
            )
        references += members
    return tuple(dict.fromkeys(references))


def _record_of_prompt(cell: Cell, prompt: SoftPrompt) -> Record:
    """The record of a source that was there already, with the scores that its file has."""
    scores = dict(prompt.scores)
    size = prompt.length * prompt.width
    return record_of(
        cell,
        scores=scores,
        score=primary(scores) if scores else float("nan"),
        embedding=recorded_summaries(prompt),
        tuned=size,
        shipped=size,
    )
