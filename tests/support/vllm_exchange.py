"""Stand in for vLLM servers: one that computes with a tiny model, and what a real one said.

`python -m tests.support.vllm_exchange FOLDER` writes the model whose exchange `tests/data/vllm_exchange.json` holds;
served by `vllm serve FOLDER --enable-prompt-embeds --dtype float32 --served-model-name tiny`, it is recorded anew by
`python -m tests.support.vllm_exchange FOLDER URL`.
"""

import asyncio
import base64
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from spot.collator import Collator
from spot.prompts.prompt import BackboneId
from spot.reading import Reading
from spot.serving.front import Front
from spot.serving.requests import Sampling, Served
from spot.serving.settings import ServeSettings
from spot.serving.upstream import VllmEngine
from spot.tasks.task import Example
from tests.support.serving import served_models
from tests.support.tiny_models import IDS, POSITIONS, SMALL, byte_tokenizer

RECORD = Path(__file__).parents[1] / "data" / "vllm_exchange.json"
LABELS = Reading(template="{text}", labels=(("0", "no"), ("1", "yes"), ("2", "yellow")))
TEXTS = ("good", "a bad film")
SAMPLING = Sampling(max_tokens=4, logprobs=2)


def recorded_model() -> PreTrainedModel:
    """A Llama whose heads are wide enough for vLLM on a CPU; the same in every session."""
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return AutoModelForCausalLM.from_config(LlamaConfig(**IDS, **{**SMALL, **sizes})).eval()


def front_of(model: PreTrainedModel) -> Front:
    """What a server in front of a model keeps of it."""
    table = model.get_input_embeddings().weight.detach()
    identity = BackboneId("tiny", "causal", table.shape[1], table.shape[0], "f" * 16)
    return Front(identity, byte_tokenizer(), table, (1,), POSITIONS)


def served_by(front: Front, reading: Reading = LABELS, length: int = 3) -> Served:
    """A prompt of random vectors, or without length the model alone, as a catalogue has it."""
    [entry] = [model.entry for model in served_models() if model.name == "mood"]
    generator = torch.Generator().manual_seed(3)
    value = torch.randn(length, front.id.width, generator=generator).numpy()
    collator = Collator(front.tokenizer, "causal", reading)
    if not length:
        return Served("base", collator)
    return Served("mood", collator, replace(entry, length=length), lambda: value)


