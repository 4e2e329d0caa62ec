"""Run the tests that are too long for `make test`: `python -m tests.campaigns.long`."""

import argparse

from tests.campaigns.pytest_runs import run


def main() -> None:
    """Run them from the command line: each failure is one line; exit code 1 where there is one."""
    parser = argparse.ArgumentParser(description="Run the tests that are too long for `make test`.")
    parser.add_argument("--trials", type=int, default=1, help="how often")
    parser.add_argument("--seed", type=int, default=1, help="of nothing: these tests name their own")
    options = parser.parse_args()
    raise SystemExit(max(run("campaign") for _ in range(options.trials)))


if __name__ == "__main__":
    main()
