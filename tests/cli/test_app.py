"""The command line from end to end, on tiny random models: shapes of the JSON, help texts, streams, exit codes."""

import csv
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer

from spot import config
from spot.cli import options
from spot.cli.app import app, main
from spot.library import library
from spot.models import backbone, checkpoints
from spot.models.checkpoints import locate
from spot.prompts.prompt import load
from spot.storage.files import cache_dir
from spot.tasks import registry
from tests.cli.test_submit import write_predictions
from tests.support.commands import Result, Spot, call

DOCS = Path(__file__).resolve().parents[2] / "docs"
SETTINGS = ("batch_size=4", "eval_every=2", "key_step=3", "learning_rate=0.05")
FAST = ["--steps", "4", "--length", "3", *(word for setting in SETTINGS for word in ("--set", setting))]
LABELS = {"mood": ("up", "down"), "answer": ("yes", "no"), "animal": ("cat", "dog")}
WORDS = {"up": "good", "down": "bad", "yes": "sure", "no": "never", "cat": "meow", "dog": "woof"}


@pytest.fixture
def spot(capsys: pytest.CaptureFixture[str]) -> Spot:
    return lambda *words: call(capsys, *words)


@pytest.fixture(scope="session")
def command_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cli", DOCS / "make_cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_task(folder: Path, name: str, labels: tuple[str, str], rows: int = 30) -> Path:
    """A task file with CSV rows whose words tell the label."""
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for number in range(rows):
            label = labels[number % 2]
            writer.writerow((f"{name} {number} {WORDS[label]}", label))
    path = folder / f"{name}.toml"
    path.write_text(f'name = "{name}"\nrows = "{name}.csv"\ninput = "sentence: {{text}}"\nlabel = "label"\n')
    return path


@dataclass(frozen=True)
class Made:
    """What the tests of this file share: three tasks, a run of each, a library of two of them."""

    folder: Path
    backbone: Path

    @property
    def model(self) -> list[str]:
        return ["--backbone", str(self.backbone)]

    def task(self, name: str = "mood") -> Path:
        return self.folder / f"{name}.toml"

    def run(self, name: str = "mood") -> Path:
        return self.folder / f"run-{name}"

    @property
    def library(self) -> Path:
        return self.folder / "library"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> Made:
    shared = Made(tmp_path_factory.mktemp("made"), tiny_folder("llama"))
    commands = []
    for name, labels in LABELS.items():
        task = write_task(shared.folder, name, labels)
        commands.append(["tune", task, *shared.model, *FAST, "--out", shared.run(name)])
    commands += [["library", "add", shared.run(name), "--library", shared.library] for name in ("answer", "animal")]
    for words in commands:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        assert not stop.value.code, words
    return shared


def examples(command: Any, context: Any) -> list[str]:
    """The lines at the end of a help text."""
    text = command.get_help(context)
    return [line.strip() for line in text[text.rindex("Example:") :].splitlines()[1:]]


def leaves(page: ModuleType) -> dict[str, tuple[Any, Any]]:
    """Full name -> command and context, for every command that does something."""
    found = page.commands(typer.main.get_command(app))
    return {path: (command, context) for path, command, context in found if not hasattr(command, "commands")}


# Help, start, streams and exit codes.


