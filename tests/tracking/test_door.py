"""What trackers are told: every point of every curve, by step and by run, and the arms of a transfer."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import spot as package
from spot.errors import ConfigError, StorageError
from spot.models.backbone import Backbone
from spot.storage.run_dir import RunDir
from spot.tracking import door
from spot.tracking.door import read_programs, track
from spot.training.result import RunResult, read_results
from spot.training.tuning import tune_runs
from tests.support.toy_runs import toy_gang, toy_run


class Recorder(GeneralTracker):
    """A tracker that remembers what it is told, by accelerate's protocol."""

    name = "recorder"
    requires_logging_directory = False

    def __init__(self, run: str, settings: dict[str, Any]) -> None:
        super().__init__(_blank=True)
        self.run, self.settings = run, settings
        self.told: list[tuple[int | None, dict[str, Any]]] = []
        self.finished = False

    @property
    def tracker(self) -> object:
        return self

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        assert not self.finished
        self.told.append((step, values))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture(scope="module")
def backbone(tiny_folder: Callable[[str], Path]) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """Stand in for trackio: the tracked runs that were opened."""
    opened: list[Recorder] = []

    def open_recorder(name: str, run: str, settings: dict[str, Any], folder: Path) -> Recorder:
        opened.append(Recorder(run, dict(settings)))
        return opened[-1]

    monkeypatch.setattr(door, "open_tracker", open_recorder)
    monkeypatch.setattr(door, "check_programs", lambda names: None)
    return opened


def results(folder: Path) -> tuple[RunResult, ...]:
    return read_results(RunDir(folder)) or ()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard itself reads of one tag."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_tensorboard_reads_the_curve_of_each_run(backbone, tmp_path):
    runs = toy_gang(backbone, steps=4)
    with track(f"tensorboard:{tmp_path / 'logs'}") as tracks:
        tune_runs(runs, backbone, tmp_path / "run")
    assert tracks.places == (f"tensorboard: tensorboard --logdir {tmp_path / 'logs'}",)
    assert len(list((tmp_path / "logs").iterdir())) == 3
    for run, result in zip(runs, results(tmp_path / "run"), strict=True):
        [folder] = (tmp_path / "logs").glob(f"toy-{run.config.init}-seed{run.config.seed}-{run.digest[:8]}")
        curve = result.curve
        assert scalars(folder, "selection/score") == [(point.step, pytest.approx(point.score)) for point in curve]
        assert scalars(folder, "selection/nats") == [(point.step, pytest.approx(point.nats)) for point in curve]
        assert scalars(folder, "train/tokens") == [(point.step, point.tokens) for point in curve]
        assert scalars(folder, "train/seconds") == [(point.step, pytest.approx(point.seconds)) for point in curve]
        assert [step for step, _ in scalars(folder, "train/loss")] == [2, 4]
        rates = [value for _, value in scalars(folder, "train/learning_rate")]
        assert rates == pytest.approx([run.config.rate] * 3)
        [settings] = folder.rglob("hparams.yml")
        assert f"digest: {run.digest}\n" in settings.read_text() and "batch_size: 4\n" in settings.read_text()


def test_all_settings_go_along_and_no_text_of_a_row(backbone, tmp_path, recorders):
    run = toy_run(backbone, steps=2, warmup_steps=4)
    with track("trackio"):
        tune_runs([run], backbone, tmp_path)
    [recorder] = recorders
    known = run.config.model_dump(mode="json")
    assert recorder.settings.items() >= {name: value for name, value in known.items() if value is not None}.items()
    told = json.dumps([recorder.settings, recorder.told])
    assert "of the table is" not in told and "sentence:" not in told
    # By hand: the rate rises in a line over four steps.
    assert [values["train/learning_rate"] for _, values in recorder.told] == pytest.approx([0.05 / 4, 0.05 / 2])


def test_runs_are_ended_when_the_next_gang_begins(backbone, tmp_path, recorders):
    first, second = toy_gang(backbone, steps=2), toy_run(backbone, steps=2, seed=7)
    with track("trackio"):
        tune_runs(first, backbone, tmp_path / "first")
        assert [recorder.finished for recorder in recorders] == [False] * 3
        tune_runs([second], backbone, tmp_path / "second")
        assert [recorder.finished for recorder in recorders] == [True] * 3 + [False]
    assert recorders[-1].finished and all(len(recorder.told) == 2 for recorder in recorders)


