"""What a worker of a study does: tune one gang of cells and measure it; plain values come in and go out.

A gang goes on from the checkpoint of its run's folder, in the cache of the machine that it ran on.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from spot.errors import RunError, SpotError, StorageError, TaskError
from spot.evaluation.evaluation import Evaluation, evaluate, interval
from spot.models.backbone import Backbone
from spot.prompts.overlap import Sketch, seen_by_any
from spot.prompts.prompt import SoftPrompt, from_bytes, to_bytes
from spot.retrieval.embeddings import recorded_summaries
from spot.storage.run_dir import RunDir
from spot.study.cells import Cell, Done, Work, record_of
from spot.study.records import Record, runs_folder
from spot.tasks import registry
from spot.tasks.splits import Splits, split_rows
from spot.tasks.task import Task, data_digest
from spot.training.loop import Diverged, named_scores
from spot.training.result import RunResult, read_results
from spot.training.state import Member, Run, collator_of, members_of, mixed
from spot.training.tuning import prepare_from, prepare_members, tune, tune_model

Tuned = TypeVar("Tuned")


def load(backbone: str, gradient_checkpointing: bool = False) -> Backbone:
    """What a worker holds: the frozen model of the study."""
    return Backbone.load(backbone, gradient_checkpointing=gradient_checkpointing)


def work(backbone: Backbone, item: Work) -> Done:
    """Tune and measure a gang.

    Args:
        backbone: of the study.
        item: the gang and what it starts from.

    Returns:
        Records and prompts. A run that diverges has a record without a score; a gang that cannot be tuned, such as one
        whose rows are not here, has none.

    Raises:
        StorageError: this machine's cache cannot be written.
    """
    try:
        return _model(backbone, item) if item.gang.cells[0].kind == "model" else _prompts(backbone, item)
    except Diverged as error:
        pairs = zip(item.gang.cells, error.results, strict=True)
        found = [record_of(cell, reason=result.diverged) for cell, result in pairs]
        return Done(tuple(found), (b"",) * len(found))
    except StorageError:
        raise
    except SpotError as error:
        return Done(reason=str(error))


def _prompts(backbone: Backbone, item: Work) -> Done:
    """Tune the prompts of a gang, then open its report rows."""
    cells = item.gang.cells
    members, name = members_of(cells[0].config, _data(item))
    blind = tuple(_blind(member) for member in members)
    befores: Sequence[RunResult | None] = [None] * len(cells)
    if cells[0].kind == "mixture":
        values, befores = _mixtures(backbone, item)
        runs = [prepare_from(cell.config, blind, backbone, (value,)) for cell, value in zip(cells, values, strict=True)]
    elif item.starts:
        starts = [[from_bytes(content) for content in contents] for contents in item.starts]
        runs = [
            prepare_from(cell.config, blind, backbone, some, _of(item.weights, at))
            for at, (cell, some) in enumerate(zip(cells, starts, strict=True))
        ]
    else:
        run = prepare_members(cells[0].config, blind, backbone, name=name)
        runs = [replace(run, config=cell.config) for cell in cells]
    prompts, results = _tuned(runs, backbone, runs_folder() / item.gang.digest)
    results = [
        replace(result, diverged=before.diverged) if before is not None and before.diverged else result
        for before, result in zip(befores, results, strict=True)
    ]
    bench = _opened(members, item.sketches, backbone)
    parts = zip(cells, runs, prompts, results, befores, strict=True)
    records = tuple(
        _record(
            bench,
            cell,
            result,
            before,
            {
                **_measured(bench, cell, run, prompt, result),
                "sources": _of(item.sources, at) or cell.sources,
                "weights": _of(item.weights, at),
                "tuned": run.start.numel(),
                "shipped": run.start.numel(),
            },
        )
        for at, (cell, run, prompt, result, before) in enumerate(parts)
    )
    kept = [b"" if result.diverged else to_bytes(prompt) for prompt, result in zip(prompts, results, strict=True)]
    return Done(records, tuple(kept))


def _model(backbone: Backbone, item: Work) -> Done:
    """Tune a whole model (SPoT appendix C), after a mixture where one is given; it is thrown away when measured."""
    cell = item.gang.cells[0]
    before: RunResult | None = None
    begin = backbone
    if cell.before is not None:
        parts, name = members_of(cell.before, _data(item))
        first = prepare_members(cell.before, tuple(_blind(part) for part in parts), backbone, name=name)
        place = runs_folder() / first.digest
        begin = load(str(tune_model(first, backbone, place)), cell.config.gradient_checkpointing)
        before = _only_result(place)
    members, _ = members_of(cell.config, _data(item))
    run = prepare_members(cell.config, tuple(_blind(member) for member in members), begin)
    folder = runs_folder() / item.gang.digest
    tuned = load(str(_fresh(folder, lambda: tune_model(run, begin, folder))))
    result = _only_result(folder)
    bench = _opened(members, item.sketches, tuned)
    found = _scored(bench, run, run.start, result)
    found |= {"tuned": backbone.parameters, "shipped": backbone.parameters}
    record = _record(bench, cell, result, before, found)
    shutil.rmtree(folder, ignore_errors=True)
    return Done((record,), (b"",))


def _tuned(runs: Sequence[Run], backbone: Backbone, folder: Path) -> tuple[list[SoftPrompt], tuple[RunResult, ...]]:
    """Tune a gang, or go on with it; its prompts and results."""
    prompts = _fresh(folder, lambda: tune(runs, backbone, folder))
    (folder / "checkpoint").unlink(missing_ok=True)
    return prompts, read_results(RunDir(folder)) or ()


def _only_result(folder: Path) -> RunResult:
    """The result of the one run in a folder, which is finished."""
    (result,) = read_results(RunDir(folder)) or ()
    return result


def _fresh(folder: Path, tuning: Callable[[], Tuned]) -> Tuned:
    """Tune in a folder of the cache, and anew where what it holds is damaged or came from other rows."""
    try:
        return tuning()
    except Diverged:
        raise
    except RunError:
        shutil.rmtree(folder)
        return tuning()


def _blind(member: Member) -> Member:
    """A member without its report rows, as it trains."""
    return replace(member, splits=Splits(member.splits.train, member.splits.selection, ()))


@dataclass(frozen=True)
class _Bench:
    """What the cells of a gang are measured on.

    Attributes:
        members: with all their rows.
        opened: those that have report rows, without the ones that a source has seen.
        overlap: how many these are.
        backbone: that answers.
        known: scores of starts and of the bare model that have been measured.
    """

    members: Sequence[Member]
    opened: Sequence[Member]
    overlap: int
    backbone: Backbone
    known: dict[bytes, float] = field(default_factory=dict)

    def score(self, run: Run, value: Tensor) -> float | None:
        """The score of something that was not tuned, measured once; None without report rows."""
        mark = value.numpy().tobytes()
        if self.opened and mark not in self.known:
            self.known[mark] = _mean(_answers(self, run, value))
        return self.known.get(mark)


def _opened(members: Sequence[Member], sketches: Sequence[Sketch], backbone: Backbone) -> _Bench:
    """Open the report rows, and leave out those that a source was trained on."""
    opened, overlap = [], 0
    for member in members:
        report = member.splits.report
        if not report:
            continue
        known = seen_by_any(sketches, [row.texts for row in report])
        rows = tuple(row for row, is_known in zip(report, known, strict=True) if not is_known)
        if not rows:
            raise TaskError(
                f"all {len(report)} report rows of {member.task.name} are in the training rows of the study's sources: "
                "no honest figure is possible; give other rows, or leave that source out"
            )
        overlap += len(report) - len(rows)
        opened.append(replace(member, splits=Splits(member.splits.train, member.splits.selection, rows)))
    return _Bench(members, opened, overlap, backbone)


def _measured(bench: _Bench, cell: Cell, run: Run, prompt: SoftPrompt, result: RunResult) -> dict[str, Any]:
    """What a tuned prompt is worth, and what its start or the bare model was."""
    if result.diverged:
        return {"reason": result.diverged}
    found = _scored(bench, run, torch.tensor(prompt.value), result)
    if cell.kind == "plain":
        found["frozen"] = bench.score(run, torch.zeros(0, bench.backbone.id.width))
    if cell.kind == "pair":
        found["as_is"] = bench.score(run, run.start)
    if prompt.key is not None:
        found["embedding"] = recorded_summaries(prompt)
    return found


def _scored(bench: _Bench, run: Run, value: Tensor, result: RunResult) -> dict[str, Any]:
    """Scores on the report rows; where there are none, those that chose the checkpoint."""
    if not bench.opened:
        return {"scores": result.selection, "score": result.best_score}
    found = _answers(bench, run, value)
    only = bench.opened[0]
    scores = named_scores(run, [member.task.name for member in bench.opened], found)
    bounds = interval(found, only.task, only.splits.report) if len(run.members) == 1 else None
    return {"scores": scores, "score": _mean(found), "interval": bounds}


def _answers(bench: _Bench, run: Run, value: Tensor) -> list[Evaluation]:
    """What a prompt [P, D] does on the report rows of each member."""
    value = value.to(bench.backbone.device)
    parts = [(member, collator_of(run, member, bench.backbone)) for member in bench.opened]
    return [evaluate(bench.backbone, value, member.task, collator, member.splits.report) for member, collator in parts]


def _mean(found: Sequence[Evaluation]) -> float:
    """The score over the members, percent."""
    return float(np.mean([one.primary for one in found]))


def _record(bench: _Bench, cell: Cell, result: RunResult, before: RunResult | None, found: dict[str, Any]) -> Record:
    """The record of a cell that was tuned."""
    report = [row for member in bench.opened for row in member.splits.report]
    select = [row for member in bench.members for row in member.splits.selection]
    rows = {
        "train": sum(len(member.splits.train) for member in bench.members),
        "select": len(select),
        "report": len(report),
        "overlap": bench.overlap,
    }
    config = {**cell.settings.model_dump(mode="json"), "backbone_parameters": bench.backbone.parameters}
    return record_of(
        cell,
        curve=result.curve,
        steps=result.steps,
        tokens=result.tokens + (before.tokens if before else 0),
        seconds=result.seconds + (before.seconds if before else 0.0),
        rows=rows,
        data=data_digest(report or select),
        config=config,
        **found,
    )


def _mixtures(backbone: Backbone, item: Work) -> tuple[list[SoftPrompt], tuple[RunResult, ...]]:
    """The last checkpoints of runs on the target and its nearest tasks together, and their results (section 3.3)."""
    runs = []
    for at, cell in enumerate(item.gang.cells):
        members = _mixed(cell, item.mixed[at], _data(item))
        name = f"mixture of {' + '.join(member.task.name for member in members)}"
        runs.append(replace(prepare_members(cell.before, members, backbone, name=name), keep="last"))
    return _tuned(runs, backbone, runs_folder() / f"{item.gang.digest}-before")


def _mixed(cell: Cell, references: Sequence[str], data: Path | None) -> tuple[Member, ...]:
    """The target and the tasks that are mixed with it, each once, in proportion to their train rows."""
    config, target = cell.before, cell.config
    parts: dict[str, tuple[Task, Splits]] = {}
    for reference in (target.task, *references):
        limits = target if reference == target.task else config
        task = registry.get(reference, data, limits.task_prefix)
        if task.name not in parts:
            rows = split_rows(task, limits.train_rows, limits.select_rows, 0, limits.rows_seed)
            parts[task.name] = task, rows
    return mixed(list(parts.values()), config)


def _data(item: Work) -> Path | None:
    """Where the known data sets are."""
    return None if item.data is None else Path(item.data)


def _of(values: Sequence[Any], at: int) -> Any:
    """What a gang's cell has of something that not all gangs have."""
    return values[at] if values else ()
