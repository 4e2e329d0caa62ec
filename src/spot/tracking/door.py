"""Follow the runs that train inside a `with` in TensorBoard, W&B, MLflow or trackio: `track`.

The training loop logs every evaluation as a value (`spot.training.news`). This listens to the log, so that nothing in
the loop knows of it.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spot.errors import ConfigError, StorageError
from spot.storage.files import cache_dir
from spot.strategies.report import TransferReport
from spot.tracking.trackers import PROGRAMS, Value, check_programs, close_tracker, open_tracker, write
from spot.training.news import Evaluated
from spot.training.optimisers import share_at

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

log = logging.getLogger(__name__)

LONGEST = 60  # characters of a part of a run's name, for names are folders
_FORBIDDEN = re.compile(r"[^\w.-]+")
_FORBIDDEN_METRIC = re.compile(r"[^\w./ -]+")  # what MLflow does not take in the name of a metric


@dataclass
class _Tracked:
    """One run: its tracker by program, and the last step that was told."""

    trackers: dict[str, "GeneralTracker"]
    step: int = 0


class Tracking(logging.Handler):
    """Hands what the training loop logs to the programs that show it; `track` makes one.

    Args:
        programs: their names -> the folder that TensorBoard writes to.
    """

    def __init__(self, programs: Mapping[str, Path]) -> None:
        """Nothing is opened before the first run tells something."""
        super().__init__(logging.INFO)
        self._programs = dict(programs)
        self._runs: dict[str, _Tracked] = {}  # by digest, those that are open
        self._proven: set[str] = set()  # programs that have taken a value

    @property
    def places(self) -> tuple[str, ...]:
        """Where to look at what was tracked, in words; empty where nothing was."""
        taken = ((name, folder) for name, folder in self._programs.items() if name in self._proven)
        return tuple(f"{name}: {PROGRAMS[name].place.format(folder=folder)}" for name, folder in taken)

    def emit(self, record: logging.LogRecord) -> None:
        """Take one evaluation of a run.

        Raises:
            StorageError: a program takes nothing from the first value on.
        """
        event = record.msg
        if not isinstance(event, Evaluated):
            return
        if event.run not in self._runs:
            self._close_before(event.point.step)
            self._runs[event.run] = self._opened(run_name(event), settings_of(event))
        tracked = self._runs[event.run]
        tracked.step = event.point.step
        self._write(tracked, metrics_of(event), event.point.step)

    def arms(self, report: TransferReport) -> None:
        """Track what a transfer came to: a run with the scores and costs of its arms, and its verdict as a setting.

        Raises:
            StorageError: a program takes nothing from the first value on.
        """
        settings: dict[str, Value] = {
            "target": report.target,
            "strategy": report.strategy,
            "chosen": report.chosen,
            "verdict": report.verdict,
            "advice": report.advice,
        }
        tracked = self._opened(f"{_name(report.target)}-transfer", settings)
        self._write(tracked, arm_metrics(report), 0)
        table = arm_table(report)
        for name, tracker in tracked.trackers.items():
            if name == "tensorboard":
                with self._minding(name):
                    write(tracker, {"arms": table}, 0)
        self._close(tracked)

    def close(self) -> None:
        """End every tracked run."""
        for tracked in reversed(self._runs.values()):
            self._close(tracked)
        self._runs.clear()
        super().close()

    def _close_before(self, step: int) -> None:
        """End the runs that have gone beyond a step where a further run only begins: gangs come one after another."""
        for run, tracked in list(self._runs.items()):
            if tracked.step > step:
                self._close(self._runs.pop(run))

    def _opened(self, run: str, settings: Mapping[str, Value]) -> _Tracked:
        trackers: dict[str, GeneralTracker] = {}
        for name, folder in list(self._programs.items()):
            with self._minding(name):
                trackers[name] = open_tracker(name, run, settings, folder)
        return _Tracked(trackers)

    def _write(self, tracked: _Tracked, values: Mapping[str, Value], step: int) -> None:
        for name, tracker in tracked.trackers.items():
            if name in self._programs:
                with self._minding(name):
                    write(tracker, values, step)
                    self._proven.add(name)

    def _close(self, tracked: _Tracked) -> None:
        for name, tracker in tracked.trackers.items():
            with self._minding(name):
                close_tracker(tracker)

    @contextmanager
    def _minding(self, name: str) -> Iterator[None]:
        """Let a program that fails stop a run only where it has taken nothing so far.

        Raises:
            StorageError: it failed at its first value, which is before the first step of training.
        """
        try:
            yield
        except Exception as error:  # of programs that may raise anything, and may lose their network at any moment
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            if name not in self._proven:
                raise StorageError(
                    f"{name} cannot track this run ({reason}): expected a program that takes its first value. Mend "
                    "that, or leave the tracker out."
                ) from error
            if self._programs.pop(name, None) is not None:
                log.warning("%s tracks nothing more (%s); training goes on without it", name, reason)


@contextmanager
def track(*trackers: str) -> Iterator[Tracking]:
    """Track the runs that train inside the `with`: each evaluation of each run, by step.

    A tracked run is named by task, start, seed and the first digits of its digest, and has all settings of its run.
    Its values are `selection/score` (percent), `selection/nats`, `train/loss` (nats a row, mean since the evaluation
    before), `train/learning_rate`, `train/tokens` (text tokens so far) and `train/seconds` (of training so far). No
    text of a row is among them.

    Args:
        trackers: `mlflow`, `tensorboard`, `trackio`, `wandb`, or several with commas between. Each writes where its own
            settings say; TensorBoard where `tensorboard:DIR` says, else to `tracking` in the user's cache.

    Yields:
        What tracks; its `arms` takes the report of a transfer.

    Raises:
        ConfigError: a tracker is unknown, or a folder is given to another than TensorBoard.
        MissingExtra: its package is not installed.
        StorageError: a tracker takes nothing from the first value on. One that fails later is left out with a warning.
    """
    programs = read_programs(trackers)
    check_programs(programs)
    tracking = Tracking(programs)
    logger = logging.getLogger("spot.training")
    before = logger.level
    if programs:
        logger.addHandler(tracking)
        logger.setLevel(logging.INFO)
    try:
        yield tracking
    finally:
        logger.removeHandler(tracking)
        logger.setLevel(before)
        tracking.close()


def read_programs(trackers: Sequence[str]) -> dict[str, Path]:
    """The programs that the arguments of `track` name -> the folder that TensorBoard writes to.

    Raises:
        ConfigError: a folder is given to another than TensorBoard.
    """
    programs: dict[str, Path] = {}
    for word in filter(None, (part.strip() for names in trackers for part in names.split(","))):
        name, _, folder = word.partition(":")
        if folder and name != "tensorboard":
            raise ConfigError(
                f"the tracker {word!r} names a folder, which only tensorboard takes, as in tensorboard:logs; {name} "
                "writes where its own settings say"
            )
        programs[name] = Path(folder).expanduser() if folder else cache_dir() / "tracking"
    return programs


def run_name(event: Evaluated) -> str:
    """The name of a tracked run: task, start, seed, and the first digits of its digest."""
    return f"{_name(event.title)}-{_name(event.start)}-seed{event.seed}-{event.run[:8]}"


def settings_of(event: Evaluated) -> dict[str, Value]:
    """The settings of a run, and what it started from, as values that every program takes."""
    settings = {**event.config.model_dump(mode="json"), "digest": event.run, "parents": list(event.parents) or None}
    return {key: _plain(value) for key, value in settings.items() if value is not None}


def metrics_of(event: Evaluated) -> dict[str, float]:
    """What is tracked of one evaluation."""
    config, point = event.config, event.point
    share = share_at(
        max(1, point.step),
        warmup_steps=config.warmup_steps,
        decay=config.decay,
        decay_steps=config.decay_steps or config.steps,
    )
    values = {
        "selection/score": point.score,
        "selection/nats": point.nats,
        "train/loss": event.loss,
        "train/learning_rate": event.learning_rate * share,
        "train/tokens": point.tokens,
        "train/seconds": point.seconds,
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def arm_metrics(report: TransferReport) -> dict[str, float]:
    """What is tracked of the arms of a transfer."""
    values: dict[str, float] = {}
    for arm in report.arms:
        name = _FORBIDDEN_METRIC.sub("-", arm.arm)
        values |= {
            f"score/{name}": arm.score,
            f"score_low/{name}": arm.interval[0],
            f"score_high/{name}": arm.interval[1],
            f"selection/{name}": arm.selection,
            f"steps/{name}": arm.steps,
            f"seconds/{name}": arm.seconds,
            f"cost/{name}": arm.relative_cost,
            f"parameters/{name}": arm.parameters,
        }
    return {name: float(value) for name, value in values.items() if value == value}  # what is no number stays out


def arm_table(report: TransferReport) -> str:
    """The arms of a transfer as a table in Markdown."""
    columns = ("arm", "source", "selection", "score", "95 % interval", "steps", "cost")
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for arm in report.arms:
        name = arm.arm.replace("|", "\\|")
        lines.append(
            f"| {name} | {arm.source or '-'} | {arm.selection:.1f} | {arm.score:.1f} | {arm.interval[0]:.1f} to "
            f"{arm.interval[1]:.1f} | {arm.steps} | {arm.relative_cost:.2f}x |"
        )
    return "\n".join([*lines, "", report.verdict])


def _name(part: str) -> str:
    """A part of a run's name, which must do as the name of a folder."""
    return _FORBIDDEN.sub("-", part)[:LONGEST].strip("-.") or "run"


def _plain(value: Any) -> Value:
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
