"""A short run of the campaign that kills commands."""

import pytest

from tests.campaigns import kills


@pytest.mark.slow
def test_killed_commands_leave_what_undisturbed_ones_leave():
    names = [name for name in kills.scenarios() if name != "ray"]  # a cluster takes half a minute to begin
    assert kills.run(6, seed=1, names=names) == []
