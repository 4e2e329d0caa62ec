"""Every call of transformers' loaders: configuration, tokenizer and model of a checkpoint, and nothing of its code.

A model folder may come from a stranger. So no loader here may run Python code that lies in it or that it names, ask on
the terminal whether it may, or leave weights that the files lack as they were drawn at random.
"""

import copy
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)
from transformers.utils import logging as transformers_logging

from spot.errors import BackboneError, SpotError, lacks_memory
from spot.models.gguf import GgufHeader, read_header
from spot.models.memory import check_room
from spot.models.quantised import PACKAGES, bytes_of_weights, keep_gradients, settings_of
from spot.models.weights import StoredTensor, bytes_in, read_json, stored_file, stored_tensors, weight_files
from spot.prompts.prompt import BackboneId
from spot.storage.files import cache_dir

log = logging.getLogger(__name__)

SPREAD = "auto"  # the layout of layers over several devices, as accelerate calls it
SHOWN = 5  # names of tensors in a message
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")  # one of which a tokenizer needs
OTHER_WORDS = 0.05  # of a vocabulary: what may be spelled otherwise in a GGUF file
SPLITS = frozenset({"", "default", "gpt-2", *GGUF_PRE_TOKENIZER_SPLITS})  # rules for the ends of words
SPECIMEN = "The film of 1984 was good, wasn't it?\nYes: 10/10"
FEW = 64  # layers that are built whatever the files hold; what is missing is refused by name
# Of any model that one would load; a larger number is damage, and building them takes for ever.
MOST_LAYERS, MOST_EXPERTS = 4096, 8192
MOST_CONFIG = 16 * 2**20  # bytes of a config.json
# Heads that answer otherwise than in words, and halves of models.
_NO_WRITERS = re.compile(
    r"For(Sequence|Token|Image|Audio)\w*Classif|For(QuestionAns|MultipleCh|MaskedLM|Reward)|EncoderModel$"
)
_ATTENTIONS = (None, "eager", "sdpa")
# Numbers of parts that are built; what is called `max_` bounds them and is no number of them.
_LAYERS = re.compile(r"^(?!max_)(.*_)?(n_layers?|layers?|depth|blocks?)$")
_EXPERTS = re.compile(r"^(?!max_).*experts$")
_BUFFERS = re.compile(r"(attn\.(masked_)?bias|inv_freq|position_ids)$")  # that old files hold and models make anew
# Where files of a model for pictures and text keep the text model, and where the text model alone has it.
_TEXT_NAMES = {r"^(model\.language_model|language_model\.model)\.": "model.", r"^language_model\.lm_head\.": "lm_head."}


@dataclass(frozen=True)
class Architecture:
    """What transformers makes of a configuration.

    Attributes:
        model: the class that holds the language model.
        config: of that class: the checkpoint's own, or the part of it that is about text.
        kind: `causal` or `seq2seq`.
        renamed: pattern -> replacement, for the names of tensors in the files.
    """

    model: type[PreTrainedModel]
    config: PreTrainedConfig
    kind: str
    renamed: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def paper(self) -> PreTrainedModel:
        """The model without its weights: names and shapes, for a few milliseconds and no memory."""
        return on_paper(self)

    @property
    def is_quantised(self) -> bool:
        """Whether the files hold numbers that only a quantiser can read."""
        return getattr(self.config, "quantization_config", None) is not None

    @property
    def quantised_by(self) -> str:
        """The method by which the files are quantised; empty where they are not."""
        settings: Any = getattr(self.config, "quantization_config", None)
        if settings is None:
            return ""
        known = settings if isinstance(settings, Mapping) else vars(settings)
        method = known.get("quant_method")
        return str(getattr(method, "value", method) or "some method")


@dataclass(frozen=True)
class Checkpoint:
    """The files of one frozen model on this machine.

    Attributes:
        source: what `from_pretrained` takes: a local folder, or a hub id.
        id: the identity that prompts are checked against.
        architectures: what may load it, the best first; another one is needed where that lacks tensors in the files.
        cached: only what the hub's cache holds may be read, because a file named the model and not the user.
        words: the folder of the tokenizer, where that is not the source.
        packed: the GGUF file that the source was made from, where a tokenizer stands beside it.
    """

    source: str
    id: BackboneId
    architectures: tuple[Architecture, ...] = field(repr=False)
    cached: bool = False
    words: str = ""
    packed: str = ""


