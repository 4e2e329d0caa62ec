"""Estimate what a study will take: text tokens, time and disk, as far as rows and backbone are here to tell."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from spot.collator import collator_named
from spot.config import INSTEAD, TuneConfig
from spot.errors import SpotError
from spot.models import embedded
from spot.models.backbone import Backbone
from spot.models.checkpoints import locate
from spot.storage.files import cache_dir
from spot.study.cells import Cell, Gang, StudyPlan, cell_as_json, gangs
from spot.study.records import Record
from spot.tasks import mixtures, registry
from spot.training.loop import seconds_of
from spot.training.probe import read_probe, write_probe
from spot.training.run import members_of, prepare_run

PROBE_STEPS = 20
SAMPLE_ROWS = 256  # whose tokens are counted
POINT_BYTES = 120  # of a point of a curve in a record
RECORD_BYTES = 2500  # of the rest
ANSWER_BYTES = 8  # of a report row in a record


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the cells without a record will take.

    Attributes:
        tokens: text tokens trained; None where unknown.
        seconds: on one device such as the one here, models apart; None where unknown.
        disk: bytes in cache and records, models apart; None where unknown.
        unknown: why something is not known.
    """

    tokens: int | None = None
    seconds: float | None = None
    disk: int | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class _TokenCounter:
    """Counts the text tokens that cells train.

    Attributes:
        plan: the study.
        data: where the known data sets are.
        lengths: (task, longest input) -> mean tokens of a train row, of those that have been counted.
    """

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
            rows = list(islice(task.load("train"), SAMPLE_ROWS))
            encoded = collator_named(config.backbone, task, config.max_input_tokens).encode(rows)
            self.lengths[key] = sum(len(row.input_ids) for row in encoded) / max(1, len(encoded))
        return self.lengths[key]


def estimate(plan: StudyPlan, records: Mapping[str, Record], data: Path | None, probe: bool | None) -> Estimate:
    """Estimate what the cells without a record will take; what one would pick instead of prompts is not counted.

    Args:
        plan: the study.
        records: of finished cells, by digest.
        data: where the known data sets are.
        probe: whether to time `PROBE_STEPS` steps; None does where the backbone is a folder here or embedded. What was
            timed once is kept in the cache.
    """
    missing = [
        cell for cell in plan.cells if cell.digest not in records and not cell.prompt and cell.kind not in INSTEAD
    ]
    if not missing:
        return Estimate(tokens=0, seconds=0.0, disk=0)
    backbone = plan.study.config.backbone
    if not probe and backbone != embedded.NAME and not Path(backbone).is_dir():
        return Estimate(unknown=(f"{backbone} is no folder here: --probe fetches it to count and to time",))
    try:
        width = locate(backbone).id.width
    except SpotError as error:
        return Estimate(unknown=(f"the backbone is not here: {error}",))
    disk = sum(_bytes(cell, width) for cell in missing if cell.kind != "model")
    counter = _TokenCounter(plan, data)
    try:
        tokens = {cell: counter.tokens(cell) for cell in missing}
    except SpotError as error:
        return Estimate(disk=disk, unknown=(f"the rows are not here: {error}",))
    total, prompt_gangs = round(sum(tokens.values())), gangs(cell for cell in missing if cell.kind != "model")
    if probe is False or not prompt_gangs:
        reason = "not timed: --probe does" if prompt_gangs else "models are not timed"
        return Estimate(tokens=total, disk=disk, unknown=(reason,))
    first = next((gang for gang in prompt_gangs if gang.cells[0].kind in ("plain", "source")), prompt_gangs[0])
    rate = _seconds(first, data) / max(1.0, sum(tokens[cell] for cell in first.cells))
    seconds = rate * sum(tokens[cell] for gang in prompt_gangs for cell in gang.cells)
    has_models = any(cell.kind == "model" for cell in missing)
    return Estimate(tokens=total, seconds=seconds, disk=disk, unknown=("models are not timed",) if has_models else ())


def overview(plan: StudyPlan, records: Mapping[str, Record], estimated: Estimate) -> dict[str, Any]:
    """A plan as plain values: what `spot study plan --json` prints."""
    kinds = {}
    for kind in dict.fromkeys(cell.kind for cell in plan.cells):
        cells = [cell for cell in plan.cells if cell.kind == kind]
        missing = [cell for cell in cells if cell.digest not in records]
        kinds[kind] = {
            "cells": len(cells),
            "finished": len(cells) - len(missing),
            "gangs": len(gangs(missing)),
            "steps": sum(_steps(cell) for cell in missing if not cell.prompt and cell.kind not in INSTEAD),
        }
    return {
        "name": plan.study.config.name,
        "records": str(plan.records),
        "sources": sum(cell.kind == "source" for cell in plan.cells),
        "embeddings": sum(cell.kind == "plain" and cell.config.key_step is not None for cell in plan.cells),
        "transfers": sum(bool(cell.needs) for cell in plan.cells),
        "kinds": kinds,
        **asdict(estimated),
        "cells": [cell_as_json(cell) for cell in plan.cells],
    }


def in_words(estimated: Estimate) -> str:
    """An estimate for people."""
    tokens = "text tokens unknown" if estimated.tokens is None else f"about {estimated.tokens:,} text tokens"
    hours = "time unknown" if estimated.seconds is None else f"{estimated.seconds / 3600:.1f} hours on one device"
    disk = "disk unknown" if estimated.disk is None else f"{estimated.disk / 1e6:,.1f} MB of disk"
    return f"{tokens}, {hours}, {disk}"


def _seconds(gang: Gang, data: Path | None) -> float:
    """How long one gang will take, from `PROBE_STEPS` of its steps."""
    path = cache_dir() / "studies" / "probes" / f"{gang.digest}.json"
    if (seconds := read_probe(path)) is not None:
        return seconds
    config = gang.cells[0].config.model_copy(update={"init": "vocabulary"})
    members, name = members_of(config, data)
    backbone = Backbone.load(
        config.backbone,
        dtype=config.precision,
        gradient_checkpointing=config.gradient_checkpointing,
        quantise=config.quantise,
    )
    run = prepare_run(config, members, backbone, name=name)
    runs = [replace(run, config=config.model_copy(update={"seed": cell.seed})) for cell in gang.cells]
    seconds = seconds_of(runs, backbone, PROBE_STEPS)
    write_probe(path, seconds)
    return seconds


def _steps(cell: Cell) -> int:
    """Steps of a cell's runs."""
    return cell.config.steps + (cell.before.steps if cell.before else 0)


def _bytes(cell: Cell, width: int) -> int:
    """Of a cell's prompt, in its run and beside it, of its checkpoint, and of its record."""
    array = 4 * cell.config.length * width
    points = 1 + math.ceil(cell.config.steps / cell.config.eval_every)
    embedding = 2 * 4 * width * 4 // 3 if cell.config.key_step is not None else 0
    answers = 0 if cell.kind == "source" else ANSWER_BYTES * cell.config.report_rows
    return 2 * 3 * array + RECORD_BYTES + POINT_BYTES * points + embedding + answers
