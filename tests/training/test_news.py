"""What the loop tells a log: one value an evaluation, with what the learning curve says and the mean training loss."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from spot.models.backbone import Backbone
from spot.storage.run_dir import RunDir
from spot.training.news import Evaluated
from spot.training.result import read_results
from spot.training.tuning import tune_runs
from tests.support.toy_runs import toy_gang


@pytest.fixture(scope="module")
def backbone(tiny_folder: Callable[[str], Path]) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def test_every_point_of_every_curve_is_told_once_as_a_value(backbone, tmp_path, caplog, monkeypatch):
    losses = []
    loss = Backbone.loss

    def watched(*arguments):
        losses.append(loss(*arguments))
        return losses[-1]

    monkeypatch.setattr(Backbone, "loss", watched)
    runs = toy_gang(backbone, steps=4)
    with caplog.at_level(logging.INFO, "spot.training"):
        tune_runs(runs, backbone, tmp_path)
    told = [record.msg for record in caplog.records if isinstance(record.msg, Evaluated)]
    for run, result in zip(runs, read_results(RunDir(tmp_path)) or (), strict=True):
        mine = [event for event in told if event.run == run.digest]
        assert tuple(event.point for event in mine) == result.curve
        assert {event.seed for event in mine} == {run.config.seed} and {event.steps for event in mine} == {4}
        assert {event.config for event in mine} == {run.config}
        assert mine[0].loss is None and "step 0 of 4" in str(mine[0])
    # A step has four rows of each of the three runs in their order, and an evaluation comes after every second step.
    for number, run in enumerate(runs):
        rows = [value for step in losses[:2] for value in step[4 * number : 4 * number + 4].tolist()]
        first = [event for event in told if event.run == run.digest][1]
        assert first.loss == pytest.approx(sum(rows) / 8) and f"loss {first.loss:.3f} nats" in str(first)
