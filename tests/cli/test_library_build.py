"""`spot library build`: one command from a model to a library, and one message for everything that is in its way."""

from pathlib import Path

import pytest

from spot.library.library import Library
from tests.support.commands import Spot
from tests.support.scripts import script
from tests.support.tuned_tasks import write_recipe

ROOT = Path(__file__).parents[2]
SANDBOX_MODEL = ROOT / "tests" / "data" / "sandbox"
RECIPE = """
name = "toy"
tasks = ["mood.toml", "answer.toml", "animal.toml"]
tokens = 1500
key_step = 3
batch_size = 4
select_rows = 6
report_rows = 10
confirm_rows = 12
calibration_steps = 4
lengths = [3]
rates = [0.1, 1.0]
"""
SKILLS = """
name = "skills"
tasks = ["flip.toml", "sort.toml"]
calibrate = ["sort.toml"]
tokens = 4000
key_step = 16
max_input_tokens = 16
max_target_tokens = 12
select_rows = 20
confirm_rows = 40
report_rows = 40
evaluations = 2
calibration_steps = 32
lengths = [8]
learning_rates = [0.1, 0.01]
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return write_recipe(tmp_path, RECIPE, rows=60)


def test_a_plan_says_what_it_takes_and_trains_nothing(spot: Spot, toy: Path, tiny_folder, tmp_path: Path, own_cache):
    words = ("library", "build", toy, "--backbone", tiny_folder("llama"), "--library", tmp_path / "mine", "--plan")
    shown = spot(*words, "--json").json
    assert [source["task"] for source in shown["sources"]] == ["mood", "answer", "animal"]
    parts = [shown["calibration"], *shown["sources"]]
    assert shown["tokens"] > sum(part["tokens"] for part in parts[1:]) > 0
    assert min(shown["seconds"], shown["memory"], shown["disk"]) > 0
    assert not (tmp_path / "mine").exists() and not (own_cache / "libraries").exists()
    assert "GiB of memory" in spot(*words).out


def test_a_random_model_is_said_to_learn_nothing(spot: Spot, toy: Path, tiny_folder, tmp_path: Path):
    """The labels of `mood` are told by one word, which a random model cannot read."""
    place = tmp_path / "mine"
    result = spot("library", "build", toy, "--backbone", tiny_folder("llama"), "--library", place)
    assert result.code == 2
    assert "learns nothing here: of 2 settings" in result.out
    assert not place.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("tokens = 1500", "token = 1500"), "unknown key 'token'; did you mean 'tokens'"),
        (('"mood.toml", "answer.toml", "animal.toml"', '"mood.toml"'), "two tasks or more"),
        (('"animal.toml"', '"animals"'), "no task 'animals'"),
        (("name =", "name"), "not valid TOML"),
    ],
)
def test_a_wrong_recipe_is_one_message(spot: Spot, toy: Path, tmp_path: Path, change: tuple[str, str], words: str):
    toy.write_text(toy.read_text().replace(*change))
    result = spot("library", "build", toy, "--backbone", "nowhere", "--library", tmp_path / "mine")
    assert (result.code, words in result.err) == (2, True)


def test_what_is_missing_on_the_command_line_is_said(spot: Spot, toy: Path, tmp_path: Path):
    result = spot("library", "build", toy, "--library", tmp_path / "mine")
    assert (result.code, "give --backbone NAME" in result.err) == (2, True)
    result = spot("library", "build", toy, "--backbone", "no/such/model", "--library", tmp_path / "mine")
    assert (result.code, "no folder 'no/such/model'" in result.err) == (2, True)
    result = spot("library", "build", toy, "--backbone", "x", "--library", tmp_path / "mine", "--budget", "2x")
    assert (result.code, "expected a time such as" in result.err) == (2, True)
    result = spot("library", "build", "--add", "trec", "--library", tmp_path / "mine")
    assert (result.code, "no prompt library at" in result.err) == (2, True)


def test_bits_of_the_model_are_part_of_the_recipe(spot: Spot, toy: Path, tiny_folder, tmp_path: Path):
    pytest.importorskip("bitsandbytes")
    words = ("library", "build", toy, "--backbone", tiny_folder("llama"), "--library", tmp_path / "mine", "--plan")
    assert spot(*words, "--quantise", "4bit", "--json").json["quantise"] == "4bit"
    result = spot(*words, "--quantise", "3bit")
    assert (result.code, "quantise" in result.err and "4bit" in result.err) == (2, True)


def test_a_budget_that_holds_no_source_trains_nothing(spot: Spot, toy: Path, tiny_folder, tmp_path: Path, own_cache):
    words = ("library", "build", toy, "--backbone", tiny_folder("llama"), "--library", tmp_path / "mine")
    result = spot(*words, "--budget", "100")
    assert (result.code, "holds no source" in result.err) == (2, True)
    assert not (own_cache / "libraries").exists()


@pytest.mark.slow
def test_one_command_builds_a_library_that_learned_and_another_adds_to_it(spot: Spot, tmp_path: Path):
    skills = script("recipes/sandbox.py")
    for skill in ("flip", "sort", "size"):
        skills.write_task(tmp_path, skill, {"train": 300, "validation": 80, "test": 60}, 0)
    (tmp_path / "skills.toml").write_text(SKILLS)
    place = tmp_path / "mine"
    words = ("library", "build", tmp_path / "skills.toml", "--backbone", SANDBOX_MODEL, "--library", place)
    built = spot(*words, "--json").json
    assert (built["added"], built["failed"]) == (["flip", "sort"], {})
    [check] = built["checks"]
    assert check["low"] > 0 and check["constant"] is None
    assert {entry.task for entry in Library(place).entries()} == {"flip", "sort"}
    assert all(sum(entry.scores.values()) > sum(entry.frozen_scores.values()) for entry in Library(place).entries())
    assert built["nearness"][0]["own"] > built["nearness"][0]["similarity"]
    assert "sort" in (place / "README.md").read_text()
    added = spot("library", "build", "--add", tmp_path / "size.toml", "--library", place, "--json").json
    assert added["added"] == ["size"]
    assert Library(place).verify() == []
    again = spot("library", "build", "--add", tmp_path / "size.toml", "--library", place)
    assert (again.code, "has a prompt of size already" in again.err) == (2, True)
