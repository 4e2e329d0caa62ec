"""The command `spot`: one file a noun, each an edge that calls the library and prints what it gives.

`spot --help` must start at once. So modules of our own that import torch or numpy are imported here by the functions of
commands, when they run: the only place in the package where an import does not stand at the top of its file.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from spot import __version__
from spot.cli import (
    GOES_ON,
    INTERRUPTED,
    bug,
    demo,
    doctor,
    evaluate,
    exchange,
    library,
    output,
    page,
    report,
    retrieve,
    runs,
    serve,
    sharing,
    study,
    submit,
    tasks,
    transfer,
    tune,
)
from spot.errors import SpotError, lacks_memory, section_of

app = typer.Typer(
    name="spot",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(doctor.app)
app.add_typer(demo.app)
app.add_typer(tasks.app, name="tasks")
app.add_typer(tune.app)
app.add_typer(evaluate.app)
library.app.add_typer(sharing.app)
app.add_typer(library.app, name="library")
app.add_typer(retrieve.app)
app.add_typer(serve.app)
app.add_typer(transfer.app)
app.add_typer(exchange.app)
app.add_typer(submit.app)
app.add_typer(report.app)
app.add_typer(page.app)
app.add_typer(study.app, name="study")
app.add_typer(runs.app, name="runs")
app.add_typer(bug.app)


def _version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        print(f"spot {__version__}")
        raise typer.Exit


@app.callback(epilog="Each command ends its --help with an example. Start with: spot doctor")
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Start each new task from the right prompt.

    One frozen language model, a library of task prompts, and an engine that finds which of them a new task should
    start from.
    """
    output.quieten()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        arguments: the words after `spot`; those of this process where None.

    Raises:
        SystemExit: always: 0; 2 for a mistake that the user can mend; 130 after Ctrl-C; 1 where a reader of stdout
            has gone.
    """
    try:
        _run(arguments)
    except SpotError as error:
        output.note(f"error: {error}")
        if sys.stderr.isatty():  # a log or a program wants the one message alone
            output.note(f"more: {section_of(error)}")
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        reason = str(error).partition("\n")[0][:200] or "none is left"
        output.note(
            f"error: memory ran out ({reason}): end other programs, or give a smaller batch_size, fewer rows, a "
            "smaller model, or SPOT_DTYPE=bfloat16"
        )
    except OSError as error:
        # Every file that a command means to use has an error of its own; this is one that it could not even look at.
        output.note(f"error: {_in_words(error)}")
    except UnicodeEncodeError as error:
        letters = error.object[error.start : error.end]
        output.note(
            f"error: the name of a file or a text has {letters!r}, which cannot be written in {error.encoding}. "
            "Rename it, or set PYTHONUTF8=1."
        )
    output.discard_rest()
    raise SystemExit(2)


def _run(arguments: Sequence[str] | None) -> None:
    """Run one command, and bring all that it printed to its reader.

    Raises:
        SystemExit: where it ended as a command may.
        StorageError: stdout cannot be written to.
    """
    try:
        app(args=arguments, prog_name="spot")
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            output.note(GOES_ON)
        try:
            output.flush()
        except BrokenPipeError:
            output.discard_rest()
            raise SystemExit(1) from None
        raise


def _in_words(error: OSError) -> str:
    """The message for a file that the system would not let a command look at."""
    reason = error.strerror or str(error)
    if error.filename is None:
        return f"the system could not write or read: {reason}. Check stdout, the disk and the limits of this process."
    return f"cannot use {error.filename!r}: {reason}. Check the path, or choose another."
