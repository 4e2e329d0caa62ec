"""`spot serve`: many tasks over HTTP, with one frozen model."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spot.cli.options import Json, Quantise, Settings, example, overrides
from spot.cli.output import emit, news, progress
from spot.errors import ConfigError, LibraryError

if TYPE_CHECKING:
    from spot.collator import Vocabulary
    from spot.prompts.prompt import BackboneId
    from spot.serving.requests import Catalogue, Engine
    from spot.serving.settings import ServeSettings

app = typer.Typer()


@app.command(
    epilog=example(
        "spot serve --library packaged",
        "spot serve --prompt reviews.safetensors --prompt runs/tickets",
        "spot serve --library my_prompts --host 0.0.0.0 --token-file token",
    )
)
def serve(
    library: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="A library's folder, or: packaged, the one that ships here.  [default: packaged]"
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROMPT", help="A prompt file, or the folder of a run, instead of a library; again and again."
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The frozen model.  [default: the one that the library's prompts name]"),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Where to listen; any but this machine's needs a token.  [default: 127.0.0.1]"
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", help="Port to listen on; 0 takes a free one.  [default: 8000]")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its first line is the token that requests bear; nobody else may read it."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="local|vllm", help="What computes rows.  [default: local]")
    ] = None,
    upstream: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A vLLM server; may be given again and again.")
    ] = None,
    quantise: Quantise = None,
    study: Annotated[
        list[Path] | None,
        typer.Option(metavar="STUDY", help="A study that the page shows, by its TOML file or folder; again and again."),
    ] = None,
    transfer: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder of a transfer that the page shows; again and again.  [default: those in the cache]",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file with any setting, the limits among them.")
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Answer many tasks over HTTP with one frozen model: OpenAI's completions and chat, and /v1/classify.

    A request names a task, a prompt's digest or the beginning of one, or `base`, the frozen model alone. It listens
    until Ctrl-C or SIGTERM, then finishes what runs. With --json its address and models stand on stdout as soon as it
    listens. docs/serving.md is the page for operators.
    """
    from spot.config import load_config
    from spot.serving.extra import PACKAGES, missing_extra
    from spot.serving.settings import ServeSettings

    for module, package in PACKAGES.items():
        if find_spec(module) is None:
            raise missing_extra(package)
    if library and prompt:
        raise ConfigError("--library and --prompt are both given; expected one of them: prompts, or a library of them")
    given = overrides(library=library, backbone=backbone, host=host, port=port, engine=engine, quantise=quantise)
    given += overrides(token_file=token_file, upstream=upstream or None)
    lists = {"study": study, "transfer": transfer, "prompt": prompt}
    given += overrides(**{name: json.dumps([str(part) for part in parts]) for name, parts in lists.items() if parts})
    resolved = load_config(ServeSettings, config, [*given, *(settings or ())])

    from spot.serving.run import serve as run

    with news("serving"):
        run(resolved, _models_and_engine, tell=lambda listening: emit(listening, as_json))


@contextmanager
def _models_and_engine(settings: "ServeSettings") -> "Iterator[tuple[Catalogue, Engine]]":
    """The prompts of the library, and what computes rows.

    Raises:
        ConfigError: no vLLM server answers as it should.
        LibraryError: the library is empty, and no backbone is named.
    """
    from spot.library.gathered import gather
    from spot.library.library import open_library
    from spot.serving.catalogue import LibraryCatalogue

    library = gather(settings.prompt) if settings.prompt else open_library(settings.library)
    wanted = settings.backbone or library.backbone
    if wanted is None:
        raise LibraryError(
            f"the library {library.path} holds no prompt that says which model to serve: add one, or give --backbone."
        )
    engine, vocabulary = _elsewhere(wanted, settings) if settings.engine == "vllm" else _here(wanted, settings)
    catalogue = LibraryCatalogue(library, vocabulary, settings.refresh_s, settings.batch_tokens)
    try:
        yield catalogue, engine
    finally:
        catalogue.close()


def _here(wanted: "str | BackboneId", settings: "ServeSettings") -> "tuple[Engine, Vocabulary]":
    """The frozen model in this process."""
    from spot.models.backbone import Backbone
    from spot.serving.local import LocalEngine

    with progress("loading the frozen model"):
        backbone = Backbone.load(wanted, dtype=settings.dtype, quantise=settings.quantise)
    return LocalEngine(backbone, settings), backbone


def _elsewhere(wanted: "str | BackboneId", settings: "ServeSettings") -> "tuple[Engine, Vocabulary]":
    """The vLLM servers that compute, and what is kept here of their model.

    Raises:
        ConfigError: no server answers as it should, or this process is told to hold the model in fewer bits.
    """
    from spot.serving.front import Front
    from spot.serving.upstream import VllmEngine

    if settings.quantise is not None:
        raise ConfigError(
            f"quantise is {settings.quantise!r}, and the engine vllm computes with weights of its own; expected one of "
            "the two: start the vLLM servers with quantised weights, or leave engine out"
        )
    with progress("reading the table of the frozen model"):
        front = Front.load(wanted, dtype=settings.dtype)
    with progress("looking at the vLLM servers"):
        engine = VllmEngine.connect(front, settings.upstream, settings)
    return engine, engine.front
