"""A short run of the campaign over the files of model folders."""

import pytest

from tests.campaigns import models


@pytest.mark.slow
def test_changed_model_folders_are_refused_or_loaded_as_they_are():
    assert models.run(60) == []
