"""Fuzz prompt files and libraries: their files, records of transfers and index.

python -m tests.campaigns.prompts --trials 1000 --seed 1
"""

import contextlib
import hashlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spot.errors import SpotError
from spot.library import cache, history
from spot.library.history import TransferRecord, line_of
from spot.library.library import Library
from spot.prompts.overlap import build
from spot.prompts.prompt import Parent, SoftPrompt, from_bytes, header, load, reading_of, save, to_bytes
from spot.reading import Reading
from spot.retrieval.embeddings import encoded_summaries
from spot.retrieval.ranking import retrieve
from spot.retrieval.search import SUMMARIES, nearest
from tests.campaigns.mutations import mutate_bytes, mutate_file, mutate_json, spell
from tests.campaigns.trials import Campaign, Failure, Outcome, command, main, state, watch
from tests.support.prompts import library_prompt

TARGET = library_prompt("new", seed=9)
TASKS = ("red", "green", "blue", "pink")


def campaign(folder: Path) -> Campaign:
    """Make a library and a folder of the user's; a trial damages a copy of the first and looks at both."""
    precious = folder / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"precious, without a line end")
    (precious / ".mine.tmp").write_bytes(b"precious")
    with contextlib.closing(sqlite3.connect(precious / "database")) as database, database:
        database.execute("CREATE TABLE mine(x)")
    good = Library.create(folder / "good")
    prompts = [good.add(_source(task, seed)).digest for seed, task in enumerate(TASKS)]
    records = [_record(digest, number, target) for target in range(16) for number, digest in enumerate(prompts)]
    good.record_transfers(records)
    nearest(TARGET, good, k=4)
    before = state(precious)

    def trial(random_: random.Random, folder: Path, number: int) -> Sequence[Failure]:
        place = folder / "trial"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        kind = random_.choice((_prompt_file, _prompt_file, _library_file, _library_file, _journal, _index))
        mutation, acts = kind(random_, place, good, precious)
        failures = [Failure(number, mutation, name, fault) for name, act in acts if (fault := act().fault) is not None]
        if state(precious) != before:
            failures.append(Failure(number, mutation, "all", "a file of the user's was changed"))
            for path in precious.rglob("*"):
                path.unlink()
            for name, content in before.items():
                (precious / name).write_bytes(content)
        return failures

    return trial


Act = tuple[str, Callable[[], Outcome]]


def _source(task: str, seed: int) -> SoftPrompt:
    """A prompt with everything that a file can hold, and that a library takes."""
    reading = Reading(cue="A:", labels=(("0", "bad"), ("1", "good"))) if seed % 2 else None
    sketch = build(["a text that is long enough to be sketched"])
    return library_prompt(task, seed, reading=reading, sketch=sketch, task_revision="1", data_digest="d" * 16)


def _record(digest: str, number: int, target: int) -> TransferRecord:
    """A past transfer."""
    embedding = encoded_summaries(library_prompt(f"past{target}", 100 + target))
    return TransferRecord(
        digest, f"past{target}", 0.5 * number - target % 3, f"{digest}-{target}", "old", embedding=embedding
    )


def signed(prompt: SoftPrompt, text: str) -> bytes:
    """A prompt file with another header, by somebody who also made its checksum right."""
    data = to_bytes(prompt)
    size = int.from_bytes(data[:8], "little")
    stored = json.loads(data[8 : 8 + size])
    stored["__metadata__"] = {
        "spot": text,
        "checksum": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
    }
    head = json.dumps(stored).encode()
    return len(head).to_bytes(8, "little") + head + data[8 + size :]


