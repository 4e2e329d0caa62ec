"""Tune one gang of a study's cells and measure it: plain values come in and go out.

A gang goes on from the checkpoint of its run's folder, in the cache of the machine that it ran on.
"""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from spot.baselines.arms import Fitted, Terms, Unsuitable
from spot.baselines.door import fit_baseline
from spot.config import INSTEAD, TuneConfig
from spot.errors import RunError, SpotError, StorageError, TaskError
from spot.evaluation.scoring import LIKELIHOOD, Evaluation, evaluate_rows, interval
from spot.models.backbone import Backbone
from spot.prompts.overlap import Sketch, seen_by_any
from spot.prompts.prompt import from_bytes, to_bytes
from spot.retrieval.embeddings import recorded_summaries
from spot.study.answers import RowAnswers, row_answers
from spot.study.cells import Cell, Done, Work, record_of
from spot.study.config import ARM_SETTINGS, StudyConfig
from spot.study.records import Record, runs_folder
from spot.tasks import registry
from spot.tasks.splits import Splits, split_rows
from spot.tasks.task import Task, data_digest
from spot.training.loop import Diverged, named_scores
from spot.training.model_tuning import tune_model_run
from spot.training.result import CurvePoint, RunResult
from spot.training.run import Member, Run, members_of, mixed, prepare_run, prepare_run_from
from spot.training.tuning import TunedPrompt, tune_runs

NO_ARM = {name: StudyConfig.model_fields[name].default for names in ARM_SETTINGS.values() for name in names}

Tuned = TypeVar("Tuned")
Value = TypeVar("Value")


def load(
    backbone: str, gradient_checkpointing: bool = False, quantise: str | None = None, precision: str | None = None
) -> Backbone:
    """What a worker holds: the frozen model of the study."""
    return Backbone.load(backbone, gradient_checkpointing=gradient_checkpointing, quantise=quantise, dtype=precision)


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
        if item.gang.cells[0].kind in INSTEAD:
            return _work_on_arms(backbone, item)
        if item.gang.cells[0].kind == "model":
            return _work_on_model(backbone, item)
        return _work_on_prompts(backbone, item)
    except Diverged as error:
        pairs = zip(item.gang.cells, error.results, strict=True)
        records = tuple(record_of(cell, reason=result.diverged) for cell, result in pairs)
        return Done(records, (b"",) * len(records))
    except StorageError:
        raise
    except SpotError as error:
        return Done(reason=str(error))


def _work_on_prompts(backbone: Backbone, item: Work) -> Done:
    """Tune the prompts of a gang, then open its report rows."""
    cells = item.gang.cells
    draws = {cell.config.rows_seed: cell for cell in reversed(cells)}  # each by the first of its cells
    members = {draw: members_of(cell.config, _data(item)) for draw, cell in draws.items()}
    mixtures = _tune_mixtures(backbone, item) if cells[0].kind == "mixture" else []
    runs: list[Run] = []
    for at, cell in enumerate(cells):
        parts, name = members[cell.config.rows_seed]
        unreported = tuple(part.unreported for part in parts)
        if mixtures:
            runs.append(prepare_run_from(cell.config, unreported, backbone, (mixtures[at].prompt,)))
        elif item.starts:
            sources = [from_bytes(content) for content in item.starts[at]]
            runs.append(prepare_run_from(cell.config, unreported, backbone, sources, _of(item.weights, at)))
        else:  # seeds of one draw share their start, which is then evaluated once
            twin = next((run for run in runs if run.config.rows_seed == cell.config.rows_seed), None)
            run = twin or prepare_run(cell.config, unreported, backbone, name=name)
            runs.append(replace(run, config=cell.config))
    tuned = _tune_gang(runs, backbone, runs_folder() / item.gang.digest)
    evaluators = {
        draw: _open_report(members[draw][0], _of(item.sketches, cells.index(cell)), backbone)
        for draw, cell in draws.items()
    }
    records: list[Record] = []
    prompts: list[bytes] = []
    for at, (cell, run, entry) in enumerate(zip(cells, runs, tuned, strict=True)):
        evaluator = evaluators[cell.config.rows_seed]
        mixture = mixtures[at].result if mixtures else None
        reason = (mixture.diverged if mixture else None) or entry.result.diverged
        measured = _Measured(reason=reason) if reason else _measured(evaluator, cell, run, entry)
        record = _record(evaluator, cell, entry.result, mixture, measured, run.start.numel())
        records.append(replace(record, sources=_of(item.sources, at) or cell.sources, weights=_of(item.weights, at)))
        prompts.append(b"" if reason else to_bytes(entry.prompt))
    return Done(tuple(records), tuple(prompts))


