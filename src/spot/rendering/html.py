"""Render a report as one HTML file that needs nothing else."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NotRequired, TypedDict

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from spot.rendering.tables import Cell, Table, cell_text, numeric_columns

# What no page may hold: control characters, and half of a surrogate pair, which is no text in any encoding.
_UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Section(TypedDict):
    """One part of a page, under its own heading.

    Attributes:
        heading: what it is about.
        text: paragraphs, with an empty line between two.
        table: stands after the text.
        svg: a picture of `spot.rendering.plots`, taken as it is: never text from anywhere else.
    """

    heading: str
    text: NotRequired[str]
    table: NotRequired[Table]
    svg: NotRequired[str]


class Page(TypedDict):
    """What a report says.

    Attributes:
        title: the heading of the page.
        verdict: the result in one sentence.
        facts: (name, value) pairs that stand directly below.
        sections: the rest, in order.
        command: the command line that makes this report again.
    """

    title: str
    verdict: str
    facts: NotRequired[Sequence[tuple[str, Cell]]]
    sections: NotRequired[Sequence[Section]]
    command: NotRequired[str]


def render(page: Page | Mapping[str, Any]) -> str:
    """Make the HTML of a report: one file without scripts, external files or the time of day.

    Args:
        page: as `Page` describes; all of its text is escaped.

    Returns:
        The whole file as text; equal pages give equal text.
    """
    return _UNWRITABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), _template().render(page=page))


def _paragraphs(text: str) -> list[str]:
    """Split text at its empty lines."""
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def environment_of(room: str) -> Environment:
    """What renders the templates of a room: all texts escaped, and no name that is not given."""
    return Environment(
        loader=PackageLoader(room),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def _template() -> Template:
    """The page's template, read once."""
    environment = environment_of("spot.rendering")
    environment.filters.update(cell_text=cell_text, paragraphs=_paragraphs, numeric_columns=numeric_columns)
    return environment.get_template("report.html.j2")
