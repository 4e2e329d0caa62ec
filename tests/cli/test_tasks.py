"""Known tasks and task files on the command line: what is shown, counted and predicted, and rows that are refused."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spot.collator import Collator, collator_for
from spot.models.backbone import Backbone
from spot.prompts.prompt import SoftPrompt, save
from spot.reading import Reading
from spot.tasks import mixtures, registry
from spot.tasks.registry import TABLE, get
from tests.support.commands import Spot, refused
from tests.support.data_rows import write_split
from tests.support.tuned_tasks import TunedTasks

CUE = "\nAnswer:"  # what a causal model reads behind the input
PASSAGE = "Ann met Eve\n@highlight\nIt rained"
READ = "Ann met Eve. It rained"  # the passage as T5 has it


def put(data: Path, name: str, **splits: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows of a known data set where a data folder has them; the folder."""
    for split, rows in splits.items():
        write_split(data, name, rows, split)
    return data


def rte(number: int) -> dict[str, Any]:
    return {"sentence1": f"It rains {'very ' * number}much.", "sentence2": "It is wet.", "label": number % 2, "idx": 7}


def rte_form(number: int) -> str:
    return f"sentence1: It rains {'very ' * number}much. sentence2: It is wet."


RTE = ("entailment", "not_entailment")


def record(number: int, *answers: str) -> dict[str, Any]:
    return {
        "passage": PASSAGE,
        "query": f"@placeholder left at {number}.",
        "entities": ["Ann", "Eve"],
        "answers": list(answers),
        "idx": {"passage": number, "query": 3},
    }


def record_form(number: int) -> str:
    return f"query: @placeholder left at {number}. entities: Ann, Eve passage: {READ}"


def wsc(number: int, label: int) -> dict[str, Any]:
    return {
        "text": f"Ann saw Eve {number} times and she left.",
        "span1_text": "Ann",
        "span1_index": 0,
        "span2_text": "she",
        "span2_index": 6,
        "label": label,
        "idx": number,
    }


# Showing.


def test_show_says_what_is_asked_and_where_nothing_is_said(spot: Spot, tmp_path: Path):
    (tmp_path / "rows.csv").write_text("text,label\nwell made,good\nfell apart,bad\n")
    task = tmp_path / "task.toml"
    task.write_text('name = "mine"\nrows = "rows.csv"\ninstruction = "Judge it:\\ngood or bad."\n')
    assert spot("tasks", "show", task, "--json").json["instruction"] == "Judge it:\ngood or bad."
    assert r"asked    Judge it:\ngood or bad." in spot("tasks", "show", task).out
    task.write_text('name = "mine"\nrows = "rows.csv"\n')
    assert "asked    nothing is said: no instruction" in spot("tasks", "show", task).out


@pytest.mark.parametrize("family", ["t5", "llama"])
@pytest.mark.parametrize("prefix", [False, True])
def test_show_gives_rows_as_they_are_and_as_the_model_reads_them(
    spot: Spot, tiny_folder: Callable[[str], Path], tmp_path: Path, family: str, prefix: bool
):
    data = put(tmp_path, "glue/rte", train=map(rte, range(4)), validation=map(rte, range(4, 6)))
    folder = tiny_folder(family)
    words = ["tasks", "show", "glue/rte", "-n", 2, "--data", data, "--backbone", folder, *(["--prefix"] * prefix)]
    found = spot(*words, "--json").json
    assert {split: [row["id"] for row in rows] for split, rows in found["examples"].items()} == {
        "train": ["train/1", "train/2"],
        "validation": ["validation/1", "validation/2"],
    }
    collator = collator_for(Backbone.load(str(folder)), get("glue/rte", data))
    text = spot(*words).out
    for number, row in zip((0, 1, 4, 5), (*found["examples"]["train"], *found["examples"]["validation"]), strict=True):
        inputs = ("rte " if prefix else "") + rte_form(number)
        answer = RTE[number % 2]
        assert (row["raw"], row["inputs"], row["answers"]) == (rte(number), inputs, [answer])
        if family == "t5":  # one token a byte, and the end token
            counts = (len(inputs) + 1, len(answer) + 1)
        else:  # a blank before the answer, which needs no end token: neither word begins with the other
            counts = (len(inputs) + len(CUE), len(answer) + 1)
        assert (row["input_tokens"], row["target_tokens"]) == counts
        split = row["id"].partition("/")[0]
        place = int(row["id"].partition("/")[2]) - 1
        encoded = collator.encode(list(get("glue/rte", data, prefix).load(split)))[place]
        assert counts == (len(encoded.input_ids), len(encoded.target_ids))
        block = [
            row["id"],
            f"raw      {json.dumps(rte(number))}",
            f"input    {inputs}",
            f"answer   {answer}",
            f"tokens   {counts[0]} in, {counts[1]} out",
        ]
        assert "\n".join(["", *block, ""]) in text
    assert "asked    Does sentence2 follow from sentence1? Say entailment if it does, else not_entailment.\n" in text
    assert "labels   entailment, not_entailment" in text and "splits   train, validation" in text


