"""Gather what a page shows of studies and of transfers, finished or at work, from the files that they leave."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from spot.errors import PromptError, SpotError, StorageError, StudyError
from spot.library.library import Library
from spot.prompts.prompt import header
from spot.storage.files import cache_dir
from spot.storage.opening import cannot_read, exists, is_folder
from spot.storage.run_dir import RunDir
from spot.study.analysis.findings import Findings, analyse
from spot.study.cells import finished, read_plan
from spot.study.records import CELLS, Record, read_records
from spot.study.report.sentences import verdict
from spot.study.status import KindStatus, RunningGang, study_status
from spot.training.result import RunResult, read_results

MOST_TRANSFERS = 20  # of those in the cache, the latest
MOST_POINTS = 60  # of a learning curve, beyond which a line looks the same
GANGS = ("plain", "spot", "race", "mixture")  # how the folders of a transfer's runs begin
QUIET = 120.0  # seconds after its last sign that a run without a result no longer counts as going on
STRATEGIES = ("best", "average", "mixture", "race", "oracle", "none")
KS = (1, 3)

Points = tuple[tuple[int, float], ...]  # (step, percent), steps ascending


@dataclass(frozen=True)
class CurveView:
    """The mean over seeds of the selection scores of one way to begin."""

    label: str
    points: Points


@dataclass(frozen=True, eq=False, kw_only=True)
class StudyView:
    """What a page shows of a study.

    Attributes:
        name: of the study.
        verdict: in a sentence; why there is none where no cell is finished.
        findings: None where no cell is finished.
        curves: target -> learning curves, plain tuning first.
        kinds: how many cells there are by kind; empty where only the records are known.
        running: gangs at work on this machine.
    """

    name: str
    verdict: str
    findings: Findings | None
    curves: Mapping[str, tuple[CurveView, ...]]
    kinds: Mapping[str, KindStatus]
    running: tuple[RunningGang, ...]


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One gang of a transfer: the seeds of one start.

    Attributes:
        name: of its folder.
        label: what it starts from.
        step, steps: the last that was evaluated; in all, 0 where its settings do not say.
        state: `finished`, `running`, `stopped` or `diverged`.
        seeds: runs of it.
        best: mean of the best selection scores, percent.
        report: mean of the scores on report rows; None where none is known.
        seconds: of training, mean over the seeds.
        curve: mean over the seeds.
    """

    name: str
    label: str
    step: int
    steps: int
    state: str
    seeds: int
    best: float | None
    report: float | None
    seconds: float
    curve: Points


@dataclass(frozen=True, kw_only=True)
class TransferView:
    """What a page shows of the folder of a transfer.

    Attributes:
        name: of the folder.
        target: name of the task; empty where no run says it.
        runs: by name, plain tuning first.
        problems: folders that hold no run that can be read, in words.
    """

    name: str
    target: str
    runs: tuple[RunView, ...]
    problems: tuple[str, ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether a run of it goes on."""
        return any(run.state == "running" for run in self.runs)


def view_study(path: Path) -> StudyView:
    """Gather what a page shows of a study.

    Args:
        path: its TOML file; or the folder of its records, beside which a file of its name is looked for.

    Raises:
        StudyError, ConfigError: there is no study, or a record cannot be used.
    """
    place, config = _study_files(path)
    if config is None:
        records, status, name = read_records(place / CELLS), None, place.name
        strategies, ks, metric = STRATEGIES, KS, "mean"
        if not records:
            raise StudyError(
                f"{path} holds no study: expected its TOML file, or a folder with the records of its cells in "
                f"`{CELLS}`. Name one of these."
            )
    else:
        plan = read_plan(config)
        records, status, name = list(finished(plan).values()), study_status(plan), plan.study.config.name
        settings = plan.study.config
        strategies, ks, metric = settings.strategies, settings.k, settings.metric
    try:
        findings = _analysed(_Records(tuple(records)), strategies, ks, metric)
        sentence = verdict(findings)
    except StudyError as error:
        findings, sentence = None, str(error)
    return StudyView(
        name=name,
        verdict=sentence,
        findings=findings,
        curves=study_curves(records),
        kinds={} if status is None else status.kinds,
        running=() if status is None else status.running,
    )


def _study_files(path: Path) -> tuple[Path, Path | None]:
    """The folder of a study's records and its file, if there is one.

    Raises:
        StudyError: the path leads to nothing.
    """
    if not exists(path):
        raise StudyError(f"there is no study at {path}: expected its TOML file or its folder. Check the path.")
    if not is_folder(path):
        return path.parent, path
    beside = path.with_name(f"{path.name}.toml")
    inside = path / "study.toml"
    return path, next((file for file in (inside, beside) if exists(file)), None)


@dataclass(frozen=True, eq=False)
class _Records:
    """Records that are compared by their digests: a record never changes under one digest."""

    records: tuple[Record, ...]

    def __hash__(self) -> int:
        """Of the digests."""
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        """Whether they are the same records."""
        return isinstance(other, _Records) and self._key == other._key

    @property
    def _key(self) -> tuple[tuple[str, str], ...]:
        return tuple((record.digest, repr(record.score)) for record in self.records)


@lru_cache(maxsize=8)
def _analysed(records: _Records, strategies: Sequence[str], ks: Sequence[int], metric: str) -> Findings:
    """The findings of records; a page that looks again while nothing new is there does not work them out anew."""
    return analyse(records.records, strategies, ks, metric)


def study_curves(records: Sequence[Record]) -> dict[str, tuple[CurveView, ...]]:
    """Target -> the learning curves of plain tuning from each start and of each source, means over the seeds."""
    gathered: dict[str, dict[str, list[Points]]] = {}
    for record in sorted(records, key=lambda record: (record.kind != "plain", record.digest)):
        if record.kind == "plain" and not record.init_seed:
            label = f"plain tuning, {record.start}"
        elif record.kind == "pair":
            label = f"from {record.sources[0]}"
        else:
            continue
        points = tuple((point.step, point.score) for point in record.curve)
        if points:
            gathered.setdefault(record.task, {}).setdefault(label, []).append(points)
    return {
        target: tuple(CurveView(label, mean_curve(curves)) for label, curves in by_label.items())
        for target, by_label in sorted(gathered.items())
    }


def mean_curve(curves: Sequence[Points]) -> Points:
    """The mean at the steps that all curves have, thinned out where they are many; the ends stay."""
    shared = set.intersection(*[{step for step, _ in curve} for curve in curves]) if curves else set()
    steps = sorted(shared)
    if len(steps) > MOST_POINTS:
        steps = [steps[at] for at in np.unique(np.linspace(0, len(steps) - 1, MOST_POINTS).round().astype(int))]
    scores = [dict(curve) for curve in curves]
    return tuple((step, float(np.mean([by_step[step] for by_step in scores]))) for step in steps)


def transfer_folders() -> list[Path]:
    """The folders of transfers in the user's cache, the latest first."""
    parent = cache_dir() / "transfers"
    try:
        folders = [folder for folder in parent.iterdir() if folder.is_dir() and not folder.is_symlink()]
        return sorted(folders, key=lambda folder: -folder.stat().st_mtime)[:MOST_TRANSFERS]
    except OSError:
        return []


def view_transfer(folder: Path, library: Library | None = None) -> TransferView:
    """Gather what a page shows of a transfer, from the logs and results of its runs.

    Args:
        folder: of the transfer.
        library: which knows the tasks of the sources.

    Raises:
        StorageError: there is no such folder.
    """
    if not is_folder(folder):
        raise StorageError(
            f"there is no folder {folder}: expected that of a transfer, as `spot transfer --out` names it. Check the "
            "path."
        )
    tasks = {} if library is None else {entry.digest: entry.task for entry in library.entries()}
    runs, problems, targets = [], [], []
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith(GANGS))
    except OSError as error:
        raise StorageError(cannot_read(folder, error)) from error
    for name in names:
        if not exists(folder / name / "config.toml"):
            continue
        try:
            run, target = _run(folder, name, tasks)
            runs.append(run)
            targets.append(target)
        except SpotError as error:
            problems.append(str(error))
    return TransferView(
        name=folder.name, target=next(filter(None, targets), ""), runs=tuple(runs), problems=tuple(problems)
    )


