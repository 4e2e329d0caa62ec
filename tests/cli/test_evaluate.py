"""What `spot evaluate` and `spot predict` read: settings that a score depends on, and rows that can be scored."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spot.metrics.scores import GLUE, SUPERGLUE, glue_average, superglue_average
from spot.models.backbone import Backbone
from spot.prompts.prompt import SoftPrompt, load, save
from spot.tasks.registry import TABLE
from tests.support import commands
from tests.support.commands import Result, Spot, call
from tests.support.data_rows import write_split
from tests.support.tuned_tasks import TunedTasks

FAST = ["--steps", "2", "--length", "2", *"--set batch_size=4 --set eval_every=1 --set learning_rate=0.05".split()]
TEXT = "the film that we saw on that long evening number {} was {}"


@pytest.fixture
def spot(capsys: pytest.CaptureFixture[str]) -> Spot:
    return lambda *words: call(capsys, *words)


def refused(result: Result, *parts: str) -> None:
    """Check for a refusal before any model is loaded."""
    assert "loading " not in result.err
    commands.refused(result, *parts)


@pytest.fixture
def model(tiny_folder: Callable[[str], Path]) -> list[str]:
    return ["--backbone", str(tiny_folder("llama"))]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows of glue/sst2 whose end tells the label, with a labelled test split, which the hub calls by the same name."""
    folder = tmp_path / "data"
    for number, (split, count) in enumerate((("train", 24), ("validation", 8), ("test", 20))):
        path = folder / "sst2" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            {"sentence": TEXT.format(1000 * number + n, ("bad", "good")[n % 2]), "label": n % 2} for n in range(count)
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setenv("SPOT_DATA", str(folder))
    return folder


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task file with train, validation and test rows."""
    for number, (split, count) in enumerate((("train", 24), ("validation", 8), ("test", 20))):
        lines = [
            f"{TEXT.format(1000 * number + n, ('bad', 'good')[n % 2])},{('no', 'yes')[n % 2]}\n" for n in range(count)
        ]
        (tmp_path / f"{split}.csv").write_text("text,label\n" + "".join(lines))
    path = tmp_path / "mood.toml"
    path.write_text('name = "mood"\nrows = { train = "train.csv", validation = "validation.csv", test = "test.csv" }\n')
    return path


def saved(path: Path, backbone: Path, task: str, seed: int = 0, **config: Any) -> Path:
    """A random prompt for a tiny model."""
    mark = Backbone.load(str(backbone)).id
    value = np.random.default_rng(seed).normal(size=(2, mark.width)).astype(np.float32)
    save(SoftPrompt(value=value, backbone=mark, task=task, step=1, seed=seed, config=config), path)
    return path


# Settings that a score depends on.


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What every collator that is made by then reads: its settings and its first input."""
    from spot.collator import Collator

    seen: list[tuple[Any, ...]] = []
    encode = Collator.encode

    def spy(self: Collator, examples: Any) -> Any:
        seen.append((self.max_input_tokens, self.max_target_tokens, self.reading.truncate, examples[0].inputs))
        return encode(self, examples)

    monkeypatch.setattr(Collator, "encode", spy)
    return seen


def test_a_tuned_model_is_scored_as_its_run_reported(
    spot: Spot, model: list[str], task: Path, tmp_path: Path, reading: list[tuple[Any, ...]]
):
    settings = ["--set", "max_input_tokens=24", "--set", "truncate=left"]
    words = ["tune", task, *model, "--method", "model", *FAST, *settings, "--out", tmp_path / "run", "--json"]
    tuned = spot(*words).json
    evaluate = ["evaluate", "none", "--task", task, "--split", "test", "--backbone"]
    assert spot(*evaluate, tuned["model"], "--json").json["scores"] == tuned["scores"]
    assert reading[-1][0] == 24 and reading[-1][2] == "left"
    spot(*evaluate, tuned["model"], "--max-input-tokens", 30, "--truncate", "right")
    assert reading[-1][0] == 30 and reading[-1][2] == "right"

    elsewhere = tmp_path / "elsewhere"
    Path(tuned["model"]).rename(elsewhere)
    spot(*evaluate, elsewhere)
    assert reading[-1][0] == 96 and reading[-1][2] == "right"
    (tmp_path / "config.toml").write_text("of = 'something else'\n")
    same = ["--max-input-tokens", 24, "--truncate", "left", "--json"]
    assert spot(*evaluate, elsewhere, *same).json["scores"] == tuned["scores"]


