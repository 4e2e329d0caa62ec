"""Shared fixtures: a tiny model, and terms on it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from spot.baselines.arms import Terms
from spot.models.backbone import Backbone
from tests.support.toy_terms import toy_terms


@pytest.fixture(scope="module")
def backbone(tiny_folder: Callable[[str], Path]) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


@pytest.fixture
def terms(backbone, tmp_path) -> Callable[..., Terms]:
    """A function from what is special to terms."""
    return partial(toy_terms, backbone, tmp_path)
