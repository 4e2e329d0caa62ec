"""What `spot serve` answers under load, beside PEFT, transformers and a call in process, on the same rows.

    python bench/serve.py --json docs/bench/serve.json            # everything; some 40 minutes on two cores
    python bench/serve.py --only mixed,alone --rows 160

The server is a process of its own, as `spot serve` starts it, and is asked over HTTP; what it is compared with runs in
this process without HTTP, by turns with it. Rows are sentences of words drawn anew, as long as real ones, or with
--data those of the tasks' own validation splits. Labels are ranked exactly on all sides.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import spot
from spot.collator import Collator, collator_of_reading
from spot.interchange import export_peft
from spot.library import Library, open_library
from spot.models import Backbone
from spot.prompts.prompt import SoftPrompt, reading_of
from spot.tasks import registry
from spot.tasks.inputs import inputs_of

WORKS = ("mixed", "alone", "stream", "prompts", "load")
CLIENTS = 32
WORDS = (
    "the a of and to in it is was for with that this on but not as so film time story people work place service good "
    "bad new old never always really quite very more less market game company team price question answer water house "
    "road light music book phone screen battery food room city country year day night hand head word part number first"
).split()
CLOSE = 1e-4  # largest difference of a probability that counts as none
SETTLED = 1_000  # requests after which memory should be flat


@dataclass(frozen=True)
class Case:
    """A row of a task, and what `spot.predict` says of it alone."""

    task: str
    row: dict[str, str]
    probabilities: dict[str, float]


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(WORKS), help="works with commas between them")
    parser.add_argument("--tasks", default="", help="tasks of the packaged library; all of them where left out")
    parser.add_argument("--rows", type=int, default=320, help="rows of the comparisons")
    parser.add_argument("--requests", type=int, default=10_000, help="requests of the load")
    parser.add_argument("--prompts", type=int, default=1_000, help="prompts of the large library")
    parser.add_argument("--small", action="store_true", help="load a random model of two narrow layers instead")
    parser.add_argument("--data", type=Path, help="folder with the data sets")
    parser.add_argument("--json", type=Path, help="file that the figures are merged into")
    options = parser.parse_args()
    folder = tempfile.TemporaryDirectory()
    backbone = Backbone.load("embedded")
    library = open_library("packaged")
    if options.small:
        backbone, library = small(backbone, library, Path(folder.name))
    tasks = options.tasks.split(",") if options.tasks else [entry.task for entry in library.entries()]
    cases = made_cases(backbone, library, tasks, options.rows, options.data)
    figures: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "torch_threads": torch.get_num_threads()}}
    works = options.only.split(",")
    if "mixed" in works:
        figures["mixed"] = mixed(backbone, library, cases)
    if "alone" in works:
        figures["alone"] = alone(backbone, library, cases)
    if "stream" in works:
        figures["stream"] = stream()
    if "prompts" in works:
        figures["prompts"] = many_prompts(library, options.prompts)
    if "load" in works:
        figures["small_load" if options.small else "load"] = load(backbone, library, cases, options.requests)
    print(json.dumps(figures, indent=2))
    if options.json:
        before = json.loads(options.json.read_text()) if options.json.exists() else {}
        options.json.write_text(json.dumps({**before, **figures}, indent=2) + "\n")


def small(backbone: Backbone, library: Library, folder: Path) -> tuple[Backbone, Library]:
    """A random model with the embedded one's words, and a prompt of it for each task of a library."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=backbone.id.vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "small")
    backbone.tokenizer.save_pretrained(folder / "small")
    model = Backbone.load(str(folder / "small"))
    prompts = Library.create(folder / "prompts")
    chance = np.random.default_rng(0)
    for entry in library.entries():
        prompt = library.get(entry.digest)
        value, key = chance.normal(size=(2, prompt.length, 32)).astype(np.float32)
        prompts.add(replace(prompt, value=value, key=key, start=None, backbone=model.id, reading=reading_of(prompt)))
    return model, prompts


def made_cases(backbone: Backbone, library: Library, tasks: Sequence[str], count: int, data: Path | None) -> list[Case]:
    """Rows of all tasks in a mixed order, with the answers that they have alone."""
    chance = random.Random(0)
    cases = []
    for number, task in enumerate(tasks):
        prompt = library.get(task)
        each = len(range(number, count, len(tasks)))
        rows = real_rows(task, each, data) if data else [made_row(task, chance) for _ in range(each)]
        predictions = [spot.predict(prompt, backbone, [row])[0] for row in rows]
        cases += [Case(task, row, answer.probabilities) for row, answer in zip(rows, predictions, strict=True)]
    chance.shuffle(cases)
    return cases


