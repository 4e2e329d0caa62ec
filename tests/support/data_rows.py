"""Rows as files: of any kind, and where a data folder has those of a known data set."""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spot.tasks import registry
from spot.tasks.task import Example


def write_jsonl(path: Path, rows: Iterable[object]) -> None:
    """Write a file of JSON lines, and the folders that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def split_path(data: Path, name: str, split: str) -> Path:
    """Where a data folder has one split of a known data set."""
    return data / (registry.TABLE[name].folder or name.replace("/", "_")) / f"{split}.jsonl"


def write_split(data: Path, name: str, rows: Iterable[object], split: str = "train") -> None:
    """Write one split of a known data set into a data folder."""
    write_jsonl(split_path(data, name, split), rows)


def load_split(data: Path, name: str, split: str, prefix: bool = False) -> list[Example]:
    """The examples of one split in a data folder."""
    return list(registry.get(name, data, prefix).load(split))


def read_split(data: Path, name: str, split: str) -> list[dict[str, Any]]:
    """The rows of one split in a data folder, read without the package."""
    plain = split_path(data, name, split)
    content = plain.read_bytes() if plain.is_file() else gzip.decompress(Path(f"{plain}.gz").read_bytes())
    return [json.loads(line) for line in content.decode().splitlines() if line]


def only_example(data: Path, name: str, row: Mapping[str, Any]) -> Example:
    """The one example of a data set that holds this one row."""
    write_split(data, name, [row])
    (example,) = registry.get(name, data).load("train")
    return example


def check_split(data: Path, name: str, split: str) -> None:
    """Read a whole split: its rows are numbered, answered, and of more than one label."""
    labels = registry.TABLE[name].labels
    ids, count, answers = set(), 0, set()
    for example in registry.get(name, data).load(split):
        ids.add(example.id)
        count += 1
        answers.update(example.answers[:1])
        assert example.inputs.strip() and example.answers and all(map(str.strip, example.answers))
        assert not labels or set(example.answers) <= set(labels)
    assert len(ids) == count > 0
    assert not labels or len(answers) >= 2
