"""Ways kept in the user's cache: for the same model in the same place alone, and damage means comparing anew."""

import pytest
import torch

from spot.models import backbone as backbone_module
from spot.models.backbone import Backbone
from spot.models.network import Network
from spot.models.probed import recall, remember
from spot.models.ways import Ways

WAYS = Ways(shares=True, together="equal", tree=False, decoding="whole", embed_scale=2.5, notes=("slow: why",))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "probes"


def test_ways_come_back_as_they_were_for_the_same_model_alone(tiny):
    network = Network(tiny("llama")[0])
    remember("f00d", network, 8, WAYS)
    assert recall("f00d", network, 8) == WAYS
    assert recall("f00e", network, 8) is None
    assert recall("f00d", network, 0) is None
    assert recall("f00d", Network(tiny("llama")[0].to(torch.bfloat16)), 8) is None
    assert recall("f00d", Network(tiny("llama")[0], gradient_checkpointing=True), 8) is None
    assert recall("f00d", Network(tiny("qwen2")[0]), 8) is None
    network.model.config.sliding_window = 16  # the same weights, read in another way
    assert recall("f00d", network, 8) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"shares": 1}', b"x" * 200_000])
def test_a_damaged_file_means_comparing_anew(tiny, cache, damage):
    network = Network(tiny("llama")[0])
    remember("f00d", network, 0, WAYS)
    [file] = cache.iterdir()
    file.write_bytes(damage)
    assert recall("f00d", network, 0) is None


def test_a_cache_that_cannot_be_written_stops_nobody(tiny, cache):
    cache.parent.write_text("a file where the folder would be")
    network = Network(tiny("llama")[0])
    remember("f00d", network, 0, WAYS)
    assert recall("f00d", network, 0) is None


def test_a_loaded_model_is_compared_once_and_one_that_is_given_each_time(tiny, monkeypatch, tmp_path):
    compared = []
    probe = backbone_module.probe
    monkeypatch.setattr(backbone_module, "probe", lambda *given: compared.append(given) or probe(*given))
    model, tokenizer = tiny("llama")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    first, second = (Backbone.load(str(tmp_path / "model")) for _ in range(2))
    assert len(compared) == 1
    assert first.ways_for(0) == second.ways_for(0)
    Backbone(model, tokenizer, first.id)
    assert len(compared) == 2