def fields_of(task: str) -> list[str]:
    """The fields that a known task reads."""
    names = {"glue/mnli": ["premise", "hypothesis"], "quora_pairs": ["question1", "question2"]}
    other = {"glue/sst2": ["sentence"], "glue/cola": ["sentence"]}
    return names.get(task) or other.get(task) or ["text"]


def made_row(task: str, chance: random.Random) -> dict[str, str]:
    """A sentence for each field."""
    return {field: " ".join(chance.choices(WORDS, k=chance.randint(5, 30))) for field in fields_of(task)}


def real_rows(task: str, count: int, data: Path) -> list[dict[str, str]]:
    """The first rows of a task's validation split, or of its training rows, by the fields that it reads."""
    known = registry.get(task, data)
    split = "validation" if "validation" in known.splits else "train"
    return [dict(zip(fields_of(task), example.texts, strict=True)) for example in islice(known.load(split), count)]


@contextmanager
def server(library: Path | str, *settings: str) -> Iterator[tuple[str, psutil.Process]]:
    """`spot serve` as a process; its address and the process."""
    command = [sys.executable, "-m", "spot", "serve", "--library", str(library), "--port", "0"]
    command += [word for setting in settings for word in ("--set", setting)]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stderr=said, stdout=said)
        try:
            yield _address(process, said), psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)


def _address(process: subprocess.Popen[bytes], said: Any) -> str:
    """The address that a server says it listens on."""
    for _ in range(3000):
        said.seek(0)
        text = said.read()
        if " on http://" in text:
            return f"http://{text.rpartition(' on http://')[2].split()[0]}"
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"the server did not start: {text}")


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    at = np.percentile(np.array(seconds) * 1000, [50, 95, 99])
    return dict(zip(("p50_ms", "p95_ms", "p99_ms"), [round(float(value), 1) for value in at], strict=True))


async def ask(client: httpx2.AsyncClient, case: Case) -> tuple[httpx2.Response, float]:
    """One row, classified."""
    began = time.perf_counter()
    response = await client.post("/v1/classify", json={"model": case.task, "input": case.row})
    return response, time.perf_counter() - began


def is_right(response: httpx2.Response, case: Case) -> bool:
    """Whether the probabilities are those of the row alone."""
    told = response.json()["data"][0]["probabilities"]
    return told.keys() == case.probabilities.keys() and all(
        abs(told[label] - share) <= CLOSE for label, share in case.probabilities.items()
    )


async def ask_all(url: str, cases: Sequence[Case], clients: int) -> tuple[float, list[float], int]:
    """All rows by so many clients: seconds in all, seconds of each, and how many answers are wrong."""
    waiting = iter(cases)
    each: list[float] = []
    wrong = 0

    async def client_of(client: httpx2.AsyncClient) -> None:
        nonlocal wrong
        for case in waiting:
            response, seconds = await ask(client, case)
            response.raise_for_status()
            each.append(seconds)
            wrong += not is_right(response, case)

    async with httpx2.AsyncClient(base_url=url, timeout=300) as client:
        began = time.perf_counter()
        await asyncio.gather(*(client_of(client) for _ in range(clients)))
        return time.perf_counter() - began, each, wrong


def mixed(backbone: Backbone, library: Library, cases: Sequence[Case]) -> dict[str, Any]:
    """Rows of all tasks, 32 at a time, against PEFT row by row and transformers task by task, by turns."""
    prompts = {task: library.get(task) for task in {case.task for case in cases}}
    collators = {task: collator_of(backbone, prompt) for task, prompt in prompts.items()}
    rivals = {"peft": Peft(backbone, prompts, collators), "transformers": Batches(backbone, prompts, collators)}
    parts = [cases[start::3] for start in range(3)]
    seconds: dict[str, float] = dict.fromkeys(["spot", *rivals], 0.0)
    each: list[float] = []
    wrong = dict.fromkeys(seconds, 0)
    with server("packaged") as (url, _):
        asyncio.run(ask_all(url, cases[:CLIENTS], CLIENTS))  # prompts are prepared once
        for rival in rivals.values():
            rival.answers(cases[:10])
        for part in parts:
            took, times, errors = asyncio.run(ask_all(url, part, CLIENTS))
            seconds["spot"] += took
            each += times
            wrong["spot"] += errors
            for name, rival in rivals.items():
                began = time.perf_counter()
                answers = rival.answers(part)
                seconds[name] += time.perf_counter() - began
                labels = [max(case.probabilities, key=case.probabilities.__getitem__) for case in part]
                wrong[name] += sum(answer != label for answer, label in zip(answers, labels, strict=True))
    rate = {name: len(cases) / value for name, value in seconds.items()}
    return {
        "rows": len(cases),
        "tasks": len(prompts),
        "clients": CLIENTS,
        "rows_a_second": {name: round(value, 2) for name, value in rate.items()},
        "wrong": wrong,
        "ratio_to_peft": round(rate["spot"] / rate["peft"], 2),
        "ratio_to_transformers": round(rate["spot"] / rate["transformers"], 2),
        **quantiles(each),
    }


