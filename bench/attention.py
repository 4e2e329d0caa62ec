"""Time training steps in bfloat16 on a CPU with torch's fused attention and with ours, by turns, and print JSON.

    python bench/attention.py --backbone embedded --rows 32 --tokens 25

A step is the loss of rows of random tokens and its gradient in a prompt that all of them share. The ratio is the
shortest time of torch's attention over the shortest of ours.
"""

import argparse
import json
import time

import torch

from spot.models.attention import FUSED, WIDENED
from spot.models.backbone import Backbone
from spot.models.batch import Batch


def step_seconds(backbone: Backbone, batch: Batch, prompt: torch.Tensor) -> float:
    """Seconds of the loss of a batch and its gradient in the prompt [1, P, D]."""
    began = time.perf_counter()
    torch.autograd.grad(backbone.loss(batch, prompt).sum(), prompt)
    return time.perf_counter() - began


def main() -> None:
    """Measure both sides in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=25, help="of each row")
    parser.add_argument("--length", type=int, default=40, help="tokens of the prompt")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    backbone = Backbone.load(arguments.backbone, dtype="bfloat16")
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.rows, arguments.tokens)
    ids = torch.randint(10, backbone.embeddings().shape[0], shape, generator=generator)
    targets = torch.randint(10, backbone.embeddings().shape[0], (arguments.rows, 2), generator=generator)
    batch = Batch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        labels=targets,
        prompt_index=torch.zeros(arguments.rows, dtype=torch.long),
    )
    prompt = backbone.embeddings()[10 : 10 + arguments.length].float().clone()[None].requires_grad_()
    seconds = {FUSED: [], WIDENED: []}
    for attention in [FUSED, WIDENED] * (1 + arguments.rounds):
        backbone.model.set_attn_implementation(attention)
        seconds[attention].append(step_seconds(backbone, batch, prompt))
    fused, widened = (min(taken[1:]) for taken in seconds.values())  # the first warms up
    print(json.dumps({**vars(arguments), "fused": fused, "ours": widened, "ratio": fused / widened}, indent=1))


if __name__ == "__main__":
    main()
