"""What a model makes of rows is kept, so that it is made once."""

import numpy as np
import pytest
from safetensors.numpy import save

from spot.baselines.features import kept_features
from spot.errors import RunError


def test_features_are_made_once_for_what_decides_them(tmp_path):
    made = []

    def make() -> dict[str, np.ndarray]:
        made.append(len(made))
        return {"states": np.full((2, 3), len(made), dtype=np.float64)}

    first = kept_features(tmp_path, ("probe", "rows"), make)
    again = kept_features(tmp_path, ("probe", "rows"), make)
    np.testing.assert_array_equal(first["states"], again["states"])
    assert first["states"].dtype == np.float32 and made == [0]
    assert kept_features(tmp_path, ("probe", "other rows"), make)["states"][0, 0] == 2
    assert kept_features(tmp_path, ("prob", "e\0rows"), make) is not None and len(made) == 3, "names are kept apart"


@pytest.mark.parametrize(
    "content", [b"no tensors", save({"states": np.zeros(3, np.float32)}), save({"states": np.zeros((2, 3))})]
)
def test_a_damaged_file_is_named(tmp_path, content):
    kept_features(tmp_path, ("probe",), lambda: {"states": np.zeros((2, 3))})
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"{path.name} is damaged .*Delete it"):
        kept_features(tmp_path, ("probe",), dict)
