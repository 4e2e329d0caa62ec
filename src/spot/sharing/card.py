"""Write the page of a shared library for people: a model card, from what the prompt files say."""

from collections.abc import Sequence

from spot.library.card import library_card
from spot.library.entries import Entry
from spot.remote.address import Address


def shared_card(entries: Sequence[Entry], address: Address) -> bytes:
    """The card of a shared library; equal entries give equal bytes.

    Args:
        entries: all prompts at the address.
        address: where they are.
    """
    digest = entries[0].digest if entries else "DIGEST"
    return library_card(
        entries,
        "```\n"
        "pip install 'spot-transfer[remote]'\n"
        f"spot library list --library {address}\n"
        f"spot transfer mine.toml --library {address}\n"
        f"spot library pull {address} --library my_library\n"
        "```\n\n"
        f"`spot library show {digest} --library {address}` tells all that a prompt says of itself. Files are "
        "safetensors and JSON; nothing in them can run, and each is checked by its SHA-256 before it counts.",
    )
