"""Write the report of a study from its records alone: one HTML page, Markdown, CSV, pictures, JSON."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from spot.errors import MissingExtra, StudyError
from spot.rendering.html import Page, Section, render
from spot.rendering.tables import Cell, Table, table_text
from spot.retrieval.embeddings import SIMILARITIES
from spot.storage.files import write_whole
from spot.storage.text import printable
from spot.study.analysis.findings import ArmSummary, Comparison, Findings, analyse
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


Part = tuple[Section, Picture | None]


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
        StudyError: no cell is finished.
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
    findings = analyse([_with_printable_names(record) for record in records], strategies, ks, metric)
    pictures: tuple[Picture, ...] = ()
    without = ""
    try:
        pictures = draw(findings)
    except MissingExtra as error:  # a report without pictures is worth having
        without = f"There are no pictures: {error}."
    parts = _parts(findings, {picture.name: picture for picture in pictures}, without)
    page: Page = {
        "title": f"Transfer study {name}",
        "verdict": verdict(findings),
        "facts": _facts(findings),
        "sections": [{**part, "svg": picture.svg} if picture else part for part, picture in parts],
    }
    files = {
        "report.md": _markdown(page, parts),
        "cells.csv": _cells_csv(findings),
        "strategies.csv": _strategies_csv(findings),
        "report.html": render(page),
    }
    for file, text in files.items():
        write_whole(out / file, text.encode())
    for picture in pictures:
        write_whole(out / f"{picture.name}.png", picture.png)
    return findings_as_json(name, findings)


def _with_printable_names(record: Record) -> Record:
    """A record whose names and reason can stand in a page, a table and a picture."""
    return replace(
        record,
        task=printable(record.task),
        sources=tuple(printable(source) for source in record.sources),
        reason=printable(record.reason, lines=True),
    )


def findings_as_json(name: str, findings: Findings) -> dict[str, Any]:
    """The findings of a study as a JSON value: what is not a number is null."""
    summaries = findings.summaries
    pairs = {
        "cells": sum(summary.cells for summary in summaries),
        "improved": sum(summary.improved for summary in summaries),
        "worsened": sum(summary.worsened for summary in summaries),
        "tied": sum(summary.tied for summary in summaries),
        "above_10": sorted(
            (gain for summary in summaries for gain in summary.above_10),
            key=lambda gain: (-round(gain.rer, 9), gain.source, gain.target),
        ),
        "best_sources": [best for summary in summaries for best in summary.best_sources],
    }
    numbers = {field.name: getattr(findings, field.name) for field in fields(findings) if field.name != "summaries"}
    return _plain(
        {"name": name, "verdict": verdict(findings), "findings": sentences(findings), "pairs": pairs, **numbers}
    )


def _plain(value: Any) -> Any:
    """Dataclasses, arrays and tuples as JSON has them."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parts(findings: Findings, pictures: Mapping[str, Picture], without: str) -> list[Part]:
    """The sections of the page in order, and the picture that stands in each; what has nothing to say is left out."""
    verdicts = "\n\n".join((*sentences(findings), *([without] if without else [])))
    wanted: list[tuple[str, str, Table | None, str]] = [  # heading, text, table, name of the picture
        ("Findings", verdicts, None, ""),
        ("What is there", "", _targets(findings), ""),
        ("What each way of tuning reaches", "", _arms(findings.arms), ""),
        ("On the targets that are learned", "", _arms(findings.learned_arms), ""),
        ("Against the doubts", "", _comparisons(findings.comparisons), ""),
        ("Against the doubts, on the targets that are learned", "", _comparisons(findings.learned_comparisons), ""),
        ("Cost against quality", "", None, "cost-quality"),
        ("Each source on each target", "", _matrix(findings), "heat-map"),
        ("One source for all targets", "", _arms(findings.generic), ""),
        ("Similarity against gain", "", _correlations(findings), "similarity-gain"),
        ("How well similarities rank", "", _rankings(findings), ""),
        ("How alike the tasks are", "", None, "similarity-map"),
        ("Cells without a score", "", _failures(findings), ""),
        ("How to read this", READING, None, ""),
    ]
    parts: list[Part] = []
    for heading, text, table, name in wanted:
        section: Section = {"heading": heading, "text": text or TEXTS.get(heading, "")}
        if table is not None and table["rows"]:
            section["table"] = table
        picture = pictures.get(name)
        if text or picture is not None or "table" in section:
            parts.append((section, picture))
    return parts


