"""What goes wrong at a store is said in words, whatever package says it."""

import socket
from typing import Any

import pytest

from spot.errors import MissingExtra, SharingError, StorageError, Unreachable
from spot.remote.address import parse
from spot.remote.store import failures, one_line, package, too_large

ADDRESS = parse("s3://bucket/x")


class HTTPClientError(Exception):
    """As botocore calls its own."""


class NoCredentialsError(Exception):
    """As botocore calls its own."""


class Answered(Exception):
    """With a status, as aiohttp's own."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def chained(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "kind", "named"),
    [
        (PermissionError("Access Denied"), SharingError, "no right to read x .*Access Denied.*AWS_PROFILE"),
        (NoCredentialsError("none"), SharingError, "no right to read x"),
        (Answered(403), SharingError, "no right to read x"),
        (Answered(401), SharingError, "no right to read x"),
        (Answered(503), Unreachable, "cannot be reached to read x"),
        (Answered(429), Unreachable, "cannot be reached to read x"),
        (ConnectionRefusedError("no"), Unreachable, "cannot be reached"),
        (TimeoutError("late"), Unreachable, "cannot be reached"),
        (socket.gaierror("who?"), Unreachable, "cannot be reached"),
        (HTTPClientError("no"), Unreachable, "cannot be reached"),
        (chained(RuntimeError("outer"), HTTPClientError("the reason")), Unreachable, "the reason"),
        (chained(RuntimeError("outer"), Answered(403)), SharingError, "no right"),
        (ValueError("odd\nlines"), SharingError, r"cannot read x \(ValueError: odd lines\)"),
    ],
)
def test_each_kind_of_failure_has_its_words(error: Exception, kind: type[Exception], named: str):
    with pytest.raises(kind, match=named) as refusal, failures(ADDRESS, "read x"):
        raise error
    assert type(refusal.value) is kind and "\n" not in str(refusal.value)


def test_a_full_disk_is_no_failure_of_the_store():
    with (
        pytest.raises(StorageError, match=r"s3://bucket/x: cannot read x: the disk is full"),
        failures(ADDRESS, "read x"),
    ):
        raise chained(RuntimeError("outer"), OSError(28, "No space left on device"))
    with pytest.raises(MemoryError), failures(ADDRESS, "read x"):
        raise MemoryError


def test_a_missing_file_is_left_to_who_asked():
    with pytest.raises(FileNotFoundError), failures(ADDRESS, "read x"):
        raise FileNotFoundError


def test_what_signs_a_request_is_not_repeated():
    text = one_line(ValueError("GET https://host/x?X-Amz-Signature=secret failed"))
    assert "secret" not in text and text.startswith("ValueError: GET https://host/x")


def test_a_package_that_is_missing_has_its_install_line(monkeypatch: pytest.MonkeyPatch):
    def refuse(name: str, *others: Any, **more: Any) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(MissingExtra, match=r"s3:// needs s3fs, .* run: pip install 'spot-transfer\[remote\]'"):
        package("s3fs", ADDRESS)


def test_a_file_that_is_too_large_is_named():
    assert "index.json holds more than the 1,000 bytes" in str(too_large(ADDRESS, "index.json", 1000))
