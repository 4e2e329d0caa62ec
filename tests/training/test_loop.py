"""The loop: gangs, runs that stop early or diverge, mixtures, small memory, patience.

Each run of a gang must be what it is alone.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spot.errors import ConfigError, RunError
from spot.models.backbone import Backbone
from spot.models.batch import Batch
from spot.prompts.prompt import load
from spot.storage.run_dir import RunDir
from spot.training import loop
from spot.training.loop import Diverged, Rule, seconds_of
from spot.training.result import RunResult, read_results
from spot.training.run import Member, Run, prepare_run
from spot.training.tuning import tune_runs
from tests.support.kills import parent_of, run_killed
from tests.support.toy_runs import (
    BURST,
    OTHER,
    OTHER_SPLITS,
    RULE,
    SPLITS,
    STOPS,
    TASK,
    Stopped,
    break_large_prompts,
    stopping_at,
    toy_config,
    toy_gang,
    toy_run,
)


def eight_steps(backbone: Backbone, **settings) -> Run:
    return toy_run(backbone, **{"steps": 8, "checkpoint_every": 3, **settings})


@pytest.fixture(scope="module")
def backbone(tiny_folder: Callable[[str], Path]) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


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


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
@pytest.mark.parametrize("micro_batch", [None, 4, 5])
def test_runs_that_stop_early_equal_the_same_runs_alone(backbone, tmp_path, optimiser, micro_batch):
    runs = toy_gang(backbone, optimiser=optimiser, micro_batch=micro_batch)
    together = tune_runs(runs, backbone, tmp_path / "gang", rule=RULE)
    found = results(tmp_path / "gang")
    assert [result.steps for result in found] == [4, 8, 6]
    assert [result.dropped for result in found] == [True, False, True]
    for number, one in enumerate(runs):
        config = one.config.model_copy(update={"steps": STOPS.get(number, 8), "micro_batch": None})
        alone = tune_runs([prepare_run(config, (Member(TASK, SPLITS),), backbone)], backbone, tmp_path / str(number))[
            0
        ].prompt
        wanted = results(tmp_path / str(number))[0]
        np.testing.assert_allclose(together[number].prompt.value, alone.value, atol=2e-4)
        assert together[number].prompt.step == alone.step and found[number].tokens == wanted.tokens
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
    tune_runs(toy_gang(backbone), backbone, tmp_path / "gang", rule=RULE)
    assert calls == [(12, 3)] * 4 + [(8, 2)] * 2 + [(4, 1)] * 2


def test_a_small_part_of_a_step_computes_only_the_prompts_that_it_uses(backbone, tmp_path, monkeypatch):
    calls = watch_losses(monkeypatch)
    tune_runs(toy_gang(backbone, steps=2, micro_batch=6), backbone, tmp_path / "gang")
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
    whole = tune_runs(toy_gang(backbone), backbone, tmp_path / "whole", rule=rule)
    assert sorted(result.steps for result in results(tmp_path / "whole")) == [4, 6, 8] and asked == [2, 4, 6, 8]
    with pytest.raises(Stopped):
        tune_runs(toy_gang(backbone), backbone, tmp_path / "part", stopping_at(stop), rule)
    part = tune_runs(toy_gang(backbone), backbone, tmp_path / "part", rule=rule)
    assert [tuned.prompt.digest for tuned in part] == [tuned.prompt.digest for tuned in whole]
    assert timeless(tmp_path / "part") == timeless(tmp_path / "whole")


def test_a_gang_of_another_rule_is_another_gang(backbone, tmp_path):
    tune_runs(toy_gang(backbone), backbone, tmp_path / "gang", rule=RULE)
    for other in (None, Rule("others", RULE.losers)):
        with pytest.raises(RunError, match="another configuration"):
            tune_runs(toy_gang(backbone), backbone, tmp_path / "gang", rule=other)


CHILD = """
from pathlib import Path
from tests.support.toy_runs import RULE, toy_gang
from spot.models.backbone import Backbone
from spot.training.tuning import tune_runs
def work(folder, model):
    backbone = Backbone.load(model)
    tune_runs(toy_gang(backbone, steps=40), backbone, Path(folder), rule=RULE)
