"""Say what a transfer found: arms with their intervals, the verdict, JSON, and one HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from spot.errors import MissingExtra
from spot.evaluation.classes import ClassReport, class_sections
from spot.evaluation.scoring import Evaluation
from spot.prompts.prompt import SoftPrompt
from spot.rendering.html import Page, Section, render
from spot.rendering.plots import learning_curves, similarity_bars
from spot.retrieval.ranking import Ranking
from spot.retrieval.search import Ranked
from spot.storage.files import write_whole
from spot.strategies.plans import Kind

ARM_COLUMNS = (
    "arm",
    "starts from",
    "score, %",
    "95 % interval",
    "steps",
    "seconds",
    "steps to plain's score",
    "seconds to plain's score",
    "parameters",
)


@dataclass(frozen=True)
class ArmPoint:
    """One evaluation of an arm's runs on the selection rows.

    Attributes:
        step: after which it was made.
        score: percent, mean over the seeds.
        scores: percent, one a seed.
        seconds: of training to get there, mean over the seeds.
    """

    step: int
    score: float
    scores: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to answer the target's rows, measured on the report rows.

    Attributes:
        arm: `frozen`, `source`, `plain:vocabulary`, `plain:classes`, `spot` or `model`.
        source: task names of the prompts that it starts from.
        score: percent, mean over seeds.
        interval: 95 % bootstrap interval of the score over rows and seeds, percent.
        steps: optimiser steps on the target.
        seconds: of training on the target, mean over seeds.
        scores: percent, one a seed.
        selection: mean score on the selection rows, percent; what choices rest on.
        curve: evaluations on the selection rows.
        steps_to_plain: first evaluated step whose mean selection score reaches plain tuning's last; None if none does.
        seconds_to_plain: training seconds up to that step.
        parameters: trained, P x D, or those of the model.
        folder: of the arm's runs, below the transfer's; None where nothing was tuned.
        shipped: parameters that are kept for the task.
        tokens: text tokens trained for the target, mean over seeds: this run, what it took to find its start, and
            the candidates that lost.
        relative_cost: `tokens` as a multiple of one plain run's.
        evaluations: on the report rows, one a seed.
        files: prompt files, one a seed.
    """

    arm: str
    source: str | None
    score: float
    interval: tuple[float, float]
    steps: int = 0
    seconds: float = 0.0
    scores: tuple[float, ...] = ()
    selection: float = float("nan")
    curve: tuple[ArmPoint, ...] = ()
    steps_to_plain: int | None = None
    seconds_to_plain: float | None = None
    parameters: int = 0
    folder: str | None = None
    shipped: int = 0
    tokens: int = 0
    relative_cost: float = 0.0
    evaluations: tuple[Evaluation, ...] = field(default=(), repr=False, compare=False)
    files: tuple[Path, ...] = field(default=(), repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The arm as plain values, without what it answered."""
        values = asdict(replace(self, evaluations=(), files=()))
        del values["evaluations"], values["files"]
        return {key: None if value != value else value for key, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class CandidateSummary:
    """One candidate of a strategy, as a report shows it.

    Attributes:
        source: tasks of the prompts that it started from, or `scratch`.
        kind: of its start, as in `Start`.
        steps: taken.
        selection: score on selection rows, percent.
        tokens: text tokens trained.
        ended: `kept`, `lost`, `dropped` at a rung, or why it diverged.
    """

    source: str
    kind: Kind
    steps: int
    selection: float
    tokens: int
    ended: str


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """What a transfer found.

    Attributes:
        target: task name.
        arms: measured on the same report rows.
        chosen: the tuned prompt's arm that the selection rows prefer; a tuned model is a baseline and never chosen.
        gain: score of `spot` less that of the better plain arm, points; None for `none`.
        gain_interval: 95 % paired bootstrap interval of the gain, points.
        left_out: report rows that a source had seen.
        rows: number of train, selection and report rows.
        run: folder with everything.
        prompt_file: of the chosen arm's prompt, that of the seed with the best selection score.
        strategy: that was carried out; the one that `auto` picked.
        ranking: sources, best first; empty for `none`.
        rank_by: what ranked the sources.
        expected: of each source of the ranking, what past transfers lead to expect; empty where they did not rank.
        k: sources that were used.
        reason: of `auto`: what it picked and why, in two sentences; empty otherwise.
        candidates: of the strategy.
        classes: how that prompt answers each class of the report rows; None for open answers.
    """

    target: str
    arms: tuple[Arm, ...]
    chosen: str
    gain: float | None
    gain_interval: tuple[float, float] | None
    left_out: int
    rows: Mapping[str, int]
    run: Path
    prompt_file: Path
    strategy: str
    ranking: tuple[Ranked, ...] = ()
    rank_by: str = ""
    expected: tuple[float, ...] = ()
    k: int = 0
    reason: str = ""
    candidates: tuple[CandidateSummary, ...] = ()
    classes: ClassReport | None = None

    @property
    def prompt(self) -> SoftPrompt:
        """The prompt to use: that of the chosen arm, of the seed with the best selection score.

        Raises:
            PromptError: its file is gone or damaged.
        """
        return SoftPrompt.load(self.prompt_file)

    @property
    def verdict(self) -> str:
        """Whether the transfer helped, in a sentence that follows the interval."""
        if self.gain is None or self.gain_interval is None:
            return "No source was used: this is plain prompt tuning."
        spot = next(arm for arm in self.arms if arm.arm == "spot")
        low, high = self.gain_interval
        change = f"{self.gain:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}) against plain prompt tuning"
        if any(candidate.ended == "kept" and candidate.kind == "scratch" for candidate in self.candidates):
            return f"No source was kept: a start from scratch did best on selection rows. It gives {change}."
        if low > 0:
            return f"Starting from {spot.source} helped: {change}."
        if high < 0:
            return f"Starting from {spot.source} HURT: {change}. Use plain prompt tuning."
        return f"SPoT did not win clearly: starting from {spot.source} gives {change}; the interval includes zero."

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "target": self.target,
            "strategy": self.strategy,
            "k": self.k,
            "rank_by": self.rank_by or None,
            "reason": self.reason or None,
            "arms": [arm.to_json() for arm in self.arms],
            "chosen": self.chosen,
            "run": str(self.run),
            "prompt": str(self.prompt_file),
            "verdict": self.verdict,
            "gain": self.gain,
            "gain_interval": self.gain_interval,
            "left_out": self.left_out,
            "rows": dict(self.rows),
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "classes": None if self.classes is None else self.classes.to_json(),
            "ranking": Ranking(self.ranking, self.rank_by, self.expected).to_json(),
        }

    def save(self, path: Path | str) -> Path:
        """Write the report as one HTML file that needs nothing else.

        Returns:
            The path.

        Raises:
            StorageError: it cannot be written.
        """
        write_whole(path, render(transfer_page(self)).encode())
        return Path(path)


def transfer_page(
    report: TransferReport,
    *,
    title: str = "",
    facts: Sequence[tuple[str, Any]] = (),
    sections: Sequence[Section] = (),
    command: str = "",
) -> Page:
    """The report's page.

    Args:
        report: what a transfer found.
        title: the heading of the page; left out: the target's name.
        facts: further ones, which stand first.
        sections: further ones, which stand last.
        command: that makes the report again.
    """
    overlap = f"{report.left_out} report rows stood in a source's training rows and were left out"
    all_facts = [
        *facts,
        ("rows", f"{report.rows['train']} train, {report.rows['select']} select, {report.rows['report']} report"),
        ("overlap", overlap),
        ("strategy", report.reason or report.strategy),
        ("chosen by selection rows", report.chosen),
    ]
    parts: list[Section] = [
        {
            "heading": "What each arm reaches",
            "text": "Scores are percent on report rows, which chose nothing: steps, sources and the better plain start "
            "were chosen on selection rows. Intervals are bootstraps over rows and seeds.",
            "table": {"columns": ARM_COLUMNS, "rows": arm_rows(report)},
        },
        *([] if report.classes is None else class_sections(report.classes, "the chosen prompt")),
        *_pictures(report),
        *sections,
    ]
    page: Page = {
        "title": title or f"A transfer to {report.target}",
        "verdict": report.verdict,
        "facts": all_facts,
        "sections": parts,
    }
    return {**page, "command": command} if command else page


def arm_rows(report: TransferReport) -> list[list[Any]]:
    """The arms as rows under `ARM_COLUMNS`."""
    names = {
        "frozen": "frozen model, no prompt",
        "source": "source prompt as it is",
        "spot": "SPoT: tuned from it",
        "model": "full model tuning",
    }
    return [
        [
            names.get(arm.arm) or f"plain prompt tuning, {arm.arm.partition(':')[2]} start",
            arm.source,
            arm.score,
            f"{arm.interval[0]:.1f} to {arm.interval[1]:.1f}",
            arm.steps,
            arm.seconds,
            arm.steps_to_plain,
            arm.seconds_to_plain,
            arm.parameters,
        ]
        for arm in report.arms
    ]


def _pictures(report: TransferReport) -> list[Section]:
    """Learning curves and similarities; without the extra that draws them, a line that says so."""
    curves = {}
    for arm in report.arms:
        seeds = range(len(arm.scores)) if arm.curve else range(0)
        curves[arm.arm] = [[(point.step, point.scores[seed]) for point in arm.curve] for seed in seeds]
    try:
        sections: list[Section] = [
            {
                "heading": "Learning curves",
                "text": "Mean selection score over the seeds. Step 0 is the start itself.",
                "svg": learning_curves(curves),
            }
        ]
        if report.ranking:
            tasks, values = zip(*((ranked.task, ranked.similarity) for ranked in report.ranking), strict=True)
            order = "what past transfers lead to expect." if report.expected else "the similarities."
            sections.append(
                {
                    "heading": "Which source is near",
                    "text": "Cosine of average tokens between task embeddings. The target's embedding is read from its "
                    f"own plain run at the library's key step. The order is that of {order}",
                    "svg": similarity_bars(list(tasks), list(values)),
                }
            )
        return sections
    except MissingExtra as missing:
        return [{"heading": "Pictures", "text": str(missing)}]
