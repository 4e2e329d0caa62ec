"""The loop beyond one prompt on one task: mixtures, the model itself, small memory, stopping, dropout."""

import json

import numpy as np
import pytest
import torch

from spot.collator import Row, collator_for
from spot.config import TuneConfig
from spot.errors import ConfigError
from spot.evaluation.evaluation import Prediction, evaluate, predict, predict_each, vote
from spot.models.backbone import Backbone
from spot.models.dropout import dropout
from spot.storage.run_dir import RunDir
from spot.tasks.splits import Splits
from spot.tasks.task import Example, Task
from spot.training.loop import train
from spot.training.result import read_results
from spot.training.sampling import sample_batches
from spot.training.state import Member
from spot.training.tuning import MODEL, prepare, prepare_members, tune, tune_model

LABELS = ("no", "yes")


def example(number: int, words: str = "row") -> Example:
    text = f"{words} {number:03d} of the table is {('bad', 'fine')[number % 2]}"
    return Example(str(number), f"sentence: {text}", (LABELS[number % 2],), texts=(text,))


def rows_of(words: str = "row") -> Splits:
    return Splits(*(tuple(example(n, words) for n in range(*part)) for part in ((0, 32), (100, 108), (200, 208))))


TASK = Task("toy", lambda split: iter(()), ("train",), LABELS, ("accuracy",))
OTHER = Task("other", lambda split: iter(()), ("train",), ("good", "poor", "odd"), ("accuracy",))
OTHER_ROWS = Splits(
    *(
        tuple(
            Example(f"o{n}", f"item: number {n} " * (1 + n % 3), (OTHER.labels[n % 3],), texts=(f"number {n}",))
            for n in range(*part)
        )
        for part in ((0, 20), (100, 109), (200, 209))
    )
)


def config(**settings) -> TuneConfig:
    base = {
        "task": "toy",
        "backbone": "tiny",
        "steps": 6,
        "length": 3,
        "batch_size": 4,
        "learning_rate": 0.05,
        "eval_every": 2,
        "checkpoint_every": 2,
    }
    return TuneConfig(**{**base, **settings})


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def fingerprint(model: torch.nn.Module) -> str:
    return str([float(part.double().sum()) for part in model.parameters()])


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_model_tuning_equals_a_plain_loop_and_leaves_the_backbone_alone(tiny_folder, tmp_path, family):
    backbone = Backbone.load(str(tiny_folder(family)))
    before = fingerprint(backbone.model)
    run = prepare(config(method="model", learning_rate=0.001, steps=4, eval_every=4), TASK, backbone, rows_of())
    folder = tune_model(run, backbone, tmp_path / "run")
    assert fingerprint(backbone.model) == before
    assert not any(part.requires_grad for part in backbone.model.parameters())

    oracle = Backbone.load(str(tiny_folder(family)))
    oracle.model.requires_grad_(True)
    with RunDir(tmp_path / "plan") as log:
        plan = train([run.__class__(config(steps=0), run.members, torch.zeros(3, backbone.id.width))], backbone, log)
    rows, collator = plan[0].members[0].train, plan[0].members[0].collator
    optimiser = torch.optim.AdamW(oracle.model.parameters(), lr=0.001, weight_decay=0.0)
    for numbers in sample_batches([len(row.input_ids) for row in rows], 4, 4, 0):
        optimiser.zero_grad()
        total = 0.0
        for number in numbers:  # row by row, by transformers' own loss
            row = rows[number]
            if family == "t5":
                output = oracle.model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.target_ids]))
            else:
                ids = torch.tensor([row.input_ids + row.target_ids])
                labels = torch.tensor([[-100] * len(row.input_ids) + list(row.target_ids)])
                output = oracle.model(input_ids=ids, labels=labels)
            total = total + output.loss * len(row.target_ids) / 4
        total.backward()
        optimiser.step()
    result = read_results(RunDir(tmp_path / "run"))[0]
    assert result.step == 4 or result.step == 0
    tuned = Backbone.load(str(folder))
    wanted = oracle if result.step else backbone
    for ours, theirs in zip(tuned.model.parameters(), wanted.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), atol=3e-5, rtol=0)
    assert collator.tokenizer("row")["input_ids"] == tuned.tokenizer("row")["input_ids"]


