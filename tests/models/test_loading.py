"""What a model folder may hold, and what is refused with words."""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    Emu3Config,
    Gemma3Config,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaModel,
    LlavaConfig,
    PreTrainedModel,
    T5EncoderModel,
)

from spot.errors import BackboneError
from spot.models import loading, memory
from spot.models.backbone import Backbone
from spot.models.checkpoints import locate
from spot.models.device import placement
from spot.models.loading import load_model, read_tokenizer
from tests.support.families import FAMILIES
from tests.support.tiny_models import SMALL, VOCABULARY, byte_tokenizer, tiny_config

WITNESS = 'import pathlib\npathlib.Path("ran").write_text("code of a model folder ran")\n'


@pytest.fixture
def folder(tiny_folder, tmp_path: Path) -> Path:
    """A copy of a tiny model's folder, to be changed."""
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "model"))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[PreTrainedModel], Path]:
    """A function that writes a model and a tokenizer into a folder."""

    def save(model: PreTrainedModel) -> Path:
        model.save_pretrained(tmp_path / "saved")
        byte_tokenizer().save_pretrained(tmp_path / "saved")
        return tmp_path / "saved"

    return save


def loaded(folder: Path) -> PreTrainedModel:
    return load_model(locate(str(folder)), *placement("cpu", torch.float32))[0]


def change(file: Path, **settings: object) -> Path:
    """Set fields of a JSON file.

    Returns:
        Its folder.
    """
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return file.parent


# Code of others


@pytest.mark.parametrize("answer", ["y\n", "yes\n", "1\n", "true\n", ""])
def test_code_of_a_model_folder_never_runs_whatever_stdin_says(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own.py").write_text(f"{WITNESS}from transformers import LlamaConfig as OwnConfig\n")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (tmp_path / "own" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=r"the configuration .*: it needs Python code .* is never run here"):
        Backbone.load("own")
    assert not Path("ran").exists()


def test_code_of_a_known_model_is_not_run_and_transformers_own_class_is_loaded(folder, monkeypatch, caplog):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    (folder / "own.py").write_text(f"{WITNESS}from transformers import LlamaConfig, LlamaForCausalLM\n")
    names = {"AutoConfig": "own.LlamaConfig", "AutoModelForCausalLM": "own.LlamaForCausalLM"}
    change(folder / "config.json", auto_map=names)
    assert type(loaded(folder)).__module__ == "transformers.models.llama.modeling_llama"
    assert "code that comes with the model is not run" in caplog.text
    assert not Path("ran").exists()


def test_code_of_a_tokenizer_never_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    (folder / "own.py").write_text(f"{WITNESS}from transformers import PreTrainedTokenizerFast as Own\n")
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", "own.Own"]}, tokenizer_class="Own")
    with pytest.raises(BackboneError, match=r"the tokenizer .*: it needs Python code that comes with the model"):
        read_tokenizer(locate(str(folder)))
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": "kernels-community/flash-attn"},
        {"attn_implementation": {"": "someone/kernel"}},
        {"_experts_implementation": "someone/kernel"},
        {"transformers_weights": "../other/model.safetensors"},
    ],
)
def test_a_configuration_that_leads_to_other_files_or_to_code_is_refused(folder, settings):
    change(folder / "config.json", **settings)
    with pytest.raises(BackboneError, match=r"which leads to other files or to code; expected none. Delete "):
        locate(str(folder))


@pytest.mark.parametrize("kind", ["flash_attention_2", "flex_attention"])
def test_an_attention_that_needs_a_package_or_a_compiler_is_passed_over(folder, kind):
    change(folder / "config.json", attn_implementation=kind)
    assert loaded(folder).config._attn_implementation == "sdpa"


def test_an_adapter_that_names_another_model_is_refused(folder):
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/model"}))
    with pytest.raises(BackboneError, match=r"holds a PEFT adapter .*expected a whole model. Merge the adapter"):
        locate(str(folder))


# Weights


def test_weights_that_the_files_lack_are_no_random_numbers(folder):
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if ".layers.1." not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=r"lack 9 tensors .*model.layers.1.input_layernorm.weight, .*every weight"):
        Backbone.load(str(folder))


