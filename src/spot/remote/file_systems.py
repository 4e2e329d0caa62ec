"""Keep a shared library in what fsspec reaches: the object stores, web servers, and memory."""

import time
from collections.abc import Mapping
from typing import Any

from spot.errors import SharingError, Unreachable
from spot.remote.address import Address
from spot.remote.store import failures, package, too_large

_PART = 2**20  # bytes that are read at a time
_PATIENCE = 30.0  # seconds for a web server to say something; s3fs and gcsfs have their own
_LEAST_RATE = 1_000  # bytes a second, behind the patience
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "https": "aiohttp", "http": "aiohttp"}
_INSTALL = {"gs": "pip install gcsfs"}


class FileSystemStore:
    """A place that fsspec reaches.

    Args:
        address: of the place.
        file_system: of fsspec, which writes an object whole or not at all.
        writable: whether it takes files; a place that does not is not asked for lists either.
    """

    def __init__(self, address: Address, file_system: Any, writable: bool = True) -> None:
        """Name the place; nothing is asked of it."""
        self.address = address
        self._file_system = file_system
        self._writable = writable
        self._root = str(address) if address.scheme in ("https", "http") else address.path
        # A size that is said here saves a web server one question; a block size of 0 reads as the bytes come.
        self._options = {} if writable else {"block_size": 0, "size": 1}

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """As `Store.read`."""
        content = bytearray()
        try:
            with (
                failures(self.address, f"read {name}"),
                self._file_system.open(f"{self._root}/{name}", "rb", **self._options) as file,
            ):
                began = time.monotonic()
                while len(content) <= most_bytes and (part := file.read(_PART)):
                    content += part
                    if time.monotonic() - began > _PATIENCE + len(content) / _LEAST_RATE:
                        raise Unreachable(
                            f"{self.address}: {name} comes at less than {_LEAST_RATE:,} bytes a second; expected a "
                            "place that answers. Try again later."
                        )
        except FileNotFoundError:
            return None
        if len(content) > most_bytes:
            raise too_large(self.address, name, most_bytes)
        return bytes(content)

    def sizes(self, folder: str) -> dict[str, int] | None:
        """As `Store.sizes`."""
        if not self._writable:
            return None
        try:
            with failures(self.address, f"list {folder}"):
                entries = self._file_system.ls(f"{self._root}/{folder}", detail=True)
        except FileNotFoundError:
            return {}
        return {entry["name"].rpartition("/")[2]: entry["size"] for entry in entries if entry["type"] == "file"}

    def write(self, files: Mapping[str, bytes], _message: str, /) -> None:
        """As `Store.write`."""
        if not self._writable:
            raise SharingError(
                f"{self.address} can only be read. Push to the store that stands behind it, such as s3://BUCKET/PATH "
                "or hf://OWNER/REPO."
            )
        for name, content in files.items():
            try:
                with failures(self.address, f"write {name}"):
                    self._file_system.pipe_file(f"{self._root}/{name}", content)
            except FileNotFoundError as error:
                bucket = self.address.path.partition("/")[0]
                raise SharingError(
                    f"{self.address}: there is no bucket {bucket!r}. Make it first, or check the spelling."
                ) from error


def file_system_store(address: Address) -> FileSystemStore:
    """A store of fsspec.

    Raises:
        MissingExtra: a package is not installed.
    """
    fsspec = package("fsspec", address)
    is_web = address.scheme in ("https", "http")
    options: dict[str, Any] = {}
    if needed := _PACKAGES.get(address.scheme):
        module = package(needed, address, *filter(None, (_INSTALL.get(address.scheme),)))
        if is_web:
            patience = module.ClientTimeout(total=None, sock_connect=_PATIENCE, sock_read=_PATIENCE)
            options = {"client_kwargs": {"timeout": patience}}
    with failures(address, "begin"):
        # What an object that was made before has listed is not asked: others write there.
        file_system = fsspec.filesystem(address.scheme, skip_instance_cache=True, use_listings_cache=False, **options)
    return FileSystemStore(address, file_system, writable=not is_web)
