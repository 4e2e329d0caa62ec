"""Measure targets in nats."""

from torch import Tensor
from torch.nn import functional

from spot.models.batch import IGNORED


def token_nats(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-probability [B, T] of labels [B, T] under logits [B, T, V]; 0 where a label is -100."""
    # Flat, so that the vocabulary is summed along memory: along another axis float32 loses 2e-5 of the loss.
    flat = logits.flatten(0, 1).float()
    losses = functional.cross_entropy(flat, labels.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.reshape(labels.shape)
