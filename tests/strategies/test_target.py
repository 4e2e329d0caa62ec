"""The runs of a target: its task embedding, its settings, its seeds."""

import numpy as np
import pytest

from spot.errors import ConfigError
from spot.prompts.prompt import load
from spot.strategies.target import TargetRuns, embed_target, recipe_config
from spot.strategies.transfers import transfer_rows
from tests.support.toy_runs import named, toy_config, word_splits
from tests.support.toy_transfers import CONFIG


def test_the_embedding_comes_from_the_plain_run_and_equals_a_run_of_its_own(backbone, library, tmp_path):
    transfer_rows(named("toy"), word_splits("toy"), backbone, library, CONFIG, out=tmp_path / "transfer")
    plain = load(tmp_path / "transfer" / "plain-vocabulary" / "prompt.safetensors")
    alone = embed_target(named("toy"), word_splits("toy"), backbone, library.key_recipe, out=tmp_path / "alone")
    assert np.array_equal(plain.key, alone.key) and np.array_equal(plain.start, alone.start)
    assert plain.key_recipe == alone.key_recipe == library.key_recipe


def test_a_run_by_a_recipe_must_reach_its_key_step(library):
    recipe = library.key_recipe
    config = recipe_config(named("toy"), recipe, steps=9, eval_every=3)
    assert (config.task, config.steps, config.eval_every, config.key_step) == ("toy", 9, 3, recipe.step)
    assert (config.length, config.learning_rate, config.batch_size) == (recipe.length, recipe.learning_rate, 4)
    with pytest.raises(ConfigError, match="steps = 2 ends before the library's key step 3"):
        recipe_config(named("toy"), recipe, steps=2, eval_every=1)


def test_all_seeds_of_a_run_share_its_start_and_see_no_report_rows(backbone, tmp_path):
    splits = word_splits("toy")
    target = TargetRuns(
        task=named("toy"), splits=splits, backbone=backbone, config=toy_config(key_step=2), seeds=3, out=tmp_path
    )
    run = target.prepare(target.unkeyed_config)
    gang = target.with_seeds(run)
    assert [seeded.config.seed for seeded in gang] == [0, 1, 2] and run.config.key_step is None
    assert all(seeded.start is run.start for seeded in gang)
    assert all(member.splits.report == () for seeded in gang for member in seeded.members)
    assert target.splits is splits
