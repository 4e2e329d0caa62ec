"""Write docs/cli.md from the help texts of the commands: `python docs/make_cli.py`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from spot.cli.app import app

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 80  # columns of the help texts
HEAD = """# The commands of `spot`

Every command takes `--json`: one JSON document on stdout. Messages and progress go to stderr. A mistake is one message
that starts with `error:` and exit code 2; Ctrl-C is exit code 130, and the same command then goes on where it was.

This page is made from the help texts by `python docs/make_cli.py`.
"""


def commands(command: Any, name: str = "spot", parent: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Yield the full name, the command and its context, for a command and all that stand under it."""
    settings = {**command.context_settings, "terminal_width": WIDTH}
    context = command.context_class(command, info_name=name, parent=parent, **settings)
    yield context.command_path, command, context
    for word, child in getattr(command, "commands", {}).items():
        yield from commands(child, word, context)


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for path, command, context in commands(typer.main.get_command(app)):
        level = "##" if context.parent is None or hasattr(command, "commands") else "###"
        parts.append(f"{level} {path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
