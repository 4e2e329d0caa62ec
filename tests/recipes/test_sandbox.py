"""The sandbox: what its words do, how its tasks are related, that it is made once, and what its study must show."""

import json
import shutil
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import AutoTokenizer

from spot.errors import RunError
from spot.metrics.scores import score
from spot.models.backbone import Backbone
from spot.study.config import look_up, read_study
from spot.tasks import registry
from spot.tasks.splits import split_rows
from tests.support.commands import Spot
from tests.support.scripts import script

MODEL = (
    Path(__file__).parents[1] / "data" / "sandbox"
)  # what `python recipes/sandbox.py --out DIR` trains, DIR/backbone


sandbox = script("recipes/sandbox.py")
ALL = (*sandbox.SOURCES, *sandbox.TARGETS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sandbox whose model has seen three batches."""
    out = tmp_path_factory.mktemp("sandbox")
    sandbox.make(out, sandbox.Training(steps=3, batch_size=4))
    return out


@pytest.mark.parametrize(
    ("skill", "said"),
    [
        ("copy", "k3b09m"),
        ("flip", "m90b3k"),
        ("sort", "039bkm"),
        ("next", "l4c10b"),
        ("prev", "j2m98l"),
        ("size", "6"),
        ("max", "m"),
        ("min", "0"),
        ("start", "k"),
        ("end", "m"),
        ("abc copy", "kbm"),
        ("num copy", "309"),
        ("tail copy", "3b09m"),
        ("head copy", "k3b09"),
        ("odd copy", "kb9"),
        ("even copy", "30m"),
        ("num flip", "903"),
        ("even sort", "03m"),
        ("abc size", "3"),
        ("num max", "9"),
        ("head next", "l4c10"),
    ],
)
def test_a_skill_does_its_words_from_left_to_right(skill: str, said: str):
    assert sandbox.answer(skill, "k3b09m") == said


def test_texts_have_five_to_nine_characters_with_two_letters_and_two_digits():
    random = Random(0)
    texts = [sandbox.draw(random) for _ in range(500)]
    assert {len(text) for text in texts} == set(range(5, sandbox.LONGEST + 1))
    assert min(sum(c in sandbox.LETTERS for c in text) for text in texts) == 2
    assert min(sum(c in sandbox.DIGITS for c in text) for text in texts) == 2


@pytest.mark.parametrize("skill", sorted({*ALL, *sandbox.SKILLS}))
def test_every_answer_is_right_by_the_metric_and_nothing_else_is(skill: str):
    pairs = sandbox.rows(skill, {"train": 200}, 0)["train"]
    answers = [(said,) for _, said in pairs]
    assert score(["exact_match"], answers, [said for _, said in pairs]) == {"exact_match": 100.0}
    assert score(["exact_match"], answers, [""] * len(pairs)) == {"exact_match": 0.0}


def test_targets_are_new_to_the_model_and_share_a_word_with_their_family_alone():
    assert len(sandbox.SOURCES) == 16 and len(sandbox.TARGETS) == 10 and len(set(ALL)) == 26
    assert set(sandbox.SOURCES) <= set(sandbox.SKILLS) and not set(sandbox.TARGETS) & set(sandbox.SKILLS)
    for target in sandbox.TARGETS:
        family = sandbox.FAMILIES[target.split()[-1]]
        related = {source for source in sandbox.SOURCES if set(source.split()) & set(target.split())}
        assert target in family.targets and related == set(family.sources) and len(related) >= 2


def test_no_two_tasks_are_one_function():
    random = Random(0)
    texts = [sandbox.draw(random) for _ in range(300)]
    assert len({tuple(sandbox.answer(skill, text) for text in texts) for skill in ALL}) == len(ALL)


def test_every_word_of_a_target_is_known_to_the_model_from_other_skills():
    for target in sandbox.TARGETS:
        for word in target.split():
            assert sum(word in skill.split() for skill in sandbox.SKILLS) >= 4


def test_rows_are_the_same_for_a_seed_and_no_text_stands_twice():
    counts = {"train": 64, "validation": 50, "test": 50}
    drawn = sandbox.rows("num flip", counts, 0)
    assert drawn == sandbox.rows("num flip", counts, 0) != sandbox.rows("num flip", counts, 1)
    assert {split: len(pairs) for split, pairs in drawn.items()} == counts
    assert len({text for pairs in drawn.values() for text, _ in pairs}) == sum(counts.values())
    assert all(said == sandbox.answer("num flip", text) for pairs in drawn.values() for text, said in pairs)


def test_the_tokenizer_has_a_token_for_each_character_and_an_end(made: Path):
    tokenizer = AutoTokenizer.from_pretrained(made / "backbone")
    ids = tokenizer("num flip: k3b0")["input_ids"]
    assert len(ids) == 15 and ids[-1] == tokenizer.eos_token_id and tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "num flip: k3b0"
    assert sandbox._padded(["num flip: k3b0", "b"], 0)[0].tolist() == ids


def test_the_model_is_small_and_loads_as_a_backbone(made: Path):
    backbone = Backbone.load(str(made / "backbone"))
    assert backbone.id.kind == "seq2seq" and 200_000 <= backbone.parameters <= 400_000
    record = json.loads((made / "backbone" / "sandbox.json").read_text())
    assert set(record["skills by name"]) == set(sandbox.SKILLS)
    assert set(record["targets by name"]) == set(sandbox.TARGETS)
    assert set(record["sources without name"]) == set(sandbox.SOURCES)


def test_task_files_can_be_used_and_their_rows_are_apart(made: Path):
    families = json.loads((made / "families.json").read_text())
    assert len(families) == 26 and set(families.values()) == set(sandbox.FAMILIES)
    for name, family in families.items():
        task = registry.get(made / "tasks" / f"{name}.toml")
        assert task.name == name and name.split("-")[-1] == family and task.metrics == ("exact_match",)
        rows = split_rows(task, None, 100, 200, 0)
        assert len(rows.train) == (64 if name.replace("-", " ") in sandbox.TARGETS else 1500)
        assert len(rows.selection) == 100 and len(rows.report) == 200


def test_the_study_can_be_planned(made: Path):
    study = look_up(read_study(made / "study.toml"))
    assert study.config.name == "sandbox" and Path(study.config.backbone) == made / "backbone"
    families = json.loads((made / "families.json").read_text())
    assert [one.task for one in (*study.sources, *study.targets)] == list(families)


def test_a_sandbox_that_is_there_is_used_again(made: Path, monkeypatch: pytest.MonkeyPatch):
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    (made / "tasks" / "flip.toml").unlink()
    monkeypatch.setattr(sandbox, "train_model", lambda training: pytest.fail("trained again"))
    sandbox.make(made, sandbox.Training(steps=3, batch_size=4))
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


def test_a_model_made_in_another_way_is_refused(made: Path):
    with pytest.raises(RunError, match=r"backbone holds a model made with steps = 3, not 4: choose another --out"):
        sandbox.make(made, sandbox.Training(steps=4, batch_size=4))


def test_the_same_seed_trains_the_same_model_and_leaves_torch_alone():
    state = torch.get_rng_state()
    training = sandbox.Training(steps=2, batch_size=4)
    first, second = (sandbox.train_model(training).state_dict() for _ in range(2))
    other = sandbox.train_model(sandbox.Training(steps=2, batch_size=4, seed=1)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["shared.weight"], other["shared.weight"])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.campaign
def test_in_a_small_study_kin_help_are_found_and_a_race_keeps_what_the_oracle_gains(spot: Spot, tmp_path: Path):
    families = {
        "flip": sandbox.Family(("flip", "tail flip"), ("head flip",)),
        "sort": sandbox.Family(("sort", "odd sort"), ("even sort",)),
        "next": sandbox.Family(("tail next", "odd next"), ("even next",)),
    }
    shutil.copytree(MODEL, tmp_path / "backbone")
    study = sandbox.make_study(tmp_path, families, {**sandbox.STUDY, "strategies": ["best", "race"]}, seed=0)

    assert spot("study", "run", study).code == 0
    found = spot("study", "report", study, "--json").json

    nearest = []
    for target in ("head-flip", "even-sort", "even-next"):
        pairs = [one for one in found["transfers"] if one["target"] == target]
        kin = [one for one in pairs if one["source"].split("-")[-1] == target.split("-")[-1]]
        strangers = [one for one in pairs if one not in kin]
        assert (len(kin), len(strangers)) == (2, 4)
        kin_gain, strangers_gain = (sum(one["gain"] for one in some) / len(some) for some in (kin, strangers))
        assert kin_gain > max(0, strangers_gain) + 5
        nearest.append(max(pairs, key=lambda one: one["similarity"]["mean"]) in kin)
    assert all(nearest)
    arms = {(one["kind"], one["k"]): one for one in found["arms"]}
    race, oracle = arms["race", 4], arms["oracle", 0]
    assert race["gain"] >= 0.95 * oracle["gain"] > 0 and race["cost"] <= 2.5