def test_a_row_of_several_answers_is_shown_as_often_as_it_trains(
    spot: Spot, tiny_folder: Callable[[str], Path], tmp_path: Path
):
    rows = [record(0, "Ann", "Eve"), record(1, "Eve"), record(2, "Ann", "Eve")]
    data = put(tmp_path, "superglue/record", train=rows, validation=rows)
    words = ["tasks", "show", "superglue/record", "-n", 4, "--data", data, "--backbone", tiny_folder("llama")]
    found = spot(*words, "--json").json["examples"]
    shown = [(row["id"], row["raw"], row["inputs"], row["answers"], row["group"]) for row in found["train"]]
    assert shown == [
        ("train/1", rows[0], record_form(0), ["Ann"], "0/3"),
        ("train/1.2", rows[0], record_form(0), ["Eve"], "0/3"),
        ("train/2", rows[1], record_form(1), ["Eve"], "1/3"),
        ("train/3", rows[2], record_form(2), ["Ann"], "2/3"),
    ]
    assert [(row["id"], row["raw"], row["answers"]) for row in found["validation"]] == [
        (f"validation/{number + 1}", rows[number], rows[number]["answers"]) for number in range(3)
    ]
    for row in (*found["train"], *found["validation"]):  # open answers end with the end token
        assert row["target_tokens"] == len(f" {row['answers'][0]}") + 1
        assert row["input_tokens"] == min(96, len(row["inputs"]) + len(CUE))
    text = spot(*words).out
    assert "\ntrain/1.2\nraw " in text and text.count("answer   Eve\n") == 2 + 3


def test_rows_that_make_no_example_are_passed_over(spot: Spot, tmp_path: Path):
    rows = [wsc(number, label) for number, label in enumerate((0, 1, 0, 0, 1, 1))]
    data = put(tmp_path, "superglue/wsc", train=rows, validation=rows)
    found = spot("tasks", "show", "superglue/wsc", "-n", 3, "--data", data, "--json").json["examples"]
    assert [(row["id"], row["raw"]) for row in found["train"]] == [
        (f"train/{number + 1}", rows[number]) for number in (1, 4, 5)
    ]
    assert found["train"][1]["inputs"] == "Ann saw Eve 4 times and *she* left."
    assert [row["answers"] for row in found["validation"]] == [["Ann", "False"], ["Ann", "True"], ["Ann", "False"]]
    assert [row["raw"] for row in found["validation"]] == rows[:3]
    assert "input_tokens" not in found["train"][0]


def test_blank_lines_do_not_shift_the_raw_rows_of_a_task_file(spot: Spot, tmp_path: Path):
    rows = [{"text": f"row {number}", "mood": ("up", "down")[number % 2], "more": [number]} for number in range(4)]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join([lines[0], "", "  ", *lines[1:], ""]))
    task = tmp_path / "mood.toml"
    task.write_text('name = "mood"\nrows = "rows.jsonl"\ninput = "say: {text}"\nlabel = "mood"\n')
    found = spot("tasks", "show", task, "-n", 9, "--json").json["examples"]["train"]
    assert [row["id"] for row in found] == ["train/1", "train/4", "train/5", "train/6"], "ids are lines of the file"
    assert [row["raw"] for row in found] == rows
    assert [(row["inputs"], row["answers"]) for row in found] == [(f"say: {r['text']}", [r["mood"]]) for r in rows]
    text = spot("tasks", "show", task, "-n", 2).out
    assert f"\ntrain/4\nraw      {lines[1]}\ninput    say: row 1\nanswer   down\n" in text


