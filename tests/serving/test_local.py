"""The local engine: whatever stands beside a row, its answer is the one that it has alone."""

import asyncio
import random
from contextlib import aclosing

import numpy as np
import pytest
import torch

from spot.evaluation import predict
from spot.models.backbone import Backbone
from spot.models.decoding import Decoder
from spot.serving import local
from spot.serving.catalogue import LibraryCatalogue
from spot.serving.local import LocalEngine, drawn
from spot.serving.requests import Load, Refusal, Sampling
from spot.serving.settings import ServeSettings
from spot.tasks.inputs import inputs_of
from spot.tasks.task import Example
from tests.support.batches import relative
from tests.support.tiny_libraries import TEXTS, rows_of_task, task_prompt, tiny_backbone, tiny_library

RANKED = ("reviews", "letters", "topics", "pairs")


@pytest.fixture(params=["llama", "t5", "gpt2"])
def family(request):
    return request.param


@pytest.fixture
def world(tiny, tmp_path, family):
    """A library of a family's model with its catalogue."""
    library = tiny_library(tmp_path, family)
    library_catalogue = LibraryCatalogue(library, tiny_backbone(tiny, family), 60.0, 64)
    yield library, library_catalogue
    library_catalogue.close()


def run(tiny, family, use, **settings):
    """Run `use(engine)` with an engine of a model of its own, which is closed behind it."""

    async def main():
        engine = LocalEngine(tiny_backbone(tiny, family), ServeSettings(**settings))
        try:
            return await use(engine)
        finally:
            await engine.close()
            assert not engine.is_ready

    return asyncio.run(asyncio.wait_for(main(), 120))


def encoded(served, rows):
    named = ((f"row {number}", row) for number, row in enumerate(rows))
    return served.collator.encode(list(inputs_of(named, served.collator.reading)))


def texts(served, *inputs):
    return served.collator.encode([Example(str(n), text, ()) for n, text in enumerate(inputs)])


async def asked(engine, catalogue, task, rows):
    served = catalogue.find(task)
    return await engine.classify(served, encoded(served, rows))


async def taken(engine, served, row, sampling):
    async with aclosing(engine.generate(served, row, sampling)) as tokens:
        return [token async for token in tokens]


def test_mixed_requests_have_the_answers_of_predict(tiny, world, family):
    library, catalogue = world
    jobs = [(task, row) for task in RANKED for row in rows_of_task(task)]
    random.Random(0).shuffle(jobs)

    async def use(engine):
        answers = asyncio.gather(*(asked(engine, catalogue, task, [row]) for task, row in jobs))
        whole = asyncio.gather(*(asked(engine, catalogue, task, rows_of_task(task)) for task in RANKED))
        single, together = await answers, await whole
        assert engine.load.batches < engine.load.batch_rows == 2 * len(jobs)
        assert engine.load.waiting_rows == 0
        return single, together

    single, together = run(tiny, family, use, batch_tokens=200)
    backbone = tiny_backbone(tiny, family)
    expected = {task: predict(library.get(task), backbone, rows_of_task(task), decode="rank") for task in RANKED}
    for (task, row), [answer] in zip(jobs, single, strict=True):
        alone = expected[task][rows_of_task(task).index(row)]
        assert answer.text == alone.text and answer.labels == alone.labels
        np.testing.assert_allclose(answer.log_probabilities, alone.log_probabilities, atol=1e-4)
    for task, answers in zip(RANKED, together, strict=True):
        assert [answer.text for answer in answers] == [alone.text for alone in expected[task]]


