"""Choose where a model runs and in which precision."""

import os

import torch

from spot.errors import BackboneError, did_you_mean

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def placement(device: str | None = None, dtype: torch.dtype | None = None) -> tuple[torch.device, torch.dtype]:
    """Where a model runs and in which precision: as told, else as `$SPOT_DEVICE` and `$SPOT_DTYPE` say.

    Args:
        device: such as `cuda:1`; without any word the first GPU where there is one, else the CPU.
        dtype: of the weights; without any word bfloat16 on a GPU and float32 elsewhere.

    Raises:
        BackboneError: there is no such device or dtype.
    """
    wanted = device or os.environ.get("SPOT_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BackboneError(
            f"the device {wanted!r} cannot be used: {str(error).splitlines()[0]}; expected cpu, cuda or cuda:1, as "
            "this machine has it. Set SPOT_DEVICE to one of them, or leave it out."
        ) from error
    named = os.environ.get("SPOT_DTYPE")
    if dtype is None and named and named not in DTYPES:
        raise BackboneError(f"SPOT_DTYPE is {named!r}: {did_you_mean(named, DTYPES)}")
    return place, dtype or DTYPES[named or ("bfloat16" if place.type == "cuda" else "float32")]
