"""The command `spot`: one file a noun, each an edge that calls the library and prints what it gives.

`spot --help` must start at once. So modules of our own that import torch or numpy are imported here by the functions of
commands, when they run: the only place in the package where an import does not stand at the top of its file.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from spot import __version__
from spot.cli import demo, doctor, evaluate, exchange, library, output, retrieve, study, submit, tasks, transfer, tune
from spot.errors import SpotError, lacks_memory

INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended

app = typer.Typer(
    name="spot",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(doctor.app)
app.add_typer(demo.app)
app.add_typer(tasks.app, name="tasks")
app.add_typer(tune.app)
app.add_typer(evaluate.app)
app.add_typer(library.app, name="library")
app.add_typer(retrieve.app)
app.add_typer(transfer.app)
app.add_typer(exchange.app)
app.add_typer(submit.app)
app.add_typer(study.app, name="study")


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
        SystemExit: always: 0; 2 for a mistake that the user can mend; 130 after Ctrl-C; 1 where stdout was closed.
    """
    try:
        app(args=arguments, prog_name="spot")
    except SpotError as error:
        output.note(f"error: {error}")
        raise SystemExit(2) from None
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        reason = str(error).partition("\n")[0][:200] or "none is left"
        output.note(
            f"error: memory ran out ({reason}): end other programs, or give a smaller batch_size, fewer rows, a "
            "smaller model, or SPOT_DTYPE=bfloat16"
        )
        raise SystemExit(2) from None
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            print("interrupted: the same command goes on from the last checkpoint", file=sys.stderr)
        raise
