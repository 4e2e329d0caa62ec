"""Write a folder that is whole or not there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from spot.errors import StorageError
from spot.storage.files import TEMPORARY_SUFFIX


def check_new(directory: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        StorageError: it does, or cannot be read.
    """
    try:
        names = sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"cannot export to {directory}: {error.strerror or error}. Name a new folder.") from error
    if names:
        raise StorageError(
            f"{directory} holds other things ({', '.join(names[:5])}); they stay as they are. Name a new or empty "
            "folder."
        )


@contextmanager
def whole_folder(directory: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `directory` when all is in it, and is gone when something fails.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    partial = directory.with_name(f".{directory.name}{TEMPORARY_SUFFIX}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for path in partial.iterdir():
            path.chmod(partial.stat().st_mode & (0o777 if os.access(path, os.X_OK) else 0o666))
        with suppress(FileNotFoundError):
            directory.rmdir()
        os.replace(partial, directory)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"cannot write {directory}: {reason}. Free some disk space or name another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