def test_model_tuning_resumes_with_the_same_bytes(backbone, tmp_path):
    run = prepare(config(method="model", learning_rate=0.002), TASK, backbone, rows_of())
    whole = tune_model(run, backbone, tmp_path / "whole")

    class Stopped(BaseException):
        pass

    def stopping(step: int, _: int) -> None:
        if step == 5:
            raise Stopped

    with pytest.raises(Stopped):
        tune_model(run, backbone, tmp_path / "part", stopping)
    part = tune_model(run, backbone, tmp_path / "part")
    assert (part / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert part.name == MODEL and not list((tmp_path / "part").glob(".model*"))


def test_a_model_is_not_tuned_from_a_prompt(backbone, tmp_path):
    prompt = tune([prepare(config(), TASK, backbone, rows_of())], backbone, tmp_path / "run")[0]
    with pytest.raises(ConfigError, match="method = 'model' trains no prompt"):
        prepare(config(method="model"), TASK, backbone, rows_of(), prompt)


def test_small_steps_in_memory_give_the_same_gradient(backbone, tmp_path):
    prompts = [
        tune(
            [prepare(config(micro_batch=size, batch_size=5), TASK, backbone, rows_of())], backbone, tmp_path / str(size)
        )[0]
        for size in (None, 1, 2)
    ]
    for other in prompts[1:]:
        np.testing.assert_allclose(other.value, prompts[0].value, atol=2e-5)


def test_a_run_by_tokens_is_a_mean_over_the_rows_of_each_step(backbone, tmp_path):
    run = prepare(config(batch_tokens=60, steps=3), TASK, backbone, rows_of())
    tune([run], backbone, tmp_path / "run")
    assert read_results(RunDir(tmp_path / "run"))[0].tokens > 0


def test_patience_ends_a_run_and_a_gang_only_when_all_are_spent(backbone, tmp_path):
    settings = {"steps": 20, "eval_every": 1, "patience": 2}
    still = prepare(config(learning_rate=1e-12, **settings), TASK, backbone, rows_of())
    tune([still], backbone, tmp_path / "still")
    curve = read_results(RunDir(tmp_path / "still"))[0].curve
    assert curve[-1].step < 20
    best = max(range(len(curve)), key=lambda n: (curve[n].score, -curve[n].nats, -n))
    assert len(curve) - 1 - best == 2
    moving = prepare(config(**settings), TASK, backbone, rows_of())
    together = tune([still, moving], backbone, tmp_path / "gang")
    alone = tune([moving], backbone, tmp_path / "moving")[0]
    np.testing.assert_allclose(together[1].value, alone.value, atol=2e-4)
    assert together[1].step == alone.step


@pytest.mark.parametrize("family", ["t5", "gpt2", "opt", "llama"])
def test_dropout_is_seeded_and_leaves_the_model_as_it_was(tiny_folder, family):
    backbone = Backbone.load(str(tiny_folder(family)))
    collator = collator_for(backbone, TASK)
    batch = collator.batch(collator.encode([example(0), example(1)]))
    prompts = torch.randn(1, 3, backbone.id.width, generator=torch.Generator().manual_seed(0))
    plain = backbone.loss(batch, prompts)
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    losses = []
    for seed in (1, 1, 2):
        with dropout(backbone.model, 0.3, seed):
            losses.append(backbone.loss(batch, prompts))
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])
    assert not torch.allclose(losses[0], plain, atol=1e-5)
    assert torch.equal(backbone.loss(batch, prompts), plain)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module.training for module in backbone.model.modules())


def test_dropout_and_models_stand_alone(backbone, tmp_path):
    for setting in ({"dropout": 0.1}, {"method": "model"}):
        runs = [prepare(config(seed=seed, **setting), TASK, backbone, rows_of()) for seed in (0, 1)]
        with pytest.raises(ConfigError, match="in a gang of 2 runs"):
            tune(runs, backbone, tmp_path / "gang")


def test_a_mixture_trains_all_members_and_logs_each(backbone, tmp_path):
    members = (Member(TASK, rows_of(), 0.75), Member(OTHER, OTHER_ROWS, 0.25))
    run = prepare_members(config(steps=8, eval_every=4), members, backbone, name="mixture:both")
    prompt = tune([run], backbone, tmp_path / "run")[0]
    assert prompt.task == "mixture:both"
    assert set(prompt.scores) == {"toy accuracy", "other accuracy"} == set(prompt.frozen_scores)
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    counts = [{name: part["rows"] for name, part in record["members"].items()} for record in records]
    assert counts[0] == {"toy": 0, "other": 0}
    assert [sum(count.values()) for count in counts[1:]] == [16, 16]
    assert sum(count["toy"] for count in counts) > sum(count["other"] for count in counts) > 0
    for record in records:
        scores = [part["score"] for part in record["members"].values()]
        assert record["score"] == pytest.approx(sum(scores) / 2)