def test_rows_generate_greedily_as_predict_has_it_whatever_joins_and_leaves(tiny, world, family):
    library, catalogue = world
    served, base = catalogue.find("open"), catalogue.find("base")

    async def use(engine):
        rows = encoded(served, rows_of_task("open")) * 3
        greedy = [taken(engine, served, row, Sampling(max_tokens=8)) for row in rows]
        samplings = [Sampling(max_tokens=3 + n, temperature=1.5, seed=n) for n in range(len(rows))]
        other = [taken(engine, base, row, sampling) for row, sampling in zip(rows, samplings, strict=True)]
        ranking = asked(engine, catalogue, "pairs", rows_of_task("pairs"))
        outcome = await asyncio.gather(*greedy, *other, ranking)
        while engine.load.streams:  # the last token is handed on before its row is forgotten
            await asyncio.sleep(0.01)
        assert engine.load.steps < engine.load.step_rows
        return outcome[: len(rows)]

    streams = run(tiny, family, use, max_streams=5)
    tokenizer = catalogue.find("open").collator.tokenizer
    alone = predict(library.get("open"), tiny_backbone(tiny, family), rows_of_task("open"))
    for tokens, prediction in zip(streams, [*alone] * 3, strict=True):
        ids = [token.id for token in tokens if not token.is_end]
        assert served.collator.answer_in(tokenizer.decode(ids, skip_special_tokens=True)) == prediction.text
        assert len(tokens) == 8 or tokens[-1].is_end


def test_log_probabilities_are_the_models_own_and_the_likeliest_come_first(tiny, world, family):
    _, catalogue = world
    base = catalogue.find("base")
    [row] = texts(base, "abc def")
    sampling = Sampling(max_tokens=5, temperature=2.0, seed=3, logprobs=4)
    tokens = run(tiny, family, lambda engine: taken(engine, base, row, sampling))
    backbone = tiny_backbone(tiny, family)
    batch = base.collator.batch([row.__class__(row.input_ids, tuple(token.id for token in tokens))])
    nats = backbone.loss(batch, torch.zeros(1, 0, 32))
    assert relative(torch.tensor([-sum(token.logprob for token in tokens)]), nats) < 1e-4
    for token in tokens:
        values = [value for _, value in token.top]
        assert len(values) == 4 and values == sorted(values, reverse=True) and token.logprob <= values[0] + 1e-6


def test_a_seed_gives_the_same_tokens_alone_and_beside_others(tiny, world, family):
    _, catalogue = world
    base = catalogue.find("base")
    rows = texts(base, *TEXTS)

    async def use(engine):
        samplings = [Sampling(max_tokens=6, temperature=0.9, top_p=0.9, seed=n) for n in range(len(rows))]
        jobs = list(zip(rows, samplings, strict=True))
        together = await asyncio.gather(*(taken(engine, base, *job) for job in jobs))
        return together, [await taken(engine, base, *job) for job in jobs]

    together, alone = run(tiny, family, use)
    ids = [[[token.id for token in tokens] for tokens in outcome] for outcome in (together, alone)]
    assert ids[0] == ids[1]


def test_it_is_ready_when_the_model_has_read_a_first_row(tiny, family):
    async def use(engine):
        assert engine.load == Load()
        while not engine.is_ready:
            await asyncio.sleep(0.01)
        return engine.load

    assert run(tiny, family, use) == Load()