def test_a_model_of_a_known_task_keeps_its_prefix(
    spot: Spot, model: list[str], data: Path, tmp_path: Path, reading: list[tuple[Any, ...]]
):
    words = ["tune", "glue/sst2", *model, "--method", "model", *FAST, "--set", "task_prefix=true"]
    tuned = spot(*words, "--out", tmp_path / "run", "--json").json
    evaluate = ["evaluate", "none", "--task", "glue/sst2", "--backbone"]
    for folder, options, start in (
        (tuned["model"], [], "sst2 sentence: "),
        (tuned["model"], ["--no-prefix"], "sentence: "),
        (model[1], [], "sentence: "),
        (model[1], ["--prefix"], "sst2 sentence: "),
    ):
        assert spot(*evaluate, folder, *options).code == 0
        assert reading[-1][3].startswith(start)


def test_a_prompt_is_read_as_it_was_trained_unless_options_say_otherwise(
    spot: Spot, model: list[str], data: Path, tmp_path: Path, reading: list[tuple[Any, ...]]
):
    settings = {"max_input_tokens": 40, "max_target_tokens": 7, "truncate": "left", "task_prefix": True}
    path = saved(tmp_path / "p.safetensors", Path(model[1]), "glue/sst2", **settings)
    (tmp_path / "lines.txt").write_text("fine\n")
    for words in (["evaluate", path], ["predict", path, "--input", tmp_path / "lines.txt"]):
        assert spot(*words, *model).code == 0
        assert reading[-1][:3] == (40, 7, "left") and reading[-1][3].startswith("sst2 sentence: ")
    options = ["--max-input-tokens", 50, "--max-target-tokens", 9, "--truncate", "right", "--no-prefix"]
    assert spot("evaluate", path, *model, *options).code == 0
    assert reading[-1][:3] == (50, 9, "right") and reading[-1][3].startswith("sentence: ")


def test_voters_with_unlike_settings_are_refused(spot: Spot, model: list[str], data: Path, tmp_path: Path):
    first, second, third = (
        saved(tmp_path / f"{seed}.safetensors", Path(model[1]), "glue/sst2", seed, **config)
        for seed, config in enumerate(({}, {"max_input_tokens": 96, "truncate": "right"}, {"task_prefix": True}))
    )
    refused(
        spot("evaluate", first, third, *model),
        "unlike task_prefix cannot vote on the same rows",
        f"{first}: False, {third}: True",
        "--prefix",
    )
    assert spot("evaluate", first, second, *model).code == 0, "what a prompt does not say is the default"
    assert spot("evaluate", first, third, *model, "--prefix").code == 0


# Splits and tasks without answers.


@pytest.mark.parametrize("name", ["superglue/axb", "superglue/cb", "superglue/record"])
def test_a_split_without_answers_is_refused_before_the_model_is_loaded(
    spot: Spot, model: list[str], tmp_path: Path, name: str
):
    folder = tmp_path / "data" / TABLE[name].folder
    folder.mkdir(parents=True)
    row = {
        "premise": "It rains.",
        "hypothesis": "It is wet.",
        "sentence1": "It rains.",
        "sentence2": "It is wet.",
        "query": "@placeholder left.",
        "passage": "Ann came.",
        "entities": ["Ann"],
        "idx": 0,
        "label": -1,
    }
    (folder / "test.jsonl").write_text(json.dumps(row) + "\n")
    words = ["evaluate", "none", *model, "--task", name, "--split", "test", "--data", tmp_path / "data"]
    refused(spot(*words), f"'test' of {name} has no public answers", "`spot submit`", "`spot predict`")


