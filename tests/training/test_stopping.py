"""Runs of a gang that stop early: by a rule, or because they diverged. Each run must be what it is alone."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spot.config import TuneConfig
from spot.errors import RunError
from spot.models.backbone import Backbone
from spot.models.batch import Batch
from spot.prompts.prompt import load
from spot.storage.run_dir import RunDir
from spot.tasks.splits import Splits
from spot.tasks.task import Example, Task
from spot.training import loop
from spot.training.loop import Diverged, Rule, seconds_of
from spot.training.result import RunResult, read_results
from spot.training.state import Run
from spot.training.tuning import prepare, tune
from tests.support.kills import run_killed

LABELS = ("no", "yes")
TOO_MUCH = 1e6  # a learning rate that no run survives where `fragile` is


def example(number: int) -> Example:
    text = f"row {number:03d} of the table is {('bad', 'fine')[number % 2]}"
    return Example(str(number), f"sentence: {text}", (LABELS[number % 2],), texts=(text,))


TASK = Task("toy", lambda split: iter(()), ("train",), LABELS, ("accuracy",))
ROWS = Splits(*(tuple(example(n) for n in range(*part)) for part in ((0, 32), (100, 108), (200, 208))))


def run(backbone: Backbone, **settings) -> Run:
    base = {
        "task": "toy",
        "backbone": "tiny",
        "steps": 8,
        "length": 3,
        "batch_size": 4,
        "learning_rate": 0.05,
        "eval_every": 2,
        "checkpoint_every": 3,
    }
    return prepare(TuneConfig(**{**base, **settings}), TASK, backbone, ROWS)


def gang(backbone: Backbone, **settings) -> list[Run]:
    return [
        run(backbone, seed=0, **settings),
        run(backbone, seed=1, learning_rate=0.02, **settings),
        run(backbone, seed=2, init="classes", **settings),
    ]


STOPS = {0: 4, 2: 6}  # run -> the step at which the rule stops it


def stopping(results: Sequence[RunResult], step: int) -> list[int]:
    return [number for number, at in STOPS.items() if at <= step]


RULE = Rule("stops", stopping)


@pytest.fixture(scope="module")
def backbone(tiny_folder: Callable[[str], Path]) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def break_large_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a row is no number where its prompt is very large, as it is in models without a last norm."""
    loss = Backbone.loss

    def broken(self: Backbone, batch: Batch, prompts: Tensor) -> Tensor:
        large = prompts.detach().abs().amax(dim=(1, 2)) > TOO_MUCH / 10
        factor = torch.where(large, float("nan"), 1.0)[batch.prompt_index]
        return loss(self, batch, prompts) * factor

    monkeypatch.setattr(Backbone, "loss", broken)


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> None:
    break_large_prompts(monkeypatch)


def results(folder: Path) -> tuple[RunResult, ...]:
    return read_results(RunDir(folder))


def timeless(folder: Path) -> list[RunResult]:
    """The results without what depends on the clock."""
    return [
        replace(result, seconds=0.0, curve=tuple(replace(point, seconds=0.0) for point in result.curve))
        for result in results(folder)
    ]


def stopper(at: int) -> tuple[type[BaseException], Callable[[int, int], None]]:
    """A progress function that ends the process's work after a step, as a kill would."""

    class Stopped(BaseException):
        pass

    def stopped(step: int, _: int) -> None:
        if step == at:
            raise Stopped

    return Stopped, stopped


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
@pytest.mark.parametrize("micro_batch", [None, 4, 5])
def test_runs_that_stop_early_equal_the_same_runs_alone(backbone, tmp_path, optimiser, micro_batch):
    runs = gang(backbone, optimiser=optimiser, micro_batch=micro_batch)
    together = tune(runs, backbone, tmp_path / "gang", rule=RULE)
    found = results(tmp_path / "gang")
    assert [result.steps for result in found] == [4, 8, 6]
    assert [result.dropped for result in found] == [True, False, True]
    for number, one in enumerate(runs):
        config = one.config.model_copy(update={"steps": STOPS.get(number, 8), "micro_batch": None})
        alone = tune([prepare(config, TASK, backbone, ROWS)], backbone, tmp_path / str(number))[0]
        wanted = results(tmp_path / str(number))[0]
        np.testing.assert_allclose(together[number].value, alone.value, atol=2e-4)
        assert together[number].step == alone.step and found[number].tokens == wanted.tokens
        assert [point.step for point in found[number].curve] == [point.step for point in wanted.curve]
        for ours, theirs in zip(found[number].curve, wanted.curve, strict=True):
            assert (ours.score, ours.nats) == pytest.approx((theirs.score, theirs.nats), abs=1e-3)


