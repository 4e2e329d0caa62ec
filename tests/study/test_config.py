"""The file of a study: what it refuses, all at once, and what its names stand for."""

from dataclasses import replace
from pathlib import Path

import pytest

from spot.config import TuneConfig
from spot.errors import ConfigError
from spot.library.library import Library
from spot.prompts.prompt import save
from spot.study.cells import finished, read_plan
from spot.study.config import look_up, read_study
from tests.support.prompts import BACKBONE, RECIPE, library_prompt

STUDY = """
name = "toy"
sources = ["glue/sst2", "glue/mnli", "mixture:nli"]
targets = ["cr", "glue/mnli"]
[source]
key_step = 24
"""
PACKAGED = """
name = "toy"
sources = {sources}
targets = ["cr"]
[target]
length = 40
key_step = 24
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


def refused(folder: Path, text: str, *parts: str) -> None:
    with pytest.raises(ConfigError) as error:
        look_up(read_study(write(folder, text)))
    for part in parts:
        assert part in str(error.value), error.value


def test_a_study_has_defaults_and_its_tables_are_those_of_runs(tmp_path):
    config = read_study(write(tmp_path, STUDY + "steps = 60\n[target]\nsteps = 48\n"))
    assert config.strategies == ("best", "none") and config.seeds == 3 and config.k == (1,)
    assert config.tuning("source", "cr", seed=2) == TuneConfig(task="cr", steps=60, key_step=24, seed=2, rows_seed=2)
    assert config.tuning("target", "cr") == TuneConfig(task="cr", steps=48, key_step=24)
    assert config.out == str(tmp_path / "studies" / "toy")


def test_names_are_those_of_tasks_and_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "mine.toml").write_text('name = "mine"\nrows = "mine.csv"\n')
    (tmp_path / "mine.csv").write_text("text,label\n" + "".join(f"row {n},{n % 2}\n" for n in range(20)))
    (tmp_path / "cr").mkdir()  # a folder of this name does not hide the known task
    study = look_up(read_study(write(tmp_path, STUDY), ['targets=["cr", "mine.toml"]']))
    assert [one.task for one in study.targets] == ["cr", "mine"]
    assert [one.reference for one in study.targets] == ["cr", str(tmp_path / "mine.toml")]
    assert [one.task for one in study.sources] == ["glue/sst2", "glue/mnli", "mixture:nli"]
    assert study.sources[2].members[:3] == ("anli/r1", "anli/r2", "anli/r3")


def test_all_mistakes_of_the_form_are_named_at_once(tmp_path):
    text = """
