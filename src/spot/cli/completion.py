"""Names that a shell completes: tasks, prompts of a library, runs. None of it loads torch, and no mistake is said."""

from collections.abc import Iterable

import typer

from spot.errors import SpotError


def task_names(incomplete: str) -> list[str]:
    """Known tasks; where none begins so the shell offers files, such as a task file."""
    from spot.tasks import registry

    return _beginning(registry.names(), incomplete)


def library_tasks(context: typer.Context, incomplete: str) -> list[str]:
    """Tasks of the prompts in the library that the words so far name, or in the one that ships."""
    from spot.library.library import open_library

    try:
        entries = open_library(context.params.get("library") or "packaged").entries()
    except SpotError:
        return []
    return _beginning(sorted({entry.task for entry in entries}), incomplete)


def run_names(incomplete: str) -> list[str]:
    """Runs and transfers in the cache."""
    from spot.runs.listing import KINDS, children
    from spot.storage.files import cache_dir

    try:
        return _beginning((path.name for place in KINDS for path in children(cache_dir(), place)), incomplete)
    except SpotError:
        return []


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
