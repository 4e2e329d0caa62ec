"""What a place must be able to do to hold a shared library, and how its failures are said."""

import contextlib
import errno
import importlib
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Protocol

from spot.errors import MissingExtra, SharingError, SpotError, StorageError, Unreachable
from spot.remote.address import Address

# Classes of several packages, by name, because none of these packages need be here.
_SILENT = {"ConnectionError", "TimeoutError", "gaierror", "HTTPClientError", "ClientConnectionError", "TransportError"}
_RIGHTLESS = {"PermissionError", "NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
_EXTRA = "pip install 'spot-transfer[remote]'"


class Raced(Exception):
    """Somebody else has written meanwhile; nothing of ours was, and it can be tried anew."""


class Store(Protocol):
    """A place as it was when it was opened; names are relative to the address and of our own making."""

    @property
    def address(self) -> Address:
        """Where it is."""
        ...

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """The content of a file; None where there is none.

        Raises:
            SharingError: it is larger, or may not be read.
            Unreachable: nothing answers.
        """
        ...

    def sizes(self, folder: str) -> dict[str, int] | None:
        """The files of a folder and their bytes; None where the place cannot list.

        Raises:
            SharingError, Unreachable: as `read`.
        """
        ...

    def write(self, files: Mapping[str, bytes], message: str, /) -> None:
        """Write files in this order, each whole or not at all.

        Args:
            files: contents by name.
            message: what this is for, where a place keeps such messages.

        Raises:
            SharingError, Unreachable: they cannot be written; the first of them may have been.
            Raced: nothing was written.
        """
        ...


@contextlib.contextmanager
def failures(address: Address, deed: str) -> Iterator[None]:
    """Say in words what goes wrong at a store, whatever package says it.

    Args:
        address: of the store.
        deed: what is tried, such as `read index.json`.

    Raises:
        Unreachable: nothing answers.
        StorageError: the disk of this machine is full.
        SharingError: anything else.
        FileNotFoundError, MemoryError: passed on.
    """
    try:
        yield
    except (SpotError, FileNotFoundError, MemoryError, Raced):
        raise
    except Exception as error:
        chain = list(_chain(error))
        if any(isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT) for link in chain):
            raise StorageError(
                f"{address}: cannot {deed}: the disk is full. Free some disk space, also where temporary files go, and "
                "run the command again."
            ) from error
        names = {kind.__name__ for link in chain for kind in type(link).__mro__}
        status, reason = next(((code, link) for link in chain if (code := _status(link))), (None, chain[-1]))
        if status in (401, 403) or names & _RIGHTLESS:
            raise SharingError(
                f"{address}: no right to {deed} ({one_line(reason)}). {_credentials(address)}"
            ) from error
        if names & _SILENT or (status is not None and status >= 500) or status == 429:
            raise Unreachable(
                f"{address} cannot be reached to {deed} ({one_line(reason)}). Check the address and the network, "
                "and run the command again."
            ) from error
        raise SharingError(f"{address}: cannot {deed} ({one_line(reason)}). Check the address.") from error


def too_large(address: Address, name: str, most_bytes: int) -> SharingError:
    """The error for a file of more bytes than any of its kind."""
    return SharingError(
        f"{address}: {name} holds more than the {most_bytes:,} bytes that it may have. It is damaged or no file of a "
        "shared library."
    )


def package(name: str, address: Address, install: str = _EXTRA) -> ModuleType:
    """An optional package that a scheme needs.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(
            f"{address.scheme}:// needs {name.partition('.')[0]}, which is not installed; run: {install}"
        ) from error


def one_line(error: BaseException) -> str:
    """An error of another package on one line, without what signs a request."""
    text = re.sub(r"\?\S*", "", " ".join(str(error).split()))
    return ": ".join(filter(None, (type(error).__name__, text[:300])))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from, the first reason last."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _status(error: BaseException) -> int | None:
    """The status that an HTTP answer had, by whatever name a package keeps it."""
    for name in ("status", "code"):
        if isinstance(value := getattr(error, name, None), int):
            return value
    return getattr(getattr(error, "response", None), "status_code", None)


def _credentials(address: Address) -> str:
    """Where a store looks for the rights of its user."""
    return {
        "hf": "Log in with `hf auth login` or set HF_TOKEN, and check the spelling of the repository.",
        "s3": "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, of somebody who may.",
        "gs": "Log in with `gcloud auth application-default login` as somebody who may.",
    }.get(address.scheme, "Ask whoever keeps it.")