name = "a b"
sources = ["cr", "cr"]
targets = []
starts = ["clases"]
strategies = ["bst"]
k = [0]
models = 2.0
zeeds = 2
[source]
key_stepp = 3
steps = -1
[target]
seed = 3
init = "classes"
"""
    with pytest.raises(ConfigError) as error:
        read_study(write(tmp_path, text))
    for part in (
        "10 mistakes",
        "name is 'a b'",
        "not 'cr' again",
        "targets is []",
        "did you mean 'classes'?",
        "not 'bst': did you mean 'best'?",
        "numbers of 1 and more",
        "models is 2.0",
        "unknown key 'zeeds'; did you mean 'seeds'?",
        "did you mean 'key_step'",
        "steps is -1",
        "'seed' is the study's to set; 'init' is the study's to set",
    ):
        assert part in str(error.value), part


def test_unknown_names_are_named_at_once(tmp_path):
    text = STUDY.replace("glue/sst2", "glue/sst3").replace('"cr"', '"crr", "mixture:glue", "none.toml"')
    refused(
        tmp_path,
        text.replace("mixture:nli", "mixture:nly"),
        "did you mean 'glue/sst2'",
        "did you mean 'cr'?",
        "mixture:glue is a mixture",
        "none.toml does not exist",
        "did you mean 'nli'",
    )


def test_two_files_of_one_task_are_refused(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text('name = "mine"\nrows = "rows.csv"\n')
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"row {n},{n % 2}\n" for n in range(20)))
    refused(tmp_path, STUDY.replace('"cr"', '"one.toml", "two.toml"'), "targets: mine is there 2 times")


def test_k_counts_the_sources_that_are_not_the_target(tmp_path):
    assert look_up(read_study(write(tmp_path, STUDY), ["k=[2]"]))
    with pytest.raises(ConfigError, match="k: 3 is beyond the 2 sources that every target has"):
        look_up(read_study(write(tmp_path, STUDY), ["k=[1, 3]"]))


def test_strategies_need_sources_and_starts_need_labels(tmp_path):
    text = STUDY.replace('["glue/sst2", "glue/mnli", "mixture:nli"]', "[]")
    refused(tmp_path, text, "sources: none, but best start from one")
    alone = read_study(write(tmp_path, text), ['strategies=["none"]', 'starts=["classes"]', 'targets=["squad"]'])
    with pytest.raises(ConfigError, match="starts: classes alone, but squad has no labels"):
        look_up(alone)


def test_embeddings_must_be_comparable(tmp_path):
    refused(tmp_path, STUDY.replace("key_step = 24", ""), "no key_step")
    refused(
        tmp_path,
        STUDY + "dropout = 0.1\n[target]\nlearning_rate = 0.3\n",
        "learning_rate is 0.005 under [source] and 0.3 on targets",
        "dropout is 0.1 under [source] and 0.0",
    )
    refused(
        tmp_path,
        STUDY.replace("[source]", 'starts = ["classes", "vocabulary"]\n[source]'),
        "init is 'vocabulary' under [source] and 'classes' on targets",
    )


def test_a_race_needs_rungs(tmp_path):
    settings = 'strategies = ["race"]\nk = [2]\nrestarts = 1\n[source]'
    text = STUDY.replace("[source]", settings) + "[target]\nsteps = 40\neval_every = "
    refused(tmp_path, f"{text}20", "of 3 candidates beside the plain run the worse half is dropped 2 times")
    assert look_up(read_study(write(tmp_path, f"{text}10")))


def test_packaged_prompts_are_sources_where_the_targets_follow_their_recipe(tmp_path):
    text = PACKAGED.format(sources='["packaged:glue/sst2", "packaged:trec"]')
    study = look_up(read_study(write(tmp_path, text)))
    assert [one.task for one in study.sources] == ["glue/sst2", "trec"] and all(one.prompt for one in study.sources)
    whole = look_up(read_study(write(tmp_path, PACKAGED.format(sources='["packaged"]'))))
    assert {one.task for one in study.sources} < {one.task for one in whole.sources}
    refused(tmp_path, text.replace("40", "20"), "length is 40 in glue/sst2", "length is 40 in trec")
    refused(tmp_path, f"{text}truncate = 'left'", "truncate is 'left' on targets")
    refused(tmp_path, f'backbone = "google/t5-base-lm-adapt"\n{text}', "glue/sst2 belongs to embedded")
    refused(tmp_path, text.replace("glue/sst2", "glue/sst3"), "sources:", "glue/sst3", "did you mean 'glue/sst2'")


def test_prompts_of_mixed_recipes_and_without_keys_are_refused(tmp_path):
    mixed = {
        "one": library_prompt("one"),
        "two": library_prompt("two", key_recipe=replace(RECIPE, learning_rate=0.1)),
        "three": library_prompt("three", key=None, key_recipe=None),
        "four": library_prompt("four", backbone=replace(BACKBONE, name="other")),
        "five": library_prompt("five", key_recipe=replace(RECIPE, length=5)),
    }
    for name, prompt in mixed.items():
        save(prompt, tmp_path / f"{name}.safetensors")
    text = PACKAGED.format(sources=[f"{name}.safetensors" for name in mixed]).replace("24", "40")
    with pytest.raises(ConfigError) as error:
        look_up(read_study(write(tmp_path, text.replace("length = 40", "length = 3"))))
    for part in (
        "learning_rate is 0.1 in two",
        "three (",
        "has no key of a known recipe",
        "four belongs to other",
        "length is 5 in five",
    ):
        assert part in str(error.value)
    assert "one (" not in str(error.value)


def test_a_folder_that_is_a_library_stands_for_its_prompts(tmp_path):
    library = Library.create(tmp_path / "mine")
    for number, task in enumerate(("one", "two")):
        library.add(library_prompt(task, seed=number))
    text = PACKAGED.format(sources='["mine"]').replace("24", "40").replace("length = 40", "length = 3")
    assert [one.task for one in look_up(read_study(write(tmp_path, text))).sources] == ["one", "two"]
    library.add(library_prompt("two", seed=3))
    refused(tmp_path, text, "sources: two is there 2 times")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('models = "x"', "models.float is 'x'; it should be a valid number"),
        ('models = ""', "models.float is ''"),
        ("models = [1]", "models.float is [1]"),
        ('metric = "men"', "did you mean 'mean'"),
        (f'sources = ["{"a" * 300}"]', "sources: "),
        (f'sources = ["{"a/" * 3000}"]', "sources: "),
        ('sources = ["a\\u0000b"]', "sources: "),
        (f'targets = ["{"a" * 300}"]', "targets: "),
        ('sources = ["~zzz9/x"]', "begins with a home folder that is not known"),
        (f'name = "{"a" * 300}"', "should be at most 100 letters"),
        (f'seeds = ["{"a/" * 3000}"]', "seeds is ['a/a/"),
        ('out = "~zzz9"', "begins with a home folder that is not known"),
    ],
)
def test_a_value_that_no_study_can_have_is_said_in_words(tmp_path, line, named):
    key = line.partition(" ")[0]
    lines = {"name": 'name = "a"', "targets": 'targets = ["cr"]', key: line}
    (tmp_path / "study.toml").write_text("\n".join(lines.values()))
    with pytest.raises(ConfigError) as refusal:
        read_plan(tmp_path / "study.toml")
    assert named in str(refusal.value) and len(str(refusal.value)) < 4000


def test_a_backbone_of_a_name_that_no_file_can_have_is_a_name(tmp_path):
    (tmp_path / "study.toml").write_text(
        f'name = "a"\ntargets = ["cr"]\nstrategies = ["none"]\nbackbone = "{"a" * 5000}"\n'
    )
    assert {cell.settings.backbone for cell in read_plan(tmp_path / "study.toml").cells} == {"a" * 5000}


def test_a_folder_of_a_name_that_no_file_can_have_holds_no_record(tmp_path):
    text = f'name = "a"\ntargets = ["cr"]\nstrategies = ["none"]\nout = "{"a" * 300}"\n'
    (tmp_path / "study.toml").write_text(text)
    assert finished(read_plan(tmp_path / "study.toml")) == {}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("learning_rates = [0]", "should hold numbers above 0, or 'auto', not 0"),
        ("learning_rates = [0.1, 0.1]", "should name each once, not 0.1 again"),
        ('instead = ["tfidff"]', "did you mean 'tfidf'"),
        ('instead = ["lora", "lora"]', "should name each once"),
        ('rows = "each"', "should be 'per_seed' or 'fixed'"),
        ('starts = ["instructon"]', "did you mean 'instruction'"),
        ('starts = ["packaged:trec"]', "should hold names of starts alone"),
    ],
)
def test_what_settles_rows_rates_and_rivals_is_checked(tmp_path, line, words):
    refused(tmp_path, f"{line}\n{STUDY}", words)


def test_a_start_that_a_target_cannot_serve_is_passed_over(tmp_path):
    (tmp_path / "bare.toml").write_text('name = "bare"\nrows = "bare.csv"\n')
    (tmp_path / "bare.csv").write_text("text,label\n" + "".join(f"row {n},{n % 2}\n" for n in range(20)))
    text = STUDY.replace('targets = ["cr", "glue/mnli"]', 'targets = ["cr", "bare.toml"]\nstarts = {starts}')
    made = read_plan(write(tmp_path, text.format(starts='["vocabulary", "classes+instruction", "demonstrations:4"]')))
    starts = {task: {c.start for c in made.cells if c.kind == "plain" and c.task == task} for task in ("cr", "bare")}
    assert (
        starts["bare"] == {"vocabulary", "demonstrations:4"} == starts["cr"] - {"classes+instruction"} != starts["cr"]
    )
    refused(
        tmp_path, text.format(starts='["instruction"]'), "starts: instruction alone, but bare has not what they need"
    )


def test_other_words_of_an_instruction_make_other_cells_of_the_runs_that_begin_with_them(tmp_path):
    (tmp_path / "own.csv").write_text("text,label\n" + "".join(f"row {n},{n % 2}\n" for n in range(20)))
    text = STUDY.replace(
        'targets = ["cr", "glue/mnli"]', 'targets = ["own.toml"]\nstarts = ["vocabulary", "instruction"]'
    )

    def digests(instruction: str) -> dict[str, set[str]]:
        (tmp_path / "own.toml").write_text(f'name = "own"\nrows = "own.csv"\ninstruction = "{instruction}"\n')
        cells = read_plan(write(tmp_path, text)).cells
        return {
            start: {c.digest for c in cells if (c.kind, c.start) == ("plain", start)}
            for start in ("vocabulary", "instruction")
        }

    first, other = digests("Say 0 or 1."), digests("Say 1 or 0.")
    assert first["vocabulary"] == other["vocabulary"] and not first["instruction"] & other["instruction"]
