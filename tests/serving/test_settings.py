import pytest
from pydantic import ValidationError

from spot.serving.settings import ServeSettings


@pytest.mark.parametrize("bad", [{"port": -1}, {"engine": "sglang"}, {"max_rows": 0}, {"timeout_s": 0}, {"unknown": 1}])
def test_a_setting_out_of_bounds_is_refused(bad):
    with pytest.raises(ValidationError):
        ServeSettings(**bad)
