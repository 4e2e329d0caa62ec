"""The table of what prompts learn: who is chosen, what is compared with what, and that cells are kept."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from spot.config import TuneConfig, names_prompt
from tests.support.scripts import script

learning = script("recipes/learning.py")


def cell(target: str, arm: str, seed: int, score: float, selection: float, nats: float = 0.5):
    return learning.Cell(target, arm, seed, score, selection, nats, 8, 100, 1.0, [[0, 1.0, 0.5]], "bfloat16")


def cells(*found):
    return {(one.target, one.arm, one.seed): one for one in found}


VOCABULARY, CLASSES = learning.TODAY
FOUND = cells(
    cell("mpqa", VOCABULARY, 0, 60.0, 70.0), cell("mpqa", CLASSES, 0, 50.0, 71.0),
    cell("mpqa", VOCABULARY, 1, 62.0, 70.0, 0.3), cell("mpqa", CLASSES, 1, 52.0, 70.0, 0.4),
    cell("cr", VOCABULARY, 0, 80.0, 10.0), cell("cr", CLASSES, 0, 70.0, 0.0),
    cell("cr", VOCABULARY, 1, 81.0, 10.0), cell("cr", CLASSES, 1, 71.0, 0.0),
    *(cell(target, "instruction 0.02", seed, 80.0 + seed, 90.0) for target in ("mpqa", "cr") for seed in (0, 1)),
)  # fmt: skip


def test_selection_rows_choose_an_arm_their_loss_breaks_ties_and_report_rows_judge():
    np.testing.assert_array_equal(
        learning.chosen(FOUND, learning.TODAY, ["mpqa", "cr"], [0, 1]), [[50.0, 62.0], [80.0, 81.0]]
    )
    assert np.isnan(learning.chosen(FOUND, learning.TODAY, ["mpqa", "trec"], [0])).tolist() == [[False], [True]]


def test_the_interval_draws_targets_anew_then_their_seeds():
    assert learning.paired_interval(np.full((3, 2), 4.0)) == (4.0, 4.0)
    # Two targets without noise of seeds: a mean of two draws of (0, 10) is 0, 5, 5 or 10 alike.
    assert learning.paired_interval(np.array([[0.0, 0.0], [10.0, 10.0]])) == (0.0, 10.0)
    noise = np.random.default_rng(1).normal(2.0, 1.0, (400, 1))
    margin = 1.96 * noise.std() / 20
    found = learning.paired_interval(noise)
    assert found == pytest.approx((noise.mean() - margin, noise.mean() + margin), abs=0.02)


def test_the_table_has_the_arms_that_are_whole_and_their_difference():
    lines = learning.table(FOUND, ["instruction 0.02", "instruction 0.03"], ["mpqa", "cr"], [0, 1]).splitlines()
    assert len(lines) == 4 and "instruction 0.03" not in lines[3]
    assert lines[2].endswith("| 56.0 | 80.5 | 68.2 |  |")
    assert "| 80.5 | 80.5 | 80.5 | +12.2 (" in lines[3]


def test_every_arm_can_be_tuned_and_the_committed_cells_are_of_its_arms():
    for settings in learning.ARMS.values():
        init = settings["init"].replace("SOURCE", "packaged:glue/sst2")
        config = TuneConfig(task="mpqa", **{**learning.SETTINGS, **settings, "init": init})
        assert names_prompt(config.init) == ("SOURCE" in settings["init"])
    kept = learning.read(learning.CELLS)
    assert kept and {arm for _, arm, _ in kept} <= learning.ARMS.keys()
    assert {target for target, _, _ in kept} <= set(learning.TARGETS) == set(learning.INSTRUCTIONS)


def test_a_finished_cell_is_not_measured_again(tmp_path, monkeypatch):
    path = tmp_path / "cells.jsonl"
    done = cell("mpqa", VOCABULARY, 0, 60.0, 70.0)
    path.write_text(json.dumps(asdict(done)) + "\n")
    measured = []

    def run_cell(task, arm, seed, backbone):
        measured.append((task.name, arm, seed))
        assert task.instruction == learning.INSTRUCTIONS[task.name]
        return cell(task.name, arm, seed, 1.0, 2.0)

    class NoBackbone:
        load = staticmethod(lambda: None)

    monkeypatch.setattr(learning, "run_cell", run_cell)
    monkeypatch.setattr("spot.models.backbone.Backbone", NoBackbone)
    monkeypatch.setattr("spot.tasks.registry.get", lambda name, data: learning_task(name))
    for _ in range(2):
        learning.measure(path, None, [VOCABULARY, "source 0.005"], ["mpqa", "trec"], [0])
    assert measured == [("mpqa", "source 0.005", 0), ("trec", VOCABULARY, 0)]
    assert len(learning.read(path)) == 3


def learning_task(name: str):
    from tests.support.toy_runs import named

    return named(name)
