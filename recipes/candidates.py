"""Measure every candidate of the demo's rule that its rows do not rule out, and write what the report says of them.

    python recipes/candidates.py --out DIR            # all of them
    python recipes/candidates.py --out DIR demo/products

Each candidate gets plain tuning and transfer, as the demo does. Finished runs are only read, and what is not named here
keeps its results.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import spot
from spot import demo
from spot.library.library import open_library
from spot.models.backbone import Backbone
from spot.strategies.report import TransferReport


def summary(found: TransferReport) -> list[Any]:
    """The values of a candidate under the report's columns."""
    arms = {arm.arm: arm for arm in found.arms}
    plain = max((arm for arm in found.arms if arm.arm.startswith("plain")), key=lambda arm: arm.selection)
    low, high = found.gain_interval
    return [
        round(arms["frozen"].score, 1),
        round(plain.score, 1),
        round(arms["spot"].score, 1),
        f"{found.gain:+.1f}",
        f"{low:+.1f} to {high:+.1f}",
        arms["spot"].source,
    ]


def main() -> None:
    """Measure the candidates one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("names", nargs="*", help="candidates to measure; left out: all")
    arguments = parser.parse_args()
    record = Path(spot.__file__).parent / demo.RECORD
    backbone = Backbone.load()
    measured: dict[str, list[Any]] = json.loads(record.read_text())
    for name in arguments.names or demo.CANDIDATES:
        candidate = demo.CANDIDATES[name]
        if demo.ineligible(candidate):
            measured[name] = ["not tuned", "", "", "", "", ""]
            continue
        folder = arguments.out / name.replace("/", "-")
        found, page = demo.run(backbone, open_library("packaged"), target=name, out=folder)
        measured[name] = summary(found)
        print(name, *measured[name], page, flush=True)
        record.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
