"""Damage bytes, JSON values and files as accidents and strangers do; everything follows from a seed."""

import copy
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RAW = {  # what no value of Python spells as JSON, by a text that stands for it
    "<nan>": "NaN",
    "<inf>": "-Infinity",
    "<huge integer>": "1" + "0" * 400,
    "<huge float>": "1e400",
    "<deep array>": "[" * 20_000 + "]" * 20_000,
    "<deep object>": '{"a":' * 2_000 + "1" + "}" * 2_000,
    "<half letter>": r'"\ud800"',
    "<double key>": '{"a": 1, "a": 2}',
    "<open>": "[",
}
ODD: Sequence[object] = (
    None,
    True,
    False,
    "",
    "x",
    "../../x",
    "/etc/passwd",
    "\x1b[2J\x1b]0;title\x07\u202e",
    "a\0b",
    "x" * 100_000,
    -1,
    0,
    1,
    7.5,
    2**31,
    2**63,
    -(2**63) - 1,
    1e300,
    -1e-300,
    [],
    {},
    [[1]],
    {"a": {"b": []}},
    *RAW,
)


def mutate_bytes(random_: random.Random, data: bytes) -> tuple[bytes, str]:
    """Bytes with one to three accidents, and which."""
    names = []
    for _ in range(random_.randint(1, 3)):
        place, end = sorted((random_.randrange(len(data) + 1), random_.randrange(len(data) + 1)))
        name = random_.choice(("flip", "byte", "cut", "drop", "swap", "repeat", "zeros", "insert", "tail", "length"))
        match name:
            case "flip" if data:
                place = min(place, len(data) - 1)
                data = data[:place] + bytes([data[place] ^ 1 << random_.randrange(8)]) + data[place + 1 :]
            case "byte":
                data = data[:place] + bytes([random_.randrange(256)]) + data[place + 1 :]
            case "cut":
                data = data[:place]
            case "drop":
                data = data[:place] + data[min(end, place + 16) :]
            case "swap":
                data = data[end:] + data[:end]
            case "repeat":
                data = data[:end] + data[place:]
            case "zeros":
                data = data[:place] + b"\0" * min(64, end - place) + data[min(end, place + 64) :]
            case "insert":
                data = data[:place] + random_.randbytes(random_.randint(1, 16)) + data[place:]
            case "tail":
                data += random_.randbytes(random_.randint(1, 64))
            case "length":
                data = random_.choice((0, 1, 2**31, 2**63, 2**64 - 1)).to_bytes(8, "little") + data[8:]
        names.append(f"{name} at {place}")
    return data, ", ".join(names)


def mutate_json(random_: random.Random, value: Any) -> tuple[Any, str]:
    """A JSON value of which one part is replaced, dropped, renamed or added, and where. `spell` writes it."""
    value = copy.deepcopy(value)
    ways = [way for way in _ways(value) if way]
    if not ways:
        odd = random_.choice(ODD)
        return odd, f"all is {odd!r:.40}"
    way = random_.choice(ways)
    whole = value
    for key in way[:-1]:
        whole = whole[key]
    action = random_.choice(("replace", "replace", "replace", "drop", "rename", "add"))
    odd = copy.deepcopy(random_.choice(ODD))
    match action:
        case "drop":
            del whole[way[-1]]
        case "rename" if isinstance(whole, dict):
            whole[random_.choice(("", "x", "task ", "__class__", "\ud800"[:0] or "y"))] = whole.pop(way[-1])
        case "add" if isinstance(whole, dict):
            whole[random_.choice(("new", "format", "path", "reading"))] = odd
        case _:
            whole[way[-1]] = odd
    return value, f"{action} {'.'.join(map(str, way))} {odd!r:.40}"


def spell(value: Any) -> str:
    """A value as JSON, what no value spells included."""
    text = json.dumps(value)
    for name, raw in RAW.items():
        text = text.replace(json.dumps(name), raw)
    return text


def plain(value: Any) -> bool:
    """Whether a value is spelled without what no value of Python spells."""
    text = json.dumps(value)
    return not any(json.dumps(name) in text for name in RAW)


def mutate_file(random_: random.Random, path: Path, precious: Path) -> str:
    """Put something else in place of a file or folder, and say what.

    Args:
        random_: decides.
        path: what is replaced.
        precious: a folder of the user's, with a file `file` and a sqlite database `database`, that links lead to.
    """

    def replace(make: Callable[[], object]) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        make()

    kinds: dict[str, Callable[[], object]] = {
        "link to a file": lambda: path.symlink_to(precious / "file"),
        "link to a database": lambda: path.symlink_to(precious / "database"),
        "link to a folder": lambda: path.symlink_to(precious),
        "link to nothing": lambda: path.symlink_to(precious / "none"),
        "link to itself": lambda: path.symlink_to(path),
        "link to zeros": lambda: path.symlink_to("/dev/zero"),
        "hard link": lambda: path.hardlink_to(precious / "file"),
        "fifo": lambda: os.mkfifo(path),
        "folder": lambda: path.mkdir(),
        "empty": lambda: path.write_bytes(b""),
        "nothing": lambda: None,
        "sparse": lambda: (path.write_bytes(b""), os.truncate(path, 60_000_000_000)),
    }
    kind = random_.choice(sorted(kinds))
    replace(kinds[kind])
    return f"{kind} for {re.sub(r'[0-9a-f]{16}', 'DIGEST', path.name)}"


def _ways(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every part of a JSON value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(deeper for key, part in parts for deeper in _ways(part, (*way, key)))]