def test_blank_lines_do_not_shift_the_raw_rows_of_a_known_set(spot: Spot, tmp_path: Path):
    data = put(tmp_path, "superglue/wsc", validation=[wsc(0, 1)])
    (data / "wsc" / "train.jsonl").write_text(f"\n{json.dumps(wsc(1, 0))}\n\n{json.dumps(wsc(2, 1))}\n")
    found = spot("tasks", "show", "superglue/wsc", "--data", data, "--json").json["examples"]["train"]
    assert [(row["raw"], row["inputs"]) for row in found] == [(wsc(2, 1), "Ann saw Eve 2 times and *she* left.")]


def test_the_list_holds_every_known_task_and_every_member_of_a_mixture(spot: Spot):
    found = spot("tasks", "list", "--json").json
    names = [task["name"] for task in found]
    assert names == sorted(TABLE) and len(set(names)) == len(names)
    assert {name for mixture in mixtures.MIXTURES.values() for name in mixture.tasks} <= set(names)
    assert all(
        set(task) == {"name", "title", "splits", "labels", "metrics", "revision", "instruction"} for task in found
    )
    by_name = {task["name"]: task for task in found}
    assert by_name["superglue/record"]["labels"] == [] and by_name["glue/rte"]["labels"] == list(RTE)
    text = spot("tasks", "list").out
    assert all(f"\n{name} " in text for name in names)


# Counting.


def percentiles(lengths: list[int]) -> list[float]:
    return [float(np.percentile(lengths, share)) for share in (5, 50, 95, 100)]


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_stats_are_those_of_the_rows(spot: Spot, tiny_folder: Callable[[str], Path], tmp_path: Path, family: str):
    numbers = {"train": [0, 1, 1, 2, 5, 9, 30], "validation": [3, 4]}
    data = put(tmp_path, "glue/rte", **{split: map(rte, part) for split, part in numbers.items()})
    words = ["tasks", "stats", "glue/rte", "--data", data, "--backbone", tiny_folder(family), "--prefix"]
    limit = len("rte " + rte_form(2)) + (1 if family == "t5" else len(CUE))  # row 2 just fits
    found = spot(*words, "--max-input-tokens", limit, "--json").json
    assert (found["task"], found["max_input_tokens"]) == ("glue/rte", limit)
    collator = collator_for(
        Backbone.load(str(tiny_folder(family))), get("glue/rte", data), reading=Reading(max_input_tokens=10**6)
    )
    for part, (split, expected) in zip(found["splits"], numbers.items(), strict=True):
        examples = list(get("glue/rte", data, prefix=True).load(split))
        inputs = [len("rte " + rte_form(number)) + (1 if family == "t5" else len(CUE)) for number in expected]
        targets = [len(RTE[number % 2]) + 1 for number in expected]
        assert part["rows"] == len(expected) and part["split"] == split
        assert part["labels"] == {
            word: sum(number % 2 == place for number in expected) for place, word in enumerate(RTE)
        }
        assert part["inputs"] == pytest.approx(percentiles(inputs))
        assert part["targets"] == pytest.approx(percentiles(targets))
        assert part["cut"] == pytest.approx(100 * np.mean([number > 2 for number in expected]))
        if family == "t5":  # the other one is kept within the model's positions
            rows = collator.encode(examples)
            assert [(len(row.input_ids), len(row.target_ids)) for row in rows] == list(
                zip(inputs, targets, strict=True)
            )
    text = spot(*words, "--max-input-tokens", limit).out
    assert f"over {limit}, %" in text and "entailment 3, not_entailment 4" in text


