"""Keep the vectors that a frozen model makes of rows, so that one pass over them is enough."""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from spot.errors import RunError, StorageError
from spot.storage.files import remove_leftovers, write_whole
from spot.storage.opening import read_bounded

MOST_BYTES = 8_000_000_000  # of a file: a million rows of 2,000 numbers

Features = Mapping[str, np.ndarray]  # name -> [rows, F] float32


def kept_features(out: Path, made_by: Sequence[str], make: Callable[[], Features]) -> Features:
    """The features of some rows, read where they were made before, else made and kept.

    Args:
        out: folder of what is kept.
        made_by: all that decides them: kind, model, rows.
        make: makes them.

    Raises:
        RunError: the file is damaged.
        StorageError: it cannot be written.
    """
    name = sha256(json.dumps(list(made_by)).encode()).hexdigest()[:16]
    path = out / f"features-{name}.safetensors"
    try:
        content = read_bounded(path, MOST_BYTES, out)
        if content is not None:
            return _checked(load_arrays(content))
    except (StorageError, SafetensorError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}). Delete it to have these rows read again.") from error
    features = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in make().items()}
    write_whole(path, save_arrays(features), out)
    remove_leftovers(out, out)
    return features


def _checked(features: dict[str, np.ndarray]) -> Features:
    """Features as they were written.

    Raises:
        ValueError: an array is of another kind.
    """
    for name, values in features.items():
        if values.ndim != 2 or values.dtype != np.float32:
            raise ValueError(f"{name} is {values.dtype} {list(values.shape)}; expected float32 of two dimensions")
    return features
