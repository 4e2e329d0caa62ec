"""A run: what names it, what it starts from, how its rows are read."""

from dataclasses import replace

import pytest
import torch

from spot.errors import ConfigError, TaskError
from spot.models.backbone import Backbone
from spot.reading import Reading
from spot.training.run import Member, prepare_run
from tests.support.toy_runs import LABELS, OTHER, OTHER_SPLITS, SPLITS, TASK, toy_config, toy_run


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def test_a_run_is_named_by_all_that_decides_its_outcome_and_by_nothing_else(backbone):
    base = toy_run(backbone)
    task = base.members[0].task
    for other in ({"metrics": ("macro_f1",)}, {"labels": LABELS[::-1]}, {"revision": "2"}):
        member = replace(base.members[0], task=replace(task, **other))
        assert replace(base, members=(member,)).digest != base.digest, other
    assert replace(base, fingerprint="another model").digest != base.digest
    assert toy_run(backbone, learning_rate=0.01).digest != base.digest
    for same in ({"checkpoint_every": 7}, {"report_rows": 9}, {"gradient_checkpointing": True}):
        assert toy_run(backbone, **same).digest == base.digest, same


def test_a_key_recipe_says_all_that_a_key_depends_on_or_there_is_none(backbone):
    recipe = toy_run(backbone, key_step=2, init_seed=3).key_recipe
    assert (recipe.step, recipe.length, recipe.init, recipe.init_seed) == (2, 3, "vocabulary", 3)
    assert (recipe.optimiser, recipe.learning_rate, recipe.batch_size) == ("adamw", 0.05, 4)
    assert toy_run(backbone).key_recipe is None
    assert toy_run(backbone, key_step=2, dropout=0.1).key_recipe is None


def test_rows_of_a_mixture_are_read_by_what_its_members_have_in_common(backbone):
    def reading(*cues: str | None) -> Reading:
        members = [
            Member(replace(task, reading=replace(task.reading, cue=cue)), splits)
            for task, splits, cue in zip((TASK, OTHER), (SPLITS, OTHER_SPLITS), cues, strict=True)
        ]
        return prepare_run(toy_config(max_input_tokens=50), members, backbone, name="mixture:both").reading

    assert reading("?", "?").cue == "?" and reading("?", "?").words == ()
    assert reading("?", "?").max_input_tokens == 50 and not reading(None, None).task_prefix
    with pytest.raises(TaskError, match="the tasks of a mixture read rows differently"):
        reading("?", "!")
    assert toy_run(backbone).reading.words == LABELS


def test_the_prompt_of_a_mixture_keeps_the_prefix(backbone):
    members = (Member(TASK, SPLITS, 0.5), Member(OTHER, OTHER_SPLITS, 0.5))
    assert prepare_run(toy_config(task_prefix=True), members, backbone, name="mixture:both").reading.task_prefix


def test_a_mixture_has_no_token_budget(backbone):
    members = (Member(TASK, SPLITS, 0.5), Member(OTHER, OTHER_SPLITS, 0.5))
    with pytest.raises(ConfigError, match="batch_tokens is for one task"):
        prepare_run(toy_config(batch_tokens=90), members, backbone)


def test_a_member_without_report_rows_trains_the_same_run(backbone):
    run = toy_run(backbone)
    [member] = run.members
    blind = replace(run, members=(member.unreported,))
    assert blind.members[0].splits.report == () and blind.digest == run.digest
    assert torch.equal(blind.start, run.start)
