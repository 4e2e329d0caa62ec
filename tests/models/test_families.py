"""Models of many families against plain transformers; `python docs/make_models.py` measures all of them."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from tests.support.families import EOS, FAMILIES, NOT_TRIED
from tests.support.zoo import CHECKS, QUICK, UNEVEN, Alone, Specimen, load, measure, run_check

# Each stands for a way to keep rows apart: plain rotary attention, windows, recurrent and convolution states, distances
# by index, positions behind a pad, a second embedding, chunks, and two decoders.
REPRESENTATIVE = (
    "llama gemma3_text lfm2 falcon_h1 mpt bloom roberta gemma4_text qwen3_next llama4_text bart t5"
).split()

# More ways, each of one family: low-rank attention, biases by distance, experts with sinks, states alone, projected
# embeddings, a composite, local attention in an encoder, scaled embeddings, languages. `tests/campaigns/families.py`
# holds all families of the table against what docs/models.md says of them.
MORE = "deepseek_v3 falcon@alibi gpt_oss mamba2 opt@350m encoder-decoder longt5 marian@scaled mbart@language".split()
REFUSED = {  # family -> words of the refusal
    "bert@encoder": "sees later tokens",
    "deepseek_v4": "cannot take a prompt",
    "llama@headless": "lack",
    "paligemma": "sees later tokens",
    "t5@encoder": "writes no text",
}

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers says about configurations as small as these


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What backbones say of the ways that they do not go is in the measurement."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_rows_have_the_numbers_of_the_model_alone(name: str, tmp_path: Path):
    result = measure(FAMILIES[name], tmp_path, QUICK)
    assert result.verdict == "exact", result


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_rows_of_more_families_have_the_numbers_of_the_model_alone(name: str, tmp_path: Path):
    result = measure(FAMILIES[name], tmp_path, QUICK)
    assert result.verdict == "exact", result


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused_in_words(name: str, tmp_path: Path):
    result = measure(FAMILIES[name], tmp_path, QUICK)
    assert result.verdict == "refused" and REFUSED[name] in result.loading.detail, result


@pytest.mark.parametrize("name", ["mpt", "mamba", "encoder-decoder"])
def test_peft_loads_a_prompt_of_a_model_that_names_no_heads_or_layers(name: str, tmp_path: Path):
    assert measure(FAMILIES[name], tmp_path, ("j",)).checks["j"].verdict == "exact"


@pytest.mark.parametrize("name", ["llama", "t5", "gemma4_text"])
def test_the_files_of_the_table_hold_the_model(name: str, tmp_path: Path):
    built, read = FAMILIES[name].save(tmp_path).state_dict(), FAMILIES[name].read(tmp_path).state_dict()
    assert built.keys() == read.keys() and all(torch.equal(built[key], read[key]) for key in built)
    spread = torch.cat([value.flatten().float() for value in built.values()]).std()
    assert spread > 0.2, "weights so small that a wrong mask would not show"


def specimen(name: str, folder: Path) -> Specimen:
    FAMILIES[name].save(folder / "model")
    (folder / "scratch").mkdir()
    return Specimen(folder / "model", Alone(FAMILIES[name].read(folder / "model")), load(folder / "model"), folder)


def with_larger_keys(specimen: Specimen, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added to kept keys goes on as it was; the kept keys themselves are a hundredth larger."""
    update = DynamicLayer.update

    def wrong(
        layer: DynamicLayer, keys: Tensor, values: Tensor, *rest: object, **more: object
    ) -> tuple[Tensor, Tensor]:
        if layer.is_initialized:
            layer.keys = layer.keys * 1.01
        return update(layer, keys, values, *rest, **more)

    monkeypatch.setattr(DynamicLayer, "update", wrong)


def with_later_positions(specimen: Specimen, monkeypatch: pytest.MonkeyPatch) -> None:
    table = specimen.backbone.model.get_decoder().wpe
    monkeypatch.setattr(table, "forward", lambda positions: type(table).forward(table, positions + 1))


def with_seen_pads(specimen: Specimen, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = specimen.backbone.model.get_encoder().forward

    def wrong(*values: object, **arguments: Tensor) -> object:
        arguments["attention_mask"] = torch.ones_like(arguments["attention_mask"])
        return forward(*values, **arguments)

    monkeypatch.setattr(specimen.backbone.model.get_encoder(), "forward", wrong)


@pytest.mark.parametrize(
    ("name", "damage", "checks"),
    [
        ("llama", with_larger_keys, ("c", "d", "e", "g")),
        ("gpt2", with_later_positions, ("c", "d", "e", "g")),
        ("t5", with_seen_pads, ("d", "e", "e0")),
    ],
)
def test_the_instrument_sees_errors(
    name: str,
    damage: Callable[[Specimen, pytest.MonkeyPatch], None],
    checks: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    whole = specimen(name, tmp_path)
    assert {check: run_check(CHECKS[check], whole).verdict for check in checks} == dict.fromkeys(checks, "exact")
    damage(whole, monkeypatch)
    assert {check: run_check(CHECKS[check], whole).verdict for check in checks} == dict.fromkeys(checks, "wrong")


def test_an_exception_of_others_is_told_from_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = specimen("llama", tmp_path)
    monkeypatch.setattr(whole.backbone.model, "forward", lambda **_: 1 / 0)
    outcome = run_check(CHECKS["c"], whole)
    assert outcome.verdict == "traceback" and outcome.detail.startswith("ZeroDivisionError: division by zero [test_fam")


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_words_by_hand_are_those_that_the_model_generates(name: str, tmp_path: Path):
    FAMILIES[name].save(tmp_path)
    model = FAMILIES[name].read(tmp_path)
    alone = Alone(model)
    for text, _, _ in UNEVEN:
        ids = torch.tensor([text])
        written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)[
            0
        ].tolist()
        new = written[1:] if alone.is_seq2seq else written[len(text) :]
        tokens, is_sure = alone.words(torch.zeros(0, alone.width), text)
        assert is_sure and tokens == [token for token in new if token != EOS]


def test_the_page_of_models_tells_of_each_family_of_transformers():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    mapped = {
        *MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        *MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        *MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    }
    tried = {family.model_type for family in FAMILIES.values()}
    assert not mapped - tried - set(NOT_TRIED), "families that the table does not know"
    assert not [name for name in (*FAMILIES, *NOT_TRIED) if f"| `{name}` |" not in page], "run docs/make_models.py"