def read_config(source: str, name: str, *, cached: bool = False) -> PreTrainedConfig:
    """The configuration of a folder or hub id.

    Args:
        source: as in `Checkpoint`.
        name: of the backbone, for messages.
        cached: as in `Checkpoint`.

    Raises:
        BackboneError: there is none, or transformers knows no such model without running code of the folder.
    """
    _quieten()
    with _one_message(name, "the configuration (config.json)"):
        if (file := stored_file(source, "config.json", cached=cached)) is None:
            if Path(source).is_dir():
                raise BackboneError(
                    f"{source} holds no config.json; expected a model saved with save_pretrained (config.json, "
                    "model.safetensors, tokenizer files)"
                )
            raise BackboneError(
                f"the backbone {name!r} cannot be loaded: there is no such folder here, and the hub did not give it; "
                "expected 'embedded', a folder in Hugging Face layout, or a hub id that can be reached or is in the "
                "hub's cache"
            )
        settings = read_json(file, MOST_CONFIG)
        _check_settings(name, settings)
        if stored_file(source, "adapter_config.json", cached=cached) is not None:
            raise BackboneError(
                f"the backbone {name!r} holds a PEFT adapter (adapter_config.json), which names another model to "
                "load; expected a whole model. Merge the adapter into its model and save that."
            )
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=cached)
    kinds = (value for key, value in _settings(settings) if "attn_implementation" in key)
    if any(kind not in _ATTENTIONS for kind in kinds if not isinstance(kind, Mapping)):
        config._attn_implementation = None  # what a file asks for may need packages, a GPU or a compiler
    if "auto_map" in settings:
        log.warning("%s: code that comes with the model is not run; transformers' own class is loaded", name)
    return config


def architectures_of(config: PreTrainedConfig, name: str) -> tuple[Architecture, ...]:
    """Choose what may load a configuration, the best first.

    A model for pictures or sounds and text is loaded for its text; by a class for that alone, where there is one.

    Args:
        config: from `read_config`.
        name: of the backbone, for messages.

    Raises:
        BackboneError: it is no language model that writes.
    """
    with _one_message(name, "the model class"):
        declared = str(next(iter(config.architectures or []), ""))
        candidates = tuple(_candidates(config, declared))
        is_decoder = candidates and candidates[0].kind == "causal" and getattr(config, "is_decoder", False)
        if candidates and _NO_WRITERS.search(declared) and not is_decoder:
            raise BackboneError(
                f"the backbone {name!r} is a {declared}, which writes no text; expected a sequence-to-sequence or a "
                "causal language model"
            )
        if not candidates:
            raise BackboneError(
                f"the backbone {name!r} is a {config.model_type!r} model{f' ({declared})' if declared else ''}; "
                "expected a sequence-to-sequence or a causal language model"
            )
    return candidates


def buildable(candidates: Sequence[Architecture], name: str, tensors: int) -> tuple[Architecture, ...]:
    """Architectures from the first one on that can be built here.

    Args:
        candidates: from `architectures_of`.
        name: of the backbone, for messages.
        tensors: how many the files hold; each layer has one or more.

    Raises:
        BackboneError: a package is missing, or the configuration asks for more layers than there are tensors.
    """
    with _one_message(name, "the model"):
        _check_parts(name, candidates[0].config.to_dict(), max(tensors, FEW))
        reason = None
        for number, architecture in enumerate(candidates):
            try:
                _ = architecture.paper
            except ImportError as error:  # a part for pictures may need a package that its text does not
                reason = reason or error
            else:
                return tuple(candidates[number:])
        assert reason is not None
        raise reason


def on_paper(architecture: Architecture) -> PreTrainedModel:
    """Build the model of an architecture without its weights."""
    with torch.device("meta"):
        return architecture.model(copy.deepcopy(architecture.config))


