"""Run tests as part of a campaign: what fails is one line each on stdout, all else is on stderr."""

import contextlib
import sys

import pytest


class Failures:
    """Remembers what fails."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the last line of a failure."""
        if report.failed:
            self.lines.append(f"{report.nodeid}: {report.longreprtext.strip().splitlines()[-1]}")


def run(tests: str, *words: str) -> int:
    """Run the tests of a marker expression.

    Returns:
        0 where all of them passed, 1 where one failed or none was run.
    """
    failures = Failures()
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main(["-q", "-p", "no:cacheprovider", "-m", tests, *words], plugins=[failures])
    for line in failures.lines or [f"pytest ended with {int(code)}"] * bool(code):
        print(line, flush=True)
    return int(bool(code))