def collator_of(backbone: Backbone, prompt: SoftPrompt) -> Collator:
    """How a prompt's rows become token ids."""
    return collator_of_reading(backbone, reading_of(prompt), length=prompt.length)


class Peft:
    """One PEFT model with an adapter a task, which it switches to for each row."""

    def __init__(self, backbone: Backbone, prompts: dict[str, SoftPrompt], collators: dict[str, Collator]) -> None:
        """Load all prompts as adapters."""
        from peft import PeftModel

        self._collators = collators
        self._model: Any = None
        with tempfile.TemporaryDirectory() as folder:
            for number, (task, prompt) in enumerate(prompts.items()):
                place = export_peft(prompt, Path(folder) / str(number))
                if self._model is None:
                    self._model = PeftModel.from_pretrained(backbone.model, str(place), adapter_name=task)
                else:
                    self._model.load_adapter(str(place), adapter_name=task)

    @torch.no_grad()
    def answers(self, cases: Sequence[Case]) -> list[str]:
        """The likeliest label of each row."""
        labels = []
        for case in cases:
            collator = self._collators[case.task]
            [row] = collator.encode(list(inputs_of([("row", case.row)], collator.reading)))
            self._model.set_adapter(case.task)
            if all(len(choice) == 1 for choice in collator.choices):
                logits = self._model(input_ids=torch.tensor([row.input_ids])).logits[0, -1]
                scores = logits[[choice[0] for choice in collator.choices]]
            else:
                scores = torch.tensor([self._score(row.input_ids, choice) for choice in collator.choices])
            labels.append(collator.labels[int(scores.argmax())])
        return labels

    def _score(self, ids: Sequence[int], choice: Sequence[int]) -> float:
        logits = self._model(input_ids=torch.tensor([[*ids, *choice[:-1]]])).logits[0]
        shares = logits[-len(choice) :].log_softmax(dim=-1)
        return float(shares[torch.arange(len(choice)), torch.tensor(choice)].sum())


class Batches:
    """Plain transformers, the best case for it: all rows of a task at once, in batches of like lengths."""

    def __init__(self, backbone: Backbone, prompts: dict[str, SoftPrompt], collators: dict[str, Collator]) -> None:
        """Take hold of the model."""
        self._model, self._collators = backbone.model, collators
        self._prompts = {task: torch.tensor(prompt.value) for task, prompt in prompts.items()}

    @torch.no_grad()
    def answers(self, cases: Sequence[Case]) -> list[str]:
        """The likeliest label of each row."""
        answers: dict[int, str] = {}
        for task, collator in self._collators.items():
            numbers = [number for number, case in enumerate(cases) if case.task == task]
            named = [(f"row {number}", cases[number].row) for number in numbers]
            rows = [row.input_ids for row in collator.encode(list(inputs_of(named, collator.reading)))]
            is_plain = all(len(choice) == 1 for choice in collator.choices)
            choices = [()] if is_plain else collator.choices
            pairs = [(place, number) for place in range(len(rows)) for number in range(len(choices))]
            pairs.sort(key=lambda pair: len(rows[pair[0]]))
            scores = torch.zeros(len(rows), len(collator.choices))
            for start in range(0, len(pairs), CLIENTS):
                part = pairs[start : start + CLIENTS]
                told = self._scores(task, [(rows[place], choices[number]) for place, number in part], is_plain)
                for (place, number), values in zip(part, told, strict=True):
                    if is_plain:
                        scores[place] = values[[choice[0] for choice in collator.choices]]
                    else:
                        scores[place, number] = values
            for number, row in zip(numbers, scores, strict=True):
                answers[number] = collator.labels[int(row.argmax())]
        return [answers[number] for number in range(len(cases))]

    def _scores(self, task: str, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], is_plain: bool) -> torch.Tensor:
        """Logits [B, V] behind rows, or the log-probability [B] of a label behind each; pads stand in front."""
        prompt, embed = self._prompts[task], self._model.get_input_embeddings()
        sequences = [[*ids, *choice[:-1]] for ids, choice in pairs]
        width = max(map(len, sequences))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in sequences])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * (len(prompt) + len(row)) for row in sequences])
        vectors = torch.stack(
            [
                torch.cat([line[: width - len(row)], prompt, line[width - len(row) :]])
                for line, row in zip(embed(ids), sequences, strict=True)
            ]
        )
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        kept = 1 if is_plain else max(len(choice) for _, choice in pairs)
        logits = self._model(
            inputs_embeds=vectors, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=kept
        ).logits
        if is_plain:
            return logits[:, -1]
        shares = logits.log_softmax(dim=-1)
        return torch.stack(
            [
                row[-len(choice) :][torch.arange(len(choice)), torch.tensor(choice)].sum()
                for row, (_, choice) in zip(shares, pairs, strict=True)
            ]
        )