def _work_on_model(backbone: Backbone, item: Work) -> Done:
    """Tune a whole model (SPoT appendix C), after a mixture where one is given; it is thrown away when measured."""
    [cell] = item.gang.cells
    mixture: RunResult | None = None
    begin = backbone
    if cell.before is not None:
        parts, name = members_of(cell.before, _data(item))
        first = prepare_run(cell.before, [part.unreported for part in parts], backbone, name=name)
        before = tune_model_run(first, backbone, runs_folder() / first.digest)
        mixture, begin = before.result, load(str(before.path), cell.config.gradient_checkpointing)
    members, _ = members_of(cell.config, _data(item))
    run = prepare_run(cell.config, [member.unreported for member in members], begin)
    folder = runs_folder() / item.gang.digest
    tuned = _fresh(folder, lambda: tune_model_run(run, begin, folder))
    evaluator = _open_report(members, _of(item.sketches, 0), load(str(tuned.path)))
    measured = _scored(evaluator, cell, run, run.start, tuned.result)
    record = _record(evaluator, cell, tuned.result, mixture, measured, backbone.parameters)
    shutil.rmtree(folder, ignore_errors=True)
    return Done((record,), (b"",))


def _work_on_arms(backbone: Backbone, item: Work) -> Done:
    """Let what one would pick instead of a prompt learn on the rows of each cell, then open its report rows."""
    records = []
    for at, cell in enumerate(item.gang.cells):
        [member], _ = members_of(cell.config, _data(item))
        terms = Terms(
            task=member.task,
            train=member.splits.train,
            selection=member.splits.selection,
            backbone=backbone,
            config=cell.config,
            out=runs_folder() / cell.digest,
            **{**NO_ARM, **dict(cell.arm)},
        )
        try:
            fitted = fit_baseline(cell.kind, terms)
        except Unsuitable as error:
            records.append(record_of(cell, reason=str(error)))
            continue
        evaluator = _open_report([member], _of(item.sketches, at), backbone)
        records.append(_record_of_arm(evaluator, cell, fitted))
    return Done(tuple(records), (b"",) * len(records))


def _tune_gang(runs: Sequence[Run], backbone: Backbone, folder: Path) -> list[TunedPrompt]:
    """Tune a gang, or go on with it."""
    tuned = _fresh(folder, lambda: tune_runs(runs, backbone, folder))
    (folder / "checkpoint").unlink(missing_ok=True)
    return tuned


def _fresh(folder: Path, tuning: Callable[[], Tuned]) -> Tuned:
    """Tune in a folder of the cache, and anew where what it holds is damaged or came from other rows."""
    try:
        return tuning()
    except Diverged:
        raise
    except RunError:
        shutil.rmtree(folder)
        return tuning()


