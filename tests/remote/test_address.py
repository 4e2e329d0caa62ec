"""Which addresses are read, and which are refused in words."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.errors import SharingError
from spot.remote.address import SCHEMES, Address, is_address, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://team/prompts", Address("hf", "team/prompts")),
        ("hf://team/prompts@v1.0", Address("hf", "team/prompts", "v1.0")),
        ("hf://team/prompts@refs/pr/3", Address("hf", "team/prompts", "refs/pr/3")),
        ("s3://bucket/a/b/", Address("s3", "bucket/a/b")),
        ("S3://bucket", Address("s3", "bucket")),
        ("gs://bucket/a", Address("gs", "bucket/a")),
        ("https://host:8443/a", Address("https", "host:8443/a")),
        ("http://127.0.0.1:8000/a", Address("http", "127.0.0.1:8000/a")),
        ("file:///srv/team/prompts", Address("file", "/srv/team/prompts")),
        ("file:///srv/a@b", Address("file", "/srv/a@b")),
        ("memory://x", Address("memory", "x")),
    ],
)
def test_an_address_is_read_and_written_back(text: str, address: Address):
    assert parse(text) == address
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prompts", "is no address; expected one such as hf://OWNER/REPO"),
        ("s4://bucket", "no store has the scheme 's4'; did you mean 's3'"),
        ("ftp://host/x", "no store has the scheme 'ftp'"),
        ("http://example.com/x", "what comes by http may be changed on its way"),
        ("http://127.0.0.1.example.com/x", "what comes by http may be changed"),
        ("http://localhost@example.com/x", "what comes by http may be changed"),
        ("hf://prompts", "names no repository"),
        ("hf://team/prompts/more", "names no repository"),
        ("hf://team/prompts@", "names no repository"),
        ("hf://team/prompts@../x", "names no repository"),
        ("hf://team/../prompts", "names no repository"),
        ("s3://", "has an empty part"),
        ("s3://bucket//x", "has an empty part"),
        ("s3://bucket/../other", "'..' in its path"),
        ("s3://bucket/a b", "none of which is a blank"),
        ("s3://bucket/a\nb", "none of which is a blank"),
        ("s3://bucket/*", "none of which is a blank"),
        ("https://host/x?token=secret", "A token belongs into the store's own settings"),
        ("https://me:secret@host/x", "Leave both out"),
        ("s3://key:secret@bucket/x", "Leave both out"),
        ("file://host/x", "names no absolute path; expected file:///FOLDER"),
        ("file://srv", "names no absolute path"),
        ("file:///", "names no absolute path"),
        ("file:///srv/../etc", "'..' in its path"),
        ("memory://" + "x" * 3000, "up to 2,000 characters"),
    ],
)
def test_what_no_store_could_mean_is_refused(text: str, named: str):
    with pytest.raises(SharingError, match=re.escape(named)) as refusal:
        parse(text)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 600


def test_a_password_is_not_repeated():
    with pytest.raises(SharingError) as refusal:
        parse("https://me:secret@host/x")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("name", ["my_library", "/srv/x", "packaged", "C:\\x", Path("s3://bucket"), None, 5, "a:b//c"])
def test_names_of_folders_are_no_addresses(name: object):
    assert not is_address(name)


@given(st.text(max_size=40), st.sampled_from([*SCHEMES, "http", "x"]))
def test_any_text_is_read_or_refused(rest: str, scheme: str):
    text = f"{scheme}://{rest}"
    assert is_address(text)
    try:
        address = parse(text)
    except SharingError:
        return
    assert ".." not in address.path.split("/") and parse(str(address)) == address
