"""Campaigns that run tests: properties have as many examples as they are told, and each failure is one line."""

import subprocess
import sys
from pathlib import Path

CHECK = """
import sys, hypothesis, pytest
from tests.campaigns import properties
def looked(words, plugins):
    hypothesis.settings.load_profile("campaign")
    assert hypothesis.settings.default.max_examples == 7 and {"--hypothesis-seed=2", "--every-row"} <= set(words)
    report = pytest.TestReport("tests/test_a.py::test_b", ("", 0, ""), {}, "failed", "a traceback\\nE  4 == 5", "call")
    plugins[0].pytest_runtest_logreport(report)
    return 1
pytest.main = looked
sys.argv = ["properties", "--trials", "7", "--seed", "2"]
properties.main()
"""


def test_the_campaign_runs_the_properties_and_prints_what_fails():
    command = [sys.executable, "-c", CHECK]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "tests/test_a.py::test_b: E  4 == 5\n"), done.stderr
