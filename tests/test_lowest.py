"""The lowest versions that `make matrix` installs are the bounds of pyproject.toml."""

from pathlib import Path
from types import ModuleType

import pytest

from tests.support.scripts import script

ROOT = Path(__file__).resolve().parents[1]
PROJECT = """
[project]
dependencies = ["numpy>=1.26", "pydantic>=2.7,<3", "unbound", "hub>=1"]
[project.optional-dependencies]
remote = ["hub>=1.31", "moto[s3]>=5"]
dev = ["pytest>=8"]
"""


@pytest.fixture(scope="module")
def requirements() -> ModuleType:
    return script("requirements/lowest.py")


def test_the_highest_of_several_bounds_counts_and_tools_of_developers_do_not(requirements: ModuleType):
    assert requirements.lowest(PROJECT) == {"numpy": "1.26", "pydantic": "2.7", "hub": "1.31", "moto": "5"}


def test_every_bound_of_the_project_is_read(requirements: ModuleType):
    bounds = requirements.lowest((ROOT / "pyproject.toml").read_text())
    assert {"torch", "transformers", "ray", "plotly", "accelerate"} <= set(bounds) and "pytest" not in bounds
