"""Run all campaigns and write down what was tried: `python -m tests.campaigns --seed 1 --out build/campaign`.

Each is a process of its own, one a core at a time. `report.json` and `report.md` say of each how much was tried, with
which seed, by which command, and what failed; the exit code is 1 where something did.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Plan:
    """How much of a campaign is run.

    Attributes:
        trial: what a trial is, in words.
        long: trials of a long run.
        short: trials of a short one, of about a minute or less.
        words: what else its command is told in a short run.
    """

    trial: str
    long: int
    short: int
    words: tuple[str, ...] = ()


# The long ones first, so that none is waited for at the end.
PLANS = {
    "long": Plan("a test that is too long for `make test`", 100, 2),
    "families": Plan("a model family, held against plain transformers by every check", 1000, 12),
    "kills": Plan("a kill of a command, which is then given again", 300, 6, ("--no-cluster",)),
    "models": Plan("a changed model folder, refused or loaded as it is", 4000, 60),
    "records": Plan("a damaged record, study file, run folder, PEFT folder or numpy file", 4000, 50),
    "prompts": Plan("a damaged prompt file, library, journal or index", 4000, 50),
    "properties": Plan("an example of every property of the unit tests, which sweep all rows too", 1000, 100),
    "rows": Plan("a damaged file of rows or task file", 10_000, 150),
    "texts": Plan("rows of a drawn task, encoded by a drawn tokenizer", 20_000, 300),
}


@dataclass(frozen=True)
class Outcome:
    """What came of a campaign.

    Attributes:
        campaign: its name.
        trial: what a trial is.
        trials: how many.
        seed: that draws them.
        seconds: that they took.
        failures: one line each.
        command: makes them again.
    """

    campaign: str
    trial: str
    trials: int
    seed: int
    seconds: float
    failures: tuple[str, ...]
    command: str


def carry_out(name: str, plan: Plan, short: bool, seed: int, out: Path) -> Outcome:
    """Run one campaign; what it says on its way is kept beside the report."""
    trials = plan.short if short else plan.long
    words = ["-m", f"tests.campaigns.{name}", "--trials", str(trials), "--seed", str(seed)]
    words += plan.words if short else ()
    began = time.monotonic()
    log = out / f"{name}.log"
    with log.open("w") as said:
        ended = subprocess.run([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True)
    failures = [line for line in ended.stdout.splitlines() if line]
    if ended.returncode not in (0, 1) or bool(failures) != bool(ended.returncode):
        failures.append(f"ended with exit code {ended.returncode}: {log.read_text(errors='replace')[-1000:]}")
    seconds = round(time.monotonic() - began, 1)
    print(f"{name}: {len(failures)} failures in {trials} trials, {seconds:.0f} s", flush=True)
    return Outcome(name, plan.trial, trials, seed, seconds, tuple(failures), " ".join(["python", *words]))


def page(outcomes: Sequence[Outcome]) -> str:
    """The report for people."""
    lines = [
        "# Campaigns",
        "",
        "| campaign | a trial is | trials | failures | seconds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for each in outcomes:
        lines.append(
            f"| {each.campaign} | {each.trial} | {each.trials:,} | {len(each.failures)} | {each.seconds:.0f} |"
        )
    for each in outcomes:
        lines += ["", f"## {each.campaign}", "", f"`{each.command}`"]
        lines += ["", "```", *each.failures, "```"] if each.failures else ["", "Nothing failed."]
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    """Run the campaigns from the command line."""
    parser = argparse.ArgumentParser(description="Run all campaigns and write down what was tried.")
    parser.add_argument("--short", action="store_true", help="few trials of each, some minutes in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(PLANS), default=list(PLANS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "campaign", help="folder of the report")
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = [
            pool.submit(carry_out, name, PLANS[name], options.short, options.seed, options.out) for name in options.only
        ]
        outcomes = [each.result() for each in running]
    (options.out / "report.json").write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")
    (options.out / "report.md").write_text(page(outcomes))
    for each in outcomes:
        for failure in each.failures:
            print(f"{each.campaign}: {failure}")
    print(f"the report: {options.out / 'report.md'}")
    raise SystemExit(any(each.failures for each in outcomes))


if __name__ == "__main__":
    main()
