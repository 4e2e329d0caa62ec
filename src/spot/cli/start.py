"""Start the command `spot`: streams that can be written to, and a Ctrl-C that ends it in one line at any moment.

Nothing but the standard library's smallest modules is imported before both are so.
"""

import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from spot.cli import GOES_ON, INTERRUPTED

SECONDS_TO_STOP = 5  # after Ctrl-C; then the process ends, whatever has swallowed the interrupt
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command as a process of its own.

    Args:
        arguments: the words after `spot`; those of this process where None.

    Raises:
        SystemExit: always: 0; 2 for a mistake that the user can mend; 130 after Ctrl-C; 1 where a reader of stdout
            has gone.
    """
    try:
        mind_interrupts()
        mend_streams()
        from spot.cli.app import main as run

        run(arguments)
    except KeyboardInterrupt:
        _leave()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, _leave)  # Python's own end has no handler of errors


def mind_interrupts() -> None:
    """Have Ctrl-C end the process in one line, at once where an exception could get lost.

    An interrupt that is ignored, as a shell does for commands in the background, stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _unraisable


def mend_streams() -> None:
    """Have letters that a stream cannot carry written as escapes, and put something where a stream is closed.

    The first file that a process opens would get the number of a closed stream, and what is printed would go there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest free number. What is written to a closed stdout must fail, or nobody would notice.
            os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_RDWR)
        if getattr(sys, name) is None:
            stream = io.TextIOWrapper(io.FileIO(number, "w" if number else "r", closefd=False), encoding="utf-8")
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first Ctrl-C: a KeyboardInterrupt, so that what is at work cleans up; the next one ends the process."""
    if _is_importing(frame):
        # Libraries in C++ abort, or go on, where an exception comes up while they load.
        _leave()
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGALRM, _leave)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_TO_STOP)
    raise KeyboardInterrupt


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """An interrupt that came while something was destroyed, where no exception can go further, ends the process."""
    if unraisable.exc_type is KeyboardInterrupt:
        _leave()
    sys.__unraisablehook__(unraisable)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being loaded."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave(*_: object) -> None:
    """End the process here and now; every file is whole at any moment."""
    try:
        os.write(2, f"{_SHOW_CURSOR if os.isatty(2) else ''}{GOES_ON}\n".encode())
    finally:
        os._exit(INTERRUPTED)