def test_several_prompts_on_unlabelled_text_are_refused_and_one_is_scored(spot: Spot, model: list[str], tmp_path: Path):
    folder = tmp_path / "data" / "c4"
    folder.mkdir(parents=True)
    (folder / "validation.jsonl").write_text('{"text": "it rained all day and then it did not"}\n')
    paths = [saved(tmp_path / f"{seed}.safetensors", Path(model[1]), "c4", seed) for seed in range(2)]
    words = [*model, "--data", tmp_path / "data"]
    refused(spot("evaluate", *paths, *words), "c4 is scored by the likelihood", "2 prompts", "one prompt at a time")
    assert set(spot("evaluate", paths[0], *words, "--json").json["scores"]) == {"likelihood"}


# Mixtures.

# A row of each task of both benchmarks but for its answer, which label numbers give unless they are listed.
PAIR = {"sentence1": "it rained", "sentence2": "it was wet"}
INFERENCE = {"premise": "it rained", "hypothesis": "it was wet"}
MEMBERS: dict[str, dict[str, Any]] = {
    "glue/cola": {"sentence": "it rained"},
    "glue/sst2": {"sentence": "it rained"},
    "glue/mrpc": PAIR,
    "glue/stsb": PAIR,
    "glue/qqp": {"question1": "did it rain?", "question2": "was it wet?"},
    "glue/mnli": INFERENCE,
    "glue/qnli": {"question": "did it rain?", "sentence": "it was wet"},
    "glue/rte": PAIR,
    "superglue/boolq": {"question": "did it rain", "passage": "it was wet"},
    "superglue/cb": INFERENCE,
    "superglue/copa": {"premise": "it rained", "question": "effect", "choice1": "it was wet", "choice2": "it was dry"},
    "superglue/multirc": {
        "paragraph": "it rained",
        "question": "was it wet?",
        "answer": "yes",
        "idx": {"paragraph": 0, "question": 0, "answer": 0},
    },
    "superglue/record": {
        "passage": "Ann came",
        "query": "@placeholder left",
        "entities": ["Ann"],
        "answers": ["Ann"],
        "idx": {"passage": 0, "query": 0},
    },
    "superglue/rte": INFERENCE,
    "superglue/wic": {"word": "rain", "sentence1": "the rain fell", "sentence2": "it will rain"},
    "superglue/wsc": {"text": "Ann saw it", "span1_text": "Ann", "span2_text": "it", "span2_index": 2},
}


def members(folder: Path, *names: str) -> list[str]:
    """Four validation rows of each task, whose labels take turns, as the option that names their folder."""
    for name in names:
        write_split(folder, name, [{**MEMBERS[name], "label": number % 2} for number in range(4)], "validation")
    return ["--data", str(folder)]


@pytest.mark.parametrize(
    ("mixture", "tasks", "average"), [("glue", GLUE, glue_average), ("superglue", SUPERGLUE, superglue_average)]
)
def test_the_prompt_of_a_benchmark_gets_its_average(
    spot: Spot, model: list[str], tmp_path: Path, mixture: str, tasks: tuple[str, ...], average: Callable[..., float]
):
    data = members(tmp_path / "data", *tasks)
    path = saved(tmp_path / "p.safetensors", Path(model[1]), f"mixture:{mixture}")
    found = spot("evaluate", path, *model, *data, "--json").json
    assert (found["task"], found["split"], found["rows"]) == (f"mixture:{mixture}", "validation", 32)
    assert not found["missing"]
    assert {part["task"] for part in found["members"]} == set(tasks)
    for part in found["members"]:
        alone = spot("evaluate", path, "--task", part["task"], *model, *data, "--json").json
        assert alone == part
        assert {key: found["scores"][f"{part['task']} {key}"] for key in part["scores"]} == part["scores"]
    assert len(found["scores"]) == sum(len(part["scores"]) for part in found["members"])
    expected = average({part["task"]: part["scores"] for part in found["members"]})
    assert found["averages"] == {mixture: expected}
    title = {"glue": "GLUE", "superglue": "SuperGLUE"}[mixture]
    text = spot("evaluate", path, *model, *data).out
    assert f"{title} average of 8 tasks: {expected:.1f}\n" in text and f"{tasks[0]} validation, 4 rows: " in text


