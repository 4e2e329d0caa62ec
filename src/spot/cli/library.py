"""`spot library`: the prompts that new tasks may start from."""

import json
from pathlib import Path
from typing import Annotated

import typer

from spot.cli.options import PACKAGED, Json, LibraryName, PromptName, example, read_prompt
from spot.cli.output import emit, scores, table

app = typer.Typer(help="Keep prompts of one frozen model that can be compared with each other.", no_args_is_help=True)

Reference = Annotated[str, typer.Argument(metavar="NAME", help="A digest, the beginning of one, or a task.")]
PROBLEMS = 2  # exit code where files of a library are damaged


@app.command("list", epilog=example("spot library list --library packaged"))
def list_prompts(library: LibraryName = PACKAGED, as_json: Json = False) -> None:
    """List the prompts of a library, with their scores beside those of the frozen model without a prompt."""
    from spot.library.library import open_library

    entries = open_library(library).entries()
    value = [
        {
            "prompt": entry.digest,
            "task": entry.task,
            "path": str(entry.path),
            "scores": dict(entry.scores),
            "frozen_scores": dict(entry.frozen_scores),
            "step": entry.step,
            "length": entry.length,
            "backbone": entry.backbone.name,
        }
        for entry in entries
    ]
    rows = [
        (entry.digest, entry.task, scores(entry.scores), scores(entry.frozen_scores), entry.step, entry.length)
        for entry in entries
    ]
    emit(value, as_json, table(("prompt", "task", "scores", "without prompt", "step", "tokens"), rows))


@app.command(epilog=example("spot library show glue/sst2 --library packaged"))
def show(name: Reference, library: LibraryName = PACKAGED, as_json: Json = False) -> None:
    """Show everything that a prompt says of itself; its arrays are checked and not shown."""
    from spot.library.library import open_library
    from spot.prompts.prompt import header

    opened = open_library(library)
    digest = opened.get(name).digest
    path = next(entry.path for entry in opened.entries() if entry.digest == digest)
    value = {**header(path, opened.path), "path": str(path)}
    emit(value, as_json, *(f"{key:<14}{json.dumps(field)}" for key, field in value.items()))


@app.command(epilog=example("spot library create --library my_prompts"))
def create(
    library: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder.")], as_json: Json = False
) -> None:
    """Make an empty library."""
    from spot.library.library import Library

    created = Library.create(library)
    count = len(created.entries())
    emit({"library": str(created.path), "prompts": count}, as_json, f"{created.path}: a library of {count} prompts")


@app.command(epilog=example("spot library add runs/reviews --library my_prompts"))
def add(prompt: PromptName, library: LibraryName, as_json: Json = False) -> None:
    """Add a prompt, if its key can be compared with those that are there; a missing library is made."""
    from spot.library.entries import check_belongs
    from spot.library.library import Library, open_library
    from spot.storage.opening import exists

    new = read_prompt(prompt)
    if library != PACKAGED and not exists(library):
        check_belongs(new, None, library)  # before the folder is there: a refusal leaves nothing behind
        Library.create(library)
    opened = open_library(library)
    entry = opened.add(new)
    value = {"prompt": entry.digest, "task": entry.task, "path": str(entry.path), "scores": dict(entry.scores)}
    emit(value, as_json, f"added {entry.digest} ({entry.task}): {entry.path}")


@app.command(epilog=example("spot library remove reviews --library my_prompts"))
def remove(name: Reference, library: LibraryName, as_json: Json = False) -> None:
    """Remove one prompt, damaged or not."""
    from spot.library.library import open_library

    digest = open_library(library).remove(name)
    emit({"removed": digest}, as_json, f"removed {digest}")


@app.command(epilog=example("spot library reindex --library my_prompts"))
def reindex(
    library: LibraryName,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Give prompts of this model, made with an older version, the fingerprint of today."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build the library's cache (index.sqlite) again from the prompt files, which are the truth.

    Prompts that are upgraded with --backbone get new digests.
    """
    from spot.library.library import open_library

    opened = open_library(library)
    if backbone is None:
        count = opened.reindex()
    else:
        from spot.models.checkpoints import locate

        count = opened.reindex(locate(backbone).id)
    emit({"prompts": count}, as_json, f"{count} prompts")


@app.command(epilog=example("spot library verify --library packaged"))
def verify(library: LibraryName = PACKAGED, as_json: Json = False) -> None:
    """Read every byte of every prompt, what the index says of it, and the records of transfers, and say what is wrong.

    The exit code is 2 where something is.
    """
    from spot.library.library import open_library
    from spot.retrieval.search import SUMMARIES

    opened = open_library(library)
    problems = opened.verify(SUMMARIES)
    good = f"{len(opened.entries())} prompts, every byte as it was written"
    emit({"prompts": len(opened.entries()), "problems": problems}, as_json, *(problems or [good]))
    if problems:
        raise typer.Exit(PROBLEMS)
