"""`spot serve --engine vllm`: the catalogue and the engine in front of servers, or why there is none."""

import asyncio
from functools import partial
from pathlib import Path

import httpx2
import numpy as np
import pytest
import torch

from spot.cli.serve import _here, _models_and_engine
from spot.errors import ConfigError
from spot.library.library import Library
from spot.models.backbone import Backbone
from spot.models.checkpoints import locate
from spot.reading import Reading
from spot.serving.settings import ServeSettings
from spot.serving.upstream import VllmEngine
from spot.tasks.task import Example
from tests.support.prompts import LENGTH, tiny_prompt
from tests.support.tiny_models import byte_tokenizer
from tests.support.vllm_exchange import TinyVllm, recorded_model

READING = Reading(template="{text}", labels=(("0", "no"), ("1", "yes")))


@pytest.fixture
def settings(tmp_path: Path) -> ServeSettings:
    """Of a library with one prompt, and its model."""
    folder = tmp_path / "model"
    recorded_model().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    library = Library.create(tmp_path / "library")
    value, key, start = np.random.default_rng(0).normal(size=(3, LENGTH, 64)).astype(np.float32)
    known = {
        "backbone": locate(str(folder)).id,
        "task": "mood",
        "reading": READING,
        "parents": (),
        "initialiser": "vocabulary",
    }
    library.add(tiny_prompt(value=value, key=key, start=start, **known))
    return ServeSettings(
        library=str(library.path), backbone=str(folder), engine="vllm", upstream=("http://127.0.0.1:9",)
    )


def test_rows_are_answered_by_the_servers(settings: ServeSettings, monkeypatch):
    server = TinyVllm(recorded_model())
    monkeypatch.setattr(VllmEngine, "connect", partial(VllmEngine.connect, transport=server.transport))
    with _models_and_engine(settings) as (catalogue, engine):
        served = catalogue.find("mood")
        rows = served.collator.encode([Example("1", "good", ())])

        async def ask():
            answers = await engine.classify(served, rows)
            await engine.close()
            return answers

        [answer] = asyncio.run(ask())
        assert catalogue.find("base").collator.max_input_tokens <= 128  # what the servers take
    backbone = Backbone.load(settings.backbone)
    [expected] = backbone.score(
        served.collator.batch(rows), torch.tensor(served.read_vectors())[None], served.collator.choices
    )
    assert np.allclose(answer.log_probabilities, expected, atol=1e-4)


def test_a_model_here_is_held_in_the_bits_that_are_asked_for(settings: ServeSettings):
    pytest.importorskip("bitsandbytes")
    packed = settings.model_copy(update={"quantise": "8bit"})
    with pytest.raises(ConfigError, match=r"'8bit'.*engine vllm"), _models_and_engine(packed):
        pass
    engine, backbone = _here(settings.backbone, packed)
    assert backbone.quantise == "8bit"
    asyncio.run(engine.close())


def test_a_server_that_is_not_there_and_no_address_are_said(settings: ServeSettings, monkeypatch):
    def refuse(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    monkeypatch.setattr(
        VllmEngine, "connect", partial(VllmEngine.connect, transport=lambda: httpx2.MockTransport(refuse))
    )
    with pytest.raises(ConfigError, match="cannot be reached"), _models_and_engine(settings):
        pass
    with (
        pytest.raises(ConfigError, match="no server is named"),
        _models_and_engine(settings.model_copy(update={"upstream": ()})),
    ):
        pass
