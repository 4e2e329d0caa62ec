"""Try the properties of the unit tests on many examples: `python -m tests.campaigns.properties --trials 1000 --seed 1`.

A property that names its own number of examples keeps it; the seed draws other ones. Sweeps over real data, which the
unit tests begin, read every row here.
"""

import argparse

import hypothesis

from tests.campaigns.pytest_runs import run


def main() -> None:
    """Run the campaign from the command line: each failure is one line; exit code 1 where there is one."""
    parser = argparse.ArgumentParser(description="Try the properties of the unit tests on many examples.")
    parser.add_argument("--trials", type=int, default=1000, help="examples of each property")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    hypothesis.settings.register_profile(
        "campaign",
        deadline=None,
        derandomize=False,
        max_examples=options.trials,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    # hypothesis is here before pytest, which would rewrite its assertions.
    words = ["-W", "ignore:Module already imported so cannot be rewritten"]
    words += ["--every-row", "--hypothesis-profile=campaign", f"--hypothesis-seed={options.seed}"]
    raise SystemExit(run("(hypothesis or sweep) and unit", *words))


if __name__ == "__main__":
    main()
