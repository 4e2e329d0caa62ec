"""List what is in the user's cache: runs, transfers, and what is kept beside them; a damaged one is named as such."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from spot.errors import RunError, SpotError, did_you_mean
from spot.runs.gangs import FILES, Gang, read_gang
from spot.storage.files import cache_dir

KINDS = {  # folder of the cache -> kind of what lies in it, each a folder with gangs
    "runs": "run",
    "transfers": "transfer",
    "demo": "demo",
    "studies/runs": "study run",
    "libraries/runs": "library run",
}
STORES = {  # what else is kept -> what becomes of it when it is removed
    "backbones": "converted anew on first use",
    "downloads": "downloaded anew",
    "fingerprints": "worked out anew",
    "incoming": "downloaded anew",
    "libraries/jobs": "worked out anew",
    "matrix": "made anew",
    "offload": "written anew",
    "precision.json": "measured anew",
    "probes": "measured anew",
    "sandbox": "made anew",
    "shared": "pulled anew",
    "studies/probes": "measured anew",
    "studies/prompts": "tuned anew",
    "tracking": "",
}
KEPT = {"experience.jsonl": "what past transfers gained, which nothing brings back"}
REMOVED = ".removed"  # ends the name of what a removal that was stopped has left
DEEPEST = 4  # folders below an entry in which gangs are looked for


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One thing in the cache.

    Attributes:
        name: of its folder or file.
        kind: a value of `KINDS`, `store`, or `other`.
        path: where it is.
        task: its task or target; empty where that is not known.
        backbone: the frozen model's name.
        step, steps: the last that was evaluated, and how many there are in all, the most over its gangs.
        selection: best mean selection score of its gangs, percent.
        state: as that of `Gang`, of what has begun; `damaged`; `left over`, from a removal that was stopped; empty of a
            store.
        reason: why it is damaged.
        changed: when it last was, UTC, ISO 8601.
        bytes: on the disk.
        may_go: whether `remove_entries` takes it.
        note: what becomes of it when it is removed, or why it stays.
        gangs: folders of its gangs.
    """

    name: str
    kind: str
    path: Path
    task: str = ""
    backbone: str = ""
    step: int = 0
    steps: int = 0
    selection: float | None = None
    state: str = ""
    reason: str = ""
    changed: str = ""
    bytes: int = 0
    may_go: bool = True
    note: str = ""
    gangs: tuple[Path, ...] = ()

    @property
    def is_run(self) -> bool:
        """Whether it has gangs, or should."""
        return self.kind in KINDS.values()


@dataclass
class _Weight:
    """Size and last change of files."""

    bytes: int = 0
    changed: float = 0.0

    def add(self, status: os.stat_result) -> None:
        """Count one file."""
        self.bytes += status.st_size
        self.changed = max(self.changed, status.st_mtime)

    @property
    def date(self) -> str:
        """The last change."""
        return datetime.fromtimestamp(self.changed, UTC).isoformat(timespec="seconds") if self.changed else ""


def list_cache() -> tuple[CacheEntry, ...]:
    """What is in the user's cache, runs first, the latest first. No link is followed, and nothing changes.

    Raises:
        StorageError: there is no place for a cache.
    """
    root = cache_dir()
    entries = [_run_entry(path, kind) for place, kind in KINDS.items() for path in children(root, place)]
    holders = {place.partition("/")[0] for place in (*KINDS, *STORES) if place in KINDS or "/" in place}
    for path in children(root, ""):
        if path.name in holders and not path.is_symlink():
            continue
        entries += [_other_entry(path, path.name)]
    for holder in sorted({place.partition("/")[0] for place in (*KINDS, *STORES) if "/" in place}):
        for path in children(root, holder):
            if f"{holder}/{path.name}" not in KINDS or path.is_symlink():
                entries += [_other_entry(path, f"{holder}/{path.name}")]
    by_date = sorted(entries, key=lambda entry: entry.changed, reverse=True)
    return tuple(sorted(by_date, key=lambda entry: not entry.is_run))


