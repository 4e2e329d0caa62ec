"""What a shared prompt gains on layers that are not plain attention: recurrent, convolutional, with a window, experts.

    OMP_NUM_THREADS=2 python bench/sharing.py > docs/bench/sharing.json

Each model has the layers of a released one in their order and at their widths, fewer of them, and random weights. Both
sides take the same rows through the same backbone in one process, by turns: a step is loss and gradient of the prompt,
once with the prompt's states shared by all rows, once with the prompt's vectors before each row.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GptOssConfig,
    Lfm2Config,
    PreTrainedConfig,
    Qwen3_5TextConfig,
)

from spot.models.backbone import Backbone
from spot.models.batch import IGNORED, Batch, Prefix
from spot.prompts.prompt import BackboneId

VOCABULARY = 32_000  # rows of the embedding; the released ones have more, which both sides would pay alike
PROMPT, ROWS = 100, 16
INPUTS = (12, 40)  # fewest and most tokens of a row


def lfm2() -> PreTrainedConfig:
    """Three of LFM2-350M's convolutions for each attention layer."""
    kinds = ["conv", "conv", "full_attention", "conv"] * 2
    return Lfm2Config(
        vocab_size=VOCABULARY,
        hidden_size=1024,
        intermediate_size=6656,
        num_hidden_layers=len(kinds),
        num_attention_heads=16,
        num_key_value_heads=8,
        layer_types=kinds,
    )


def qwen3_5() -> PreTrainedConfig:
    """Three gated delta nets for each attention layer, at the widths of the 0.8B model."""
    kinds = ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 2
    return Qwen3_5TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=1024,
        intermediate_size=3584,
        num_hidden_layers=len(kinds),
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=256,
        linear_num_key_heads=16,
        linear_num_value_heads=16,
        layer_types=kinds,
    )


def gemma3() -> PreTrainedConfig:
    """Five layers with a window for each full one, at the widths of the 270M model; a window shorter than the rows."""
    kinds = [*["sliding_attention"] * 5, "full_attention"] * 2
    return Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=len(kinds),
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=64,
        layer_types=kinds,
    )


def gpt_oss() -> PreTrainedConfig:
    """Experts, sinks, and a window of 128 tokens in every other layer; a quarter of the width of the 20B model."""
    return GptOssConfig(
        vocab_size=VOCABULARY,
        hidden_size=720,
        intermediate_size=720,
        num_hidden_layers=4,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=64,
        num_local_experts=8,
        num_experts_per_tok=4,
        sliding_window=128,
    )


SHAPES: dict[str, Callable[[], PreTrainedConfig]] = {
    "lfm2": lfm2,
    "qwen3_5": qwen3_5,
    "gemma3": gemma3,
    "gpt_oss": gpt_oss,
}


def rows(seed: int) -> Batch:
    """Random rows of unequal lengths, one target token each."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(*INPUTS, (ROWS, 1), generator=random)
    ids = torch.randint(10, VOCABULARY, (ROWS, int(lengths.max())), generator=random)
    mask = (torch.arange(ids.shape[1])[None] < lengths).long()
    labels = torch.randint(10, VOCABULARY, (ROWS, 2), generator=random)
    labels[::2, 1] = IGNORED
    return Batch(ids, mask, labels, torch.zeros(ROWS, dtype=torch.long))


def step(backbone: Backbone, batch: Batch, prompts: torch.Tensor, *, shares: bool) -> tuple[float, torch.Tensor]:
    """Seconds of one step, and its gradient."""
    prompts = prompts.clone().requires_grad_()
    start = time.perf_counter()
    prefix = backbone.prefix(prompts) if shares else Prefix(prompts)
    backbone.loss(batch, prefix).mean().backward()
    seconds = time.perf_counter() - start
    assert prompts.grad is not None
    return seconds, prompts.grad


def measure(name: str, repeats: int) -> dict[str, object]:
    """Median seconds of both sides by turns, and how far their gradients are apart."""
    torch.manual_seed(0)
    config = SHAPES[name]()
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    width = model.get_input_embeddings().weight.shape[1]
    backbone = Backbone(model, None, BackboneId(name, "causal", width, VOCABULARY, "random"))
    ways = backbone.ways_for(PROMPT + INPUTS[1] + 2)
    prompts = backbone.embed(torch.arange(100, 100 + PROMPT)[None]).detach()
    shared, before = [], []
    for turn in range(repeats + 1):  # the first one warms up
        batch = rows(turn)
        seconds, gradient = step(backbone, batch, prompts, shares=True)
        other, expected = step(backbone, batch, prompts, shares=False)
        if turn:
            shared.append(seconds)
            before.append(other)
        difference = float((gradient - expected).norm() / expected.norm())
    return {
        "model": name,
        "parameters": backbone.parameters,
        "shares": ways.shares,
        "shared_s": round(statistics.median(shared), 3),
        "before_each_row_s": round(statistics.median(before), 3),
        "ratio": round(statistics.median(b / s for b, s in zip(before, shared, strict=True)), 2),
        "gradients_apart": difference,
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SHAPES, default=list(SHAPES), help="which shapes")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each side")
    arguments = parser.parse_args()
    setting = {"prompt": PROMPT, "rows": ROWS, "inputs": INPUTS, "threads": torch.get_num_threads()}
    results = [measure(name, arguments.repeats) for name in arguments.only]
    print(json.dumps({"setting": setting, "results": results}, indent=1))


if __name__ == "__main__":
    main()
