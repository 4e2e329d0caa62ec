"""Say what a transfer found: arms with their intervals, the verdict, JSON, and one HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spot.evaluation.answers import answer_sections, measured_calibration, next_steps
from spot.evaluation.calibration import calibration_section
from spot.evaluation.classes import ClassReport, class_sections
from spot.prompts.prompt import SoftPrompt
from spot.rendering.drawings import Measured, bars, interval_plot, learning_curves
from spot.rendering.html import Page, Section, render
from spot.rendering.tables import Table, size_text
from spot.retrieval.ranking import Ranking
from spot.retrieval.search import Ranked
from spot.storage.files import write_whole
from spot.strategies.advice import advice, best_sentence, gain_sentence, warnings
from spot.strategies.arms import Arm, CandidateSummary, Difference, by_selection
from spot.tasks.task import Example

ARM_COLUMNS = ("arm", "selection score, %", "score, %", "95 % interval", "above a constant answer, points", "cost")


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
        examples: the report rows; empty where they are not at hand.
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
    examples: tuple[Example, ...] = field(default=(), repr=False, compare=False)

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
        sections: further ones, which stand behind the results.
        command: that makes the report again.
    """
    chosen = next(arm for arm in report.arms if arm.arm == report.chosen)
    seed = chosen.files.index(report.prompt_file) if report.prompt_file in chosen.files else 0
    answered = chosen.evaluations[seed].predictions if chosen.evaluations else ()
    is_known = len(report.examples) == len(answered)
    measured = measured_calibration(report.examples, answered) if is_known else None
    page: Page = {
        "title": title or f"A transfer to {report.target}",
        "verdict": report.verdict,
        "text": report.advice,
        "chart": interval_plot(
            [
                Measured(
                    name=arm.name, value=arm.score, low=arm.interval[0], high=arm.interval[1], is_marked=arm is chosen
                )
                for arm in _ranked_by_score(report)
            ]
        ),
        "facts": [
            *facts,
            ("rows that train", report.rows["train"]),
            ("rows that select", report.rows["select"]),
            ("rows that report", report.rows["report"]),
            ("report rows that a source had seen, left out", report.left_out),
            ("chosen by selection rows", chosen.name),
            ("strategy", f"{report.strategy}, k = {report.k}" if report.k else report.strategy),
        ],
        "sections": [
            _arms_section(report),
            *_strategy_sections(report),
            *_curves(report),
            *([] if report.classes is None else class_sections(report.classes, "the chosen prompt")),
            *([] if measured is None else [calibration_section(measured)]),
            *(answer_sections(report.examples, answered) if is_known else []),
            _costs_section(report),
            *sections,
            next_steps(str(report.prompt_file)),
        ],
    }
    return {**page, "command": command} if command else page


def arm_rows(report: TransferReport) -> list[list[Any]]:
    """The arms as rows under `ARM_COLUMNS`, the best by selection rows first."""
    return [
        [
            arm.name,
            arm.selection if arm.selection == arm.selection else None,
            arm.score,
            f"{arm.interval[0]:.1f} to {arm.interval[1]:.1f}",
            f"{above.points:+.1f}" if (above := report.over_constant.get(arm.arm)) else None,
            f"{arm.relative_cost:.2f}x",
        ]
        for arm in _shown(report)
    ]


def _shown(report: TransferReport) -> list[Arm]:
    """The arms that are something of their own: what a race kept of its own plain run is that run."""
    return by_selection(arm for arm in report.arms if not (report.is_plain and arm.arm == "spot"))


def _ranked_by_score(report: TransferReport) -> list[Arm]:
    return sorted(_shown(report), key=lambda arm: -arm.score)


