"""Runs that reports are about."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.tuned_tasks import TunedTasks, tune_tasks


@pytest.fixture(scope="session")
def tuned_tasks(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> TunedTasks:
    """Three task files, a run of each and a library of two of them; tests leave them as they are."""
    return tune_tasks(tmp_path_factory.mktemp("tuned"), tiny_folder("llama"))


@pytest.fixture
def tuned_run(tuned_tasks: TunedTasks) -> Path:
    """The folder of a finished run."""
    return tuned_tasks.run()
