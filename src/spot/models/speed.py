"""Say how fast devices are: this one, measured in a second, and GPUs by name, from the data sheets of their maker."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

REACHED, REACHED_MOVED = 0.4, 0.7  # of what a data sheet promises
LAUNCH = 6e-6  # seconds that a call takes on a GPU before it does anything
SIDE, WIDTH = 256, 2048  # of the matrices that are multiplied
MOVED_NUMBERS = 2**22
LONG = 0.25  # seconds of one measurement
STEADY = 0.86  # of what one operation reaches again and again, by the layers of a model: 0.83 to 0.88 in docs/scale.md


@dataclass(frozen=True)
class Speed:
    """What a device does in a second.

    Attributes:
        name: of the device.
        products: floating-point operations of matrix products.
        moved: bytes that are read or written.
        call: seconds that each operation takes beside that.
        memory: bytes that it has; None where that is the machine's own.
    """

    name: str
    products: float
    moved: float
    call: float
    memory: int | None = None


def _gpu(name: str, teraflops: float, gigabytes_a_second: float, gigabytes: int) -> Speed:
    return Speed(name, REACHED * teraflops * 1e12, REACHED_MOVED * gigabytes_a_second * 1e9, LAUNCH, gigabytes * 10**9)


# Dense bfloat16 (T4: float16) products, memory rate and memory of the makers' data sheets.
GPUS: Mapping[str, Speed] = {
    speed.name: speed
    for speed in (
        _gpu("T4", 65, 320, 16),
        _gpu("L4", 121, 300, 24),
        _gpu("RTX 4090", 165, 1008, 24),
        _gpu("A100 80 GB", 312, 2039, 80),
        _gpu("H100 SXM", 989, 3350, 80),
        _gpu("H200", 989, 4800, 141),
    )
}


def measured_speed(place: torch.device, precision: torch.dtype) -> Speed:
    """What a device does in a second, measured now; it takes about a second.

    Args:
        place: the device.
        precision: of what is multiplied.
    """
    left = torch.randn(SIDE, WIDTH, device=place).to(precision)
    right = torch.randn(WIDTH, WIDTH, device=place).to(precision)
    numbers = torch.zeros(MOVED_NUMBERS, device=place)
    small = torch.zeros(1, device=place)
    return Speed(
        str(place),
        products=STEADY * 2 * SIDE * WIDTH * WIDTH / _seconds_of(lambda: left @ right, place),
        moved=STEADY * 2 * MOVED_NUMBERS * 4 / _seconds_of(lambda: numbers.add(1), place),
        call=_seconds_of(lambda: small.add(1), place),
    )


def _seconds_of(call: Callable[[], object], place: torch.device) -> float:
    """The shortest of several calls: what else runs on the machine makes some of them longer."""
    call()
    shortest, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < LONG:
        start = time.perf_counter()
        call()
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        shortest = min(shortest, time.perf_counter() - start)
    return shortest