def test_stats_of_open_answers_count_examples_and_not_rows(
    spot: Spot, tiny_folder: Callable[[str], Path], tmp_path: Path
):
    rows = [record(0, "Ann", "Eve Smith"), record(1, "Eve Smith")]
    data = put(tmp_path, "superglue/record", train=rows, validation=rows)
    words = ["tasks", "stats", "superglue/record", "--data", data, "--backbone", tiny_folder("t5")]
    train, validation = spot(*words, "--json").json["splits"]
    assert (train["rows"], validation["rows"], train["labels"]) == (3, 2, {})
    assert train["targets"] == pytest.approx(percentiles([4, 10, 10]))  # each answer with its end token
    assert validation["targets"] == pytest.approx(percentiles([4, 10]))  # the first accepted answer
    assert train["cut"] == 100 * (len(record_form(0)) + 1 > 96)


def test_stats_of_a_task_file(spot: Spot, tiny_folder: Callable[[str], Path], tmp_path: Path):
    lengths = [3, 30, 4, 200]
    (tmp_path / "rows.csv").write_text(
        "text,label\n" + "".join(f"{'x' * n},{'ab'[i % 2]}\n" for i, n in enumerate(lengths))
    )
    (tmp_path / "task.toml").write_text('name = "x"\nrows = "rows.csv"\ninput = "{text}"\nlabel = "label"\n')
    words = ["tasks", "stats", tmp_path / "task.toml", "--backbone", tiny_folder("t5"), "--max-input-tokens", 31]
    (part,) = spot(*words, "--json").json["splits"]
    assert part["inputs"] == pytest.approx(percentiles([n + 1 for n in lengths]))
    assert (part["labels"], part["cut"]) == ({"a": 2, "b": 2}, 25.0)


# Predicting rows of known tasks.


@pytest.fixture(scope="module")
def t5(tiny_folder: Callable[[str], Path]) -> Backbone:
    return Backbone.load(str(tiny_folder("t5")))


