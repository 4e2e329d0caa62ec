"""Rows of token ids with choices and prompts for them, padded into batches for the tiny models by hand."""

import torch

from spot.models.backbone import Backbone
from spot.models.batch import IGNORED, Batch
from spot.prompts.prompt import BackboneId
from tests.support.tiny_models import SEQ2SEQ

ROWS = (  # tokens of the text, tokens of the target, prompt
    ([3, 4, 5, 6, 7], [8, 9], 0),
    ([10, 11], [12], 1),
    ([13, 14, 15, 16, 17, 18, 19], [20, 21, 22], 0),
)
CHOICES = ([8, 9], [8, 10, 11], [12], [8, 9, 4])


def frozen(tiny, family: str, **options) -> Backbone:
    """A tiny model as a backbone; `tiny` is conftest's fixture."""
    model, tokenizer = tiny(family)
    kind = "seq2seq" if family in SEQ2SEQ else "causal"
    return Backbone(model, tokenizer, BackboneId(family, kind, 32, model.config.vocab_size, "0"), **options)


def prompts_for(length: int = 5, count: int = 2) -> torch.Tensor:
    """Prompts [count, length, 32], the same ones in every call."""
    return torch.randn(count, length, 32, generator=torch.Generator().manual_seed(0)) * 0.5


def batch_of(rows, side: str = "right") -> Batch:
    """Rows as a batch, with their pads on one side."""
    width, targets = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    ids, mask, labels = [], [], []
    for text, target, _ in rows:
        pads = [0] * (width - len(text))
        ids.append(pads + text if side == "left" else text + pads)
        mask.append([0] * len(pads) + [1] * len(text) if side == "left" else [1] * len(text) + [0] * len(pads))
        labels.append(target + [IGNORED] * (targets - len(target)))
    return Batch(torch.tensor(ids), torch.tensor(mask), torch.tensor(labels), torch.tensor([row[2] for row in rows]))


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of the difference over that of what is expected."""
    return float(((actual - expected).norm() / expected.norm()).detach())
