"""A run: what names it, what it starts from, how its rows are read."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spot.collator import collator_for
from spot.errors import ConfigError, TaskError
from spot.models.backbone import Backbone
from spot.prompts.prompt import load
from spot.reading import Reading
from spot.tasks.instructions import proposed_instruction
from spot.tasks.task import Example, Task
from spot.training.run import Member, Run, prepare_run, prepare_run_from
from spot.training.tuning import tune_runs
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


def test_a_key_recipe_leaves_out_what_has_no_effect_and_says_how_a_rate_falls(backbone):
    plain = toy_run(backbone, key_step=2).key_recipe
    assert toy_run(backbone, key_step=2, bottleneck=7, network_learning_rate=0.5, decay_steps=4).key_recipe == plain
    network = toy_run(backbone, key_step=2, bottleneck=7, reparameterise="mlp").key_recipe
    assert (network.reparameterise, network.bottleneck) == ("mlp", 7)
    falling = toy_run(backbone, key_step=2, decay="linear", warmup_steps=1).key_recipe
    assert (falling.decay, falling.decay_steps, falling.warmup_steps) == ("linear", 6, 1)
    # What embeds a target stops at the key step, and must have had the same rates until there.
    short = toy_run(backbone, key_step=2, decay="linear", warmup_steps=1, steps=2, decay_steps=6).key_recipe
    assert short == falling


# Starts.

ASKED = replace(TASK, instruction="Say <eos> whether the row is fine.")


def started(backbone: Backbone, init: str, *tasks: Task, **settings) -> Run:
    members = [Member(task, SPLITS) for task in tasks or (ASKED,)]
    return prepare_run(toy_config(init=init, **{"length": 60, **settings}), members, backbone)


def test_an_instruction_is_a_text_in_which_no_special_token_is_read(backbone):
    plain = replace(TASK, instruction="Say whether the row is fine.")
    words = toy_run(backbone, init=f"text:{plain.instruction}", length=60).start
    assert torch.equal(started(backbone, "instruction", plain).start, words)
    special = backbone.embeddings()[backbone.tokenizer.all_special_ids]
    start = started(backbone, "instruction").start
    assert not any(torch.equal(row, one) for row in start for one in special)


def test_a_mixture_starts_from_what_each_task_asks_once(backbone):
    other = replace(TASK, name="other", instruction="And so on.")
    start = started(backbone, "instruction", ASKED, other, ASKED, length=80).start
    texts = [started(backbone, "instruction", task, length=len(task.instruction)).start for task in (ASKED, other)]
    assert torch.equal(start[: sum(map(len, texts))], torch.cat(texts))


def test_where_nobody_says_what_is_asked_the_labels_do(backbone):
    words = proposed_instruction(TASK)
    assert "no, yes" in words
    start = started(backbone, "instruction", TASK, length=len(words)).start
    assert torch.equal(start, toy_run(backbone, init=f"text:{words}", length=len(words)).start)


def test_an_instruction_follows_another_start_and_takes_half_at_most(backbone):
    whole, half = (started(backbone, "classes+instruction", length=length).start for length in (100, 20))
    size = len(started(backbone, "instruction").members[0].task.instruction)
    asked = started(backbone, "instruction", length=size).start
    assert torch.equal(whole[-size:], asked) and torch.equal(half[-10:], asked[:10])
    assert torch.equal(whole[:-size], started(backbone, "classes", length=100 - size).start)
    assert torch.equal(half[:10], started(backbone, "classes", length=10).start)


@pytest.fixture
def source(backbone, tmp_path) -> Path:
    return tune_runs([toy_run(backbone, length=8, steps=1)], backbone, tmp_path / "source")[0].path


def test_an_instruction_follows_a_source_in_what_it_leaves_or_in_half(backbone, source):
    value = torch.from_numpy(load(source).value.copy())
    longer, equal = (started(backbone, f"{source}+instruction", length=length) for length in (20, 8))
    asked = started(backbone, "instruction", length=12).start
    assert torch.equal(longer.start, torch.cat([value, asked]))
    assert torch.equal(equal.start, torch.cat([value[:4], asked[:4]]))
    assert longer.parents[0].digest == load(source).digest and longer.initialiser == "prompt+instruction"
    given = prepare_run_from(longer.config, longer.members, backbone, [load(source)], is_instructed=True)
    assert torch.equal(given.start, longer.start) and given.digest == longer.digest
    plain = prepare_run(toy_config(init=str(source), length=8), longer.members, backbone)
    assert torch.equal(plain.start, value) and plain.initialiser == "prompt"


def rendered(backbone: Backbone, row: Example) -> list[int]:
    """A row with its answer, as a batch holds it, and a blank line behind."""
    [encoded] = collator_for(backbone, TASK).encode([row])
    ids = [*encoded.input_ids, *encoded.target_ids, *backbone.tokenizer("\n\n", add_special_tokens=False)["input_ids"]]
    return [token for token in ids if token not in backbone.tokenizer.all_special_ids]


def test_demonstrations_are_rows_that_train_balanced_over_labels_the_last_one_whole(backbone):
    embeddings = backbone.embeddings()
    token_of = {tuple(row.tolist()): token for token, row in enumerate(embeddings)}
    rows = {tuple(rendered(backbone, row)): row.answers[0] for row in SPLITS.train}
    orders = set()
    for seed in range(3):
        start = started(backbone, "demonstrations:4", length=300, init_seed=seed).start
        ids = [token_of[tuple(row.tolist())] for row in start]
        found: list[str] = []
        while len(found) < 4:
            size = next(size for size in range(1, len(ids)) if tuple(ids[-size:]) in rows)
            found.append(rows[tuple(ids[-size:])])
            ids = ids[:-size]
        assert sorted(found) == ["no", "no", "yes", "yes"]
        orders.add(tuple(start.flatten().tolist()))
        assert torch.equal(started(backbone, "demonstrations:4", length=300, init_seed=seed).start, start)
    assert len(orders) == 3


def test_demonstrations_that_do_not_fit_are_left_out_aloud_and_none_is_an_error(backbone, caplog):
    shortest = min(len(rendered(backbone, row)) for row in SPLITS.train)
    started(backbone, "demonstrations:5", length=2 * shortest + 3)
    assert "of 5 demonstrations fit a prompt of" in caplog.text
    with pytest.raises(ConfigError, match=f"0 of 3 rows fit a prompt of 9 tokens, the shortest takes {shortest}"):
        started(backbone, "demonstrations:3", length=9)
    unanswered = Member(TASK, replace(SPLITS, train=(Example("1", "a text", ()),)))
    with pytest.raises(TaskError, match="no row of toy that trains has an answer"):
        prepare_run(toy_config(init="demonstrations:2"), (unanswered,), backbone)


def test_a_demonstration_spells_no_special_token(backbone):
    typed = Example("1", "a <eos> text", ("yes",), texts=("a <eos> text",))
    member = Member(TASK, replace(SPLITS, train=(typed,)))
    start = prepare_run(toy_config(init="demonstrations:1", length=60), (member,), backbone).start
    special = backbone.embeddings()[backbone.tokenizer.all_special_ids]
    assert not any(torch.equal(row, one) for row in start for one in special)


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