def test_without_all_its_tasks_a_benchmark_has_no_average(spot: Spot, model: list[str], tmp_path: Path):
    data = members(tmp_path / "data", *GLUE[:6])
    words = ["evaluate", "none", "--task", "mixture:glue", *model, *data, "--rows", 2]
    found = spot(*words, "--json").json
    assert (found["averages"], found["rows"], set(found["missing"])) == ({"glue": None}, 12, set(GLUE[6:]))
    assert "no rows for glue/qnli, split validation" in found["missing"]["glue/qnli"]
    text = spot(*words).out
    assert "no GLUE average: 2 of its 8 tasks have no score: glue/qnli, glue/rte. Score these" in text
    assert "glue/rte is not scored: no rows for glue/rte, split validation" in text
    refused(
        spot("evaluate", "none", "--task", "mixture:superglue", *model, *data),
        "no task of mixture:superglue can be scored. no rows for superglue/boolq",
    )


def test_a_mixture_of_ones_own_is_named_by_its_file(spot: Spot, model: list[str], task: Path, tmp_path: Path):
    data = members(tmp_path / "data", "glue/cola")
    path = saved(tmp_path / "p.safetensors", Path(model[1]), "mixture:mine")
    refused(spot("evaluate", path, *model, *data), "'mixture:mine' is not known here", "--task FILE")
    mixture = tmp_path / "mine.toml"
    mixture.write_text(f'name = "mine"\ntasks = ["glue/cola", "{task.name}"]\n')
    found = spot("evaluate", path, "--task", mixture, *model, *data, "--json").json
    assert set(found["scores"]) == {"glue/cola matthews", "mood accuracy"}
    assert (found["rows"], found["averages"]) == (12, {}), "it holds no whole benchmark"


def test_prompts_vote_on_each_task_of_a_mixture(spot: Spot, model: list[str], task: Path, tmp_path: Path):
    data = members(tmp_path / "data", "glue/cola")
    paths = [saved(tmp_path / f"{seed}.safetensors", Path(model[1]), "mixture:mine", seed) for seed in range(3)]
    (tmp_path / "mine.toml").write_text(f'name = "mine"\ntasks = ["glue/cola", "{task.name}"]\n')
    words = ["evaluate", *paths, "--task", tmp_path / "mine.toml", *model, *data]
    assert [len(part["each"]) for part in spot(*words, "--json").json["members"]] == [3, 3]
    assert spot(*words).out.count(" alone: ") == 6


def test_rows_are_answered_by_a_task_and_not_by_a_mixture(spot: Spot, model: list[str], tmp_path: Path):
    path = saved(tmp_path / "p.safetensors", Path(model[1]), "mixture:glue")
    (tmp_path / "rows.txt").write_text("it rained\n")
    refused(spot("predict", path, "--input", tmp_path / "rows.txt", *model), "'mixture:glue' is not known here")


# Tuning's ends that these commands meet.


def test_no_row_need_be_reported(spot: Spot, model: list[str], task: Path, tmp_path: Path):
    found = spot("tune", task, *model, *FAST, "--set", "report_rows=0", "--out", tmp_path / "run", "--json").json
    assert found["scores"] == found["selection"] == dict(load(found["prompt"]).scores)


