"""Strategies carried out on a tiny model: what is trained and what it costs, what is kept and what is remembered."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spot.config import TransferConfig, TuneConfig
from spot.errors import ConfigError, LibraryError, RunError, TaskError
from spot.library.library import Library
from spot.models.backbone import Backbone
from spot.prompts.prompt import SoftPrompt, load, save
from spot.retrieval import predictor
from spot.retrieval.embeddings import encoded_summaries
from spot.retrieval.ranking import history_of, remember
from spot.storage.run_dir import RunDir
from spot.strategies import comparison, plans, transfers
from spot.strategies.report import TransferReport
from spot.strategies.transfers import transfer_rows
from spot.tasks import registry
from spot.tasks.splits import LazyRows, Splits, split_rows
from spot.training.loop import Diverged
from spot.training.result import RunResult, read_results
from spot.training.tuning import tune_prompt
from tests.strategies.test_transfers import named, roles_of
from tests.support.small_runs import put
from tests.support.toy_runs import break_large_prompts

STEPS = 8
CONFIG = TransferConfig(steps=STEPS, seeds=1, eval_every=2)
WORDS = ("red", "green", "blue")
BURST = 1e6  # a start that no run survives where large prompts break the loss


def source_config(task: str, folder: Path, **changes: Any) -> TuneConfig:
    base = {
        "task": task,
        "backbone": str(folder),
        "steps": 4,
        "length": 3,
        "batch_size": 4,
        "learning_rate": 0.05,
        "eval_every": 2,
        "key_step": 3,
    }
    return TuneConfig(**{**base, **changes})


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Bootstraps would take half of the time, and nothing here looks at intervals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "interval", partial(comparison.interval, resamples=20))
        yield


@pytest.fixture(scope="module")
def backbone(tiny_folder: Callable[[str], Path]) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


@pytest.fixture(scope="module")
def prompts(backbone, tiny_folder, tmp_path_factory) -> list[SoftPrompt]:
    folder = tmp_path_factory.mktemp("sources")
    return [
        tune_prompt(source_config(word, tiny_folder("llama")), named(word), backbone, roles_of(word), out=folder / word)
        for word in WORDS
    ]


def library_of(prompts: list[SoftPrompt], folder: Path) -> Library:
    """A library that remembers nothing so far."""
    made = Library.create(folder)
    for prompt in prompts:
        made.add(prompt)
    return made


@pytest.fixture
def library(prompts, tmp_path) -> Library:
    return library_of(prompts, tmp_path / "library")


@pytest.fixture
def run(backbone, library, tmp_path) -> Callable[..., TransferReport]:
    def made(
        strategy: str,
        out: str = "out",
        library: Library = library,
        rows: Splits | None = None,
        progress: Any = None,
        data: Path | None = None,
        **settings: Any,
    ) -> TransferReport:
        config = TransferConfig(**{**CONFIG.model_dump(), "strategy": strategy, **settings})
        return transfer_rows(
            named("toy"),
            rows or roles_of("toy"),
            backbone,
            library,
            config,
            out=tmp_path / out,
            progress=progress,
            data=data,
        )

    return made


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
        return read_results(RunDir(folder))

    @property
    def plain(self) -> tuple[RunResult, ...]:
        return read_results(RunDir(self.folder / "plain-vocabulary"))


RACE = CONFIG.model_copy(update={"strategy": "race", "budget": "9x", "seeds": 2})


@pytest.fixture(scope="module")
def race(backbone, prompts, tmp_path_factory) -> Race:
    folder = tmp_path_factory.mktemp("race")
    library = library_of(prompts, folder / "library")
    report = transfer_rows(named("toy"), roles_of("toy"), backbone, library, RACE, out=folder / "out")
    return Race(report, folder / "out", library)


def arm(report: TransferReport, name: str) -> Any:
    return next(one for one in report.arms if one.arm == name)


def tokens(run: RunResult, step: int) -> float:
    return next(point.tokens for point in run.curve if point.step == step)


def test_a_race_walks_together_and_equals_the_same_runs_alone(race, backbone, prompts, tmp_path):
    config = RACE.model_copy(update={"strategy": "best", "k": 3, "budget": None})
    library = library_of(prompts, tmp_path / "library")
    best = transfer_rows(named("toy"), roles_of("toy"), backbone, library, config, out=race.folder)
    found = race.report.candidates
    assert [one.source for one in found] == [*(one.task for one in best.ranking), "scratch"]
    assert (race.report.strategy, race.report.k, best.strategy, best.k) == ("race", 3, "best", 3)
    assert len(race.gang) == 3 * 2, "the plain run is no part of the gang"
    for number, folder in enumerate(sorted(race.folder.glob("spot-*"))):
        for ours, alone in zip(race.gang[2 * number :][:2], read_results(RunDir(folder)), strict=True):
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
    own = np.mean([tokens(one, race.report.candidates[-1].steps) for one in race.plain])
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
    assert race.gain == 0 and race.verdict.startswith("No source was kept: a start from scratch did best")
    assert arm(race, "source").source == race.ranking[0].task, "the nearest source as it is"
    assert race.chosen == "plain:vocabulary" and race.prompt is not None and race.prompt.parents == ()


def test_restarts_begin_elsewhere(run, tmp_path):
    race = run("race", budget="9x", restarts=3, k=1)
    assert [one.source for one in race.candidates[1:]] == ["scratch", "scratch 1", "scratch 2"]
    (folder,) = (tmp_path / "out").glob("race-*")
    starts = [load(folder / f"prompt-{number}.safetensors") for number in (1, 2)]
    assert [one.config["init_seed"] for one in starts] == [1, 2] and starts[0].parents == ()
    assert not np.array_equal(starts[0].start, starts[1].start)


def timeless(report: TransferReport) -> Any:
    found = json.loads(json.dumps(report.to_json()))
    for one in found["arms"]:
        del one["seconds"], one["seconds_to_plain"]
        for point in one["curve"]:
            del point["seconds"]
    return {key: value for key, value in found.items() if key not in ("run", "prompt")}


@pytest.mark.parametrize("stop", [3, 11, 13])
def test_a_killed_race_ends_as_one_left_alone(race, backbone, prompts, tmp_path, stop):
    class Stopped(BaseException):
        pass

    steps = []

    def stopping(*at: int) -> None:
        steps.append(at)
        if len(steps) == stop:
            raise Stopped

    library = library_of(prompts, tmp_path / "library")
    given = (named("toy"), roles_of("toy"), backbone, library, RACE)
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


# What auto picks.


def test_auto_says_why_and_does_what_it_says(run, monkeypatch):
    few = run("auto")
    assert few.strategy == "best" and "12 selection rows are too few" in few.reason
    monkeypatch.setattr(plans, "FEW_ROWS", 5)
    monkeypatch.setattr(plans, "STANDS_OUT", 99.0)
    race = run("auto")
    assert race.strategy == "race" and race.to_json()["reason"] == race.reason
    assert race.reason.startswith("A race between all 3 sources and 1 start from scratch.")
    assert len(race.candidates) == race.k + 1 == 4
    monkeypatch.setattr(plans, "STANDS_OUT", -1.0)
    assert run("auto").strategy == "best"
    tight = run("auto", budget="1.2x")
    assert tight.strategy == "none" and tight.gain is None and [one.arm for one in tight.arms][-1] != "spot"
    assert tight.ranking and "No source was used" in tight.verdict
    for report in (few, race, tight):
        assert len(re.findall(r"\.(?=\s|$)", report.reason)) == 2


def test_auto_goes_by_past_transfers_where_they_are_enough(run, library, backbone, monkeypatch):
    monkeypatch.setattr(predictor, "FEWEST_RESULTS", 3)
    monkeypatch.setattr(plans, "FEW_ROWS", 1)
    run("oracle")
    past = [
        replace(record, target="other", id=f"other {number}", gain=float(number))
        for number, record in enumerate(library.transfers())
    ]
    remember(library, past)
    report = run("auto")
    assert report.rank_by == "learned" and len(report.expected) == 3 and "expected result" in report.reason
    assert all("expected" in one for one in report.to_json()["ranking"])
    remember(library, [replace(record, id=f"{record.id} again", target="third", gain=-record.gain) for record in past])
    assert run("auto").to_json() == report.to_json(), "what is learned later does not change what is there"
    assert run("auto", rank_by="max").rank_by == "max"


# Budgets.


def test_a_budget_in_minutes_is_measured_once(run, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(transfers, "seconds_of", lambda runs, backbone: calls.append(len(runs)) or 120.0)
    with pytest.raises(
        ConfigError,
        match=r"the budget 1min is 0.50 of one plain run, which takes about 120 s here "
        r"\(steps = 8, seeds = 1\).*give 2min",
    ):
        run("race", budget="1min")
    assert not (tmp_path / "out").exists() and calls == [1]
    assert run("race", budget="4min").k == 2, "twice the time of a plain run"
    assert run("race", budget="18min").k == 3
    assert calls == [1, 1], "the first measurement is kept"


def test_a_probe_on_real_rows_tells_what_a_plain_run_takes(run, tmp_path):
    assert run("auto", budget="1h").strategy in ("best", "race")
    seconds = json.loads((tmp_path / "out" / "probe.json").read_text())["seconds"]
    plain = read_results(RunDir(tmp_path / "out" / "plain-vocabulary"))
    assert 0 < seconds < 60 and seconds > 0.2 * sum(one.seconds for one in plain)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"strategy": "best", "k": 3, "budget": "2x"},
            r"best with 3 starts costs up to 3.38 plain runs, retrieval's "
            r"3 of 8 steps included, and the budget is 2.00",
        ),
        ({"strategy": "mixture", "k": 1, "budget": "2x"}, r"mixture with 1 start costs up to 2.38"),
        ({"strategy": "race", "restarts": 9}, r"race with 10 starts costs up to .* the budget is 2.50"),
    ],
)
def test_a_budget_that_does_not_hold_the_strategy(run, settings, message, monkeypatch):
    monkeypatch.setattr(transfers, "check_rows", lambda *_: None)
    with pytest.raises(ConfigError, match=message):
        run(**settings)


# What is remembered.


def test_every_source_that_was_tuned_to_the_end_is_remembered_once(run, library, tmp_path):
    report = run("best", k=3)
    records = library.transfers()
    plain = arm(report, "plain:vocabulary")
    target = load(tmp_path / "out" / "plain-vocabulary" / "prompt.safetensors")
    assert [record.source for record in records] == [one.prompt for one in report.ranking]
    for record, one in zip(records, report.candidates, strict=True):
        assert record.gain == pytest.approx(one.selection - plain.selection)
        assert (record.source_task, record.target) == (one.source, "toy")
        assert (record.steps, record.rows, record.seeds) == (STEPS, 24, 1)
        assert record.embedding == encoded_summaries(target)
    run("best", k=3)
    run("oracle")
    assert library.transfers() == records


def test_report_rows_have_no_say_in_what_is_remembered(run, library, prompts, tmp_path):
    run("best")
    other = library_of(prompts, tmp_path / "other")
    ours = roles_of("toy")
    turned = tuple(replace(row, answers=("yes" if row.answers == ("no",) else "no",)) for row in ours.report)
    report = run("best", "turned", other, Splits(ours.train, ours.selection, turned))
    assert other.transfers() == library.transfers()
    assert arm(report, "spot").score == pytest.approx(100 - arm(run("best"), "spot").score)


def test_what_the_shipped_library_cannot_keep_is_in_the_cache(run, library, own_cache):
    shipped = Library(library.path, read_only=True)
    for _ in range(2):
        run("best", library=shipped)
    assert library.transfers() == [] and len(history_of(shipped)) == 1
    assert (own_cache / "experience.jsonl").read_text().count("\n") == 1


def test_learned_falls_back_to_mean_and_says_so(run, caplog):
    report = run("best", rank_by="learned")
    assert report.rank_by == "mean" and report.expected == () and "ranked by `mean`" in caplog.text


# Mixtures.


@pytest.fixture
def known(backbone, tiny_folder, tmp_path) -> tuple[Library, Path]:
    """A library of known tasks, and their rows."""
    data = put(tmp_path / "data", "cr", "glue/sst2")
    made = Library.create(tmp_path / "known")
    for name in ("cr", "glue/sst2"):
        task = registry.get(name, data)
        config = source_config(name, tiny_folder("llama"), train_rows=16, select_rows=6)
        made.add(tune_prompt(config, task, backbone, split_rows(task, 16, 6, 0, 0), out=tmp_path / name))
    return made, data


def test_a_mixture_is_tuned_on_the_nearest_tasks_and_the_target(run, known, tmp_path):
    library, data = known
    report = run("mixture", library=library, data=data, mixture_steps=6)
    (folder,) = (tmp_path / "out").glob("mixture-*")
    prompt = load(folder / "prompt.safetensors")
    names = [one.task for one in report.ranking]
    assert prompt.task == f"mixture:{'+'.join([*names, 'toy'])}" and prompt.step == 6, "the last checkpoint"
    (spot,) = (tmp_path / "out").glob("spot-0-*")
    child = load(spot / "prompt.safetensors")
    assert np.array_equal(child.start, prompt.value) and [one.digest for one in child.parents] == [prompt.digest]
    plain = read_results(RunDir(tmp_path / "out" / "plain-vocabulary"))
    key = np.mean([(tokens(one, 2) + tokens(one, 4)) / 2 for one in plain])
    own = read_results(RunDir(folder))[0].tokens
    runs = read_results(RunDir(spot))
    assert arm(report, "spot").tokens == round(key + own + np.mean([one.tokens for one in runs]))
    assert arm(report, "source").tokens == round(key + own)
    assert arm(report, "spot").seconds >= read_results(RunDir(folder))[0].seconds
    assert (report.k, report.candidates[0].kind) == (2, "mixture") and library.transfers() == []


def test_a_mixture_does_not_see_rows_of_the_target(run, known, monkeypatch):
    library, data = known
    ours, path = roles_of("toy"), registry.TABLE["cr"].folder
    file = data / path / "train.jsonl"
    shared = [*ours.selection[:2], *ours.report[:3]]
    file.write_text("".join(json.dumps({"text": row.texts[0], "label": 0}) + "\n" for row in shared))
    seen: list[set[str]] = []
    tune_mixture = transfers.tune_mixture

    def watched(bench: Any, members: Any, steps: int) -> Any:
        seen.append({row.texts[0] for member in members for row in member.splits.train})
        return tune_mixture(bench, members, steps)

    monkeypatch.setattr(transfers, "tune_mixture", watched)
    report = run("mixture", library=library, data=data)
    assert not seen[0] & {row.texts[0] for row in ours.selection}
    assert {row.texts[0] for row in ours.report[:3]} <= seen[0]
    assert report.left_out == 3 and report.rows["report"] == len(ours.report) - 3


def test_a_mixture_keeps_the_report_rows_shut(run, known, tmp_path):
    library, data = known

    def read() -> tuple:
        assert list((tmp_path / "out").glob("spot-0-*/result.json")), "everything is tuned"
        return roles_of("toy").report

    ours = roles_of("toy")
    run("mixture", library=library, data=data, rows=Splits(ours.train, ours.selection, LazyRows(read)))


def test_a_mixture_names_the_rows_that_are_missing(run, known, library, tmp_path):
    both, _ = known
    with pytest.raises(TaskError, match=r"those of 3 of 3 are not at hand: blue \(no task 'blue'.*; red .*--data DIR"):
        run("mixture")
    assert not (tmp_path / "out").exists(), "nothing is trained before"
    empty = tmp_path / "nothing"
    empty.mkdir()
    with pytest.raises(TaskError, match=r"those of 2 of 2 are not at hand: cr .*; glue/sst2 "):
        run("mixture", library=both, data=empty)
    put(empty, "cr")
    with pytest.raises(TaskError, match=r"those of 1 of 2 are not at hand: glue/sst2 "):
        run("mixture", library=both, data=empty)
    try:  # one task is enough for k = 1, unless it is the other one that is nearest
        run("mixture", library=both, data=empty, k=1)
    except TaskError as error:
        assert "glue/sst2" in str(error)


# Candidates that diverge.


@pytest.fixture
def burst(prompts, tmp_path, monkeypatch) -> Library:
    """A library with a source that training does not survive."""
    break_large_prompts(monkeypatch)
    made = Library.create(tmp_path / "burst")
    for prompt in (*prompts[:2], replace(prompts[2], task="burst", value=np.full_like(prompts[2].value, BURST))):
        made.add(prompt)
    return made


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
    made = Library.create(tmp_path / "all")
    made.add(replace(prompts[2], task="burst", value=np.full_like(prompts[2].value, BURST)))
    with pytest.raises(RunError, match=r"no candidate of the strategy 'best' came to the end.*from burst"):
        run("best", library=made)


def test_plain_tuning_that_diverges_is_an_error(prompts, backbone, tmp_path, monkeypatch):
    break_large_prompts(monkeypatch)
    made = Library.create(tmp_path / "hot")
    made.add(replace(prompts[0], key_recipe=replace(prompts[0].key_recipe, learning_rate=BURST)))
    with pytest.raises(RunError, match="training diverged with adamw at learning rate 1000000"):
        transfer_rows(named("toy"), roles_of("toy"), backbone, made, CONFIG, out=tmp_path / "out")


def test_a_further_plain_start_that_diverges_is_no_arm(run, monkeypatch, caplog):
    from_scratch = transfers.from_scratch

    def diverging(bench: Any, init: str) -> Any:
        if init == "uniform":
            raise Diverged([SimpleNamespace(diverged="the loss is nan")])
        return from_scratch(bench, init)

    monkeypatch.setattr(transfers, "from_scratch", diverging)
    report = run("best", starts=("vocabulary", "uniform"))
    assert [one.arm for one in report.arms] == ["frozen", "plain:vocabulary", "source", "spot"]
    assert "no arm of plain tuning from 'uniform': the loss is nan" in caplog.text


def test_a_plain_arm_without_one_of_its_seeds_is_nothing_to_compare_with(run, monkeypatch):
    from_scratch = transfers.from_scratch

    def half(bench: Any, init: str) -> Any:
        found = from_scratch(bench, init)
        return replace(found, results=(found.results[0], replace(found.results[1], diverged="the loss is nan")))

    monkeypatch.setattr(transfers, "from_scratch", half)
    with pytest.raises(RunError, match=r"diverged in some seed of every start.*the loss is nan"):
        run("best", seeds=2)


# Libraries and settings that cannot work.


def test_keys_of_several_recipes_are_refused_before_anything_is_trained(run, library, prompts, tmp_path):
    for changes in ({"learning_rate": 0.02}, {"length": 5}):
        odd = replace(prompts[0], task="odd", key_recipe=replace(prompts[0].key_recipe, **changes))
        path = library.path / "prompts" / f"{odd.digest}.safetensors"
        save(odd, path)
        name = next(iter(changes))
        with pytest.raises(LibraryError, match=rf"keys of more than one recipe, .*{name} is .* here and .* there"):
            run("best")
        library.remove(odd.digest)
    assert not (tmp_path / "out").exists()


def test_prompts_of_another_backbone_are_passed_over_and_counted(run, library, prompts, caplog):
    other = replace(prompts[0], task="foreign", backbone=replace(prompts[0].backbone, fingerprint="0" * 16))
    save(other, library.path / "prompts" / f"{other.digest}.safetensors")
    assert {one.task for one in run("best").ranking} == set(WORDS)
    assert "1 prompts in" in caplog.text and "are passed over" in caplog.text


def test_the_first_start_must_be_that_of_the_keys(run):
    with pytest.raises(ConfigError, match=r"the first of starts is 'uniform'.*expected 'vocabulary'"):
        run("best", starts=("uniform", "vocabulary"))
    assert [one.arm for one in run("none", starts=("uniform",)).arms] == ["frozen", "plain:uniform"]


def test_an_average_of_unlike_sources_is_refused(run, monkeypatch):
    retrieve = transfers.retrieve

    def unlike(*args: Any, **settings: Any) -> Any:
        found = retrieve(*args, **settings)
        return replace(found, sources=tuple(replace(one, similarity=-0.1) for one in found.sources))

    monkeypatch.setattr(transfers, "retrieve", unlike)
    with pytest.raises(ConfigError, match="no source has a similarity above 0"):
        run("average", k=2)


def test_every_arm_says_what_it_cost(run):
    found = run("best", k=2).to_json()["arms"]
    assert all({"tokens", "relative_cost", "parameters", "shipped"} <= set(one) for one in found)
    frozen, plain, source, spot = found
    assert frozen["relative_cost"] == 0 and plain["relative_cost"] == 1
    assert all(before["tokens"] < after["tokens"] for before, after in pairwise((frozen, source, spot)))
    assert 2 < spot["relative_cost"] < 3
