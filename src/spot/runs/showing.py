"""Show one run, or the runs of a transfer: settings, curve, scores, diagnosis and files."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spot.errors import RunError, SpotError
from spot.runs.gangs import Gang, read_gang
from spot.runs.listing import find_entry, gang_folders

MOST_FILES = 200  # of a folder that are listed; a tuned model has a dozen, a transfer some fifty


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """What a folder with runs says.

    Attributes:
        path: of the folder.
        gangs: by the path of their folder from there; `.` is the folder itself.
        damaged: folder -> why its run cannot be read.
        files: path from there -> bytes.
    """

    path: Path
    gangs: Mapping[str, Gang]
    damaged: Mapping[str, str]
    files: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "path": str(self.path)}


def show_run(name: str) -> ShownRun:
    """What a run, a transfer or any folder with runs says; nothing in it changes.

    Args:
        name: of an entry of the cache, as `find_entry` takes it, or the path of a folder that `--out` named.

    Raises:
        RunError: there is no such run, or no run at all in that folder.
    """
    path = run_folder(name)
    gangs: dict[str, Gang] = {}
    damaged: dict[str, str] = {}
    for folder in gang_folders(path):
        place = str(folder.relative_to(path))
        try:
            gangs[place] = read_gang(folder)
        except (SpotError, OSError) as error:
            damaged[place] = str(error)
    if not gangs and not damaged:
        raise RunError(
            f"{path} holds no run: expected config.toml in it or in a folder of it. `spot runs list` shows all."
        )
    return ShownRun(path=path, gangs=gangs, damaged=damaged, files=_files(path))


def run_folder(name: str) -> Path:
    """The folder that a name means: of the cache, or any that is there."""
    path = Path(name).expanduser()
    return path if os.sep in name and path.is_dir() else find_entry(name).path


def _files(path: Path) -> dict[str, int]:
    """The files of a folder and their bytes, by path; no link is followed."""
    sizes: dict[str, int] = {}
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if len(sizes) < MOST_FILES and name[-5:] != ".lock":
                sizes[str(file.relative_to(path))] = file.lstat().st_size
    return sizes
