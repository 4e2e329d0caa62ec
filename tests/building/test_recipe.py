"""Recipes: what is read, what is refused in one message, and what settings they try on a model."""

import re
import tomllib
from pathlib import Path

import pytest

from spot.building.recipe import SHIPPED, LibraryRecipe, Setting, differing_fields, read_recipe, run_config, settings_of
from spot.errors import ConfigError

LIBRARY_SH = Path(__file__).parents[2] / "recipes" / "library.sh"
STUDY26 = Path(__file__).parents[2] / "recipes" / "paper" / "study26.toml"


def recipe(**values: object) -> LibraryRecipe:
    return LibraryRecipe.model_validate({"name": "any", "tasks": ["trec", "cr"], **values})


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_that_ships_is_read_by_its_name(name: str):
    assert read_recipe(name).name == name


def test_starter_has_the_tasks_and_steps_of_the_shipped_library():
    listed = re.search(r"<<TASKS\n(.*)TASKS", LIBRARY_SH.read_text(), re.DOTALL)[1].split("\n")
    steps = {line.split()[0]: int(line.split()[1]) for line in listed if line}
    starter = read_recipe("starter")
    assert (starter.tasks, dict(starter.steps)) == (tuple(steps), steps)


def test_paper_has_the_sources_and_settings_of_the_study_of_26_tasks():
    study, paper = tomllib.loads(STUDY26.read_text()), read_recipe("paper")
    assert list(paper.tasks) == study["sources"]
    first = settings_of(paper, "seq2seq", rms=8.0)[0]
    source = study["source"]
    assert first == Setting(
        source["optimiser"], source["learning_rate"], source["weight_decay"], source["length"], "vocabulary"
    )
    for name in ("key_step", "batch_size", "max_input_tokens", "select_rows", "report_rows"):
        assert getattr(paper, name) == source[name]
    assert set(paper.steps.values()) == {source["steps"]}


def test_rates_are_multiples_of_the_size_of_the_embeddings():
    tried = recipe(rates=[0.1, 2.0])
    assert [setting.learning_rate for setting in settings_of(tried, "causal", rms=0.0312)] == [0.0031, 0.062]
    assert [setting.learning_rate for setting in settings_of(tried, "causal", rms=25.0)] == [2.5, 50.0]


def test_a_seq2seq_model_begins_with_the_settings_of_the_paper():
    first, *others = settings_of(recipe(), "seq2seq", rms=1.0)
    assert first == Setting("adafactor", 0.3, 1e-5, 100, "vocabulary")
    assert others and all(setting.optimiser == "adafactor" for setting in others)
    assert 0.3 not in [setting.learning_rate for setting in others]


def test_settings_are_all_combinations_and_each_is_there_once():
    tried = recipe(
        rates=[1.0], learning_rates=[2.0, 3.0], lengths=[5, 7], optimisers=["adamw", "adafactor"], starts=["uniform"]
    )
    settings = settings_of(tried, "causal", rms=3.0)
    assert len(settings) == len(set(settings)) == 2 * 2 * 2
    assert {setting.learning_rate for setting in settings} == {2.0, 3.0}


def test_networks_over_the_prompt_are_tried_and_named():
    settings = settings_of(recipe(rates=[1.0], reparameterise=["none", "residual"]), "causal", rms=1.0)
    assert [setting.reparameterise for setting in settings] == ["none", "residual"]
    assert [str(setting).endswith("residual network") for setting in settings] == [False, True]
    assert run_config(recipe(), "model", "trec", settings[1], steps=1).reparameterise == "residual"


def test_nothing_to_try_is_refused():
    with pytest.raises(ConfigError, match="no rates and no learning_rates"):
        settings_of(recipe(rates=[], learning_rates=[]), "causal", rms=1.0)


