"""What a study will take: text tokens, time and disk, as far as rows and backbone are here to tell."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from spot.collator import collator_named
from spot.config import TuneConfig
from spot.errors import SpotError
from spot.models import embedded
from spot.models.backbone import Backbone
from spot.models.checkpoints import locate
from spot.storage.files import cache_dir, write_whole
from spot.study.cells import Cell, Gang, StudyPlan, cell_as_json, gangs
from spot.study.records import Record
from spot.tasks import mixtures, registry
from spot.training.loop import seconds_of
from spot.training.run import members_of, prepare_run

PROBE = 20  # steps
SAMPLE = 256  # rows whose tokens are counted
POINT = 120  # bytes of a point of a curve in a record
RECORD = 2500  # bytes of the rest


@dataclass(frozen=True)
class Estimate:
    """What the cells without a record will take.

    Attributes:
        tokens: text tokens trained; None where unknown.
        seconds: on one device such as the one here, models apart; None where unknown.
        disk: bytes in cache and records, models apart; None where unknown.
        unknown: why something is not known.
    """

    tokens: int | None
    seconds: float | None
    disk: int | None
    unknown: tuple[str, ...] = ()


@dataclass
class _Ruler:
    """What has been measured so far."""

    plan: StudyPlan
    data: Path | None
    lengths: dict[tuple[str, int], float] = field(default_factory=dict)

    def tokens(self, cell: Cell) -> float:
        """Text tokens that a cell trains."""
        total = self._trained(cell.config, cell.config.task)
        if cell.before is not None:
            nearest = [origin.reference for origin in self.plan.study.sources[: cell.k] if not origin.prompt]
            names = nearest if cell.kind == "mixture" else [cell.before.task]
            total += sum(self._trained(cell.before, name) for name in names) / max(1, len(names))
        return total

    def _trained(self, config: TuneConfig, reference: str) -> float:
        """Text tokens of a run on a task or mixture."""
        if config.batch_tokens is not None:
            return config.steps * config.batch_tokens
        return config.steps * config.batch_size * self._length(config, reference)

    def _length(self, config: TuneConfig, reference: str) -> float:
        """Mean tokens of a train row; of a mixture weighed by the official sizes of its tasks, where all are known."""
        mixture = mixtures.find_mixture(reference)
        if mixture is not None:
            sizes = {name: registry.get(name).size for name in mixture.tasks}
            mixing = "equal" if None in sizes.values() else "proportional"
            shares = mixture.rates or mixtures.mixing_rates(sizes, mixing, config.mixing_cap, config.temperature)
            parts = [self._length(config, name) for name in mixture.tasks]
            return sum(share * part for share, part in zip(shares, parts, strict=True))
        key = (reference, config.max_input_tokens)
        if key not in self.lengths:
            task = registry.get(reference, self.data, config.task_prefix)
            rows = list(islice(task.load("train"), SAMPLE))
            encoded = collator_named(config.backbone, task, config.max_input_tokens).encode(rows)
            self.lengths[key] = sum(len(row.input_ids) for row in encoded) / max(1, len(encoded))
        return self.lengths[key]


def estimate(plan: StudyPlan, found: Mapping[str, Record], data: Path | None, probe: bool | None) -> Estimate:
    """Estimate what the cells without a record will take.

    Args:
        plan: the study.
        found: records by digest.
        data: where the known data sets are.
        probe: whether to time `PROBE` steps; None does where the backbone is a folder here or embedded. What was timed
            once is kept in the cache.
    """
    missing = [cell for cell in plan.cells if cell.digest not in found and not cell.prompt]
    if not missing:
        return Estimate(0, 0.0, 0)
    backbone = plan.study.config.backbone
    if not probe and backbone != embedded.NAME and not Path(backbone).is_dir():
        return Estimate(None, None, None, (f"{backbone} is no folder here: --probe fetches it to count and to time",))
    try:
        width = locate(backbone).id.width
    except SpotError as error:
        return Estimate(None, None, None, (f"the backbone is not here: {error}",))
    disk = sum(_bytes(cell, width) for cell in missing if cell.kind != "model")
    ruler = _Ruler(plan, data)
    try:
        tokens = {cell: ruler.tokens(cell) for cell in missing}
    except SpotError as error:
        return Estimate(None, None, disk, (f"the rows are not here: {error}",))
    total, walking = round(sum(tokens.values())), gangs(cell for cell in missing if cell.kind != "model")
    if probe is False or not walking:
        return Estimate(total, None, disk, ("not timed: --probe does",) if walking else ("models are not timed",))
    first = next((gang for gang in walking if gang.cells[0].kind in ("plain", "source")), walking[0])
    rate = _seconds(first, data) / max(1.0, sum(tokens[cell] for cell in first.cells))
    seconds = rate * sum(tokens[cell] for gang in walking for cell in gang.cells)
    models = any(cell.kind == "model" for cell in missing)
    return Estimate(total, seconds, disk, ("models are not timed",) if models else ())


def overview(plan: StudyPlan, found: Mapping[str, Record], guess: Estimate) -> dict[str, Any]:
    """A plan as plain values: what `spot study plan --json` prints."""
    kinds = {}
    for kind in dict.fromkeys(cell.kind for cell in plan.cells):
        own = [cell for cell in plan.cells if cell.kind == kind]
        left = [cell for cell in own if cell.digest not in found]
        steps = sum(cell.config.steps + (cell.before.steps if cell.before else 0) for cell in left if not cell.prompt)
        kinds[kind] = {"cells": len(own), "finished": len(own) - len(left), "gangs": len(gangs(left)), "steps": steps}
    return {
        "name": plan.study.config.name,
        "records": str(plan.records),
        "sources": sum(cell.kind == "source" for cell in plan.cells),
        "embeddings": sum(cell.kind == "plain" and cell.config.key_step is not None for cell in plan.cells),
        "transfers": sum(bool(cell.needs) for cell in plan.cells),
        "kinds": kinds,
        **asdict(guess),
        "cells": [cell_as_json(cell) for cell in plan.cells],
    }


def words(guess: Estimate) -> str:
    """An estimate for people."""
    tokens = "text tokens unknown" if guess.tokens is None else f"about {guess.tokens:,} text tokens"
    hours = "time unknown" if guess.seconds is None else f"{guess.seconds / 3600:.1f} hours on one device"
    disk = "disk unknown" if guess.disk is None else f"{guess.disk / 1e6:,.1f} MB of disk"
    return f"{tokens}, {hours}, {disk}"


def _seconds(gang: Gang, data: Path | None) -> float:
    """How long one gang will take, from `PROBE` of its steps."""
    path = cache_dir() / "studies" / "probes" / f"{gang.digest}.json"
    if path.is_file():
        return float(json.loads(path.read_bytes())["seconds"])
    config = gang.cells[0].config.model_copy(update={"init": "vocabulary"})
    members, name = members_of(config, data)
    backbone = Backbone.load(config.backbone, gradient_checkpointing=config.gradient_checkpointing)
    run = prepare_run(config, members, backbone, name=name)
    runs = [replace(run, config=config.model_copy(update={"seed": cell.seed})) for cell in gang.cells]
    seconds = seconds_of(runs, backbone, PROBE)
    write_whole(path, json.dumps({"seconds": seconds}).encode())
    return seconds


def _bytes(cell: Cell, width: int) -> int:
    """Of a cell's prompt, in its run and beside it, of its checkpoint, and of its record."""
    array = 4 * cell.config.length * width
    points = 1 + math.ceil(cell.config.steps / cell.config.eval_every)
    embedding = 2 * 4 * width * 4 // 3 if cell.config.key_step is not None else 0
    return 2 * 3 * array + RECORD + POINT * points + embedding
