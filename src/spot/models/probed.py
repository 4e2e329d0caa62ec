"""Keep the ways that were compared on a model in the user's cache: the same model is compared once, and not again."""

import hashlib
import json
import logging
from pathlib import Path

import torch
import transformers

import spot
from spot.errors import StorageError
from spot.models.network import Network
from spot.models.quantised import PACKAGE, version_of
from spot.models.ways import Ways
from spot.storage.files import cache_dir, write_whole
from spot.storage.opening import read_bounded
from spot.storage.values import read_value, to_json

log = logging.getLogger(__name__)

FORMAT = 2  # of what is compared: another number and every model is compared anew
MOST_BYTES = 100_000


def recall(fingerprint: str, network: Network, beyond: int) -> Ways | None:
    """The ways that were compared on this model in this place, or None.

    Args:
        fingerprint: of the model's files.
        network: the model, loaded.
        beyond: as for `probe`.
    """
    path = _file(fingerprint, network, beyond)
    try:
        text = read_bounded(path, MOST_BYTES)
        return None if text is None else read_value(Ways, text, str(path), StorageError)
    except StorageError as error:
        log.info("compared anew: %s", error)
        return None


def remember(fingerprint: str, network: Network, beyond: int, ways: Ways) -> None:
    """Keep what was compared; a cache that cannot be written is no reason to stop."""
    path = _file(fingerprint, network, beyond)
    try:
        write_whole(path, to_json(ways).encode())
    except StorageError as error:
        log.info("not kept: %s", error)


def _file(fingerprint: str, network: Network, beyond: int) -> Path:
    """Where it stands: a name for all that the numbers depend on."""
    model = network.model
    place = {
        "format": FORMAT,
        "spot": spot.__version__,
        "fingerprint": fingerprint,
        "class": type(model).__name__,
        "config": {key: value for key, value in model.config.to_dict().items() if key != "_name_or_path"},
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dtype": str(model.dtype),
        "quantised": version_of(PACKAGE) if getattr(model, "hf_quantizer", None) is not None else "",
        "multiplied": torch.get_float32_matmul_precision(),
        "device": network.device.type,
        "spread": sorted({str(part) for part in getattr(model, "hf_device_map", {}).values()}),
        "attention": str(model.config._attn_implementation),
        "checkpointing": network.checkpoints,
        "beyond": beyond,
    }
    digest = hashlib.sha256(json.dumps(place, sort_keys=True, default=str).encode()).hexdigest()[:24]
    return cache_dir() / "probes" / f"{digest}.json"
