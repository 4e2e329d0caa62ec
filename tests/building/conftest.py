"""A recipe of three tasks of users, a worker that makes up what it finds, and the skills of the sandbox."""

from collections.abc import Callable
from pathlib import Path

import pytest

from spot.building.door import plan_library
from spot.building.plan import BuildPlan
from spot.building.recipe import LibraryRecipe, read_recipe
from spot.models.backbone import Backbone
from tests.support.tuned_tasks import write_recipe

RECIPE = """
name = "toy"
tasks = ["mood.toml", "answer.toml", "animal.toml"]
tokens = 2000
key_step = 4
batch_size = 4
select_rows = 8
report_rows = 10
confirm_rows = 10
calibration_steps = 8
lengths = [3]
rates = [0.1, 1.0]
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The recipe's file, with its tasks beside it."""
    return write_recipe(tmp_path, RECIPE, rows=90)


@pytest.fixture(scope="module")
def backbone(tiny_folder: Callable[[str], Path]) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


@pytest.fixture
def recipe(toy: Path) -> LibraryRecipe:
    return read_recipe(toy)


@pytest.fixture
def planned(recipe: LibraryRecipe, backbone: Backbone, tmp_path: Path) -> BuildPlan:
    return plan_library(recipe, backbone, tmp_path / "library")
