"""Whether bfloat16 pays is measured once, said, and stands in what a run says of itself."""

import logging

import pytest
import torch

from spot.config import TuneConfig, digest, make_config
from spot.errors import ConfigError
from spot.models import precision
from spot.models.backbone import Backbone
from spot.models.device import placement
from spot.models.precision import bfloat16_pays, measured_ratio
from spot.training.run import as_loaded

CPU = torch.device("cpu")


@pytest.mark.parametrize(("ratio", "dtype"), [(1.31, torch.bfloat16), (1.29, torch.float32)])
def test_it_is_taken_from_1_3_times_as_fast_on_measured_once_and_said(own_cache, monkeypatch, caplog, ratio, dtype):
    monkeypatch.setattr(precision, "measured_ratio", lambda place: ratio)
    monkeypatch.setenv("SPOT_DTYPE", "auto")
    with caplog.at_level(logging.WARNING):
        assert placement("cpu") == (CPU, dtype)
    assert f"bfloat16 are {ratio:.2f} times as fast as in float32 here: {'' if ratio > 1.3 else 'not '}" in caplog.text
    monkeypatch.setattr(precision, "measured_ratio", lambda place: pytest.fail("it is measured again"))
    assert placement("cpu", "auto") == (CPU, dtype)
    (own_cache / "precision.json").write_text("[")
    monkeypatch.setattr(precision, "measured_ratio", lambda place: 2.0)
    assert bfloat16_pays(CPU)


def test_a_ratio_can_be_measured(monkeypatch):
    monkeypatch.setattr(precision, "ROWS", 2)
    monkeypatch.setattr(precision, "TOKENS", 8)
    assert 0.01 < measured_ratio(CPU) < 100


def test_a_run_says_another_precision_than_the_default(tiny_folder):
    folder, config = str(tiny_folder("llama")), make_config(TuneConfig, {"task": "t"})
    whole, half = Backbone.load(folder), Backbone.load(folder, dtype="bfloat16")
    assert (whole.precision, half.precision) == (None, "bfloat16")
    assert as_loaded(config, whole) == config
    said = as_loaded(config.model_copy(update={"precision": "auto"}), half)
    assert said.precision == "bfloat16" and digest(said) != digest(config)
    with pytest.raises(ConfigError, match=r"precision is 'float16', and the backbone is loaded in torch.bfloat16"):
        as_loaded(config.model_copy(update={"precision": "float16"}), half)
    assert as_loaded(config.model_copy(update={"precision": "float32"}), whole) == config