@dataclass(frozen=True)
class _Evaluator:
    """What the cells of a gang are measured on.

    Attributes:
        members: with all their rows.
        opened: those that have report rows, without the ones that a source has seen.
        overlap: how many these are.
        backbone: that answers.
        scores: of starts and of the bare model that have been measured, by the bytes of the prompt.
    """

    members: Sequence[Member]
    opened: Sequence[Member]
    overlap: int
    backbone: Backbone
    scores: dict[bytes, float] = field(default_factory=dict)

    def score_untuned(self, run: Run, prompt: Tensor) -> float | None:
        """The score of a prompt [P, D] that was not tuned, measured once; None without report rows."""
        content = prompt.numpy().tobytes()
        if self.opened and content not in self.scores:
            self.scores[content] = _mean_score(self.evaluate(run, prompt))
        return self.scores.get(content)

    def evaluate(self, run: Run, prompt: Tensor) -> list[Evaluation]:
        """What a prompt [P, D] does on the report rows of each member."""
        prompt = prompt.to(self.backbone.device)
        return [
            evaluate_rows(
                self.backbone, prompt, member.task, run.collator_of(member, self.backbone), member.splits.report
            )
            for member in self.opened
        ]


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What a cell came to; fields as in `Record`."""

    scores: Mapping[str, float] = field(default_factory=dict)
    score: float = math.nan
    interval: tuple[float, float] | None = None
    answers: RowAnswers | None = None
    frozen: float | None = None
    as_is: float | None = None
    embedding: Mapping[str, np.ndarray] = field(default_factory=dict)
    reason: str = ""


def _open_report(members: Sequence[Member], sketches: Sequence[Sketch], backbone: Backbone) -> _Evaluator:
    """Open the report rows, and leave out those that a source was trained on."""
    opened, overlap = [], 0
    for member in members:
        report = member.splits.report
        if not report:
            continue
        seen = seen_by_any(sketches, [row.texts for row in report])
        unseen = tuple(row for row, is_seen in zip(report, seen, strict=True) if not is_seen)
        if not unseen:
            raise TaskError(
                f"all {len(report)} report rows of {member.task.name} are in the training rows of the study's sources: "
                "no honest figure is possible; give other rows, or leave that source out"
            )
        overlap += len(report) - len(unseen)
        opened.append(replace(member, splits=replace(member.splits, report=unseen)))
    return _Evaluator(members, opened, overlap, backbone)


def _measured(evaluator: _Evaluator, cell: Cell, run: Run, tuned: TunedPrompt) -> _Measured:
    """What a tuned prompt is worth, and what its start or the bare model was."""
    prompt = tuned.prompt
    measured = _scored(evaluator, cell, run, torch.tensor(prompt.value), tuned.result)
    nothing = torch.zeros(0, evaluator.backbone.id.width)
    return replace(
        measured,
        frozen=evaluator.score_untuned(run, nothing) if cell.kind == "plain" else None,
        as_is=evaluator.score_untuned(run, run.start) if cell.kind == "pair" else None,
        embedding=recorded_summaries(prompt) if prompt.key is not None else {},
    )


def _scored(evaluator: _Evaluator, cell: Cell, run: Run, prompt: Tensor, result: RunResult) -> _Measured:
    """Scores on the report rows; where there are none, those that chose the checkpoint."""
    if not evaluator.opened:
        return _Measured(scores=result.selection, score=result.best_score)
    return _measured_on(evaluator, cell, evaluator.evaluate(run, prompt))


def _measured_on(evaluator: _Evaluator, cell: Cell, evaluations: Sequence[Evaluation]) -> _Measured:
    """What evaluations on the report rows of each member come to."""
    first, is_mixture = evaluator.opened[0], len(evaluator.members) > 1
    is_told = not is_mixture and cell.kind != "source" and first.task.metrics != (LIKELIHOOD,)
    given = [prediction.text if prediction.is_answered else None for prediction in evaluations[0].predictions]
    return _Measured(
        scores=named_scores([member.task for member in evaluator.opened], evaluations, is_mixture),
        score=_mean_score(evaluations),
        interval=None if is_mixture else interval(evaluations, first.task, first.splits.report),
        answers=row_answers(first.splits.report, given, first.task.labels) if is_told else None,
    )


def _record_of_arm(evaluator: _Evaluator, cell: Cell, fitted: Fitted) -> Record:
    """The record of what one would pick instead of a prompt."""
    [member] = evaluator.members
    learned = fitted.learned
    result = RunResult(
        task=member.task.name,
        digest=cell.digest,
        scores={},
        step=0,
        steps=learned.steps,
        tokens=learned.tokens,
        seconds=learned.seconds,
        selection={"score": learned.selection},
        curve=(CurvePoint(0, learned.selection),),
    )
    if not evaluator.opened:
        return _record(evaluator, cell, result, None, _Measured(score=learned.selection), learned.parameters)
    rows = evaluator.opened[0].splits.report
    measured = _measured_on(evaluator, cell, [fitted.on(rows).evaluation(member.task, rows)])
    record = _record(evaluator, cell, result, None, measured, learned.parameters)
    chosen = {"chosen": dict(learned.setting), "shipped_bytes": learned.shipped}
    return replace(record, config={**record.config, **chosen})


def _mean_score(evaluations: Sequence[Evaluation]) -> float:
    """The score over the members, percent."""
    return float(np.mean([evaluation.primary for evaluation in evaluations]))


def _record(
    evaluator: _Evaluator,
    cell: Cell,
    result: RunResult,
    mixture: RunResult | None,
    measured: _Measured,
    parameters: int,
) -> Record:
    """The record of a cell that was tuned.

    Args:
        evaluator: what it was measured on.
        cell: that was tuned.
        result: of its run.
        mixture: of the run before, where there was one.
        measured: what it came to.
        parameters: that were trained, and are kept for the task.
    """
    report = [row for member in evaluator.opened for row in member.splits.report]
    selection = [row for member in evaluator.members for row in member.splits.selection]
    rows = {
        "train": sum(len(member.splits.train) for member in evaluator.members),
        "select": len(selection),
        "report": len(report),
        "overlap": evaluator.overlap,
    }
    config = {**cell.settings.model_dump(mode="json"), "backbone_parameters": evaluator.backbone.parameters}
    return record_of(
        cell,
        scores=measured.scores,
        score=measured.score,
        interval=measured.interval,
        answers=measured.answers,
        frozen=measured.frozen,
        as_is=measured.as_is,
        embedding=measured.embedding,
        reason=measured.reason,
        curve=result.curve,
        steps=result.steps,
        tokens=result.tokens + (mixture.tokens if mixture else 0),
        seconds=result.seconds + (mixture.seconds if mixture else 0.0),
        rows=rows,
        data=data_digest(report or selection),
        tuned=parameters,
        shipped=parameters,
        config=config,
    )


def _tune_mixtures(backbone: Backbone, item: Work) -> list[TunedPrompt]:
    """The last checkpoints of runs on the target and its nearest tasks together (section 3.3), one a cell."""
    runs = []
    for cell, references in zip(item.gang.cells, item.mixed, strict=True):
        assert cell.before is not None, "a mixture's cell says how its own run is tuned"
        members = _mixture_members(cell.config, cell.before, references, _data(item))
        name = f"mixture of {' + '.join(member.task.name for member in members)}"
        runs.append(replace(prepare_run(cell.before, members, backbone, name=name), keep="last"))
    return _tune_gang(runs, backbone, runs_folder() / f"{item.gang.digest}-before")


def _mixture_members(
    target: TuneConfig, config: TuneConfig, references: Sequence[str], data: Path | None
) -> tuple[Member, ...]:
    """The target and the tasks that are mixed with it, each once, in proportion to their train rows.

    Args:
        target: settings of the target's own run.
        config: settings of the mixture's run, which say what rows its other tasks have.
        references: of these tasks.
        data: where the known data sets are.
    """
    parts: dict[str, tuple[Task, Splits]] = {}
    for reference in (target.task, *references):
        limits = target if reference == target.task else config
        task = registry.get(reference, data, limits.task_prefix)
        if task.name not in parts:
            splits = split_rows(task, limits.train_rows, limits.select_rows, 0, limits.rows_seed)
            parts[task.name] = task, splits
    return mixed(list(parts.values()), config)


def _data(item: Work) -> Path | None:
    """Where the known data sets are."""
    return None if item.data is None else Path(item.data)


def _of(values: Sequence[tuple[Value, ...]], at: int) -> tuple[Value, ...]:
    """What a gang's cell has of something that not all gangs have."""
    return values[at] if values else ()
