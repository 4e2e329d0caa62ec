"""Similarities written out pair by pair, and the numbers that they are tried on."""

import numpy as np


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Written out, one product at a time."""
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    lengths = [sum(float(x) ** 2 for x in vector) ** 0.5 for vector in (a, b)]
    return dot / (lengths[0] * lengths[1])


def by_pairs(target: np.ndarray, source: np.ndarray, kind: str) -> float:
    """The definitions, without any of the shortcuts."""
    if kind == "mean":
        return cosine(sum(target) / len(target), sum(source) / len(source))
    table = [[cosine(ours, theirs) for theirs in source] for ours in target]
    if kind == "token":
        return sum(sum(row) for row in table) / (len(target) * len(source))
    return sum(max(row) for row in table) / len(target)
