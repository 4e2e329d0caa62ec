"""How a run learns, on the command line: model tuning, votes of prompts, and settings."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spot.collator import Collator
from spot.models.backbone import Backbone
from spot.prompts.prompt import SoftPrompt, load, save
from spot.storage.run_dir import RunDir
from spot.training.sampling import sample_token_batches
from tests.support.commands import Spot, refused
from tests.support.data_rows import write_jsonl
from tests.support.small_runs import COUNTS, FAST, STEPS, put, rows_of, settings, user_task

# The model itself.


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every input that is tokenised from now on."""
    seen: list[str] = []
    encode = Collator.encode

    def spy(self: Collator, examples: Any) -> Any:
        seen.extend(example.inputs for example in examples)
        return encode(self, examples)

    monkeypatch.setattr(Collator, "encode", spy)
    return seen


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_a_tuned_model_scores_alone_what_its_run_reports(
    spot: Spot, tiny_folder: Callable[[str], Path], tmp_path: Path, family: str
):
    task, common = user_task(tmp_path), ["--backbone", tiny_folder(family)]
    words = ["tune", task, *common, *FAST, "--steps", 8, "--method", "model", *settings(learning_rate=0.01)]
    found = spot(*words, "--out", tmp_path / "run", "--json").json
    folder = Path(found["model"])
    assert folder == tmp_path / "run" / "model" and {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert not (tmp_path / "run" / "prompt.safetensors").exists() and "prompt" not in found
    rows = ["--task", task, "--split", "test", "--json"]
    scored = spot("evaluate", "none", "--backbone", folder, *rows).json
    assert (scored["rows"], scored["scores"]) == (COUNTS["test"], found["scores"])
    assert found["scores"] != found["frozen_scores"]
    assert spot("evaluate", "none", *common, *rows).json["scores"] == found["frozen_scores"]
    text = spot(*words, "--out", tmp_path / "run").out
    assert f"model: {folder}" in text, "a finished run is only read"


def test_a_model_tuned_with_the_task_in_front_is_evaluated_with_it(
    spot: Spot, model: list[str], tmp_path: Path, reading: list[str]
):
    data = put(tmp_path / "data", "glue/sst2")
    words = ["tune", "glue/sst2", *model, "--data", data, *FAST, "--method", "model", *settings(task_prefix="true")]
    folder = spot(*words, "--out", tmp_path / "run", "--json").json["model"]
    assert all(inputs.startswith("sst2 sentence: ") for inputs in reading) and reading
    reading.clear()
    words = ["evaluate", "none", "--backbone", folder, "--task", "glue/sst2", "--split", "test", "--data", data]
    assert not spot(*words).code
    assert reading and all(inputs.startswith("sst2 sentence: ") for inputs in reading)


def test_a_model_tuned_on_short_inputs_is_evaluated_on_short_inputs(
    spot: Spot, model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = put(tmp_path / "data", "glue/sst2")
    limits: list[int] = []
    encode = Collator.encode

    def spy(self: Collator, examples: Any) -> Any:
        limits.append(self.max_input_tokens)
        return encode(self, examples)

    monkeypatch.setattr(Collator, "encode", spy)
    words = ["tune", "glue/sst2", *model, "--data", data, *FAST, "--method", "model", *settings(max_input_tokens=24)]
    folder = spot(*words, "--out", tmp_path / "run", "--json").json["model"]
    assert set(limits) == {24}
    limits.clear()
    words = ["evaluate", "none", "--backbone", folder, "--task", "glue/sst2", "--split", "test", "--data", data]
    assert not spot(*words).code
    assert set(limits) == {24}


def test_a_model_is_not_tuned_from_a_prompt(spot: Spot, model: list[str], prompts: list[Path], tmp_path: Path):
    words = ["tune", user_task(tmp_path), *model, *FAST, "--method", "model", "--init", prompts[0]]
    refused(spot(*words, "--out", tmp_path / "run"), "method = 'model' trains no prompt", str(prompts[0]))
    assert not (tmp_path / "run").exists()


# Votes.


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> list[Path]:
    """Four random prompts of two tokens for the causal model."""
    folder, backbone = tmp_path_factory.mktemp("prompts"), Backbone.load(str(tiny_folder("llama"))).id
    made = []
    for seed in (0, 1, 2, 4):  # none answers as another does, and most give several answers
        value = np.random.default_rng(seed).normal(scale=0.3, size=(2, backbone.width)).astype(np.float32)
        made.append(folder / f"{seed}.safetensors")
        save(SoftPrompt(value=value, backbone=backbone, task="cr", step=1), made[-1])
    return made


def decided(ballots: Sequence[Mapping[str, Any]]) -> str:
    """The label that most ballots name; of several the one with the larger mean log-probability."""
    count = Counter(ballot["label"] for ballot in ballots)
    tied = [label for label in count if count[label] == max(count.values())]
    return max(tied, key=lambda label: np.mean([np.log(ballot["probabilities"][label]) for ballot in ballots]))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_prompts_vote(spot: Spot, prompts: list[Path], tiny_folder: Callable, tmp_path: Path, count: int):
    task, labels, model = tmp_path / "size.toml", ("red", "tan", "sky"), ["--backbone", tiny_folder("llama")]
    right = [labels[number % 3] for number in range(24)]
    write_jsonl(
        tmp_path / "rows.jsonl", ({"text": f"{'ab' * (n % 5)} {n}", "label": label} for n, label in enumerate(right))
    )
    task.write_text('name = "size"\nrows = "rows.jsonl"\ninput = "say: {text}"\n')
    used = prompts[:count]
    words = [*used, "--task", task, "--split", "train", *model]
    found = spot("evaluate", *words, "--json").json
    assert (found["task"], found["rows"], len(found["each"])) == ("size", 24, count)
    ballots = [
        spot("predict", prompt, "--task", task, "--input", tmp_path / "rows.jsonl", *model, "--json").json
        for prompt in used
    ]
    alone = [tuple(answer["label"] for answer in ballot) for ballot in ballots]
    together = tuple(map(decided, zip(*ballots, strict=True)))
    assert len({*alone, together}) >= count, "the prompts differ"

    def accuracy(given: Sequence[str]) -> float:
        return 100 * np.mean([a == b for a, b in zip(given, right, strict=True)])

    assert found["scores"]["accuracy"] == pytest.approx(accuracy(together))
    assert [scores["accuracy"] for scores in found["each"]] == pytest.approx([accuracy(given) for given in alone])
    text = spot("evaluate", *words).out
    assert f"size train, 24 rows: accuracy {accuracy(together):.1f}, macro_f1 " in text
    assert all(
        f"  {prompt} alone: accuracy {accuracy(given):.1f}\n" in text for prompt, given in zip(used, alone, strict=True)
    )


def test_prompts_that_were_trained_on_unlike_inputs_are_not_mixed_silently(
    spot: Spot, model: list[str], tuned: Callable[..., dict[str, Any]], reviews: Path, reading: list[str]
):
    plain, named = tuned()["prompt"], tuned(task_prefix="true")["prompt"]
    for first, second in ((plain, named), (named, plain)):
        reading.clear()
        result = spot("evaluate", first, second, "--split", "test", "--data", reviews, *model)
        read = {inputs.startswith("sst2 ") for inputs in reading}
        assert result.code == 2 or read == {True, False}, "one of the two reads what it was not trained on"


def test_prompts_that_cannot_vote_together(
    spot: Spot, prompts: list[Path], tiny_folder: Callable[[str], Path], t5: Path, tmp_path: Path
):
    words = ["--task", user_task(tmp_path), "--backbone", tiny_folder("llama")]
    first = load(prompts[0])
    for name, value in {"longer": np.ones((3, 32)), "longest": np.ones((5, 32))}.items():
        save(SoftPrompt(value=value.astype(np.float32), backbone=first.backbone, task="cr", step=1), tmp_path / name)
    refused(spot("evaluate", *prompts, tmp_path / "longer", *words), "prompts of [2, 3] tokens cannot vote")
    others = [tmp_path / "longest", tmp_path / "longer"]
    refused(spot("evaluate", prompts[0], *others, *words), "prompts of [2, 3, 5] tokens cannot vote")
    save(SoftPrompt(value=first.value, backbone=Backbone.load(str(t5)).id, task="cr", step=1), tmp_path / "t5")
    refused(spot("evaluate", *prompts, tmp_path / "t5", *words), "tiny-t5 (seq2seq", "tiny-llama (causal")
    refused(spot("evaluate", tmp_path / "t5", *prompts, *words), "tiny-t5 (seq2seq", "tiny-llama (causal")
    refused(spot("evaluate", prompts[0], "none", *words), "none")


# Settings of one task, each through --set.


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put(tmp_path_factory.mktemp("reviews"), "glue/sst2")


@pytest.fixture
def tuned(spot: Spot, model: list[str], reviews: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A function that tunes with settings and gives what the command prints."""
    numbers = iter(range(100))

    def tune(**values: object) -> dict[str, Any]:
        words = ["tune", "glue/sst2", *model, "--data", reviews, *FAST, *settings(**values)]
        return spot(*words, "--out", tmp_path / f"run-{next(numbers)}", "--json").json

    return tune


def test_micro_batches_change_memory_and_not_the_prompt(tuned: Callable[..., dict[str, Any]]):
    whole, parts = tuned(key_step=STEPS), tuned(key_step=STEPS, micro_batch=3)
    assert parts["tokens"] == whole["tokens"] > 0
    ours, theirs = load(parts["prompt"]), load(whole["prompt"])
    assert ours.config["micro_batch"] == 3
    np.testing.assert_allclose(ours.key, theirs.key, atol=5e-4)
    assert not np.allclose(ours.key, ours.start, atol=0.01)


def test_a_budget_of_tokens_decides_how_many_rows_a_step_takes(tuned: Callable[..., dict[str, Any]]):
    found = tuned(batch_tokens=90, seed=3)
    lengths = [len(f"sentence: {row['sentence']}") + 1 for row in rows_of("glue/sst2", "train")]
    assert 90 // max(lengths) == 3
    batches = sample_token_batches(lengths, 90, STEPS, 3)
    assert found["tokens"] == sum(lengths[row] for batch in batches for row in batch)
    assert found["tokens"] <= STEPS * 90 < sum(lengths) and load(found["prompt"]).config["batch_tokens"] == 90


def test_patience_ends_a_run_that_gets_no_better(tuned: Callable[..., dict[str, Any]]):
    found = tuned(learning_rate=1e-12, patience=2, steps=40, eval_every=1)
    records = RunDir(Path(found["prompt"]).parent).read_log()
    best = max(range(len(records)), key=lambda n: (records[n]["score"], -records[n]["nats"], -n))
    assert [record["step"] for record in records] == list(range(best + 3)) and best + 2 < 40
    assert found["step"] == best


def test_dropout_is_drawn_by_the_seed(tuned: Callable[..., dict[str, Any]]):
    plain, one, same, other = (
        load(tuned(key_step=STEPS, **values)["prompt"])
        for values in ({}, {"dropout": 0.4}, {"dropout": 0.4}, {"dropout": 0.4, "seed": 1})
    )
    assert one.digest == same.digest and np.array_equal(one.start, plain.start)
    assert not np.allclose(one.key, plain.key, atol=1e-3) and not np.allclose(one.key, other.key, atol=1e-3)


def test_the_task_in_front_is_read_while_tuning_evaluating_and_predicting(
    spot: Spot,
    tuned: Callable[..., dict[str, Any]],
    reviews: Path,
    model: list[str],
    tmp_path: Path,
    reading: list[str],
):
    plain = tuned()
    assert reading and not any(inputs.startswith("sst2 ") for inputs in reading)
    reading.clear()
    found = tuned(task_prefix="true")
    assert found["tokens"] == plain["tokens"] + 4 * STEPS * len("sst2 ")
    (tmp_path / "lines.txt").write_text("fine\n")
    for words in (
        ["evaluate", found["prompt"], "--split", "test", "--data", reviews],
        ["predict", found["prompt"], "--input", tmp_path / "lines.txt"],
    ):
        assert spot(*words, *model).code == 0
    assert reading[-1] == "sst2 sentence: fine" and all(inputs.startswith("sst2 sentence: ") for inputs in reading)
    scored = spot("evaluate", found["prompt"], "--split", "test", "--data", reviews, *model, "--json").json
    assert scored["scores"] == found["scores"]


def test_no_rows_to_report_is_said_before_anything_trains(spot: Spot, model: list[str], reviews: Path, tmp_path: Path):
    words = ["tune", "glue/sst2", *model, "--data", reviews, *FAST, *settings(report_rows=0)]
    result = spot(*words, "--out", tmp_path / "run", "--json")
    trained = (tmp_path / "run" / "log.jsonl").exists()
    if result.code == 0:
        assert result.json["scores"] == result.json["selection"]
    else:
        refused(result, "report")
        assert not trained, "the mistake was known before the first step"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("batch_tokens=0", "batch_tokens is 0"),
        ("micro_batch=-1", "micro_batch is -1"),
        ("patience=0", "patience is 0"),
        ("dropout=1.0", "dropout is 1.0"),
        ("task_prefix=1", "task_prefix is 1"),
        ("method=modell", "did you mean 'model'"),
    ],
)
def test_settings_out_of_bounds(spot: Spot, tmp_path: Path, setting: str, said: str):
    refused(spot("tune", user_task(tmp_path), *FAST, "--set", setting), f"override '{setting}'", said)