def alone(backbone: Backbone, library: Library, cases: Sequence[Case]) -> dict[str, Any]:
    """One request at a time against `spot.predict` in process, by turns."""
    cases = [case for case in cases if len(case.probabilities) < 10][:60]
    prompts = {case.task: library.get(case.task) for case in cases}
    ours, theirs = [], []
    with server("packaged") as (url, _), httpx2.Client(base_url=url, timeout=300) as client:
        for number, case in enumerate([*cases[:10], *cases]):
            began = time.perf_counter()
            client.post("/v1/classify", json={"model": case.task, "input": case.row}).raise_for_status()
            between = time.perf_counter()
            spot.predict(prompts[case.task], backbone, [case.row])
            if number >= 10:
                ours.append(between - began)
                theirs.append(time.perf_counter() - between)
    ratio = statistics.median(ours) / statistics.median(theirs)
    return {"requests": len(ours), "served": quantiles(ours), "in_process": quantiles(theirs), "ratio": round(ratio, 3)}


def stream() -> dict[str, Any]:
    """Streams 8 at a time against one after another, tokens a second."""
    chance = random.Random(1)
    texts = [" ".join(chance.choices(WORDS, k=20)) for _ in range(8)]

    async def generated(client: httpx2.AsyncClient, text: str) -> int:
        body = {"model": "base", "prompt": text, "max_tokens": 48, "stream": True, "temperature": 1.0, "seed": 1}
        async with client.stream(
            "POST", "/v1/completions", json={**body, "stream_options": {"include_usage": True}}
        ) as response:
            events = [line async for line in response.aiter_lines() if line.startswith("data: {")]
        return json.loads(events[-1].removeprefix("data: "))["usage"]["completion_tokens"]

    async def run(url: str) -> dict[str, float]:
        rates: dict[str, list[float]] = {"together": [], "alone": []}
        async with httpx2.AsyncClient(base_url=url, timeout=300) as client:
            await generated(client, texts[0])
            for _ in range(3):
                began = time.perf_counter()
                tokens = sum(await asyncio.gather(*(generated(client, text) for text in texts)))
                rates["together"].append(tokens / (time.perf_counter() - began))
                began = time.perf_counter()
                tokens = sum([await generated(client, text) for text in texts])
                rates["alone"].append(tokens / (time.perf_counter() - began))
        return {name: statistics.median(values) for name, values in rates.items()}

    with server("packaged") as (url, _):
        rates = asyncio.run(run(url))
    told = {name: round(value, 2) for name, value in rates.items()}
    return {"tokens_a_second": told, "ratio": round(rates["together"] / rates["alone"], 2)}


def copies(library: Library, folder: Path, count: int) -> list[str]:
    """A library of many prompts: those of another with a little noise, under names of their own."""
    large = Library.create(folder)
    chance = np.random.default_rng(0)
    prompts = [library.get(entry.digest) for entry in library.entries()]
    names = []
    for number in range(count):
        prompt = prompts[number % len(prompts)]
        noise = chance.normal(scale=1e-3, size=prompt.value.shape).astype(np.float32)
        copied = replace(prompt, value=prompt.value + noise, task=f"task_{number}", reading=reading_of(prompt))
        large.add(copied)
        names.append(copied.task)
    return names


