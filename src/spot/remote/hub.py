"""Keep a shared library, or one prompt, in a repository of the Hugging Face hub."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spot.errors import NotShared, SharingError, Unreachable
from spot.remote.address import Address
from spot.remote.store import Raced, failures, one_line, package, too_large
from spot.storage.opening import read_bounded

_BATCH = 100  # files a commit, as the hub advises


class HubStore:
    """A repository at one commit; what is written moves it on."""

    def __init__(self, address: Address, api: Any, head: str) -> None:
        """Name the repository and its commit."""
        self.address = address
        self._api = api
        self.head = head
        self._listed: dict[str, int] | None = None

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """As `Store.read`."""
        size = self._sizes().get(name)
        if size is None:
            return None
        if size > most_bytes:
            raise too_large(self.address, name, most_bytes)
        with tempfile.TemporaryDirectory(prefix="spot-") as folder, hub_failures(self.address, f"read {name} of"):
            path = self._api.hf_hub_download(self.address.path, name, revision=self.head, local_dir=folder)
            return read_bounded(Path(path), most_bytes)

    def sizes(self, folder: str) -> dict[str, int]:
        """As `Store.sizes`."""
        inside = f"{folder}/"
        return {
            name.removeprefix(inside): size
            for name, size in self._sizes().items()
            if name.startswith(inside) and "/" not in name.removeprefix(inside)
        }

    def write(self, files: Mapping[str, bytes], message: str, /) -> None:
        """As `Store.write`, in commits that each follow the last that was seen here."""
        names = list(files)
        for begin in range(0, len(names), _BATCH):
            batch = {name: files[name] for name in names[begin : begin + _BATCH]}
            self.head = commit(self._api, self.address, batch, message, parent=self.head)
        self._listed = None

    def _sizes(self) -> dict[str, int]:
        """All files of the commit."""
        if self._listed is None:
            with hub_failures(self.address, "list the files of"):
                tree = self._api.list_repo_tree(self.address.path, recursive=True, revision=self.head)
                self._listed = {entry.path: entry.size for entry in tree if hasattr(entry, "size")}
        return self._listed


def hub_store(address: Address, api: Any = None) -> HubStore:
    """A repository as it is now.

    Args:
        address: of the repository.
        api: what asks the hub; left out: with the token that is logged in.

    Raises:
        MissingExtra: huggingface_hub is not installed.
        NotShared, SharingError, Unreachable: it is not there, there is no right to it, or nothing answers.
    """
    api = api or client(address)
    with hub_failures(address, "open"):
        info = api.repo_info(address.path, revision=address.revision)
    return HubStore(address, api, str(info.sha))


def client(address: Address, token: str | bool | None = None) -> Any:
    """What asks the hub.

    Raises:
        MissingExtra: huggingface_hub is not installed.
    """
    return package("huggingface_hub", address).HfApi(token=token)


def make_repository(api: Any, address: Address, private: bool | None) -> None:
    """Make a repository; one that is there stays as it is.

    Raises:
        SharingError, Unreachable: it cannot be made.
    """
    with hub_failures(address, "make"):
        api.create_repo(address.path, private=private or None, exist_ok=True)


def download(api: Any, address: Address, filename: str, local_only: bool) -> Path | None:
    """A file of a repository in the hub's own cache; None where the repository has none of that name.

    Raises:
        NotShared, SharingError, Unreachable: there is no such repository, no right to it, or nothing answers.
    """
    errors = package("huggingface_hub.errors", address)
    with hub_failures(address, f"read {filename} of"):
        try:
            path = api.hf_hub_download(address.path, filename, revision=address.revision, local_files_only=local_only)
        except errors.RemoteEntryNotFoundError:
            return None
    return Path(path)


def commit(api: Any, address: Address, files: Mapping[str, bytes], message: str, parent: str | None = None) -> str:
    """Add files to a repository in one commit.

    Args:
        api: what asks the hub.
        address: the repository and the branch.
        files: contents by name.
        message: of the commit.
        parent: the commit that must be the last one there; None for any.

    Returns:
        The new commit.

    Raises:
        Raced: `parent` is not the last one; nothing was written.
        SharingError, Unreachable: it was refused, whole.
    """
    operation = package("huggingface_hub", address).CommitOperationAdd
    operations = [operation(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
    with hub_failures(address, "write to"):
        info = api.create_commit(
            address.path, operations, commit_message=message, revision=address.revision, parent_commit=parent
        )
    return str(info.oid)


@contextlib.contextmanager
def hub_failures(address: Address, deed: str) -> Iterator[None]:
    """Say in words what goes wrong at the hub.

    Args:
        address: of the repository.
        deed: what is tried, such as `open`; the repository follows it in the message.

    Raises:
        Raced: somebody else has written meanwhile.
        SharingError, Unreachable: anything else.
    """
    errors = package("huggingface_hub.errors", address)
    try:
        with failures(address, f"{deed} the repository"):
            yield
    except FileNotFoundError as error:
        raise Unreachable(
            f"{address} cannot be reached ({one_line(error)}). Check the network, and run the command again."
        ) from error
    except SharingError as error:
        cause: Any = error.__cause__
        if isinstance(cause, errors.HfHubHTTPError) and cause.response.status_code in (409, 412):
            raise Raced(str(error)) from error
        if isinstance(cause, errors.GatedRepoError):
            raise SharingError(
                f"{address}: its owner lets in whoever asks on its page first. Ask there, log in with `hf auth login` "
                "or set HF_TOKEN, and run the command again."
            ) from error
        if isinstance(cause, errors.RepositoryNotFoundError):
            raise NotShared(
                f"{address}: there is no such repository, or it is private and the token at hand may not see it. "
                "Check the spelling, log in with `hf auth login` or set HF_TOKEN; `spot library push` makes one."
            ) from error
        if isinstance(cause, errors.RevisionNotFoundError):
            raise SharingError(
                f"{address}: the repository has no revision {address.revision!r}. Name a branch, a tag or a commit."
            ) from error
        raise
