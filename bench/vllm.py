"""Hold vLLM against `spot`: the same labels and log-probabilities, and how many rows a second each answers.

    spot export packaged:glue/sst2 packaged:ag_news packaged:trec --to checkpoint --out baked
    vllm serve FOLDER --enable-prompt-embeds --dtype float32 --port 8001
    vllm serve baked --dtype float32 --port 8002
    python bench/vllm.py --data DIR --rows 500 --vectors http://127.0.0.1:8001 --baked http://127.0.0.1:8002 --json

FOLDER is that of the frozen model. Any of the two servers may be left out, and both need not run at a time: a run of
each gives the same rows. The reference is the model in this process, a batch of one task at a time (`exact`); beside it
the engine of `spot serve` answers all tasks' rows in one stream (`local`). `differ` are labels other than the
reference's, `apart` the largest difference of a label's log-probability in nats, and of a difference of two labels'.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any

import httpx2
import numpy as np
import torch

from spot.collator import Row
from spot.evaluation.predictions import Prediction, predict_rows, ranked
from spot.exporting.texts import around_text
from spot.library.library import open_library
from spot.models.backbone import Backbone
from spot.serving.catalogue import LibraryCatalogue
from spot.serving.front import Front
from spot.serving.local import LocalEngine
from spot.serving.requests import Served
from spot.serving.settings import ServeSettings
from spot.serving.upstream import VllmEngine
from spot.tasks import registry

TASKS = ("glue/sst2", "ag_news", "trec")
AT_ONCE = 32  # requests of one row
SETTINGS = ServeSettings(timeout_s=1200, refresh_s=1e6)

Rows = Sequence[tuple[Served, Row, str]]  # of all tasks in turn, with the text


def mixed_rows(catalogue: LibraryCatalogue, tasks: Sequence[str], count: int) -> Rows:
    """The first rows of each task's validation split, the tasks in turn."""
    columns = []
    for task in tasks:
        served = catalogue.find(task)
        share = -(-count // len(tasks))
        examples = list(islice(registry.get(task).load("validation"), share))
        rows = served.collator.encode(examples)
        columns.append([(served, row, example.inputs) for row, example in zip(rows, examples, strict=True)])
    return [entry for entries in zip(*columns, strict=False) for entry in entries][:count]


def reference(backbone: Backbone, rows: Rows) -> tuple[list[Prediction], float]:
    """What the model in this process says, and in how many seconds."""
    answers: dict[int, Prediction] = {}
    began = time.perf_counter()
    for served in dict.fromkeys(served for served, _, _ in rows):
        numbers = [number for number, entry in enumerate(rows) if entry[0] is served]
        prompt = torch.tensor(served.read_vectors())
        predictions = predict_rows(backbone, prompt, served.collator, [rows[number][1] for number in numbers])
        answers.update(zip(numbers, predictions, strict=True))
    return [answers[number] for number in range(len(rows))], time.perf_counter() - began


async def all_rows(rows: Rows, ask: Callable[[Served, Row, str], Awaitable[Prediction]]) -> list[Prediction]:
    """Answers to all rows, a request each, so many at a time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def answer(served: Served, row: Row, text: str) -> Prediction:
        async with places:
            return await ask(served, row, text)

    return await asyncio.gather(*(answer(*entry) for entry in rows))


def by_engine(engine: LocalEngine | VllmEngine, rows: Rows) -> tuple[list[Prediction], float]:
    """What an engine of `spot serve` says."""

    async def ask(served: Served, row: Row, _: str) -> Prediction:
        return (await engine.classify(served, [row]))[0]

    async def run() -> tuple[list[Prediction], float]:
        await all_rows(rows[:AT_ONCE], ask)  # a server warms up, and prompts are read
        began = time.perf_counter()
        answers = await all_rows(rows, ask)
        took = time.perf_counter() - began
        await engine.close()
        return answers, took

    return asyncio.run(run())


def by_text(url: str, rows: Rows) -> tuple[list[Prediction], float]:
    """What a server of the baked checkpoint says to plain texts; labels of one token."""

    async def run() -> tuple[list[Prediction], float]:
        async with httpx2.AsyncClient(timeout=1200, trust_env=False) as client:
            model = (await client.get(f"{url}/v1/models")).json()["data"][0]["id"]

            async def ask(served: Served, _: Row, text: str) -> Prediction:
                assert served.entry is not None and all(len(choice) == 1 for choice in served.collator.choices)
                before, behind = around_text(served.collator)
                ids = [choice[0] for choice in served.collator.choices]
                body = {
                    "model": model,
                    "prompt": f"<|spot:{served.entry.task}|>{before}{text}{behind}",
                    "max_tokens": 1,
                    "temperature": 0,
                    "logprobs": len(ids),
                    "logprob_token_ids": ids,
                    "return_tokens_as_token_ids": True,
                }
                answer = (await client.post(f"{url}/v1/completions", json=body)).json()
                top = answer["choices"][0]["logprobs"]["top_logprobs"][0]
                return ranked(served.collator.labels, [top[f"token_id:{token}"] for token in ids])

            await all_rows(rows[:AT_ONCE], ask)
            began = time.perf_counter()
            answers = await all_rows(rows, ask)
            return answers, time.perf_counter() - began

    return asyncio.run(run())


def compared(outcome: tuple[list[Prediction], float], expected: Sequence[Prediction]) -> dict[str, Any]:
    """How answers differ from the reference's, and how fast they came."""
    answers, took = outcome
    pairs = list(zip(answers, expected, strict=True))
    apart, between = [], []
    for answer, known in pairs:
        given, wanted = np.array(answer.log_probabilities), np.array(known.log_probabilities)
        apart.append(float(np.abs(given - wanted).max()))
        between.append(float(np.abs((given - given[0]) - (wanted - wanted[0])).max()))
    return {
        "rows": len(pairs),
        "differ": sum(answer.text != known.text for answer, known in pairs),
        "apart": max(apart),
        "apart_between_labels": max(between),
        "rows_per_s": len(pairs) / took,
        "seconds": took,
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="data folder; left out: SPOT_DATA")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="of the library, with labels of one token")
    parser.add_argument("--library", default="packaged")
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--vectors", nargs="*", default=[], metavar="URL", help="servers with --enable-prompt-embeds")
    parser.add_argument("--baked", metavar="URL", help="a server of the checkpoint with the prompts")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.data:
        os.environ["SPOT_DATA"] = arguments.data
    backbone = Backbone.load(arguments.backbone)
    catalogue = LibraryCatalogue(open_library(arguments.library), backbone, SETTINGS.refresh_s, SETTINGS.batch_tokens)
    rows = mixed_rows(catalogue, arguments.tasks, arguments.rows)
    # What is cut cannot travel as one text.
    kept = [entry for entry in rows if not entry[1].lost]
    exact = reference(backbone, kept)
    result: dict[str, Any] = {"tasks": arguments.tasks, "rows_cut_and_left_out": len(rows) - len(kept)}
    result["exact"] = compared(exact, exact[0])
    if arguments.vectors:
        engine = VllmEngine.connect(Front.load(arguments.backbone), arguments.vectors, SETTINGS)
        result["vectors"] = compared(by_engine(engine, kept), exact[0])
    if arguments.baked:
        result["baked"] = compared(by_text(arguments.baked, kept), exact[0])
    result["local"] = compared(by_engine(LocalEngine(backbone, SETTINGS), kept), exact[0])
    catalogue.close()
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name in ("exact", "local", "vectors", "baked"):
        if name in result:
            entry = result[name]
            print(
                f"{name:8} {entry['rows']} rows, {entry['rows_per_s']:.1f} a second, {entry['differ']} labels differ, "
                f"{entry['apart']:.1e} nats apart, {entry['apart_between_labels']:.1e} between labels"
            )


if __name__ == "__main__":
    main()
