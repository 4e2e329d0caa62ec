"""Candidates on a tiny model: races, what they train and cost, runs that are killed, candidates that diverge."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from spot.errors import RunError
from spot.library.library import Library
from spot.prompts.prompt import load
from spot.strategies import plans
from spot.strategies.report import TransferReport
from spot.strategies.transfers import transfer_rows
from spot.training.result import RunResult
from tests.support.toy_runs import BURST, Stopped, break_large_prompts, library_of, named, word_splits
from tests.support.toy_transfers import CONFIG, STEPS, arm, results_in, timeless, tokens_by


@dataclass(frozen=True)
class Race:
    """A race of three sources and the plain run, two seeds each, with rungs at steps 2 and 4 of 8.

    Attributes:
        report: what it found.
        gang: results of the three sources' runs, seed by seed.
        plain: results of the plain runs.
    """

    report: TransferReport
    folder: Path
    library: Library

    @property
    def gang(self) -> tuple[RunResult, ...]:
        (folder,) = self.folder.glob("race-*")
        return results_in(folder)

    @property
    def plain(self) -> tuple[RunResult, ...]:
        return results_in(self.folder / "plain-vocabulary")


RACE = CONFIG.model_copy(update={"strategy": "race", "budget": "9x", "seeds": 2})


@pytest.fixture(scope="module")
def race(backbone, prompts, tmp_path_factory, few_resamples) -> Race:
    folder = tmp_path_factory.mktemp("race")
    library = library_of(prompts, folder / "library")
    report = transfer_rows(named("toy"), word_splits("toy"), backbone, library, RACE, out=folder / "out")
    return Race(report, folder / "out", library)


def test_a_race_walks_together_and_equals_the_same_runs_alone(race, backbone, prompts, tmp_path):
    config = RACE.model_copy(update={"strategy": "best", "k": 3, "budget": None})
    library = library_of(prompts, tmp_path / "library")
    best = transfer_rows(named("toy"), word_splits("toy"), backbone, library, config, out=race.folder)
    found = race.report.candidates
    assert [one.source for one in found] == [*(one.task for one in best.ranking), "scratch"]
    assert (race.report.strategy, race.report.k, best.strategy, best.k) == ("race", 3, "best", 3)
    assert len(race.gang) == 3 * 2, "the plain run is no part of the gang"
    for number, folder in enumerate(sorted(race.folder.glob("spot-*"))):
        for ours, alone in zip(race.gang[2 * number :][:2], results_in(folder), strict=True):
            assert [point.step for point in ours.curve] == list(range(0, found[number].steps + 1, 2))
            assert ours.steps == found[number].steps
            for mine, theirs in zip(ours.curve, alone.curve, strict=False):
                assert (mine.step, mine.tokens) == (theirs.step, theirs.tokens)
                assert mine.nats == pytest.approx(theirs.nats, abs=2e-3)


def test_a_race_drops_the_worse_half_by_selection_rows(race):
    curves = [[one.curve for one in runs] for runs in (race.gang[:2], race.gang[2:4], race.gang[4:], race.plain)]

    def reached(number: int, step: int) -> tuple[float, float]:
        best = [max((point.score, -point.nats) for point in curve if point.step <= step) for curve in curves[number]]
        return tuple(np.mean(best, axis=0))

    # The plain run, the last one, walks to the key step, 3, in any case.
    after_2 = [*sorted(sorted(range(3), key=lambda number: reached(number, 2), reverse=True)[:2]), 3]
    after_4 = max(after_2, key=lambda number: reached(number, 4))
    steps = [2] * 4
    for number in after_2:
        steps[number] = 4
    steps[after_4] = STEPS
    assert [one.steps for one in race.report.candidates] == steps
    assert [one.ended for one in race.report.candidates] == [
        "kept" if number == after_4 else "dropped" for number in range(4)
    ]


def test_what_a_race_costs_is_what_it_trained(race):
    own = np.mean([tokens_by(one, race.report.candidates[-1].steps) for one in race.plain])
    wanted = own + sum(one.tokens for one in race.gang) / 2
    spot, vocabulary = arm(race.report, "spot"), arm(race.report, "plain:vocabulary")
    whole = np.mean([one.tokens for one in race.plain])
    assert spot.tokens == round(wanted) and vocabulary.tokens == round(whole) and vocabulary.relative_cost == 1
    assert spot.relative_cost == pytest.approx(wanted / whole, rel=1e-3)
    # All rows of this task have one length, so tokens go as steps do: 4 x 2 + 3 x 2 + 1 x 4 of 8.
    assert spot.relative_cost == pytest.approx(18 / 8)
    assert arm(race.report, "frozen").tokens == 0 == arm(race.report, "frozen").shipped
    assert spot.shipped == spot.parameters == 3 * 32


def test_only_the_survivors_of_a_race_are_remembered(race):
    ended = {one.source for one in race.report.candidates if one.steps == STEPS and one.kind == "prompt"}
    assert {record.source_task for record in race.library.transfers()} == ended


def test_the_first_start_from_scratch_is_the_plain_run(run, monkeypatch):
    monkeypatch.setattr(plans, "survivors", lambda alive, ranks, keep: tuple(alive)[-keep:])
    race = run("race", budget="9x")
    last = race.candidates[-1]
    assert (last.source, last.ended, last.steps) == ("scratch", "kept", STEPS)
    spot, plain = arm(race, "spot"), arm(race, "plain:vocabulary")
    assert (spot.scores, spot.folder, spot.source) == (plain.scores, plain.folder, "scratch")
    assert race.gain == 0 and "No source was kept: the plain run itself did best" in race.verdict
    assert arm(race, "source").source == race.ranking[0].task, "the nearest source as it is"
    assert race.chosen == "plain:vocabulary" and race.prompt.parents == ()


def test_restarts_begin_elsewhere(run, tmp_path):
    race = run("race", budget="9x", restarts=3, k=1)
    assert [one.source for one in race.candidates[1:]] == ["scratch", "scratch 1", "scratch 2"]
    (folder,) = (tmp_path / "out").glob("race-*")
    starts = [load(folder / f"prompt-{number}.safetensors") for number in (1, 2)]
    assert [one.config["init_seed"] for one in starts] == [1, 2] and starts[0].parents == ()
    assert not np.array_equal(starts[0].start, starts[1].start)


@pytest.mark.parametrize("stop", [3, 11, 13])
def test_a_killed_race_ends_as_one_left_alone(race, backbone, prompts, tmp_path, stop):
    steps = []

    def stopping(*at: int) -> None:
        steps.append(at)
        if len(steps) == stop:
            raise Stopped

    library = library_of(prompts, tmp_path / "library")
    given = (named("toy"), word_splits("toy"), backbone, library, RACE)
    with pytest.raises(Stopped):
        transfer_rows(*given, out=tmp_path / "part", progress=stopping)
    part = transfer_rows(*given, out=tmp_path / "part")
    assert timeless(part) == timeless(race.report) and library.transfers() == race.library.transfers()
    assert part.prompt_file.read_bytes() == race.report.prompt_file.read_bytes()


def test_oracle_tunes_from_every_source(run):
    report = run("oracle", k=1)
    assert len(report.candidates) == report.k == 3 and report.to_json()["strategy"] == "oracle"
    assert arm(report, "spot").selection == max(one.selection for one in report.candidates)
    best = run("best", k=3)
    assert [one.scores for one in best.arms] == [one.scores for one in report.arms], "finished runs are found again"
    assert arm(report, "spot").relative_cost == 3 and arm(best, "spot").relative_cost == 3 + 3 / 8, "less retrieval"


@pytest.fixture
def burst(prompts, tmp_path, monkeypatch) -> Library:
    """A library with a source that training does not survive."""
    break_large_prompts(monkeypatch)
    burst = replace(prompts[2], task="burst", value=np.full_like(prompts[2].value, BURST))
    return library_of([*prompts[:2], burst], tmp_path / "burst")


@pytest.mark.parametrize("strategy", ["oracle", "race"])
def test_a_transfer_goes_on_without_a_candidate_that_diverged(run, burst, caplog, strategy):
    report = run(strategy, library=burst, **({"budget": "9x"} if strategy == "race" else {}))
    ended = {one.source: one.ended for one in report.candidates}
    assert "training diverged" in ended["burst"] and "kept" in ended.values()
    assert "going on without the start from burst: the loss of toy at step 1" in caplog.text
    assert "burst" not in {record.source_task for record in burst.transfers()}
    assert json.dumps(report.to_json(), allow_nan=False)
    again = run(strategy, library=burst, **({"budget": "9x"} if strategy == "race" else {}))
    assert {one.source: one.steps for one in again.candidates} == {one.source: one.steps for one in report.candidates}


def test_a_transfer_whose_every_candidate_diverged_is_an_error(run, prompts, tmp_path, monkeypatch):
    break_large_prompts(monkeypatch)
    burst = replace(prompts[2], task="burst", value=np.full_like(prompts[2].value, BURST))
    with pytest.raises(RunError, match=r"no candidate of the strategy 'best' came to the end.*from burst"):
        run("best", library=library_of([burst], tmp_path / "all"))