def test_nothing_is_heard_after_the_with_and_levels_are_as_before(backbone, tmp_path, recorders):
    logger = logging.getLogger("spot.training")
    before = (logger.level, list(logger.handlers))
    with pytest.raises(ZeroDivisionError), track("trackio"):
        raise ZeroDivisionError
    assert (logger.level, logger.handlers) == before
    tune_runs([toy_run(backbone, steps=2)], backbone, tmp_path)
    assert recorders == []


def test_a_tracker_that_takes_nothing_stops_the_run_at_its_start(backbone, tmp_path, monkeypatch):
    def refuses(*_: object) -> GeneralTracker:
        raise RuntimeError("nobody is logged in\nsee the manual")

    monkeypatch.setattr(door, "open_tracker", refuses)
    with (
        pytest.raises(StorageError, match=r"tensorboard cannot track this run \(RuntimeError: nobody is logged in\)"),
        track("tensorboard"),
    ):
        tune_runs([toy_run(backbone)], backbone, tmp_path)
    assert results(tmp_path) == ()


def test_a_tracker_that_fails_later_is_left_out_with_a_warning(backbone, tmp_path, recorders, monkeypatch, caplog):
    def breaks(self: Recorder, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        if step:
            raise ConnectionError("the network is gone")

    monkeypatch.setattr(Recorder, "log", breaks)
    with track("trackio") as tracks:
        tune_runs([toy_run(backbone)], backbone, tmp_path)
    assert len(results(tmp_path)[0].curve) == 4
    [warning] = [record.getMessage() for record in caplog.records if record.name == "spot.tracking.door"]
    assert "trackio tracks nothing more (ConnectionError: the network is gone)" in warning and not tracks.places


def test_the_arms_of_a_transfer_are_tracked_with_its_verdict(toy_report, tmp_path, recorders):
    with track("tensorboard") as tracks:
        tracks.arms(toy_report)
    [recorder] = recorders
    assert recorder.run == f"{toy_report.target}-transfer" and recorder.settings["verdict"] == toy_report.verdict
    (step, values), (_, text) = recorder.told
    assert step == 0
    for arm in toy_report.arms:
        name = arm.arm.replace(":", "-")
        assert values[f"score/{name}"] == arm.score and values[f"cost/{name}"] == arm.relative_cost
        assert f"| {arm.arm} |" in text["arms"]


@pytest.fixture(scope="module")
def toy_report(tmp_path_factory, tiny_folder) -> package.TransferReport:
    """A transfer from a library of two prompts, on a tiny model."""
    model, folder = package.Backbone.load(str(tiny_folder("t5"))), tmp_path_factory.mktemp("toys")
    library = package.Library.create(folder / "library")
    words = {"up": "good", "down": "bad"}
    tables = {
        name: [
            {"text": f"{name} {number} {word}", "label": label} for number in range(20) for label, word in words.items()
        ]
        for name in ("first", "second", "target")
    }
    tasks = {name: package.Task.from_rows(rows, text="text", label="label", name=name) for name, rows in tables.items()}
    fast = {"length": 3, "batch_size": 4, "eval_every": 2, "learning_rate": 0.05}
    for name in ("first", "second"):
        library.add(package.tune(tasks[name], model, steps=4, key_step=2, library=None, out=folder / name, **fast))
    return package.transfer(tasks["target"], model, library=library, steps=4, eval_every=2, out=folder / "transfer")


def test_trackers_are_named_once_or_with_commas_and_tensorboard_with_a_folder(own_cache):
    there = own_cache / "tracking"
    assert read_programs(["tensorboard", "wandb, mlflow"]) == dict.fromkeys(("tensorboard", "wandb", "mlflow"), there)
    assert read_programs(["tensorboard:logs"]) == {"tensorboard": Path("logs")}
    assert read_programs([]) == {}
    with pytest.raises(ConfigError, match="only tensorboard takes"):
        read_programs(["wandb:logs"])
