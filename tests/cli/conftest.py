"""What several tests of commands share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.tuned_tasks import TunedTasks, tune_tasks


@pytest.fixture(scope="session")
def tuned_tasks(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> TunedTasks:
    """Three task files, a run of each and a library of two of them; tests leave them as they are."""
    return tune_tasks(tmp_path_factory.mktemp("tuned"), tiny_folder("llama"))
