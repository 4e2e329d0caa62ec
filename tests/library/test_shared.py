"""What comes of a shared library is checked to its last byte before it is a prompt or a record."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from spot.errors import PromptError, SharingError, Unreachable
from spot.library.history import TransferRecord, encode_summary, line_of
from spot.library.shared import fetch_prompt, fetch_prompts, fetch_transfers, objection, record_key
from spot.prompts.prompt import to_bytes
from spot.remote.address import parse
from spot.remote.manifest import Manifest, StoredFile, prompt_name, transfers_name
from spot.remote.opening import open_store
from spot.remote.store import Store
from tests.support.prompts import library_prompt


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/shared")


def test_a_prompt_comes_as_it_was_pushed(store: Store):
    prompt = library_prompt()
    content = to_bytes(prompt)
    store.write({prompt_name(prompt.digest): content}, "")
    files = (StoredFile("0" * 64, 5), StoredFile.of(content))
    assert to_bytes(fetch_prompt(store, prompt.digest, files)) == content


@pytest.mark.parametrize(
    ("content", "named", "is_listed"),
    [
        (None, "stands in the index and is not there", False),
        (b"other", "is damaged: its size or SHA-256", False),
        (b"\x80\x04K\x01.", "this is a pickle", True),
        (to_bytes(library_prompt("x", 8)), "expected the one that its name says", True),
    ],
)
def test_what_is_not_the_prompt_is_refused(content: bytes | None, named: str, is_listed: bool, store: Store):
    digest, expected = library_prompt().digest, to_bytes(library_prompt())
    if content is not None:
        store.write({prompt_name(digest): content}, "")
    files = (StoredFile.of(content if is_listed and content else expected),)
    with pytest.raises((SharingError, PromptError), match=named):
        fetch_prompt(store, digest, files)


def test_records_come_as_they_were_pushed_or_not_at_all(store: Store):
    content = line_of(TransferRecord("a", "b", 1.0))
    checksum = sha256(content).hexdigest()
    with pytest.raises(SharingError, match="is not there"):
        fetch_transfers(store, checksum, len(content))
    store.write({transfers_name(checksum): content}, "")
    assert fetch_transfers(store, checksum, len(content)) == content
    store.write({transfers_name(checksum): content[:-2] + b"x\n"}, "")
    with pytest.raises(SharingError, match="is damaged"):
        fetch_transfers(store, checksum, len(content))


def test_records_are_told_apart_by_id_or_by_all_that_they_say():
    first, second = TransferRecord("a", "b", 1.0, id="x"), TransferRecord("c", "d", 2.0, id="x")
    assert record_key(first) == record_key(second)
    assert record_key(TransferRecord("a", "b", 1.0)) != record_key(TransferRecord("a", "b", 2.0))


def test_a_record_of_another_width_does_not_belong():
    record = TransferRecord("a", "b", 1.0, embedding={"mean": encode_summary(np.ones(4))})
    assert objection(record, 4) is None and objection(TransferRecord("a", "b", 1.0), None) is None
    assert "holds 4 numbers under 'mean'; expected 5" in str(objection(record, 5))


def test_prompts_come_several_at_a_time_and_what_is_damaged_is_named(store: Store, tmp_path: Path):
    prompts = [library_prompt(f"task{seed}", seed) for seed in range(20)]
    whole = Manifest({prompt.digest: (StoredFile.of(to_bytes(prompt)),) for prompt in prompts})
    store.write({prompt_name(prompt.digest): to_bytes(prompt) for prompt in prompts[1:]}, "")
    steps: list[tuple[int, int]] = []
    refused = fetch_prompts(store, whole, list(whole.prompts), tmp_path / "ours", lambda *step: steps.append(step))
    assert list(refused) == [prompts[0].digest] and steps == [(number, 20) for number in range(1, 21)]
    for prompt in prompts[1:]:
        assert (tmp_path / "ours" / prompt_name(prompt.digest)).read_bytes() == to_bytes(prompt)


def test_where_nothing_answers_any_more_fetching_ends(tmp_path: Path):
    class Gone:
        address = parse("memory://x")
        asked = 0

        def read(self, name: str, most_bytes: int) -> bytes:
            self.asked += 1
            raise Unreachable("gone")

    store = Gone()
    whole = Manifest({f"{number:016x}": (StoredFile("0" * 64, 1),) for number in range(2000)})
    with pytest.raises(Unreachable):
        fetch_prompts(store, whole, list(whole.prompts), tmp_path)
    assert store.asked < 100