def _prompt_file(random_: random.Random, place: Path, good: Library, precious: Path) -> tuple[str, list[Act]]:
    """A prompt file: bytes, a header that is signed, or something else in its place."""
    prompt = _source("red", random_.randrange(2))
    prompt = replace(prompt, parents=(Parent("0123456789abcdef", 1.0),)) if random_.random() < 0.5 else prompt
    path = place / "prompt.safetensors"
    content: Any = None
    match random_.choice(("bytes", "signed", "signed", "signed", "file")):
        case "bytes":
            data, mutation = mutate_bytes(random_, to_bytes(prompt))
            path.write_bytes(data)
        case "signed":
            original = to_bytes(prompt)
            size = int.from_bytes(original[:8], "little")
            content = json.loads(json.loads(original[8 : 8 + size])["__metadata__"]["spot"])
            content, mutation = mutate_json(random_, content)
            path.write_bytes(signed(prompt, spell(content)))
        case _:
            save(prompt, path)
            mutation = mutate_file(random_, path, precious)

    def read() -> None:
        """What is taken is what was written or signed, can be kept again, and says the same by `header`."""
        taken = load(path)
        if content is None:
            assert taken.digest == prompt.digest, "damaged bytes are taken"
        else:
            described = header(path)
            wrong = [name for name, value in content.items() if name in described and described[name] != value]
            assert not [name for name in wrong if name not in ("arrays", "reading")], f"{wrong} are not as signed"
        assert from_bytes(to_bytes(taken)).digest == taken.digest
        with contextlib.suppress(SpotError):
            reading_of(taken)

    library = place / "library"
    return f"prompt file: {mutation}", [
        ("load", lambda: watch(read)),
        ("header", lambda: watch(lambda: header(path))),
        ("add", lambda: command("library", "add", path, "--library", library)),
        ("list", lambda: command("library", "list", "--library", library)),
        ("show", lambda: command("library", "show", "red", "--library", library)),
        ("verify", lambda: command("library", "verify", "--library", library)),
    ]


def _acts(place: Path, check: Callable[[Library], None]) -> list[Act]:
    """Everything that reads or writes a library; `check` looks at what it is taken to hold."""
    return [
        ("check", lambda: watch(lambda: check(Library(place)))),
        ("list", lambda: command("library", "list", "--library", place)),
        ("show", lambda: command("library", "show", "green", "--library", place, "--json")),
        ("verify", lambda: command("library", "verify", "--library", place)),
        (
            "retrieve",
            lambda: watch(lambda: [retrieve(TARGET, place, k=1, rank_by=by) for by in ("mean", "max", "learned")]),
        ),
        ("record", lambda: watch(lambda: Library(place).record_transfers([_record("f" * 16, 1, 99)]))),
        ("add", lambda: watch(lambda: Library.create(place).add(library_prompt("another", 50)))),
        ("remove", lambda: command("library", "remove", "blue", "--library", place)),
        ("reindex", lambda: command("library", "reindex", "--library", place)),
        ("verify again", lambda: command("library", "verify", "--library", place)),
    ]


def _copied(place: Path, good: Library) -> Path:
    """A copy of the library, index included, whose rows are believed there."""
    shutil.copytree(good.path, place / "library")
    nearest(TARGET, Library(place / "library"), k=4)
    return place / "library"


def _as_ever(good: Library, whole: bool, apart: float = 0.0) -> Callable[[Library], None]:
    """Whether a library holds no other prompts than the good one, or just these; how far similarities may be apart."""
    expected = {entry.digest: replace(entry, path=Path()) for entry in good.entries()}
    ranking = [(source.prompt, source.similarity) for source in nearest(TARGET, good, k=4)]

    def check(library: Library) -> None:
        entries = {entry.digest: replace(entry, path=Path()) for entry in library.entries()}
        assert entries == expected if whole else entries.items() <= expected.items(), "other prompts than in the files"
        if entries:
            sources = nearest(TARGET, library, k=len(entries))
            seen = [(source.prompt, source.similarity) for source in sources]
            wanted = [pair for pair in ranking if pair[0] in entries]
            assert [name for name, _ in seen] == [name for name, _ in wanted], "another ranking than by the files"
            differences = [abs(a - b) for (_, a), (_, b) in zip(seen, wanted, strict=True)]
            assert max(differences) <= apart, "other similarities than by the files"

    return check


