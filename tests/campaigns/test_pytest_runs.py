"""Tests that a campaign runs: as many as are drawn, and each failure is one line."""

import subprocess
import sys
from pathlib import Path

SOME = "import pytest\n@pytest.mark.parametrize('n', range(9))\ndef test_it(n):\n    assert n < 0\n"
RUN = "import sys; from tests.campaigns.pytest_runs import run\n"
RUN += "sys.exit(run('{marker}', '-c', '/dev/null', '--rootdir', sys.argv[1], sys.argv[1], most=2, seed=1))"


def ran(folder: Path, marker: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(SOME)
    command = [sys.executable, "-c", RUN.format(marker=marker), str(folder)]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)


def test_each_failure_of_the_drawn_tests_is_one_line(tmp_path: Path):
    done = ran(tmp_path, "not slow")
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (1, 2), done
    assert all("test_some.py::test_it[" in line and "AssertionError" in line for line in lines)
    assert ran(tmp_path, "not slow").stdout == done.stdout, "a seed draws the same tests"


def test_where_no_test_is_run_that_is_a_failure(tmp_path: Path):
    done = ran(tmp_path, "slow")
    assert (done.returncode, done.stdout) == (1, "pytest ended with 5\n"), done
