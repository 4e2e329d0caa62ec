"""Every call of transformers' loaders: configuration, tokenizer and model of a checkpoint, and nothing of its code.

A model folder may come from a stranger. So no loader here may run Python code that lies in it or that it names, ask on
the terminal whether it may, or leave weights that the files lack as they were drawn at random.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from spot.errors import BackboneError, SpotError
from spot.prompts.prompt import BackboneId

SHOWN = 5  # names of tensors in a message


@dataclass(frozen=True)
class Checkpoint:
    """The files of one frozen model on this machine.

    Attributes:
        source: what `from_pretrained` takes: a local folder, or a hub id.
        id: the identity that prompts are checked against.
        cached: only what the hub's cache holds may be read, because a file named the model and not the user.
    """

    source: str
    id: BackboneId
    cached: bool = False


def read_config(source: str, *, cached: bool = False) -> PreTrainedConfig:
    """The configuration of a folder or hub id.

    Args:
        source: as in `Checkpoint`.
        cached: likewise.

    Raises:
        BackboneError: there is none, or transformers knows no such model without running code of the folder.
    """
    with _one_message(source, "the configuration (config.json)"):
        return AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=cached)


def read_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint.

    Raises:
        BackboneError: its files are missing or broken, or it needs code of the folder.
    """
    with _one_message(checkpoint.id.name, "the tokenizer"):
        return AutoTokenizer.from_pretrained(
            checkpoint.source, trust_remote_code=False, local_files_only=checkpoint.cached
        )


def load_model(
    checkpoint: Checkpoint, place: torch.device, precision: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load what a checkpoint holds, whole.

    Args:
        checkpoint: from `checkpoints.locate`.
        place: where the weights go.
        precision: of the weights.

    Returns:
        The model in evaluation mode, and its tokenizer.

    Raises:
        BackboneError: a file is missing or broken, or the files lack weights that the model has.
    """
    transformers_logging.disable_progress_bar()
    tokenizer = read_tokenizer(checkpoint)
    auto: Any = AutoModelForSeq2SeqLM if checkpoint.id.kind == "seq2seq" else AutoModelForCausalLM
    with _one_message(checkpoint.id.name, "the model"):
        model, report = auto.from_pretrained(
            checkpoint.source,
            dtype=precision,
            trust_remote_code=False,
            local_files_only=checkpoint.cached,
            output_loading_info=True,
        )
        _check_complete(checkpoint.id.name, report)
        model.to(place)
    return model, tokenizer


def read_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The float32 model and the tokenizer of a GGUF file, ready for `save_pretrained`.

    Raises:
        BackboneError: the file cannot be read.
    """
    transformers_logging.disable_progress_bar()
    with _one_message(str(file), "the GGUF file"):
        arguments: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
        tokenizer = AutoTokenizer.from_pretrained(**arguments, trust_remote_code=False)
        quantised = AutoModelForCausalLM.from_pretrained(**arguments, dtype=torch.float32, trust_remote_code=False)
        # A model loaded from GGUF refuses save_pretrained, so its weights go into one that never heard of quantisation.
        unwanted = ("quantization_config", "_name_or_path")
        settings = {key: value for key, value in quantised.config.to_dict().items() if key not in unwanted}
        config = type(quantised.config)(**settings)
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        plain.load_state_dict(quantised.state_dict())
    return plain, tokenizer


def _check_complete(name: str, report: dict[str, Any]) -> None:
    """Refuse a model of which a part would be drawn at random."""
    missing = sorted(report["missing_keys"])
    if missing:
        listed = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        raise BackboneError(
            f"the files of the backbone {name!r} lack {len(missing)} tensors that its configuration asks for "
            f"({listed}): a model with random numbers in their place would answer at random. Expected every weight; "
            "download or save the model again."
        )


@contextmanager
def _one_message(name: str, part: str) -> Iterator[None]:
    """Turn whatever a loader stumbles over into one error that names the part of the model."""
    try:
        yield
    except SpotError:
        raise
    except Exception as error:  # transformers and torch fail with whatever they stumble over in files of others
        raise BackboneError(
            f"{part} of the backbone {name!r} cannot be loaded: {_reason(error)}; expected 'embedded', a folder with "
            "the files that save_pretrained writes for model and tokenizer, or a hub id that can be reached or is in "
            "the hub's cache"
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error, with its kind where it says little."""
    line = next(iter(str(error).strip().splitlines()), "")[:200]
    return line if isinstance(error, OSError | ValueError | RuntimeError) and line else f"{type(error).__name__} {line}"