def many_prompts(library: Library, count: int) -> dict[str, Any]:
    """Resident memory of servers with ten prompts and with many, when each has been asked."""
    resident = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in (10, count):
            names = copies(library, Path(folder) / str(number), number)
            with server(Path(folder) / str(number), "prefix_bytes=200000000") as (url, process):
                with httpx2.Client(base_url=url, timeout=600) as client:
                    for _ in range(2):
                        for name in names:
                            body = {"model": name, "input": "so good"}
                            fields = fields_of(reading_form(library, int(name.removeprefix("task_"))))
                            body["input"] = {field: "so good" for field in fields}
                            client.post("/v1/classify", json=body).raise_for_status()
                resident[number] = process.memory_info().rss
            shutil.rmtree(Path(folder) / str(number))
    return {
        "prompts": count,
        "resident_mb": {str(number): round(size / 1e6) for number, size in resident.items()},
        "more_mb": round((resident[count] - resident[10]) / 1e6),
    }


def reading_form(library: Library, number: int) -> str:
    """The task whose copy a numbered prompt is."""
    entries = library.entries()
    return entries[number % len(entries)].task


def load(backbone: Backbone, library: Library, cases: Sequence[Case], count: int) -> dict[str, Any]:
    """Mixed requests of 64 clients, some that leave, some too large, while prompts come and go."""
    chance = random.Random(2)
    counts = dict.fromkeys(("right", "wrong", "lost", "left", "too_large_refused", "busy", "other"), 0)
    seconds: list[float] = []
    memory: list[int] = []

    async def one_client(client: httpx2.AsyncClient, process: psutil.Process, waiting: Iterator[int]) -> None:
        for number in waiting:
            if number % 500 == 0:
                memory.append(process.memory_info().rss)
            case = chance.choice(cases)
            kind = chance.random()
            if kind < 0.02:
                with_timeout = httpx2.Timeout(300, read=0.05)
                try:
                    body = {"model": case.task, "input": [case.row] * 8}
                    await client.post("/v1/classify", json=body, timeout=with_timeout)
                except httpx2.TimeoutException:
                    pass
                counts["left"] += 1
                continue
            if kind < 0.03:
                body = {"model": case.task, "input": [case.row] * 5000}
                response = await client.post("/v1/classify", json=body)
                counts["too_large_refused" if response.status_code == 413 else "other"] += 1
                continue
            try:
                response, took = await ask(client, case)
            except httpx2.HTTPError:
                counts["lost"] += 1
                continue
            if response.status_code == 200:
                seconds.append(took)
                counts["right" if is_right(response, case) else "wrong"] += 1
            else:
                counts["busy" if response.status_code == 429 else "other"] += 1

    async def change(folder: Path, ended: asyncio.Event) -> int:
        spare = replace(
            library.get(library.entries()[0].digest), task="spare", reading=reading_of(library.get("ag_news"))
        )
        changes, shared = 0, Library(folder)
        while not ended.is_set():
            await asyncio.to_thread(shared.add, spare)
            await asyncio.sleep(3)
            await asyncio.to_thread(shared.remove, spare.digest)
            await asyncio.sleep(3)
            changes += 2
        return changes

    async def run(url: str, process: psutil.Process, folder: Path) -> tuple[float, int]:
        ended = asyncio.Event()
        changing = asyncio.ensure_future(change(folder, ended))
        limits = httpx2.Limits(max_connections=64)
        async with httpx2.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
            began, waiting = time.perf_counter(), iter(range(count))
            await asyncio.gather(*(one_client(client, process, waiting) for _ in range(64)))
            took = time.perf_counter() - began
        ended.set()
        return took, await changing

    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(library.path, Path(folder) / "library", ignore=shutil.ignore_patterns("*.sqlite"))
        name = "embedded" if backbone.id.name == "embedded" else str(library.path.parent / "small")
        with server(Path(folder) / "library", f"backbone={name}") as (url, process):
            took, changes = asyncio.run(run(url, process, Path(folder) / "library"))
            memory.append(process.memory_info().rss)
    settled = memory[1 + SETTLED // 500 :] or memory
    return {
        "requests": count,
        **counts,
        "library_changes": changes,
        "requests_a_second": round(count / took, 2),
        "memory_mb": [round(size / 1e6) for size in memory],
        "growth_after_settled_mb": round((settled[-1] - settled[0]) / 1e6),
        **quantiles(seconds),
    }


if __name__ == "__main__":
    main()
