"""Open the place that an address names."""

from spot.remote.address import Address, parse
from spot.remote.file_systems import file_system_store
from spot.remote.folders import FolderStore
from spot.remote.hub import client, hub_store, make_repository
from spot.remote.store import Store


def open_store(address: Address | str, *, make: bool = False, private: bool = False) -> Store:
    """The place of a shared library, as it is now.

    Args:
        address: where.
        make: for writing: a repository that is not there is made.
        private: make it for its owners' eyes alone.

    Raises:
        SharingError: it is no address, or there is no such repository, or no right to it.
        Unreachable: nothing answers.
        MissingExtra: a package is not installed.
    """
    address = parse(address) if isinstance(address, str) else address
    if address.scheme == "file":
        return FolderStore(address)
    if address.scheme == "hf":
        api = client(address)
        if make:
            make_repository(api, address, private)
        return hub_store(address, api)
    return file_system_store(address)
