"""Choose where a model runs and in which precision."""

import os

import torch

from spot.errors import BackboneError, did_you_mean
from spot.models.precision import bfloat16_pays

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"  # of devices: all that there are; of precisions: the faster one


def placement(device: str | None = None, dtype: torch.dtype | str | None = None) -> tuple[torch.device, torch.dtype]:
    """Where a model runs and in which precision: as told, else as `$SPOT_DEVICE` and `$SPOT_DTYPE` say.

    Args:
        device: such as `cuda:1` or `mps`; `auto` for all devices that there are (the first is returned); without any
            word the first GPU where there is one, else the CPU.
        dtype: of the weights; without any word bfloat16 on a GPU and float32 elsewhere; `auto` for bfloat16 also where
            the processor is faster with it.

    Raises:
        BackboneError: there is no such device or dtype.
    """
    wanted = device or os.environ.get("SPOT_DEVICE") or AUTO
    if wanted == AUTO:
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BackboneError(
            f"the device {wanted!r} cannot be used: {str(error).splitlines()[0]}; expected auto, cpu, mps, cuda or "
            f"cuda:1, as this machine has it ({_here()}). Set SPOT_DEVICE to one of them, or leave it out."
        ) from error
    if isinstance(dtype, torch.dtype):
        return place, dtype
    named = dtype or os.environ.get("SPOT_DTYPE")
    if named and named not in (*DTYPES, AUTO):
        raise BackboneError(f"SPOT_DTYPE is {named!r:.40}: {did_you_mean(str(named), (*DTYPES, AUTO))}")
    if named == AUTO:
        return place, torch.bfloat16 if bfloat16_pays(place) else torch.float32
    return place, DTYPES[named] if named else default_precision(place)


def default_precision(place: torch.device) -> torch.dtype:
    """The precision of weights on a device where nobody says another."""
    return torch.bfloat16 if place.type == "cuda" else torch.float32


def is_spread(device: str | None = None) -> bool:
    """Whether the layers of a model are to be spread over all devices, as told or as `$SPOT_DEVICE` says."""
    return (device or os.environ.get("SPOT_DEVICE")) == AUTO


def _here() -> str:
    """The devices of this machine, for people."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"a CPU, {count} GPU{'s' * (count != 1)}{', mps' * torch.backends.mps.is_available()}"