def watch_losses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The rows and the prompts of every call of the loss."""
    calls: list[tuple[int, int]] = []
    loss = Backbone.loss

    def watched(self: Backbone, batch: Batch, prompts: Tensor) -> Tensor:
        calls.append((len(batch.input_ids), len(prompts)))
        return loss(self, batch, prompts)

    monkeypatch.setattr(Backbone, "loss", watched)
    return calls


def test_a_run_that_stands_still_costs_nothing(backbone, tmp_path, monkeypatch):
    calls = watch_losses(monkeypatch)
    tune(gang(backbone), backbone, tmp_path / "gang", rule=RULE)
    assert calls == [(12, 3)] * 4 + [(8, 2)] * 2 + [(4, 1)] * 2


def test_a_small_part_of_a_step_computes_only_the_prompts_that_it_uses(backbone, tmp_path, monkeypatch):
    calls = watch_losses(monkeypatch)
    tune(gang(backbone, steps=2, micro_batch=6), backbone, tmp_path / "gang")
    assert calls == [(6, 2), (6, 2)] * 2


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 6, 7])
def test_a_race_that_is_killed_ends_with_the_same_bytes(backbone, tmp_path, stop):
    asked = []

    def losers(results: Sequence[RunResult], step: int) -> list[int]:
        """The worst of those that are left stops at steps 4 and 6."""
        asked.append(step)
        left = [number for number, result in enumerate(results) if not result.dropped]
        worst = sorted(left, key=lambda number: (results[number].curve[-1].nats, number))
        return worst[-1:] if step in (4, 6) else []

    rule = Rule("worst", losers)
    whole = tune(gang(backbone), backbone, tmp_path / "whole", rule=rule)
    assert sorted(result.steps for result in results(tmp_path / "whole")) == [4, 6, 8] and asked == [2, 4, 6, 8]
    kind, stopped = stopper(stop)
    with pytest.raises(kind):
        tune(gang(backbone), backbone, tmp_path / "part", stopped, rule)
    part = tune(gang(backbone), backbone, tmp_path / "part", rule=rule)
    assert [prompt.digest for prompt in part] == [prompt.digest for prompt in whole]
    assert timeless(tmp_path / "part") == timeless(tmp_path / "whole")


def test_a_gang_of_another_rule_is_another_gang(backbone, tmp_path):
    tune(gang(backbone), backbone, tmp_path / "gang", rule=RULE)
    for other in (None, Rule("others", stopping)):
        with pytest.raises(RunError, match="another configuration"):
            tune(gang(backbone), backbone, tmp_path / "gang", rule=other)


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.training import test_stopping as t
backbone = t.Backbone.load(sys.argv[2])
t.tune(t.gang(backbone, steps=40), backbone, Path(sys.argv[3]), rule=t.RULE)
"""


@pytest.mark.slow
def test_a_race_killed_at_random_moments_ends_with_the_same_bytes(tiny_folder, tmp_path):
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parents[2]), str(tiny_folder("llama"))]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    run_killed([*command, str(tmp_path / "killed")], tmp_path / "killed", tmp_path / "whole", times=4)
    for number in range(3):
        name = f"prompt-{number}.safetensors"
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert timeless(tmp_path / "killed") == timeless(tmp_path / "whole")


# Runs that diverge.


