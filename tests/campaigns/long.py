"""Run tests that are too long for `make test`: `python -m tests.campaigns.long --trials 2` draws two by a seed."""

import argparse

from tests.campaigns.pytest_runs import run


def main() -> None:
    """Run them from the command line: each failure is one line; exit code 1 where there is one."""
    parser = argparse.ArgumentParser(description="Run tests that are too long for `make test`.")
    parser.add_argument("--trials", type=int, default=100, help="tests, all of them where there are no more")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    raise SystemExit(run("campaign", most=options.trials, seed=options.seed))


if __name__ == "__main__":
    main()
