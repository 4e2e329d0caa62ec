"""Builds from plan to card: what is done, what is not done twice, what is refused before anything trains."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from spot.building import door, records
from spot.building.door import build_library, plan_addition, plan_library
from spot.building.plan import BuildPlan
from spot.building.recipe import LibraryRecipe, read_recipe
from spot.building.records import read_record
from spot.errors import ConfigError, LibraryError, RunError, StorageError, TaskError
from spot.library.library import Library
from spot.models.backbone import Backbone
from spot.retrieval.ranking import retrieve
from tests.support.made_up_builds import tasks_in, worker


def test_a_build_fills_the_library_by_the_setting_that_learns(planned: BuildPlan, tmp_path: Path):
    hand = worker(planned)
    outcome = build_library(planned, tmp_path / "library", executor=hand)
    assert tasks_in(tmp_path / "library") == ["animal", "answer", "mood"]
    library = Library(tmp_path / "library")
    assert library.key_recipe is not None
    assert library.key_recipe.learning_rate == planned.settings[-1].learning_rate
    assert library.verify() == []
    record = read_record(tmp_path / "library")
    assert record == outcome.record and record is not None
    assert [trial.ended for trial in record.trials] == ["dropped", "kept"]
    assert [(near.task, near.ranks) for near in record.nearness] == [("mood", True), ("answer", True)]
    card = (tmp_path / "library" / "README.md").read_text()
    for words in ("| mood ", "| animal ", "| kept ", "| dropped ", "are nearer to each other", "frozen", "licence"):
        assert words in card
    assert "does not beat" not in card and "NOT" not in card
    assert len(hand.done) == 1 + 1 + 3 + 2  # race, check, sources, second seeds


def test_a_build_that_is_done_does_nothing_again(
    recipe: LibraryRecipe, backbone: Backbone, planned: BuildPlan, tmp_path: Path
):
    place = tmp_path / "library"
    build_library(planned, place, executor=worker(planned))
    before = {path.name: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    again = plan_library(recipe, backbone, place)
    assert (again.calibrated, again.races, again.calibration.tokens) == (True, (), 0)
    hand = worker(planned)
    build_library(again, place, executor=hand)
    assert hand.done == []
    assert {path.name: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_a_model_on_which_nothing_learns_gets_no_library(planned: BuildPlan, tmp_path: Path):
    hand = worker(planned, learns=False)
    outcome = build_library(planned, tmp_path / "library", executor=hand)
    assert outcome.record is None and not (tmp_path / "library").exists()
    assert len(outcome.trials) == 2 and len(outcome.checks) == 2
    assert len(hand.done) == 2


def test_similarity_that_does_not_rank_is_said_in_words(planned: BuildPlan, tmp_path: Path):
    outcome = build_library(planned, tmp_path / "library", executor=worker(planned, mixed_up=True))
    assert outcome.record is not None
    assert not any(near.ranks for near in outcome.record.nearness)
    card = (tmp_path / "library" / "README.md").read_text()
    assert "are NOT nearer" in card and f"key_step = {2 * planned.recipe.key_step}" in card


def test_a_build_killed_at_any_write_ends_the_same(
    recipe: LibraryRecipe, backbone: Backbone, planned: BuildPlan, tmp_path: Path, monkeypatch
):
    """Each write of a record, a card or a prompt is a place to be killed at."""
    whole = tmp_path / "whole"
    build_library(planned, whole, executor=worker(planned))
    (whole / "index.sqlite").unlink()
    writes = kill_at = 0

    def killed(write: Callable) -> Callable:
        def call(*args: object):
            nonlocal writes
            writes += 1
            if writes == kill_at:
                raise KeyboardInterrupt
            return write(*args)

        return call

    for kill_at in range(1, 15):
        shutil.rmtree(records.jobs_folder())
        writes, place = 0, tmp_path / f"killed at {kill_at}"
        with monkeypatch.context() as patch:
            patch.setattr(records, "write_whole", killed(records.write_whole))
            patch.setattr(door, "write_card", killed(door.write_card))
            patch.setattr(Library, "add", killed(Library.add))
            with pytest.raises(KeyboardInterrupt):
                build_library(planned, place, executor=worker(planned))
        build_library(plan_library(recipe, backbone, place), place, executor=worker(planned))
        (place / "index.sqlite").unlink()
        assert {path.name for path in whole.rglob("*")} == {path.name for path in place.rglob("*")}, kill_at
        for path in whole.rglob("*.*"):
            if path.is_file() and path.suffix != ".lock":
                content = (place / path.relative_to(whole)).read_bytes().replace(bytes(place), bytes(whole))
                assert content == path.read_bytes(), (kill_at, path.name)


def test_one_more_source_is_added_by_the_librarys_own_recipe(
    planned: BuildPlan, backbone: Backbone, toy: Path, tmp_path: Path
):
    place = tmp_path / "library"
    build_library(planned, place, executor=worker(planned))
    (toy.parent / "other.toml").write_text((toy.parent / "mood.toml").read_text().replace('"mood"', '"other"'))
    addition = plan_addition(str(toy.parent / "other.toml"), place, backbone=backbone)
    outcome = build_library(addition, place, executor=worker(planned))
    assert outcome.added == ("other",) and "other" in tasks_in(place)
    assert "| other " in (place / "README.md").read_text()
    record = read_record(place)
    assert record is not None and [source.task for source in record.sources][-1] == "other"
    assert record.nearness and record.trials
    with pytest.raises(LibraryError, match="has a prompt of other already"):
        plan_addition(str(toy.parent / "other.toml"), place, backbone=backbone)


def test_nothing_is_added_to_what_was_not_built(backbone: Backbone, toy: Path, tmp_path: Path):
    with pytest.raises(LibraryError, match="no prompt library at"):
        plan_addition(str(toy.parent / "mood.toml"), tmp_path / "nowhere", backbone=backbone)
    Library.create(tmp_path / "byhand")
    with pytest.raises(LibraryError, match="not made by `spot library build`"):
        plan_addition(str(toy.parent / "mood.toml"), tmp_path / "byhand", backbone=backbone)
    with pytest.raises(TaskError, match="no task 'nosuch'"):
        plan_addition("nosuch", tmp_path / "byhand", backbone=backbone)


def test_a_library_of_another_recipe_or_model_is_refused(
    recipe: LibraryRecipe, backbone: Backbone, planned: BuildPlan, tiny_folder, tmp_path: Path
):
    place = tmp_path / "library"
    build_library(planned, place, executor=worker(planned))
    with pytest.raises(LibraryError, match="key_step is 9 here and 4 there"):
        plan_library(recipe.model_copy(update={"key_step": 9}), backbone, place)
    with pytest.raises(LibraryError, match=r"library of llama|library of tiny-llama"):
        plan_library(recipe, str(tiny_folder("gpt2")), place)
    more = recipe.model_copy(update={"tasks": recipe.tasks[:2], "tokens": 3000})
    assert [task.title for task in plan_library(more, backbone, place).sources] == ["mood", "answer"]


def test_folders_of_other_things_are_refused(recipe: LibraryRecipe, backbone: Backbone, planned: BuildPlan, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("Dear")
    with pytest.raises(LibraryError, match="holds other things"):
        plan_library(recipe, backbone, tmp_path / "other")
    with pytest.raises(LibraryError, match="ships with spot"):
        plan_library(recipe, backbone, "packaged")
    place = tmp_path / "byhand"
    build_library(planned, place, executor=worker(planned))
    (place / "build.json").unlink()
    with pytest.raises(LibraryError, match=r"no build\.json"):
        plan_library(recipe, backbone, place)


def test_a_source_that_fails_is_said_and_the_others_are_there(planned: BuildPlan, backbone, recipe, tmp_path: Path):
    place = tmp_path / "library"
    outcome = build_library(planned, place, executor=worker(planned, broken={"answer": "its machine burnt"}))
    assert outcome.failed == {"answer": "its machine burnt"}
    assert tasks_in(place) == ["animal", "mood"]
    hand = worker(planned)
    outcome = build_library(plan_library(recipe, backbone, place), place, executor=hand)
    assert (outcome.failed, tasks_in(place)) == ({}, ["animal", "answer", "mood"])
    assert all("answer" in title for title in hand.done)


def test_rows_that_are_not_here_are_said_and_passed_over(toy: Path, backbone: Backbone, tmp_path: Path):
    toy.write_text(toy.read_text().replace('"animal.toml"', '"trec"'))
    less = plan_library(read_recipe(toy), backbone, tmp_path / "library", data=tmp_path)
    assert [task.title for task in less.sources] == ["mood", "answer"]
    assert str(tmp_path) in less.missing["trec"]
    build_library(less, tmp_path / "library", executor=worker(less))
    assert "trec is not here" in (tmp_path / "library" / "README.md").read_text()
    toy.write_text(toy.read_text().replace('"answer.toml"', '"cr"'))
    with pytest.raises(TaskError, match="rows of 1 of the 3 tasks"):
        plan_library(read_recipe(toy), backbone, tmp_path / "other", data=tmp_path)


def test_a_task_file_without_its_rows_is_a_mistake_of_the_recipe(toy: Path, tmp_path: Path):
    (tmp_path / "animal.csv").unlink()
    with pytest.raises(ConfigError, match=r"animal\.csv does not exist"):
        read_recipe(toy)


def test_known_tasks_without_a_data_folder_are_one_message(backbone: Backbone, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("SPOT_DATA", raising=False)
    with pytest.raises(TaskError, match="rows of none of the 10 tasks"):
        plan_library(read_recipe("starter"), backbone, tmp_path / "library", data=tmp_path)


def test_bits_of_the_model_are_the_recipes(recipe: LibraryRecipe, backbone: Backbone, tiny_folder, tmp_path: Path):
    pytest.importorskip("bitsandbytes")
    packed = recipe.model_copy(update={"quantise": "4bit"})
    planned = plan_library(packed, str(tiny_folder("llama")), tmp_path / "library")
    configs = [*planned.races[0].configs, planned.source(planned.sources[0], planned.settings[0]).config]
    assert {config.quantise for config in configs} == {"4bit"}
    loaded = door._Loading(planned)()
    assert (loaded.quantise, loaded.id) == ("4bit", backbone.id)
    for given, said in ((packed, backbone), (recipe, loaded)):
        with pytest.raises(ConfigError, match=r"the recipe toy says quantise = .* Load it so"):
            plan_library(given, said, tmp_path / "library")
    with pytest.raises(ConfigError, match=r"quantise = '4bit', and the model is loaded with None"):
        build_library(planned, tmp_path / "library", backbone=backbone)
    build_library(planned, tmp_path / "library", executor=worker(planned))
    with pytest.raises(LibraryError, match="quantise is None here and '4bit' there"):
        plan_library(recipe, backbone, tmp_path / "library")


def test_a_disk_without_room_is_said_before_anything_trains(planned: BuildPlan, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(door.shutil, "disk_usage", lambda path: SimpleNamespace(free=planned.disk - 1))
    hand = worker(planned)
    with pytest.raises(StorageError, match="Nothing was trained"):
        build_library(planned, tmp_path / "library", executor=hand)
    assert hand.done == []


def test_a_race_that_nobody_survives_says_why(planned: BuildPlan, tmp_path: Path):
    hand = worker(planned)
    hand.made_up = lambda job: door.Done(reason="the rows are gone")  # pyright: ignore
    with pytest.raises(RunError, match=r"no setting .* came to the end.*the rows are gone"):
        build_library(planned, tmp_path / "library", executor=hand)


def test_disk_of_the_plan_holds_what_is_written(
    planned: BuildPlan, own_cache: Path, backbone: Backbone, tmp_path: Path
):
    build_library(planned, tmp_path / "library", backbone=backbone, executor=worker(planned))
    written = [
        p for folder in (own_cache / "libraries", tmp_path / "library") for p in folder.rglob("*") if p.is_file()
    ]
    assert sum(path.stat().st_size for path in written) <= planned.disk


def test_what_a_build_wrote_can_be_retrieved_from(planned: BuildPlan, tmp_path: Path):
    build_library(planned, tmp_path / "library", executor=worker(planned))
    library = Library(tmp_path / "library")
    prompt = library.get("mood")
    assert {source.task for source in retrieve(prompt, library, k=2).sources} <= {"mood", "animal", "answer"}
