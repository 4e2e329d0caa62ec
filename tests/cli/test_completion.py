"""Completion as bash itself does it: the script that typer writes, sourced in a shell that asks for words."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spot.tasks import registry
from tests.support.cached_runs import write_run

# A shell without a terminal has no tab key: the function that the tab key calls is called with what it would see.
ASK = """
set -e
eval "$(_SPOT_COMPLETE=source_bash spot)"
COMP_WORDS=({words})
COMP_CWORD={number}
_spot_completion spot
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
LOADED = """
import sys
from spot.__main__ import main
try:
    main([])
finally:
    print(*sorted({"torch", "transformers"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.fixture
def completed(tmp_path: Path) -> Callable[..., list[str]]:
    """What bash offers for the last of some words, where the command `spot` is in its path."""
    program = tmp_path / "bin" / "spot"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m spot "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def complete(*words: str) -> list[str]:
        listed = " ".join(shlex.quote(word) for word in ("spot", *words))
        script = ASK.format(words=listed, number=len(words))
        command = ["bash", "--norc", "-c", script]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return complete


def test_commands_and_options_are_completed(completed):
    assert completed("tra") == ["transfer"]
    assert {"list", "show", "compare", "remove"} <= set(completed("runs", ""))
    assert completed("tune", "--ste") == ["--steps"]
    assert completed("nothing-like-it") == []


def test_names_of_tasks_prompts_and_runs_are_completed(completed, own_cache: Path):
    assert completed("tasks", "show", "glue/s") == [name for name in registry.names() if name.startswith("glue/s")]
    assert completed("library", "show", "glue/ss") == ["glue/sst2"]
    write_run(own_cache / "runs" / "ab12")
    write_run(own_cache / "transfers" / "reviews-1" / "plain")
    assert completed("runs", "show", "") == ["ab12", "reviews-1"]


def test_a_library_that_is_not_there_completes_nothing_and_says_nothing(completed, tmp_path: Path):
    assert completed("library", "show", "--library", str(tmp_path / "none"), "g") == []


@pytest.mark.parametrize("words", ["spot tune g", "spot library show g", "spot runs show a"])
def test_completion_loads_no_torch(words: str):
    asked = {"_SPOT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env={**os.environ, **asked}, capture_output=True, text=True, timeout=120
    )
    assert done.stderr.strip() == "", done.stderr


def test_it_installs_itself_into_a_home(tmp_path: Path):
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"}
    (tmp_path / ".bashrc").write_text("# mine\n")
    # The shell is told by the process above, and bash would put a single command in its own place.
    command = f"{shlex.quote(sys.executable)} -m spot --install-completion; exit $?"
    done = subprocess.run(
        ["bash", "--norc", "-c", command], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    text = (tmp_path / ".bashrc").read_text()
    assert text.startswith("# mine\n") and "spot.sh" in text
    [script] = tmp_path.rglob("spot.sh")
    assert "_SPOT_COMPLETE=complete_bash" in script.read_text()
