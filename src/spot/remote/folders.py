"""Keep a shared library in a folder of a file system that several people may write to."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from spot.errors import SharingError, StorageError
from spot.remote.address import Address
from spot.storage.files import write_whole
from spot.storage.opening import cannot_read, open_folder, read_bounded


class FolderStore:
    """A `file://` address. No link below the folder is followed."""

    def __init__(self, address: Address) -> None:
        """Name the folder; it need not exist."""
        self.address = address
        self._root = Path(address.path)

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """As `Store.read`."""
        path = self._root / name
        try:
            return read_bounded(path, most_bytes, self._root)
        except StorageError as error:
            raise SharingError(f"{self.address}: {error}") from error

    def sizes(self, folder: str) -> dict[str, int]:
        """As `Store.sizes`; what is no regular file is left out."""
        try:
            descriptor = open_folder(self._root / folder, self._root)
            try:
                with os.scandir(descriptor) as files:
                    kept = [(file.name, file.stat(follow_symlinks=False)) for file in files]
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except StorageError as error:
            raise SharingError(f"{self.address}: {error}") from error
        except OSError as error:
            raise SharingError(f"{self.address}: {cannot_read(self._root / folder, error)}") from error
        return {name: status.st_size for name, status in kept if stat.S_ISREG(status.st_mode)}

    def write(self, files: Mapping[str, bytes], _message: str, /) -> None:
        """As `Store.write`."""
        for name, content in files.items():
            write_whole(self._root / name, content, self._root)
