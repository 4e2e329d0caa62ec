"""Write docs/reference/configuration.md from the settings' own descriptions: `python docs/make_configuration.py`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from spot.building.recipe import LibraryRecipe
from spot.config import TransferConfig, TuneConfig
from spot.serving.settings import ServeSettings
from spot.study.config import StudyConfig

PAGE = Path(__file__).parent / "reference" / "configuration.md"
HEAD = """# Configuration

Every setting, with its default. An option of a command is the setting of that name; all others are given by
`--set KEY=VALUE`, again and again, or in a TOML file by `--config FILE`. In Python they are keywords. Unknown keys and
bad values are refused, all of them in one message.

Beside them there are four variables of the environment: `SPOT_CACHE` (the cache's folder), `SPOT_DATA` (as `--data`),
`SPOT_DEVICE` (`cpu`, `cuda:1`, `auto`) and `SPOT_DTYPE` (`float32`, `bfloat16`, `float16`, `auto`).
[Task files](artefacts.md#a-task-file) have keys of their own.

This page is made by `python docs/make_configuration.py`.
"""
PARTS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("A run", "`spot tune`, `spot.tune`, and `[source]` and `[target]` of a study.", TuneConfig),
    ("A transfer", "`spot transfer`, `spot.transfer`.", TransferConfig),
    ("A study", "The file of `spot study`; [what each key does](../study.md).", StudyConfig),
    ("A library's recipe", "The file of `spot library build`.", LibraryRecipe),
    ("A server", "`serve.toml` of `spot serve`.", ServeSettings),
)


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(part for title, use, model in PARTS for part in section(title, use, model))])


def section(title: str, use: str, model: type[BaseModel]) -> Iterator[str]:
    """The table of one class of settings."""
    yield f"## {title}\n\n{use}\n\n| setting | kind | default | meaning |\n| --- | --- | --- | --- |"
    for name, field in model.model_fields.items():
        default = "needed" if field.is_required() else shown(field.get_default(call_default_factory=True))
        words = field.description or ""
        yield f"| `{name}` | {cell(kind(field.annotation))} | {cell(default)} | {cell(words)} |"
    yield ""


def kind(annotation: Any) -> str:
    """A type in words."""
    if annotation is type(None):
        return ""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{str(value).lower()}`" for value in get_args(annotation))
    parts = [words for part in get_args(annotation) if part is not Ellipsis and (words := kind(part))]
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
    if annotation in names:
        return names[annotation]
    origin = getattr(get_origin(annotation), "__name__", "")
    if origin == "tuple":
        return "list of " + " or ".join(dict.fromkeys(parts))
    if origin == "dict":
        return "table"
    return " or ".join(dict.fromkeys(parts))


def shown(default: Any) -> str:
    """A default as TOML has it."""
    if default is None or default in ((), {}, ""):
        return "none"
    if isinstance(default, tuple):
        return ", ".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)


def cell(text: str) -> str:
    """Text in a table: a bar would end the cell."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
