"""A small study whose worker makes up what it finds."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from spot.study.cells import StudyPlan
from tests.support.small_studies import MadeUpWorker, plan_small_study, write_tasks


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., StudyPlan]:
    """A function from overrides to the plan of the study, whose folder is `tmp_path`."""
    write_tasks(tmp_path)
    return partial(plan_small_study, tmp_path)


@pytest.fixture
def worker() -> MadeUpWorker:
    return MadeUpWorker()