def _run(folder: Path, name: str, tasks: Mapping[str, str]) -> tuple[RunView, str]:
    """One gang of a transfer, and the name of its task.

    Raises:
        RunError: its log or its result is damaged.
    """
    place = RunDir(folder / name)
    curves: dict[object, list[tuple[int, float]]] = {}
    target = ""
    seconds: dict[object, float] = {}
    for line in place.read_log():
        step, score = line.get("step"), line.get("score")
        if isinstance(step, int) and isinstance(score, int | float) and not isinstance(score, bool):
            curves.setdefault(line.get("seed"), []).append((step, float(score)))
            spent = line.get("seconds")
            seconds[line.get("seed")] = float(spent) if isinstance(spent, int | float) else 0.0
            target = str(line.get("task", target))
    results = read_results(place)
    points = mean_curve([tuple(curve) for curve in curves.values()])
    step = max((step for step, _ in points), default=0)
    view = RunView(
        name=name,
        label=_label(folder / name, name, tasks),
        step=max((result.steps for result in results), default=step) if results else step,
        steps=max((result.steps for result in results), default=0) if results else 0,
        state=_state(folder / name, results),
        seeds=len(results) if results else len(curves),
        best=float(np.mean([max(score for _, score in curve) for curve in curves.values()])) if curves else None,
        report=_report_score(results),
        seconds=float(np.mean(list(seconds.values()))) if seconds else 0.0,
        curve=points,
    )
    return view, target


def _report_score(results: Sequence[RunResult] | None) -> float | None:
    """The mean of the scores on report rows, where such rows were scored."""
    scores = [np.mean(list(result.scores.values())) for result in results or () if result.reported and result.scores]
    return float(np.mean(scores)) if scores else None


def _state(folder: Path, results: Sequence[RunResult] | None) -> str:
    """Whether a run is finished, goes on, or ended otherwise."""
    if results:
        return "diverged" if all(result.diverged for result in results) else "finished"
    try:
        idle = time.time() - (folder / "log.jsonl").stat().st_mtime
    except OSError:
        return "stopped"
    return "running" if idle < QUIET else "stopped"


def _label(folder: Path, name: str, tasks: Mapping[str, str]) -> str:
    """What a gang starts from: by the prompt that it wrote, else by the name of its folder."""
    kind, _, rest = name.partition("-")
    if kind == "plain":
        return f"plain tuning, {rest} start"
    if kind == "race":
        return "race of the candidates"
    try:
        parents = header(folder / "prompt-0.safetensors", folder)["parents"] or ()
    except PromptError:
        parents = ()
    names = [tasks.get(parent["digest"], parent["digest"]) for parent in parents]
    if names:
        return f"from {' + '.join(names)}"
    return f"candidate {rest.partition('-')[0]}" if kind == "spot" else name
