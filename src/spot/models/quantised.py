"""Quantise the linear layers of a model while it is loaded: how transformers is told to, and what the weights take."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from spot.errors import BackboneError, MissingExtra, did_you_mean

# Bytes a number: bitsandbytes keeps a float32 scale for each 64 numbers of 4 bits, and for each row of 8.
BYTES = {"4bit": 0.5 + 4 / 64, "8bit": 1.0}
PACKAGE = "bitsandbytes"
# What reads folders that are quantised already: how it is installed.
PACKAGES: Mapping[str, str] = {
    "bitsandbytes": "pip install 'spot-transfer[quantise]'",
    "gptq": "pip install gptqmodel optimum",
    "awq": "pip install gptqmodel optimum",
    "hqq": "pip install hqq",
    "torchao": "pip install torchao",
    "compressed-tensors": "pip install compressed-tensors",
    "quanto": "pip install optimum-quanto",
    "aqlm": "pip install aqlm",
    "eetq": "pip install eetq",
    "mxfp4": "pip install kernels triton",
}


@dataclass(frozen=True)
class Sizes:
    """Bytes of the weights of a model, of the largest of them, and of the largest matrix that is unpacked at a time."""

    weights: int
    largest: int
    unpacked: int


def settings_of(name: str, quantise: str, precision: torch.dtype, method: str) -> BitsAndBytesConfig:
    """What transformers is told to quantise a model by.

    Args:
        name: of the model, for messages.
        quantise: `4bit` (normal floats of 4 bits) or `8bit`.
        precision: that layers compute in.
        method: by which the model's own files are quantised already; empty where they are not.

    Raises:
        BackboneError: there is no such kind, or the files are quantised already.
        MissingExtra: the package is not installed.
    """
    if quantise not in BYTES:
        raise BackboneError(f"quantise is {quantise!r:.40}: {did_you_mean(str(quantise), BYTES)}")
    if method:
        raise BackboneError(
            f"the files of the backbone {name!r} are quantised already ({method}); expected whole numbers to quantise. "
            f"Leave quantise = {quantise!r} out: it is loaded as it is."
        )
    if find_spec(PACKAGE) is None:
        raise MissingExtra(
            f"quantise = {quantise!r} needs {PACKAGE}, which is not installed; run: {PACKAGES[PACKAGE]}, or leave it "
            "out"
        )
    if quantise == "8bit":
        # At every call it says that inputs are cast on the way to 8 bits.
        logging.getLogger(f"{PACKAGE}.autograd._functions").setLevel(logging.ERROR)
        # Without a threshold: with one, columns that any token of a call makes large are multiplied apart, so that a
        # token would change the numbers of those before it and of the rows beside it.
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=precision)


def version_of(package: str) -> str:
    """The version of an installed package; empty where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def keep_gradients(model: nn.Module) -> None:
    """Keep layers from repacking their weights on a CPU, after which they would pass no gradient on."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            vars(module)["support_avx512bf16_for_cpu"] = False


def bytes_of_weights(model: nn.Module, precision: torch.dtype, quantise: str | None = None) -> Sizes:
    """What weights take as they are loaded, each counted once.

    Args:
        model: it may be without numbers.
        precision: of what is not quantised.
        quantise: `4bit`, `8bit` or None.
    """
    packed = {id(layer.weight) for layer in linear_layers(model)} if quantise else set()
    sizes, unpacked = [0], [0]
    for parameter in model.parameters():
        if id(parameter) in packed:
            sizes.append(int(parameter.numel() * BYTES[str(quantise)]))
            unpacked.append(parameter.numel() * precision.itemsize)
        else:
            sizes.append(parameter.numel() * precision.itemsize)
    return Sizes(sum(sizes), max(max(sizes), max(unpacked)), max(unpacked))


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """The layers that are quantised: all linear ones but the projection to the vocabulary."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not head]