def test_a_run_that_diverges_does_not_end_its_gang(backbone, tmp_path, caplog, fragile):
    bad = run(backbone, seed=7, learning_rate=TOO_MUCH)
    runs = [gang(backbone)[0], bad, gang(backbone)[1]]
    together = tune(runs, backbone, tmp_path / "gang")
    found = results(tmp_path / "gang")
    assert [bool(result.diverged) for result in found] == [False, True, False]
    assert "at step 2 is nan" in found[1].diverged and found[1].steps == 1
    assert "training diverged with adamw at learning rate 1000000.0; give a lower learning_rate" in found[1].diverged
    assert "seed 7: the loss of toy" in caplog.text
    kept = load(tmp_path / "gang" / "prompt-1.safetensors")
    assert kept.step == 0 and np.array_equal(kept.value, bad.start.numpy()), "the best checkpoint before"
    for number in (0, 2):
        alone = tune([runs[number]], backbone, tmp_path / str(number))[0]
        np.testing.assert_allclose(together[number].value, alone.value, atol=2e-4)


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
def test_a_gang_with_a_run_that_diverged_resumes_with_the_same_bytes(backbone, tmp_path, fragile, optimiser):
    runs = [run(backbone, learning_rate=TOO_MUCH, optimiser=optimiser), run(backbone, seed=1, optimiser=optimiser)]
    whole = tune(runs, backbone, tmp_path / "whole")
    kind, stopped = stopper(5)
    with pytest.raises(kind):
        tune(runs, backbone, tmp_path / "part", stopped)
    assert [one.digest for one in tune(runs, backbone, tmp_path / "part")] == [one.digest for one in whole]
    assert timeless(tmp_path / "part") == timeless(tmp_path / "whole")


def test_a_gang_whose_every_run_diverges_is_an_error(backbone, tmp_path, fragile):
    runs = [run(backbone, seed=seed, learning_rate=TOO_MUCH) for seed in range(2)]
    for _ in range(2):
        with pytest.raises(Diverged, match=r"the loss of toy at step 2 is nan") as raised:
            tune(runs, backbone, tmp_path / "gang")
    assert [result.digest for result in raised.value.results] == [one.digest for one in runs]
    assert isinstance(raised.value, RunError) and read_results(RunDir(tmp_path / "gang")) is None


def test_a_checkpoint_that_has_no_loss_is_not_the_best(backbone, tmp_path, monkeypatch):
    evaluate = loop.evaluate

    def unsure(*args: object) -> object:
        """Every checkpoint after the start scores as the start does, and its loss is no number."""
        found = evaluate(*args)
        starts.setdefault("scores", found.scores)
        first = not asked
        asked.append(1)
        return type(found)(starts["scores"], found.correct, found.predictions, found.nats if first else math.nan)

    starts: dict = {}
    asked: list[int] = []
    monkeypatch.setattr(loop, "evaluate", unsure)
    assert tune([run(backbone)], backbone, tmp_path / "run")[0].step == 0


# What else the loop can do for a transfer.


def test_the_last_checkpoint_is_kept_where_the_run_says_so(backbone, tmp_path):
    last, best = (replace(run(backbone, learning_rate=0.5), keep=keep) for keep in ("last", "best"))
    prompt = tune([last], backbone, tmp_path / "last")[0]
    assert prompt.step == 8 and last.digest != best.digest
    with RunDir(tmp_path / "loop") as folder:
        (state,) = loop.train([best], backbone, folder)
    assert state.best_step < 8, "else this shows nothing"
    torch.testing.assert_close(torch.tensor(prompt.value), state.prompt.detach().cpu())


def test_how_long_a_gang_takes_is_told_from_a_few_steps(backbone, tmp_path, monkeypatch):
    clock = [0.0]
    backward, evaluate = loop._backward, loop.evaluate

    def slow(function: Callable, seconds: float) -> Callable:
        def called(*args: object) -> object:
            clock[0] += seconds
            return function(*args)

        return called

    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(loop, "_backward", slow(backward, 2.0))
    monkeypatch.setattr(loop, "evaluate", slow(evaluate, 5.0))
    # Eight steps; one evaluation of the start and four of each run, the last of them at the last step.
    assert seconds_of([run(backbone, seed=seed) for seed in range(3)], backbone) == 8 * 2 + (1 + 3 * 4) * 5
    assert seconds_of([run(backbone, steps=1)], backbone) == 2 + 2 * 5
    clock[0] = 0.0
    tune([run(backbone, seed=seed) for seed in range(3)], backbone, tmp_path / "gang")
    assert json.loads((tmp_path / "gang" / "result.json").read_text())["runs"][0]["steps"] == 8
