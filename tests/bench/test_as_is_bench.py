"""The comparison of rankers: on the committed study it chooses what the raw records say."""

import json
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.scripts import script

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return script("bench/as_is.py")


def test_the_first_source_of_every_target_is_the_one_with_the_least_loss_at_the_start(bench):
    losses, scores = defaultdict(list), defaultdict(list)
    for path in (ROOT / "studies" / "smollm2" / "cells").glob("*.json"):
        record = json.loads(path.read_text())
        if record["kind"] == "pair":
            pair = (record["task"], record["sources"][0])
            losses[pair].append(record["curve"][0]["nats"])
            scores[pair].append(record["score"])
    firsts = []
    for target in sorted({task for task, _ in losses}):
        least = min((sum(losses[pair]) / len(losses[pair]), pair) for pair in losses if pair[0] == target)[1]
        firsts.append(sum(scores[least]) / len(scores[least]))
    results = bench.measured(ROOT / "studies" / "smollm2")
    assert results["targets"] == len(firsts) == 9 and results["sources"] == 10
    assert results["as is, by loss"]["first"] == pytest.approx(sum(firsts) / 9)
    everything = [sum(values) / len(values) for values in scores.values()]
    assert results["any source"] == pytest.approx(sum(everything) / len(everything))
    low, high = results["as is, by loss"]["interval"]
    assert low < results["as is, by loss"]["first, over similarity"] < high