"""


@pytest.mark.slow
def test_a_race_killed_at_random_moments_ends_with_the_same_bytes(tiny_folder, tmp_path):
    with parent_of(CHILD, tiny_folder("llama")) as parent:
        run_killed(parent, tmp_path / "killed", tmp_path / "whole", times=4)
    for number in range(3):
        name = f"prompt-{number}.safetensors"
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert timeless(tmp_path / "killed") == timeless(tmp_path / "whole")


# Runs that diverge.


def test_a_run_that_diverges_does_not_end_its_gang(backbone, tmp_path, caplog, fragile):
    bad = eight_steps(backbone, seed=7, learning_rate=BURST)
    runs = [toy_gang(backbone)[0], bad, toy_gang(backbone)[1]]
    together = tune_runs(runs, backbone, tmp_path / "gang")
    found = results(tmp_path / "gang")
    assert [bool(result.diverged) for result in found] == [False, True, False]
    assert "at step 2 is nan" in found[1].diverged and found[1].steps == 1
    assert "training diverged with adamw at learning rate 1000000.0; give a lower learning_rate" in found[1].diverged
    assert "seed 7: the loss of toy" in caplog.text
    kept = load(tmp_path / "gang" / "prompt-1.safetensors")
    assert kept.step == 0 and np.array_equal(kept.value, bad.start.numpy()), "the best checkpoint before"
    for number in (0, 2):
        alone = tune_runs([runs[number]], backbone, tmp_path / str(number))[0].prompt
        np.testing.assert_allclose(together[number].prompt.value, alone.value, atol=2e-4)


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
def test_a_gang_with_a_run_that_diverged_resumes_with_the_same_bytes(backbone, tmp_path, fragile, optimiser):
    runs = [
        eight_steps(backbone, learning_rate=BURST, optimiser=optimiser),
        eight_steps(backbone, seed=1, optimiser=optimiser),
    ]
    whole = tune_runs(runs, backbone, tmp_path / "whole")
    with pytest.raises(Stopped):
        tune_runs(runs, backbone, tmp_path / "part", stopping_at(5))
    part = tune_runs(runs, backbone, tmp_path / "part")
    assert [tuned.prompt.digest for tuned in part] == [tuned.prompt.digest for tuned in whole]
    assert timeless(tmp_path / "part") == timeless(tmp_path / "whole")


def test_a_gang_whose_every_run_diverges_is_an_error(backbone, tmp_path, fragile):
    runs = [eight_steps(backbone, seed=seed, learning_rate=BURST) for seed in range(2)]
    for _ in range(2):
        with pytest.raises(Diverged, match=r"the loss of toy at step 2 is nan") as raised:
            tune_runs(runs, backbone, tmp_path / "gang")
    assert [result.digest for result in raised.value.results] == [one.digest for one in runs]
    assert isinstance(raised.value, RunError) and read_results(RunDir(tmp_path / "gang")) is None


def test_a_checkpoint_that_has_no_loss_is_not_the_best(backbone, tmp_path, monkeypatch):
    evaluate = loop.evaluate_rows

    def unsure(*args: object) -> object:
        """Every checkpoint after the start scores as the start does, and its loss is no number."""
        found = evaluate(*args)
        starts.setdefault("scores", found.scores)
        first = not asked
        asked.append(1)
        return type(found)(starts["scores"], found.correct, found.predictions, found.nats if first else math.nan)

    starts: dict = {}
    asked: list[int] = []
    monkeypatch.setattr(loop, "evaluate_rows", unsure)
    assert tune_runs([eight_steps(backbone)], backbone, tmp_path / "run")[0].prompt.step == 0


# What else the loop can do for a transfer.


def test_the_last_checkpoint_is_kept_where_the_run_says_so(backbone, tmp_path):
    last, best = (replace(eight_steps(backbone, learning_rate=0.5), keep=keep) for keep in ("last", "best"))
    prompt = tune_runs([last], backbone, tmp_path / "last")[0].prompt
    assert prompt.step == 8 and last.digest != best.digest
    with RunDir(tmp_path / "loop") as folder:
        (state,) = loop.train([best], backbone, folder)
    assert state.best_step < 8, "else this shows nothing"
    torch.testing.assert_close(torch.tensor(prompt.value), state.prompt.detach().cpu())


def test_how_long_a_gang_takes_is_told_from_a_few_steps(backbone, tmp_path, monkeypatch):
    clock = [0.0]
    backward, evaluate = loop._backward, loop.evaluate_rows

    def slow(function: Callable, seconds: float) -> Callable:
        def called(*args: object) -> object:
            clock[0] += seconds
            return function(*args)

        return called

    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(loop, "_backward", slow(backward, 2.0))
    monkeypatch.setattr(loop, "evaluate_rows", slow(evaluate, 5.0))
    # Eight steps; one evaluation of the start and four of each run, the last of them at the last step.
    assert seconds_of([eight_steps(backbone, seed=seed) for seed in range(3)], backbone) == 8 * 2 + (1 + 3 * 4) * 5
    assert seconds_of([eight_steps(backbone, steps=1)], backbone) == 2 + 2 * 5
    clock[0] = 0.0
    tune_runs([eight_steps(backbone, seed=seed) for seed in range(3)], backbone, tmp_path / "gang")
    assert json.loads((tmp_path / "gang" / "result.json").read_text())["runs"][0]["steps"] == 8


# Mixtures, memory, patience.


def test_small_steps_in_memory_give_the_same_gradient(backbone, tmp_path):
    prompts = [
        tune_runs([toy_run(backbone, micro_batch=size, batch_size=5)], backbone, tmp_path / str(size))[0].prompt
        for size in (None, 1, 2)
    ]
    for other in prompts[1:]:
        np.testing.assert_allclose(other.value, prompts[0].value, atol=2e-5)


def test_a_run_by_tokens_is_a_mean_over_the_rows_of_each_step(backbone, tmp_path):
    run = toy_run(backbone, batch_tokens=60, steps=3)
    tune_runs([run], backbone, tmp_path / "run")
    assert read_results(RunDir(tmp_path / "run"))[0].tokens > 0


def test_patience_ends_a_run_and_a_gang_only_when_all_are_spent(backbone, tmp_path):
    settings = {"steps": 20, "eval_every": 1, "patience": 2}
    still = toy_run(backbone, learning_rate=1e-12, **settings)
    tune_runs([still], backbone, tmp_path / "still")
    curve = read_results(RunDir(tmp_path / "still"))[0].curve
    assert curve[-1].step < 20
    best = max(range(len(curve)), key=lambda n: (curve[n].score, -curve[n].nats, -n))
    assert len(curve) - 1 - best == 2
    moving = toy_run(backbone, **settings)
    together = tune_runs([still, moving], backbone, tmp_path / "gang")
    alone = tune_runs([moving], backbone, tmp_path / "moving")[0].prompt
    np.testing.assert_allclose(together[1].prompt.value, alone.value, atol=2e-4)
    assert together[1].prompt.step == alone.step


def test_dropout_and_models_stand_alone(backbone, tmp_path):
    for setting in ({"dropout": 0.1}, {"method": "model"}):
        runs = [toy_run(backbone, seed=seed, **setting) for seed in (0, 1)]
        with pytest.raises(ConfigError, match="in a gang of 2 runs"):
            tune_runs(runs, backbone, tmp_path / "gang")


def test_a_mixture_trains_all_members_and_logs_each(backbone, tmp_path):
    members = (Member(TASK, SPLITS, 0.75), Member(OTHER, OTHER_SPLITS, 0.25))
    run = prepare_run(toy_config(steps=8, eval_every=4), members, backbone, name="mixture:both")
    prompt = tune_runs([run], backbone, tmp_path / "run")[0].prompt
    assert prompt.task == "mixture:both"
    assert set(prompt.scores) == {"toy accuracy", "other accuracy"} == set(prompt.frozen_scores)
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    counts = [{name: part["rows"] for name, part in record["members"].items()} for record in records]
    assert counts[0] == {"toy": 0, "other": 0}
    assert [sum(count.values()) for count in counts[1:]] == [16, 16]
    assert sum(count["toy"] for count in counts) > sum(count["other"] for count in counts) > 0
    for record in records:
        scores = [part["score"] for part in record["members"].values()]
        assert record["score"] == pytest.approx(sum(scores) / 2)


def test_a_mixture_resumes_with_the_same_bytes(backbone, tmp_path):
    members = (Member(TASK, SPLITS, 0.5), Member(OTHER, OTHER_SPLITS, 0.5))
    run = prepare_run(toy_config(eval_every=3), members, backbone, name="mixture:both")
    whole = tune_runs([run], backbone, tmp_path / "whole")[0].prompt

    with pytest.raises(Stopped):
        tune_runs([run], backbone, tmp_path / "part", stopping_at(5))
    assert tune_runs([run], backbone, tmp_path / "part")[0].prompt.digest == whole.digest
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "part")]
    members_of = [[json.loads(line)["members"] for line in log.splitlines()] for log in logs]
    assert members_of[0] == members_of[1]
