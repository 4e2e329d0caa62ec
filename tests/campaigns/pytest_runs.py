"""Run tests as part of a campaign: what fails is one line each on stdout, all else is on stderr."""

import contextlib
import random
import sys

import pytest


class Drawn:
    """Draws some of the tests, and remembers what fails."""

    def __init__(self, most: int, seed: int) -> None:
        self.most, self.seed = most, seed
        self.failures: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep as many as may be, after what the marker expression leaves."""
        items[:] = random.Random(self.seed).sample(items, min(self.most, len(items)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the last line of a failure."""
        if report.failed:
            self.failures.append(f"{report.nodeid}: {report.longreprtext.strip().splitlines()[-1]}")


def run(tests: str, *words: str, most: int = sys.maxsize, seed: int = 0) -> int:
    """Run the tests of a marker expression, or as many of them as are drawn.

    Returns:
        0 where all of them passed, 1 where one failed or none was run.
    """
    drawn = Drawn(most, seed)
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main(["-q", "-p", "no:cacheprovider", "-m", tests, *words], plugins=[drawn])
    for line in drawn.failures or [f"pytest ended with {int(code)}"] * bool(code):
        print(line, flush=True)
    return int(bool(code))
