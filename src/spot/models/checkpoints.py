"""Find the files of a frozen model and identify it by them: the backbone id that every prompt carries."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from spot.errors import BackboneError, PromptError, did_you_mean
from spot.models import embedded
from spot.models.converted import ensure_converted, ensure_embedded
from spot.models.gguf import gguf_in, is_gguf, read_header
from spot.models.loading import (
    MOST_LAYERS,
    TOKENIZERS,
    Architecture,
    Checkpoint,
    architectures_of,
    buildable,
    gguf_architectures,
    read_config,
)
from spot.models.shapes import SHAPES
from spot.models.weights import WHOLE, fingerprints, folder_of, stored_file, stored_tensors, weight_files
from spot.prompts.prompt import BackboneId

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def locate(wanted: str | BackboneId) -> Checkpoint:
    """Find a frozen model and identify it by its files.

    Args:
        wanted: `embedded`, a local folder in Hugging Face layout, a GGUF file or a folder with one, or a hub id such as
            `google/t5-base-lm-adapt`, as the user names it. Or what a prompt says of its backbone: a file may come
            from a stranger, so its name is never taken for a folder, and nothing is fetched for it.

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
    if is_folder and (file := _packed(path)) is not None:
        return _identify_gguf(path.resolve().name, file)
    if is_folder:
        return _identify(path.resolve().name, str(path))
    if is_gguf(path):
        return _identify_gguf(path.stem, path)
    if path.is_file():
        raise BackboneError(
            f"the backbone {name!r} is a file, and no GGUF file; expected a .gguf file or the folder of a model"
        )
    if not HUB_ID.fullmatch(name):
        raise BackboneError(
            f"no folder {name!r}, and it is no hub id; expected 'embedded', a folder, a GGUF file or 'owner/name'"
        )
    return _identify(name, name)


def architecture_named(name: str) -> Architecture:
    """What a model would be loaded as, from its configuration alone: no weight is looked at, and none is fetched.

    Args:
        name: as for `locate`, or the name of a shape of `models.shapes`.

    Raises:
        BackboneError: there is none of that name, or it is no seq2seq or causal language model.
    """
    path = Path(name).expanduser()
    is_folder = path.is_dir()
    if name in SHAPES and not is_folder:
        return architectures_of(SHAPES[name](), name)[0]
    file = _packed(path) if is_folder else path if is_gguf(path) else None
    if file is not None:
        return gguf_architectures(file, read_header(file))[0]
    if not is_folder and name != embedded.NAME and not HUB_ID.fullmatch(name):
        raise BackboneError(
            f"no folder {name!r:.200}, and it is no hub id; {did_you_mean(name, SHAPES)} Expected one of these shapes, "
            "'embedded', a folder, a GGUF file or 'owner/name'."
        )
    source = str(ensure_embedded()) if name == embedded.NAME else str(path) if is_folder else name
    return buildable(architectures_of(read_config(source, name), name), name, MOST_LAYERS)[0]


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


def _packed(folder: Path) -> Path | None:
    """The GGUF file of a folder that holds its weights in no other way; None where it does."""
    if any((folder / f"{whole}{ending}").exists() for whole in WHOLE for ending in ("", ".index.json")):
        return None
    return gguf_in(folder)


def _identify_gguf(name: str, file: Path) -> Checkpoint:
    """A checkpoint by its GGUF file; a tokenizer that stands beside it is taken before the one within."""
    folder, digest = ensure_converted(file)
    checkpoint = _identify(name, str(folder), fingerprint=digest)
    has_own = any((file.parent / words).is_file() for words in TOKENIZERS)
    return replace(checkpoint, words=str(file.parent), packed=str(file)) if has_own else checkpoint


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
