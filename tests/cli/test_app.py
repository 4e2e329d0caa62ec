"""The command line from end to end, on tiny random models: shapes of the JSON, help texts, streams, exit codes."""

import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer

from spot.cli import GOES_ON
from spot.cli.app import app, main
from spot.library import library
from spot.models import backbone, checkpoints
from spot.models.checkpoints import locate
from spot.prompts.prompt import load
from spot.storage.files import cache_dir
from spot.tasks import registry
from tests.support.commands import Result, Spot, refused
from tests.support.scripts import script
from tests.support.submissions import write_predictions
from tests.support.tuned_tasks import FAST, TunedTasks, write_task

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="session")
def command_page() -> ModuleType:
    return script("docs/make_cli.py")


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
    spot: Spot, tuned_tasks: TunedTasks, command_page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = locate(str(tuned_tasks.backbone))
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
            if "://" in line:  # places that others keep: test_sharing.py has them on this machine
                continue
            if "spot serve" in line:  # goes on until a signal: test_serve.py ends it
                continue
            if "library build" in line:  # wants rows that a model learns from: test_library_build.py has them
                continue
            # A smaller shape is worked out in the same way, in a tenth of the time.
            text, _, command = line.replace("t5-xl", "t5-small").rpartition("|")
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
    assert result.err == f"{GOES_ON}\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory\nframe #0"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
    ids=str,
)
def test_memory_that_runs_out_is_one_message(spot: Spot, monkeypatch: pytest.MonkeyPatch, error: Exception):
    def exhausted():
        raise error

    monkeypatch.setattr(registry, "names", exhausted)
    refused(spot("tasks", "list"), "memory ran out", "batch_size")


def test_a_person_is_told_where_more_stands_and_a_program_is_not(spot: Spot, monkeypatch: pytest.MonkeyPatch):
    words = ["tasks", "show", "glue/sst"]
    alone = spot(*words)
    assert alone.err.count("\n") == 1
    monkeypatch.setattr(sys.stderr.__class__, "isatty", lambda stream: True, raising=False)
    assert spot(*words).err == f"{alone.err}more: docs/errors.md#taskerror\n"


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


def test_rows_that_neither_train_nor_select_are_scored_where_no_split_is_named(spot: Spot, tuned_tasks: TunedTasks):
    words = ["--task", tuned_tasks.task(), *tuned_tasks.model, "--json"]
    scored = spot("evaluate", tuned_tasks.run(), *words).json
    tuned = json.loads((tuned_tasks.run() / "result.json").read_text())["runs"][0]
    assert scored["split"] == "report" and scored["scores"] == tuned["scores"]
