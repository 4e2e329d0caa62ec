"""What commands print: one JSON document or tables on stdout; messages and progress on stderr."""

import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from spot.errors import StorageError
from spot.rendering.tables import cell_text
from spot.storage.text import printable

if TYPE_CHECKING:
    from rich.table import Table

AGAIN = 600.0  # seconds after which a warning may be shown again
MOST_SHOWN = 1000  # warnings that are remembered
SILENCE = 10.0  # seconds after which work that goes on says so where stderr is no terminal
PIPE_WIDTH = 240  # columns where stdout is no terminal: a table is then as wide as its content
QUIET_VARIABLES = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def quieten() -> None:
    """Send the warnings of `spot` to stderr as plain lines, and silence the chatter of other libraries.

    Variables that the user has set stay. Call it before transformers is imported, which reads them once.
    """
    # This handler of Python's own writes the bare message to whatever stderr is at that moment.
    if logging.lastResort is not None:
        logging.getLogger("spot").addHandler(logging.lastResort)
        logging.lastResort.addFilter(_printable_record)
        for old in [entry for entry in logging.lastResort.filters if isinstance(entry, _NotAgain)]:
            logging.lastResort.removeFilter(old)
        logging.lastResort.addFilter(_NotAgain())
    for name, value in QUIET_VARIABLES.items():
        os.environ.setdefault(name, value)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # a bar that is drawn over itself is one long line in a file


def _printable_record(record: logging.LogRecord) -> bool:
    """Make a warning such that a terminal only shows it; none is held back."""
    record.msg, record.args = printable(record.getMessage(), lines=True), None
    return True


class _NotAgain(logging.Filter):
    """Holds back what was shown before: several parts of a command find the same in the same rows."""

    def __init__(self) -> None:
        """Of one command."""
        super().__init__()
        self.shown: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is news: a server may say the same again after ten minutes."""
        message, now = record.getMessage(), time.monotonic()
        if now - self.shown.get(message, -math.inf) < AGAIN:
            return False
        if len(self.shown) >= MOST_SHOWN:
            self.shown.clear()
        self.shown[message] = now
        return True


def emit(value: Any, as_json: bool, *shown: "str | Table") -> None:
    """Print a command's result.

    Args:
        value: plain values; the one JSON document of `--json`.
        as_json: whether `value` is wanted, or what stands in `shown`.
        shown: lines and tables for people.
    """
    if as_json:
        shown = (json.dumps(value, indent=2, allow_nan=False),)
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    with _writing():
        for part in shown:
            if isinstance(part, str):
                print(printable(part, lines=True))
            else:
                console.print(part)
    flush()  # here a reader that has gone, as in `| head`, is noticed and forgiven


def flush() -> None:
    """Bring what was printed to its reader.

    Raises:
        BrokenPipeError: the reader has gone.
        StorageError: stdout is closed, or the disk behind it is full.
    """
    with _writing():
        sys.stdout.flush()


def discard_rest() -> None:
    """Forget what stdout did not take: Python would try again at its end, and say so in its own words."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


@contextmanager
def _writing() -> Iterator[None]:
    """Say in words that stdout cannot be written to."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot write to stdout: {error.strerror or error}. What the command did is done; give stdout a place "
            "with room, and run it again to read it."
        ) from error


def note(line: str) -> None:
    """Say something on stderr while a command is at work; where that cannot be written to, the work goes on."""
    with suppress(OSError):
        print(printable(line, lines=True), file=sys.stderr, flush=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> "Table":
    """A table for people; numbers stand on the right, with one decimal where they have any.

    Args:
        columns: the headings.
        rows: one value a column; None is shown as a dash.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        numeric = all(isinstance(row[number], int | float | None) for row in rows)
        result.add_column(printable(column), justify="right" if numeric and rows else "left", overflow="fold")
    for row in rows:
        result.add_row(*(Text(printable(cell_text(value))) for value in row))
    return result


def scores(percents: Mapping[str, float]) -> str:
    """Metric values on one line, such as `accuracy 86.3, f1 80.1`."""
    return ", ".join(f"{name} {percent:.1f}" for name, percent in percents.items()) or "-"


@contextmanager
def news(room: str) -> Iterator[None]:
    """Show on stderr what a room of the package logs for information, as soon as it does.

    Args:
        room: such as `strategies`.
    """
    logger = logging.getLogger(f"spot.{room}")
    handler = _NewsHandler(logging.INFO)
    handler.addFilter(lambda record: record.levelno == logging.INFO)  # warnings are shown already
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _NewsHandler(logging.Handler):
    """Hands records to `note`, which finds the stderr of the moment: a bar keeps its lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        note(record.getMessage())


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show on stderr how far some work is: a bar on a terminal, else lines at its start, at its end and now and then.

    Args:
        label: what is being done, such as `tuning cr`.

    Yields:
        A function that takes the number of parts done and in all. Work that never calls it is shown as going on.
    """
    began = time.monotonic()
    if not sys.stderr.isatty():
        note(f"{label} ...")
        last = began

        def say(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= SILENCE:
                last = time.monotonic()
                note(f"{label}: {done} of {total}, {last - began:.0f} s")

        yield say
        note(f"{label}: {time.monotonic() - began:.1f} s")
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(printable(label), total=None)
        yield lambda done, total: bar.update(shown, completed=done, total=total)