def read_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint.

    Raises:
        BackboneError: its files are missing or broken, it needs code of the folder, or it is that of another model.
    """
    name = checkpoint.id.name
    _quieten()
    with _one_message(name, "the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.words or checkpoint.source, trust_remote_code=False, local_files_only=checkpoint.cached
        )
        _check_words(checkpoint, tokenizer)
        if checkpoint.packed:
            check_same_words(checkpoint.words, tokenizer, read_header(Path(checkpoint.packed)))
    return tokenizer


def load_model(
    checkpoint: Checkpoint,
    place: torch.device,
    precision: torch.dtype,
    quantise: str | None = None,
    *,
    spread: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load what a checkpoint holds, whole.

    Args:
        checkpoint: from `checkpoints.locate`.
        place: where the weights go.
        precision: of the weights.
        quantise: `4bit` or `8bit`: the linear layers become that while they are loaded.
        spread: layers go to all GPUs in turn, then to the CPU's memory, then to the disk, as accelerate has it.

    Returns:
        The model in evaluation mode, and its tokenizer.

    Raises:
        BackboneError: a file is missing or broken, the files lack weights that the model has, memory is short, or what
            is quantised already is to be quantised.
        MissingExtra: the package that quantises is not installed.
    """
    settings, layout = None, SPREAD if spread else None
    if quantise is not None:
        method = checkpoint.architectures[0].quantised_by
        settings = settings_of(checkpoint.id.name, quantise, precision, method)
    tensors = stored_tensors(weight_files(checkpoint.source, cached=checkpoint.cached))
    tokenizer = read_tokenizer(checkpoint)
    lacking = None
    for architecture in checkpoint.architectures:
        with _one_message(checkpoint.id.name, "the model"):
            try:
                return _load(checkpoint, architecture, tensors, place, precision, settings, layout), tokenizer
            except (_Incomplete, ImportError) as error:
                lacking = lacking or error
    if isinstance(lacking, ImportError) and (method := checkpoint.architectures[0].quantised_by):
        raise BackboneError(
            f"the files of the backbone {checkpoint.id.name!r} are quantised by {method!r}, and what reads them is not "
            f"installed ({_reason(lacking)}); expected its package. Run: "
            f"{PACKAGES.get(method, f'pip install {method}')}, or take the model before it was quantised."
        ) from lacking
    with _one_message(checkpoint.id.name, "the model"):
        assert lacking is not None
        raise BackboneError(str(lacking)) if isinstance(lacking, _Incomplete) else lacking


def gguf_architectures(file: Path, header: GgufHeader) -> tuple[Architecture, ...]:
    """What may load the model of a GGUF file, the best first; nothing of it is built.

    Args:
        file: the GGUF file.
        header: of it.

    Raises:
        BackboneError: transformers reads no such architecture out of GGUF, or the file asks for endless work.
    """
    _quieten()
    with _one_message(file.name, "the GGUF file"):
        try:
            config = AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name, trust_remote_code=False)
        except (ValueError, KeyError) as error:
            raise BackboneError(
                f"the GGUF file {file} holds a model of the architecture {header.architecture!r:.80}, which "
                f"transformers {transformers.__version__} does not read out of GGUF ({_reason(error):.120}); expected "
                "one of those that it does, such as llama, qwen2, qwen3, gemma2, gemma3, phi3 or falcon. Take the "
                "safetensors that the file was made from."
            ) from error
        _check_settings(file.name, config.to_dict())
        return buildable(architectures_of(config, file.name), file.name, len(header.tensors))