@pytest.fixture
def prompt(t5: Backbone, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a prompt for a task, as tuning leaves it."""

    def make(task: str, **config: Any) -> Path:
        value = np.random.default_rng(0).normal(size=(2, t5.id.width)).astype(np.float32)
        labels = list(TABLE[task].labels) if task in TABLE else []
        path = tmp_path / f"{task.replace('/', '-')}.safetensors"
        made = SoftPrompt(value=value, backbone=t5.id, task=task, step=1, config={"labels": labels, **config})
        save(made, path)
        return path

    return make


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


UNANSWERED = {
    "glue/rte": ({"sentence1": "It rains.", "sentence2": "It is wet."}, "sentence1: It rains. sentence2: It is wet."),
    "superglue/record": ({key: value for key, value in record(5).items() if key != "answers"}, record_form(5)),
    "glue/stsb": ({"sentence1": "A dog.", "sentence2": "A cat."}, "sentence1: A dog. sentence2: A cat."),
    "squad": ({"question": "Who left?", "context": "Ann left."}, "question: Who left ? context: Ann left . "),
    "cr": ({"text": "It works well."}, "sentence: It works well."),
}


@pytest.mark.parametrize("task", UNANSWERED)
@pytest.mark.parametrize("prefix", [False, True])
def test_rows_without_answers_are_predicted_in_the_form_of_their_task(
    spot: Spot,
    prompt: Callable[..., Path],
    reading: list[str],
    tiny_folder: Callable,
    tmp_path: Path,
    task: str,
    prefix: bool,
):
    row, inputs = UNANSWERED[task]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    words = ["predict", prompt(task, task_prefix=prefix), "--input", tmp_path / "rows.jsonl"]
    (answer,) = spot(*words, "--backbone", tiny_folder("t5"), "--json").json
    name = {"superglue/record": "record ", "squad": "squad "}.get(task, f"{task.rpartition('/')[2]} ")
    assert reading == [(name if prefix else "") + inputs]
    if labels := TABLE[task].labels:
        assert list(answer["probabilities"]) == list(labels)
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert answer["label"] == max(labels, key=answer["probabilities"].get)
    else:
        assert list(answer) == ["text"]


def test_answers_in_rows_change_nothing(spot: Spot, prompt: Callable[..., Path], tiny_folder: Callable, tmp_path: Path):
    rows = [{**UNANSWERED["glue/rte"][0], "label": label} for label in (-1, 0, 1, 7, "x", None)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["predict", prompt("glue/rte"), "--input", tmp_path / "rows.jsonl", "--backbone", tiny_folder("t5")]
    found = spot(*words, "--json").json
    assert len(found) == len(rows) and len({answer["label"] for answer in found}) == 1


@pytest.mark.parametrize("task", ["cr", "glue/sst2"])
def test_a_plain_line_is_the_sentence_of_a_task_with_one(
    spot: Spot, prompt: Callable[..., Path], reading: list[str], tiny_folder: Callable, tmp_path: Path, task: str
):
    field = "text" if task == "cr" else "sentence"
    (tmp_path / "lines.txt").write_text("It works well.\nNever again.\n")
    (tmp_path / "rows.jsonl").write_text(f'{{"{field}": "It works well."}}\n{{"{field}": "Never again."}}\n')
    words = ["predict", prompt(task), "--backbone", tiny_folder("t5"), "--json", "--input"]
    assert spot(*words, tmp_path / "lines.txt").json == spot(*words, tmp_path / "rows.jsonl").json
    assert reading == ["sentence: It works well.", "sentence: Never again."] * 2


@pytest.mark.parametrize("task", [None, "glue/rte"])
def test_a_field_of_another_name_is_passed_over(
    spot: Spot, prompt: Callable[..., Path], reading: list[str], tiny_folder: Callable, tmp_path: Path, task: str | None
):
    row = {**UNANSWERED["glue/rte"][0], "inputs": "  not this "}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(UNANSWERED["glue/rte"][0]) + "\n")
    words = ["predict", prompt("glue/rte", task_prefix=True), "--input", tmp_path / "rows.jsonl", "--json"]
    named = [] if task is None else ["--task", task]
    assert len(spot(*words, *named, "--backbone", tiny_folder("t5")).json) == 2
    assert reading == ["rte " + UNANSWERED["glue/rte"][1]] * 2


@pytest.mark.parametrize(
    ("task", "missing"),
    [("glue/rte", "sentence2"), ("superglue/record", "entities"), ("glue/stsb", "sentence1"), ("squad", "context")],
)
def test_a_row_to_predict_without_a_field_is_named(
    spot: Spot, prompt: Callable[..., Path], tiny_folder: Callable, tmp_path: Path, task: str, missing: str
):
    row = UNANSWERED[task][0]
    rows = [row, row, {key: value for key, value in row.items() if key != missing}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["predict", prompt(task), "--input", tmp_path / "rows.jsonl", "--backbone", tiny_folder("t5")]
    refused(spot(*words), "rows.jsonl, row 3 has no field", repr(missing), task)


def test_a_plain_line_for_a_task_of_several_fields_is_refused_by_what_it_is(
    spot: Spot, prompt: Callable[..., Path], tiny_folder: Callable, tmp_path: Path
):
    (tmp_path / "lines.txt").write_text("It rains.\n")
    words = ["predict", prompt("glue/rte"), "--input", tmp_path / "lines.txt", "--backbone", tiny_folder("t5")]
    refused(spot(*words), "lines.txt, row 1 has no field 'sentence1'", "glue/rte reads it")


# Rows that cannot be used.


def test_unknown_tasks_and_splits_come_with_near_names(
    spot: Spot, prompt: Callable[..., Path], tiny_folder: Callable, tmp_path: Path
):
    data = put(tmp_path, "glue/rte", train=map(rte, range(4)), validation=map(rte, range(4)))
    for words in (["tasks", "show", "glu/rte"], ["tasks", "stats", "glu/rte"], ["tune", "glu/rte", "--steps", 1]):
        refused(spot(*words, "--data", data), "no task 'glu/rte'", "did you mean 'glue/rte'")
    words = ["evaluate", prompt("glue/rte"), "--data", data, "--backbone", tiny_folder("t5"), "--split"]
    refused(spot(*words, "valid"), "glue/rte has no split 'valid'; did you mean 'validation'")
    refused(spot(*words, "dev"), "glue/rte has no split 'dev'; known: ", "train, validation")


COMMANDS = [["tasks", "check"], ["tasks", "stats"], ["tune"]]


def at_work(command: list[str], name: str, data: Path, backbone: Path) -> list[object]:
    model = [] if command == ["tasks", "check"] else ["--backbone", backbone]
    return [*command, name, "--data", data, *model]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_field_that_one_row_of_thousands_lacks_is_named(
    spot: Spot, tiny_folder: Callable, tmp_path: Path, command: list[str]
):
    rows = [{"text": f"it works, number {number}", "label": number % 2} for number in range(3100)]
    del rows[2999]["text"]
    data = put(tmp_path, "cr", train=rows, validation=rows[:20])
    place = f"{data / 'cr' / 'train.jsonl'}, row 3000 has no field 'text'; it has 'label'"
    refused(spot(*at_work(command, "cr", data, tiny_folder("t5"))), place)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("label", [2, -1, 1.0, True, "entailment", None])
def test_a_label_outside_the_map_is_named(
    spot: Spot, tiny_folder: Callable, tmp_path: Path, command: list[str], label: Any
):
    rows = [*map(rte, range(12)), {**rte(12), "label": label}]
    data = put(tmp_path, "glue/rte", train=rows, validation=map(rte, range(20, 26)))
    words = at_work(command, "glue/rte", data, tiny_folder("t5"))
    refused(spot(*words), "train.jsonl, row 13: field 'label'", f"found {label!r}", "from 0 to 1")


@pytest.mark.parametrize("content", ["", "\n \n"])
@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_empty_split_is_named(
    spot: Spot, tiny_folder: Callable, tmp_path: Path, command: list[str], split: str, content: str
):
    data = put(tmp_path, "glue/rte", train=map(rte, range(9)), validation=map(rte, range(9, 15)))
    path = data / "rte" / f"{split}.jsonl"
    path.write_text(content)
    refused(spot(*at_work(command, "glue/rte", data, tiny_folder("t5"))), f"{path} is empty")


def test_a_split_whose_rows_make_no_example_is_named(spot: Spot, tiny_folder: Callable, tmp_path: Path):
    rows = [{"hypothesis": f"h {n}", "premise": f"p {n}", "label": n % 3} for n in range(12)]
    data = put(tmp_path, "snli", train=[{**row, "label": -1} for row in rows], validation=rows)
    folder = tiny_folder("t5")
    refused(spot(*at_work(["tasks", "stats"], "snli", data, folder)), "snli has no rows in its split 'train'")
    refused(spot(*at_work(["tune"], "snli", data, folder)), "snli has no row left for train")


def test_rows_without_answers_are_not_scored(
    spot: Spot, prompt: Callable[..., Path], tiny_folder: Callable, tmp_path: Path
):
    rows = [{**rte(number), "label": -1} for number in range(4)]
    data = put(tmp_path, "glue/rte", train=map(rte, range(9)), validation=map(rte, range(9, 15)), test=rows)
    words = ["--task", "glue/rte", "--split", "test", "--data", data, "--backbone", tiny_folder("t5")]
    refused(spot("evaluate", prompt("glue/rte"), *words), "glue/rte", "test")
    refused(spot("evaluate", "none", *words), "glue/rte", "test")


def test_a_split_without_a_file_is_named(spot: Spot, tmp_path: Path):
    data = put(tmp_path, "glue/rte", train=map(rte, range(9)))
    refused(spot("tasks", "check", "glue/rte", "--data", data), "glue/rte, split validation", "rte/validation.jsonl")


def test_the_hub_without_a_network_says_how_to_go_without(spot: Spot, tiny_folder: Callable):
    for words in (["tasks", "show", "glue/rte"], ["tune", "glue/rte", "--backbone", tiny_folder("t5")]):
        refused(
            spot(*words, "--data", "hub"),
            "the Hugging Face hub cannot be reached for glue/rte",
            "--data DIR",
            "--data hub:DIR",
            "HF_HUB_OFFLINE=1",
            "datasets.load_dataset('nyu-mll/glue', 'rte')",
        )
    refused(spot("tasks", "show", "cr", "--data", "hub"), "no copy of cr is known", "DIR/cr/train.jsonl")


def test_tasks_list(spot: Spot):
    found = spot("tasks", "list", "--json").json
    assert [task["name"] for task in found] == registry.names()
    assert next(task for task in found if task["name"] == "glue/sst2")["labels"] == ["negative", "positive"]
    assert "glue/sst2" in spot("tasks", "list").out


def test_tasks_show(spot: Spot, tuned_tasks: TunedTasks):
    found = spot("tasks", "show", tuned_tasks.task(), "-n", 2, "--json").json
    assert (found["name"], found["labels"], found["splits"]) == ("mood", ["down", "up"], ["train"])
    assert [row["inputs"] for row in found["examples"]["train"]] == ["sentence: mood 0 good", "sentence: mood 1 bad"]
    assert "sentence: mood 0 good" in spot("tasks", "show", tuned_tasks.task()).out
    assert spot("tasks", "show", tuned_tasks.task(), "-n", 0, "--json").json["examples"] == {}


def test_tasks_show_known_data(spot: Spot, shared: Path):
    found = spot("tasks", "show", "cr", "--data", shared / "data", "-n", 1, "--json").json
    assert set(found["examples"]) == {"train", "validation"}
    assert found["examples"]["train"][0]["answers"][0] in found["labels"]


def test_tasks_check(spot: Spot, tuned_tasks: TunedTasks):
    found = spot("tasks", "check", tuned_tasks.task(), "--json").json
    assert found["task"] == "mood"
    assert found["splits"][0]["rows"] == 30 and found["splits"][0]["labels"] == {"down": 15, "up": 15}
    assert "down 15, up 15" in spot("tasks", "check", tuned_tasks.task()).out


def test_tasks_init_writes_a_task_file_that_loads(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    rows = tmp_path / "my_rows.csv"
    rows.write_bytes((tuned_tasks.folder / "mood.csv").read_bytes())
    found = spot("tasks", "init", rows, "--json").json
    assert found["path"] == str(tmp_path / "my_rows.toml")
    assert Path(found["path"]).read_text() == found["text"]
    assert registry.get(found["path"]).labels == ("down", "up")
    other = tmp_path / "named.toml"
    assert f"wrote {other}" in spot("tasks", "init", rows, "--out", other).out
    assert other.exists()


def test_init_takes_what_is_said_of_a_file_and_check_says_how_it_is_read(spot: Spot, tmp_path: Path):
    rows = tmp_path / "rows.csv"
    rows.write_bytes("a warm café~good\na cold hôtel~bad\nno word~\n".encode("cp1252"))
    words = ("--delimiter", "~", "--no-header", "--encoding", "cp1252", "--format", "csv")
    result = spot("tasks", "init", rows, *words)
    assert result.code == 0 and 'delimiter = "~"' in result.out and "header = false" in result.out
    result = spot("tasks", "check", tmp_path / "rows.toml")
    assert result.code == 0
    for part in ("encoding cp1252", "3 rows in 3 lines", "no header", "1 of 3 rows have no label", "every row can be"):
        assert part in " ".join(result.out.split())
    value = json.loads(spot("tasks", "check", tmp_path / "rows.toml", "--json").out)
    assert value["faults"] == [] and len(value["files"]) == 2


def test_case24_check_ends_with_2_where_the_input_tells_the_answer(spot: Spot, tmp_path: Path):
    lines = [f"note x{n} of somebody,{n % 2},{'no yes'.split()[n % 2]}" for n in range(20)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label,label_text", *lines]))
    (tmp_path / "t.toml").write_text('name = "t"\nrows = "rows.csv"\ninput = "{text} {label_text}"\n')
    result = spot("tasks", "check", tmp_path / "t.toml")
    assert result.code == 2 and "the input reads 'label_text', and it is the label in other words" in result.err
    assert "every row can be read" in result.out


def test_f8_rows_that_are_a_pipe_are_refused_at_once(spot: Spot, tmp_path: Path):
    os.mkfifo(tmp_path / "rows.csv")
    (tmp_path / "t.toml").write_text('name = "t"\nrows = "rows.csv"\n')
    refused(spot("tasks", "init", tmp_path / "rows.csv"), "is a pipe: expected a regular file")
    refused(spot("tasks", "check", tmp_path / "t.toml"), "is a pipe: expected a regular file")
