"""Options that several commands have: their texts come from the configuration, their values go to it."""

from pathlib import Path

import pytest

from spot.cli import options
from spot.config import TuneConfig
from spot.errors import LibraryError
from spot.library import library
from spot.library.library import Library
from tests.support.prompts import library_prompt


def test_constants_agree_with_the_library():
    assert options.PACKAGED == library.PACKAGED


def test_a_setting_has_meaning_and_default_of_the_configuration():
    option = options.setting(TuneConfig, "steps", "N")
    assert option.help == "Optimiser steps; time grows in proportion.  [default: 200]"
    assert option.metavar == "N"


def test_only_options_that_were_given_override():
    assert options.overrides(steps=0, length=None, init="classes") == ["steps=0", "init=classes"]


def test_examples_stand_a_line_each():
    assert options.example("spot a", "spot b") == "\b\nExample:\n  spot a\n  spot b"


def test_a_library_without_keys_cannot_be_asked(tmp_path: Path):
    sources = Library.create(tmp_path / "library")
    sources.add(library_prompt(key_recipe=None))
    with pytest.raises(LibraryError, match=r"no task can be compared with it\. Add prompts .*key_step"):
        options.open_sources(str(sources.path))
    sources = Library.create(tmp_path / "other")
    sources.add(library_prompt())
    assert options.open_sources(str(sources.path)).key_recipe is not None