@pytest.mark.parametrize("rms", [0.0, float("nan"), float("inf")])
def test_embeddings_without_a_size_are_refused(rms: float):
    with pytest.raises(ConfigError, match="weights whole"):
        settings_of(recipe(), "causal", rms)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('tasks = ["trec"]', "two tasks or more"),
        ('tasks = ["trec", "trec"]', "two tasks or more"),
        ("tasks = []", "two tasks or more"),
        ('tasks = ["trec", "cr", "trec"]', "each once"),
        ('starts = ["classes"]', "set out from one value"),
        ('starts = ["text:"]', "set out from one value"),
        ('optimisers = ["sgd"]', "adamw"),
        ("rates = [0.0]", "above 0"),
        ("rates = [-1.0]", "above 0"),
        ("lengths = [0]", "from 1 to 10,000"),
        ("lengths = []", "lengths"),
        ("token = 5", "did you mean 'tokens'"),
        ("tokens = 0", "greater than or equal to 1"),
        ("steps = { trec = 0 }", "from 1 to 10,000,000"),
        ("steps = { trec = 3 }", "before the key step 24"),
        ('calibrate = ["ag_news"]', "none of the recipe's tasks"),
        ('calibrate = ["mixture:glue"]\ntasks = ["trec", "mixture:glue"]', "is a mixture"),
        ("steps = { ag_news = 30 }", "none of the recipe's tasks"),
        ('tasks = ["trec", "nosuch"]', "no task 'nosuch'"),
        ('tasks = ["trec", "missing.toml"]', "missing.toml"),
        ("tasks = 5", "tasks"),
        ('name = "x', "TOML"),
    ],
)
def test_a_wrong_line_is_one_message(tmp_path: Path, line: str, words: str):
    path = tmp_path / "r.toml"
    given = [name for name in ("name", "tasks") if re.search(rf"^{name} =", line, re.MULTILINE)]
    usual = {"name": 'name = "any"', "tasks": 'tasks = ["trec", "cr"]'}
    path.write_text("\n".join([line, *(text for name, text in usual.items() if name not in given)]))
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_recipe(path)


def test_all_unknown_names_are_said_at_once(tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text('name = "any"\ntasks = ["nosuch", "neither", "trec"]\ncalibrate = ["third"]\n')
    with pytest.raises(ConfigError) as refused:
        read_recipe(path)
    assert all(word in str(refused.value) for word in ("'nosuch'", "'neither'", "'third'"))


def test_a_recipe_that_is_neither_shipped_nor_a_file_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'starter'"):
        read_recipe("start")
    with pytest.raises(ConfigError, match="there is no such file"):
        read_recipe("nowhere/recipe.toml")


def test_two_tasks_of_one_name_are_refused(toy: Path):
    (toy.parent / "twin.toml").write_text((toy.parent / "mood.toml").read_text())
    toy.write_text(toy.read_text().replace('"animal.toml"', '"twin.toml"'))
    with pytest.raises(ConfigError, match="both called mood"):
        read_recipe(toy)


def test_task_files_stand_beside_the_recipe(toy: Path):
    assert read_recipe(toy).tasks[0] == str(toy.parent / "mood.toml")


def test_recipes_differ_in_what_keys_depend_on_and_not_in_their_sources():
    ours = recipe()
    assert differing_fields(ours, recipe(name="other", tasks=["trec", "ag_news"], tokens=5, steps={"trec": 30})) == []
    assert differing_fields(ours, recipe(key_step=30)) == ["key_step is 24 here and 30 there"]


def test_a_run_has_the_settings_of_recipe_and_trial():
    setting = Setting("adafactor", 0.7, 0.1, 9, "uniform")
    config = run_config(recipe(batch_size=5, max_input_tokens=33), "folder", "trec", setting, steps=30, key_step=24)
    assert (config.task, config.backbone, config.batch_size, config.max_input_tokens) == ("trec", "folder", 5, 33)
    assert (config.optimiser, config.learning_rate, config.weight_decay) == ("adafactor", 0.7, 0.1)
    assert (config.length, config.init, config.steps, config.key_step) == (9, "uniform", 30, 24)
