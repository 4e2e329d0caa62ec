"""Gather single prompts, as runs leave them, into a folder that can be read as a library."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from spot.errors import LibraryError
from spot.library.library import Library, resolve
from spot.prompts.prompt import save
from spot.storage.files import cache_dir


def gather(prompts: Sequence[str]) -> Library:
    """A library of copies of some prompts, in the user's cache; what they began from does not matter here.

    Args:
        prompts: each a prompt file, the folder of a run, `packaged:TASK` or `packaged:DIGEST`.

    Raises:
        PromptError, LibraryError: there is no such prompt, it is damaged, or they are not all of one frozen model.
        StorageError: the cache cannot be written.
    """
    named = {(prompt := resolve(name)).digest: prompt for name in prompts}
    backbones = {prompt.backbone.fingerprint: prompt.backbone for prompt in named.values()}
    if len(backbones) > 1:
        listed = " and ".join(str(backbone) for backbone in backbones.values())
        raise LibraryError(f"these prompts are of different frozen models, {listed}; expected one: name fewer")
    folder = cache_dir() / "gathered" / sha256(" ".join(sorted(named)).encode()).hexdigest()[:16]
    for digest, prompt in named.items():
        if not (path := _file(folder, digest)).exists():
            save(prompt, path)
    return Library(folder)


def _file(folder: Path, digest: str) -> Path:
    return folder / "prompts" / f"{digest}.safetensors"