def test_a_mixture_resumes_with_the_same_bytes(backbone, tmp_path):
    members = (Member(TASK, rows_of(), 0.5), Member(OTHER, OTHER_ROWS, 0.5))
    run = prepare_members(config(eval_every=3), members, backbone, name="mixture:both")
    whole = tune([run], backbone, tmp_path / "whole")[0]

    class Stopped(BaseException):
        pass

    def stopping(step: int, _: int) -> None:
        if step == 5:
            raise Stopped

    with pytest.raises(Stopped):
        tune([run], backbone, tmp_path / "part", stopping)
    assert tune([run], backbone, tmp_path / "part")[0].digest == whole.digest
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "part")]
    members_of = [[json.loads(line)["members"] for line in log.splitlines()] for log in logs]
    assert members_of[0] == members_of[1]


def test_prompts_that_vote_answer_as_each_alone(backbone):
    collator = collator_for(backbone, OTHER)
    rows = collator.encode(OTHER_ROWS.train)
    prompts = torch.randn(3, 4, backbone.id.width, generator=torch.Generator().manual_seed(0))
    together = predict_each(backbone, prompts, collator, rows)
    for prompt, found in zip(prompts, together, strict=True):
        alone = predict(backbone, prompt, collator, rows)
        for ours, theirs in zip(found, alone, strict=True):
            assert ours.text == theirs.text
            np.testing.assert_allclose(ours.log_probabilities, theirs.log_probabilities, atol=1e-4)


def test_a_vote_goes_to_the_most_and_a_tie_to_the_surest():
    def ballot(*values: float) -> Prediction:
        return Prediction("ab"[int(np.argmax(values))], values)

    sure, unsure = ballot(-0.1, -3.0), ballot(-0.8, -0.6)
    assert vote([[sure], [unsure], [unsure]])[0].text == "b"
    assert vote([[sure], [unsure]])[0].text == "a"
    np.testing.assert_allclose(vote([[sure], [unsure]])[0].log_probabilities, (-0.45, -1.8))
    assert vote([[Prediction("x")], [Prediction("y")], [Prediction("y")]])[0].text == "y"


def test_likelihood_is_the_geometric_mean_of_the_tokens(backbone):
    task = Task("text", lambda split: iter(()), ("train",), (), ("likelihood",))
    examples = [Example(str(n), f"some words {n}", (f"then {n} more words follow",)) for n in range(5)]
    collator = collator_for(backbone, task)
    prompt = torch.randn(2, backbone.id.width, generator=torch.Generator().manual_seed(1))
    found = evaluate(backbone, prompt, task, collator, examples)
    shares = []
    for row in collator.encode(examples):
        vectors = backbone.embeddings()[list(row.input_ids + row.target_ids)]
        logits = backbone.model(inputs_embeds=torch.cat([prompt, vectors])[None]).logits[0].log_softmax(-1)
        places = range(len(row.input_ids) + 1, len(row.input_ids) + 1 + len(row.target_ids))
        logs = [float(logits[place, token]) for place, token in zip(places, row.target_ids, strict=True)]
        shares.append(np.exp(np.mean(logs)))
    assert found.scores["likelihood"] == pytest.approx(100 * np.mean(shares), rel=1e-4)
    assert not found.is_constant and isinstance(collator.encode(examples)[0], Row)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_generated_answers_that_are_no_label_are_wrong_and_counted(tiny_folder, family):
    backbone = Backbone.load(str(tiny_folder(family)))
    collator = collator_for(backbone, TASK)
    prompt = torch.randn(3, backbone.id.width, generator=torch.Generator().manual_seed(0))
    examples = rows_of().selection
    free = evaluate(backbone, prompt, TASK, collator, examples, decode="generate")
    known = sum(prediction.text in LABELS for prediction in free.predictions)
    assert free.invalid == len(examples) - known
    assert free.scores["accuracy"] <= 100 * known / len(examples)
    assert evaluate(backbone, prompt, TASK, collator, examples).invalid == 0


def test_a_causal_answer_without_an_end_is_the_label_that_it_begins_with(backbone):
    collator = collator_for(backbone, TASK)
    assert [collator.answer_in(text) for text in (" yes\nno", "no", " maybe")] == ["yes", "no", "maybe"]
    ending = collator_for(backbone, Task("ends", TASK.load, ("train",), ("no", "not"), ("accuracy",)))
    assert [ending.answer_in(text) for text in (" not", "notable")] == ["not", "notable"]
