"""What memory there is, so that too little is said before a model is loaded and not when it runs out."""

import resource
from collections.abc import Iterator
from pathlib import Path

import torch

from spot.errors import BackboneError

KIB = 1024
AT_WORK = 350 * 10**6  # bytes of code and of room between tensors that first steps on a CPU take: 200 to 470 MB
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/memory")
_LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
_RECLAIMED = ("inactive_file", "active_file", "total_inactive_file", "total_active_file")  # pages of files, given back


def check_room(name: str, need: int, mapped: int, place: torch.device) -> None:
    """Refuse a model that does not fit into what is free here.

    Args:
        name: of the model, for the message.
        need: bytes of its weights as they are loaded.
        mapped: bytes of files that are mapped into the address space meanwhile.
        place: where the model goes.

    Raises:
        BackboneError: with the need, what there is, and what to do.
    """
    for what, needed, free in _rooms(need, mapped, place):
        if needed > free:
            raise BackboneError(
                f"the backbone {name!r} needs {gigabytes(needed)} of {what}, and {gigabytes(free)} are free: end "
                "other programs, choose a smaller model or another machine, raise the limit, or halve the need with "
                "SPOT_DTYPE=bfloat16"
            )


def _rooms(need: int, mapped: int, place: torch.device) -> Iterator[tuple[str, int, int]]:
    """Each kind of memory that a model takes: its name, the bytes it takes, and those that are free."""
    available = _available()
    if available is not None:
        yield "memory", need, available
    address = _address_space()
    if address is not None:
        yield "address space (ulimit -v)", need + mapped, address
    if place.type == "cuda":
        free, _ = torch.cuda.mem_get_info(place)
        yield f"the memory of {place}", need, free


def free_on(place: torch.device) -> int | None:
    """Bytes that a model can take on a device; None where the system does not say."""
    if place.type == "cuda":
        return torch.cuda.mem_get_info(place)[0]
    return _available()


def program() -> int:
    """Bytes that this process takes on a CPU beside the tensors of a run."""
    return (_field(Path("/proc/self/status"), "VmRSS:") or 0) * KIB + AT_WORK


def _available() -> int | None:
    """Bytes of memory that this process can still take; None where the system does not say."""
    sizes = [size for size in (_meminfo("MemAvailable"), _cgroup()) if size is not None]
    return min(sizes, default=None)


def _meminfo(field: str) -> int | None:
    """One line of /proc/meminfo, in bytes."""
    value = _field(Path("/proc/meminfo"), f"{field}:")
    return None if value is None else value * KIB


def _cgroup() -> int | None:
    """What the control group of this process leaves, counting pages of files as free; None without a limit."""
    for folder in map(Path, _CGROUPS):
        for limit_name, usage_name in _LIMITS:
            limit, usage = _number(folder / limit_name), _number(folder / usage_name)
            if limit is not None and usage is not None:
                statistics = folder / "memory.stat"
                reclaimed = sum(_field(statistics, field) or 0 for field in _RECLAIMED[:2])
                return max(0, limit - usage + reclaimed)
    return None


def _address_space() -> int | None:
    """Bytes of address space that are left under `ulimit -v`; None without a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    taken = _field(Path("/proc/self/status"), "VmSize:")
    if limit == resource.RLIM_INFINITY or taken is None:
        return None
    return max(0, limit - taken * KIB)


def _field(file: Path, name: str) -> int | None:
    """The number behind a name in a file of the system with one name a line."""
    try:
        lines = file.read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), None)
    except (OSError, ValueError, IndexError):
        return None


def _number(file: Path) -> int | None:
    """The number that a file of the system holds; None where it holds `max` or is not there."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def gigabytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.1f} GiB"