def _facts(findings: Findings) -> list[tuple[str, Cell]]:
    """What stands below the verdict."""
    counts = [(f"{kind} cells", count.finished) for kind, count in findings.counts.items()]
    size = f"{findings.backbone:,} parameters" if findings.backbone else "size not in the records"
    sources = {transfer.source for transfer in findings.transfers}
    return [
        ("targets", len(findings.targets)),
        ("sources", len(sources)),
        ("seeds", len(findings.seeds)),
        *counts,
        ("similarity", findings.metric),
        ("frozen model", size),
    ]


def _targets(findings: Findings) -> Table:
    """What is there of each target."""
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
        "constant answer (%)",
        "best arm above it (standard errors)",
    )
    rows = [
        (
            target.name,
            target.seeds,
            target.pairs,
            target.missing,
            *(target.rows.get(name) for name in ("train", "select", "report", "overlap")),
            ", ".join(f"{start} {seeds}" for start, seeds in sorted(target.starts.items())) or None,
            target.constant,
            None if target.over_constant is None else f"{target.over_constant:+.1f}",
        )
        for target in findings.targets
    ]
    return {"columns": columns, "rows": rows}


def _arms(arms: Sequence[ArmSummary]) -> Table:
    """The numbers of some arms."""
    rows = [
        (
            arm.arm,
            arm.score,
            arm.deviation,
            _ends(arm.interval),
            arm.gain,
            _ends(arm.gain_interval, "+"),
            arm.rer,
            arm.rer_deviation,
            None if arm.cost is None else f"{arm.cost:.2f}",
            arm.tuned,
            _share(arm.tuned_share),
            arm.shipped,
            _share(arm.shipped_share),
            arm.targets,
            arm.runs,
        )
        for arm in arms
    ]
    return {"columns": ARM_COLUMNS, "rows": rows}


def _comparisons(comparisons: Sequence[Comparison]) -> Table:
    """Each guided arm against its rivals."""
    columns = ("arm", "against", "difference (points)", "95 % interval", "better", "runs")
    rows = [
        (
            pair.arm,
            f"{pair.against} (equal cost)" if pair.role == "equal_cost" else pair.against,
            pair.difference,
            _ends(pair.interval, "+"),
            pair.better,
            pair.runs,
        )
        for pair in comparisons
    ]
    return {"columns": columns, "rows": rows}


def _matrix(findings: Findings) -> Table:
    """Relative error reduction, sources by targets, sources in the order of their mean."""
    reductions = {(transfer.source, transfer.target): transfer.rer for transfer in findings.transfers}
    targets = sorted({target for _, target in reductions})
    rows = []
    for source in {source for source, _ in reductions}:
        of_source = [reductions.get((source, target)) for target in targets]
        defined = [reduction for reduction in of_source if reduction is not None]
        rows.append((source, float(np.mean(defined)) if defined else None, *of_source))
    rows.sort(key=lambda row: (math.inf if row[1] is None else -row[1], row[0]))
    return {"columns": ("source", "mean", *targets), "rows": rows}


def _correlations(findings: Findings) -> Table:
    """Similarity against gain, target by target."""
    rows = [
        (
            pair.target,
            pair.sources,
            *(None if value is None else f"{value:+.2f}" for value in (pair.pearson, pair.spearman)),
            None if pair.p is None else f"{pair.p:.2g}",
            pair.why or None,
        )
        for pair in findings.correlations
    ]
    return {"columns": ("target", "sources", "Pearson r", "Spearman", "p of r", "why not"), "rows": rows}


