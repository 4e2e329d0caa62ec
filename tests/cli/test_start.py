"""The process of a command: Ctrl-C at any moment, and streams that are closed, full or of few letters."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spot.cli import GOES_ON, INTERRUPTED, start
from tests.support.tuned_tasks import FAST, TunedTasks

SPOT = [sys.executable, "-m", "spot"]
# What runs in the background of a shell ignores Ctrl-C, and its children too, unless told.
HEEDED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
# As `start.main` does it, for the signal may come before that is called.
MINDFUL = f"""{HEEDED}
from spot.cli import start
start.mind_interrupts()
try:
    print('ready', flush=True)
    start.main()
except KeyboardInterrupt:
    start._leave()
"""
ASCII = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]


def interrupted(words: list[object], seconds: float) -> tuple[int, str]:
    """Exit code and stderr of a command that gets Ctrl-C some time after it began to mind that."""
    command = [sys.executable, "-c", MINDFUL, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    return process.returncode, err


def check_end(code: int, err: str) -> None:
    """A command that was interrupted says so in one line; it may have ended just before."""
    lines = [line for line in err.splitlines() if not line.endswith(" ...")]
    if code != 0:
        assert (code, lines) == (INTERRUPTED, [GOES_ON])
    assert "Traceback" not in err and "terminate" not in err


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.03, 0.06, 0.1, 0.15])
def test_an_interrupt_while_modules_load_ends_in_one_line(seconds: float):
    check_end(*interrupted(["library", "list"], seconds))


@pytest.mark.slow
def test_an_interrupt_at_any_moment_of_a_start_ends_in_one_line(tuned_tasks: TunedTasks, tmp_path: Path):
    clock = random.Random(5)
    for number in range(4):
        out = tmp_path / str(number)
        words = ["tune", tuned_tasks.task(), *tuned_tasks.model, *FAST, "--steps", "100000", "--out", out]
        code, err = interrupted(words, clock.uniform(0.0, 6.0))
        assert code == INTERRUPTED, err  # so many steps are never done by then
        check_end(code, "\n".join(line for line in err.splitlines() if not line.startswith(("loading", "tuning"))))


def test_an_interrupt_that_a_library_swallows_ends_the_process_all_the_same():
    code = f"""
import time
{HEEDED}
from spot.cli import start
start.SECONDS_TO_STOP = 0.2
start.mind_interrupts()
for number in range(100):
    try:
        print("ready", flush=True) if number == 0 else None
        time.sleep(0.1)
    except KeyboardInterrupt:
        pass
raise SystemExit({INTERRUPTED + 1})
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == f"{GOES_ON}\n" and process.returncode == INTERRUPTED


def test_an_interrupt_while_something_is_destroyed_ends_in_one_line():
    code = f"""
{HEEDED}
import time
from spot.cli import start
start.mind_interrupts()
class Slow:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(9)
thing = Slow()
del thing
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == f"{GOES_ON}\n" and process.returncode == INTERRUPTED


def test_an_interrupt_that_the_shell_ignores_stays_ignored():
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from spot.cli import start; "
    code += "start.mind_interrupts(); assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_frame_of_an_import_is_told_from_others():
    assert not start._is_importing(sys._getframe())
    code = "import sys; from spot.cli.start import _is_importing; assert _is_importing(sys._getframe())"
    folder = Path(os.environ["SPOT_CACHE"])
    folder.mkdir(exist_ok=True)
    (folder / "loads.py").write_text(code)
    subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); import loads"], check=True)


@pytest.mark.parametrize("stream", ["/dev/full", "&-"])
@pytest.mark.parametrize("words", ["library list", "tasks list --json", "--version", "--help", "tune --help"])
def test_stdout_that_takes_nothing_is_said_in_words(words: str, stream: str):
    command = f"'{sys.executable}' -m spot {words} >{stream}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done


@pytest.mark.parametrize("stream", ["/dev/full", "&-"])
def test_stderr_that_takes_nothing_changes_neither_result_nor_code(stream: str):
    for words, code in (("library list --json", 0), ("library list --library nowhere", 2)):
        command = f"'{sys.executable}' -m spot {words} 2>{stream}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == code and done.stdout[:1] == ("[" if code == 0 else ""), done


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path: Path):
    code = f"from spot.cli import start; start.mend_streams(); file = open({str(tmp_path / 'file')!r}, 'w')\n"
    code += "assert file.fileno() > 2, file.fileno()"
    subprocess.run(["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code], check=True)


@pytest.mark.parametrize("environment", ASCII, ids=["ioencoding", "locale"])
def test_letters_that_a_stream_cannot_carry_are_written_as_escapes(environment: dict[str, str], tmp_path: Path):
    rows = tmp_path / "données.csv"
    rows.write_text("texte,label\n" + "".join(f"naïve {n},é\ngut {n},ö\n" for n in range(30)), encoding="utf-8")
    out = tmp_path / "task.toml"
    for words in (["tasks", "init", rows, "--out", out], ["tasks", "show", out]):
        done = subprocess.run(
            [*SPOT, *map(str, words)],
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0 or "PYTHONUTF8=1" in done.stderr
    assert "données.csv" in out.read_text(encoding="utf-8") and "?" not in out.read_text(encoding="utf-8")


def test_a_task_file_is_not_written_where_its_path_is_no_text(tmp_path: Path):
    rows = os.fsencode(tmp_path) + b"/caf\xe9.csv"
    with open(rows, "w") as file:
        file.write("text,label\n" + "good,a\nbad,b\n" * 20)
    words = ["tasks", "init", os.fsdecode(rows), "--out", str(tmp_path / "task.toml")]
    done = subprocess.run([*SPOT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no UTF-8" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "task.toml").exists()