def read_gguf(
    file: Path, header: GgufHeader, architectures: Sequence[Architecture]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """The float32 model and the tokenizer of a GGUF file, ready for `save_pretrained`.

    Args:
        file: the GGUF file.
        header: of it.
        architectures: from `gguf_architectures`.

    Returns:
        The model without its quantisation, and the tokenizer; None where tokenizer files beside the file must serve.

    Raises:
        BackboneError: the file cannot be read, or there is no room for it.
    """
    architecture, name = architectures[0], file.name
    with _one_message(name, "the GGUF file"):
        _check_sizes(name, architecture.paper, header.tensors)
        # All its numbers as float32, and once more as those of the model.
        check_room(name, 2 * header.bytes_whole, bytes_in(header.tensors), torch.device("cpu"))
        tokenizer = _gguf_tokenizer(file, header)
        model_class: Any = architecture.model
        packed, report = model_class.from_pretrained(
            str(file.parent),
            gguf_file=name,
            config=architecture.config,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            quantization_config=GgufConfig(dequantize=True),  # else kernels of the hub would be fetched, and run
        )
        try:
            _check_complete(name, architecture, report)
        except _Incomplete as error:
            raise BackboneError(str(error)) from error
        # A model loaded from GGUF refuses save_pretrained, so its weights go into one that never heard of quantisation.
        unwanted = ("quantization_config", "_name_or_path")
        settings = {key: value for key, value in packed.config.to_dict().items() if key not in unwanted}
        plain = on_paper(replace(architecture, config=type(packed.config)(**settings)))
        plain.load_state_dict(packed.state_dict(), assign=True)
        plain.tie_weights()
    return plain, tokenizer


def _gguf_tokenizer(file: Path, header: GgufHeader) -> PreTrainedTokenizerBase | None:
    """The tokenizer within a GGUF file; None where it cannot be read and files beside the file must serve.

    Raises:
        BackboneError: it cannot be read, and there are no such files.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name, trust_remote_code=False)
        check_same_words(str(file), tokenizer, header)
        _check_reads(tokenizer)
    except Exception as error:
        if any((file.parent / words).is_file() for words in TOKENIZERS):
            log.warning("%s: its own tokenizer cannot be read, the one beside it is taken", file.name)
            return None
        raise BackboneError(
            f"the tokenizer within the GGUF file {file}, of the kind {header.tokenizer!r:.40}, cannot be read "
            f"({_reason(error)}); expected one of the kinds gpt2, llama or t5. Put the tokenizer files of the model "
            "(tokenizer.json, tokenizer_config.json) beside the GGUF file."
        ) from error
    return tokenizer


def check_same_words(name: str, tokenizer: PreTrainedTokenizerBase, header: GgufHeader) -> None:
    """Refuse a tokenizer whose words have other ids than those of a GGUF file.

    Raises:
        BackboneError: naming the first that differs.
    """
    words = header.words
    if not words:
        return
    known = tokenizer.convert_ids_to_tokens(list(range(min(len(words), len(tokenizer)))))
    # Spellings of blanks and of special tokens differ between the two; the words do not.
    others = [number for number, (word, own) in enumerate(zip(words, known, strict=False)) if word != own]
    if not known or len(others) > len(known) * OTHER_WORDS:
        first = f", such as token {others[0]}: {known[others[0]]!r:.40} and {words[others[0]]!r:.40}" if others else ""
        raise BackboneError(
            f"the tokenizer of {name} has other words than the GGUF file{first}; expected that of one model. Take the "
            "tokenizer files away, or put those of the model there."
        )


def _check_reads(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that was put together wrongly: what it makes of a text does not give the text back.

    Raises:
        ValueError: with what it gave.
    """
    ids = tokenizer(SPECIMEN, add_special_tokens=False)["input_ids"]
    again = str(tokenizer.decode(ids))
    if "".join(again.split()).lower() != "".join(SPECIMEN.split()).lower():
        raise ValueError(f"{SPECIMEN!r} comes back as {again!r:.80}")


class _Incomplete(Exception):
    """The files lack tensors of an architecture, and may be whole for another one."""


def _load(
    checkpoint: Checkpoint,
    architecture: Architecture,
    tensors: Sequence[StoredTensor],
    place: torch.device,
    precision: torch.dtype,
    settings: BitsAndBytesConfig | None = None,
    layout: str | Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """The model of one architecture, quantised by the settings if there are any, its layers where the layout says.

    Raises:
        _Incomplete: the files lack tensors of it.
        BackboneError: memory is short.
    """
    name, paper = checkpoint.id.name, architecture.paper
    if not architecture.is_quantised:
        _check_sizes(name, paper, tensors)
    kind = None if settings is None else "4bit" if settings.load_in_4bit else "8bit"
    if architecture.is_quantised:
        need = bytes_in(tensors)
    else:
        sizes = bytes_of_weights(paper, precision, kind)
        need = sizes.weights + sizes.largest  # one is read before it is converted
    is_packed = architecture.is_quantised or settings is not None
    if layout is None:  # else what does not fit in one place goes to the next
        check_room(name, need, bytes_in(tensors), place)
    elsewhere = {} if not (is_packed or layout) else {"device_map": layout or {"": place}}
    if layout is not None:
        elsewhere["offload_folder"] = str(cache_dir() / "offload" / checkpoint.id.fingerprint)
    model_class: Any = architecture.model  # the types of transformers know no report
    model, report = model_class.from_pretrained(
        checkpoint.source,
        config=architecture.config,
        dtype=precision,
        trust_remote_code=False,
        local_files_only=checkpoint.cached,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, by name
        key_mapping=dict(architecture.renamed) or None,
        **elsewhere,
        **({"quantization_config": settings} if settings is not None else {}),
    )
    _check_complete(name, architecture, report)
    keep_gradients(model)
    return model.eval() if elsewhere else model.to(place).eval()


def _candidates(config: PreTrainedConfig, declared: str) -> Iterator[Architecture]:
    """What may load a configuration, the best first."""
    seq2seq, causal = (
        _class(mapping, config) for mapping in (MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING)
    )
    has_encoder = bool(getattr(config, "is_encoder_decoder", False))
    is_half = causal is not None and declared == causal.__name__  # the decoder alone of a family with an encoder
    if seq2seq is not None and has_encoder and not is_half:
        yield Architecture(seq2seq, config, "seq2seq")
        return
    if has_encoder and not is_half:
        return  # an encoder of something else than text
    if causal is not None:
        yield Architecture(causal, _config_for(causal, config), "causal")
    for mapping in (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, MODEL_FOR_MULTIMODAL_LM_MAPPING):
        wrapper = _class(mapping, config)
        if wrapper is not None:
            yield Architecture(wrapper, config, "causal")
    if seq2seq is not None:  # sounds and text, and no encoder of text
        yield Architecture(seq2seq, config, "causal")
    text = config.get_text_config(decoder=True)
    inner = _class(MODEL_FOR_CAUSAL_LM_MAPPING, text) if text is not config else None
    if inner is not None:
        yield Architecture(inner, _config_for(inner, text), "causal", _TEXT_NAMES)


def _class(mapping: Any, config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """The class that a mapping of transformers has for a configuration, if it writes text."""
    entry: Any = mapping.get(type(config), None)
    chosen = entry[0] if isinstance(entry, Sequence) else entry
    return chosen if hasattr(chosen, "generate") else None


def _config_for(model: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedConfig:
    """The part of a configuration that a class takes, with the whole's quantisation."""
    text_class = config.sub_configs.get("text_config")
    if text_class is None or getattr(model, "config_class", None) is not text_class:
        return config
    text = config.get_text_config()
    if (quantised := getattr(config, "quantization_config", None)) is not None:
        text.quantization_config = quantised
    return text


def _check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse what no configuration holds and transformers would follow: other files, kernels of the hub, endless work.

    Raises:
        BackboneError: naming the setting.
    """
    for key, value in _settings(settings):
        is_path = isinstance(value, str) and ("/" in value or os.sep in value)
        if key == "transformers_weights" or ("_implementation" in key and is_path):
            raise BackboneError(
                f"the configuration of the backbone {name!r} has {key} = {value!r:.80}, which leads to other files "
                f"or to code; expected none. Delete {key} from its config.json, if you trust the rest."
            )
    _check_parts(name, settings, MOST_LAYERS)


def _check_parts(name: str, settings: Mapping[str, Any], most_layers: int) -> None:
    """Refuse endless work.

    Raises:
        BackboneError: naming the setting.
    """
    for key, value in _settings(settings):
        layers, experts = _LAYERS.search(key), _EXPERTS.search(key)
        most = most_layers if layers else MOST_EXPERTS if experts else None
        if most is not None and isinstance(value, int) and value > most:
            raise BackboneError(
                f"the configuration of the backbone {name!r} asks for {value:,} {'layers' if layers else 'experts'} "
                f"({key}); expected at most {most:,}, as a model with its files can have. Is config.json its own?"
            )


def _settings(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every name and value of a configuration, those inside others too."""
    yield key, value
    if isinstance(value, Mapping):
        for inner, part in value.items():
            # What an implementation is chosen for may stand in a mapping below its name.
            yield from _settings(part, key if "_implementation" in key else str(inner))
    elif isinstance(value, list):
        for part in value:
            yield from _settings(part, key)


def _check_words(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that transformers made up, because its files are not there, and one of another model.

    Raises:
        BackboneError: saying which.
    """
    files = getattr(tokenizer, "vocab_files_names", {})  # none where each byte is a word
    needed = [files[part] for part in ("vocab_file", "merges_file") if part in files] or list(files.values())
    missing = [] if _has(checkpoint, "tokenizer.json") else [file for file in needed if not _has(checkpoint, file)]
    ids = tokenizer("a text")["input_ids"]
    tokenizer.decode(ids, skip_special_tokens=True)
    if missing or not tokenizer.get_vocab():
        raise BackboneError(
            f"the backbone {checkpoint.id.name!r} has no tokenizer: no tokenizer.json"
            f"{''.join(f', no {file}' for file in missing if file != 'tokenizer.json')}; expected the files that "
            "tokenizer.save_pretrained writes. Copy them from the repository of the model."
        )
    if tokenizer.vocab_size > checkpoint.id.vocabulary:
        raise BackboneError(
            f"the tokenizer of the backbone {checkpoint.id.name!r} has {tokenizer.vocab_size:,} words, and the "
            f"model {checkpoint.id.vocabulary:,}: it is that of another model. Copy the right one."
        )


def _has(checkpoint: Checkpoint, file: str) -> bool:
    return stored_file(checkpoint.words or checkpoint.source, file, cached=checkpoint.cached) is not None


def _check_sizes(name: str, paper: PreTrainedModel, tensors: Sequence[StoredTensor]) -> None:
    """Refuse a configuration of a much larger model than the files hold, before any memory is taken for it.

    Raises:
        BackboneError: with both sizes.
    """
    wanted = sum(parameter.numel() for parameter in paper.parameters())
    held = sum(int(torch.Size(tensor.shape).numel()) for tensor in tensors)
    if wanted > 2 * held:  # twice, because the files hold once what is tied
        raise BackboneError(
            f"the configuration of the backbone {name!r} asks for {wanted:,} numbers, and its files hold {held:,}: "
            "they belong to different models, or the download is not complete. Download or save the model again."
        )


def _check_complete(name: str, architecture: Architecture, report: Mapping[str, Any]) -> None:
    """Refuse a model of which a part would be drawn at random, and say what of the files is left out.

    Raises:
        _Incomplete: naming what is missing.
    """
    title = architecture.model.__name__
    missing = sorted(report["missing_keys"])
    if missing:
        declared = next(iter(architecture.config.architectures or []), "")
        hint = f" They are those of a {declared}." if declared and declared != title else ""
        raise _Incomplete(
            f"the files of the backbone {name!r} lack {len(missing)} tensors of a {title} "
            f"({_listed(missing)}): a model with random numbers in their place would answer at random.{hint} Expected "
            "every weight; download or save the whole model again."
        )
    if report["mismatched_keys"]:
        wrong = sorted(f"{key} is {list(held)} and not {list(asked)}" for key, held, asked in report["mismatched_keys"])
        raise _Incomplete(
            f"the files of the backbone {name!r} hold {len(wrong)} tensors of other shapes than a {title} of its "
            f"config.json has ({_listed(wrong)}): expected those of one model. Download or save the whole model again."
        )
    unknown = sorted(key for key in report["unexpected_keys"] if not _BUFFERS.search(key))
    if unknown:
        log.warning(
            "%s: %d tensors of its files have no place in a %s and are left out (%s)",
            name,
            len(unknown),
            title,
            _listed(unknown),
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _quieten() -> None:
    """No bars, and no pull request in the user's name to convert weights on the hub."""
    transformers_logging.disable_progress_bar()
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")


@contextmanager
def _one_message(name: str, part: str) -> Iterator[None]:
    """Turn whatever a loader stumbles over into one error that names the part of the model."""
    try:
        yield
    except SpotError:
        raise
    except Exception as error:  # transformers and torch fail with whatever they stumble over in files of others
        if lacks_memory(error):
            raise BackboneError(
                f"{part} of the backbone {name!r} does not fit into memory: {_reason(error)}. End other programs, "
                "choose a smaller model or another machine, or halve the need with SPOT_DTYPE=bfloat16."
            ) from error
        raise BackboneError(
            f"{part} of the backbone {name!r} cannot be loaded: {_reason(error)}; expected 'embedded', a folder with "
            "the files that save_pretrained writes for model and tokenizer, or a hub id that can be reached or is in "
            "the hub's cache"
        ) from error


def _reason(error: Exception) -> str:
    """What an error says, on one line, with its kind where that alone says what is meant."""
    if "trust_remote_code" in str(error):  # transformers recommends to run it
        return "it needs Python code that comes with the model, which is never run here"
    line = " ".join(str(error).split())[:300]
    speaks = isinstance(error, OSError | ValueError | RuntimeError) or type(error) is Exception
    return line if speaks and line else f"{type(error).__name__} {line}"
