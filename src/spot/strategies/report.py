"""Say what a transfer found: arms with their intervals, the verdict, JSON, and one HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spot.errors import MissingExtra
from spot.evaluation.classes import ClassReport, class_sections
from spot.prompts.prompt import SoftPrompt
from spot.rendering.html import Page, Section, render
from spot.rendering.plots import learning_curves, similarity_bars
from spot.retrieval.ranking import Ranking
from spot.retrieval.search import Ranked
from spot.storage.files import write_whole
from spot.strategies.advice import advice, best_sentence, gain_sentence, size_text, warnings
from spot.strategies.arms import BASELINES, Arm, CandidateSummary, Difference

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
    "to ship",
)


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
        lead: the arm that the selection rows prefer, against the one that they prefer next.
        rivalry: the best arm that is no prompt, a constant answer apart, against the best that is one.
        over_constant: of each arm, how far it is above a constant answer.
        not_run: arm -> why it could not run on these rows.
        is_plain: whether what the strategy kept is the plain run itself.
        is_alike: whether `spot` answers every report row as the better plain arm does.
        far: that the library holds nothing near, in a sentence; empty where it does.
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
    lead: Difference | None = None
    rivalry: Difference | None = None
    over_constant: Mapping[str, Difference] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)
    is_plain: bool = False
    is_alike: bool = False
    far: str = ""

    @property
    def prompt(self) -> SoftPrompt:
        """The prompt to use: that of the chosen arm, of the seed with the best selection score.

        Raises:
            PromptError: its file is gone or damaged.
        """
        return SoftPrompt.load(self.prompt_file)

    @property
    def verdict(self) -> str:
        """Which arm is best and by how much, and whether the transfer helped: a sentence each."""
        source, gain = None, None
        if self.gain is not None and self.gain_interval is not None:
            source = next(arm.source for arm in self.arms if arm.arm == "spot")
            gain = Difference(
                arm="spot", against="plain", points=self.gain, interval=self.gain_interval, alike=self.is_alike
            )
        helped = gain_sentence(gain, source, self.candidates, is_plain=self.is_plain)
        return f"{best_sentence(self.arms, self.lead)} {helped}".strip()

    @property
    def advice(self) -> str:
        """What to use, in words."""
        return advice(self.arms, self.over_constant, self.rivalry, prompt_file=str(self.prompt_file))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why these numbers say less than they seem to, in sentences."""
        return (*warnings(self.arms, self.over_constant, self.rows["report"]), *filter(None, [self.far]))

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
            "advice": self.advice,
            "warnings": list(self.warnings),
            "lead": None if self.lead is None else asdict(self.lead),
            "rivalry": None if self.rivalry is None else asdict(self.rivalry),
            "over_constant": {arm: asdict(part) for arm, part in self.over_constant.items()},
            "not_run": dict(self.not_run),
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
        ("recommendation", report.advice.removeprefix("Recommendation: ")),
    ]
    care = " ".join(report.warnings)
    missing = "\n\n".join(f"Not run: {reason}." for reason in report.not_run.values())
    parts: list[Section] = [
        {
            "heading": "What each arm reaches",
            "text": "Scores are percent on report rows, which chose nothing: steps, sources and the better plain start "
            "were chosen on selection rows. Intervals are bootstraps over rows and seeds."
            + "".join(f"\n\n{part}" for part in (care, missing) if part),
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
        **BASELINES,
        "frozen": "frozen model, no prompt",
        "source": "source prompt as it is",
        "spot": "SPoT: tuned from it",
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
            size_text(arm.bytes),
        ]
        for arm in report.arms
    ]


def _pictures(report: TransferReport) -> list[Section]:
    """Learning curves and similarities; without the extra that draws them, a line that says so."""
    curves = {}
    for arm in report.arms:
        if not arm.is_prompt and not arm.curve:
            continue
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
