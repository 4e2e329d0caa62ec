"""Say what happens while a transfer goes on: values that a log takes as they are, and that read as a sentence.

Each is the message of a record of `logging`, level INFO, below `spot.strategies`: `record.msg` is the value, and
`record.getMessage()` its sentence. Other records of that level there are sentences alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Planned:
    """How much a transfer will do, and how long that is expected to take from here.

    Attributes:
        budget: as it was asked for; empty where there is no time to keep to.
        seeds: runs of every tuned arm.
        steps: of every run.
        report: most report rows; None for all.
        seconds: expected.
        is_over: whether even this least transfer is expected to pass the budget.
    """

    budget: str
    seeds: int
    steps: int
    report: int | None
    seconds: float
    is_over: bool = False

    def __str__(self) -> str:
        """One line for people."""
        rows = "all report rows" if self.report is None else f"up to {self.report} report rows"
        runs = f"{self.seeds} run{'s' if self.seeds > 1 else ''} of {self.steps} steps for every tuned arm, {rows}"
        if not self.budget:
            return f"{runs}: about {time_text(self.seconds)}"
        if self.is_over:
            return (
                f"the least that says something, {runs}, takes about {time_text(self.seconds)} here, more than the "
                f"budget of {self.budget}: going on; shorter rows, fewer --select-rows or SPOT_DTYPE=auto are quicker"
            )
        return f"budget {self.budget}: {runs}; about {time_text(self.seconds)} from here"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One way to answer the target's rows was scored.

    Attributes:
        arm: what it is, for people; the same words as in `Begun`.
        score: percent, mean over seeds.
        interval: 95 % bootstrap interval over rows and seeds, percent; None where none was made.
        rows: that were scored.
        role: `selection` or `report`.
        seconds: of training it took; None where nothing was tuned.
        setting: that the selection rows chose, such as `C = 10.0`; empty where there is none.
        is_as_is: whether a prompt of the library answers as it is.
    """

    arm: str
    score: float
    interval: tuple[float, float] | None
    rows: int
    role: str
    seconds: float | None = None
    setting: str = ""
    is_as_is: bool = False

    def __str__(self) -> str:
        """One line for people."""
        low, high = self.interval or (0.0, 0.0)
        between = f" (95 % interval {low:.1f} to {high:.1f})" if self.interval else ""
        taken = "" if self.seconds is None else f", {self.seconds:.1f} s"
        setting = f" ({self.setting})" if self.setting else ""
        return f"{self.arm}{setting}: {self.score:.1f}{between} on {self.rows} {self.role} rows{taken}"


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A part of a transfer begins.

    Attributes:
        part: what it is, for people.
        seconds: that it is expected to take; 0 where nobody knows.
        after: that all parts behind it are expected to take.
        arms: parents of a run -> the arm that it belongs to, of parts that tune more than one.
    """

    part: str
    seconds: float = 0.0
    after: float = 0.0
    arms: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line for people."""
        left = self.seconds + self.after
        return f"{self.part} ..." + (f" (about {time_text(left)} to the end)" if left else "")


def time_text(seconds: float) -> str:
    """A time for people, in whole seconds below two minutes and whole minutes and tens of seconds above."""
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    minutes, rest = divmod(round(seconds, -1), 60)
    return f"{minutes:.0f} min" + (f" {rest:.0f} s" if rest and minutes < 10 else "")