def _rankings(findings: Findings) -> Table:
    """How well each ranking of the sources foretells their gains."""
    columns = (
        "ranking",
        "mean Spearman",
        "95 % interval",
        "lost by the first (points)",
        "best source in top 3 (% of targets)",
        "targets",
        "left out",
        "ranked as mean",
    )
    rows = [
        (
            ranker.metric,
            f"{ranker.spearman:+.3f}",
            f"{ranker.interval[0]:+.2f} to {ranker.interval[1]:+.2f}",
            ranker.regret,
            None if ranker.top3 is None else 100 * ranker.top3,
            ranker.targets,
            ranker.left_out,
            ranker.falls_back,
        )
        for ranker in findings.rankings
    ]
    return {"columns": columns, "rows": rows}


def _failures(findings: Findings) -> Table:
    """Cells without a score, and why."""
    rows = [(cell.kind, cell.target, cell.source or None, cell.seed, cell.reason) for cell in findings.failures]
    return {"columns": ("kind", "task", "from", "seed", "reason"), "rows": rows}


def _ends(interval: tuple[float, float], sign: str = "") -> str:
    return f"{interval[0]:{sign}.1f} to {interval[1]:{sign}.1f}"


def _share(share: float | None) -> str | None:
    return None if share is None else f"{share:.3g}"


def _markdown(page: Page, parts: Sequence[Part]) -> str:
    """The page as Markdown; the pictures stand beside it as files."""
    lines = [f"# {page['title']}", page["verdict"], "; ".join(f"{name} {fact}" for name, fact in page.get("facts", ()))]
    paragraphs = [escape(line, quote=False) for line in lines]
    for section, picture in parts:
        paragraphs.append(f"## {section['heading']}")
        if text := section.get("text"):
            paragraphs.append(escape(text, quote=False))
        if table := section.get("table"):
            paragraphs.append(escape(table_text(table["columns"], table["rows"]), quote=False))
        if picture is not None:
            paragraphs.append(f"![{picture.title}]({picture.name}.png)")
    return "\n\n".join(paragraphs) + "\n"


def _cells_csv(findings: Findings) -> str:
    """Plain tuning of each target as the source `BASELINE`, then every pair."""
    most: dict[str, Transfer] = {}  # target -> the first pair that has most seeds
    for transfer in findings.transfers:
        most[transfer.target] = max(most.get(transfer.target, transfer), transfer, key=lambda pair: pair.seeds)
    rows: list[Sequence[Cell]] = [
        (BASELINE, target, pair.baseline, None, pair.seeds, pair.baseline) for target, pair in most.items()
    ]
    rows += [
        (
            transfer.source,
            transfer.target,
            transfer.mean,
            transfer.deviation,
            transfer.seeds,
            transfer.baseline,
            transfer.gain,
            transfer.rer,
            transfer.worse,
            transfer.selection_gain,
            transfer.as_is,
            *(transfer.similarity.get(metric) for metric in SIMILARITIES),
        )
        for transfer in findings.transfers
    ]
    return _csv(CELL_COLUMNS, rows)


def _strategies_csv(findings: Findings) -> str:
    """Every arm with all of its numbers; an interval takes two columns."""
    rows = [_flat(arm) for arm in (*findings.arms, *findings.generic)]
    columns = list(rows[0]) if rows else [field.name for field in fields(ArmSummary)]
    return _csv(columns, [list(row.values()) for row in rows])


def _flat(arm: ArmSummary) -> dict[str, Cell]:
    """The numbers of an arm by column."""
    flat: dict[str, Cell] = {}
    for field in fields(arm):
        value = getattr(arm, field.name)
        if isinstance(value, tuple):
            flat[f"{field.name}_low"], flat[f"{field.name}_high"] = value
        else:
            flat[field.name] = value
    return flat


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table; what is not known is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([*row, *[None] * (len(columns) - len(row))] for row in rows)
    return file.getvalue()
