"""A short run of the campaign that damages records, study files, run folders and prompts of other programs."""

import pytest

from tests.campaigns import records


@pytest.mark.slow
def test_damage_is_refused_in_words_or_changes_nothing():
    assert records.run(140, seed=1) == []
