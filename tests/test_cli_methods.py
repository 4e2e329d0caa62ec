"""Mixtures, model tuning, votes and settings on the command line, and test rows that stay closed until the report."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import Spot, call, refused
from spot.backbone import Backbone
from spot.batching import Collator, plan_token_batches
from spot.cli import tune as tune_command
from spot.config import TransferConfig, TuneConfig
from spot.errors import TaskError
from spot.library import Library
from spot.prompt import SoftPrompt, load, save
from spot.runs import RunDir
from spot.tasks.base import Example, LateRows, Roles, Task, roles
from spot.tasks.registry import TABLE, get
from spot.transfer import transfer
from spot.tuning import tune_prompt

STEPS = 4
SETTINGS = ("batch_size=4", "eval_every=2", "learning_rate=0.05", "checkpoint_every=2")
FAST = ["--steps", STEPS, "--length", 3, *(word for setting in SETTINGS for word in ("--set", setting))]


@pytest.fixture
def spot(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Spot:
    monkeypatch.delenv("SPOT_DATA", raising=False)
    return lambda *words: call(capsys, *words)


def settings(**values: object) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


# Small data folders: the texts of a split are its own, and tell the label.

MAKERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "cr": lambda text: {"text": text},
    "glue/sst2": lambda text: {"sentence": text},
    "glue/mrpc": lambda text: {"sentence1": text, "sentence2": f"again {text}"},
    "glue/qqp": lambda text: {"question1": text, "question2": f"or {text}?"},
    "glue/stsb": lambda text: {"sentence1": text, "sentence2": f"so {text}"},
    "cxc": lambda text: {"sentence1": text, "sentence2": f"as {text}"},
}
COUNTS = {"train": 20, "validation": 8, "test": 10}


def rows_of(name: str, split: str, count: int | None = None) -> list[dict[str, Any]]:
    rows = []
    for number in range(COUNTS[split] if count is None else count):
        row = MAKERS[name](f"{split} {'bad' if number % 2 else 'fine'} {number:02d}")
        answer = {"score": number % 6} if name == "cxc" else {"label": number % 2}
        rows.append({**row, **({"label": number / 5} if name == "glue/stsb" else answer)})
    return rows


def path_of(data: Path, name: str, split: str) -> Path:
    return data / (TABLE[name].folder or name.replace("/", "_")) / f"{split}.jsonl"


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def put(data: Path, *names: str) -> Path:
    for name in names:
        for split in TABLE[name].splits:
            write(path_of(data, name, split), rows_of(name, split))
    return data


def user_task(folder: Path, name: str = "mood") -> Path:
    """A task file with a file a split; words of one length, so that a random model gives now the one, now the other."""
    folder.mkdir(exist_ok=True)
    for split in COUNTS:
        write(folder / f"{name}-{split}.jsonl", rows_of("cr", split))
    files = ", ".join(f'{split} = "{name}-{split}.jsonl"' for split in COUNTS)
    path = folder / f"{name}.toml"
    form = 'input = "say: {text}"\nlabels = { 0 = "red", 1 = "sky" }\n'
    path.write_text(f'name = "{name}"\nrows = {{ {files} }}\n{form}')
    return path


@pytest.fixture(scope="module")
def t5(tiny_folder: Callable[[str], Path]) -> Path:
    return tiny_folder("t5")


@pytest.fixture(scope="module")
def model(t5: Path) -> list[str]:
    return ["--backbone", str(t5)]


# Mixtures.

PARAPHRASE = ("cxc", "glue/mrpc", "glue/qqp", "glue/stsb")


@pytest.fixture(scope="module")
def paraphrase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put(tmp_path_factory.mktemp("paraphrase"), *PARAPHRASE)


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_a_mixture_by_name_is_tuned_and_scored_task_by_task(
    spot: Spot, tiny_folder: Callable[[str], Path], paraphrase: Path, tmp_path: Path, family: str
):
    common = ["--backbone", tiny_folder(family), "--data", paraphrase]
    found = spot("tune", "mixture:paraphrase", *common, *FAST, "--out", tmp_path / "run", "--json").json
    assert found["task"] == "mixture:paraphrase" == load(found["prompt"]).task
    wanted = {f"{name} {metric}" for name in ("glue/mrpc", "glue/qqp") for metric in ("f1", "accuracy")}
    assert wanted < set(found["scores"]) == set(found["frozen_scores"]) == set(found["selection"])
    assert {key.split()[0] for key in found["scores"]} == set(PARAPHRASE)
    for name in ("glue/mrpc", "glue/stsb"):  # a test split reports, which the prompt can be scored on again
        words = ["--task", name, "--split", "test", *common, "--json"]
        for prompt, key in ((tmp_path / "run", "scores"), ("none", "frozen_scores")):
            scored = spot("evaluate", prompt, *words).json["scores"]
            assert scored == {k.removeprefix(f"{name} "): v for k, v in found[key].items() if k.startswith(name)}
    records = RunDir(tmp_path / "run").read_log()
    drawn = Counter()
    for record in records:
        drawn.update({name: part["rows"] for name, part in record["members"].items()})
    assert set(drawn) == set(PARAPHRASE) and drawn.total() == 4 * STEPS
    refused(spot("evaluate", tmp_path / "run", *common), "'mixture:paraphrase' is not known here", "--task")
    text = spot("tune", "mixture:paraphrase", *common, *FAST, "--out", tmp_path / "run").out
    parts = [roles(get(name, paraphrase), None, 100, 400, 0) for name in PARAPHRASE]
    assert f"on {sum(len(part.report) for part in parts)} rows (without a prompt: " in text
    assert f"chosen on {sum(len(part.select) for part in parts)} other rows" in text


def test_a_mixture_by_file_draws_by_its_rates(spot: Spot, model: list[str], tmp_path: Path):
    data = put(tmp_path / "data", "cr", "glue/sst2")
    user_task(tmp_path)
    mixture = tmp_path / "mixture.toml"
    rates = '[rates]\ncr = 1\n"glue/sst2" = 1\n"mood.toml" = 6\n'
    mixture.write_text(f'name = "mine"\ntasks = ["cr", "glue/sst2", "mood.toml"]\n{rates}')
    words = [*model, "--data", data, *FAST, "--steps", 12, "--out", tmp_path / "run"]
    found = spot("tune", mixture, *words, "--json").json
    assert found["task"] == "mixture:mine"
    assert set(found["scores"]) == {"cr accuracy", "glue/sst2 accuracy", "mood accuracy"}
    drawn = Counter()
    for record in RunDir(tmp_path / "run").read_log():
        drawn.update({name: part["rows"] for name, part in record["members"].items()})
    for name, share in {"cr": 1 / 8, "glue/sst2": 1 / 8, "mood": 6 / 8}.items():
        assert abs(drawn[name] - share * 48) <= 3
    for task, name in ((tmp_path / "mood.toml", "mood"), ("glue/sst2", "glue/sst2")):
        scored = spot("evaluate", tmp_path / "run", "--task", task, "--split", "test", *model, "--data", data, "--json")
        assert scored.json["scores"] == {"accuracy": found["scores"][f"{name} accuracy"]}


def test_a_mixture_that_was_interrupted_goes_on_to_the_same_bytes(
    spot: Spot, model: list[str], paraphrase: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = ["tune", "mixture:paraphrase", *model, "--data", paraphrase, *FAST, "--steps", 8, *settings(key_step=4)]
    assert spot(*words, "--out", tmp_path / "whole").code == 0
    for stop in (3, 6):
        folder = tmp_path / f"part-{stop}"
        with hooked(monkeypatch, stop, interrupt):
            result = spot(*words, "--out", folder)
        assert (result.code, result.out) == (130, "") and "goes on from the last checkpoint" in result.err
        assert not (folder / "prompt.safetensors").exists()
        steps: list[int] = []
        with hooked(monkeypatch, None, None, steps):
            assert spot(*words, "--out", folder).code == 0
        assert steps[0] == stop // 2 * 2 + 1, "nothing before the checkpoint is done again"
        assert (folder / "prompt.safetensors").read_bytes() == (tmp_path / "whole" / "prompt.safetensors").read_bytes()


def interrupt() -> None:
    raise KeyboardInterrupt


@contextmanager
def hooked(
    monkeypatch: pytest.MonkeyPatch, at: int | None, action: Callable[[], None] | None, seen: list[int] | None = None
) -> Iterator[None]:
    """Within it `spot tune` calls `action` when training step `at` is done, the first time; and lists its steps."""
    waiting = True

    def step(done: int, total: int) -> None:
        nonlocal waiting
        if seen is not None:
            seen.append(done)
        if waiting and done == at and action is not None:
            waiting = False
            action()

    @contextmanager
    def progress(label: str) -> Iterator[Callable[[int, int], None]]:
        yield step if label.startswith("tuning ") else lambda done, total: None

    with monkeypatch.context() as patch:
        patch.setattr(tune_command, "progress", progress)
        yield


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
    write(tmp_path / "rows.jsonl", ({"text": f"{'ab' * (n % 5)} {n}", "label": label} for n, label in enumerate(right)))
    task.write_text('name = "size"\nrows = "rows.jsonl"\ninput = "say: {text}"\n')
    used = prompts[:count]
    words = [*used, "--task", task, "--split", "train", *model]
    found = spot("evaluate", *words, "--json").json
    assert (found["task"], found["rows"], len(found["each"])) == ("size", 24, count)
    ballots = [spot("predict", prompt, "--task", task, "--input", tmp_path / "rows.jsonl", *model, "--json").json
               for prompt in used]  # fmt: skip
    alone = [tuple(answer["label"] for answer in ballot) for ballot in ballots]
    together = tuple(map(decided, zip(*ballots, strict=True)))
    assert len({*alone, together}) >= count, "the prompts differ"

    def accuracy(given: Sequence[str]) -> float:
        return 100 * np.mean([a == b for a, b in zip(given, right, strict=True)])

    assert found["scores"]["accuracy"] == pytest.approx(accuracy(together))
    assert [scores["accuracy"] for scores in found["each"]] == pytest.approx([accuracy(given) for given in alone])
    text = spot("evaluate", *words).out
    assert f"size train, 24 rows: accuracy {accuracy(together):.1f}\n" in text
    assert all(f"  {prompt} alone: accuracy {accuracy(given):.1f}\n" in text
               for prompt, given in zip(used, alone, strict=True))  # fmt: skip


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
    batches = plan_token_batches(lengths, 90, STEPS, 3)
    assert found["tokens"] == sum(lengths[row] for batch in batches for row in batch)
    assert found["tokens"] <= STEPS * 90 < sum(lengths) and load(found["prompt"]).config["batch_tokens"] == 90


def test_patience_ends_a_run_that_gets_no_better(tuned: Callable[..., dict[str, Any]]):
    found = tuned(learning_rate=1e-12, patience=2, steps=40, eval_every=1)
    records = RunDir(Path(found["prompt"]).parent).read_log()
    best = max(range(len(records)), key=lambda n: (records[n]["score"], -records[n]["nats"], -n))
    assert [record["step"] for record in records] == list(range(best + 3)) and best + 2 < 40
    assert found["step"] == best


def test_dropout_is_drawn_by_the_seed(tuned: Callable[..., dict[str, Any]]):
    plain, one, same, other = (load(tuned(key_step=STEPS, **values)["prompt"]) for values in (
        {}, {"dropout": 0.4}, {"dropout": 0.4}, {"dropout": 0.4, "seed": 1}
    ))  # fmt: skip
    assert one.digest == same.digest and np.array_equal(one.start, plain.start)
    assert not np.allclose(one.key, plain.key, atol=1e-3) and not np.allclose(one.key, other.key, atol=1e-3)


def test_the_task_in_front_is_read_while_tuning_evaluating_and_predicting(
    spot: Spot, tuned: Callable[..., dict[str, Any]], reviews: Path, model: list[str], tmp_path: Path,
    reading: list[str],
):  # fmt: skip
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


def test_no_rows_to_report_is_said_before_anything_trains(
    spot: Spot, model: list[str], reviews: Path, tmp_path: Path
):
    words = ["tune", "glue/sst2", *model, "--data", reviews, *FAST, *settings(report_rows=0)]
    result = spot(*words, "--out", tmp_path / "run", "--json")
    trained = (tmp_path / "run" / "log.jsonl").exists()
    if result.code == 0:
        assert result.json["scores"] == result.json["selection"]
    else:
        refused(result, "report")
        assert not trained, "the mistake was known before the first step"


# Mixtures and settings that cannot be used.


def test_mixtures_that_cannot_be_used(spot: Spot, model: list[str], tmp_path: Path):
    data = put(tmp_path / "data", "cr", "glue/sst2", "glue/stsb")
    user_task(tmp_path)
    words = [*model, "--data", data, *FAST, "--out", tmp_path / "run"]
    refused(spot("tune", "mixture:parafrase", *words), "no mixture 'parafrase'", "did you mean 'paraphrase'")
    mixed = tmp_path / "mixed.toml"
    mixed.write_text('name = "mine"\ntasks = ["cr", "glue/stsb", "mood.toml"]\n')
    refused(
        spot("tune", mixed, *words), "mixture:mine", "different forms", "label: cr, mood; number: glue/stsb", '"any"'
    )
    mixed.write_text('name = "mine"\ntasks = ["cr", "glue/sst"]\n')
    refused(spot("tune", mixed, *words), "mixed.toml", "unknown task 'glue/sst'", "did you mean 'glue/sst2'")
    mixed.write_text('name = "mine"\ntasks = ["cr", "none.toml"]\n')
    refused(spot("tune", mixed, *words), "mixed.toml", "there is no file", "none.toml")
    refused(spot("tune", "mixture:glue", *words), "no rows for glue/cola, split validation", "cola/validation.jsonl")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["empty file", "no example"])
def test_a_member_without_rows_is_named(spot: Spot, model: list[str], tmp_path: Path, kind: str):
    data = put(tmp_path / "data", "cr")
    if kind == "empty file":
        put(data, "glue/sst2")
        path_of(data, "glue/sst2", "train").write_text("")
        name, said = "glue/sst2", "sst2/train.jsonl is empty"
    else:
        row = {"text": "a cat saw it", "span1_text": "a cat", "span2_text": "it", "span2_index": 3, "label": 0}
        for split, count in (("train", 6), ("validation", 12)):
            write(data / "wsc" / f"{split}.jsonl", [{**row, "text": f"a cat saw it {n}"} for n in range(count)])
        name, said = "superglue/wsc", "superglue/wsc has no row left to train"
    mixture = tmp_path / "mixed.toml"
    mixture.write_text(f'name = "mine"\ntasks = ["cr", "{name}"]\noutputs = "any"\n')
    refused(spot("tune", mixture, *model, "--data", data, *FAST), said)


def test_a_budget_of_tokens_is_for_one_task(spot: Spot, model: list[str], paraphrase: Path, tmp_path: Path):
    words = ["tune", "mixture:paraphrase", *model, "--data", paraphrase, *FAST, *settings(batch_tokens=90)]
    refused(spot(*words, "--out", tmp_path / "run"), "batch_tokens is for one task", "batch_size")
    assert not (tmp_path / "run").exists()


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


# Test rows are read when training is done, and not before.

GARBAGE = "{this is no row\n"


@dataclass(frozen=True)
class Closed:
    """A task whose test split can be opened later."""

    task: object
    data: Path
    file: Path  # of the test split
    content: str

    def shut(self) -> None:
        self.file.write_text(GARBAGE)

    def open(self) -> None:
        self.file.write_text(self.content)


def close_later(kind: str, folder: Path) -> Closed:
    data = put(folder / "data", "glue/sst2", "cr")
    file = path_of(data, "glue/sst2", "test")
    task: object = "glue/sst2"
    if kind == "task file":
        task, file = user_task(folder), folder / "mood-test.jsonl"
    elif kind == "mixture":
        task = folder / "mixture.toml"
        task.write_text('name = "mine"\ntasks = ["cr", "glue/sst2"]\n')
    return Closed(task, data, file, file.read_text())


KINDS = pytest.mark.parametrize(
    ("kind", "method"), [("known", "prompt"), ("known", "model"), ("task file", "prompt"), ("mixture", "prompt")]
)


@KINDS
def test_a_test_split_that_opens_after_the_last_step_is_early_enough(
    spot: Spot, model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, method: str
):
    closed = close_later(kind, tmp_path)
    words = ["tune", closed.task, *model, "--data", closed.data, *FAST, "--method", method, "--json", "--out"]
    whole = spot(*words, tmp_path / "whole").json
    closed.shut()
    with hooked(monkeypatch, STEPS, closed.open):
        late = spot(*words, tmp_path / "late").json
    kept = ("task", "scores", "frozen_scores", "selection", "step", "steps", "tokens")
    assert {key: late[key] for key in kept} == {key: whole[key] for key in kept}
    assert late["scores"] != {} and set(late["scores"]) == set(late["selection"])


@KINDS
def test_a_test_split_that_cannot_be_read_is_said_at_the_report_and_the_training_is_kept(
    spot: Spot, model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, method: str
):
    closed = close_later(kind, tmp_path)
    words = ["tune", closed.task, *model, "--data", closed.data, *FAST, "--method", method, "--out"]
    whole = spot(*words, tmp_path / "whole", "--json").json
    closed.shut()
    steps: list[int] = []
    with hooked(monkeypatch, None, None, steps):
        refused(spot(*words, tmp_path / "run"), f"{closed.file}, line 1: not JSON")
    assert steps[:STEPS] == list(range(1, STEPS + 1)), "every step was trained"
    log = (tmp_path / "run" / "log.jsonl").read_bytes()
    assert [record["step"] for record in RunDir(tmp_path / "run").read_log()] == [0, 2, 4]
    closed.open()
    found = spot(*words, tmp_path / "run", "--json").json
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == log, "nothing is trained a second time"
    assert (found["scores"], found["step"]) == (whole["scores"], whole["step"])
    name = "prompt.safetensors" if method == "prompt" else "model/model.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("kind", ["known", "task file"])
@pytest.mark.parametrize("found", ["nothing", "a folder"])
def test_a_test_file_that_is_none_is_one_message(
    spot: Spot, model: list[str], tmp_path: Path, kind: str, found: str
):
    closed = close_later(kind, tmp_path)
    closed.file.unlink()
    if found == "a folder":
        closed.file.mkdir()
    words = ["tune", closed.task, *model, "--data", closed.data, *FAST, "--out", tmp_path / "run"]
    refused(spot(*words), str(closed.file))


# The same for a transfer.

LABELS = ("no", "yes")


def named(name: str) -> Task:
    return Task(name, lambda split: iter(()), ("train",), LABELS, ("accuracy",))


def rows(word: str, *numbers: int) -> tuple[Example, ...]:
    texts = [f"a {word} row with the number {number:04d}" for number in range(*numbers)]
    return tuple(Example(text, text, (LABELS[n % 2],), texts=(text,)) for n, text in enumerate(texts, numbers[0]))


@pytest.fixture(scope="module")
def sources(t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder, backbone = tmp_path_factory.mktemp("sources"), Backbone.load(str(t5))
    library = Library.create(folder / "library")
    for word in ("red", "green"):
        config = TuneConfig(task=word, backbone=str(t5), steps=4, length=3, batch_size=4, learning_rate=0.05,
                            eval_every=2, key_step=3)  # fmt: skip
        parts = Roles(rows(word, 0, 16), rows(word, 100, 108), rows(word, 200, 208))
        library.add(tune_prompt(config, named(word), backbone, parts, out=folder / word))
    return library


def test_a_transfer_reads_no_report_row_before_the_last_arm_is_tuned(t5: Path, sources: Library, tmp_path: Path):
    backbone = Backbone.load(str(t5))
    train, select, report = rows("toy", 0, 16), rows("toy", 100, 108), rows("toy", 200, 210)
    config = TransferConfig(steps=4, seeds=1, eval_every=2, k=2, starts=("vocabulary", "uniform"),
                            model_learning_rate=0.001)  # fmt: skip
    gangs = {"plain-vocabulary", "plain-uniform", "spot-0", "spot-1", "model-0"}
    reads: list[bool] = []
    is_shut = True

    def read() -> tuple[Example, ...]:
        finished = {"-".join(path.parent.name.split("-")[:2]) for path in tmp_path.glob("out/*/result.json")}
        assert finished == gangs and not (tmp_path / "out" / "report-rows").exists()
        reads.append(is_shut)
        if is_shut:
            raise TaskError("test.jsonl: not now")
        return report

    def run(out: Path, rows: Any, steps: list[tuple[int, int]]) -> Any:
        return transfer(named("toy"), Roles(train, select, rows), backbone, sources, config, out=out,
                        progress=lambda *at: steps.append(at))  # fmt: skip

    first: list[tuple[int, int]] = []
    with pytest.raises(TaskError, match="not now"):
        run(tmp_path / "out", LateRows(read), first)
    assert len(first) >= 5 * 4, "five arms were tuned"
    made = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.safetensors")}
    is_shut = False
    again: list[tuple[int, int]] = []
    found = run(tmp_path / "out", LateRows(read), again)
    assert reads == [True, False], "rows are read once"
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.safetensors")} == made
    assert not [at for at in again if at[1] == 4], "nothing is tuned a second time"
    wanted = run(tmp_path / "whole", report, [])
    assert [(arm.arm, arm.scores) for arm in found.arms] == [(arm.arm, arm.scores) for arm in wanted.arms]
    assert (found.chosen, found.gain, found.rows) == (wanted.chosen, wanted.gain, wanted.rows)