def _library_file(random_: random.Random, place: Path, good: Library, precious: Path) -> tuple[str, list[Act]]:
    """Any file or folder of a library: something else in its place, or other bytes."""
    library = _copied(place, good)
    names = ["prompts", "index.sqlite", "index.sqlite-journal", "index.sqlite-wal", "transfers.jsonl", "prompts.lock"]
    path = random_.choice([*(library / name for name in names), *sorted((library / "prompts").iterdir())])
    if path.is_file() and random_.random() < 0.4:
        data, mutation = mutate_bytes(random_, path.read_bytes())
        path.write_bytes(data)
        mutation = f"{path.name}: {mutation}"
    else:
        mutation = mutate_file(random_, path, precious)
    is_truth = path.name == "prompts" or path.parent.name == "prompts"
    return f"library: {mutation}", _acts(library, _as_ever(good, whole=not is_truth))


def _journal(random_: random.Random, place: Path, good: Library, precious: Path) -> tuple[str, list[Act]]:
    """A line of the records of transfers, and its neighbours."""
    library = _copied(place, good)
    path = library / "transfers.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    at = random_.randrange(len(lines))
    value, mutation = mutate_json(random_, json.loads(lines[at]))
    lines[at] = spell(value).encode("utf-8", "surrogatepass") + b"\n"
    path.write_bytes(b"".join(lines))

    def check(opened: Library) -> None:
        """What is taken can be written again, and a line that is refused is named by `verify`."""
        _as_ever(good, whole=True)(opened)
        try:
            records = opened.transfers()
        except SpotError as error:
            assert str(error) in opened.verify() and f"line {at + 1} " in str(error), f"not named: {error}"
        else:
            assert [json.loads(line_of(record)) for record in records] == [
                {name: part for name, part in json.loads(line).items() if part is not None} for line in lines
            ]
            assert history.problems(path) == []

    return f"journal: {mutation}", _acts(library, check)


def _index(random_: random.Random, place: Path, good: Library, precious: Path) -> tuple[str, list[Act]]:
    """A value in the index, with or without a right checksum."""
    library = _copied(place, good)
    table, column = random_.choice(
        [("headers", name) for name in ("digest", "stamp", "header", "checksum")]
        + [("vectors", name) for name in ("name", "digest", "stamp", "vector", "vector", "checksum")]
    )
    is_signed = column in ("header", "vector") and random_.random() < 0.5
    with contextlib.closing(sqlite3.connect(library / "index.sqlite")) as database, database:
        rows = database.execute(f"SELECT digest, stamp, {column} FROM {table} ORDER BY digest").fetchall()
        digest, stamp, old = random_.choice(rows)
        if column == "header" and random_.random() < 0.8:
            value, mutation = mutate_json(random_, json.loads(old))
            new: Any = spell(value)
        elif isinstance(old, bytes):
            new, mutation = mutate_bytes(random_, old)
        else:
            new = random_.choice((None, 7, 7.5, "", "x", b"\xff\xfe", "[" * 100_000, old + old[:1]))
            mutation = f"{new!r:.30}"
        with contextlib.suppress(sqlite3.IntegrityError):
            database.execute(f"UPDATE {table} SET {column} = ? WHERE digest = ?", (new, digest))
        if is_signed and isinstance(new, str | bytes):
            data = new if isinstance(new, bytes) else new.encode("utf-8", "surrogatepass")
            checksum = cache._checksum("mean" if table == "vectors" else "", digest, stamp, data)
            database.execute(f"UPDATE {table} SET checksum = ? WHERE digest = ?", (checksum, digest))

    def check(opened: Library) -> None:
        """What differs from the files is not taken; where it is signed, `verify` says so."""
        problems = opened.verify(SUMMARIES)
        if is_signed and any("what the index says" in problem for problem in problems):
            return
        # Summaries of two machines differ in their last bits, so `verify` lets a ten thousandth pass.
        _as_ever(good, whole=True, apart=1e-3 if is_signed else 0.0)(Library(library))

    return f"index: {table}.{column}{' signed' if is_signed else ''}: {mutation}", _acts(library, check)


if __name__ == "__main__":
    main("prompts", campaign)
