"""Show on stderr what a transfer says of itself while it goes on: a table that fills, or lines, each as it comes."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import TYPE_CHECKING

from spot.cli.output import note
from spot.storage.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

QUIET = 10.0  # seconds after which work that goes on says so where stderr is no terminal
MOST_ROWS = 14  # arms of the table; a terminal has some 24 lines


@dataclass
class _Row:
    """One arm in the table."""

    score: str = ""
    interval: str = ""
    report: str = ""
    state: str = ""
    seconds: str = ""


@dataclass
class Watch:
    """What is known of a transfer by now.

    Attributes:
        rows: arm -> what is known of it.
        part: that goes on.
        expected: seconds that it takes.
        after: seconds that all parts behind it take.
        began: when it began, on the monotonic clock.
        done: parts of its work, and of how many.
        arms: parents of a run -> its arm, while several are tuned.
        lines: sentences that stand above the table.
    """

    rows: dict[str, _Row] = field(default_factory=dict)
    part: str = ""
    expected: float = 0.0
    after: float = 0.0
    began: float = field(default_factory=time.monotonic)
    done: tuple[int, int] = (0, 0)
    arms: dict[tuple[str, ...], str] = field(default_factory=dict)
    scores: dict[str, dict[int, float]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def take(self, event: object) -> None:
        """Learn from a record's message."""
        from spot.strategies.news import Begun, Scored
        from spot.training.news import Evaluated

        if isinstance(event, Begun):
            self.part, self.expected, self.after, self.arms = event.part, event.seconds, event.after, dict(event.arms)
            self.began, self.done, self.scores = time.monotonic(), (0, 0), {}
        elif isinstance(event, Scored):
            row = self.rows.setdefault(event.arm, _Row())
            between = "" if event.interval is None else f"{event.interval[0]:.1f} to {event.interval[1]:.1f}"
            if event.role == "report":
                row.report, row.interval, row.state = f"{event.score:.1f}", between, "reported"
            else:
                row.score, row.interval = f"{event.score:.1f}", between
                row.state = "as it is" if event.seconds is None else "learned"
            if event.seconds is not None:
                row.seconds = f"{event.seconds:.0f}"
        elif isinstance(event, Evaluated):
            arm = self.arms.get(event.parents, self.part)
            of_arm = self.scores.setdefault(arm, {})
            of_arm[event.seed] = event.point.score
            row = self.rows.setdefault(arm, _Row())
            row.score = f"{sum(of_arm.values()) / len(of_arm):.1f}"
            row.state = f"step {event.point.step} of {event.steps}"
        elif isinstance(event, str):
            self.lines.append(event)

    def step(self, done: int, total: int) -> None:
        """Take how far a part has come; what a program calls after every step."""
        self.done = (done, total)

    @property
    def left(self) -> float:
        """Seconds to the end, as far as that is known."""
        spent = time.monotonic() - self.began
        done, total = self.done
        part = max(self.expected - spent, 0.0)
        if self.expected and 0 < done < total and spent > self.expected * 0.2:
            part = spent * (total - done) / done
        return part + self.after

    def status(self) -> str:
        """What goes on, how far it has come, and the time that is left."""
        from spot.strategies.news import time_text

        done, total = self.done
        far = f" {done} of {total}," if total else ""
        left = f", about {time_text(self.left)} to the end" if self.expected or self.after else ""
        return f"{self.part or 'getting ready'}:{far} {time.monotonic() - self.began:.0f} s{left}"


@contextmanager
def watching(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show what a transfer logs for information: on a terminal as a table that fills, else as lines.

    Where stderr is no terminal, some line comes at least every ten seconds.

    Args:
        label: what is being done, such as `transfer to reviews`.

    Yields:
        What takes the number of steps done and in all.
    """
    watch = Watch(part=label)
    is_live = sys.stderr.isatty()
    handler = _Handler(watch, say=not is_live)
    loggers = [logging.getLogger(f"spot.{room}") for room in ("strategies", "training")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        with _table(watch) if is_live else _lines(watch, handler, label):
            yield watch.step
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


class _Handler(logging.Handler):
    """Hands what is told to the watch, and its sentence to stderr."""

    def __init__(self, watch: Watch, *, say: bool) -> None:
        """Of a watch; `say` where no table shows it."""
        super().__init__(logging.INFO)
        self.addFilter(lambda record: record.levelno == logging.INFO)  # warnings are shown already
        self.watch, self.say, self.last = watch, say, time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record; evaluations of runs are too many for lines, and `Watch.status` sums them up."""
        event = record.msg if not isinstance(record.msg, str) else record.getMessage()
        self.watch.take(event)
        if self.say and record.name.startswith("spot.strategies"):
            self.last = time.monotonic()
            note(record.getMessage())


@contextmanager
def _lines(watch: Watch, handler: _Handler, label: str) -> Iterator[None]:
    """Lines at the start and the end, and one where nothing was said for ten seconds."""
    began, ended = time.monotonic(), Event()
    note(f"{label} ...")

    def beat() -> None:
        while not ended.wait(0.5):
            if time.monotonic() - handler.last >= QUIET - 1:
                handler.last = time.monotonic()
                note(f"  {watch.status()}")

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    note(f"{label}: {time.monotonic() - began:.1f} s")


@contextmanager
def _table(watch: Watch) -> "Iterator[Live]":
    """A table on the terminal that is drawn anew twice a second, and stays when all is done."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Live(console=console, refresh_per_second=2, get_renderable=lambda: _drawn(watch)) as live:
        yield live


def _drawn(watch: Watch) -> "RenderableType":
    """The table as it stands, and below it what goes on."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    columns = ("arm", "selection", "report", "95 % interval", "state", "seconds")
    for column in columns:
        table.add_column(column, justify="left" if column in ("arm", "state", "95 % interval") else "right")
    for arm, row in list(watch.rows.items())[-MOST_ROWS:]:
        table.add_row(
            Text(printable(arm)), row.score, row.report, row.interval, Text(printable(row.state)), row.seconds
        )
    above = [Text(printable(line, lines=True), style="dim") for line in watch.lines[-3:]]
    return Group(*above, table, Text(printable(watch.status()), style="dim"))
