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
        chart: of `spot.rendering.drawings`, taken as it is: never text from anywhere else.
        table: stands after the text.
        shades: of each cell of the table behind the first of its row, how much it is filled, from 0 to 1.
        has_cards: whether a row of the table is a card where the page is narrow, for long cells and many columns.
        svg: a picture of `spot.rendering.plots`, taken as it is: never text from anywhere else.
        code: what one can run: (what it does, the lines) pairs.
    """

    heading: str
    text: NotRequired[str]
    chart: NotRequired[str]
    table: NotRequired[Table]
    shades: NotRequired[Sequence[Sequence[float]]]
    has_cards: NotRequired[bool]
    svg: NotRequired[str]
    code: NotRequired[Sequence[tuple[str, str]]]


class Page(TypedDict):
    """What a report says.

    Attributes:
        title: the heading of the page.
        verdict: the result in a sentence or two.
        text: paragraphs that stand below the verdict, with an empty line between two.
        chart: the result as a picture of `spot.rendering.drawings`, taken as it is.
        facts: (name, value) pairs, short ones, that stand directly below.
        sections: the rest, in order.
        command: the command line that makes this report again.
    """

    title: str
    verdict: str
    text: NotRequired[str]
    chart: NotRequired[str]
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
