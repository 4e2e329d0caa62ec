"""The approximate index: equal to exact search where it reads every row, near it where it doesn't, and refusals."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from spot.errors import ConfigError, MissingExtra, PromptError
from spot.library.library import open_library
from spot.retrieval import ann
from spot.retrieval.ann import build, find
from spot.retrieval.search import Sources, search, summary, task_embedding

WIDTH = 12


@pytest.fixture(scope="module", autouse=True)
def faiss():
    pytest.importorskip("faiss", reason=f"needs the extra index: {ann.INSTALL}")


def summaries(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def sources(rows: np.ndarray, seed: int = 1) -> Sources:
    """Their digests are in no order."""
    names = tuple(f"{number:016x}" for number in np.random.default_rng(seed).permutation(len(rows)))
    return Sources("mean", names, names, (None,) * len(rows), rows, np.arange(len(rows)))


@pytest.mark.parametrize("count", [1, 5, 300])
def test_an_index_of_few_rows_finds_what_exact_search_finds(count: int):
    rows, targets = summaries(count), summaries(4, seed=9)
    positions, products = find(build(rows), targets, 3)
    expected = np.argsort(-(targets @ rows.T), axis=1)[:, :3]
    assert np.array_equal(positions, expected)
    assert products == pytest.approx(np.take_along_axis(targets @ rows.T, expected, axis=1), abs=1e-6)


@pytest.mark.parametrize("clusters", [None, 8])
def test_candidates_of_an_index_are_scored_exactly(clusters: int | None):
    held = sources(summaries(1000))
    near = build(held.rows, clusters)
    for target in summaries(20, seed=9):
        assert search(target[None], held, 5, near) == search(target[None], held, 5)


def test_ties_are_in_the_order_of_their_digests():
    rows = summaries(400)
    rows[[7, 90, 200, 311]] = rows[7]
    held = sources(rows)
    tied = sorted(held.prompts[i] for i in (7, 90, 200, 311))
    for near in (None, build(rows), build(rows, clusters=8)):
        found = search(rows[7:8], held, 6, near)
        assert [one.prompt for one in found[:4]] == tied
        assert len({one.similarity for one in found[:4]}) == 1 > found[4].similarity


def test_an_index_with_clusters_finds_most_and_reads_more_when_asked():
    rows, targets = summaries(3000), summaries(50, seed=9)
    near = build(rows, clusters=40)
    assert near.clusters == 40
    best = (targets @ rows.T).argmax(axis=1)
    shares = [
        np.mean([b in found for b, found in zip(best, find(near, targets, 5, probes)[0], strict=True)])
        for probes in (1, 10, 40)
    ]
    assert shares[0] < shares[1] <= shares[2] == 1


def test_clusters_are_read_until_there_are_enough_rows():
    rows = summaries(500)
    near = build(rows, clusters=12)
    positions, _ = find(near, rows[:2], 499, probes=1)
    assert all(len(set(found)) == 499 and min(found) >= 0 for found in positions)
    assert find(near, rows[:1], 600)[0].shape == (1, 500)


def test_many_rows_get_clusters_of_their_own_accord(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ann, "FEWEST", 400)
    assert build(summaries(399)).clusters == 0
    assert build(summaries(400)).clusters == 80


def test_rows_are_handed_over_in_blocks(monkeypatch: pytest.MonkeyPatch):
    rows, targets = summaries(1000), summaries(3, seed=9)
    whole = find(build(rows, clusters=5), targets, 4)
    monkeypatch.setattr(ann, "_BLOCK", 128)
    blocks = find(build(rows.astype(np.float64)[:, ::1], clusters=5), targets, 4)
    assert np.array_equal(whole[0], blocks[0]) and np.array_equal(whole[1], blocks[1])


def test_without_faiss_the_install_line_is_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    message = r"needs faiss, which is not installed; run: pip install 'spot-transfer\[index\]'"
    with pytest.raises(MissingExtra, match=message):
        build(summaries(3))


def test_an_index_of_other_sources_is_refused():
    held = sources(summaries(10))
    with pytest.raises(ConfigError, match="the index holds 9 summaries, and the 10 sources have 10: expected one each"):
        search(summaries(1), held, 1, build(held.rows[:9]))
    tokens = replace(held, metric="max", prompts=held.prompts[:5], first=np.arange(0, 10, 2))
    with pytest.raises(ConfigError, match=r"holds 10 summaries, and the 5 sources have 10: .* metric mean or token"):
        search(summaries(1), tokens, 1, build(held.rows))


def test_rows_and_targets_that_cannot_be_compared_are_refused():
    with pytest.raises(PromptError, match=r"the summaries are \[0, 12\]; expected \[N, D\]"):
        build(np.zeros((0, WIDTH), np.float32))
    broken = summaries(3)
    broken[1, 2] = np.nan
    with pytest.raises(PromptError, match="1 numbers NaN or infinite"):
        build(broken)
    with pytest.raises(PromptError, match=r"the targets are \[2, 5\] and the index holds summaries of width 12"):
        find(build(summaries(3)), np.ones((2, 5)), 1)


# The benchmark of both kinds of search.


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_index", Path(__file__).parents[2] / "bench" / "index.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_index"] = module  # its dataclass looks there
    spec.loader.exec_module(module)
    return module


def test_drawn_keys_are_like_those_of_the_library(bench: ModuleType):
    library = open_library("packaged")
    prompts = [library.get(entry.digest) for entry in library.entries()]
    own = np.concatenate([summary(task_embedding(one.key, one.start), "mean") for one in prompts])
    rows, targets = bench.keys(bench.directions(prompts), 3000, cosine=0.9)
    assert rows.dtype == np.float32 and np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    known = targets["known"]
    assert (rows[: len(known)] * known).sum(axis=1).mean() == pytest.approx(0.9, abs=0.01)
    centre = rows.mean(axis=0)
    assert centre @ own.mean(axis=0) / np.linalg.norm(centre) / np.linalg.norm(own.mean(axis=0)) > 0.97
    # Where the library's prompts differ the drawn keys differ most.
    within = np.linalg.svd(own - own.mean(axis=0))[2][: len(own) - 1]
    shares = ((rows - centre) @ within.T).var(axis=0).sum() / (rows - centre).var(axis=0).sum()
    assert shares > 0.3 > 10 * len(within) / rows.shape[1]


def test_the_benchmark_measures_what_it_says(bench: ModuleType, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"EXACT": 300, "MILLION": 2000, "TARGETS": 24}.items():
        monkeypatch.setattr(bench, name, value)
    found = bench.measure("packaged", 0.93, million=True, compared=False)
    for kind in ("real", "random"):
        assert found[kind]["exact"]["keys"] == 300 and found[kind]["exact"]["ms"] > 0
        million = found[kind]["million"]
        assert (million["keys"], million["clusters"]) == (2000, 0), "so few are all read"
        for targets in ("known", "new"):
            assert million[targets]["recall_at_1"] == million[targets]["recall_at_5"] == 1
        assert million["known"]["best"] == pytest.approx(0.93, abs=0.02) and million["new"]["best"] < 0.9
