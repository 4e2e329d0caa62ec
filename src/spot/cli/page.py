"""`spot page`: a library as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from spot.cli.options import PACKAGED, Json, LibraryName, example
from spot.cli.output import emit

app = typer.Typer()


@app.command(epilog=example("spot page --library packaged --out library.html"))
def page(
    out: Annotated[Path, typer.Option(metavar="FILE", help="HTML file to write.")],
    library: LibraryName = PACKAGED,
    study: Annotated[
        list[Path] | None,
        typer.Option(metavar="STUDY", help="A study's TOML file or folder; may be given again and again."),
    ] = None,
    transfer: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="Folder of a transfer; may be given again and again.  [default: those in the cache]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a library in a browser: its prompts, how alike their tasks are, and what transfers and studies gave.

    The file needs nothing else, no network either. Its charts need the extra `page`.
    """
    from spot.library.library import open_library
    from spot.page.page import Sources, page_value, render_page
    from spot.storage.files import write_whole

    opened = open_library(library)
    sources = Sources(tuple(study or ()), None if transfer is None else tuple(transfer))
    value = page_value(opened, sources)
    content = render_page(value, live=False, name=opened.path.name).encode()
    write_whole(out, content)
    counts = {name: len(value[name]) for name in ("studies", "transfers")}
    prompts = len(value["library"]["prompts"])
    emit(
        {"page": str(out), "bytes": len(content), "prompts": prompts, **counts},
        as_json,
        f"{out}: {prompts} prompts, {counts['studies']} studies, {counts['transfers']} transfers, "
        f"{len(content) / 1e6:.1f} MB",
    )
