"""Remove what is no longer needed from the user's cache, and nothing else.

What another process holds stays. Folders are opened one below the other, so that no link leads out of the cache. A
folder gets another name before its files go: no run is ever half there under its own.
"""

import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from spot.errors import ConfigError, RunError, StorageError
from spot.runs.listing import REMOVED, CacheEntry, find_entry, list_cache
from spot.storage.files import cache_dir, lock
from spot.storage.opening import open_folder

_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|d|w)")
_SECONDS = {"h": 3600.0, "d": 86400.0, "w": 604800.0}


def chosen_entries(
    names: Sequence[str], *, unfinished: bool = False, older: str | None = None
) -> tuple[CacheEntry, ...]:
    """The entries of the cache that are to go.

    Args:
        names: of them, as `find_entry` takes them; where there are none, all runs that the two others leave.
        unfinished: only runs that have stopped before their end, diverged or are damaged.
        older: only what last changed longer ago than this, such as `30d`.

    Raises:
        ConfigError: nothing is chosen by, or the age is none.
        RunError: a name means nothing, several things, or what has to stay.
    """
    if not names and not unfinished and older is None:
        raise ConfigError("nothing says which runs are to go: name them, or give --unfinished or --older 30d")
    entries = list_cache()
    chosen = [find_entry(name, entries) for name in names] or [
        entry for entry in entries if entry.is_run and entry.may_go
    ]
    for entry in chosen:
        if not entry.may_go:
            raise RunError(f"{entry.path} stays: {entry.reason or entry.note}. Remove it yourself if you mean to.")
    if unfinished:
        chosen = [entry for entry in chosen if entry.state in ("stopped", "diverged", "damaged", "left over")]
    if older is not None:
        before = time.time() - read_age(older)
        chosen = [entry for entry in chosen if datetime.fromisoformat(entry.changed).timestamp() < before]
    return tuple(dict.fromkeys(chosen))


def read_age(text: str) -> float:
    """Seconds of an age such as `30d`, `12h` or `2w`.

    Raises:
        ConfigError: it is none.
    """
    match = _AGE.fullmatch(text)
    if match is None:
        raise ConfigError(f"the age is {text!r}; expected a number and h, d or w, as in 30d")
    return float(match[1]) * _SECONDS[match[2]]


def remove_entries(entries: Sequence[CacheEntry]) -> tuple[CacheEntry, ...]:
    """Remove entries of the cache, one after another.

    Returns:
        Those that are gone.

    Raises:
        StorageError: another process holds one, which stays as it is, or the system does not let one go. Those before
            it are gone.
    """
    for entry in entries:
        _remove(entry)
    return tuple(entries)


def _remove(entry: CacheEntry) -> None:
    root = cache_dir()
    assert entry.may_go and entry.path.is_relative_to(root) and entry.path != root, entry
    try:
        folder = open_folder(entry.path.parent, root)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot remove {entry.path}: {error}. It stays as it is.") from error
    try:
        with ExitStack() as stack:
            for held in _locks(entry.path):
                stack.enter_context(lock(held, root))
            _unlink(folder, entry.path.name)
    except FileNotFoundError:
        return  # somebody else has removed it
    except OSError as error:
        raise StorageError(
            f"cannot remove {entry.path}: {error.strerror or error}. What is left of it ends in {REMOVED}; remove that "
            "again when this is mended."
        ) from error
    finally:
        os.close(folder)


def _locks(path: Path) -> list[Path]:
    """What is locked in and beside an entry: the paths of its lock files, without their ending."""
    below = [Path(folder, name) for folder, _, names in os.walk(path) for name in names if name.endswith(".lock")]
    beside = Path(f"{path}.lock")
    locks = [file for file in (beside, *below) if file.is_file() and not file.is_symlink()]
    return [file.with_suffix("") for file in locks]


def _unlink(folder: int, name: str) -> None:
    """Remove a file or a whole folder, whose name is given in an open folder; a link in it goes, not what it names."""
    try:
        os.unlink(name, dir_fd=folder)
        return
    except IsADirectoryError:
        pass
    leaving = name if name.endswith(REMOVED) else f".{name}{REMOVED}"
    if leaving != name:
        os.rename(name, leaving, src_dir_fd=folder, dst_dir_fd=folder)
    shutil.rmtree(leaving, dir_fd=folder)