@pytest.mark.parametrize("family", ["llama"], indirect=True)
class TestLimits:
    def test_prompts_of_unlike_lengths_are_answered_apart(self, tiny, tmp_path, family):
        library = tiny_library(tmp_path / "short", family, ("reviews",))
        other = tiny_library(tmp_path / "long", family, ())
        prompt = task_prompt("pairs", family=family, length=9)
        other.add(prompt)
        backbone = tiny_backbone(tiny, family)
        catalogues = [LibraryCatalogue(each, backbone, 60.0, 64) for each in (library, other)]
        models = [catalogue.find(task) for catalogue, task in zip(catalogues, ("reviews", "pairs"), strict=True)]

        async def use(engine):
            jobs = [(model, encoded(model, rows_of_task(model.name))) for model in models]
            streams = [taken(engine, model, rows[0], Sampling(max_tokens=4)) for model, rows in jobs]
            return (await asyncio.gather(*(engine.classify(*job) for job in jobs), *streams))[:2]

        for answers, owner in zip(run(tiny, family, use), (library.get("reviews"), prompt), strict=True):
            alone = predict(owner, backbone, rows_of_task(owner.task))
            assert [answer.text for answer in answers] == [answer.text for answer in alone]
        for catalogue in catalogues:
            catalogue.close()

    def test_more_rows_than_may_wait_are_refused_and_the_others_answered(self, tiny, world, family):
        _, catalogue = world
        served = catalogue.find("reviews")
        rows = encoded(served, rows_of_task("reviews"))

        async def use(engine):
            outcomes = await asyncio.gather(
                *(engine.classify(served, rows * 4) for _ in range(6)), return_exceptions=True
            )
            stream = await taken(engine, served, rows[0], Sampling(max_tokens=2))
            return outcomes, stream

        outcomes, stream = run(tiny, family, use, max_waiting_rows=45, batch_tokens=64)
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        assert 1 <= len(refusals) <= 4 and stream
        assert all((refusal.status, refusal.retry_after) == (429, 1) for refusal in refusals)
        assert all(len(outcome) == 20 for outcome in outcomes if not isinstance(outcome, Refusal))

    def test_who_leaves_gives_the_place_free(self, tiny, world, family):
        _, catalogue = world
        served = catalogue.find("reviews")
        rows = encoded(served, rows_of_task("reviews"))

        async def use(engine):
            leaving = [asyncio.ensure_future(engine.classify(served, rows * 100)) for _ in range(3)]
            stream = engine.generate(served, rows[0], Sampling(max_tokens=10_000))
            await anext(stream)
            await stream.aclose()
            await asyncio.sleep(0)
            for task in leaving:
                task.cancel()
            answers = await engine.classify(served, rows)
            while engine.load.streams or engine.load.waiting_rows:
                await asyncio.sleep(0.01)
            return answers, engine.load

        answers, load = run(tiny, family, use, batch_tokens=64)
        assert len(answers) == len(rows) and load.batch_rows < 1500

    def test_small_requests_are_not_held_up_by_a_large_one(self, tiny, world, family):
        _, catalogue = world
        served = catalogue.find("reviews")
        rows = encoded(served, rows_of_task("reviews"))
        order = []

        async def noted(engine, name, these):
            await engine.classify(served, these)
            order.append(name)

        async def use(engine):
            small = [noted(engine, "small", rows[:1]) for _ in range(3)]
            await asyncio.gather(noted(engine, "large", rows * 60), *small)

        run(tiny, family, use, batch_tokens=64)
        assert order == ["small"] * 3 + ["large"]

    def test_rows_that_begin_to_generate_are_read_in_passes_of_the_limit(self, tiny, world, family, monkeypatch):
        _, catalogue = world
        served = catalogue.find("reviews")
        rows = encoded(served, rows_of_task("reviews")) * 3
        whole, shapes = Decoder.join, []

        def noted(self, batch, *arguments):
            shapes.append(tuple(batch.input_ids.shape))
            return whole(self, batch, *arguments)

        monkeypatch.setattr(Decoder, "join", noted)

        async def use(engine):
            streams = (taken(engine, served, row, Sampling(max_tokens=4)) for row in rows)
            ranking, *tokens = await asyncio.gather(engine.classify(served, rows), *streams)
            return ranking, tokens

        ranking, tokens = run(tiny, family, use, batch_tokens=64)
        assert sum(count for count, _ in shapes) == len(rows) and len(ranking) == len(rows) and all(tokens)
        assert all(count == 1 or count * width <= 64 for count, width in shapes)
        assert any(count > 1 for count, _ in shapes)

    def test_what_runs_is_finished_when_it_closes_and_nothing_new_is_taken(self, tiny, world, family):
        _, catalogue = world
        served = catalogue.find("reviews")
        rows = encoded(served, rows_of_task("reviews"))

        async def use(engine):
            running = asyncio.ensure_future(engine.classify(served, rows * 20))
            stream = asyncio.ensure_future(taken(engine, served, rows[0], Sampling(max_tokens=30)))
            await asyncio.sleep(0)
            closing = asyncio.ensure_future(engine.close())
            await asyncio.sleep(0)
            with pytest.raises(Refusal, match="ending") as caught:
                await engine.classify(served, rows)
            await closing
            return caught.value.status, await running, await stream

        status, answers, tokens = run(tiny, family, use, batch_tokens=64)
        assert status == 503 and len(answers) == 100 and tokens

    def test_a_prompt_whose_file_is_gone_fails_alone(self, tiny, world, family):
        library, catalogue = world
        lost, served = catalogue.find("pairs"), catalogue.find("reviews")
        library.remove("pairs")

        async def use(engine):
            jobs = [(model, encoded(model, rows_of_task(model.name))) for model in (lost, served)]
            streams = [taken(engine, model, rows[0], Sampling(max_tokens=4)) for model, rows in jobs]
            return await asyncio.gather(*(engine.classify(*job) for job in jobs), *streams, return_exceptions=True)

        first, second, third, fourth = run(tiny, family, use)
        for refusal in (first, third):
            assert isinstance(refusal, Refusal) and (refusal.status, refusal.code) == (503, "prompt_unusable")
            assert str(library.path) not in str(refusal)  # of no use to a client
        assert len(second) == len(TEXTS) and fourth

    def test_a_fault_of_the_model_is_an_error_of_each_request_and_the_engine_goes_on(
        self, tiny, world, family, monkeypatch
    ):
        _, catalogue = world
        served = catalogue.find("reviews")
        rows = encoded(served, rows_of_task("reviews"))
        whole = Backbone.score_each

        def broken(self, batch, *arguments):
            if len(batch.input_ids) == 1 and batch.input_ids.shape[1] == len(rows[1].input_ids):
                raise MemoryError("Cannot allocate memory")
            if len(batch.input_ids) > 1:
                raise RuntimeError("no")
            return whole(self, batch, *arguments)

        monkeypatch.setattr(Backbone, "score_each", broken)

        async def use(engine):
            return await asyncio.gather(*(engine.classify(served, [row]) for row in rows), return_exceptions=True)

        outcomes = run(tiny, family, use)
        assert [isinstance(outcome, Refusal) for outcome in outcomes] == [False, True, False, False, False]
        assert outcomes[1].code == "out_of_memory"

    def test_a_fault_while_tokens_are_made_ends_the_streams_and_not_the_engine(self, tiny, world, family, monkeypatch):
        _, catalogue = world
        served = catalogue.find("reviews")
        rows = encoded(served, rows_of_task("reviews"))

        async def use(engine):
            monkeypatch.setattr(local.Tensor, "log_softmax", lambda *_, **__: 1 / 0)
            broken = await asyncio.gather(
                *(taken(engine, served, row, Sampling(max_tokens=3)) for row in rows), return_exceptions=True
            )
            monkeypatch.undo()
            return broken, await taken(engine, served, rows[0], Sampling(max_tokens=3))

        broken, tokens = run(tiny, family, use)
        assert all(isinstance(error, ZeroDivisionError) for error in broken) and tokens

    def test_numbers_that_are_not_finite_are_no_answer(self, tiny, tmp_path, family):
        library = tiny_library(tmp_path, family, ())
        prompt = task_prompt("reviews")
        library.add(prompt)
        catalogue = LibraryCatalogue(library, tiny_backbone(tiny, family), 60.0, 64)
        served = catalogue.find("reviews")
        object.__setattr__(served, "read_vectors", lambda: prompt.value * np.float32("nan"))
        rows = encoded(served, rows_of_task("reviews"))

        async def use(engine):
            answers = await engine.classify(served, rows)
            with pytest.raises(Refusal, match="not finite in float32"):
                await taken(engine, served, rows[0], Sampling(max_tokens=3))
            return answers

        assert not any(answer.is_answered for answer in run(tiny, family, use))
        catalogue.close()


@pytest.mark.parametrize("temperature", [5e-324, 1e-3, 1.0, 100.0, 1e300])
def test_draws_follow_the_probabilities_at_any_temperature(temperature):
    chance = torch.Generator().manual_seed(0)
    scores = torch.tensor([2.0, -1.0, 0.5, -30.0]).log_softmax(dim=0)
    draws = [drawn(scores, Sampling(max_tokens=1, temperature=temperature), chance) for _ in range(3000)]
    expected = ((scores - scores.max()).double() / temperature).softmax(dim=0).numpy()
    shares = np.bincount(draws, minlength=4) / len(draws)
    np.testing.assert_allclose(shares, expected, atol=0.04)


def test_top_p_draws_from_the_likeliest_whose_sum_reaches_it():
    scores = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()
    for top_p, allowed in ((1e-9, {1}), (0.5, {1}), (0.51, {1, 3}), (0.8, {1, 3, 2}), (1.0, {0, 1, 2, 3})):
        chance = torch.Generator().manual_seed(0)
        sampling = Sampling(max_tokens=1, temperature=1.0, top_p=top_p)
        assert {drawn(scores, sampling, chance) for _ in range(400)} == allowed
