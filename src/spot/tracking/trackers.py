"""Open a tracked run in the program of the user's choice, by the trackers of accelerate."""

import importlib.util
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spot.errors import ConfigError, MissingExtra, did_you_mean

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

PROJECT = "spot"  # what W&B and trackio call a project, and MLflow an experiment

Value = bool | int | float | str


@dataclass(frozen=True)
class Program:
    """A program that shows tracked runs.

    Attributes:
        module: of Python that must be there.
        package: that brings it.
        place: where it keeps what it is told, in words.
    """

    module: str
    package: str
    place: str


PROGRAMS: Mapping[str, Program] = {
    "mlflow": Program("mlflow", "mlflow", "where MLFLOW_TRACKING_URI says"),
    "tensorboard": Program("tensorboard", "tensorboard", "tensorboard --logdir {folder}"),
    "trackio": Program("trackio", "trackio", f"trackio show --project {PROJECT}"),
    "wandb": Program("wandb", "wandb", f"the project {PROJECT}"),
}


def check_programs(names: Mapping[str, Path]) -> None:
    """Refuse programs that cannot be had, before anything is trained.

    Args:
        names: of the programs -> the folder that TensorBoard writes to.

    Raises:
        ConfigError: a name is unknown.
        MissingExtra: a package is not installed.
    """
    for name in names:
        if name not in PROGRAMS:
            raise ConfigError(f"there is no tracker {name!r}; {did_you_mean(name, PROGRAMS)}")
        program = PROGRAMS[name]
        lacks = [module for module in ("accelerate", program.module) if importlib.util.find_spec(module) is None]
        if lacks:
            raise MissingExtra(
                f"tracking by {name} needs {' and '.join(lacks)}, which cannot be imported; run: "
                f"pip install 'spot-transfer[track]' {program.package}"
            )


def open_tracker(name: str, run: str, settings: Mapping[str, Value], folder: Path) -> "GeneralTracker":
    """A tracked run that takes values.

    Args:
        name: of the program, a key of `PROGRAMS`.
        run: its name there.
        settings: of the run.
        folder: that TensorBoard writes to.

    Raises:
        Exception: whatever the program says, such as that nobody is logged in.
    """
    from accelerate import PartialState, tracking

    PartialState()  # without it no tracker can write to accelerate's own log
    # stdout has the result of a command, which may be one JSON document; trackio greets there.
    with redirect_stdout(sys.stderr):
        if name == "tensorboard":
            tracker = tracking.TensorBoardTracker(run, folder)
        elif name == "wandb":
            # Runs of a gang are open at the same time, which only those can be that leave the global run alone.
            tracker = tracking.WandBTracker(PROJECT, name=run, config=dict(settings), reinit="create_new")
        elif name == "trackio":
            tracker = tracking.TrackioTracker(PROJECT, name=run, config=dict(settings), embed=False)
        else:
            # MLflow has a stack of runs, so that each but the first must be called nested.
            tracker = tracking.MLflowTracker(PROJECT, run_name=run, nested_run=True)
        tracker.start()
        if name in ("tensorboard", "mlflow"):
            tracker.store_init_configuration(dict(settings))
    return tracker


def write(tracker: "GeneralTracker", values: Mapping[str, Value], step: int) -> None:
    """Hand values to a tracked run.

    Raises:
        Exception: whatever the program says.
    """
    from accelerate.tracking import MLflowTracker

    with redirect_stdout(sys.stderr):
        if isinstance(tracker, MLflowTracker):
            # What accelerate writes goes to the run that was opened last, unless told.
            tracker.log(dict(values), step=step, run_id=tracker.active_run.info.run_id)
        else:
            tracker.log(dict(values), step=step)


def close_tracker(tracker: "GeneralTracker") -> None:
    """End a tracked run.

    Raises:
        Exception: whatever the program says.
    """
    from accelerate.tracking import TrackioTracker

    with redirect_stdout(sys.stderr):
        tracker.finish()
        if isinstance(tracker, TrackioTracker):
            trackio = sys.modules["trackio"]
            # Python's end would finish the run once more, and say so on stdout.
            if trackio.context_vars.current_run.get() is tracker.run:
                trackio.finish()
