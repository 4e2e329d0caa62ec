"""Read the addresses of shared libraries, and refuse what no store could mean."""

import re
from dataclasses import dataclass

from spot.errors import SharingError, did_you_mean

SCHEMES = ("hf", "s3", "gs", "https", "file", "memory")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost)(?::[0-9]{1,5})?(?:/|\Z)")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,199}", re.ASCII)
_LONGEST = 2_000  # characters


@dataclass(frozen=True)
class Address:
    """Where a shared library lies.

    Attributes:
        scheme: one of `SCHEMES`, or `http` of this very machine.
        path: what stands behind `://`, without a slash at its end; of `hf` the repository.
        revision: of a repository: a branch, a tag or a commit; None for its main branch.
    """

    scheme: str
    path: str
    revision: str | None = None

    def __str__(self) -> str:
        """The address as its user writes it."""
        return f"{self.scheme}://{self.path}{f'@{self.revision}' if self.revision else ''}"


def is_address(text: object) -> bool:
    """Whether a name is meant to be an address, of a known scheme or not, and no folder."""
    return isinstance(text, str) and _SCHEME.match(text) is not None


def parse(text: str) -> Address:
    """The address that a text spells.

    Raises:
        SharingError: the scheme is unknown, or the rest is nothing that a store of this scheme could mean.
    """
    match = _SCHEME.match(text)
    if match is None:
        raise SharingError(f"{text!r:.200} is no address; expected one such as {', '.join(_examples())}.")
    scheme, path = match[1].lower(), text[match.end() :].rstrip("/")
    if scheme not in (*SCHEMES, "http"):
        raise SharingError(f"{text!r:.200}: no store has the scheme {scheme!r:.40}; {did_you_mean(scheme, SCHEMES)}")
    if scheme == "http" and not _LOOPBACK.match(path):
        raise SharingError(f"{text!r:.200}: what comes by http may be changed on its way. Give an https:// address.")
    if len(text) > _LONGEST or not text.isprintable() or re.search(r"[\s?#*\\\[\]]", path):
        raise SharingError(
            f"{text!r:.200}: an address has up to {_LONGEST:,} characters, none of which is a blank, a control "
            "character or one of ? # * \\ [ ]. A token belongs into the store's own settings, never into an address."
        )
    if scheme == "hf":
        return _repository(text, path)
    if "@" in path.partition("/")[0] and scheme != "file":
        raise SharingError(
            f"{scheme}://... holds a name and maybe a password in front of '@'. Leave both out, and give them in the "
            "settings that the store itself reads."
        )
    parts = path.removeprefix("/").split("/") if scheme == "file" else path.split("/")
    if scheme == "file" and not path.startswith("/"):
        raise SharingError(f"{text!r:.200} names no absolute path; expected file:///FOLDER, with three slashes.")
    if not all(part not in ("", ".", "..") for part in parts):
        raise SharingError(f"{text!r:.200} has an empty part, '.' or '..' in its path; expected {_example(scheme)}.")
    return Address(scheme, path)


def _repository(text: str, path: str) -> Address:
    """A repository of the hub and its revision."""
    name, mark, revision = path.partition("@")
    if not _REPOSITORY.fullmatch(name) or (mark and (not _REVISION.fullmatch(revision) or ".." in revision)):
        raise SharingError(
            f"{text!r:.200} names no repository; expected hf://OWNER/REPO or hf://OWNER/REPO@REVISION, where a "
            "revision is a branch, a tag or a commit."
        )
    return Address("hf", name, revision or None)


def _example(scheme: str) -> str:
    """An address of a scheme."""
    return next((text for text in _examples() if text.startswith(f"{scheme}:")), "https://HOST/PATH")


def _examples() -> tuple[str, ...]:
    """An address of each scheme."""
    return (
        "hf://OWNER/REPO",
        "s3://BUCKET/PATH",
        "gs://BUCKET/PATH",
        "https://HOST/PATH",
        "file:///FOLDER",
        "memory://NAME",
    )
