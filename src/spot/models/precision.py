"""Measure whether a device is faster with bfloat16 than with float32: once, kept in the user's cache."""

import json
import logging
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spot.errors import StorageError
from spot.storage.files import cache_dir, write_whole
from spot.storage.opening import read_bounded

log = logging.getLogger(__name__)

PAYS = 1.3  # times as fast: below that rounding costs more than it gains
ROUNDS = 5  # interleaved, the shortest of each counts
ROWS, TOKENS = 16, 80
_MOST_BYTES = 10_000


def bfloat16_pays(place: torch.device) -> bool:
    """Whether steps in bfloat16 are at least 1.3 times as fast as in float32 on a device; measured once, in seconds.

    Args:
        place: the device; on a GPU they are taken to be.
    """
    if place.type == "cuda":
        return True
    ratio = _kept(place)
    if ratio is None:
        ratio = measured_ratio(place)
        with suppress(StorageError):
            write_whole(_file(), json.dumps({_key(place): ratio}).encode())
    log.warning(
        "steps in bfloat16 are %.2f times as fast as in float32 here: %s",
        ratio,
        "taken" if ratio >= PAYS else "not taken",
    )
    return ratio >= PAYS


def measured_ratio(place: torch.device) -> float:
    """How many times as fast a forward and backward pass of two layers of SmolLM2's size is in bfloat16."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=2,
            num_attention_heads=9,
            num_key_value_heads=3,
            vocab_size=1024,
        )
        model: Any = LlamaForCausalLM(config).eval().requires_grad_(False)  # the types of transformers forbid `to`
        model.to(place)
    shortest = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(ROUNDS):
        for precision in shortest:
            model.to(precision)
            vectors = torch.zeros(ROWS, TOKENS, 576, device=place, dtype=precision, requires_grad=True)
            began = time.perf_counter()
            torch.autograd.grad(model(inputs_embeds=vectors, use_cache=False).logits.float().sum(), vectors)
            shortest[precision] = min(shortest[precision], time.perf_counter() - began)
    return shortest[torch.float32] / shortest[torch.bfloat16]


def _file() -> Path:
    return cache_dir() / "precision.json"


def _key(place: torch.device) -> str:
    """What the ratio depends on."""
    return f"{platform.machine()} {_processor()} {place.type} {torch.get_num_threads()} {torch.__version__}"


def _processor() -> str:
    """What the processor can do with bfloat16, where the system tells."""
    with suppress(OSError):
        flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
        return " ".join(part for part in flags.split() if "bf16" in part or "amx" in part)
    return platform.processor()


def _kept(place: torch.device) -> float | None:
    """The ratio that was measured here before; None where none was."""
    with suppress(StorageError, ValueError, AttributeError, RecursionError):
        ratio = json.loads(read_bounded(_file(), _MOST_BYTES) or b"{}").get(_key(place))
        return float(ratio) if isinstance(ratio, int | float) and 0 < ratio < 1000 else None
    return None
