"""Gather what a report of a fault needs to be understood, and nothing of whoever reports it.

What is told is chosen word by word: versions, the device, names of settings, and values that only this package gives
meaning to. No text of a row, no path, no name of a host or a user, no token, no name that a user made up.
"""

import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from spot.config import names_prompt
from spot.errors import SpotError, StorageError
from spot.models.device import placement
from spot.runs.gangs import Gang
from spot.runs.listing import list_cache
from spot.runs.showing import show_run
from spot.storage.files import write_whole
from spot.storage.opening import exists, read_bounded
from spot.tasks import registry

DISTRIBUTION = "spot-transfer"
FORMAT = 1
HIDDEN = "hidden"  # stands for what a user named or wrote
# Variables whose values are words of this package or numbers; of others only the name is told.
TOLD = ("SPOT_DEVICE", "SPOT_DTYPE", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
# Settings whose values are words of this package.
WORDS = ("decay", "method", "mixing", "optimiser", "precision", "quantise", "reparameterise", "sizes", "truncate")
MOST_BYTES = 10_000_000
_BEGINNING = '{\n  "spot_bug": '
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+|embedded")
_TOLD_VALUE = re.compile(r"[\w:.,-]{0,40}")


@dataclass(frozen=True, kw_only=True)
class BugReport:
    """What a report says.

    Attributes:
        spot_bug: of the format.
        versions: package -> version of those that this one needs or can use; None where it is not installed.
        extras: extra -> whether all its packages are there.
        system: Python, platform and processor cores.
        device: place and precision of models, and what torch says of its GPUs.
        environment: variable -> value; `hidden` where that may be anybody's.
        backbones: names on the hub of the models that runs of the cache have; others are counted.
        run: settings, state and diagnosis of the run that was asked for.
    """

    spot_bug: int = FORMAT
    versions: Mapping[str, str | None]
    extras: Mapping[str, bool]
    system: Mapping[str, Any]
    device: Mapping[str, Any]
    environment: Mapping[str, str]
    backbones: Mapping[str, int]
    run: Mapping[str, Any] | None = None


def bug_report(run: str | None = None) -> BugReport:
    """Gather a report.

    Args:
        run: whose settings and diagnosis go along, as `spot.runs.show_run` takes it; None for none.

    Raises:
        RunError: there is no such run.
    """
    versions, extras = _packages()
    return BugReport(
        versions=versions,
        extras=extras,
        system={"python": platform.python_version(), "platform": platform.platform(), "cores": os.cpu_count()},
        device=_device(),
        environment=_environment(),
        backbones=_backbones(),
        run=None if run is None else _run(run),
    )


def write_report(report: BugReport, path: Path) -> None:
    """Write a report as JSON; an earlier report of that name is replaced, any other file is not.

    Raises:
        StorageError: another file is there, or it cannot be written.
    """
    if exists(path):
        content = read_bounded(path, MOST_BYTES) or b""
        if not content.startswith(_BEGINNING.encode()):
            raise StorageError(
                f"{path} is there and is no report of `spot bug`: it stays as it is. Give another --out."
            )
    write_whole(path, f"{json.dumps(asdict(report), indent=2)}\n".encode())


def _packages() -> tuple[dict[str, str | None], dict[str, bool]]:
    """The versions of this package and of what it asks for; and extra -> whether its packages are all there."""
    versions: dict[str, str | None] = {DISTRIBUTION: _version(DISTRIBUTION)}
    extras: dict[str, bool] = {}
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        requirements = []
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        versions[name] = _version(name)
        if extra:
            extras[extra[1]] = extras.get(extra[1], True) and versions[name] is not None
    return dict(sorted(versions.items())), extras


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device() -> dict[str, Any]:
    """Where models run, and what torch says of its GPUs."""
    try:
        place, dtype = placement()
        chosen = {"place": str(place), "precision": str(dtype).removeprefix("torch.")}
    except SpotError as error:
        chosen = {"refused": str(type(error).__name__)}
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [torch.cuda.get_device_name(number) for number in range(count)]
    return {**chosen, "gpus": gpus, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}


def _environment() -> dict[str, str]:
    """Variables of this package and those that matter to it; the values of a few."""
    names = sorted(
        {name for name in os.environ if name.startswith("SPOT_")} | {name for name in TOLD if name in os.environ}
    )
    return {
        name: os.environ[name] if name in TOLD and _TOLD_VALUE.fullmatch(os.environ[name]) else HIDDEN for name in names
    }


def _backbones() -> dict[str, int]:
    """Backbone -> how many runs of the cache have it."""
    counts: dict[str, int] = {}
    try:
        names = [_backbone(entry.backbone) for entry in list_cache() if entry.is_run and entry.backbone]
    except SpotError:
        return {}
    for name in sorted(names):
        counts[name] = counts.get(name, 0) + 1
    return counts


def _run(name: str) -> dict[str, Any]:
    """Settings, state and diagnosis of a run, or of each run of a transfer."""
    shown = show_run(name)
    gangs = [_gang(gang) for gang in shown.gangs.values()]
    return {"gangs": gangs, "damaged": len(shown.damaged)}


def _gang(gang: Gang) -> dict[str, Any]:
    names = {gang.task, *(str(part.get("task", "")) for part in gang.settings)} - {""}
    return {
        "state": gang.state,
        "step": gang.step,
        "steps": gang.steps,
        "seconds": round(gang.seconds, 1),
        "settings": [{key: told_setting(key, value) for key, value in part.items()} for part in gang.settings],
        "diagnosis": [_without(line, names) for line in gang.diagnosis],
    }


def told_setting(key: str, value: Any) -> Any:
    """The value of a setting, or `hidden` where a user may have named or written it."""
    if isinstance(value, bool | int | float) or (key in WORDS and isinstance(value, str)):
        return value
    if key == "task" and value in registry.names():
        return value
    if key == "backbone":
        return _backbone(str(value))
    if key == "init" and isinstance(value, str) and not names_prompt(value):
        kind, colon, _ = value.partition(":")
        return f"{kind}:{HIDDEN}" if colon else value
    return HIDDEN


def _backbone(name: str) -> str:
    """A model's name on the hub; another may be a path."""
    return name if _HUB_ID.fullmatch(name) and not Path(name).exists() else HIDDEN


def _without(line: str, names: set[str]) -> str:
    """A sentence without the names that a user gave to a task."""
    for name in sorted(names, key=len, reverse=True):
        if name not in registry.names():
            line = line.replace(name, HIDDEN)
    return line