@dataclass
class TinyVllm:
    """A server that answers as vLLM 0.32 does, out of a model in this process.

    Attributes:
        model: what it computes with.
        misbehave: is given the number of a request to complete, from 0 on, and the answer that is due, and gives
            another one; None lets it be.
        requests: bodies that came to `/v1/completions`.
    """

    model: PreTrainedModel
    misbehave: Callable[[int, httpx2.Response], Any] = lambda _, response: response
    requests: list[dict[str, Any]] = field(default_factory=list)
    in_work: int = 0
    most_in_work: int = 0

    def transport(self) -> httpx2.AsyncBaseTransport:
        """What carries requests to it."""
        return httpx2.MockTransport(self.answer)

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        if request.url.path == "/v1/models":
            return httpx2.Response(200, json={"object": "list", "data": [{"id": "tiny", "max_model_len": 128}]})
        assert request.url.path == "/v1/completions", request.url
        body = json.loads(request.content)
        number = len(self.requests)
        self.requests.append(body)
        self.in_work += 1
        self.most_in_work = max(self.most_in_work, self.in_work)
        try:
            await asyncio.sleep(0)
            answer = self._stream(body) if body.get("stream") else self._completion(body)
            changed = self.misbehave(number, answer)
            return await changed if asyncio.iscoroutine(changed) else changed
        finally:
            self.in_work -= 1

    @torch.no_grad()
    def logits(self, body: dict[str, Any], more: tuple[int, ...] = ()) -> torch.Tensor:
        """Log-probabilities of the next token [rows, V], as a request's prompts go on."""
        rows = []
        table = self.model.get_input_embeddings()
        for part in body["prompt"] if body.get("prompt") else body["prompt_embeds"]:
            if isinstance(part, list):
                vectors = table(torch.tensor(part))
            else:
                vectors = torch.load(io.BytesIO(base64.b64decode(part, validate=True)), weights_only=True).float()
            vectors = torch.cat([vectors, table(torch.tensor(more, dtype=torch.long))])
            rows.append(self.model(inputs_embeds=vectors[None]).logits[0, -1].float().log_softmax(-1))
        return torch.stack(rows)

    def _completion(self, body: dict[str, Any]) -> httpx2.Response:
        choices = []
        for number, row in enumerate(self.logits(body)):
            best = int(row.argmax())
            top = {
                f"token_id:{token}": float(row[token]) for token in dict.fromkeys([best, *body["logprob_token_ids"]])
            }
            told = {"token_logprobs": [float(row[best])], "tokens": [f"token_id:{best}"], "top_logprobs": [top]}
            choices.append({"index": number, "text": "", "logprobs": told, "finish_reason": "length"})
        return httpx2.Response(200, json={"id": "cmpl-1", "object": "text_completion", "choices": choices})

    def _stream(self, body: dict[str, Any]) -> httpx2.Response:
        events, taken = [], ()
        for place in range(body["max_tokens"]):
            [row] = self.logits(body, taken)
            best = int(row.argmax())
            taken = (*taken, best)
            is_end = best in (1, *body["stop_token_ids"])
            likeliest = row.topk(max(1, body["logprobs"])).indices.tolist()
            told = {
                "token_logprobs": [float(row[best])],
                "tokens": [f"token_id:{best}"],
                "top_logprobs": [{f"token_id:{token}": float(row[token]) for token in likeliest}],
            }
            reason = "stop" if is_end else "length" if place + 1 == body["max_tokens"] else None
            events.append({"choices": [{"index": 0, "text": "?", "logprobs": told, "finish_reason": reason}]})
            if is_end:
                break
        lines = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]
        return httpx2.Response(200, content="".join(lines).encode(), headers={"content-type": "text/event-stream"})


class _Recording(httpx2.AsyncBaseTransport):
    """Carries requests to a real server, and keeps them with the answers."""

    def __init__(self, kept: list[dict[str, Any]]) -> None:
        self.inner, self.kept = httpx2.AsyncHTTPTransport(), kept

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self.inner.handle_async_request(request)
        content = await response.aread()
        self.kept.append(
            {
                "path": request.url.path,
                "body": json.loads(request.content) if request.content else None,
                "status": response.status_code,
                "answer": content.decode(),
            }
        )
        return httpx2.Response(response.status_code, content=content)


async def exchange(engine: VllmEngine, front: Front) -> dict[str, Any]:
    """What the exchange is about: labels of a prompt and of the model alone, a stream, and a row that is refused."""
    mood = served_by(front)
    rows = mood.collator.encode([Example(str(number), text, ()) for number, text in enumerate(TEXTS)])
    ranked = await engine.classify(mood, rows)
    alone = await engine.classify(served_by(front, length=0), rows)
    tokens = [token async for token in engine.generate(mood, rows[0], SAMPLING)]
    await engine.close()
    return {
        "labels": [list(prediction.log_probabilities) for prediction in ranked],
        "alone": [list(prediction.log_probabilities) for prediction in alone],
        "tokens": [[token.id, token.logprob, [list(pair) for pair in token.top]] for token in tokens],
    }


def _record(url: str, folder: Path) -> None:
    kept: list[dict[str, Any]] = []
    front = front_of(recorded_model())
    engine = VllmEngine.connect(front, [url], ServeSettings(), transport=lambda: _Recording(kept))
    outcome = asyncio.run(exchange(engine, front))
    text = json.dumps({"exchange": kept, "outcome": outcome}, indent=1).replace(str(folder), "tiny")
    RECORD.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        _record(sys.argv[2], folder)
    else:
        recorded_model().save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
