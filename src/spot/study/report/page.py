"""The report of a study, from its records alone: one HTML page, Markdown, CSV, pictures, JSON."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from spot.errors import MissingExtra, StudyError
from spot.rendering.html import Section, render
from spot.rendering.tables import Cell, Table, table_text
from spot.retrieval.embeddings import SIMILARITIES
from spot.storage.files import write_whole
from spot.study.analysis.findings import Findings, Standing, find
from spot.study.analysis.pairs import Transfer
from spot.study.analysis.table import BASELINE
from spot.study.cells import StudyPlan, finished
from spot.study.records import Record
from spot.study.report.figures import Picture, draw
from spot.study.report.sentences import READING, TEXTS, sentences, verdict

CELL_COLUMNS = (
    "source",
    "target",
    "mean",
    "std",
    "seeds",
    "baseline",
    "gain",
    "rer",
    "worse",
    "selection_gain",
    "as_is",
    *(f"similarity_{metric}" for metric in SIMILARITIES),
)
ARM_COLUMNS = (
    "arm",
    "score (%)",
    "deviation",
    "95 % interval",
    "gain (points)",
    "95 % interval of the gain",
    "error reduction (%)",
    "its deviation",
    "cost (plain runs)",
    "tuned",
    "tuned (% of model)",
    "shipped",
    "shipped (% of model)",
    "targets",
    "runs",
)


@dataclass(frozen=True)
class StudyReport:
    """A report that was written.

    Attributes:
        path: of its page.
        records: of finished cells that it is made from.
        value: the findings as a JSON value.
    """

    path: Path
    records: int
    value: dict[str, Any]


def report_study(plan: StudyPlan, out: Path | None = None) -> StudyReport:
    """Write the report of a study from the records that it has.

    Args:
        plan: the study and its cells.
        out: folder to write; None for `report` beside the records.

    Raises:
        StudyError: no cell is finished, or a record is damaged.
        StorageError: a file cannot be written.
    """
    config, folder = plan.study.config, out or plan.folder / "report"
    records = list(finished(plan).values())
    if not records:
        raise StudyError(
            f"{plan.records} holds no finished cell of {config.name} ({len(plan.cells)} are planned): expected the "
            "records of some. Run `spot study run` with the study's file."
        )
    value = write_report(config.name, records, folder, strategies=config.strategies, ks=config.k, metric=config.metric)
    return StudyReport(folder / "report.html", len(records), value)


def write_report(
    name: str, records: Sequence[Record], out: Path, *, strategies: Sequence[str], ks: Sequence[int], metric: str
) -> dict[str, Any]:
    """Work out a study and write its report.

    Args:
        name: of the study.
        records: of its cells; what is missing is counted, and what is complete is reported.
        out: folder for `report.html`, `report.md`, `cells.csv` (which `spot study replay` reads), `strategies.csv` and
            the pictures; equal records give equal bytes.
        strategies: of `spot.strategies.plans`.
        ks: numbers of sources for them.
        metric: which similarity ranks.

    Returns:
        The JSON value: the name, the verdict, the sentences and all numbers.

    Raises:
        StudyError: no cell is finished, two records are of one cell, or a strategy, k or metric is unknown.
        StorageError: a file cannot be written.
    """
    found = find(records, strategies, ks, metric)
    pictures: tuple[Picture, ...] = ()
    without = ""
    try:
        pictures = draw(found)
    except MissingExtra as error:  # a report without pictures is worth having
        without = f"There are no pictures: {error}."
    parts = _parts(found, {picture.name: picture for picture in pictures}, without)
    page = {"title": f"Transfer study {name}", "verdict": verdict(found), "facts": _facts(found)}
    sections = [part | {"svg": picture.svg} if picture else part for part, picture in parts]
    files = {
        "report.md": _markdown(page, parts),
        "cells.csv": _cells(found),
        "strategies.csv": _strategies(found),
        "report.html": render({**page, "sections": sections}),
    }
    for file, text in files.items():
        write_whole(out / file, text.encode())
    for picture in pictures:
        write_whole(out / f"{picture.name}.png", picture.png)
    return value(name, found)


def value(name: str, found: Findings) -> dict[str, Any]:
    """The findings as a JSON value: what is not a number is null."""
    counted = {
        "cells": sum(one.cells for one in found.summaries),
        "improved": sum(one.improved for one in found.summaries),
        "worsened": sum(one.worsened for one in found.summaries),
        "tied": sum(one.tied for one in found.summaries),
        "above_10": sorted(
            (gain for one in found.summaries for gain in one.above_10),
            key=lambda gain: (-round(gain.rer, 9), gain.source, gain.target),
        ),
        "best_sources": [best for one in found.summaries for best in one.best_sources],
    }
    numbers = {one.name: getattr(found, one.name) for one in fields(found) if one.name != "summaries"}
    return _plain({"name": name, "verdict": verdict(found), "findings": sentences(found), "pairs": counted, **numbers})


def _plain(thing: Any) -> Any:
    """Dataclasses, arrays and tuples as JSON has them."""
    if is_dataclass(thing):
        return {one.name: _plain(getattr(thing, one.name)) for one in fields(thing)}
    if isinstance(thing, Mapping):
        return {str(key): _plain(one) for key, one in thing.items()}
    if isinstance(thing, np.ndarray):
        return _plain(thing.tolist())
    if isinstance(thing, list | tuple):
        return [_plain(one) for one in thing]
    return None if isinstance(thing, float) and not math.isfinite(thing) else thing


Part = tuple[Section, Picture | None]


def _parts(found: Findings, pictures: Mapping[str, Picture], without: str) -> list[Part]:
    """The sections of the page in order, and the picture that stands in each; what has nothing to say is left out."""
    said = "\n\n".join((*sentences(found), *([without] if without else [])))
    parts: list[tuple[str, str, Table | None, str]] = [
        ("Findings", said, None, ""),
        ("What is there", "", _targets(found), ""),
        ("What each way of tuning reaches", "", _arms(found.arms), ""),
        ("Against the doubts", "", _comparisons(found), ""),
        ("Cost against quality", "", None, "cost-quality"),
        ("Each source on each target", "", _matrix(found), "heat-map"),
        ("One source for all targets", "", _arms(found.generic), ""),
        ("Similarity against gain", "", _correlations(found), "similarity-gain"),
        ("How well similarities rank", "", _rankings(found), ""),
        ("How alike the tasks are", "", None, "similarity-map"),
        ("Cells without a score", "", _failures(found), ""),
        ("How to read this", READING, None, ""),
    ]
    made: list[Part] = []
    for heading, text, table, name in parts:
        section: Section = {"heading": heading, "text": text or TEXTS.get(heading, "")}
        if table is not None and table["rows"]:
            section["table"] = table
        picture = pictures.get(name)
        if text or picture is not None or "table" in section:
            made.append((section, picture))
    return made


def _facts(found: Findings) -> list[tuple[str, Cell]]:
    """What stands below the verdict."""
    counts = [(f"{kind} cells", count.finished) for kind, count in found.counts.items()]
    size = f"{found.backbone:,} parameters" if found.backbone else "size not in the records"
    sources = {one.source for one in found.transfers}
    return [
        ("targets", len(found.targets)),
        ("sources", len(sources)),
        ("seeds", len(found.seeds)),
        *counts,
        ("similarity", found.metric),
        ("frozen model", size),
    ]


def _targets(found: Findings) -> Table:
    columns = (
        "target",
        "complete seeds",
        "pairs",
        "missing pairs",
        "train rows",
        "select rows",
        "report rows",
        "overlap left out",
        "better start (seeds)",
    )
    rows = [
        (
            one.name,
            one.seeds,
            one.pairs,
            one.missing,
            *(one.rows.get(name) for name in ("train", "select", "report", "overlap")),
            ", ".join(f"{start} {seeds}" for start, seeds in sorted(one.starts.items())) or None,
        )
        for one in found.targets
    ]
    return {"columns": columns, "rows": rows}


def _arms(arms: Sequence[Standing]) -> Table:
    rows = [
        (
            one.arm,
            one.score,
            one.deviation,
            _ends(one.interval),
            one.gain,
            _ends(one.gain_interval, "+"),
            one.rer,
            one.rer_deviation,
            None if one.cost is None else f"{one.cost:.2f}",
            one.tuned,
            _share(one.tuned_share),
            one.shipped,
            _share(one.shipped_share),
            one.targets,
            one.runs,
        )
        for one in arms
    ]
    return {"columns": ARM_COLUMNS, "rows": rows}


def _comparisons(found: Findings) -> Table:
    columns = ("arm", "against", "difference (points)", "95 % interval", "better", "runs")
    rows = [
        (
            one.arm,
            f"{one.against} (equal cost)" if one.role == "equal_cost" else one.against,
            one.difference,
            _ends(one.interval, "+"),
            one.better,
            one.runs,
        )
        for one in found.comparisons
    ]
    return {"columns": columns, "rows": rows}


def _matrix(found: Findings) -> Table:
    """Relative error reduction, sources by targets, sources in the order of their mean."""
    known = {(one.source, one.target): one.rer for one in found.transfers}
    targets = sorted({target for _, target in known})
    rows = []
    for source in {source for source, _ in known}:
        own = [known.get((source, target)) for target in targets]
        there = [rer for rer in own if rer is not None]
        rows.append((source, float(np.mean(there)) if there else None, *own))
    rows.sort(key=lambda row: (math.inf if row[1] is None else -row[1], row[0]))
    return {"columns": ("source", "mean", *targets), "rows": rows}


def _correlations(found: Findings) -> Table:
    rows = [
        (
            one.target,
            one.sources,
            *(None if x is None else f"{x:+.2f}" for x in (one.pearson, one.spearman)),
            None if one.p is None else f"{one.p:.2g}",
            one.why or None,
        )
        for one in found.correlations
    ]
    return {"columns": ("target", "sources", "Pearson r", "Spearman", "p of r", "why not"), "rows": rows}


def _rankings(found: Findings) -> Table:
    rows = [
        (
            one.metric,
            f"{one.spearman:+.3f}",
            f"{one.interval[0]:+.2f} to {one.interval[1]:+.2f}",
            None if one.top3 is None else 100 * one.top3,
            one.targets,
            one.left_out,
            one.falls_back,
        )
        for one in found.rankings
    ]
    return {
        "columns": (
            "ranking",
            "mean Spearman",
            "95 % interval",
            "best source in top 3 (% of targets)",
            "targets",
            "left out",
            "ranked as mean",
        ),
        "rows": rows,
    }


def _failures(found: Findings) -> Table:
    rows = [(one.kind, one.target, one.source or None, one.seed, one.reason) for one in found.failures]
    return {"columns": ("kind", "task", "from", "seed", "reason"), "rows": rows}


def _ends(interval: tuple[float, float], sign: str = "") -> str:
    return f"{interval[0]:{sign}.1f} to {interval[1]:{sign}.1f}"


def _share(share: float | None) -> str | None:
    return None if share is None else f"{share:.3g}"


def _markdown(page: Mapping[str, Any], parts: Sequence[Part]) -> str:
    """The page as Markdown; the pictures stand beside it as files."""
    lines = [f"# {page['title']}", page["verdict"], "; ".join(f"{name} {fact}" for name, fact in page["facts"])]
    blocks = [escape(line, quote=False) for line in lines]
    for section, picture in parts:
        blocks.append(f"## {section['heading']}")
        if text := section.get("text"):
            blocks.append(escape(text, quote=False))
        if found := section.get("table"):
            blocks.append(escape(table_text(found["columns"], found["rows"]), quote=False))
        if picture is not None:
            blocks.append(f"![{picture.title}]({picture.name}.png)")
    return "\n\n".join(blocks) + "\n"


def _cells(found: Findings) -> str:
    """Plain tuning of each target as the source `BASELINE`, then every pair."""
    most: dict[str, Transfer] = {}
    for one in found.transfers:
        most[one.target] = max(most.get(one.target, one), one, key=lambda pair: pair.seeds)
    rows: list[list[Any]] = [
        [BASELINE, target, one.baseline, None, one.seeds, one.baseline] for target, one in most.items()
    ]
    for one in found.transfers:
        rows.append(
            [
                one.source,
                one.target,
                one.mean,
                one.deviation,
                one.seeds,
                one.baseline,
                one.gain,
                one.rer,
                one.worse,
                one.selection_gain,
                one.as_is,
                *(one.similarity.get(metric) for metric in SIMILARITIES),
            ]
        )
    return _csv(CELL_COLUMNS, rows)


def _strategies(found: Findings) -> str:
    """Every arm with all of its numbers; an interval takes two columns."""
    rows = [_flat(arm) for arm in (*found.arms, *found.generic)]
    return _csv(list(rows[0]) if rows else [one.name for one in fields(Standing)], [list(row.values()) for row in rows])


def _flat(arm: Standing) -> dict[str, Any]:
    """The numbers of an arm by column."""
    flat: dict[str, Any] = {}
    for one in fields(arm):
        if isinstance(pair := getattr(arm, one.name), tuple):
            flat |= {f"{one.name}_low": pair[0], f"{one.name}_high": pair[1]}
        else:
            flat[one.name] = pair
    return flat


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; what is not known is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([*row, *[None] * (len(columns) - len(row))] for row in rows)
    return file.getvalue()
