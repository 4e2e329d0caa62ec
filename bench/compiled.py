"""Time training steps with the frozen model as it is and compiled by torch, by turns, and print JSON.

    python bench/compiled.py --backbone embedded --rows 16 --tokens 24,32,48,64

A step is the loss of rows of random tokens and its gradient in a prompt that all of them share. Lengths change from one
to the next, as those of batches do. The first step of each length holds what compiling it takes, and is counted apart.
"""

import argparse
import json
import time

import torch

from spot.models.backbone import Backbone
from spot.models.batch import Batch


def step(backbone: Backbone, rows: int, tokens: int, prompt: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Seconds of a step, and its gradient [1, P, D]."""
    generator = torch.Generator().manual_seed(tokens)
    ids = torch.randint(10, backbone.embeddings().shape[0], (rows, tokens), generator=generator)
    labels = torch.randint(10, backbone.embeddings().shape[0], (rows, 2), generator=generator)
    batch = Batch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        labels=labels,
        prompt_index=torch.zeros(rows, dtype=torch.long),
    )
    began = time.perf_counter()
    [gradient] = torch.autograd.grad(backbone.loss(batch, prompt).sum(), prompt)
    return time.perf_counter() - began, gradient


def main() -> None:
    """Measure both sides in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", default="24,32,48,64", help="lengths of the rows of one step, commas between")
    parser.add_argument("--length", type=int, default=40, help="tokens of the prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    lengths = [int(tokens) for tokens in given.tokens.split(",")]
    sides = {name: Backbone.load(given.backbone, dtype=given.dtype) for name in ("eager", "compiled")}
    sides["compiled"].model.compile(dynamic=True)
    start = sides["eager"].embeddings()[10 : 10 + given.length].float().clone()[None]
    first: dict[str, float] = {}
    gradients = {}
    for name, backbone in sides.items():
        timed = [step(backbone, given.rows, tokens, start.clone().requires_grad_()) for tokens in lengths]
        first[name] = sum(seconds for seconds, _ in timed)
        gradients[name] = torch.cat([gradient for _, gradient in timed])
    seconds = {name: [] for name in sides}
    for _ in range(given.rounds):
        for name, backbone in sides.items():
            timed = [step(backbone, given.rows, tokens, start.clone().requires_grad_())[0] for tokens in lengths]
            seconds[name].append(sum(timed))
    apart = (gradients["compiled"] - gradients["eager"]).abs().max() / gradients["eager"].abs().max()
    eager, compiled = (min(seconds[name]) for name in ("eager", "compiled"))
    value = {
        "lengths": lengths,
        "seconds of the first steps": first,
        "seconds of later steps": {"eager": eager, "compiled": compiled},
        "ratio": eager / compiled,
        "steps until it pays": None
        if compiled >= eager
        else (first["compiled"] - first["eager"]) * len(lengths) / (eager - compiled),
        "largest difference of gradients, relative": float(apart),
    }
    print(json.dumps(value, indent=1))


if __name__ == "__main__":
    main()