def test_a_run_starts_from_whatever_names_a_prompt(
    spot: Spot, model: list[str], task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    first = spot("tune", task, *model, *FAST, "--out", "run", "--json").json["prompt"]
    for number, init in enumerate(("run", "run/prompt.safetensors", tmp_path / "run")):
        words = ["tune", task, *model, *FAST, "--init", init, "--out", f"next{number}", "--json"]
        prompt = load(spot(*words).json["prompt"])
        assert [parent.digest for parent in prompt.parents] == [load(first).digest]
        assert np.array_equal(prompt.start, load(first).value)
    words = ["tune", task, *model, *FAST, "--init", "text:good and/or bad", "--out", "text", "--json"]
    assert load(spot(*words).json["prompt"]).parents == ()


def test_scores_are_the_share_of_right_predictions(spot: Spot, tuned_tasks: TunedTasks):
    with (tuned_tasks.folder / "mood.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    words = ["--task", tuned_tasks.task(), *tuned_tasks.model]
    scored = spot("evaluate", tuned_tasks.run(), *words, "--split", "train", "--json").json
    assert list(scored) == ["task", "split", "rows", "scores", "invalid", "unanswered", "positive", "classes", "each"]
    assert (scored["task"], scored["split"], scored["rows"]) == ("mood", "train", 30)
    answers = spot("predict", tuned_tasks.run(), *words, "--input", tuned_tasks.folder / "mood.csv", "--json").json
    right = [answer["label"] == row["label"] for answer, row in zip(answers, rows, strict=True)]
    assert scored["scores"]["accuracy"] == pytest.approx(100 * np.mean(right))
    first = spot(
        "evaluate", tuned_tasks.run() / "prompt.safetensors", *words, "--split", "train", "--rows", 7, "--json"
    ).json
    assert first["scores"]["accuracy"] == pytest.approx(100 * np.mean(right[:7]))
    counts = np.array(scored["classes"]["confusion"]["counts"])
    assert counts.sum() == 30 and counts.trace() == sum(right)
    text = spot("evaluate", tuned_tasks.run(), *words, "--split", "train", "--rows", 7).out
    assert "mood train, 7 rows: accuracy" in text and "answer / predicted" in text and "precision (%)" in text


def test_predict_gives_one_line_a_row_however_the_row_is_given(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    files = {
        "rows.jsonl": '{"text": "mood is good", "inputs": "not this"}\n{"text": "never"}\n',
        "rows.txt": "mood is good\nnever\n",
        "rows.json": '[{"text": "mood is good"}, {"text": "never"}]',
        "rows.tsv": "text\nmood is good\nnever\n",
    }
    given = []
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        result = spot("predict", tuned_tasks.run(), *tuned_tasks.model, "--input", tmp_path / name)
        given.append([json.loads(line) for line in result.out.splitlines()])
    assert all(answers == given[0] for answers in given)
    assert len(given[0]) == 2
    for answer in given[0]:
        assert set(answer["probabilities"]) == {"up", "down"}
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


def test_predict_takes_labels_from_the_prompt_where_the_task_is_unknown(
    spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path
):
    (tmp_path / "rows.jsonl").write_text('{"text": "good"}\n')
    words = ["predict", tuned_tasks.run(), *tuned_tasks.model, "--input", tmp_path / "rows.jsonl", "--json"]
    assert spot(*words).json == spot(*words, "--task", tuned_tasks.task()).json


def test_predict_reads_a_pipe_and_prints_nothing_else(tuned_tasks: TunedTasks):
    words = [
        sys.executable,
        "-m",
        "spot",
        "predict",
        tuned_tasks.run(),
        *tuned_tasks.model,
        "--input",
        "-",
        "--format",
        "txt",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [str(word) for word in words]
    done = subprocess.run(words, input="good\nbad\n", capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert [set(json.loads(line)) for line in done.stdout.splitlines()] == [{"label", "probabilities"}] * 2
    assert [line.rpartition(" ...")[1] for line in done.stderr.splitlines()].count(" ...") == 2, done.stderr


def test_a_t5_folder_with_open_answers(spot: Spot, tiny_folder: Callable[[str], Path], tmp_path: Path):
    rows = "\n".join(f"question {number},answer {number % 3}" for number in range(24))
    (tmp_path / "open.csv").write_text(f"text,reply\n{rows}\n")
    task = tmp_path / "open.toml"
    task.write_text(
        'name = "open"\nrows = "open.csv"\ninput = "question: {text}"\nanswer = "reply"\nmetrics = ["exact_match"]\n'
    )
    model = ["--backbone", tiny_folder("t5")]
    tuned = spot(
        "tune",
        task,
        *model,
        "--steps",
        1,
        "--length",
        2,
        "--set",
        "batch_size=2",
        "--set",
        "select_rows=2",
        "--out",
        tmp_path / "run",
        "--json",
    ).json
    assert set(tuned["scores"]) == {"exact_match"}
    (tmp_path / "ask.txt").write_text("question 1\n")
    result = spot("predict", tmp_path / "run", "--task", task, *model, "--input", tmp_path / "ask.txt")
    assert set(json.loads(result.out)) == {"text"}
    scored = spot("evaluate", tmp_path / "run", "--task", task, *model, "--split", "train", "--rows", 2, "--json").json
    assert set(scored["scores"]) == {"exact_match"}