def test_a_configuration_of_more_layers_than_the_files_hold_is_refused(folder):
    change(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(BackboneError, match=r"lack 9 tensors .*model.layers.2"):
        Backbone.load(str(folder))


def test_tensors_that_have_no_place_are_said(folder, caplog):
    change(folder / "config.json", num_hidden_layers=1)
    loaded(folder)
    assert "9 tensors of its files have no place in a LlamaForCausalLM and are left out" in caplog.text


def test_a_head_that_is_tied_is_not_missed(folder):
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model = loaded(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_model_without_its_head_is_refused(saved):
    config = LlamaConfig(**SMALL | {"tie_word_embeddings": False}, vocab_size=VOCABULARY)
    with pytest.raises(BackboneError, match=r"lack 1 tensors of a LlamaForCausalLM \(lm_head.weight\).* a LlamaModel"):
        loaded(saved(LlamaModel(config)))


BERT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "vocab_size": VOCABULARY}


@pytest.mark.parametrize(
    ("model_class", "config", "words"),
    [
        (T5EncoderModel, tiny_config("t5"), "is a T5EncoderModel, which writes no text"),
        (BertForMaskedLM, BertConfig(**BERT, vocab_size=VOCABULARY), "is a BertForMaskedLM, which writes no text"),
        (BertModel, BertConfig(**BERT, vocab_size=VOCABULARY), "of a BertModel"),
        (
            LlamaForSequenceClassification,
            LlamaConfig(**SMALL, vocab_size=VOCABULARY, pad_token_id=0),
            "is a LlamaForSequenceClassification, which writes no text",
        ),
    ],
)
def test_halves_of_models_and_classifiers_are_refused(saved, model_class, config, words):
    with pytest.raises(BackboneError, match=words):
        loaded(saved(model_class(config)))


def test_the_decoder_of_a_seq2seq_family_is_loaded_as_what_it_is(saved):
    model = BartForCausalLM(BartConfig(**BART)).eval()
    folder = saved(model)
    assert locate(str(folder)).id.kind == "causal"
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(loaded(folder)(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_whole_model_is_loaded_in_the_precision_asked_for(folder):
    model = Backbone.load(str(folder), dtype=torch.bfloat16).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_numbers_of_another_shape_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(33)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=r"hold 1 tensors of other shapes .*norm.weight is \[33\] and not \[32\]"):
        loaded(folder)


# Models for pictures or sounds and text


@pytest.mark.parametrize(
    ("name", "loads"),
    [
        ("gemma3", "Gemma3ForConditionalGeneration"),
        ("gemma3n", "Gemma3nForCausalLM"),
        ("qwen3_5", "Qwen3_5ForCausalLM"),
        ("llama4", "Llama4ForCausalLM"),
        ("mistral3", "Mistral3ForConditionalGeneration"),
        ("llava", "LlavaForConditionalGeneration"),
        ("emu3", "Emu3ForConditionalGeneration"),
        ("qwen2_audio", "Qwen2AudioForConditionalGeneration"),
    ],
)
def test_a_model_for_more_than_text_is_loaded_for_its_text(tmp_path, name, loads):
    reference = FAMILIES[name].save(tmp_path)
    checkpoint = locate(str(tmp_path))
    model = load_model(checkpoint, *placement("cpu", torch.float32))[0]
    assert (checkpoint.id.kind, checkpoint.id.width, type(model).__name__) == ("causal", 32, loads)
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(model(input_ids=ids).logits, reference(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


def test_a_package_that_only_the_pictures_need_is_not_needed(monkeypatch):
    def lacking(architecture: loading.Architecture) -> None:
        if "Conditional" in architecture.model.__name__:
            raise ImportError("needs a package for pictures")

    monkeypatch.setattr(loading, "on_paper", lacking)
    (first, *_) = loading.buildable(loading.architectures_of(Gemma3Config(), "m"), "m", 1000)
    assert first.model.__name__ == "Gemma3ForCausalLM" and first.config == Gemma3Config().text_config
    monkeypatch.setattr(loading, "_class", lambda mapping, config: None)
    with pytest.raises(BackboneError, match="is a 'emu3' model; expected a sequence"):
        loading.architectures_of(Emu3Config(), "m")


def test_a_model_whose_package_is_missing_is_refused_in_words(monkeypatch):
    def lacking(architecture: loading.Architecture) -> None:
        raise ImportError("Using `bitsandbytes` 4-bit quantization requires bitsandbytes")

    monkeypatch.setattr(loading, "on_paper", lacking)
    with pytest.raises(BackboneError, match="ImportError Using `bitsandbytes` 4-bit quantization requires"):
        loading.buildable(loading.architectures_of(LlavaConfig(), "m"), "m", 1000)


# Quantised models


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "hqq", "nothing"])
def test_a_quantised_model_whose_package_is_missing_is_refused_in_words(folder, method, monkeypatch):
    monkeypatch.setattr("transformers.quantizers.quantizer_bnb_4bit.is_bitsandbytes_available", lambda: False)
    more = {"load_in_4bit": True} if method in ("bitsandbytes", "nothing") else {}
    change(folder / "config.json", quantization_config={"quant_method": method, "bits": 4, **more})
    with pytest.raises(BackboneError, match=r"of the backbone 'model' (cannot be loaded|are quantised by .* Run: pip)"):
        loaded(folder)


class Packed(torch.nn.Linear):
    """A layer as bitsandbytes has it: its first call without a gradient would repack the weights for good."""

    support_avx512bf16_for_cpu = True


def test_layers_that_would_lose_their_gradient_on_a_cpu_keep_it(folder, monkeypatch):
    original = AutoModelForCausalLM.from_config(tiny_config("llama")).__class__.from_pretrained

    def packed(*given, **named):
        model, report = original(*given, **named)
        model.lm_head = Packed(32, VOCABULARY, bias=False)
        return model, report

    monkeypatch.setattr("transformers.LlamaForCausalLM.from_pretrained", packed)
    assert loaded(folder).lm_head.support_avx512bf16_for_cpu is False


# Broken folders

BROKEN = {
    "nothing": "",
    "null": "null",
    "a list": "[]",
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "no JSON": "{",
    "zeros": "\0\0\0",
}
WRONG = {
    "hidden_size": ["x", -1, 33, None, [], 0, 1.5, True],
    "vocab_size": ["x", None, -1, 0, 10**12],
    "num_attention_heads": [0, 5, "x", None, -4],
    "num_hidden_layers": ["x", -1, None, 1_000_000, 10**15],
    "dtype": ["zz", 5, []],
    "eos_token_id": ["x"],
    "model_type": ["", None, 5, "own", ["llama"]],
    "architectures": ["x", 5, [5]],
    "rope_parameters": ["x", {"rope_type": "x"}],
    "quantization_config": ["x", []],
    "hidden_act": ["x", 5],
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_configuration_that_is_none_is_refused_in_words(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(BackboneError, match=r"config.json cannot be read .*expected a JSON object"):
        locate(str(folder))


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_wrong_field_of_a_configuration_is_one_message_or_makes_no_difference(folder, field, value):
    change(folder / "config.json", **{field: value})
    try:
        model = Backbone.load(str(folder)).model
    except BackboneError as error:
        assert len(str(error)) < 2000
    else:  # transformers takes it for its default
        stored = load_file(folder / "model.safetensors")
        assert all(torch.equal(value, dict(model.named_parameters())[name]) for name, value in stored.items())


def test_absurd_numbers_of_layers_are_refused_before_anything_is_built(folder, monkeypatch):
    monkeypatch.setattr(loading, "AutoConfig", None)
    change(folder / "config.json", text_config={"inner": [{"n_layer": 1_000_000}]})
    with pytest.raises(BackboneError, match=r"asks for 1,000,000 layers \(n_layer\); expected at most 4,096"):
        locate(str(folder))


def test_a_configuration_of_a_much_larger_model_is_refused_before_memory_is_taken(folder, monkeypatch):
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", None)
    with pytest.raises(BackboneError, match=r"asks for 1,000 layers \(num_hidden_layers\); expected at most 64, as"):
        loaded(change(folder / "config.json", num_hidden_layers=1000))
    change(folder / "config.json", num_hidden_layers=50)
    with pytest.raises(BackboneError, match=r"asks for .* numbers, and its files hold .*: they belong to different"):
        loaded(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "dangling"])
def test_what_is_no_file_is_refused_and_never_waited_for(folder, name, kind):
    file = folder / name
    file.unlink()
    match kind:
        case "fifo":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
        case "folder":
            file.mkdir()
        case _:
            file.symlink_to("nowhere")
    with pytest.raises(BackboneError, match=r"holds no config.json|holds neither model.safetensors"):
        locate(str(folder))


# Tokenizers


@pytest.mark.parametrize("family", ["llama", "t5", "gpt2", "opt", "qwen2", "gemma2"])
def test_a_tokenizer_without_its_files_is_not_made_up(tiny_folder, tmp_path, family):
    # Of most families transformers makes one without words, and of T5 one of 104.
    folder = Path(shutil.copytree(tiny_folder(family), tmp_path / "model"))
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(BackboneError, match="tokenizer"):
        read_tokenizer(locate(str(folder)))


@pytest.mark.parametrize("length", ["x", [1], {}])
def test_a_tokenizer_that_cannot_read_a_text_is_refused_in_words(folder, length):
    change(folder / "tokenizer_config.json", model_max_length=length)
    with pytest.raises(BackboneError, match="the tokenizer of the backbone 'model' cannot be loaded"):
        read_tokenizer(locate(str(folder)))


@pytest.mark.parametrize("content", ["", "{}", "null", "[" * 1000, '{"model": 5}'])
def test_a_broken_tokenizer_is_refused_in_words(folder, content):
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(BackboneError, match="the tokenizer of the backbone 'model' cannot be loaded"):
        read_tokenizer(locate(str(folder)))


def test_the_tokenizer_of_another_model_is_refused(folder, saved):
    config = LlamaConfig(**SMALL, vocab_size=100)
    with pytest.raises(BackboneError, match=r"has 25\d words, and the model 100: it is that of another model"):
        loaded(saved(AutoModelForCausalLM.from_config(config)))


# Memory


def test_too_little_memory_is_said_before_the_model_is_loaded(folder, monkeypatch):
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", None)
    monkeypatch.setattr(memory, "_available", lambda: 1000)
    with pytest.raises(BackboneError, match=r"'model' needs 0.0 GiB of memory, and 0.0 GiB are free: end other"):
        loaded(folder)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: tried 2 GB")]
)
def test_memory_that_runs_out_while_loading_is_one_message(folder, monkeypatch, error):
    def exhausted(*given, **named):
        raise error

    monkeypatch.setattr("transformers.LlamaForCausalLM.from_pretrained", exhausted)
    with pytest.raises(BackboneError, match=r"the model of the backbone 'model' does not fit into memory: .*bfloat16"):
        loaded(folder)
