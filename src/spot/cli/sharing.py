"""`spot library push`, `pull` and `sync`: a library that a team shares by an address."""

from typing import TYPE_CHECKING, Annotated

import typer

from spot.cli.options import Json, LibraryName, example
from spot.cli.output import emit, progress, table

if TYPE_CHECKING:
    from rich.table import Table

    from spot.sharing.door import PullOutcome, PushOutcome

app = typer.Typer()
PROBLEMS = 2  # exit code where some prompts did not travel

Url = Annotated[
    str,
    typer.Argument(
        metavar="URL",
        help="hf://OWNER/REPO[@REVISION], s3://BUCKET/PATH, gs://BUCKET/PATH, file:///FOLDER, memory://NAME, or to "
        "read https://HOST/PATH.",
    ),
]
Target = Annotated[str, typer.Option("--library", metavar="DIR", help="A library's folder; a missing one is made.")]
Private = Annotated[bool, typer.Option("--private", help="Make a missing repository of the hub a private one.")]


@app.command(
    epilog=example(
        "spot library push file:///srv/prompts --library packaged",
        "spot library push hf://OWNER/REPO --library my_prompts",
    )
)
def push(url: Url, library: LibraryName, private: Private = False, as_json: Json = False) -> None:
    """Bring to an address what it lacks of a library: prompts, and records of transfers.

    Nothing there is changed or deleted. A push that is interrupted leaves what is there as it was, and goes on when it
    is run again; two at the same time lose nothing. A repository of the Hugging Face hub gets a model card.
    """
    from spot.sharing.door import push_library

    with progress(f"pushing to {url}") as step:
        outcome = push_library(library, url, private=private, progress=step)
    emit(outcome.to_json(), as_json, *_pushed(outcome))
    _leave(outcome)


@app.command(epilog=example("spot library pull file:///srv/prompts --library my_prompts"))
def pull(url: Url, library: Target, as_json: Json = False) -> None:
    """Bring to a library what an address has beyond it: prompts, and records of transfers.

    Every file is checked by its digest before it counts; one that is damaged, or belongs to another backbone, is left
    out with the reason, and the exit code is 2. Nothing here is overwritten, and nothing that comes can run.
    """
    from spot.sharing.door import pull_library

    with progress(f"pulling from {url}") as step:
        outcome = pull_library(url, library, progress=step)
    emit(outcome.to_json(), as_json, *_pulled(outcome))
    _leave(outcome)


@app.command(epilog=example("spot library sync file:///srv/prompts --library my_prompts"))
def sync(url: Url, library: Target, private: Private = False, as_json: Json = False) -> None:
    """Pull, then push: afterwards both sides have what either had.

    Nothing is deleted, ever: a prompt that one side has removed comes back to it.
    """
    from spot.sharing.door import sync_library

    with progress(f"syncing with {url}") as step:
        outcome = sync_library(library, url, private=private, progress=step)
    pulled = _pulled(outcome.pulled) if outcome.pulled else []
    emit(outcome.to_json(), as_json, *pulled, *_pushed(outcome.pushed))
    _leave(outcome.pulled, outcome.pushed)


def _leave(*outcomes: "PullOutcome | PushOutcome | None") -> None:
    """End with 2 where something was left out or is damaged."""
    if any(outcome is not None and (outcome.refused or outcome.problems) for outcome in outcomes):
        raise typer.Exit(PROBLEMS)


def _pushed(outcome: "PushOutcome") -> "list[str | Table]":
    """A push for people."""
    counts = f"{len(outcome.sent)} prompts and {outcome.records} records of transfers"
    return [
        f"{outcome.address}: sent {counts}; {outcome.present} prompts were there",
        *_left_out("stayed here", outcome.refused, outcome.problems),
    ]


def _pulled(outcome: "PullOutcome") -> "list[str | Table]":
    """A pull for people."""
    counts = f"{len(outcome.added)} prompts and {outcome.records} records of transfers"
    return [
        f"{outcome.library}: added {counts}; {outcome.present} prompts were here",
        *_left_out("not taken", outcome.refused, outcome.problems),
    ]


def _left_out(what: str, refused: dict[str, str], problems: tuple[str, ...]) -> "list[str | Table]":
    """What did not travel, and why."""
    shown: list[str | Table] = [f"problem: {problem}" for problem in problems]
    return shown + ([table((what, "why"), refused.items())] if refused else [])