def find_entry(name: str, entries: Sequence[CacheEntry] | None = None) -> CacheEntry:
    """The entry of the cache that a name means: its whole name, the beginning that no other has, or its path.

    Args:
        name: such as `1a2b`, `transfers/mood`, or a whole path.
        entries: of the cache; read where they are left out.

    Raises:
        RunError: nothing in the cache has that name, several have, or the path leads out of the cache.
    """
    root = cache_dir()
    entries = list_cache() if entries is None else entries
    places = {entry: str(entry.path.relative_to(root)) for entry in entries}
    if "/" in name:
        path = Path(os.path.normpath(root / Path(name).expanduser()))
        if not path.is_relative_to(root) or path == root:
            raise RunError(
                f"{name} is not inside the cache {root}: expected the name of a run that `spot runs list` shows."
            )
        name = str(path.relative_to(root))
        named = {entry: place for entry, place in places.items() if place.startswith(name)}
    else:
        named = {entry: entry.name for entry in entries if entry.name.startswith(name)}
    whole = [entry for entry, place in named.items() if place == name]
    matches = whole if len(whole) == 1 else list(named)
    if len(matches) == 1 and name:
        return matches[0]
    if matches:
        listed = ", ".join(sorted(places[entry] for entry in matches)[:8])
        raise RunError(f"{name!r} is the beginning of {len(matches)} names in {root}: {listed}. Give more of one.")
    hint = did_you_mean(name, [entry.name for entry in entries if entry.is_run])
    raise RunError(f"no run in {root} is called {name!r}; {hint}. `spot runs list` shows all.")


def gang_folders(path: Path) -> tuple[Path, ...]:
    """The folders of gangs at a path and below it, by name; no link is followed."""
    folders: list[Path] = []
    _gather(path, DEEPEST, folders)
    return tuple(sorted(folders))


def _gather(path: Path, depth: int, folders: list[Path]) -> None:
    try:
        with os.scandir(path) as entries:
            inside = list(entries)
    except OSError:
        return
    if any(entry.name in FILES for entry in inside):
        folders.append(path)
    elif depth:
        for entry in inside:
            if entry.is_dir(follow_symlinks=False):
                _gather(Path(entry.path), depth - 1, folders)


def _run_entry(path: Path, kind: str) -> CacheEntry:
    """What lies where runs are: a gang, or a folder of gangs."""
    plain = _plain_entry(path, kind)
    if plain.state:
        return plain
    if not path.is_dir():
        return replace(plain, kind="other", may_go=False, note="no run wrote it")
    folders = gang_folders(path)
    gangs: list[Gang] = []
    reasons: list[str] = []
    for folder in folders:
        try:
            gangs.append(read_gang(folder))
        except (SpotError, OSError) as error:
            reasons.append(str(error))
    if not folders:
        reasons.append(f"{path} holds no run: expected config.toml in it or in a folder of it.")
    scores = [gang.selection for gang in gangs if gang.selection is not None]
    return replace(
        plain,
        task=next((gang.task for gang in gangs if gang.task), ""),
        backbone=next((gang.backbone for gang in gangs if gang.backbone), ""),
        step=max((gang.step for gang in gangs), default=0),
        steps=max((gang.steps for gang in gangs), default=0),
        selection=max(scores, default=None),
        state="damaged" if reasons else _joint_state([gang.state for gang in gangs]),
        reason=" ".join(reasons),
        note="the same command makes it anew",
        gangs=folders,
    )


def _joint_state(states: Sequence[str]) -> str:
    """The state of several gangs: what goes on or has to go on comes before what is done."""
    return next((state for state in ("running", "stopped", "finished") if state in states), "diverged")


def _other_entry(path: Path, place: str) -> CacheEntry:
    """What lies elsewhere in the cache: known to spot, or somebody else's."""
    plain = _plain_entry(path, "store")
    if plain.state:
        return plain
    if place in STORES:
        return replace(plain, note=STORES[place])
    if place in KEPT:
        return replace(plain, may_go=False, note=KEPT[place])
    return replace(plain, kind="other", may_go=False, note="spot does not know it")


def _plain_entry(path: Path, kind: str) -> CacheEntry:
    """Name, size and date of anything; a link, which is never followed, is damaged."""
    weight = _Weight()
    status = path.lstat()
    weight.add(status)
    entry = CacheEntry(name=path.name, kind=kind, path=path)
    if stat.S_ISLNK(status.st_mode):
        return replace(
            entry,
            state="damaged",
            reason=f"{path} is a link, which is not followed.",
            may_go=False,
            changed=weight.date,
        )
    for below in _files(path):
        weight.add(below)
    size = weight.bytes if not path.is_dir() else weight.bytes - status.st_size
    entry = replace(entry, bytes=size, changed=weight.date)
    return replace(entry, state="left over", kind="store") if path.name.endswith(REMOVED) else entry


def _files(path: Path) -> Iterator[os.stat_result]:
    """The files below a folder; no link is followed, and what vanishes meanwhile is passed over."""
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                yield os.lstat(os.path.join(folder, name))
            except OSError:
                continue


def children(root: Path, place: str) -> list[Path]:
    """What lies in a folder of the cache, lock files apart; nothing where that is a link or is not there."""
    folder = root / place
    if any(part.is_symlink() for part in (folder, *folder.parents) if part != root and part.is_relative_to(root)):
        return []
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not name.endswith(".lock")]