def test_help_loads_nothing_that_computes_or_reads_data():
    heavy = [
        "accelerate",
        "datasets",
        "gguf",
        "jinja2",
        "matplotlib",
        "numpy",
        "pyarrow",
        "ray",
        "safetensors",
        "scipy",
        "sklearn",
        "tokenizers",
        "torch",
        "transformers",
    ]
    code = f"""
import sys
from spot.__main__ import main
try:
    main(["--help"])
except SystemExit as stop:
    assert not stop.code
loaded = set({heavy}) & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_every_command_has_json_and_a_help_text(command_page: ModuleType):
    known = leaves(command_page)
    assert {"spot doctor", "spot demo", "spot tune", "spot tasks init", "spot library verify"} <= set(known)
    for path, (command, context) in known.items():
        assert any("--json" in parameter.opts for parameter in command.params), path
        assert len(command.help) > 20, path
        undocumented = [parameter.name for parameter in command.params if not parameter.help]
        assert not undocumented, (path, undocumented)
        assert context.command_path == path


def test_every_help_text_ends_with_an_example_that_parses(command_page: ModuleType):
    known = leaves(command_page)
    for path, (command, context) in known.items():
        assert examples(command, context), path
        for line in examples(command, context):
            words = shlex.split(line.rpartition("|")[2])
            own = path.split()
            assert words[: len(own)] == own, line
            # Making the context parses the words and calls nothing.
            command.make_context(path, words[len(own) :])


STUDY = """
name = "small"
sources = ["shipped.toml"]
targets = ["reviews.toml"]
seeds = 1
starts = ["vocabulary"]
source = { steps = 2, key_step = 1, length = 3, batch_size = 4 }
target = { steps = 2, eval_every = 1, length = 3, batch_size = 4 }
"""


def test_the_examples_work_one_after_another(
    spot: Spot, made: Made, command_page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = locate(str(made.backbone))
    tiny = replace(found, id=replace(found.id, name="embedded"))
    for module in (checkpoints, backbone):
        monkeypatch.setattr(module, "locate", lambda name: tiny)
    monkeypatch.setattr(library, "packaged", lambda: tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    for name in ("glue/sst2", *(f"task{number}" for number in range(5))):
        write_task(tmp_path, "shipped", ("up", "down"))
        task = tmp_path / "shipped.toml"
        task.write_text(task.read_text().replace('"shipped"', f'"{name}"'))
        seed = ["--seed", len(name)]
        assert not spot("tune", task, *FAST, *seed, "--out", tmp_path / name, "--set", "max_input_tokens=40").code
        assert not spot("library", "add", tmp_path / name, "--library", tmp_path / "shipped").code
    write_task(tmp_path, "reviews", ("up", "down"))
    (tmp_path / "reviews.toml").unlink()
    (tmp_path / "results.csv").write_bytes((Path(__file__).parents[1] / "data" / "spot_table6.csv").read_bytes())
    write_predictions(tmp_path / "predictions")
    (tmp_path / "study.toml").write_text(STUDY)
    known = leaves(command_page)
    first = "spot tasks init"
    for path in [first, *(path for path in known if path not in (first, "spot demo"))]:
        if path == "spot study teach":  # a library that the study's source is in
            shutil.rmtree("my_prompts")
            for file in (cache_dir() / "studies" / "prompts").iterdir():
                if load(file).task == "task4":
                    assert not spot("library", "add", file, "--library", "my_prompts").code
        for line in examples(*known[path]):
            if "--address" in line:  # a cluster is there in the slow tests alone
                continue
            text, _, command = line.rpartition("|")
            (tmp_path / "echoed.txt").write_text(text.removeprefix("echo").strip())
            words = [str(tmp_path / "echoed.txt") if word == "-" else word for word in shlex.split(command)]
            result = spot(*words[1:])
            assert result.code == 0 and result.out, (line, result.err)


def test_the_page_of_commands_is_up_to_date(command_page: ModuleType):
    assert command_page.PAGE.read_text(encoding="utf-8") == command_page.page(), "run: python docs/make_cli.py"


def test_no_words_show_the_help(spot: Spot):
    result = spot()
    assert "Usage: spot" in result.out + result.err and "transfer" in result.out + result.err


def test_the_version(spot: Spot):
    assert spot("--version") == Result(0, "spot 0.1.0\n", "")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["tun"], "No such command 'tun'. Did you mean 'tune'"),
        (["tune", "mood", "--step", "4"], "No such option: --step"),
        (["evaluate"], "Missing argument 'PROMPT...'"),
        (["export", "p", "--to", "onnx", "--out", "x"], "'onnx' is not one of 'peft', 'numpy'"),
        (["tasks", "show", "cr", "-n", "-1"], "'-n' / '--rows': Input should be greater than or equal to 0"),
    ],
)
def test_words_that_do_not_parse_exit_with_2(spot: Spot, words: list[str], named: str):
    result = spot(*words)
    assert (result.code, result.out) == (2, "")
    assert named in result.err
    assert "Traceback" not in result.err


def test_an_interrupt_exits_with_130_and_says_what_to_do(spot: Spot, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "names", interrupted)
    result = spot("tasks", "list")
    assert (result.code, result.out) == (130, "")
    assert result.err == "interrupted: the same command goes on from the last checkpoint\n"


def test_our_own_mistakes_keep_their_traceback(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(registry, "names", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        main(["tasks", "list"])


def test_a_reader_that_goes_away_is_no_error():
    command = f"{shlex.quote(sys.executable)} -m spot tasks list --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[", "")


def test_constants_agree_with_the_library():
    assert options.PACKAGED == library.PACKAGED


# Tasks.


def test_tasks_list(spot: Spot):
    found = spot("tasks", "list", "--json").json
    assert [task["name"] for task in found] == registry.names()
    assert next(task for task in found if task["name"] == "glue/sst2")["labels"] == ["negative", "positive"]
    assert "glue/sst2" in spot("tasks", "list").out


def test_tasks_show(spot: Spot, made: Made):
    found = spot("tasks", "show", made.task(), "-n", 2, "--json").json
    assert (found["name"], found["labels"], found["splits"]) == ("mood", ["down", "up"], ["train"])
    assert [row["inputs"] for row in found["examples"]["train"]] == ["sentence: mood 0 good", "sentence: mood 1 bad"]
    assert "sentence: mood 0 good" in spot("tasks", "show", made.task()).out
    assert spot("tasks", "show", made.task(), "-n", 0, "--json").json["examples"] == {}


def test_tasks_show_known_data(spot: Spot, shared: Path):
    found = spot("tasks", "show", "cr", "--data", shared / "data", "-n", 1, "--json").json
    assert set(found["examples"]) == {"train", "validation"}
    assert found["examples"]["train"][0]["answers"][0] in found["labels"]


def test_tasks_check(spot: Spot, made: Made):
    found = spot("tasks", "check", made.task(), "--json").json
    assert found["task"] == "mood"
    assert found["splits"][0]["rows"] == 30 and found["splits"][0]["labels"] == {"down": 15, "up": 15}
    assert "down 15, up 15" in spot("tasks", "check", made.task()).out


def test_tasks_init_writes_a_task_file_that_loads(spot: Spot, made: Made, tmp_path: Path):
    rows = tmp_path / "my_rows.csv"
    rows.write_bytes((made.folder / "mood.csv").read_bytes())
    found = spot("tasks", "init", rows, "--json").json
    assert found["path"] == str(tmp_path / "my_rows.toml")
    assert Path(found["path"]).read_text() == found["text"]
    assert registry.get(found["path"]).labels == ("down", "up")
    other = tmp_path / "named.toml"
    assert f"wrote {other}" in spot("tasks", "init", rows, "--out", other).out
    assert other.exists()


# Tuning and using a prompt.


def test_tune(spot: Spot, made: Made):
    words = ["tune", made.task(), *made.model, *FAST, "--out", made.run()]
    before = (made.run() / "prompt.safetensors").read_bytes()
    found = spot(*words, "--json").json
    assert {"task", "prompt", "scores", "step", "steps", "tokens", "seconds", "diagnosis"} <= set(found)
    assert (found["task"], found["steps"]) == ("mood", 4)
    assert found["prompt"] == str(made.run() / "prompt.safetensors")
    prompt = load(found["prompt"])
    assert (prompt.length, prompt.step, dict(prompt.scores)) == (3, found["step"], found["scores"])
    assert Path(found["prompt"]).read_bytes() == before, "a finished run is only read"
    text = spot(*words).out
    assert f"prompt: {found['prompt']}" in text and f"best step {found['step']} of 4" in text
    assert f"accuracy {found['scores']['accuracy']:.1f}" in text


def test_tune_without_out_goes_to_the_cache(spot: Spot, made: Made, own_cache: Path):
    found = spot("tune", made.task("answer"), *made.model, "--steps", 0, "--length", 2, "--json").json
    assert Path(found["prompt"]).parent.parent == own_cache / "runs"
    assert any("no step" in line or "same answer" in line for line in found["diagnosis"]) or found["step"] == 0


def test_tune_reads_a_configuration_and_options_win(spot: Spot, made: Made, tmp_path: Path):
    file = tmp_path / "tune.toml"
    file.write_text("steps = 9\nlength = 2\nbatch_size = 4\neval_every = 1\n")
    words = ["tune", made.task(), *made.model, "--config", file, "--set", "steps=8", "--steps", 1]
    assert spot(*words, "--out", tmp_path / "run", "--json").json["steps"] == 1
    stored = load(tmp_path / "run" / "prompt.safetensors").config
    rate = config.TuneConfig(task="x").learning_rate
    assert (stored["steps"], stored["length"], stored["learning_rate"]) == (1, 2, rate)


def test_scores_are_the_share_of_right_predictions(spot: Spot, made: Made):
    with (made.folder / "mood.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    words = ["--task", made.task(), *made.model]
    scored = spot("evaluate", made.run(), *words, "--split", "train", "--json").json
    assert list(scored) == ["task", "split", "rows", "scores", "invalid", "positive", "classes", "each"]
    assert (scored["task"], scored["split"], scored["rows"]) == ("mood", "train", 30)
    answers = spot("predict", made.run(), *words, "--input", made.folder / "mood.csv", "--json").json
    right = [answer["label"] == row["label"] for answer, row in zip(answers, rows, strict=True)]
    assert scored["scores"]["accuracy"] == pytest.approx(100 * np.mean(right))
    first = spot("evaluate", made.run() / "prompt.safetensors", *words, "--split", "train", "--rows", 7, "--json").json
    assert first["scores"]["accuracy"] == pytest.approx(100 * np.mean(right[:7]))
    counts = np.array(scored["classes"]["confusion"]["counts"])
    assert counts.sum() == 30 and counts.trace() == sum(right)
    text = spot("evaluate", made.run(), *words, "--split", "train", "--rows", 7).out
    assert "mood train, 7 rows: accuracy" in text and "answer / predicted" in text and "precision (%)" in text


def test_rows_that_neither_train_nor_select_are_scored_where_no_split_is_named(spot: Spot, made: Made):
    words = ["--task", made.task(), *made.model, "--json"]
    scored = spot("evaluate", made.run(), *words).json
    tuned = json.loads((made.run() / "result.json").read_text())["runs"][0]
    assert scored["split"] == "report" and scored["scores"] == tuned["scores"]


def test_predict_gives_one_line_a_row_however_the_row_is_given(spot: Spot, made: Made, tmp_path: Path):
    files = {
        "rows.jsonl": '{"text": "mood is good", "inputs": "not this"}\n{"text": "never"}\n',
        "rows.txt": "mood is good\nnever\n",
        "rows.json": '[{"text": "mood is good"}, {"text": "never"}]',
        "rows.tsv": "text\nmood is good\nnever\n",
    }
    given = []
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        result = spot("predict", made.run(), *made.model, "--input", tmp_path / name)
        given.append([json.loads(line) for line in result.out.splitlines()])
    assert all(answers == given[0] for answers in given)
    assert len(given[0]) == 2
    for answer in given[0]:
        assert set(answer["probabilities"]) == {"up", "down"}
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


def test_predict_takes_labels_from_the_prompt_where_the_task_is_unknown(spot: Spot, made: Made, tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"text": "good"}\n')
    words = ["predict", made.run(), *made.model, "--input", tmp_path / "rows.jsonl", "--json"]
    assert spot(*words).json == spot(*words, "--task", made.task()).json


def test_predict_reads_a_pipe_and_prints_nothing_else(made: Made):
    words = [sys.executable, "-m", "spot", "predict", made.run(), *made.model, "--input", "-", "--format", "txt"]
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


# The library, retrieval and transfer.


def test_library_list_and_show(spot: Spot, made: Made):
    found = spot("library", "list", "--library", made.library, "--json").json
    assert [entry["task"] for entry in found] == ["animal", "answer"]
    for entry in found:
        prompt = load(entry["path"])
        assert (prompt.digest, dict(prompt.scores)) == (entry["prompt"], entry["scores"])
    shown = spot("library", "show", "animal", "--library", made.library, "--json").json
    assert (shown["digest"], shown["path"], shown["length"]) == (found[0]["prompt"], found[0]["path"], 3)
    assert found[0]["prompt"] in spot("library", "list", "--library", made.library).out
    assert '"animal"' in spot("library", "show", found[0]["prompt"][:6], "--library", made.library).out


def test_library_create_add_remove_reindex_verify(spot: Spot, made: Made, tmp_path: Path):
    folder = tmp_path / "mine"
    assert spot("library", "create", "--library", folder, "--json").json == {"library": str(folder), "prompts": 0}
    added = spot("library", "add", made.run(), "--library", folder, "--json").json
    assert added == {
        "prompt": load(made.run() / "prompt.safetensors").digest,
        "task": "mood",
        "scores": added["scores"],
        "path": str(folder / "prompts" / f"{added['prompt']}.safetensors"),
    }
    assert spot("library", "reindex", "--library", folder, "--json").json == {"prompts": 1}
    assert spot("library", "verify", "--library", folder, "--json").json == {"prompts": 1, "problems": []}
    assert spot("library", "remove", "mood", "--library", folder, "--json").json == {"removed": added["prompt"]}
    assert spot("library", "list", "--library", folder, "--json").json == []


def test_library_verify_says_what_is_damaged_and_exits_with_2(spot: Spot, made: Made, tmp_path: Path):
    spot("library", "add", made.run(), "--library", tmp_path / "mine")
    (path,) = (tmp_path / "mine" / "prompts").glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    result = spot("library", "verify", "--library", tmp_path / "mine", "--json")
    assert result.code == 2
    (problem,) = json.loads(result.out)["problems"]
    assert path.name in problem


def test_retrieve(spot: Spot, made: Made):
    words = ["retrieve", made.task(), "--library", made.library, *made.model, "-k", 2]
    for metric in ("mean", "token", "max"):
        found = spot(*words, "--rank-by", metric, "--json").json
        assert (found["target"], found["rank_by"]) == ("mood", metric)
        assert {source["task"] for source in found["sources"]} == {"answer", "animal"}
        assert all(list(source) == ["prompt", "task", "similarity"] for source in found["sources"])
        similarities = [source["similarity"] for source in found["sources"]]
        assert similarities == sorted(similarities, reverse=True) and max(similarities) <= 1
    assert found["sources"][0]["prompt"] in spot(*words, "--rank-by", "max").out


def test_retrieve_never_names_the_target_itself(spot: Spot, made: Made):
    words = ["retrieve", made.task("animal"), "--library", made.library, *made.model, "-k", 1, "--json"]
    assert [source["task"] for source in spot(*words).json["sources"]] == ["answer"]


@pytest.mark.parametrize("strategy", ["best", "average", "none"])
def test_transfer(spot: Spot, made: Made, tmp_path: Path, strategy: str):
    words = [
        "transfer",
        made.task(),
        "--library",
        made.library,
        *made.model,
        "--strategy",
        strategy,
        "-k",
        2,
        "--steps",
        4,
        "--seeds",
        2,
        "--set",
        "eval_every=2",
        "--out",
        tmp_path / "out",
    ]
    found = spot(*words, "--json").json
    assert (found["target"], found["run"]) == ("mood", str(tmp_path / "out"))
    arms = {arm["arm"]: arm for arm in found["arms"]}
    assert found["chosen"] in arms
    assert set(arms) == {"frozen", "plain:vocabulary", *(() if strategy == "none" else ("source", "spot"))}
    for arm in arms.values():
        assert {"arm", "source", "score", "interval", "steps", "seconds"} <= set(arm)
        low, high = arm["interval"]
        assert 0 <= low <= arm["score"] <= high <= 100
        assert (arm["source"] is None) == (arm["arm"] not in ("source", "spot"))
    assert arms["plain:vocabulary"]["steps"] == 4 and arms["frozen"]["steps"] == 0
    text = spot(*words).out
    assert found["verdict"] in text and f"runs: {tmp_path / 'out'}" in text and "95 % interval" in text


# Other programs, and this machine.


def test_export_and_import_keep_every_bit(spot: Spot, made: Made, tmp_path: Path):
    prompt = load(made.run() / "prompt.safetensors")
    peft = spot("export", made.run(), "--to", "peft", "--out", tmp_path / "peft", "--json").json
    assert peft == {"prompt": prompt.digest, "format": "peft", "path": str(tmp_path / "peft")}
    for out in (tmp_path / "folder", tmp_path / "mood.npy"):
        plain = spot("export", made.run(), "--to", "numpy", "--out", out, "--json").json
        assert np.array_equal(np.load(plain["path"]), prompt.value)
    for number, source in enumerate((peft["path"], plain["path"])):
        out = tmp_path / f"{number}.safetensors"
        found = spot("import", source, *made.model, "--task", "mood", "--out", out, "--json").json
        assert (found["path"], found["task"], found["length"]) == (str(out), "mood", 3)
        assert np.array_equal(load(out).value, prompt.value)
