"""What gangs are tuned from: prompts of their own seed, the nearest sources, and rows that no source has seen."""

from pathlib import Path

import numpy as np
import pytest

from spot.prompts.overlap import contains
from spot.prompts.prompt import from_bytes, save
from spot.study import records
from spot.study.records import prompt_file
from tests.support.prompts import library_prompt
from tests.support.small_studies import WORDS


def test_transfers_start_from_the_prompts_of_their_seed(planned, worker):
    made = planned()
    worker.run(made)
    prompts = {cell.digest: prompt_file(cell.digest).read_bytes() for cell in made.cells}
    pairs = [item for item in worker.items if item.gang.cells[0].kind == "pair"]
    assert len(pairs) == 2 + 3
    for item in pairs:
        assert list(item.starts) == [(prompts[cell.needs[0]],) for cell in item.gang.cells]
        assert item.sources == (item.gang.cells[0].sources,) * 2


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_pairs_have_their_similarities(planned, worker):
    made = planned()
    worker.run(made)
    for cell in made.cells:
        if cell.kind == "pair":
            record = records.read_record(made.records / f"{cell.digest}.json")
            source, target = (from_bytes(prompt_file(need).read_bytes()) for need in cell.needs)
            ours, theirs = target.key - target.start, source.key - source.start
            table = np.array([[cosine(one, other) for other in theirs] for one in ours])
            assert record.similarity["mean"] == pytest.approx(cosine(ours.mean(axis=0), theirs.mean(axis=0)), 1e-5)
            assert record.similarity["token"] == pytest.approx(table.mean(), abs=1e-6)
            assert record.similarity["max"] == pytest.approx(table.max(axis=1).mean(), abs=1e-6)


def test_averages_and_mixtures_use_the_nearest(planned, worker):
    made = planned()
    worker.run(made)
    found = {record.digest: record for record in records.read_records(made.records)}
    checked = 0
    for item in worker.items:
        if item.gang.cells[0].kind not in ("average", "mixture"):
            continue
        own = dict(zip(item.gang.cells, range(len(item.gang.cells)), strict=True))
        for cell, at in own.items():
            near = {
                one.sources[0]: found[one.digest].similarity["mean"]
                for one in made.cells
                if (one.kind, one.task, one.seed) == ("pair", cell.task, cell.seed)
            }
            best = sorted(near, key=near.get, reverse=True)[:2]
            assert list(item.sources[at]) == best
            kept = np.clip([near[task] for task in best], 0, None)
            if cell.kind == "average":
                assert item.weights[at] == pytest.approx(tuple(kept / kept.sum()))
            else:
                assert [Path(name).stem for name in item.mixed[at]] == best
            checked += 1
    refused = [record for record in found.values() if "no source has a similarity above 0" in record.reason]
    assert checked + len(refused) == 2 * 2 * 2 and checked


def test_report_rows_are_compared_with_what_other_sources_train_on(planned, worker):
    made = planned("rows=per_seed", 'strategies=["best"]', "source={key_step=4, steps=6, train_rows=5}")
    worker.run(made)
    texts = {word: [f"a {word} row with the number {number:04d}" for number in range(30)] for word in WORDS}
    draws: dict[int, set[str]] = {}  # seed -> texts that sources train on
    for item in worker.items:
        for cell, sketches in zip(item.gang.cells, item.sketches, strict=True):
            seen = {
                word: {text for text in texts[word] if any(contains(part, text) for part in sketches)} for word in WORDS
            }
            # A source's run asks nobody; a target's own rows are not in the way of its report.
            expected = dict.fromkeys({"red", "green", "blue"} - {cell.task}, 5) if cell.kind != "source" else {}
            assert {word: len(part) for word, part in seen.items()} == {word: expected.get(word, 0) for word in WORDS}
            draws.setdefault(cell.seed, set()).update(*seen.values())
    assert len(draws[0]) == len(draws[1]) == 15 and draws[0] != draws[1]


def test_existing_prompts_are_taken_as_they_are(planned, worker, tmp_path):
    save(library_prompt("old"), tmp_path / "old.safetensors")
    made = planned(
        'sources=["old.safetensors"]',
        "k=[1]",
        'strategies=["best"]',
        "target={length=3, key_step=40, steps=40, eval_every=20}",
    )
    outcome = worker.run(made)
    assert worker.done == {"plain": 4, "pair": 4, "constant": 4} and outcome.finished == len(made.cells) == 13
    [source] = [record for record in records.read_records(made.records) if record.kind == "source"]
    assert source.score == 84.5 and set(source.embedding) == {"mean", "token"} and source.steps == 0
    for item in worker.items:
        assert all(from_bytes(content).task == "old" for starts in item.starts for content in starts)
