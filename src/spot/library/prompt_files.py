"""List, describe and remove the prompt files of a library, whose folder may be a stranger's."""

import contextlib
import os
from pathlib import Path

from spot.errors import LibraryError, PromptError, StorageError
from spot.library.cache import stamp_of
from spot.library.entries import Entry, entry_of, kept_text, names_prompt
from spot.prompts.prompt import header
from spot.storage.opening import open_folder

SUFFIX = ".safetensors"


def stamped(folder: Path, library: Path) -> dict[str, str]:
    """The names of the prompt files in a folder of a library, without their suffix, and the stamps of the files.

    Raises:
        LibraryError: the folder cannot be read, or is a link.
    """
    try:
        descriptor = open_folder(folder, library)
        try:
            with os.scandir(descriptor) as files:
                return {
                    file.name.removesuffix(SUFFIX): stamp_of(file.stat(follow_symlinks=False))
                    for file in files
                    if file.name.endswith(SUFFIX) and file.name[0] != "."
                }
        finally:
            os.close(descriptor)
    except StorageError as error:
        raise LibraryError(f"cannot read the library {library}: {error}") from error
    except OSError as error:
        raise LibraryError(f"cannot read the library {library}: {error.strerror}.") from error


def described(path: Path, library: Path) -> tuple[Entry, str]:
    """What a prompt file says of itself, and what an index keeps of it.

    Raises:
        PromptError: it is none, is called otherwise, or its recipe would start runs from a file of who reads it.
    """
    content = header(path, library)
    if content["digest"] != path.stem:
        raise PromptError(misnamed(path, content["digest"]))
    text = kept_text(content)
    entry = entry_of(path, text)
    if entry.key_recipe is not None and names_prompt(entry.key_recipe):
        raise PromptError(
            f"{path}: the recipe of its key starts from the prompt {entry.key_recipe.init!r}, and no prompt of a "
            "library does. Remove it."
        )
    return entry, text


def remove(path: Path, library: Path) -> None:
    """Delete a file; one that is not there is no mistake, and a link is deleted and not followed.

    Raises:
        LibraryError: it cannot be deleted.
    """
    try:
        folder = open_folder(path.parent, library)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=folder)
        finally:
            os.close(folder)
    except StorageError as error:
        raise LibraryError(str(error)) from error
    except OSError as error:
        raise LibraryError(f"cannot remove {path}: {error.strerror}.") from error


def misnamed(path: Path, digest: str) -> str:
    """What is wrong with a prompt file whose name is not that of its content."""
    return (
        f"{path}: the file holds the prompt {digest}, and a library names files by their digest. Move it elsewhere "
        "and add it with `spot library add`."
    )
