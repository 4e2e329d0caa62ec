"""Hold what the arms of a transfer reached, and by how much one is above another."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from spot.config import INSTEAD, PROBE_BEHIND
from spot.evaluation.scoring import Evaluation
from spot.strategies.plans import Kind

BASELINES: Mapping[str, str] = {  # arms that are no prompts alone, for people
    **INSTEAD,
    PROBE_BEHIND: "a linear probe behind a prompt of the library",
    "model": "full model tuning",
}
STARTS: Mapping[str, str] = {  # of plain tuning, for people; what is not here reads as it is
    "vocabulary": "words of the vocabulary",
    "classes": "the class names",
    "uniform": "random numbers",
    "instruction": "the instruction",
}


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
        arm: `frozen`, `source`, `plain:vocabulary`, `plain:classes`, `spot`, or a key of `BASELINES`.
        source: task names of the prompts that it starts from, or reads the rows behind.
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
        bytes: to ship for the task.
        beside: what these bytes need where they answer, in words.
        setting: that the selection rows chose, such as `C = 10.0`; empty where there is none.
        evaluations: on the report rows, one a seed; a single one where no seed matters.
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
    bytes: int = 0
    beside: str = ""
    setting: str = ""
    evaluations: tuple[Evaluation, ...] = field(default=(), repr=False, compare=False)
    files: tuple[Path, ...] = field(default=(), repr=False, compare=False)

    @property
    def is_prompt(self) -> bool:
        """Whether the frozen model answers, with a prompt or without."""
        return self.arm not in BASELINES

    @property
    def title(self) -> str:
        """What people call it, as in the middle of a sentence: its one name wherever people read."""
        if self.arm == PROBE_BEHIND:
            return behind_title(self.source or "")
        if self.arm in BASELINES:
            return BASELINES[self.arm]
        if self.arm == "frozen":
            return "the frozen model without a prompt"
        if self.arm == "source":
            return f"the prompt of {self.source} as it is"
        if self.arm == "spot":
            return spot_title(self.source or "")
        return plain_title(self.arm.partition(":")[2])

    @property
    def name(self) -> str:
        """Its title where nothing stands before it: in a table, in a picture."""
        return capital(self.title)

    def to_json(self) -> dict[str, Any]:
        """The arm as plain values, without what it answered."""
        values = asdict(replace(self, evaluations=(), files=()))
        del values["evaluations"], values["files"]
        return {key: None if value != value else value for key, value in values.items()}


def behind_title(source: str) -> str:
    """What people call a probe behind the prompt of a task."""
    return f"a linear probe behind the prompt of {source}"


def plain_title(start: str) -> str:
    """What people call plain prompt tuning from a start, as in the middle of a sentence."""
    kind, _, words = start.partition(":")
    return f"plain prompt tuning from {f'the words {words!r}' if words else STARTS.get(kind, kind)}"


def spot_title(source: str) -> str:
    """What people call the runs from a source of a strategy, or from a further start without one."""
    return "a further start from scratch" if source.startswith("scratch") else f"SPoT from {source}"


def capital(text: str) -> str:
    """A text as it begins a sentence, a cell or a line."""
    return text[:1].upper() + text[1:]


def by_selection(arms: Iterable[Arm]) -> list[Arm]:
    """Arms as selection rows prefer them; of those that select alike, what trained less and then ships less first."""
    return sorted(arms, key=lambda arm: (-arm.selection, arm.tokens, arm.bytes))


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
class Difference:
    """How far one arm is above another on the same report rows.

    Attributes:
        arm: the one.
        against: the other.
        points: score of the one less that of the other.
        interval: 95 % paired bootstrap interval, points.
        alike: whether both answer every row in the same way.
    """

    arm: str
    against: str
    points: float
    interval: tuple[float, float]
    alike: bool = False

    @property
    def is_above(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.interval[0] > 0

    @property
    def is_below(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.interval[1] < 0

    def __str__(self) -> str:
        """Points with their interval."""
        low, high = self.interval
        return f"{self.points:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"
