"""`spot transfer` and `spot retrieve` on the command line: strategies, budgets, past transfers, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spot.config import TuneConfig
from spot.library.history import TransferRecord
from spot.library.library import Library
from spot.models.backbone import Backbone
from spot.retrieval import predictor
from spot.retrieval.ranking import remember
from spot.strategies import auto
from spot.training.loop import Pace
from spot.training.tuning import tune_prompt
from tests.support.commands import Spot, refused
from tests.support.small_runs import user_task
from tests.support.toy_runs import named, word_splits
from tests.support.tuned_tasks import TunedTasks

WORDS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def words(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """A task, a library of three sources and a backbone, as the words of a command."""
    folder, model = tmp_path_factory.mktemp("cli"), tiny_folder("llama")
    backbone, library = Backbone.load(str(model)), Library.create(folder / "library")
    for word in WORDS:
        config = TuneConfig(
            task=word,
            backbone=str(model),
            steps=4,
            length=3,
            batch_size=4,
            learning_rate=0.05,
            eval_every=2,
            key_step=3,
        )
        library.add(tune_prompt(config, named(word), backbone, word_splits(word), out=folder / word))
    return (user_task(folder), "--library", library.path, "--backbone", model)


QUICK = ("--steps", 8, "--seeds", 1, "--set", "eval_every=2")


@pytest.mark.parametrize("strategy", ["race", "oracle", "auto"])
def test_the_report_names_the_strategy_its_candidates_and_their_cost(spot: Spot, words, strategy, monkeypatch):
    monkeypatch.setattr(auto, "FEW_ROWS", 1)
    monkeypatch.setattr(auto, "STANDS_OUT", 99.0)
    asked = ("transfer", *words, *QUICK, "--strategy", strategy, "--budget", "9x")
    found = spot(*asked, "--json").json
    assert found["strategy"] == ("oracle" if strategy == "oracle" else "race")
    assert (found["reason"] is not None) == (strategy == "auto")
    assert {one["source"] for one in found["candidates"]} >= set(WORDS)
    assert [list(one) for one in found["ranking"]] == [["prompt", "task", "similarity"]] * 3
    costs = {one["arm"]: one["relative_cost"] for one in found["arms"]}
    assert costs["frozen"] == 0 and costs["plain:vocabulary"] == 1 < costs["spot"]
    text = spot(*asked).out
    shown = ("selection score", "kept", f"{costs['spot']:.2f}x", f"strategy: {found['strategy']}")
    for part in (found["verdict"], *shown):
        assert part in text
    assert (found["reason"] or "") in text


def test_past_transfers_rank(spot: Spot, words, monkeypatch):
    asked = ("retrieve", *words, "-k", 2, "--rank-by", "learned")
    little = spot(*asked, "--json")
    assert little.json["rank_by"] == "mean" and "ranked by `mean`" in little.err
    assert [list(one) for one in little.json["sources"]] == [["prompt", "task", "similarity"]] * 2
    library = Library(words[2])
    past = [
        replace(record, target="another", id=f"another {number}", gain=float(number))
        for number, record in enumerate(_learned_from(spot, words, library))
    ]
    monkeypatch.setattr(predictor, "FEWEST_RESULTS", 3)
    remember(library, past)
    found = spot(*asked, "--json").json
    assert (found["target"], found["rank_by"]) == ("mood", "learned")
    assert [list(one) for one in found["sources"]] == [["prompt", "task", "similarity", "expected"]] * 2
    assert found["sources"][0]["expected"] >= found["sources"][1]["expected"]
    assert "by past transfers (learned) to mood" in spot(*asked).out and "expected" in spot(*asked).out
    transferred = spot("transfer", *words, *QUICK, "--rank-by", "learned", "--json").json
    assert transferred["rank_by"] == "learned" and "expected" in transferred["ranking"][0]
    assert "expected" in spot("transfer", *words, *QUICK, "--rank-by", "learned").out


def _learned_from(spot: Spot, words: tuple[object, ...], library: Library) -> list[TransferRecord]:
    """What a transfer from every source leaves."""
    assert spot("transfer", *words, *QUICK, "--strategy", "oracle", "--json").json["strategy"] == "oracle"
    return library.transfers()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--strategy", "rase"), ("strategy is 'rase'", "did you mean 'race'")),
        (("--rank-by", "lerned"), ("rank_by is 'lerned'", "did you mean 'learned'")),
        (("--metric", "learned"), ("there is no option --metric", "--rank-by learned")),
        (("--set", "metric=learned"), ("unknown key 'metric'; it is called 'rank_by'",)),
        (("--budget", "2y"), ("budget is '2y'", "such as 2x", "10min")),
        (("--budget", "0.5x"), ("budget is '0.5x'", "1x or more")),
        (("--budget", "1s"), ("the budget 1s is 0.", "of one plain run", "give ")),
        (("--strategy", "best", "-k", "3", "--budget", "2x"), ("costs up to 3.38 plain runs", "the budget is 2.00")),
        (("--strategy", "average", "-k", "4"), ("k is 4", "3 candidates")),
        (("--strategy", "mixture"), ("3 of 3 are not at hand", "blue", "green", "red", "--data DIR")),
        (("--restarts", "0"), ("restarts is 0",)),
        (("--set", 'starts=["unifrom"]'), ("starts.0 is 'unifrom'",)),
    ],
)
def test_what_is_refused(spot: Spot, words, tmp_path, options, parts, monkeypatch):
    monkeypatch.setattr("spot.strategies.budget.pace_of", lambda runs, backbone, steps: Pace(100.0, 1.0))
    refused(spot("transfer", *words, *QUICK, "--out", tmp_path / "out", *options), *parts)
    assert not list((tmp_path / "out").glob("plain-*")) or options[-1] == "2x", "nothing is trained before"


def test_the_help_names_every_strategy_and_metric(spot: Spot):
    text = " ".join(spot("transfer", "--help").out.split())
    assert "best|average|mixture|race|oracle|none|auto" in text and "mean|token|max|learned" in text
    assert "[default: None]" not in text


@pytest.mark.parametrize("strategy", ["best", "average", "none"])
def test_transfer(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path, strategy: str):
    words = [
        "transfer",
        tuned_tasks.task(),
        "--library",
        tuned_tasks.library,
        *tuned_tasks.model,
        "--strategy",
        strategy,
        "-k",
        2,
        "--steps",
        4,
        "--seeds",
        2,
        "--set",
        "eval_every=2",
        "--out",
        tmp_path / "out",
    ]
    found = spot(*words, "--json").json
    assert (found["target"], found["run"]) == ("mood", str(tmp_path / "out"))
    arms = {arm["arm"]: arm for arm in found["arms"]}
    assert found["chosen"] in arms
    assert set(arms) == {"constant", "frozen", "plain:vocabulary", *(() if strategy == "none" else ("source", "spot"))}
    for arm in arms.values():
        assert {"arm", "source", "score", "interval", "steps", "seconds"} <= set(arm)
        low, high = arm["interval"]
        assert 0 <= low <= arm["score"] <= high <= 100
        assert (arm["source"] is None) == (arm["arm"] not in ("source", "spot"))
    assert arms["plain:vocabulary"]["steps"] == 4 and arms["frozen"]["steps"] == 0
    text = spot(*words).out
    assert found["verdict"] in text and f"runs: {tmp_path / 'out'}" in text and "95 % interval" in text
