"""The retrieval benchmark: figures on public matrices, honesty towards the target, and bad files."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from spot.errors import ConfigError
from tests.support.scripts import script

FIGURES = {  # mean Spearman, share of targets whose best source is in the top 3
    "t5_base": {"mean": (0.508, 0.765), "token": (0.429, 0.765), "max": (0.376, 0.588)},
    "roberta_base": {"mean": (0.323, 0.714), "token": (0.396, 0.643), "max": (0.267, 0.714)},
}
COUNT = 9
seeds = st.integers(0, 2**32 - 1)


retrieval = script("bench/retrieval.py")


def matrix(seed: int = 0, count: int = COUNT) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "tasks": np.array([f"task{number}" for number in range(count)]),
        "prompts": rng.normal(size=(count, 2, 5)).astype(np.float32),
        "scores": rng.uniform(0, 100, size=(count, count)),
    }


def save(folder: Path, **changes: Any) -> Path:
    arrays = {**matrix(), **changes}
    np.savez(folder / "matrix.npz", **{name: array for name, array in arrays.items() if array is not None})
    return folder / "matrix.npz"


def judged(tasks: np.ndarray, prompts: np.ndarray, scores: np.ndarray) -> dict[str, dict[str, Any]]:
    expected = retrieval.predictions(prompts.astype(float), scores)
    return {metric: retrieval.judge(list(tasks), prompts, scores, one) for metric, one in expected.items()}


@pytest.fixture(scope="module")
def public(shared: Path) -> dict[str, dict[str, dict[str, Any]]]:
    folder = shared / "fixtures" / "public_transfer_matrix"
    return {model: retrieval.measure(folder / f"{model}.npz") for model in FIGURES}


@pytest.mark.parametrize("model", FIGURES)
def test_similarities_give_the_known_figures(public: dict, model: str):
    for metric, expected in FIGURES[model].items():
        found = public[model][metric]
        assert (found["spearman"], found["top3"]) == pytest.approx(expected, abs=6e-4)
        assert found["left_out"] == 0
        low, high = found["interval"]
        assert low < found["spearman"] < high


def test_learned_is_better_than_mean(public: dict):
    gains, hits = [], {"mean": 0, "learned": 0}
    for found in public.values():
        ours = [found["learned"]["by_target"][name] - value for name, value in found["mean"]["by_target"].items()]
        assert np.mean(ours) >= 0.05
        gains += ours
        for metric in hits:
            hits[metric] += round(found[metric]["top3"] * len(ours))
    assert len(gains) == 17 + 14
    assert np.mean(gains) >= 0.10
    assert hits["learned"] >= hits["mean"] == 23


@settings(deadline=None, max_examples=25)
@given(seeds, st.integers(0, COUNT - 1), st.sampled_from([0.0, 1.0, 1e6]))
def test_a_target_sees_neither_its_row_nor_its_column(seed: int, target: int, scale: float):
    held = matrix(seed)
    before = judged(**held)
    rng = np.random.default_rng(seed + 1)
    scores = held["scores"].copy()
    scores[target] = rng.normal(size=COUNT) * scale
    scores[:, target] = rng.normal(size=COUNT) * scale
    after = judged(held["tasks"], held["prompts"], scores)
    for metric, found in before.items():
        assert after[metric]["ranking"][f"task{target}"] == found["ranking"][f"task{target}"]


def test_a_target_sees_the_scores_of_the_others():
    held = matrix()
    assert (COUNT - 1) * (COUNT - 2) >= 40  # enough to learn from
    before = judged(**held)["learned"]["ranking"]
    for target in range(COUNT):
        scores = held["scores"].copy()
        source = int(before[f"task{target}"][-1].removeprefix("task"))
        others = [number for number in range(COUNT) if number not in (target, source)]
        scores[others, source] = 1e4
        after = judged(held["tasks"], held["prompts"], scores)["learned"]["ranking"][f"task{target}"]
        assert after.index(f"task{source}") < COUNT - 2  # it was the last


def test_the_diagonal_is_never_read():
    held = matrix()
    scores = held["scores"].copy()
    np.fill_diagonal(scores, 1e6)
    before, after = judged(**held), judged(held["tasks"], held["prompts"], scores)
    assert before == after
    for target, ranking in after["learned"]["ranking"].items():
        assert sorted([*ranking, target]) == sorted(held["tasks"])


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_names_and_order_of_tasks_do_not_matter(seed: int):
    held = matrix(seed)
    order = np.random.default_rng(seed).permutation(COUNT)
    renamed = np.array([f"other {number}" for number in range(COUNT)])
    name = dict(zip(held["tasks"][order], renamed, strict=True))
    before = judged(**held)
    after = judged(renamed, held["prompts"][order], held["scores"][np.ix_(order, order)])
    for metric, found in before.items():
        assert after[metric]["spearman"] == pytest.approx(found["spearman"])
        assert after[metric]["top3"] == found["top3"]
        assert after[metric]["ranking"] == {
            name[target]: [name[source] for source in ranking] for target, ranking in found["ranking"].items()
        }


def test_figures_follow_from_the_ranking():
    held = matrix()
    for found in judged(**held).values():
        correlations, hits = [], []
        for number, task in enumerate(held["tasks"]):
            sources = [int(name.removeprefix("task")) for name in found["ranking"][task]]
            scores = [held["scores"][number, source] for source in sources]
            correlations.append(spearmanr(-np.arange(COUNT - 1), scores).statistic)
            hits.append(max(scores) in scores[:3])
        assert found["spearman"] == pytest.approx(np.mean(correlations))
        assert found["top3"] == pytest.approx(np.mean(hits))


def test_equal_expectations_share_their_rank():
    held = matrix()
    held["prompts"][1:4] = held["prompts"][1]
    found = judged(**held)["mean"]
    alike = held["prompts"].astype(float).mean(axis=1)
    alike /= np.linalg.norm(alike, axis=1, keepdims=True)
    expected = spearmanr(np.round(alike[1:] @ alike[0], 9), held["scores"][0, 1:]).statistic
    assert found["by_target"]["task0"] == pytest.approx(expected)


def test_rows_without_a_correlation_are_left_out_and_counted():
    held = matrix()
    held["scores"][2] = 50.0
    held["scores"][5] = 0.0
    held["scores"][5, 5] = 90.0  # the diagonal is no source
    for found in judged(**held).values():
        assert found["left_out"] == 2
        assert [name for name, value in found["by_target"].items() if value is None] == ["task2", "task5"]
        assert found["spearman"] == pytest.approx(np.mean([x for x in found["by_target"].values() if x is not None]))
        assert len(found["ranking"]["task2"]) == COUNT - 1
        assert (found["top3"] * (COUNT - 2)) == pytest.approx(round(found["top3"] * (COUNT - 2)))


def test_few_tasks_are_ranked_by_similarity():
    held = matrix(count=7)  # 6 targets with 5 sources each: fewer than 40 results
    found = judged(**held)
    assert found["learned"] == found["mean"]


def broken(name: str, value: float) -> np.ndarray:
    array = matrix()[name].copy()
    array.flat[3] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": None}, "no array scores (found: tasks, prompts); see --help"),
        ({"tasks": None, "prompts": None}, "no array tasks, prompts (found: scores)"),
        ({"scores": broken("scores", np.nan)}, "1 of the scores are NaN or infinite"),
        ({"prompts": broken("prompts", np.inf)}, "1 of the prompts are NaN or infinite"),
        ({"scores": np.ones((9, 8))}, "9 tasks, prompts [9, 2, 5] and scores [9, 8] do not fit; expected prompts"),
        ({"prompts": np.ones((8, 2, 5))}, "9 tasks, prompts [8, 2, 5] and scores [9, 9] do not fit"),
        ({"prompts": np.ones((9, 5))}, "9 tasks, prompts [9, 5] and scores [9, 9] do not fit"),
        (matrix(count=3), "3 tasks leave a target fewer than 3 sources to rank"),
        ({"tasks": np.array(["a"] * 9)}, "two tasks have one name"),
        ({"scores": np.ones((9, 9))}, "no target's sources differ in score"),
        ({"prompts": np.zeros((9, 2, 5))}, "all zeros, so it has no direction"),
        ({"tasks": np.array([{}] * 9)}, "no .npz file of arrays (Object arrays cannot be loaded"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str):
    path = save(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        retrieval.measure(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 torn"])
def test_other_files_are_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "matrix.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"no \.npz file of arrays"):
        retrieval.measure(path)


def test_the_command_prints_one_document(tmp_path: Path, monkeypatch, capsys):
    path = save(tmp_path)

    def printed(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["retrieval.py", str(path), *words])
        retrieval.main()
        return capsys.readouterr().out

    found = json.loads(printed("--json"))
    assert list(found) == [str(path)]
    assert found[str(path)] == retrieval.measure(path)
    assert f"learned over mean, {COUNT} targets together: " in printed()
    with pytest.raises(SystemExit) as stop:
        printed(str(tmp_path / "absent.npz"))
    assert stop.value.code == 2
    assert f"{tmp_path / 'absent.npz'}: no .npz file of arrays" in capsys.readouterr().err
