"""How the tests write, load and read rows of known data sets."""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spot.tasks import registry
from spot.tasks.task import Example


def write(root: Path, name: str, rows: Iterable[Mapping[str, Any]], split: str = "train") -> None:
    """Write one split of a data set into a data folder."""
    folder = root / registry.TABLE[name].folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def load(root: Path, name: str, split: str, prefix: bool = False) -> list[Example]:
    """The examples of one split in a data folder."""
    return list(registry.get(name, root, prefix).load(split))


def lines(root: Path, name: str, split: str) -> list[dict[str, Any]]:
    """The rows of one split in a data folder, read without the package."""
    plain = root / registry.TABLE[name].folder / f"{split}.jsonl"
    data = plain.read_bytes() if plain.is_file() else gzip.decompress(Path(f"{plain}.gz").read_bytes())
    return [json.loads(line) for line in data.decode().splitlines() if line]