def _arms_section(report: TransferReport) -> Section:
    """What each arm reaches, and what did not run."""
    missing = "\n\n".join(f"Not run: {reason}." for reason in report.not_run.values())
    text = (
        "Scores are percent on report rows, which chose nothing: steps, sources and the better plain start were chosen "
        "on selection rows, whose scores order this table. Intervals are bootstraps over rows and seeds. Cost is the "
        "text tokens that were trained for the target in all, search and losers included, as a multiple of one plain "
        "run's."
    )
    parts = [text, " ".join(report.warnings), missing]
    return {
        "heading": "What each arm reaches",
        "text": "\n\n".join(filter(None, parts)),
        "table": {"columns": ARM_COLUMNS, "rows": arm_rows(report)},
        "has_cards": True,
    }


def _strategy_sections(report: TransferReport) -> list[Section]:
    """How the start was found: what the strategy picked and why, the sources, and the candidates."""
    sections: list[Section] = []
    if report.ranking:
        words, chart = _ranking(report)
        text = "\n\n".join(filter(None, [report.reason, words]))
        sections.append({"heading": "Which source is near", "text": text, "chart": chart})
    elif report.reason:
        sections.append({"heading": "How the strategy was picked", "text": report.reason})
    if len(report.candidates) > 1:
        candidates = [(part.source, part.steps, part.selection, part.tokens, part.ended) for part in report.candidates]
        columns = ("candidate", "steps", "selection score, %", "text tokens", "ended")
        sections.append({"heading": "What the strategy tried", "table": {"columns": columns, "rows": candidates}})
    return sections


def _ranking(report: TransferReport) -> tuple[str, str]:
    """What ranks the sources, in words and drawn."""
    if report.expected:
        words = (
            "What ranks the sources is the gain that past transfers lead to expect; behind their names stands the "
            "cosine of average tokens between task embeddings."
        )
        pairs = zip(report.ranking, report.expected, strict=True)
        rows = [(f"{near.task} ({near.similarity:.2f})", gain, f"{gain:+.2f}") for near, gain in pairs]
        return words, bars(rows, subject="Expected gain over plain tuning, points")
    rows = [(near.task, near.similarity, f"{near.similarity:.2f}") for near in report.ranking]
    if report.rank_by == "as_is":
        words = (
            "What ranks the sources is how well their prompts predict the right answers of selection rows as they are: "
            "the geometric mean of the probability of the right label, and of open answers the score as a share."
        )
        return words, bars(rows, subject="Fit to the selection rows, from 0 to 1")
    words = (
        "What ranks the sources is the cosine of average tokens between task embeddings. The target's embedding is "
        "read from its own plain run at the library's key step."
    )
    return words, bars(rows, subject="Similarity to the target, without unit")


def _costs_section(report: TransferReport) -> Section:
    """What each arm takes to learn and to keep."""
    columns = ("arm", "setting", "steps", "seconds", "steps to plain's score", "parameters", "to ship", "beside")
    rows = [
        (
            arm.name,
            arm.setting or None,
            arm.steps or None,
            arm.seconds,
            arm.steps_to_plain,
            f"{arm.parameters:,}",
            size_text(arm.bytes),
            arm.beside or None,
        )
        for arm in _shown(report)
    ]
    text = (
        "Steps and seconds are of training on the target, mean over seeds. The steps to plain's score are those of the "
        "first evaluation whose mean selection score reaches the last one of plain prompt tuning. What is shipped "
        "answers beside what the last column names."
    )
    table: Table = {"columns": columns, "rows": rows}
    return {"heading": "What each arm costs", "text": text, "table": table, "has_cards": True}


def _curves(report: TransferReport) -> list[Section]:
    """The learning curves of the arms that have some."""
    curves = {
        arm.name: [[(point.step, point.scores[seed]) for point in arm.curve] for seed in range(len(arm.scores) or 1)]
        for arm in _shown(report)
        if arm.curve
    }
    if not curves:
        return []
    return [
        {
            "heading": "Learning curves",
            "text": "Step 0 is the start itself. Selection rows choose the step that is kept, so its score is a little "
            "too high; report rows are not.",
            "chart": learning_curves(curves),
        }
    ]
