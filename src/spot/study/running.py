"""Run a study in this process or on a cluster: each worker holds the frozen model and tunes gang after gang."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from spot.study import worker
from spot.study.cells import StudyPlan
from spot.study.executors import Executor
from spot.study.scheduler import Progress, StudyOutcome, run


def run_study(
    plan: StudyPlan, executor: Executor, *, data: Path | None = None, progress: Progress | None = None
) -> StudyOutcome:
    """Finish the cells of a study that have no record, with the study's own frozen model.

    Args:
        plan: the study and its cells.
        executor: does the gangs, see `executors.executor_named`.
        data: where the known data sets are, under the same name on every machine.
        progress: called when cells are finished.

    Raises:
        StudyError: the folder of the records is a link or a file, or a record was written by a later version.
        StorageError: another run of the study is at work, or a disk is full; finished cells stay.
    """
    config = plan.study.config
    checkpointing = bool(config.target.get("gradient_checkpointing", False))
    setup = partial(
        worker.load, config.backbone, checkpointing, config.target.get("quantise"), config.target.get("precision")
    )
    # What tuning warns of is for one run; a study says it once, of the cells that it ends without a score.
    with _errors_only("spot.training.reporting"), _errors_only("spot.training.model_tuning"):
        return run(plan, executor, setup, worker.work, data=data, progress=progress)


@contextmanager
def _errors_only(name: str) -> Iterator[None]:
    """Keep the warnings of one module back."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
