"""`--track`: what a command trains is in TensorBoard's files, and its result on stdout is what it was."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.commands import Spot, refused
from tests.support.tuned_tasks import FAST, TunedTasks


def tags(folder: Path) -> set[str]:
    """The names of what TensorBoard reads of one run."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["scalars"])


def test_tune_is_followed_and_stdout_stays_one_document(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    logs, out = tmp_path / "logs", tmp_path / "run"
    words = ["tune", tuned_tasks.task(), *tuned_tasks.model, *FAST, "--out", out]
    result = spot(*words, "--track", f"tensorboard:{logs}", "--json")
    assert result.json["steps"] == 4 and f"tracked: tensorboard: tensorboard --logdir {logs}" in result.err
    [run] = logs.glob("mood-vocabulary-seed0-*")
    assert {"selection/score", "train/loss", "train/learning_rate", "train/tokens", "train/seconds"} <= tags(run)
    # A finished run is only read, and so nothing is told of it.
    assert "tracked" not in spot(*words, "--track", f"tensorboard:{tmp_path / 'again'}", "--json").err


def test_a_transfer_has_a_run_for_each_gang_and_one_for_its_arms(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    logs = tmp_path / "logs"
    words = ["transfer", tuned_tasks.task(), "--library", tuned_tasks.library, *tuned_tasks.model, "--steps", 4]
    few = ["--seeds", 1, "--set", "eval_every=2", "--select-rows", 6, "--report-rows", 6]
    arms = spot(*words, *few, "--track", f"tensorboard:{logs}", "--json").json["arms"]
    assert list(logs.glob("mood-vocabulary-seed0-*")) and list(logs.glob("mood-prompt-seed0-*"))
    assert {f"score/{arm['arm'].replace(':', '-')}" for arm in arms} <= tags(logs / "mood-transfer")


def test_trackers_that_cannot_be_had_are_refused_before_anything_trains(spot: Spot, tuned_tasks: TunedTasks, tmp_path):
    words = ["tune", tuned_tasks.task(), *tuned_tasks.model, *FAST, "--out", tmp_path / "run"]
    refused(spot(*words, "--track", "tensorbord"), "no tracker 'tensorbord'", "did you mean 'tensorboard'?")
    refused(spot(*words, "--track", "wandb:logs"), "only tensorboard takes")
    assert not (tmp_path / "run").exists()
    study = ["study", "run", tmp_path / "study.toml", "--track", "tensorboard", "--executor", "ray"]
    refused(spot(*study), "--track follows the runs of this process")
