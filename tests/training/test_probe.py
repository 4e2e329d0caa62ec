"""A measured time is kept, and damage is named."""

import pytest

from spot.errors import RunError
from spot.training.probe import read_probe, write_probe


def test_a_time_survives_its_file(tmp_path):
    path = tmp_path / "out" / "probe.json"
    assert read_probe(path) is None
    write_probe(path, 12.5)
    assert read_probe(path) == 12.5 and path.read_text() == '{"seconds": 12.5}'


@pytest.mark.parametrize("content", ["{", "{}", '{"seconds": "long"}', '{"seconds": NaN}', "[1.0]"])
def test_damage_is_named(tmp_path, content):
    path = tmp_path / "probe.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"probe\.json: .*Delete it to have the time measured again"):
        read_probe(path)
